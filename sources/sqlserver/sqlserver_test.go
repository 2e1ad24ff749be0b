package sqlserver_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

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
			"SELECT TOP (@p1) " + columns + " WHERE [id] IS NOT NULL ORDER BY [id]", "@p1 bigint",
			[]any{int64(100)},
		},
		"after": {
			nil, page(sources.Range{After: at("9007199254740993")}),
			"SELECT TOP (@p2) " + columns + " WHERE [id] > CAST(@p1 AS bigint) ORDER BY [id]", "@p1 bigint,@p2 bigint",
			[]any{int64(9007199254740993), int64(100)},
		},
		"from, newest first": {
			nil, page(sources.Range{After: sources.Position{Values: []string{"5"}, Inclusive: true}, UpTo: at("9"), Below: true, Newest: true}),
			"SELECT TOP (@p3) " + columns + " WHERE [id] >= CAST(@p1 AS bigint) AND [id] < CAST(@p2 AS bigint) ORDER BY [id] DESC", "@p1 bigint,@p2 bigint,@p3 bigint",
			[]any{int64(5), int64(9), int64(100)},
		},
		"where": {
			func(c *sources.Config) { c.Where = "st = 3 -- opened by hand" }, page(sources.Range{After: at("1")}),
			"SELECT TOP (@p2) " + columns + " WHERE (st = 3 -- opened by hand\n) AND [id] > CAST(@p1 AS bigint) ORDER BY [id]", "@p1 bigint,@p2 bigint",
			[]any{int64(1), int64(100)},
		},
		"query": {
			func(c *sources.Config) { c.Table, c.Query = "", "SELECT * FROM pass" }, page(sources.Range{After: at("1")}),
			"SELECT TOP (@p2) [id], [plate] FROM (SELECT * FROM pass\n) AS [source_query] WHERE [id] > CAST(@p1 AS bigint) ORDER BY [id]", "@p1 bigint,@p2 bigint",
			[]any{int64(1), int64(100)},
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
			"SELECT TOP (@p1) " + columns + " WHERE [id] IS NOT NULL ORDER BY [id] DESC", "@p1 bigint",
			[]any{int64(1)},
		},
		"by keys": {
			byLane, func(t *testing.T, s *sources.Session) {
				_, err := s.ByKeys(t.Context(), []string{`["A","1"]`, `["东","2"]`})
				require.NoError(t, err)
			},
			"SELECT [op], [lane], " + columns + " WHERE (([lane] = CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000)) AND [id] = CAST(@p2 AS bigint)) OR ([lane] = CAST(@p3 COLLATE Chinese_PRC_CI_AS AS varchar(8000)) AND [id] = CAST(@p4 AS bigint)))",
			"@p1 nvarchar(1),@p2 bigint,@p3 nvarchar(1),@p4 bigint",
			[]any{"A", int64(1), "东", int64(2)},
		},
		"without a cursor": {
			byTime, func(t *testing.T, s *sources.Session) {
				_, err := s.Nulls(t.Context(), "17", 50)
				require.NoError(t, err)
			},
			"SELECT TOP (@p2) [op], " + columns + " WHERE [op] IS NULL AND [id] < CAST(@p1 AS bigint) ORDER BY [id] DESC", "@p1 bigint,@p2 bigint",
			[]any{int64(17), int64(50)},
		},
		"count of those": {
			byTime, func(t *testing.T, s *sources.Session) {
				_, err := s.CountNulls(t.Context(), 1000)
				require.NoError(t, err)
			},
			"SELECT TOP (@p1) [id] FROM [dbo].[pass] WHERE [op] IS NULL", "@p1 bigint",
			[]any{int64(1000)},
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
