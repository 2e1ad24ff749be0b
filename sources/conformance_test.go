package sources_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"parkbridge/internal/testdb"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
	"parkbridge/sources/sqlserver"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var drivers = sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver(), sqlserver.Driver())

// TestConformance holds every engine to the same promises.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Sources() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]func(*testing.T, *testdb.Lot){
				"tie wider than a page":               tieWiderThanAPage,
				"composite key":                       compositeKey,
				"only mapped columns are read":        onlyMappedColumns,
				"bigint beyond 2^53":                  bigIntegers,
				"precision of times":                  precisionOfTimes,
				"kinds of values":                     kindsOfValues,
				"text that is not UTF-8":              textThatIsNotUTF8,
				"NULL cursor has no place":            nullCursor,
				"where and query":                     whereAndQuery,
				"start values are inclusive":          startValues,
				"a row by its key":                    rowByKey,
				"read only":                           readOnly,
				"statement timeout":                   statementTimeout,
				"at most two connections":             twoConnections,
				"a page is one index seek":            oneSeek,
				"mistakes name the column":            mistakes,
				"identifiers are quoted":              quoting,
				"text keys that look like something":  textKeys,
				"class of a cursor":                   classes,
				"evidence shows who may still insert": evidence,
				"ranges":                              ranges,
				"rows without a cursor":               nulls,
				"positions as times":                  positionTimes,
				"identity":                            identity,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, testdb.New(t, engine))
				})
			}
		})
	}
}

func config(lot *testdb.Lot, table string, key ...string) sources.Config {
	c := sources.Config{Name: "lot", Driver: lot.Driver, DSN: sources.Secret(lot.DSN), Table: table, Key: key, Start: "earliest"}
	return c
}

func open(t testing.TB, cfg sources.Config, columns ...string) *sources.Reader {
	t.Helper()
	r, err := tryOpen(t, cfg, columns...)
	require.NoError(t, err)
	return r
}

func tryOpen(t testing.TB, cfg sources.Config, columns ...string) (*sources.Reader, error) {
	t.Helper()
	cfg.Defaults()
	var needs []sources.Need
	for _, c := range columns {
		name, raw := strings.CutSuffix(c, " raw")
		needs = append(needs, sources.Need{Column: name, Raw: raw})
	}
	r, err := sources.Open(t.Context(), drivers, cfg, needs)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, r.Close()) })
	}
	return r, err
}

// inSession runs f on a connection of its own.
func inSession[T any](t testing.TB, r *sources.Reader, evidence bool, f func(*sources.Session) (T, error)) (out T, err error) {
	t.Helper()
	s, err := r.Session(t.Context(), evidence)
	if err != nil {
		return out, err
	}
	out, err = f(s)
	return out, errors.Join(err, s.Close())
}

func pageOf(t *testing.T, r *sources.Reader, in sources.Range, limit int) (sources.Page, error) {
	t.Helper()
	return inSession(t, r, false, func(s *sources.Session) (sources.Page, error) { return s.Page(t.Context(), in, limit) })
}

func highestOf(t *testing.T, r *sources.Reader) (sources.Position, error) {
	t.Helper()
	return inSession(t, r, false, func(s *sources.Session) (sources.Position, error) { return s.Highest(t.Context(), sources.Range{}) })
}

// readAll walks the source in pages and gives the keys in order.
func readAll(t *testing.T, r *sources.Reader, from sources.Position, size int) (keys []string, rows []sources.Row) {
	t.Helper()
	for {
		// A position survives the ledger.
		stored, err := sources.DecodePosition(from.Encode())
		require.NoError(t, err)
		page, err := pageOf(t, r, sources.Range{After: stored}, size)
		require.NoError(t, err)
		for _, row := range page.Rows {
			keys, rows = append(keys, row.Key), append(rows, row)
		}
		if !page.Full {
			return keys, rows
		}
		from = page.Rows[len(page.Rows)-1].Position
	}
}

func one(t *testing.T, r *sources.Reader) []sources.Value {
	t.Helper()
	page, err := pageOf(t, r, sources.Range{}, 10)
	require.NoError(t, err)
	require.Len(t, page.Rows, 1)
	return page.Rows[0].Values
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i + 1)
	}
	return out
}

func tieWiderThanAPage(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op "+lot.Type("TEXT", "timestamp", "DATETIME")+" NOT NULL)")
	lot.Exec(t, "CREATE INDEX pass_op ON pass (op, id)")
	lot.Grant(t, "pass")
	for from := 1; from <= 3000; from += 500 {
		var values []string
		for i := from; i < from+500; i++ {
			values = append(values, fmt.Sprintf("(%d, '2026-11-01 10:00:00')", i))
		}
		lot.Exec(t, "INSERT INTO pass VALUES "+strings.Join(values, ","))
	}
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "op"
	keys, _ := readAll(t, open(t, cfg, "op"), sources.Position{}, 1000)
	require.Equal(t, numbers(3000), keys)
}

func compositeKey(t *testing.T, lot *testdb.Lot) {
	text := lot.Type("TEXT", "text", "VARCHAR(20)")
	lot.Exec(t, "CREATE TABLE pass (lane "+text+", no INTEGER, at INTEGER, PRIMARY KEY (lane, no))")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass VALUES ('B', 1, 5), ('A', 2, 5), ('A', 1, 7), ('东门', 1, 5)")
	cfg := config(lot, "pass", "lane", "no")
	cfg.Cursor = "at"
	keys, _ := readAll(t, open(t, cfg, "at"), sources.Position{}, 1)
	require.Equal(t, []string{`["A","2"]`, `["B","1"]`, `["东门","1"]`, `["A","1"]`}, keys)
}

func onlyMappedColumns(t *testing.T, lot *testdb.Lot) {
	if lot.Driver == "sqlite" {
		lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, plate TEXT, picture BLOB)")
	} else {
		// The account may read two columns; to read the third would fail.
		lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, plate VARCHAR(20), picture VARCHAR(20))")
		lot.GrantColumns(t, "pass", "id, plate")
	}
	lot.Exec(t, "INSERT INTO pass VALUES (1, '粤B12345', 'x')")
	r := open(t, config(lot, "pass", "id"), "plate")
	require.Equal(t, []sources.Value{{Kind: sources.Text, Text: "粤B12345"}}, one(t, r))
	stmt, _, err := r.PageSQL(sources.Range{}, 10)
	require.NoError(t, err)
	require.NotContains(t, stmt, "picture")
}

func bigIntegers(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id BIGINT PRIMARY KEY)")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass VALUES (9007199254740993), (9007199254740992), (9223372036854775807), (-1)")
	keys, rows := readAll(t, open(t, config(lot, "pass", "id"), "id"), sources.Position{}, 1)
	require.Equal(t, []string{"-1", "9007199254740992", "9007199254740993", "9223372036854775807"}, keys)
	require.Equal(t, sources.Value{Kind: sources.Int, Text: "9007199254740993"}, rows[2].Values[0])
	if lot.Driver == "mysql" {
		lot.Exec(t, "CREATE TABLE big (id BIGINT UNSIGNED PRIMARY KEY)")
		lot.Grant(t, "big")
		lot.Exec(t, "INSERT INTO big VALUES (18446744073709551615), (18446744073709551614)")
		keys, _ = readAll(t, open(t, config(lot, "big", "id"), "id"), sources.Position{}, 1)
		require.Equal(t, []string{"18446744073709551614", "18446744073709551615"}, keys)
	}
}

func precisionOfTimes(t *testing.T, lot *testdb.Lot) {
	// Rows a microsecond apart, read one a page: a rounded mark would read one
	// twice or skip it.
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op "+lot.Type("TEXT", "timestamptz", "TIMESTAMP(6)")+" NOT NULL)")
	lot.Grant(t, "pass")
	zone := lot.Type("", "+00", "")
	if lot.Driver == "sqlserver" {
		zone = " +00:00"
	}
	if lot.Driver == "mysql" {
		conn, err := lot.DB.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(t.Context(), "SET time_zone = '+00:00'")
		require.NoError(t, err)
		for i := range 5 {
			_, err = conn.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO pass VALUES (%d, '2026-11-01 10:00:00.%06d')", i+1, 999990+i))
			require.NoError(t, err)
		}
	} else {
		for i := range 5 {
			lot.Exec(t, fmt.Sprintf("INSERT INTO pass VALUES (%d, '2026-11-01 10:00:00.%06d%s')", i+1, 999990+i, zone))
		}
	}
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "op"
	keys, rows := readAll(t, open(t, cfg, "op"), sources.Position{}, 1)
	require.Equal(t, numbers(5), keys)
	if lot.Driver == "sqlite" {
		return // text is text
	}
	at, err := rows[3].Values[0].Instant()
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 11, 1, 10, 0, 0, 999993000, time.UTC), at.UTC())
}

func kindsOfValues(t *testing.T, lot *testdb.Lot) {
	type column struct {
		typ, literal string
		want         sources.Value
	}
	v := func(k sources.Kind, text string) sources.Value { return sources.Value{Kind: k, Text: text} }
	columns := map[string][]column{
		"postgres": {
			{"boolean", "true", v(sources.Bool, "true")},
			{"numeric(20,4)", "12345678901234.5000", v(sources.Decimal, "12345678901234.5000")},
			{"double precision", "0.1", v(sources.Float, "0.1")},
			{"timestamp", "'2026-11-01 10:00:00.123456'", v(sources.Local, "2026-11-01 10:00:00.123456")},
			{"timestamptz", "'2026-11-01 10:00:00+08'", v(sources.Time, "2026-11-01 02:00:00+00")},
			{"timestamptz", "'infinity'", v(sources.Bad, "infinity")},
			{"date", "'2026-11-01'", v(sources.Local, "2026-11-01")},
			{"bytea", `'\x00ff'`, v(sources.Bytes, "\x00\xff")},
			{"char(6)", "'ab'", v(sources.Text, "ab    ")},
			{"uuid", "'49f0cc52-e8c7-41e3-b54d-af666b8cc11a'", v(sources.Text, "49f0cc52-e8c7-41e3-b54d-af666b8cc11a")},
			{"text", "NULL", sources.Value{}},
			{"text", "''", v(sources.Text, "")},
		},
		"mysql": {
			{"DECIMAL(20,4)", "12345678901234.5000", v(sources.Decimal, "12345678901234.5000")},
			{"DOUBLE", "0.1", v(sources.Float, "0.1")},
			{"FLOAT", "0.5", v(sources.Float, "0.5")},
			{"DATETIME(6)", "'2026-11-01 10:00:00.123456'", v(sources.Local, "2026-11-01 10:00:00.123456")},
			{"TIMESTAMP", "FROM_UNIXTIME(1793498400)", v(sources.Time, "2026-11-01 02:00:00Z")},
			{"DATE", "'2026-11-01'", v(sources.Local, "2026-11-01")},
			{"DATETIME", "'0000-00-00 00:00:00'", v(sources.Bad, "0000-00-00 00:00:00")},
			{"DATE", "'2026-02-00'", v(sources.Bad, "2026-02-00")},
			{"VARBINARY(4)", "0x00ff", v(sources.Bytes, "\x00\xff")},
			{"BIT(1)", "b'1'", v(sources.Int, "1")},
			{"TINYINT(1)", "1", v(sources.Int, "1")},
			{"ENUM('蓝','黄')", "'黄'", v(sources.Text, "黄")},
			{"TEXT", "NULL", sources.Value{}},
			{"TEXT", "''", v(sources.Text, "")},
		},
		"sqlserver": {
			{"bit", "1", v(sources.Bool, "true")},
			{"decimal(20,4)", "12345678901234.5000", v(sources.Decimal, "12345678901234.5000")},
			{"money", "-0.0001", v(sources.Decimal, "-0.0001")},
			{"float", "0.1", v(sources.Float, "0.1")},
			{"real", "0.1", v(sources.Float, "0.1")},
			{"datetime", "'2026-11-01T10:00:00.007'", v(sources.Local, "2026-11-01 10:00:00.007")},
			{"smalldatetime", "'2026-11-01T10:00:00'", v(sources.Local, "2026-11-01 10:00:00")},
			{"datetime2(7)", "'2026-11-01T10:00:00.1234567'", v(sources.Local, "2026-11-01 10:00:00.1234567")},
			{"datetimeoffset(7)", "'2026-11-01T10:00:00.1234567+08:00'", v(sources.Time, "2026-11-01 10:00:00.1234567+08:00")},
			{"date", "'2026-11-01'", v(sources.Local, "2026-11-01")},
			{"time(3)", "'10:00:00.002'", v(sources.Text, "10:00:00.002")},
			{"varbinary(4)", "0x00ff", v(sources.Bytes, "\x00\xff")},
			{"uniqueidentifier", "'49f0cc52-e8c7-41e3-b54d-af666b8cc11a'", v(sources.Text, "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A")},
			{"char(6)", "'ab'", v(sources.Text, "ab    ")},
			{"varchar(20)", "'粤B12345'", v(sources.Text, "粤B12345")},
			{"varchar(20) COLLATE Chinese_Taiwan_Stroke_CI_AS", "N'禁'", v(sources.Text, "禁")},
			{"nvarchar(20)", "N'粤B🚗'", v(sources.Text, "粤B🚗")},
			{"text", "'粤B12345'", v(sources.Text, "粤B12345")},
			{"ntext", "N'粤B12345'", v(sources.Text, "粤B12345")},
			{"image", "0xffd8", v(sources.Bytes, "\xff\xd8")},
			{"sql_variant", "17", v(sources.Text, "17")},
			{"xml", "'<a>粤</a>'", v(sources.Text, "<a>粤</a>")},
			{"varchar(20)", "NULL", sources.Value{}},
			{"varchar(20)", "''", v(sources.Text, "")},
		},
		"sqlite": { // the storage class counts, not the declared type
			{"DATETIME", "'2026-11-01 10:00:00.123456'", v(sources.Text, "2026-11-01 10:00:00.123456")},
			{"DATETIME", "1793498400", v(sources.Int, "1793498400")},
			{"DATETIME", "2460980.5", v(sources.Float, "2.4609805e+06")},
			{"DATE", "'not a date'", v(sources.Text, "not a date")},
			{"BOOLEAN", "1", v(sources.Int, "1")},
			{"REAL", "0.1", v(sources.Float, "0.1")},
			{"BLOB", "x'00ff'", v(sources.Bytes, "\x00\xff")},
			{"TEXT", "NULL", sources.Value{}},
			{"TEXT", "''", v(sources.Text, "")},
		},
	}[lot.Driver]
	defs, literals, names, want := []string{}, []string{}, []string{}, []sources.Value{}
	for i, c := range columns {
		name := fmt.Sprintf("c%d", i)
		defs, literals = append(defs, name+" "+c.typ+lot.Type("", "", " NULL")), append(literals, c.literal)
		names, want = append(names, name), append(want, c.want)
	}
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, "+strings.Join(defs, ", ")+")")
	lot.Grant(t, "pass")
	insert := "INSERT INTO pass VALUES (1, " + strings.Join(literals, ", ") + ")"
	if lot.Driver == "mysql" {
		conn, err := lot.DB.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(t.Context(), "SET sql_mode = 'ALLOW_INVALID_DATES'")
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), insert)
		require.NoError(t, err)
	} else {
		lot.Exec(t, insert)
	}
	got := one(t, open(t, config(lot, "pass", "id"), names...))
	require.Equal(t, want, got)
	// What was read survives the ledger.
	back, err := sources.DecodeRow(sources.AppendRow(nil, names, got))
	require.NoError(t, err)
	for i, name := range names {
		require.Equal(t, want[i], back[name], name)
	}
}

func textThatIsNotUTF8(t *testing.T, lot *testdb.Lot) {
	gbk := "\xd4\xc1B12345" // 粤B12345
	switch lot.Driver {
	case "sqlite":
		lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, plate TEXT)")
		lot.Exec(t, "INSERT INTO pass VALUES (1, CAST(x'd4c1423132333435' AS TEXT))")
	case "mysql":
		// The commonest of all: GBK bytes in a column declared latin1.
		lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, plate VARCHAR(20) CHARACTER SET latin1)")
		lot.Exec(t, "INSERT INTO pass VALUES (1, x'd4c1423132333435')")
	case "sqlserver":
		// These Latin characters are the bytes of it in their code page.
		lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, plate VARCHAR(20) COLLATE Latin1_General_CI_AS)")
		lot.Exec(t, "INSERT INTO pass VALUES (1, N'ÔÁB12345')")
	case "postgres":
		lot = testdb.NewASCII(t)
		lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, plate text)")
		lot.Exec(t, `INSERT INTO pass VALUES (1, convert_from('\xd4c1423132333435', 'SQL_ASCII'))`)
	}
	lot.Grant(t, "pass")
	require.Equal(t, []sources.Value{{Kind: sources.Bytes, Text: gbk}}, one(t, open(t, config(lot, "pass", "id"), "plate raw")))
	if lot.Driver == "mysql" {
		// A column declared with its real charset is converted by the server.
		lot.Exec(t, "CREATE TABLE good (id INTEGER PRIMARY KEY, plate VARCHAR(20) CHARACTER SET gbk)")
		lot.Grant(t, "good")
		lot.Exec(t, "INSERT INTO good VALUES (1, '粤B12345')")
		require.Equal(t, []sources.Value{{Kind: sources.Text, Text: "粤B12345"}}, one(t, open(t, config(lot, "good", "id"), "plate raw")))
	}
}

func nullCursor(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, at INTEGER)")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass VALUES (1, NULL), (2, 5), (3, NULL), (4, 4)")
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "at"
	keys, _ := readAll(t, open(t, cfg, "at"), sources.Position{}, 1)
	require.Equal(t, []string{"4", "2"}, keys)
}

func whereAndQuery(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, st INTEGER)")
	lot.Exec(t, "CREATE TABLE kind (st INTEGER PRIMARY KEY, name VARCHAR(20))")
	lot.Grant(t, "pass")
	lot.Grant(t, "kind")
	lot.Exec(t, "INSERT INTO pass VALUES (1, 3), (2, 1), (3, 3), (4, 2)")
	lot.Exec(t, "INSERT INTO kind VALUES (3, '异常'), (1, '正常')")
	cfg := config(lot, "pass", "id")
	cfg.Where = "st = 3 OR st = 2 -- exceptions"
	keys, _ := readAll(t, open(t, cfg, "st"), sources.Position{}, 2)
	require.Equal(t, []string{"1", "3", "4"}, keys)

	cfg = config(lot, "", "id")
	cfg.Query = "SELECT p.id, k.name FROM pass p JOIN kind k ON k.st = p.st WHERE k.name = '异常'"
	keys, rows := readAll(t, open(t, cfg, "name"), sources.Position{}, 1)
	require.Equal(t, []string{"1", "3"}, keys)
	require.Equal(t, "异常", rows[0].Values[0].Text)
}

func startValues(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op "+lot.Type("TEXT", "timestamp", "DATETIME")+")")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass VALUES (1, '2026-11-01 09:59:59'), (2, '2026-11-01 10:00:00'), (3, '2026-11-01 10:00:00'), (4, '2026-11-02 00:00:00')")
	cfg := config(lot, "pass", "id")
	cfg.Cursor = "op"
	r := open(t, cfg, "op")
	keys, _ := readAll(t, r, sources.Position{Values: []string{"2026-11-01 10:00:00"}, Inclusive: true}, 1)
	require.Equal(t, []string{"2", "3", "4"}, keys)
	highest, err := highestOf(t, r)
	require.NoError(t, err)
	require.Equal(t, sources.Position{Values: []string{"2026-11-02 00:00:00", "4"}}, highest)
	lot.Exec(t, "DELETE FROM pass")
	highest, err = highestOf(t, r)
	require.NoError(t, err)
	require.True(t, highest.IsZero())
}

func rowByKey(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (lane VARCHAR(20), no INTEGER, plate VARCHAR(20), PRIMARY KEY (lane, no))")
	lot.Grant(t, "pass")
	lot.Exec(t, "INSERT INTO pass VALUES ('东', 7, '粤B12345')")
	cfg := config(lot, "pass", "lane", "no")
	cfg.Cursor = "no"
	r := open(t, cfg, "plate")
	page, ok, err := r.ByKey(t.Context(), `["东","7"]`)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "粤B12345", page.Rows[0].Values[0].Text)
	_, ok, err = r.ByKey(t.Context(), `["东","8"]`)
	require.NoError(t, err)
	require.False(t, ok)
	_, _, err = r.ByKey(t.Context(), "东")
	require.ErrorContains(t, err, "JSON list of 2")
}

func readOnly(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY)")
	cfg := config(lot, "pass", "id")
	cfg.DSN = sources.Secret(lot.Admin) // an account that could write
	// A query whose text would write if it were let.
	db, _, err := drivers[lot.Driver].Open(t.Context(), withDefaults(cfg))
	require.NoError(t, err)
	defer db.Close()
	conn, err := db.Connect(t.Context(), false)
	require.NoError(t, err)
	_, err = conn.Query(t.Context(), "INSERT INTO pass VALUES (1)", nil, nil)
	require.Error(t, err)
	require.NoError(t, conn.Close())
	var n int
	require.NoError(t, lot.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM pass").Scan(&n))
	require.Zero(t, n)
}

func withDefaults(cfg sources.Config) sources.Config {
	cfg.Defaults()
	return cfg
}

func statementTimeout(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY)")
	lot.Grant(t, "pass")
	cfg := config(lot, "", "id")
	cfg.StatementTimeout = 300 * time.Millisecond
	forever := "WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM c WHERE id < 1000000000) SELECT MAX(id) AS id FROM c"
	cfg.Query = lot.Type(forever, "SELECT id FROM (SELECT 1 AS id, pg_sleep(60) OFFSET 0) s", "SELECT SLEEP(60) AS id FROM DUAL")
	if lot.Driver == "sqlserver" {
		cfg.Query = "SELECT COUNT_BIG(CHECKSUM(a.name, b.name, c.name)) AS id FROM sys.all_columns a CROSS JOIN sys.all_columns b CROSS JOIN sys.all_columns c"
	}
	db, _, err := drivers[lot.Driver].Open(t.Context(), withDefaults(cfg))
	require.NoError(t, err)
	defer db.Close()
	conn, err := db.Connect(t.Context(), false)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Query(t.Context(), "SELECT id FROM ("+cfg.Query+") q", make([]sources.Field, 1), nil)
	if lot.Driver == "mysql" && err == nil {
		// An interrupted SLEEP returns 1 and no error; heavy work is what counts.
		_, err = conn.Query(t.Context(), forever, make([]sources.Field, 1), nil)
	}
	require.Error(t, err)
}

func twoConnections(t *testing.T, lot *testdb.Lot) {
	if lot.Driver == "sqlite" {
		return // a file has no connections to count
	}
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY)")
	lot.Grant(t, "pass")
	r := open(t, config(lot, "pass", "id"), "id")
	var readers sync.WaitGroup
	for range 16 {
		readers.Go(func() {
			for range 20 {
				if _, err := pageOf(t, r, sources.Range{}, 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	most := 0
	done := make(chan struct{})
	go func() { readers.Wait(); close(done) }()
	for count := true; count; {
		select {
		case <-done:
			count = false
		default:
			var n int
			q := lot.Type("", "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'parkbridge' AND datname = current_database()",
				"SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND user LIKE '%\\_r'")
			if lot.Driver == "sqlserver" {
				q = "SELECT COUNT(*) FROM sys.dm_exec_sessions WHERE program_name = 'parkbridge' AND login_name = DB_NAME() + '_r'"
			}
			require.NoError(t, lot.DB.QueryRowContext(t.Context(), q).Scan(&n))
			most = max(most, n)
		}
	}
	require.LessOrEqual(t, most, 2)
	require.Positive(t, most)
}

// oneSeek asks each engine for its own account of what a page costs, in the
// middle of a table and in the middle of a tie.
func oneSeek(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op INTEGER NOT NULL)")
	lot.Exec(t, "CREATE INDEX pass_op ON pass (op, id)")
	lot.Grant(t, "pass")
	for from := 1; from <= 20000; from += 1000 {
		var values []string
		for i := from; i < from+1000; i++ {
			values = append(values, fmt.Sprintf("(%d, %d)", i, i/5000))
		}
		lot.Exec(t, "INSERT INTO pass VALUES "+strings.Join(values, ","))
	}
	lot.Exec(t, lot.Type("ANALYZE", "ANALYZE pass", "ANALYZE TABLE pass"))
	cfg := config(lot, "pass", "id")
	cfg.Cursor, cfg.DSN = "op", sources.Secret(lot.Admin)
	r := open(t, cfg, "op")
	stmt, args, err := r.PageSQL(sources.Range{After: sources.Position{Values: []string{"2", "12500"}}}, 100)
	require.NoError(t, err)
	conn, err := lot.DB.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	switch lot.Driver {
	case "sqlite":
		plan := queryText(t, conn, "EXPLAIN QUERY PLAN "+stmt, args...)
		require.Contains(t, plan, "SEARCH pass USING COVERING INDEX pass_op (op>?)")
		require.NotContains(t, plan, "TEMP B-TREE")
		// SQLite seeks to the exact place within a tie too, unless the key is
		// an alias of the rowid, as above; then it walks the tie's index entries.
		lot.Exec(t, "CREATE TABLE lane (name TEXT PRIMARY KEY, op INTEGER)")
		lot.Exec(t, "CREATE INDEX lane_op ON lane (op, name)")
		cfg.Table, cfg.Key = "lane", []string{"name"}
		stmt, args, err = open(t, cfg, "op").PageSQL(sources.Range{After: sources.Position{Values: []string{"2", "x"}}}, 100)
		require.NoError(t, err)
		require.Contains(t, queryText(t, conn, "EXPLAIN QUERY PLAN "+stmt, args...), "lane_op ((op,name)>(?,?))")
	case "postgres":
		plan := queryText(t, conn, "EXPLAIN (ANALYZE, FORMAT JSON) "+stmt, args...)
		var out []struct {
			Plan struct {
				Plans []map[string]any `json:"Plans"`
			} `json:"Plan"`
		}
		require.NoError(t, json.Unmarshal([]byte(plan), &out))
		scan := out[0].Plan.Plans[0]
		require.Contains(t, scan["Node Type"], "Index")
		require.Contains(t, scan["Index Cond"], "ROW(")
		require.NotContains(t, scan, "Filter")
	case "sqlserver":
		// The seek begins where the tie does; what is read of it before the position
		// is thrown away.
		_, err := conn.ExecContext(t.Context(), "SET STATISTICS XML ON")
		require.NoError(t, err)
		plan := lastText(t, conn, stmt, args...)
		require.Contains(t, plan, `PhysicalOp="Index Seek"`)
		require.NotContains(t, plan, `PhysicalOp="Sort"`)
		require.NotContains(t, plan, "Scan")
	case "mysql":
		_, err := conn.ExecContext(t.Context(), "FLUSH STATUS")
		require.NoError(t, err)
		rows, err := conn.QueryContext(t.Context(), stmt, args...)
		require.NoError(t, err)
		defer rows.Close()
		n := 0
		for rows.Next() {
			n++
		}
		require.NoError(t, rows.Err())
		require.Equal(t, 100, n)
		var name string
		var next, read int
		for _, counter := range []string{"next", "key", "rnd_next", "first", "prev"} {
			require.NoError(t, conn.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Handler_read_"+counter+"'").Scan(&name, &next))
			read += next
		}
		require.Less(t, read, 110, "100 rows are read, and little more")
	}
}

// lastText gives the one text of the last of several results.
func lastText(t *testing.T, conn *sql.Conn, stmt string, args ...any) (text string) {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), stmt, args...)
	require.NoError(t, err)
	defer rows.Close()
	for more := true; more; more = rows.NextResultSet() {
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			if len(columns) == 1 {
				require.NoError(t, rows.Scan(&text))
			}
		}
	}
	require.NoError(t, rows.Err())
	return text
}

func queryText(t *testing.T, conn *sql.Conn, stmt string, args ...any) string {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), stmt, args...)
	require.NoError(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var out []string
	for rows.Next() {
		cells := make([]string, len(columns))
		dest := make([]any, len(columns))
		for i := range cells {
			dest[i] = &cells[i]
		}
		require.NoError(t, rows.Scan(dest...))
		out = append(out, cells[len(cells)-1])
	}
	require.NoError(t, rows.Err())
	return strings.Join(out, "\n")
}

func mistakes(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, lane VARCHAR(20), Plate_No VARCHAR(20))")
	lot.Grant(t, "pass")
	var ce *sources.ConfigError
	for _, c := range []struct {
		change func(*sources.Config)
		column string
		key    string
		want   string
	}{
		{func(*sources.Config) {}, "plat", "mapping", `"plat" is not a column of table pass, which has id, lane,`},
		{func(c *sources.Config) { c.Cursor = "op_time" }, "id", "cursor", `"op_time" is not a column of`},
		{func(c *sources.Config) { c.Key = []string{"ID2"} }, "id", "key", `"ID2" is not a column of`},
		{func(c *sources.Config) { c.Key = []string{"lane"} }, "id", "cursor", "not an integer"},
		{func(c *sources.Config) { c.Table = "no_such_table" }, "id", "table", "no_such_table is not there"},
		{func(c *sources.Config) { c.Start = "5.5" }, "id", "start", "no value of the cursor id"},
		{func(c *sources.Config) { c.Driver = "oracle" }, "id", "driver", "mysql, postgres, sqlite"},
	} {
		cfg := config(lot, "pass", "id")
		c.change(&cfg)
		_, err := tryOpen(t, cfg, c.column)
		require.ErrorAs(t, err, &ce, c.want)
		require.Equal(t, c.key, ce.Key)
		require.Contains(t, ce.Problem, c.want)
	}
	// The wrong case is no mistake where it is unambiguous.
	require.NotNil(t, open(t, config(lot, "pass", "ID"), "plate_no"))
}

func quoting(t *testing.T, lot *testdb.Lot) {
	q := lot.Type(`"`, `"`, "`")
	table, column := q+"select 放行"+q, q+"出场 时间"+q
	lot.Exec(t, "CREATE TABLE "+table+" ("+q+"order"+q+" INTEGER PRIMARY KEY, "+column+" VARCHAR(20))")
	lot.Grant(t, table)
	lot.Exec(t, "INSERT INTO "+table+" VALUES (1, 'x')")
	require.Equal(t, "x", one(t, open(t, config(lot, "select 放行", "order"), "出场 时间"))[0].Text)
}

func textKeys(t *testing.T, lot *testdb.Lot) {
	lot.Exec(t, "CREATE TABLE pass (k "+lot.Type("TEXT", `text COLLATE "C"`, "VARCHAR(40) COLLATE utf8mb4_bin")+" PRIMARY KEY)")
	lot.Grant(t, "pass")
	want := []string{"'q'", "0017", "17", "1e3", "B01-1", `a"b`, `a\b`, "t'00'", "x'00'", "东"}
	for _, k := range want {
		lot.Exec(t, "INSERT INTO pass VALUES (?)", k)
	}
	cfg := config(lot, "pass", "k")
	cfg.Cursor = "k"
	cfg.Defaults()
	cfg.Query, cfg.Table = "SELECT k, k AS cur FROM pass", ""
	cfg.Cursor = "cur"
	_, rows := readAll(t, open(t, cfg, "k"), sources.Position{}, 1)
	var got []string
	for _, row := range rows {
		got = append(got, row.Values[0].Text)
	}
	require.Equal(t, want, got)
}
