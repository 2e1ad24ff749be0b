package sqlserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parkbridge/sources"
	"parkbridge/sources/sqlserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lot is a table as the stub plays it. Columns are those of the catalog.
type lot struct {
	columns [][]cell // name, type, max_length, precision, scale, collation, code page
	sample  []cell   // a value of each, for its type on the wire
	rows    [][]cell // what every SELECT of the table gives
	// answer comes first; nil where it has nothing to say.
	answer func(statement) []byte
}

func catalogRow(name, typ string, length, precision, scale int64, collation string, page int64) []cell {
	return []cell{nvarchar(name), nvarchar(typ), bigint(length), bigint(precision), bigint(scale), nvarchar(collation), bigint(page)}
}

func (l lot) reply(q statement) []byte {
	if l.answer != nil {
		if b := l.answer(q); b != nil {
			return b
		}
	}
	var names []string
	for _, c := range l.columns {
		names = append(names, fromUCS2(c[0].data[2:]))
	}
	switch {
	case strings.Contains(q.sql, "sys.all_columns"):
		return table([]string{"name", "type", "length", "precision", "scale", "collation", "page"}, false, l.columns...)
	case strings.Contains(q.sql, "sys.identity_columns"):
		return assigned(7, true, "bigint", 1, false, false, false)
	case strings.HasPrefix(q.sql, "SELECT TOP (0)"):
		return table(names, true, l.sample)
	}
	if len(l.rows) == 0 {
		return table(names, true, l.sample)
	}
	return table(make([]string, len(l.rows[0])), false, l.rows...)
}

func assigned(id int64, identity bool, typ string, increment int64, replicated, merged, inMemory bool) []byte {
	return table(make([]string, 7), false, []cell{bigint(id), bit(identity), nvarchar(typ), bigint(increment), bit(replicated), bit(merged), bit(inMemory)})
}

func config(s *stub, options string) sources.Config {
	c := sources.Config{Name: "lot", Driver: "sqlserver", DSN: sources.Secret(s.dsn(options)), Table: "dbo.pass", Key: []string{"id"}, Start: "earliest"}
	c.Defaults()
	return c
}

var drivers = sources.NewRegistry(sqlserver.Driver())

func openLot(t *testing.T, l lot, change func(*sources.Config), needs ...sources.Need) (*stub, *sources.Reader) {
	t.Helper()
	s := newStub(t, l.reply)
	cfg := config(s, "")
	if change != nil {
		change(&cfg)
	}
	r, err := sources.Open(t.Context(), drivers, cfg, needs)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	s.statements()
	return s, r
}

func inSession(t *testing.T, r *sources.Reader, f func(*sources.Session) error) error {
	t.Helper()
	s, err := r.Session(t.Context(), true)
	require.NoError(t, err)
	return errors.Join(f(s), s.Close())
}

func passLot(rows ...[]cell) lot {
	return lot{
		columns: [][]cell{
			catalogRow("id", "bigint", 8, 19, 0, "", 0),
			catalogRow("op", "datetime", 8, 23, 3, "", 0),
			catalogRow("lane", "varchar", 10, 0, 0, "Chinese_PRC_CI_AS", 936),
			catalogRow("plate", "nvarchar", 40, 0, 0, "Chinese_PRC_CI_AS", 936),
		},
		sample: []cell{bigint(1), datetime(46325, 10*3600*300), varchar(prc, []byte("A")), nvarchar("粤B12345")},
		rows:   rows,
	}
}

// datetime is days since 1900 and 1/300 s since midnight.
func datetime(days int32, ticks uint32) cell {
	b := binary.LittleEndian.AppendUint32(nil, uint32(days))
	return byteLen([]byte{0x6f, 8}, binary.LittleEndian.AppendUint32(b, ticks)...)
}

// Collations as the protocol names them: a locale and flags, and a sort id.
var (
	prc    = []byte{0x04, 0x08, 0xd0, 0, 0}  // Chinese_PRC_CI_AS, code page 936
	taiwan = []byte{0x04, 0x04, 0xd0, 0, 0}  // Chinese_Taiwan_Stroke_CI_AS, code page 950
	latin1 = []byte{0x09, 0x04, 0xd0, 0, 52} // SQL_Latin1_General_CP1_CI_AS
)

func varchar(collation, b []byte) cell {
	return shortLen(append([]byte{0xa7, 0x40, 0x1f}, collation...), b)
}

func TestDSN(t *testing.T) {
	t.Parallel()
	const form = "is not of the form sqlserver://user:password@host:1433?database=lot, or one of its options is wrong (docs/sqlserver.md lists them)"
	check := sqlserver.Driver().CheckDSN
	for dsn, want := range map[string]string{
		"sqlserver://u:p@host:1433?database=lot":                        "",
		`sqlserver://u:p@host/SQLEXPRESS?database=lot&encrypt=disable`:  "",
		"sqlserver://u:p@host?database=lot&encrypt=strict&tlsmin=1.3":   "",
		`server=host\SQLEXPRESS;user id=u;password="p;w";database=lot`:  "",
		"odbc:server=host;user id=u;password={p;w};database=lot":        "",
		"sqlserver://u:s3cret@host:1433":                                "names no database; add ?database=NAME to it",
		"server=host;user id=u;password=s3cret":                         "names no database; add ?database=NAME to it",
		"sqlserver://u:s3cret@host:port?database=lot":                   form,
		"sqlserver://u:s3cret@host?database=lot&encrypt=sometimes":      form,
		"sqlserver://u:s3cret@host?database=lot&database=s3cret":        form,
		"sqlserver://u:s3cret%@host?database=lot":                       form,
		"u:s3cret@tcp(host:1433)/lot":                                   form,
		"sqlserver://u:s3cret@host?database=lot&certificate=s3cret.pem": form,
	} {
		err := check(dsn)
		if want == "" {
			require.NoError(t, err, dsn)
			continue
		}
		require.EqualError(t, err, want, dsn)
	}
}

// The statements that are sent, to the letter, and what is bound to them.
func TestStatements(t *testing.T) {
	t.Parallel()
	byTime := func(c *sources.Config) { c.Cursor = "op" }
	byLane := func(c *sources.Config) { c.Key, c.Cursor = []string{"lane", "id"}, "op" }
	at := func(v ...string) sources.Position { return sources.Position{Values: v} }
	page := func(in sources.Range) func(*testing.T, *sources.Session) {
		return func(t *testing.T, s *sources.Session) {
			t.Helper()
			_, err := s.Page(t.Context(), in, 100)
			require.NoError(t, err)
		}
	}
	const columns = "[id], [plate] FROM [dbo].[pass]"
	for name, c := range map[string]struct {
		change func(*sources.Config)
		run    func(*testing.T, *sources.Session)
		sql    string
		params string
		args   []any
	}{
		"first page": {
			nil, page(sources.Range{}),
			"SELECT TOP (@p1) " + columns + " WHERE [id] IS NOT NULL ORDER BY [id]", "@p1 bigint", []any{int64(100)},
		},
		"after": {
			nil, page(sources.Range{After: at("9007199254740993")}),
			"SELECT TOP (@p2) " + columns + " WHERE [id] > CAST(@p1 AS bigint) ORDER BY [id]", "@p1 bigint,@p2 bigint", []any{int64(9007199254740993), int64(100)},
		},
		"from, newest first": {
			nil, page(sources.Range{After: sources.Position{Values: []string{"5"}, Inclusive: true}, UpTo: at("9"), Below: true, Newest: true}),
			"SELECT TOP (@p3) " + columns + " WHERE [id] >= CAST(@p1 AS bigint) AND [id] < CAST(@p2 AS bigint) ORDER BY [id] DESC", "@p1 bigint,@p2 bigint,@p3 bigint",
			[]any{int64(5), int64(9), int64(100)},
		},
		"where": {
			func(c *sources.Config) { c.Where = "st = 3 -- opened by hand" }, page(sources.Range{After: at("1")}),
			"SELECT TOP (@p2) " + columns + " WHERE (st = 3 -- opened by hand\n) AND [id] > CAST(@p1 AS bigint) ORDER BY [id]", "@p1 bigint,@p2 bigint", []any{int64(1), int64(100)},
		},
		"query": {
			func(c *sources.Config) { c.Table, c.Query = "", "SELECT * FROM pass" }, page(sources.Range{After: at("1")}),
			"SELECT TOP (@p2) [id], [plate] FROM (SELECT * FROM pass\n) AS [source_query] WHERE [id] > CAST(@p1 AS bigint) ORDER BY [id]", "@p1 bigint,@p2 bigint", []any{int64(1), int64(100)},
		},
		"a datetime and a tie": {
			byTime, page(sources.Range{After: at("2026-11-01 10:00:00.007", "17"), UpTo: at("2026-11-01 12:00:00.123456")}),
			"SELECT TOP (@p6) [op], " + columns + " WHERE ([op] >= CAST(@p1 AS datetime) AND ([op] > CAST(@p2 AS datetime) OR ([op] = CAST(@p3 AS datetime) AND [id] > CAST(@p4 AS bigint)))) AND [op] <= CAST(@p5 AS datetime) ORDER BY [op], [id]",
			"@p1 nvarchar(23),@p2 nvarchar(23),@p3 nvarchar(23),@p4 bigint,@p5 nvarchar(23),@p6 bigint",
			[]any{"2026-11-01T10:00:00.007", "2026-11-01T10:00:00.007", "2026-11-01T10:00:00.007", int64(17), "2026-11-01T12:00:00.123", int64(100)},
		},
		"text of a collation": {
			byLane, page(sources.Range{After: at("2026-11-01 10:00:00", "东", "1")}),
			"SELECT TOP (@p7) [op], [lane], " + columns + " WHERE ([op] >= CAST(@p1 AS datetime) AND ([op] > CAST(@p2 AS datetime) OR ([op] = CAST(@p3 AS datetime) AND ([lane] > CAST(@p4 COLLATE Chinese_PRC_CI_AS AS varchar(8000)) OR ([lane] = CAST(@p5 COLLATE Chinese_PRC_CI_AS AS varchar(8000)) AND [id] > CAST(@p6 AS bigint)))))) ORDER BY [op], [lane], [id]",
			"@p1 nvarchar(23),@p2 nvarchar(23),@p3 nvarchar(23),@p4 nvarchar(1),@p5 nvarchar(1),@p6 bigint,@p7 bigint",
			[]any{"2026-11-01T10:00:00.000", "2026-11-01T10:00:00.000", "2026-11-01T10:00:00.000", "东", "东", int64(1), int64(100)},
		},
		"highest": {
			nil, func(t *testing.T, s *sources.Session) {
				_, err := s.Highest(t.Context(), sources.Range{})
				require.NoError(t, err)
			},
			"SELECT TOP (@p1) " + columns + " WHERE [id] IS NOT NULL ORDER BY [id] DESC", "@p1 bigint", []any{int64(1)},
		},
		"by keys": {
			byLane, func(t *testing.T, s *sources.Session) {
				_, err := s.ByKeys(t.Context(), []string{`["A","1"]`, `["东","2"]`})
				require.NoError(t, err)
			},
			"SELECT [op], [lane], " + columns + " WHERE (([lane] = CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000)) AND [id] = CAST(@p2 AS bigint)) OR ([lane] = CAST(@p3 COLLATE Chinese_PRC_CI_AS AS varchar(8000)) AND [id] = CAST(@p4 AS bigint)))",
			"@p1 nvarchar(1),@p2 bigint,@p3 nvarchar(1),@p4 bigint", []any{"A", int64(1), "东", int64(2)},
		},
		"without a cursor": {
			byTime, func(t *testing.T, s *sources.Session) {
				_, err := s.Nulls(t.Context(), "17", 50)
				require.NoError(t, err)
			},
			"SELECT TOP (@p2) [op], " + columns + " WHERE [op] IS NULL AND [id] < CAST(@p1 AS bigint) ORDER BY [id] DESC", "@p1 bigint,@p2 bigint", []any{int64(17), int64(50)},
		},
		"count of those": {
			byTime, func(t *testing.T, s *sources.Session) {
				_, err := s.CountNulls(t.Context(), 1000)
				require.NoError(t, err)
			},
			"SELECT TOP (@p1) [id] FROM [dbo].[pass] WHERE [op] IS NULL", "@p1 bigint", []any{int64(1000)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := passLot()
			if name == "query" {
				l.answer = func(statement) []byte { return table([]string{"id", "plate"}, true, []cell{bigint(1), nvarchar("x")}) }
			}
			s, r := openLot(t, l, c.change, sources.Need{Column: "id"}, sources.Need{Column: "plate"})
			require.NoError(t, inSession(t, r, func(s *sources.Session) error { c.run(t, s); return nil }))
			got := s.statements()
			require.Len(t, got, 1)
			require.Equal(t, c.sql, got[0].sql)
			require.Equal(t, c.params, got[0].params)
			require.Equal(t, c.args, got[0].args)
		})
	}
}

// Each connection is readied before its first statement, and again, reset by the
// server, each time it is taken from the pool.
func TestConnectionIsReadied(t *testing.T) {
	t.Parallel()
	const ready = "SET DEADLOCK_PRIORITY LOW; SET DATEFORMAT ymd; IF EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID() AND is_read_committed_snapshot_on = 0 AND snapshot_isolation_state = 1) SET TRANSACTION ISOLATION LEVEL SNAPSHOT ELSE SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCK_TIMEOUT 0"
	l := passLot()
	s, r := openLot(t, l, nil, sources.Need{Column: "plate"})
	for range 2 {
		require.NoError(t, inSession(t, r, func(s *sources.Session) error { _, err := s.Page(t.Context(), sources.Range{}, 1); return err }))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.seen, 4)
	for i, q := range s.seen {
		require.Equal(t, i%2 == 0, q.reset)
		if q.reset {
			require.Equal(t, ready, q.sql)
		}
	}
}

// A row that is locked is not waited for: the page is read again without it, and
// says so.
func TestLockedRows(t *testing.T) {
	t.Parallel()
	l := passLot([]cell{bigint(2), nvarchar("粤B12345")})
	l.answer = func(q statement) []byte {
		if strings.Contains(q.sql, "[dbo].[pass] WHERE ") {
			return failure(1222, "Lock request time out period exceeded.")
		}
		return nil
	}
	for name, read := range map[string]func(*sources.Session) (sources.Page, error){
		"page":  func(s *sources.Session) (sources.Page, error) { return s.Page(t.Context(), sources.Range{}, 10) },
		"nulls": func(s *sources.Session) (sources.Page, error) { return s.Nulls(t.Context(), "", 10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := openLot(t, l, nil, sources.Need{Column: "plate"})
			require.NoError(t, inSession(t, r, func(s *sources.Session) error {
				page, err := read(s)
				require.True(t, page.Held)
				require.Len(t, page.Rows, 1)
				return err
			}))
			got := s.statements()
			require.Len(t, got, 2)
			require.Equal(t, strings.Replace(got[0].sql, "[dbo].[pass] WHERE", "[dbo].[pass] WITH (READPAST) WHERE", 1), got[1].sql)
			require.Equal(t, got[0].args, got[1].args)
		})
	}
}

func TestErrorsThatPass(t *testing.T) {
	t.Parallel()
	open := func(number int32, text string) *sources.Reader {
		l := passLot()
		l.answer = func(q statement) []byte {
			if strings.Contains(q.sql, "[dbo].[pass] WHERE ") {
				return failure(number, text)
			}
			return nil
		}
		_, r := openLot(t, l, nil, sources.Need{Column: "plate"})
		return r
	}
	r := open(1222, "Lock request time out period exceeded.")
	require.NoError(t, inSession(t, r, func(s *sources.Session) error {
		_, err := s.ByKeys(t.Context(), []string{"1"})
		require.ErrorIs(t, err, sources.ErrLocked)
		_, err = s.Page(t.Context(), sources.Range{Whole: true}, 10)
		require.EqualError(t, err, "reading table dbo.pass: the database is busy: another session holds rows of it locked: mssql: Lock request time out period exceeded. (1222)")
		require.ErrorIs(t, err, sources.ErrBusy)
		return nil
	}))
	for number, busy := range map[int32]bool{1205: true, 3961: true, 245: false} {
		require.Equal(t, busy, errors.Is(readPage(t, open(number, "No.")), sources.ErrBusy), number)
	}
}

func readPage(t *testing.T, r *sources.Reader) error {
	t.Helper()
	return inSession(t, r, func(s *sources.Session) error { _, err := s.Page(t.Context(), sources.Range{}, 10); return err })
}

// Rows that are written and not committed show in a dirty read of the keys.
func TestDirtyRead(t *testing.T) {
	t.Parallel()
	l := passLot()
	dirty := false
	l.answer = func(q statement) []byte {
		switch {
		case strings.HasPrefix(q.sql, "SET"):
			dirty = strings.HasSuffix(q.sql, "READ UNCOMMITTED")
			return done(0)
		case strings.Contains(q.sql, "IS NOT NULL"):
			rows := [][]cell{{bigint(3)}, {bigint(1)}}
			if !dirty {
				rows = rows[1:]
			}
			return table([]string{"id"}, false, rows...)
		}
		return nil
	}
	s, r := openLot(t, l, nil, sources.Need{Column: "plate"})
	require.NoError(t, inSession(t, r, func(s *sources.Session) error {
		key, err := s.InFlight(t.Context(), sources.Range{Newest: true}, 1000)
		require.Equal(t, "3", key)
		return err
	}))
	var got []string
	for _, q := range s.statements() {
		got = append(got, q.sql[:min(len(q.sql), 27)])
	}
	require.Equal(t, []string{"SET TRANSACTION ISOLATION L", "SELECT TOP (@p1) [id] FROM ", "SET DEADLOCK_PRIORITY LOW; ", "SELECT TOP (@p1) [id] FROM "}, got)
}

// What the driver decodes comes out without loss, and goes back into a position
// and a parameter that mean the same.
func TestValues(t *testing.T) {
	t.Parallel()
	f64 := func(f float64) cell {
		return byteLen([]byte{0x6d, 8}, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))...)
	}
	f32 := func(f float32) cell {
		return byteLen([]byte{0x6d, 4}, binary.LittleEndian.AppendUint32(nil, math.Float32bits(f))...)
	}
	money := func(n int64) cell {
		b := binary.LittleEndian.AppendUint32(nil, uint32(n>>32))
		return byteLen([]byte{0x6e, 8}, binary.LittleEndian.AppendUint32(b, uint32(n))...)
	}
	numeric := func(precision, scale byte, n uint64) cell {
		return byteLen([]byte{0x6c, 9, precision, scale}, binary.LittleEndian.AppendUint64([]byte{1}, n)...)
	}
	datetime2 := func(scale byte, units uint64, day uint32) cell {
		width := map[byte]int{0: 3, 3: 4, 7: 5}[scale]
		b := append(binary.LittleEndian.AppendUint64(nil, units)[:width:width], binary.LittleEndian.AppendUint32(nil, day)[:3]...)
		return byteLen([]byte{0x2a, scale}, b...)
	}
	offset := datetime2(7, 2*36000000000+1, 739920)
	offset.info[0] = 0x2b
	offset.data = append(append([]byte{10}, offset.data[1:]...), 0xe0, 0x01) // +08:00, the time is that of UTC
	day := cell{[]byte{0x28}, append([]byte{3}, binary.LittleEndian.AppendUint32(nil, 739920)[:3]...)}
	guid, err := hex.DecodeString("52ccf049c7e8e341b54daf666b8cc11a")
	require.NoError(t, err)
	long := func(kind byte, collation, b []byte) cell { // text, ntext, image
		info := append([]byte{kind, 0xff, 0xff, 0xff, 0x7f}, collation...)
		info = append(info, 1, 1, 0, 't', 0)
		data := append(append([]byte{16}, make([]byte, 24)...), binary.LittleEndian.AppendUint32(nil, uint32(len(b)))...)
		return cell{info, append(data, b...)}
	}
	gbk := []byte("\xd4\xc1B12345") // 粤B12345
	v := func(k sources.Kind, text string) sources.Value { return sources.Value{Kind: k, Text: text} }
	const cjk = "Chinese_PRC_CI_AS"
	for name, c := range map[string]struct {
		column []cell
		raw    bool
		cell   cell
		want   sources.Value
		native string // "": it cannot be a key or cursor
		param  string // what it is bound to
		sel    string // how it is selected; "": by its name
	}{
		"bit":          {catalogRow("c", "bit", 1, 1, 0, "", 0), false, bit(true), v(sources.Bool, "true"), "true", "CAST(@p1 AS bit)", ""},
		"tinyint":      {catalogRow("c", "tinyint", 1, 3, 0, "", 0), false, byteLen([]byte{0x26, 1}, 255), v(sources.Int, "255"), "255", "CAST(@p1 AS tinyint)", ""},
		"bigint":       {catalogRow("c", "bigint", 8, 19, 0, "", 0), false, bigint(math.MinInt64), v(sources.Int, "-9223372036854775808"), "-9223372036854775808", "CAST(@p1 AS bigint)", ""},
		"numeric":      {catalogRow("c", "numeric", 9, 18, 0, "", 0), false, numeric(18, 0, 900719925474099267), v(sources.Decimal, "900719925474099267"), "900719925474099267", "CAST(@p1 AS numeric(18,0))", ""},
		"decimal":      {catalogRow("c", "decimal", 9, 18, 4, "", 0), false, numeric(18, 4, 123456789012345000), v(sources.Decimal, "12345678901234.5000"), "12345678901234.5000", "CAST(@p1 AS decimal(18,4))", ""},
		"money":        {catalogRow("c", "money", 8, 19, 4, "", 0), false, money(-1), v(sources.Decimal, "-0.0001"), "-0.0001", "CAST(@p1 AS money)", ""},
		"money, large": {catalogRow("c", "money", 8, 19, 4, "", 0), false, money(math.MaxInt64), v(sources.Decimal, "922337203685477.5807"), "922337203685477.5807", "CAST(@p1 AS money)", ""},
		"float":        {catalogRow("c", "float", 8, 53, 0, "", 0), false, f64(0.1), v(sources.Float, "0.1"), "0.1", "CAST(@p1 AS float)", ""},
		"float, 17":    {catalogRow("c", "float", 8, 53, 0, "", 0), false, f64(math.Nextafter(0.3, 1)), v(sources.Float, "0.30000000000000004"), "0.30000000000000004", "CAST(@p1 AS float)", ""},
		"real":         {catalogRow("c", "real", 4, 24, 0, "", 0), false, f32(0.1), v(sources.Float, "0.1"), "0.1", "CAST(@p1 AS real)", ""},
		"datetime":     {catalogRow("c", "datetime", 8, 23, 3, "", 0), false, datetime(46325, 300*36000+2), v(sources.Local, "2026-11-01 10:00:00.007"), "2026-11-01 10:00:00.007", "CAST(@p1 AS datetime)", ""},
		"datetime, whole": {
			catalogRow("c", "datetime", 8, 23, 3, "", 0), false, datetime(46325, 300*36000), v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", "CAST(@p1 AS datetime)", "",
		},
		"smalldatetime": {
			catalogRow("c", "smalldatetime", 4, 16, 0, "", 0), false, byteLen([]byte{0x6f, 4}, 0xf5, 0xb4, 0x58, 0x02),
			v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", "CAST(@p1 AS smalldatetime)", "",
		},
		"datetime2(7)": {
			catalogRow("c", "datetime2", 8, 27, 7, "", 0), false, datetime2(7, 10*36000000000+1234567, 739920),
			v(sources.Local, "2026-11-01 10:00:00.1234567"), "2026-11-01 10:00:00.1234567", "CAST(@p1 AS datetime2(7))", "",
		},
		"datetime2(0)": {
			catalogRow("c", "datetime2", 6, 19, 0, "", 0), false, datetime2(0, 36000, 739920), v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", "CAST(@p1 AS datetime2(0))", "",
		},
		"datetimeoffset": {
			catalogRow("c", "datetimeoffset", 10, 34, 7, "", 0), false, offset, v(sources.Time, "2026-11-01 10:00:00.0000001+08:00"), "2026-11-01 10:00:00.0000001+08:00", "CAST(@p1 AS datetimeoffset(7))", "",
		},
		"date":             {catalogRow("c", "date", 3, 10, 0, "", 0), false, day, v(sources.Local, "2026-11-01"), "2026-11-01", "CAST(@p1 AS date)", ""},
		"time":             {catalogRow("c", "time", 4, 12, 3, "", 0), false, byteLen([]byte{0x29, 3}, 0x02, 0x51, 0x25, 0x02), v(sources.Text, "10:00:00.002"), "10:00:00.002", "CAST(@p1 AS time(3))", ""},
		"uniqueidentifier": {catalogRow("c", "uniqueidentifier", 16, 0, 0, "", 0), false, byteLen([]byte{0x24, 16}, guid...), v(sources.Text, "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A"), "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A", "CAST(@p1 AS uniqueidentifier)", ""},
		"rowversion":       {catalogRow("c", "timestamp", 8, 0, 0, "", 0), false, shortLen([]byte{0xad, 8, 0}, []byte{0, 0, 0, 0, 0, 0, 7, 0xe3}), v(sources.Bytes, "\x00\x00\x00\x00\x00\x00\x07\xe3"), "0x00000000000007e3", "CAST(@p1 AS binary(8))", ""},
		"varbinary":        {catalogRow("c", "varbinary", 20, 0, 0, "", 0), false, varbinary([]byte{0, 0xff}), v(sources.Bytes, "\x00\xff"), "0x00ff", "CAST(@p1 AS varbinary(8000))", ""},
		"char, padded":     {catalogRow("c", "char", 6, 0, 0, cjk, 936), false, shortLen(append([]byte{0xaf, 6, 0}, prc...), []byte("ab    ")), v(sources.Text, "ab    "), "ab    ", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", ""},
		"varchar, GBK":     {catalogRow("c", "varchar", 20, 0, 0, cjk, 936), false, varchar(prc, gbk), v(sources.Text, "粤B12345"), "粤B12345", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", ""},
		"varchar, Big5":    {catalogRow("c", "varchar", 20, 0, 0, "Chinese_Taiwan_Stroke_CI_AS", 950), false, varchar(taiwan, []byte("\xb8\x54")), v(sources.Text, "禁"), "禁", "CAST(@p1 COLLATE Chinese_Taiwan_Stroke_CI_AS AS varchar(8000))", ""},
		"varchar, Latin":   {catalogRow("c", "varchar", 20, 0, 0, "SQL_Latin1_General_CP1_CI_AS", 1252), false, varchar(latin1, []byte("caf\xe9")), v(sources.Text, "café"), "café", "CAST(@p1 COLLATE SQL_Latin1_General_CP1_CI_AS AS varchar(8000))", ""},
		"varchar, cut in a character": {
			catalogRow("c", "varchar", 20, 0, 0, cjk, 936), false, varchar(prc, []byte("ab\xd4")), v(sources.Bad, "ab\ufffd"), "", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", "",
		},
		"varchar, raw, declared as what it is": {
			catalogRow("c", "varchar", 20, 0, 0, cjk, 936), true, varchar(prc, gbk), v(sources.Text, "粤B12345"), "粤B12345", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", "",
		},
		"varchar, raw, GBK in Latin": {
			catalogRow("c", "varchar", 20, 0, 0, "SQL_Latin1_General_CP1_CI_AS", 1252), true, varbinary(gbk), v(sources.Bytes, string(gbk)), "",
			"CAST(@p1 COLLATE SQL_Latin1_General_CP1_CI_AS AS varchar(8000))", "CAST([c] AS varbinary(max))",
		},
		"varchar of UTF-8": {
			catalogRow("c", "varchar", 20, 0, 0, "Latin1_General_100_CI_AS_SC_UTF8", 65001), false, nvarchar("粤B12345"), v(sources.Text, "粤B12345"), "粤B12345",
			"CAST(@p1 COLLATE Latin1_General_100_CI_AS_SC_UTF8 AS varchar(8000))", "CAST([c] AS nvarchar(max))",
		},
		"nvarchar": {catalogRow("c", "nvarchar", 40, 0, 0, cjk, 936), true, nvarchar("粤B12345🚗"), v(sources.Text, "粤B12345🚗"), "粤B12345🚗", "CAST(@p1 AS nvarchar(4000))", ""},
		"text":     {catalogRow("c", "text", 16, 0, 0, cjk, 936), false, long(0x23, prc, gbk), v(sources.Text, "粤B12345"), "", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS text)", ""},
		"text, raw": {
			catalogRow("c", "text", 16, 0, 0, "SQL_Latin1_General_CP1_CI_AS", 1252), true, varbinary(gbk), v(sources.Bytes, string(gbk)), "",
			"CAST(@p1 COLLATE SQL_Latin1_General_CP1_CI_AS AS text)", "CAST(CAST([c] AS varchar(max)) AS varbinary(max))",
		},
		"ntext":       {catalogRow("c", "ntext", 16, 0, 0, cjk, 936), false, long(0x63, prc, ucs2("粤B")), v(sources.Text, "粤B"), "", "CAST(@p1 AS ntext)", ""},
		"image":       {catalogRow("c", "image", 16, 0, 0, "", 0), false, long(0x22, nil, []byte{0xff, 0xd8}), v(sources.Bytes, "\xff\xd8"), "", "CAST(@p1 AS image)", ""},
		"sql_variant": {catalogRow("c", "sql_variant", 8016, 0, 0, "", 0), false, nvarchar("17"), v(sources.Text, "17"), "", "CAST(@p1 AS sql_variant)", "CAST([c] AS nvarchar(4000))"},
		"NULL":        {catalogRow("c", "datetime", 8, 23, 3, "", 0), false, byteLen([]byte{0x6f, 8}), sources.Value{}, "", "CAST(@p1 AS datetime)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lot{
				columns: [][]cell{catalogRow("id", "bigint", 8, 19, 0, "", 0), c.column},
				sample:  []cell{bigint(1), c.cell}, rows: [][]cell{{bigint(1), c.cell}},
			}
			s, r := openLot(t, l, nil, sources.Need{Column: "c", Raw: c.raw})
			require.NoError(t, inSession(t, r, func(s *sources.Session) error {
				page, err := s.Page(t.Context(), sources.Range{}, 10)
				require.NoError(t, err)
				require.Equal(t, []sources.Value{c.want}, page.Rows[0].Values)
				return err
			}))
			sel := c.sel
			if sel == "" {
				sel = "[c]"
			}
			require.Contains(t, s.statements()[0].sql, "SELECT TOP (@p1) [id], "+sel+" FROM ")

			db, dialect, err := sqlserver.Driver().Open(t.Context(), config(s, ""))
			require.NoError(t, err)
			defer db.Close()
			columns, err := db.Columns(t.Context(), "*", "[dbo].[pass]")
			require.NoError(t, err)
			require.Equal(t, c.param, dialect.Param(1, columns[1]))
			if c.want.IsNull() {
				return
			}
			native, err := dialect.Native(columns[1], c.want)
			if c.native == "" {
				require.ErrorContains(t, err, "cannot be a key or cursor")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.native, native)
			_, err = dialect.Arg(columns[1], native)
			require.NoError(t, err)
		})
	}
}

// Each 1/300 s of a datetime has a text that gives it back: SQL Server rounds a
// text to the nearest 1/300 s.
func TestDatetimeSteps(t *testing.T) {
	t.Parallel()
	l := passLot()
	for tick := range 300 {
		l.rows = append(l.rows, []cell{datetime(46325, uint32(300*86399+tick)), bigint(int64(tick))})
	}
	s, r := openLot(t, l, func(c *sources.Config) { c.Cursor = "op" }, sources.Need{Column: "op"})
	require.NoError(t, inSession(t, r, func(session *sources.Session) error {
		page, err := session.Page(t.Context(), sources.Range{}, 300)
		require.NoError(t, err)
		require.Equal(t, "2026-11-01 23:59:59.997", page.Rows[299].Values[0].Text)
		s.statements()
		seen := map[string]bool{}
		for tick, row := range page.Rows {
			_, err := session.Page(t.Context(), sources.Range{After: row.Position}, 1)
			require.NoError(t, err)
			bound, ok := s.statements()[0].args[0].(string)
			require.True(t, ok)
			var ms int
			_, err = fmt.Sscanf(bound, "2026-11-01T23:59:59.%03d", &ms)
			require.NoError(t, err)
			require.Equal(t, tick, int(math.Round(float64(ms)*0.3)), bound)
			require.False(t, seen[bound])
			seen[bound] = true
		}
		return nil
	}))
}

// What is typed or stored as a position goes to the server in one form only.
func TestArguments(t *testing.T) {
	t.Parallel()
	_, dialect, err := sqlserver.Driver().Open(t.Context(), config(newStub(t, passLot().reply), ""))
	require.NoError(t, err)
	for _, c := range []struct{ typ, native, want string }{
		{"datetime", "2026-11-01", "2026-11-01T00:00:00.000"},
		{"datetime", "2026-11-01 10:00", "2026-11-01T10:00:00.000"},
		{"datetime", "2026-11-01 10:00:00.1", "2026-11-01T10:00:00.100"},
		{"datetime", "2026-11-01T10:00:00.123456", "2026-11-01T10:00:00.123"},
		{"smalldatetime", "2026-11-01 10:00:00.5", "2026-11-01T10:00:00"},
		{"datetime2(7)", "2026-11-01 10:00:00.1234567", "2026-11-01T10:00:00.1234567"},
		{"datetimeoffset(3)", "2026-11-01 10:00:00Z", "2026-11-01T10:00:00.000+00:00"},
		{"datetimeoffset(3)", "2026-11-01 10:00:00.25 +08:00", "2026-11-01T10:00:00.250+08:00"},
		{"date", "2026-11-01 10:00:00", "2026-11-01"},
		{"money", "1.5", "1.5"},
		{"numeric(18,0)", "17", "17"},
	} {
		got, err := dialect.Arg(sources.Column{Type: c.typ}, c.native)
		require.NoError(t, err, c)
		require.Equal(t, c.want, got, c)
	}
	for _, c := range []struct{ typ, native, want string }{
		{"datetime", "01/11/2026", "is not a date-time such as 2026-11-01 10:00:00"},
		{"datetime", "2026-11-01 10:00:00+08:00", "has a zone, which the column has not"},
		{"int", "1.5", "is not an integer"},
		{"float", "x", "is not a number"},
		{"timestamp", "17", "is not of the form 0x…, which a binary column needs"},
		{"timestamp", "0xg0", "is not of the form 0x…, which a binary column needs"},
	} {
		_, err := dialect.Arg(sources.Column{Type: c.typ, Binary: c.typ == "timestamp"}, c.native)
		require.EqualError(t, err, c.want, c)
	}
}

// Whether the server assigns a cursor's values, and why not.
func TestAssigned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table  string
		answer []byte
		why    string // "" where it is class server
	}{
		"identity":            {"dbo.pass", assigned(7, true, "bigint", 1, false, false, false), ""},
		"numeric identity":    {"dbo.pass", assigned(7, true, "numeric", 1, false, false, false), ""},
		"rowversion":          {"dbo.pass", assigned(7, false, "timestamp", 0, false, false, false), ""},
		"plain":               {"dbo.pass", assigned(7, false, "bigint", 0, false, false, false), "id is neither an IDENTITY nor a rowversion column"},
		"steps":               {"dbo.pass", assigned(7, true, "bigint", 10, false, false, false), "id counts in steps of 10: several servers hand out numbers"},
		"not for replication": {"dbo.pass", assigned(7, true, "bigint", 1, true, false, false), "id is NOT FOR REPLICATION or merged: rows of other servers come with numbers of theirs"},
		"merged":              {"dbo.pass", assigned(7, true, "bigint", 1, false, true, false), "id is NOT FOR REPLICATION or merged: rows of other servers come with numbers of theirs"},
		"in memory":           {"dbo.pass", assigned(7, true, "bigint", 1, false, false, true), "dbo.pass is kept in memory, where writers show no locks"},
		"a view":              {"dbo.pass", table([]string{"x"}, true, []cell{bigint(1)}), "dbo.pass is not a table of this database"},
		"another database":    {"other.dbo.pass", nil, "other.dbo.pass is a table of another database; name that one in the dsn"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := passLot()
			l.answer = func(q statement) []byte {
				if strings.Contains(q.sql, "sys.identity_columns") {
					require.Equal(t, []any{"[dbo].[pass]", "id"}, q.args)
					return c.answer
				}
				return nil
			}
			_, r := openLot(t, l, func(cfg *sources.Config) { cfg.Table = c.table }, sources.Need{Column: "plate"})
			require.Equal(t, c.why == "", r.Class().Server)
			if c.why != "" {
				require.Equal(t, c.why, r.Class().Why)
			}
		})
	}
}

func looked(access, version string, state, performance bool) []byte {
	now := byteLen([]byte{0x2a, 7}, 0, 0, 0, 0, 0, 0x90, 0x4a, 0x0b)
	return table(make([]string, 5), false, []cell{now, nvarchar(access), nvarchar(version), bit(state), bit(performance)})
}

// The evidence of an identity column is who holds a lock for writing.
func TestWriters(t *testing.T) {
	t.Parallel()
	none := byteLen([]byte{0x6f, 8})
	look := looked("READ_WRITE", "10.50.6000.34", true, false)
	writers := [][]cell{
		{bigint(41), bigint(55), bigint(2), datetime(46325, 300*36000), nvarchar("lane1"), nvarchar("Barrier.exe")},
		{bigint(42), bigint(-2), bigint(5), none, nvarchar(""), nvarchar("")},
		{bigint(43), bigint(56), bigint(5), none, nvarchar("x"), nvarchar("y")},
	}
	l := passLot()
	l.answer = func(q statement) []byte {
		switch {
		case strings.Contains(q.sql, "SYSUTCDATETIME"):
			return look
		case strings.Contains(q.sql, "dm_tran_locks"):
			require.Equal(t, []any{int64(7)}, q.args)
			return table(make([]string, 6), false, writers...)
		}
		return nil
	}
	_, r := openLot(t, l, nil, sources.Need{Column: "plate"})
	require.NoError(t, inSession(t, r, func(s *sources.Session) error {
		e, err := s.Evidence(t.Context())
		require.NoError(t, err)
		require.Empty(t, e.None)
		require.Nil(t, e.Clear)
		require.Equal(t, []sources.Txn{{ID: "41", Who: "session 55 of lane1 Barrier.exe", Since: time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)}}, e.Open)
		require.Equal(t, []sources.Txn{{ID: "42", Who: "distributed transaction 42 in doubt"}, {ID: "43", Who: "distributed transaction 43 in doubt"}}, e.InDoubt)
		for _, c := range []struct {
			look []byte
			want string
		}{
			{looked("READ_WRITE", "10.50.6000.34", false, false), "the account has no VIEW SERVER STATE permission (in master: GRANT VIEW SERVER STATE TO it)"},
			{looked("READ_WRITE", "16.0.1000.6", false, false), "the account has no VIEW SERVER PERFORMANCE STATE permission (in master: GRANT VIEW SERVER PERFORMANCE STATE TO it)"},
			{looked("READ_WRITE", "16.0.1000.6", false, true), ""},
			{looked("READ_ONLY", "16.0.1000.6", true, true), "the database is read-only here: a secondary or another copy, which does not show the transactions of its source"},
		} {
			look = c.look
			e, err := s.Evidence(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, e.None)
		}
		return nil
	}))
}

// The evidence of a rowversion is the lowest one in use.
func TestLowestVersion(t *testing.T) {
	t.Parallel()
	version := func(n byte) cell { return varbinary([]byte{0, 0, 0, 0, 0, 0, 0x10, n}) }
	lowest, last := version(6), version(9)
	l := passLot()
	l.columns[0] = catalogRow("rv", "timestamp", 8, 0, 0, "", 0)
	l.columns[1] = catalogRow("id", "int", 4, 10, 0, "", 0)
	access := "READ_WRITE"
	l.answer = func(q statement) []byte {
		switch {
		case strings.Contains(q.sql, "sys.identity_columns"):
			return assigned(7, false, "timestamp", 0, false, false, false)
		case strings.Contains(q.sql, "SYSUTCDATETIME"):
			return looked(access, "10.50.6000.34", false, false)
		case strings.Contains(q.sql, "MIN_ACTIVE_ROWVERSION"):
			return table(make([]string, 2), false, []cell{lowest, last})
		}
		return nil
	}
	_, r := openLot(t, l, func(c *sources.Config) { c.Cursor = "rv" }, sources.Need{Column: "plate"})
	require.True(t, r.Class().Server)
	at := func(n string) sources.Position { return sources.Position{Values: []string{n, "1"}} }
	require.NoError(t, inSession(t, r, func(s *sources.Session) error {
		e, err := s.Evidence(t.Context())
		require.NoError(t, err)
		require.True(t, e.Clear(at("0x0000000000001005")))
		require.False(t, e.Clear(at("0x0000000000001006")))
		require.False(t, e.Clear(at("0x0000000000001100")))
		require.False(t, e.Clear(sources.Position{}))
		require.False(t, e.Clear(at("5")), "a start value of a person's that is none")
		require.Equal(t, "a transaction that wrote rowversion 0x0000000000001006 and has not ended", e.Open[0].Who)
		lowest = version(10)
		e, err = s.Evidence(t.Context())
		require.NoError(t, err)
		require.Empty(t, e.Open)
		require.True(t, e.Clear(at("0x0000000000001009")))
		access = "READ_ONLY"
		e, err = s.Evidence(t.Context())
		require.NoError(t, err)
		require.Nil(t, e.Clear)
		require.Contains(t, e.None, "read-only")
		access, lowest = "READ_WRITE", varbinary([]byte{1})
		_, err = s.Evidence(t.Context())
		require.EqualError(t, err, "looking for open transactions: the server's lowest active rowversion is 0x01, which is none")
		return nil
	}))
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ version, group, want string }{
		"2008 R2":                  {"10.50.6000.34", "", `BOOTH\SQLEXPRESS lot`},
		"2019":                     {"15.0.2000.5", "", `BOOTH\SQLEXPRESS lot`},
		"in an availability group": {"15.0.2000.5", "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A", "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A lot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := passLot()
			l.answer = func(q statement) []byte {
				switch {
				case strings.Contains(q.sql, "'ServerName'"):
					return table(make([]string, 3), false, []cell{nvarchar(`BOOTH\SQLEXPRESS`), nvarchar("lot"), nvarchar(c.version)})
				case strings.Contains(q.sql, "group_database_id"):
					group := nvarchar(c.group)
					if c.group == "" {
						group.data = []byte{0xff, 0xff}
					}
					require.NotEqual(t, "2008 R2", name, "that version has no such column")
					return table([]string{""}, false, []cell{group})
				}
				return nil
			}
			_, r := openLot(t, l, nil, sources.Need{Column: "plate"})
			id, err := r.Identity(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, id)
		})
	}
}

// A query is described by what the protocol tells; so is a synonym, of which the
// catalog has no columns.
func TestColumnsOfAQuery(t *testing.T) {
	t.Parallel()
	l := passLot()
	columns := l.columns
	l.columns = columns[:0:0]
	sample := []cell{bigint(1), datetime(1, 1), varchar(prc, []byte("A")), nvarchar("x"), byteLen([]byte{0x6a, 9, 18, 2}), byteLen([]byte{0x2a, 3}), {[]byte{0xe7, 0xff, 0xff, 4, 8, 0, 0, 0}, nil}}
	l.answer = func(q statement) []byte {
		if strings.Contains(q.sql, "sys.all_columns") {
			return table(make([]string, 7), true, columns[0])
		}
		return table([]string{"id", "op", "lane", "plate", "fee", "at", "memo"}, true, sample)
	}
	s := newStub(t, l.reply)
	db, dialect, err := sqlserver.Driver().Open(t.Context(), config(s, ""))
	require.NoError(t, err)
	defer db.Close()
	for _, from := range []string{"(SELECT * FROM pass\n) AS [source_query]", "[other].[dbo].[synonym]"} {
		s.statements()
		got, err := db.Columns(t.Context(), "*", from)
		require.NoError(t, err)
		require.Equal(t, []sources.Column{
			{Name: "id", Type: "bigint", Integer: true}, {Name: "op", Type: "datetime"}, {Name: "lane", Type: "varchar(8000)", IsText: true},
			{Name: "plate", Type: "nvarchar(4000)", IsText: true}, {Name: "fee", Type: "decimal(18,2)"}, {Name: "at", Type: "datetime2(3)"},
			{Name: "memo", Type: "nvarchar(max)", IsText: true},
		}, got)
		require.Equal(t, "CAST([lane] AS varbinary(max))", dialect.Select(sources.Field{Column: got[2], Raw: true}), "its code page is not known")
	}
	require.Contains(t, s.statements()[0].sql, "FROM [other].sys.all_columns c WHERE c.object_id = OBJECT_ID(@p1)")
}

// Every error that a first connection and a first look meet says what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on     string // the statement that fails
		number int32
		text   string
		want   string
	}{
		"no such table": {"SELECT TOP (0)", 208, "Invalid object name 'dbo.pass'.", "table: dbo.pass is not there, or this account does not see it: no such table: mssql: Invalid object name 'dbo.pass'. (208)"},
		"no SELECT": {
			"SELECT TOP (0)", 229, "The SELECT permission was denied on the object 'pass', database 'lot', schema 'dbo'.",
			"table: dbo.pass is not there, or this account does not see it: no such table: mssql: The SELECT permission was denied on the object 'pass', database 'lot', schema 'dbo'. (229)",
		},
		"no SELECT on a column": {
			"SELECT TOP (0)", 230, "The SELECT permission was denied on the column 'picture' of the object 'pass', database 'lot', schema 'dbo'.",
			"describing table dbo.pass: mssql: The SELECT permission was denied on the column 'picture' of the object 'pass', database 'lot', schema 'dbo'. (230)",
		},
		"a catalog that is locked": {
			"sys.all_columns", 1222, "Lock request time out period exceeded.",
			"describing table dbo.pass: the database is busy: another session holds rows of it locked: mssql: Lock request time out period exceeded. (1222)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := passLot()
			l.answer = func(q statement) []byte {
				if strings.Contains(q.sql, c.on) {
					return failure(c.number, c.text)
				}
				return nil
			}
			_, err := sources.Open(t.Context(), drivers, config(newStub(t, l.reply), ""), nil)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestColumnsThatMayBeRead(t *testing.T) {
	t.Parallel()
	l := passLot()
	l.answer = func(q statement) []byte {
		if strings.HasPrefix(q.sql, "SELECT TOP (0) *") {
			return failure(230, "The SELECT permission was denied on the column 'picture'.")
		}
		if strings.HasPrefix(q.sql, "SELECT TOP (0)") {
			require.Equal(t, "SELECT TOP (0) [id], [PLATE] FROM [dbo].[pass]", q.sql)
			return table([]string{"id", "PLATE"}, true, []cell{bigint(1), nvarchar("x")})
		}
		return nil
	}
	_, r := openLot(t, l, nil, sources.Need{Column: "PLATE"})
	sql, _, err := r.PageSQL(sources.Range{}, 10)
	require.NoError(t, err)
	require.Contains(t, sql, "[id], [plate] FROM")
}

func TestOnlySelects(t *testing.T) {
	t.Parallel()
	s := newStub(t, passLot().reply)
	db, _, err := sqlserver.Driver().Open(t.Context(), config(s, ""))
	require.NoError(t, err)
	defer db.Close()
	conn, err := db.Connect(t.Context(), false)
	require.NoError(t, err)
	defer conn.Close()
	s.statements()
	_, err = conn.Query(t.Context(), "INSERT INTO pass VALUES (1)", nil, nil)
	require.EqualError(t, err, "only a SELECT may be sent to a source")
	require.Empty(t, s.statements())
}

// A statement that does not end is called off after its time, and the next one
// goes on; a server that accepts and says nothing is given up.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	l := passLot()
	s := newStub(t, func(q statement) []byte {
		if strings.Contains(q.sql, "[id] > ") {
			return nil
		}
		return l.reply(q)
	})
	cfg := config(s, "")
	cfg.StatementTimeout = 200 * time.Millisecond
	r, err := sources.Open(t.Context(), drivers, cfg, []sources.Need{{Column: "plate"}})
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, inSession(t, r, func(s *sources.Session) error {
		_, err := s.Page(t.Context(), sources.Range{After: sources.Position{Values: []string{"1"}}}, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return nil
	}))
	require.NoError(t, readPage(t, r))

	s = newStub(t, l.reply)
	s.silent = true
	_, err = sources.Open(t.Context(), drivers, config(s, "&connection+timeout=1"), nil)
	require.ErrorContains(t, err, "connecting to the database: ")
	require.ErrorContains(t, err, "i/o timeout")
}

// What old and new servers do about encryption, and what the dsn can say.
func TestEncryption(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	old := &tls.Config{Certificates: own, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	modern := &tls.Config{Certificates: own, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	odd := &tls.Config{Certificates: own, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}}
	for name, c := range map[string]struct {
		tls     *tls.Config
		options string
		want    string // "" where it connects
	}{
		"TLS 1.0":                       {old, "", "TLS Handshake failed: remote error: tls: protocol version not supported (the server speaks only an older TLS: tlsmin=1.0 in the dsn lets it, or encrypt=disable does without; see docs/sqlserver.md)"},
		"TLS 1.0, let":                  {old, "&tlsmin=1.0", ""},
		"TLS 1.0, without":              {old, "&encrypt=disable", ""},
		"TLS 1.2":                       {modern, "", ""},
		"TLS 1.2, trusted":              {modern, "&encrypt=true&trustservercertificate=true", ""},
		"no cipher in common":           {odd, "", "TLS Handshake failed: remote error: tls: handshake failure (the two have no cipher in common, as with Windows before 2008 R2: say encrypt=disable in the dsn; see docs/sqlserver.md)"},
		"no encryption":                 {nil, "", ""},
		"no encryption, where it must":  {nil, "&encrypt=true", "server does not support encryption (say encrypt=disable in the dsn; see docs/sqlserver.md)"},
		"a certificate of nobody known": {modern, "&encrypt=true", "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs (the server's certificate is not one that this machine trusts: name it in the dsn with certificate=FILE.pem, or say trustservercertificate=true; see docs/sqlserver.md)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, passLot().reply)
			s.tls = c.tls
			db, _, err := sqlserver.Driver().Open(t.Context(), config(s, c.options))
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, db.Close())
		})
	}
}
