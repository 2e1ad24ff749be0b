package sqlserver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

// reply answers statements by what they contain; the first that fits counts.
type reply struct {
	to     string
	answer []byte
}

func replies(list ...reply) func(statement) []byte {
	return func(q statement) []byte {
		for _, r := range list {
			if strings.Contains(q.sql, r.to) {
				return r.answer
			}
		}
		return done(0)
	}
}

func rows(list ...[]cell) []byte { return table(make([]string, len(list[0])), false, list...) }

// noRows is an empty result of columns like those of a row.
func noRows(like ...cell) []byte { return table(make([]string, len(like)), true, like) }

// tables is what the catalogue of a lot says.
func tables() []reply {
	column := func(table int64, name, typ string, length, precision, scale int64, nullable bool, comment string) []cell {
		return []cell{bigint(table), nvarchar(name), nvarchar(typ), bigint(length), bigint(precision), bigint(scale), bit(nullable), nvarchar(comment)}
	}
	index := func(table, number int64, unique, primary bool, name string) []cell {
		return []cell{bigint(table), bigint(number), bit(unique), bit(primary), nvarchar(name)}
	}
	return []reply{
		{"sys.partitions", rows(
			[]cell{bigint(7), nvarchar("dbo"), nvarchar("abnormal_pass"), bigint(1), bigint(0), bigint(1200000), nvarchar("异常放行")},
			[]cell{bigint(8), nvarchar("dbo"), nvarchar("seen"), bigint(1), bigint(1), bigint(-1), nvarchar("")},
			[]cell{bigint(9), nvarchar("hr"), nvarchar("staff"), bigint(0), bigint(0), bigint(3), nvarchar("")},
			[]cell{bigint(10), nvarchar("old"), nvarchar("pass.2026"), bigint(0), bigint(0), bigint(0), nvarchar("")},
		)},
		{"sys.columns c JOIN sys.objects", rows(
			column(7, "id", "numeric", 9, 18, 0, false, ""),
			column(7, "plate_no", "nvarchar", 40, 0, 0, true, "车牌号"),
			column(7, "memo", "varchar", -1, 0, 0, true, ""),
			column(7, "picture", "image", 16, 0, 0, true, ""),
			column(7, "rv", "timestamp", 8, 0, 0, false, ""),
			column(8, "id", "int", 4, 10, 0, true, ""),
			column(10, "id", "int", 4, 10, 0, false, ""),
			column(11, "made", "int", 4, 10, 0, false, ""),
		)},
		{"sys.index_columns", rows(
			index(7, 1, true, true, "id"),
			index(7, 3, false, false, "plate_no"), index(7, 3, false, false, "id"),
			index(7, 4, true, false, "rv"),
			index(9, 1, true, true, "id"),
			index(10, 1, true, true, "id"),
		)},
	}
}

func explore(t *testing.T, answer func(statement) []byte) (*stub, *sources.Explorer) {
	t.Helper()
	s := newStub(t, answer)
	e, err := sources.Explore(t.Context(), drivers, sources.Config{Driver: "sqlserver", DSN: sources.Secret(s.dsn("")), StatementTimeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	s.statements()
	return s, e
}

// Tables that the account may read no column of are left out, columns keep their
// order, and an index is put together of its rows.
func TestTables(t *testing.T) {
	t.Parallel()
	_, e := explore(t, replies(tables()...))
	got, err := e.Tables(t.Context())
	require.NoError(t, err)
	require.Equal(t, []sources.Table{
		{
			Name: []string{"abnormal_pass"}, Comment: "异常放行", Rows: 1200000,
			Columns: []sources.TableColumn{
				{Name: "id", Type: "numeric(18,0)"},
				{Name: "plate_no", Type: "nvarchar(20)", Comment: "车牌号", Nullable: true},
				{Name: "memo", Type: "varchar(max)", Nullable: true},
				{Name: "picture", Type: "image", Nullable: true},
				{Name: "rv", Type: "rowversion"},
			},
			Indexes: []sources.Index{
				{Columns: []string{"id"}, Unique: true, Primary: true}, {Columns: []string{"plate_no", "id"}}, {Columns: []string{"rv"}, Unique: true},
			},
		},
		{Name: []string{"seen"}, View: true, Rows: -1, Columns: []sources.TableColumn{{Name: "id", Type: "int", Nullable: true}}},
		{
			Name: []string{"old", "pass.2026"}, Columns: []sources.TableColumn{{Name: "id", Type: "int"}},
			Indexes: []sources.Index{{Columns: []string{"id"}, Unique: true, Primary: true}},
		},
	}, got)
	require.Equal(t, `old."pass.2026"`, got[2].String())
}

// The statements by which init looks into a table; a row that is locked is not
// waited for.
func TestExplorer(t *testing.T) {
	t.Parallel()
	l := passLot()
	locked := false
	l.answer = func(q statement) []byte {
		switch {
		case locked && strings.Contains(q.sql, "ORDER BY [id] DESC") && !strings.Contains(q.sql, "READPAST"):
			return failure(1222, "Lock request time out period exceeded.")
		case strings.HasPrefix(q.sql, "SELECT COUNT(*)"):
			return rows([]cell{bigint(5)})
		case strings.HasPrefix(q.sql, "SELECT TOP (0)"):
			return table([]string{"id", "plate"}, true, []cell{bigint(1), nvarchar("x")})
		case strings.HasPrefix(q.sql, "SELECT TOP (@p1)"):
			return rows([]cell{bigint(9), nvarchar("粤B12345")})
		}
		return nil
	}
	s, e := explore(t, l.reply)
	pass := &sources.Table{Name: []string{"dbo", "pass"}}
	n, err := e.Count(t.Context(), pass, 1001)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	want := [][]sources.Value{{{Kind: sources.Int, Text: "9"}, {Kind: sources.Text, Text: "粤B12345"}}}
	var sent []statement
	for range 2 {
		got, err := e.Newest(t.Context(), pass, []string{"id", "plate"}, []string{"id"}, 50)
		require.NoError(t, err)
		require.Equal(t, want, got)
		locked = true
	}
	for _, q := range s.statements() {
		if strings.Contains(q.sql, "@p1)") && !strings.Contains(q.sql, "sys.") {
			sent = append(sent, q)
		}
	}
	newest := "SELECT TOP (@p1) [id], [plate] FROM [dbo].[pass] WHERE [id] IS NOT NULL ORDER BY [id] DESC"
	require.Equal(t, []statement{
		{sql: "SELECT COUNT(*) FROM (SELECT TOP (@p1) 1 AS one FROM [dbo].[pass]) AS few", params: "@p1 bigint", args: []any{int64(1001)}},
		{sql: newest, params: "@p1 bigint", args: []any{int64(50)}},
		{sql: newest, params: "@p1 bigint", args: []any{int64(50)}},
		{sql: strings.Replace(newest, "[pass]", "[pass] WITH (READPAST)", 1), params: "@p1 bigint", args: []any{int64(50)}},
	}, sent)
	_, broken := explore(t, replies(reply{"sys.", failure(1222, "Lock request time out period exceeded.")}))
	_, err = broken.Tables(t.Context())
	require.ErrorIs(t, err, sources.ErrLocked)
	require.ErrorContains(t, err, "listing the tables: the database is busy")
}
