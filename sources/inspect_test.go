package sources_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sources"
)

// TestInspect holds what engines say for `check` to real servers.
func TestInspect(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]func(*testing.T, *testdb.Lot){
				"the plan of a page tells a seek": plans,
				"rights beyond reading":           rights,
				"the server and its clock":        serverAndClock,
				"the table in the catalogue":      tableInCatalogue,
				"stored types of a cursor":        storedTypes,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, testdb.New(t, engine))
				})
			}
		})
	}
}

func ask(t *testing.T, cfg sources.Config) (sources.About, sources.Clock) {
	t.Helper()
	cfg.Defaults()
	about, clock, err := sources.Ask(t.Context(), drivers, cfg)
	require.NoError(t, err)
	return about, clock
}

// plans: with an index the plan of the real page query is a seek, for every form
// of range that a poll reads; without one it is not.
func plans(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op INTEGER NOT NULL, late INTEGER NOT NULL, plate VARCHAR(20))")
	lot.Exec(t, "CREATE INDEX pass_op ON pass (op, id)")
	lot.Grant(t, "pass")
	for from := 1; from <= 20000; from += 1000 {
		var values []string
		for i := from; i < from+1000; i++ {
			values = append(values, fmt.Sprintf("(%d, %d, %d, 'x')", i, i/5000, i))
		}
		lot.Exec(t, "INSERT INTO pass VALUES "+strings.Join(values, ","))
	}
	lot.Exec(t, lot.Type("ANALYZE", "ANALYZE pass", "ANALYZE TABLE pass"))
	at := func(v ...string) sources.Position { return sources.Position{Values: v} }
	plan := func(cursor string, in sources.Range) sources.Plan {
		cfg := config(lot, "pass", "id")
		cfg.Cursor = cursor
		p, err := open(t, cfg, "plate").Plan(t.Context(), in, 100)
		require.NoError(t, err)
		return p
	}
	for name, in := range map[string]sources.Range{
		"after the mark":   {After: at("3", "19000")},
		"the look back":    {After: at("2"), UpTo: at("3", "19000"), Newest: true},
		"up to the mark":   {UpTo: at("1", "7000"), Newest: true},
		"from a beginning": {After: sources.Position{Values: []string{"3"}, Inclusive: true}},
	} {
		p := plan("op", in)
		require.True(t, p.Seek, "%s: %s", name, p.Steps)
		require.False(t, p.Sorts, "%s: %s", name, p.Steps)
		require.Contains(t, p.Steps, "pass_op", name)
	}
	p := plan("id", sources.Range{After: at("19999")})
	require.True(t, p.Seek, p.Steps)
	if lot.Driver != "sqlite" {
		require.Positive(t, p.Rows)
		require.Less(t, p.Rows, int64(1000))
	}
	// An index without the key: what follows the mark is sorted, or its ties.
	lot.Exec(t, "CREATE INDEX pass_plate ON pass (plate)")
	p = plan("plate", sources.Range{After: at("y", "1")})
	require.True(t, p.Seek, p.Steps)
	p = plan("late", sources.Range{After: at("19000", "19000")})
	require.False(t, p.Seek, p.Steps)
	require.True(t, p.Sorts, p.Steps)
	if lot.Driver != "sqlite" {
		require.InDelta(t, 20000, p.Rows, 5000, p.Steps)
	}
}

func rights(t *testing.T, lot *testdb.Lot) {
	makePass(t, lot, "pass")
	about, _ := ask(t, config(lot, "pass", "id"))
	require.Empty(t, about.Writes)
	if lot.Driver == "sqlite" {
		require.Empty(t, about.Account)
		return
	}
	require.Contains(t, about.Account, "_r")
	cfg := config(lot, "pass", "id")
	cfg.DSN = sources.Secret(lot.Admin)
	about, _ = ask(t, cfg)
	require.NotEmpty(t, about.Writes, "an administrator may write")
	require.Empty(t, about.Revokes, "nobody takes an administrator's rights away")

	// What is said to mend it mends it: the statements run as they are.
	grant := "GRANT INSERT, UPDATE ON pass TO "
	lot.Exec(t, grant+accountOf(t, lot))
	about, _ = ask(t, config(lot, "pass", "id"))
	require.Len(t, about.Writes, 1)
	require.Contains(t, about.Writes[0], "INSERT, UPDATE")
	require.Len(t, about.Revokes, 1)
	lot.Exec(t, strings.TrimSuffix(about.Revokes[0], ";"))
	about, _ = ask(t, config(lot, "pass", "id"))
	require.Empty(t, about.Writes)
	if lot.Driver == "mysql" {
		var name string
		require.NoError(t, lot.DB.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&name))
		lot.Exec(t, "GRANT ALL PRIVILEGES ON "+name+".* TO "+about.Account+" WITH GRANT OPTION")
		about, _ = ask(t, config(lot, "pass", "id"))
		require.Len(t, about.Revokes, 3)
		for _, stmt := range about.Revokes {
			lot.Exec(t, strings.TrimSuffix(stmt, ";"))
		}
		about, _ = ask(t, config(lot, "pass", "id"))
		require.Empty(t, about.Writes)
		open(t, config(lot, "pass", "id"), "plate")
	}
	newAccount(t, lot, about)
	if lot.Driver == "postgres" {
		lot.Exec(t, "GRANT UPDATE (plate) ON pass TO PUBLIC")
		about, _ = ask(t, config(lot, "pass", "id"))
		require.Equal(t, []string{"REVOKE UPDATE ON public.pass FROM PUBLIC;"}, about.Revokes)
		lot.Exec(t, about.Revokes[0])
		about, _ = ask(t, config(lot, "pass", "id"))
		require.Empty(t, about.Writes)
	}
}

// newAccount makes the account that is proposed, by the statements as they are,
// and reads with it.
func newAccount(t *testing.T, lot *testdb.Lot, about sources.About) {
	t.Helper()
	name := fmt.Sprintf("reader_%d", time.Now().UnixNano())
	for _, stmt := range about.Readers {
		stmt = strings.ReplaceAll(strings.TrimSuffix(stmt, ";"), "parkbridge", name)
		lot.Exec(t, strings.Replace(stmt, "a-password", "secret", 1))
	}
	t.Cleanup(func() {
		if lot.Driver == "postgres" {
			lot.Exec(t, "DROP OWNED BY "+name)
		}
		lot.Exec(t, lot.Type("", "DROP ROLE "+name, "DROP USER '"+name+"'@'%'"))
	})
	cfg := config(lot, "pass", "id")
	if lot.Driver == "postgres" {
		cfg.DSN = sources.Secret(strings.Replace(lot.DSN, "user="+strings.Fields(strings.SplitAfter(lot.DSN, "user=")[1])[0], "user="+name, 1))
	} else {
		cfg.DSN = sources.Secret(name + lot.DSN[strings.Index(lot.DSN, ":"):])
	}
	fresh, _ := ask(t, cfg)
	require.Contains(t, fresh.Account, name)
	require.Empty(t, fresh.Writes)
	open(t, cfg, "plate")
}

// accountOf is the reading account as SQL spells it.
func accountOf(t *testing.T, lot *testdb.Lot) string {
	t.Helper()
	about, _ := ask(t, config(lot, "pass", "id"))
	return about.Account
}

func serverAndClock(t *testing.T, lot *testdb.Lot) {
	makePass(t, lot, "pass")
	about, clock := ask(t, config(lot, "pass", "id"))
	require.Regexp(t, `^(SQLite|PostgreSQL|MariaDB|MySQL) \d+\.\d+`, about.Version)
	require.Equal(t, lot.Driver != "sqlite", clock.Own)
	require.Less(t, clock.Ahead.Abs(), time.Minute)
	if lot.Driver == "sqlite" {
		return
	}
	require.NotEmpty(t, about.Zone)
	if lot.Driver == "postgres" {
		lot.Exec(t, "ALTER ROLE "+about.Account+" SET TimeZone = 'Asia/Shanghai'")
		about, _ = ask(t, config(lot, "pass", "id"))
		require.Equal(t, "Asia/Shanghai", about.Zone)
		require.Equal(t, 8*time.Hour, about.Offset)
	}
	_, _, err := sources.Ask(t.Context(), drivers, sources.Config{Driver: lot.Driver, DSN: sources.Secret(strings.Replace(lot.DSN, "secret", "wrong", 1)), Table: "pass"})
	var failed *sources.ConnectError
	if lot.Driver == "mysql" { // PostgreSQL trusts the loopback interface here
		require.ErrorAs(t, err, &failed)
		require.NotContains(t, err.Error(), "wrong")
	}
}

func tableInCatalogue(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op INTEGER)")
	lot.Grant(t, "pass")
	schema := lot.Type("main", "public", "")
	if lot.Driver == "mysql" {
		require.NoError(t, lot.DB.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&schema))
	}
	for _, name := range []string{"pass", schema + ".pass"} {
		table, ok, err := open(t, config(lot, name, "id")).Table(t.Context())
		require.NoError(t, err)
		require.True(t, ok, name)
		require.True(t, table.Indexes[0].Primary)
	}
	cfg := config(lot, "", "id")
	cfg.Query = "SELECT id, op FROM pass"
	_, ok, err := open(t, cfg).Table(t.Context())
	require.NoError(t, err)
	require.False(t, ok)
}

func storedTypes(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op "+lot.Type("DATETIME", "timestamp", "DATETIME")+")")
	lot.Grant(t, "pass")
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "op"
	r := open(t, cfg)
	require.Equal(t, lot.Driver != "sqlite", r.OneType(), "other engines' columns have one type")
	lot.Exec(t, "INSERT INTO pass VALUES (1, '2026-11-01 10:00:00'), (2, '2026-11-02 10:00:00'), (3, NULL)")
	require.NoError(t, r.CheckTypes(t.Context()))
	if lot.Driver != "sqlite" {
		return
	}
	for name, c := range map[string]struct {
		insert, counts string
		mixed          bool
	}{
		"epoch seconds":                  {"(4, 1793498400), (5, 1793498401)", "text 2, integer 2", true},
		"Julian days":                    {"(4, 2461345.5)", "text 2, real 1", true},
		"a blob":                         {"(4, x'00')", "text 2, blob 1", true},
		"all three":                      {"(4, 1793498400), (5, 2461345.5)", "text 2, integer 1, real 1", true},
		"more text":                      {"(4, '2026-11-03 10:00:00')", "text 3", false},
		"seconds beside Julian days":     {"(4, 1793498400), (5, 2461345.5); DELETE FROM pass WHERE id < 3", "integer 1, real 1", true},
		"Julian days, one of them whole": {"(4, 2461346.0), (5, 2461345.5); DELETE FROM pass WHERE id < 3", "integer 1, real 1", false},
		"seconds with and without parts": {"(4, 1793498400), (5, 1793498400.5); DELETE FROM pass WHERE id < 3", "integer 1, real 1", false},
	} {
		lot.Exec(t, "DELETE FROM pass; INSERT INTO pass VALUES (1, '2026-11-01 10:00:00'), (2, '2026-11-02 10:00:00'), (3, NULL); INSERT INTO pass VALUES "+c.insert)
		err := r.CheckTypes(t.Context())
		types, cerr := r.StoredTypes(t.Context())
		require.Equal(t, c.counts, types.String(), name)
		require.Equal(t, c.mixed, err != nil, name)
		require.Equal(t, err, cerr, name)
		if c.mixed {
			var mistake *sources.ConfigError
			require.ErrorAs(t, err, &mistake, name)
			require.Equal(t, "cursor", mistake.Key)
			require.Contains(t, mistake.Problem, c.counts)
		}
	}
	// The key itself may be of several types: it is what it is.
	lot.Exec(t, "CREATE TABLE odd (no INT PRIMARY KEY) WITHOUT ROWID")
	lot.Exec(t, "INSERT INTO odd VALUES (1), ('A')")
	require.NoError(t, open(t, config(lot, "odd", "no")).CheckTypes(t.Context()))
	// More than is counted at a time, and a tie across the boundary.
	lot.Exec(t, "DELETE FROM pass")
	lot.Exec(t, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 230000) INSERT INTO pass SELECT i, 1793498400 + i / 7000 FROM n")
	lot.Exec(t, "CREATE INDEX pass_op ON pass (op, id)")
	lot.Exec(t, "INSERT INTO pass VALUES (0, '2026-11-01 10:00:00')")
	types, err := r.StoredTypes(t.Context())
	require.Error(t, err)
	require.Equal(t, "text 1, integer 199999 (of the first and the last 100000 rows)", types.String())
	lot.Exec(t, "DELETE FROM pass WHERE id > 110000")
	types, err = r.StoredTypes(t.Context())
	require.Error(t, err)
	require.Equal(t, "text 1, integer 110000", types.String())
}
