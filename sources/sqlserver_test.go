package sources_test

import (
	"fmt"
	"strings"
	"testing"

	"parkbridge/internal/testdb"
	"parkbridge/sources"

	"github.com/stretchr/testify/require"
)

// What only SQL Server has. It runs where PARKBRIDGE_TEST_SQLSERVER names one.
func TestSQLServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, *testdb.Lot){
		"datetime in steps of 1/300 s": datetimeSteps,
		"smalldatetime":                smallDatetimes,
		"rowversion":                   rowVersions,
		"locked rows are passed by":    lockedRows,
		"keys of every type":           keysOfEveryType,
		"the catalogue":                sqlServerCatalogue,
		"rights and plans":             sqlServerRights,
	} {
		for _, versions := range []string{"OFF", "ON"} {
			t.Run(name+", row versions "+versions, func(t *testing.T) {
				t.Parallel()
				test(t, testdb.NewSQLServer(t, versions))
			})
		}
	}
}

func datetimeSteps(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER IDENTITY PRIMARY KEY, op DATETIME NOT NULL)")
	lot.Grant(t, "pass")
	for range 2 { // ties
		for _, ms := range []string{"000", "003", "007", "010", "013", "017", "990", "993", "997"} {
			lot.Exec(t, "INSERT INTO pass (op) VALUES ('2026-11-01T10:00:00."+ms+"')")
		}
	}
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "op"
	keys, _ := readAll(t, open(t, cfg, "op"), sources.Position{}, 1)
	require.Len(t, keys, 18, "none twice, none left out")
}

func smallDatetimes(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER IDENTITY PRIMARY KEY, op SMALLDATETIME NOT NULL)")
	lot.Grant(t, "pass")
	for _, at := range []string{"10:00", "10:00", "10:01", "23:59"} {
		lot.Exec(t, "INSERT INTO pass (op) VALUES ('2026-11-01T"+at+":00')")
	}
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "op"
	keys, _ := readAll(t, open(t, cfg, "op"), sources.Position{}, 1)
	require.Equal(t, numbers(4), keys)
}

// A row version that is written and not committed keeps those above it from being
// clear, and a row that is written again comes again.
func rowVersions(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, rv ROWVERSION)")
	lot.Exec(t, "CREATE INDEX pass_rv ON pass (rv, id)")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass (id) VALUES (1), (2)")
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "rv"
	r := open(t, cfg, "id")
	require.True(t, r.Class().Server, r.Class().Why)
	keys, rows := readAll(t, r, sources.Position{}, 1)
	require.Equal(t, numbers(2), keys)
	e := look(t, r)
	require.Empty(t, e.None)
	require.Empty(t, e.Open)
	require.True(t, e.Clear(rows[1].Position))

	tx := session(t, lot)
	tx("BEGIN TRANSACTION", "INSERT INTO pass (id) VALUES (3)")
	lot.Exec(t, "INSERT INTO pass (id) VALUES (4)")
	highest, err := highestOf(t, r)
	require.NoError(t, err)
	require.Equal(t, "4", highest.Values[1])
	e = look(t, r)
	require.Len(t, e.Open, 1)
	require.True(t, e.Clear(rows[1].Position))
	require.False(t, e.Clear(highest))
	tx("COMMIT")
	require.True(t, look(t, r).Clear(highest))

	lot.Exec(t, "UPDATE pass SET id = id WHERE id = 1")
	keys, _ = readAll(t, r, highest, 10)
	require.Equal(t, []string{"1"}, keys)
}

// A row that is locked is left out where the database keeps no versions, and
// read as it was where it does; nothing waits in either case.
func lockedRows(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER IDENTITY PRIMARY KEY, plate VARCHAR(20))")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass (plate) VALUES ('a'), ('b'), ('c')")
	r := open(t, config(lot, "pass", "id"), "plate")
	tx := session(t, lot)
	tx("BEGIN TRANSACTION", "UPDATE pass SET plate = 'x' WHERE id = 2", "INSERT INTO pass (plate) VALUES ('d')")
	page, err := pageOf(t, r, sources.Range{}, 10)
	require.NoError(t, err)
	if page.Held {
		require.Len(t, page.Rows, 2)
		_, err := pageOf(t, r, sources.Range{Whole: true}, 10)
		require.ErrorIs(t, err, sources.ErrLocked)
	} else {
		require.Len(t, page.Rows, 3)
	}
	key, err := inSession(t, r, false, func(s *sources.Session) (string, error) {
		return s.InFlight(t.Context(), sources.Range{Newest: true}, 100)
	})
	require.NoError(t, err)
	require.Equal(t, "4", key)
	tx("ROLLBACK")
	page, err = pageOf(t, r, sources.Range{}, 10)
	require.NoError(t, err)
	require.False(t, page.Held)
	require.Len(t, page.Rows, 3)
}

// Whatever the type of a key, a row is found again by it, and each page goes on
// where the last one ended.
func keysOfEveryType(t *testing.T, lot *testdb.Lot) {
	for i, c := range []struct{ typ, a, b string }{
		{"numeric(18,0)", "900719925474099267", "900719925474099268"},
		{"decimal(18,4)", "1.5", "1.5001"},
		{"money", "1.5", "1.5001"},
		{"float", "0.1", "0.30000000000000004"},
		{"real", "0.1", "0.2"},
		{"datetime2(7)", "'2026-11-01T10:00:00.1234567'", "'2026-11-01T10:00:00.1234568'"},
		{"datetimeoffset(7)", "'2026-11-01T10:00:00.1234567+08:00'", "'2026-11-01T10:00:00.1234568+08:00'"},
		{"date", "'2026-11-01'", "'2026-11-02'"},
		{"time(7)", "'10:00:00.1234567'", "'10:00:00.1234568'"},
		{"uniqueidentifier", "'49f0cc52-e8c7-41e3-b54d-af666b8cc11a'", "'00000000-0000-0000-0000-000000000001'"},
		{"binary(4)", "0x00000001", "0x00000100"},
		{"varbinary(8)", "0x01", "0x0100ff"},
		{"char(6)", "'ab'", "'东'"},
		{"varchar(20)", "'a%'", "'东门''s'"},
		{"varchar(20) COLLATE Chinese_Taiwan_Stroke_CI_AS", "N'禁'", "N'葛'"},
		{"nvarchar(20)", "N'粤'", "N'🚗'"},
		{"bit", "0", "1"},
	} {
		table := fmt.Sprint("t", i)
		lot.Exec(t, "CREATE TABLE "+table+" (k "+c.typ+" PRIMARY KEY, n INTEGER)")
		lot.Grant(t, table)
		lot.Exec(t, "INSERT INTO "+table+" VALUES ("+c.a+", 1), ("+c.b+", 1)")
		cfg := config(lot, table, "k")
		cfg.Cursor = "n"
		r := open(t, cfg, "n")
		keys, _ := readAll(t, r, sources.Position{}, 1)
		require.Len(t, keys, 2, c.typ)
		for _, key := range keys {
			_, ok, err := r.ByKey(t.Context(), key)
			require.NoError(t, err, c.typ)
			require.True(t, ok, c.typ)
		}
	}
}

// The catalogue shows what may be read, with comments, and a row that is locked
// is in nobody's way.
func sqlServerCatalogue(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id NUMERIC(18,0) IDENTITY PRIMARY KEY, plate NVARCHAR(20), picture IMAGE, rv ROWVERSION)")
	lot.Exec(t, "CREATE TABLE staff (id INTEGER PRIMARY KEY)")
	lot.Exec(t, "CREATE INDEX pass_plate ON pass (plate) INCLUDE (rv)")
	lot.Exec(t, "CREATE INDEX pass_some ON pass (plate) WHERE plate IS NOT NULL")
	lot.Exec(t, "EXEC sp_addextendedproperty 'MS_Description', N'车牌号', 'SCHEMA', 'dbo', 'TABLE', 'pass', 'COLUMN', 'plate'")
	lot.Exec(t, "INSERT INTO pass (plate) VALUES ('a'), ('b')")
	lot.GrantColumns(t, "pass", "id, plate, rv")
	e := explore(t, lot)
	tables, err := e.Tables(t.Context())
	require.NoError(t, err)
	require.Equal(t, []sources.Table{{
		Name: []string{"pass"}, Rows: 2,
		Columns: []sources.TableColumn{{Name: "id", Type: "numeric(18,0)"}, {Name: "plate", Type: "nvarchar(20)", Comment: "车牌号", Nullable: true}, {Name: "rv", Type: "rowversion"}},
		Indexes: []sources.Index{{Columns: []string{"id"}, Unique: true, Primary: true}, {Columns: []string{"plate"}}},
	}}, tables)
	tx := session(t, lot)
	tx("BEGIN TRANSACTION", "UPDATE pass SET plate = 'x' WHERE id = 2")
	rows, err := e.Newest(t.Context(), &tables[0], []string{"id", "plate"}, []string{"id"}, 5)
	require.NoError(t, err)
	require.NotEmpty(t, rows)
	_, err = e.Count(t.Context(), &tables[0], 5)
	require.NoError(t, err)
	tx("ROLLBACK")
}

// What is said to take rights away takes them, and a plan needs its permission.
func sqlServerRights(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER IDENTITY PRIMARY KEY, plate VARCHAR(20))")
	lot.Grant(t, "pass")
	cfg := config(lot, "pass", "id")
	about, clock := ask(t, cfg)
	require.True(t, clock.Own)
	require.Regexp(t, `^SQL Server .+ \(\d+\.\d+\.`, about.Version)
	require.Empty(t, about.Writes)
	user := about.Account
	lot.Exec(t, "GRANT INSERT ON pass TO "+user)
	lot.Exec(t, "GRANT UPDATE ON SCHEMA::dbo TO "+user)
	lot.Exec(t, "EXEC sp_addrolemember 'db_datawriter', '"+strings.Trim(user, "[]")+"'")
	about, _ = ask(t, cfg)
	require.Len(t, about.Writes, 1)
	for _, stmt := range about.Revokes {
		lot.Exec(t, strings.TrimSuffix(stmt, ";"))
	}
	about, _ = ask(t, cfg)
	require.Empty(t, about.Writes)

	r := open(t, cfg, "plate")
	after := sources.Range{After: sources.Position{Values: []string{"5"}}}
	_, err := r.Plan(t.Context(), after, 100)
	require.ErrorIs(t, err, sources.ErrNoInspector)
	lot.Exec(t, "GRANT SHOWPLAN TO "+user)
	plan, err := r.Plan(t.Context(), after, 100)
	require.NoError(t, err)
	require.True(t, plan.Seek, plan.Steps)
	_, err = pageOf(t, r, after, 100)
	require.NoError(t, err)
}
