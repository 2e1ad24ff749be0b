package sources_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"parkbridge/internal/testdb"
	"parkbridge/sources"

	"github.com/stretchr/testify/require"
)

func explore(t *testing.T, lot *testdb.Lot) *sources.Explorer {
	t.Helper()
	e, err := sources.Explore(t.Context(), drivers, sources.Config{Driver: lot.Driver, DSN: sources.Secret(lot.DSN), StatementTimeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func tableOf(t *testing.T, e *sources.Explorer, name string) *sources.Table {
	t.Helper()
	tables, err := e.Tables(t.Context())
	require.NoError(t, err)
	for i := range tables {
		if tables[i].String() == name {
			return &tables[i]
		}
	}
	require.Failf(t, "no such table", "%s is not among %v", name, tables)
	return nil
}

// Every engine's catalogue says the same of the same tables.
func TestCatalog(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]func(*testing.T, *testdb.Lot){
				"tables":                catalogTables,
				"keys and indexes":      catalogIndexes,
				"only what may be read": catalogRights,
				"newest rows":           catalogNewest,
				"bounded count":         catalogCount,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, testdb.New(t, engine))
				})
			}
		})
	}
}

func catalogTables(t *testing.T, lot *testdb.Lot) {
	t.Helper()
	comment := lot.Type("", "", " COMMENT '异常放行'")
	column := lot.Type("", "", " COMMENT '车牌号'")
	lot.Exec(t, "CREATE TABLE pass (id INTEGER NOT NULL PRIMARY KEY, plate VARCHAR(20)"+column+", picture "+lot.Type("BLOB", "bytea", "LONGBLOB")+" NOT NULL)"+comment)
	if lot.Driver == "postgres" {
		lot.Exec(t, "COMMENT ON TABLE pass IS '异常放行'")
		lot.Exec(t, "COMMENT ON COLUMN pass.plate IS '车牌号'")
	}
	lot.Exec(t, "CREATE VIEW seen AS SELECT id FROM pass")
	lot.Grant(t, "pass")
	lot.Grant(t, "seen")
	e := explore(t, lot)
	tables, err := e.Tables(t.Context())
	require.NoError(t, err)
	require.Len(t, tables, 2)
	pass, seen := tables[0], tables[1]
	require.Equal(t, []string{"pass"}, pass.Name)
	require.False(t, pass.View)
	require.Len(t, pass.Columns, 3)
	require.Equal(t, "plate", pass.Columns[1].Name)
	require.True(t, pass.Columns[1].Nullable)
	require.False(t, pass.Columns[0].Nullable)
	require.False(t, pass.Columns[2].Nullable)
	require.Contains(t, pass.Columns[1].Type, "20", "the length is in it")
	require.Equal(t, "seen", seen.String())
	require.True(t, seen.View)
	require.Equal(t, int64(-1), seen.Rows)
	require.Empty(t, seen.Comment)
	want := lot.Type("", "异常放行", "异常放行")
	require.Equal(t, want, pass.Comment)
	require.Equal(t, lot.Type("", "车牌号", "车牌号"), pass.Columns[1].Comment)
	_, ok := pass.Column("plate")
	require.True(t, ok)
	_, ok = pass.Column("color")
	require.False(t, ok)
}

func catalogIndexes(t *testing.T, lot *testdb.Lot) {
	t.Helper()
	lot.Exec(t, "CREATE TABLE keyed (lane INTEGER NOT NULL, no INTEGER NOT NULL, at VARCHAR(19), code VARCHAR(20) NOT NULL, PRIMARY KEY (no, lane))")
	lot.Exec(t, "CREATE INDEX keyed_at ON keyed (at, lane)")
	lot.Exec(t, "CREATE UNIQUE INDEX keyed_code ON keyed (code)")
	if lot.Driver != "mysql" { // indexes that do not hold every row, or not the column itself
		lot.Exec(t, "CREATE INDEX keyed_some ON keyed (lane) WHERE no > 5")
		lot.Exec(t, "CREATE INDEX keyed_expr ON keyed (lower(code))")
	} else {
		lot.Exec(t, "CREATE INDEX keyed_begin ON keyed (code(3))")
	}
	lot.Exec(t, "CREATE TABLE single (id "+lot.Type("INTEGER PRIMARY KEY AUTOINCREMENT", "serial PRIMARY KEY", "INT AUTO_INCREMENT PRIMARY KEY")+", x INTEGER)")
	lot.Exec(t, "CREATE TABLE bare (x INTEGER)")
	for _, name := range []string{"keyed", "single", "bare"} {
		lot.Grant(t, name)
	}
	e := explore(t, lot)
	keyed := tableOf(t, e, "keyed")
	require.Equal(t, sources.Index{Columns: []string{"no", "lane"}, Unique: true, Primary: true}, keyed.Indexes[0])
	require.ElementsMatch(t, []sources.Index{{Columns: []string{"at", "lane"}}, {Columns: []string{"code"}, Unique: true}}, keyed.Indexes[1:])
	single := tableOf(t, e, "single")
	require.Equal(t, []sources.Index{{Columns: []string{"id"}, Unique: true, Primary: true}}, single.Indexes)
	require.Empty(t, tableOf(t, e, "bare").Indexes)
	a, err := e.Assigned(t.Context(), single, "id")
	require.NoError(t, err)
	require.Empty(t, a.Not)
	a, err = e.Assigned(t.Context(), keyed, "no")
	require.NoError(t, err)
	require.NotEmpty(t, a.Not)
}

func catalogRights(t *testing.T, lot *testdb.Lot) {
	t.Helper()
	if lot.Driver == "sqlite" {
		t.Skip("a file has no accounts")
	}
	lot.Exec(t, "CREATE TABLE pass (id INTEGER NOT NULL PRIMARY KEY, plate VARCHAR(20), phone VARCHAR(20))")
	lot.Exec(t, "CREATE TABLE staff (id INTEGER NOT NULL PRIMARY KEY, password VARCHAR(20))")
	lot.Exec(t, "INSERT INTO pass VALUES (1, 'x', 'y')")
	lot.GrantColumns(t, "pass", "id, plate")
	e := explore(t, lot)
	tables, err := e.Tables(t.Context())
	require.NoError(t, err)
	require.Len(t, tables, 1)
	require.Len(t, tables[0].Columns, 2)
	rows, err := e.Newest(t.Context(), &tables[0], []string{"id", "plate"}, []string{"id"}, 5)
	require.NoError(t, err)
	require.Equal(t, [][]sources.Value{{{Kind: sources.Int, Text: "1"}, {Kind: sources.Text, Text: "x"}}}, rows)
}

func catalogNewest(t *testing.T, lot *testdb.Lot) {
	t.Helper()
	name := lot.Type(`"出场 记录"`, `"出场 记录"`, "`出场 记录`")
	lot.Exec(t, "CREATE TABLE "+name+" (id INTEGER NOT NULL PRIMARY KEY, t INTEGER)")
	for i := range 9 {
		lot.Exec(t, "INSERT INTO "+name+" VALUES (?, ?)", i, 100-i)
	}
	lot.Exec(t, "INSERT INTO "+name+" VALUES (9, NULL)")
	lot.Grant(t, name)
	e := explore(t, lot)
	table := tableOf(t, e, "出场 记录")
	number := func(n int) sources.Value { return sources.Value{Kind: sources.Int, Text: fmt.Sprint(n)} }
	rows, err := e.Newest(t.Context(), table, []string{"t", "id"}, []string{"id"}, 2)
	require.NoError(t, err)
	require.Equal(t, [][]sources.Value{{{}, number(9)}, {number(92), number(8)}}, rows)
	rows, err = e.Newest(t.Context(), table, []string{"id"}, []string{"t"}, 2)
	require.NoError(t, err)
	require.Equal(t, [][]sources.Value{{number(0)}, {number(1)}}, rows, "rows without a value are not the newest")
	rows, err = e.Newest(t.Context(), table, []string{"id"}, nil, 3)
	require.NoError(t, err)
	require.Len(t, rows, 3)
}

func catalogCount(t *testing.T, lot *testdb.Lot) {
	t.Helper()
	lot.Exec(t, "CREATE TABLE pass (id INTEGER NOT NULL PRIMARY KEY)")
	lot.Grant(t, "pass")
	e := explore(t, lot)
	n, err := e.Count(t.Context(), tableOf(t, e, "pass"), 5)
	require.NoError(t, err)
	require.Zero(t, n)
	for i := range 12 {
		lot.Exec(t, "INSERT INTO pass VALUES (?)", i)
	}
	for most, want := range map[int]int{5: 5, 12: 12, 100: 12} {
		n, err = e.Count(t.Context(), tableOf(t, e, "pass"), most)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	if lot.Driver == "sqlite" {
		require.Equal(t, int64(12), tableOf(t, e, "pass").Rows)
	}
}

// A schema that is not in the way of names is part of the table's name.
func TestCatalogSchemas(t *testing.T) {
	t.Parallel()
	lot := testdb.New(t, "postgres")
	lot.Exec(t, "CREATE SCHEMA parking")
	lot.Exec(t, `CREATE TABLE parking."out.2026" (id integer PRIMARY KEY) PARTITION BY RANGE (id)`)
	lot.Exec(t, `CREATE TABLE parking.part PARTITION OF parking."out.2026" FOR VALUES FROM (0) TO (9)`)
	lot.Exec(t, `INSERT INTO parking."out.2026" VALUES (1)`)
	lot.Grant(t, `parking."out.2026"`)
	lot.Grant(t, "parking.part")
	e := explore(t, lot)
	tables, err := e.Tables(t.Context())
	require.NoError(t, err)
	require.Empty(t, tables, "no right to the schema")
	lot.Exec(t, "GRANT USAGE ON SCHEMA parking TO PUBLIC")
	tables, err = e.Tables(t.Context())
	require.NoError(t, err)
	require.Len(t, tables, 1)
	require.Equal(t, `parking."out.2026"`, tables[0].String())
	n, err := e.Count(t.Context(), &tables[0], 9)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// An engine that cannot list its tables says so, and leaves no connection open.
func TestNoCatalog(t *testing.T) {
	t.Parallel()
	lot := testdb.New(t, "sqlite")
	driver := drivers["sqlite"]
	open := driver.Open
	closed := false
	driver.Open = func(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
		db, dialect, err := open(ctx, cfg)
		return plainDB{db, &closed}, dialect, err
	}
	_, err := sources.Explore(t.Context(), sources.NewRegistry(driver), sources.Config{Driver: "sqlite", DSN: sources.Secret(lot.DSN)})
	require.ErrorIs(t, err, sources.ErrNoCatalog)
	require.True(t, closed)
	_, err = sources.Explore(t.Context(), drivers, sources.Config{Driver: "oracle"})
	require.ErrorContains(t, err, `"oracle" is not known`)
}

// plainDB has no catalogue.
type plainDB struct {
	sources.DB
	closed *bool
}

func (p plainDB) Close() error {
	*p.closed = true
	return p.DB.Close()
}
