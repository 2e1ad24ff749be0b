package sqlserver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

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
