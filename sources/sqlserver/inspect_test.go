package sqlserver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

// who answers as a server does that is asked who it is.
func who(version, login, user string, admin, owner bool) reply {
	return reply{"'Edition'", rows([]cell{
		nvarchar(version), nvarchar("Express Edition (64-bit)"), nvarchar(login), nvarchar(user), nvarchar("lot"), nvarchar("dbo"), bigint(480), bit(admin), bit(owner),
	})}
}

var serverNow = reply{"SELECT SYSUTCDATETIME()", rows([]cell{byteLen([]byte{0x2a, 7}, 0, 0, 0, 0, 0, 0x90, 0x4a, 0x0b)})}

func texts(list ...string) []byte {
	if len(list) == 0 {
		return noRows(nvarchar(""))
	}
	var out [][]cell
	for _, text := range list {
		out = append(out, []cell{nvarchar(text)})
	}
	return rows(out...)
}

func granted(right string, class int64, grantee string, option bool) []cell {
	return []cell{nvarchar(right), bigint(class), nvarchar(grantee), bit(option)}
}

func TestAbout(t *testing.T) {
	t.Parallel()
	const forEach = "EACH_TABLE_OF_THE_QUERY"
	readers := func(name, state, table string) []string {
		return []string{
			"USE master;", "CREATE LOGIN " + name + " WITH PASSWORD = 'a-Password-1';", "GRANT " + state + " TO " + name + ";", "USE [lot];",
			"CREATE USER " + name + " FOR LOGIN " + name + ";", "GRANT SHOWPLAN TO " + name + ";", "GRANT SELECT ON " + table + " TO " + name + ";",
		}
	}
	noGrants, none := noRows(granted("", 0, "", false)...), texts()
	for name, c := range map[string]struct {
		table    string
		who      reply
		may      []byte
		grants   []byte
		roles    []byte
		version  string
		account  string
		writes   []string
		revokes  []string
		readers  []string
		asked    string // of what may be written
		grantsOf []any
	}{
		"may only read": {
			table: "dbo.pass", who: who("10.50.6000.34", "lot", "lot", false, false), may: none,
			version: "SQL Server 2008 R2 (10.50.6000.34), Express Edition (64-bit)", account: "[lot]",
			readers: readers("parkbridge", "VIEW SERVER STATE", "[dbo].[pass]"), asked: "@p1, 'OBJECT'",
		},
		"grants and a role": {
			table: "pass", who: who("16.0.1000.6", "parkbridge", "parkbridge", false, false), may: texts("DELETE", "INSERT", "UPDATE"),
			grants: rows(granted("INSERT", 3, "parkbridge", false), granted("INSERT", 1, "public", false), granted("UPDATE", 1, "public", true), granted("DELETE", 0, "clerks]", false)),
			roles:  texts("db_datareader", "db_datawriter"), version: "SQL Server 2022 (16.0.1000.6), Express Edition (64-bit)", account: "[parkbridge]",
			writes: []string{"DELETE, INSERT, UPDATE on [dbo].[pass]"},
			revokes: []string{
				"REVOKE INSERT ON SCHEMA::[dbo] FROM [parkbridge];", "REVOKE INSERT, UPDATE ON [dbo].[pass] FROM [public] CASCADE;", "REVOKE DELETE FROM [clerks]]];",
				"EXEC sp_droprolemember N'db_datawriter', N'parkbridge';", "GRANT SELECT ON [dbo].[pass] TO [parkbridge];",
			},
			readers: readers("parkbridge_reader", "VIEW SERVER PERFORMANCE STATE", "[dbo].[pass]"), asked: "@p1, 'OBJECT'", grantsOf: []any{"[dbo].[pass]", "dbo"},
		},
		"an administrator": {
			table: "dbo.pass", who: who("15.0.2000.5", "sa", "dbo", true, true), version: "SQL Server 2019 (15.0.2000.5), Express Edition (64-bit)", account: "[sa]",
			writes: []string{"anything: it is a member of sysadmin"}, readers: readers("parkbridge", "VIEW SERVER STATE", "[dbo].[pass]"),
		},
		"an owner": {
			table: "dbo.pass", who: who("11.0.2100.60", "O'Hara", "O'Hara", false, true), may: texts("CONTROL"), grants: noGrants, roles: texts("db_owner"),
			version: "SQL Server 2012 (11.0.2100.60), Express Edition (64-bit)", account: "[O'Hara]", writes: []string{"anything in the database: it is a member of db_owner"},
			revokes: []string{"EXEC sp_droprolemember N'db_owner', N'O''Hara';", "GRANT SELECT ON [dbo].[pass] TO [O'Hara];"},
			readers: readers("parkbridge", "VIEW SERVER STATE", "[dbo].[pass]"), asked: "@p1, 'OBJECT'", grantsOf: []any{"[dbo].[pass]", "dbo"},
		},
		"the owner of the database": {
			table: "dbo.pass", who: who("11.0.2100.60", "lot", "dbo", false, true), may: texts("CONTROL"),
			version: "SQL Server 2012 (11.0.2100.60), Express Edition (64-bit)", account: "[lot]", writes: []string{"anything in the database: it is a member of db_owner"},
			readers: readers("parkbridge", "VIEW SERVER STATE", "[dbo].[pass]"), asked: "@p1, 'OBJECT'",
		},
		"a query": {
			who: who("18.1.2.3", "lot", "lot", false, false), may: texts("INSERT"), grants: noGrants, roles: none,
			version: "SQL Server 18.1.2.3, Express Edition (64-bit)", account: "[lot]", writes: []string{"INSERT in the whole database"},
			readers: readers("parkbridge", "VIEW SERVER PERFORMANCE STATE", forEach), asked: "NULL, 'DATABASE'", grantsOf: []any{forEach, "dbo"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, replies(serverNow, c.who, reply{"fn_my_permissions", c.may}, reply{"sys.database_permissions", c.grants}, reply{"sys.database_role_members", c.roles}))
			cfg := config(s, "")
			cfg.Table = c.table
			about, clock, err := sources.Ask(t.Context(), drivers, cfg)
			require.NoError(t, err)
			require.True(t, clock.Own)
			require.Equal(t, sources.About{
				Version: c.version, Account: c.account, Zone: "that of its machine", Offset: 8 * time.Hour,
				Writes: c.writes, Readers: c.readers, Revokes: c.revokes, Index: "CREATE INDEX",
			}, about)
			for _, q := range s.statements() {
				switch {
				case strings.Contains(q.sql, "fn_my_permissions"):
					require.Contains(t, q.sql, "fn_my_permissions("+c.asked+")")
				case strings.Contains(q.sql, "sys.database_permissions"):
					require.Equal(t, c.grantsOf, q.args)
				}
			}
		})
	}
}

const (
	planHead = `<?xml version="1.0" encoding="utf-16"?><ShowPlanXML xmlns="http://schemas.microsoft.com/sqlserver/2004/07/showplan" Version="1.1"><BatchSequence><Batch><Statements><StmtSimple StatementType="SELECT"><QueryPlan>`
	planTail = `</QueryPlan></StmtSimple></Statements></Batch></BatchSequence></ShowPlanXML>`
	object   = `<Object Database="[lot]" Schema="[dbo]" Table="[pass]"/>`
	byIndex  = `<Object Database="[lot]" Schema="[dbo]" Table="[pass]" Index="[pass_op]"/>`
)

func TestPlan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan string
		want sources.Plan
	}{
		"a seek and its bounds": {
			`<RelOp PhysicalOp="Top" EstimateRows="100"><Top><RelOp PhysicalOp="Nested Loops" EstimateRows="100"><NestedLoops>` +
				`<RelOp PhysicalOp="Compute Scalar" EstimateRows="1"><ComputeScalar><RelOp PhysicalOp="Constant Scan" EstimateRows="1"><ConstantScan/></RelOp></ComputeScalar></RelOp>` +
				`<RelOp PhysicalOp="Index Seek" EstimateRows="100" EstimatedRowsRead="120" TableCardinality="900000"><IndexScan Ordered="true">` + byIndex + `</IndexScan></RelOp>` +
				`</NestedLoops></RelOp></Top></RelOp>`,
			sources.Plan{Seek: true, Steps: "Index Seek by pass_op; Nested Loops", Rows: 120},
		},
		"a key lookup beside it": {
			`<RelOp PhysicalOp="Nested Loops" EstimateRows="80"><NestedLoops>` +
				`<RelOp PhysicalOp="Index Seek" EstimateRows="80"><IndexScan>` + byIndex + `</IndexScan></RelOp>` +
				`<RelOp PhysicalOp="Clustered Index Seek" EstimateRows="1"><IndexScan Lookup="1">` + strings.Replace(byIndex, "pass_op", "PK ]]x", 1) + `</IndexScan></RelOp>` +
				`</NestedLoops></RelOp>`,
			sources.Plan{Seek: true, Steps: "Index Seek by pass_op; Key Lookup by PK ]x; Nested Loops", Rows: 80},
		},
		"a scan that is sorted": {
			`<RelOp PhysicalOp="Sort" LogicalOp="TopN Sort" EstimateRows="100"><TopSort><RelOp PhysicalOp="Table Scan" EstimateRows="300" TableCardinality="900000"><TableScan>` + object + `</TableScan></RelOp></TopSort></RelOp>`,
			sources.Plan{Sorts: true, Steps: "Table Scan on pass; Sort", Rows: 900000},
		},
		"a scan of the index": {
			`<RelOp PhysicalOp="Clustered Index Scan" EstimateRows="300"><IndexScan>` + byIndex + `</IndexScan></RelOp>`,
			sources.Plan{Steps: "Clustered Index Scan by pass_op", Rows: 300},
		},
		"another server": {
			`<RelOp PhysicalOp="Remote Query" EstimateRows="10"><RemoteQuery/></RelOp>`,
			sources.Plan{Steps: "Remote Query", Rows: 10},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := passLot()
			l.answer = func(q statement) []byte {
				switch {
				case strings.HasPrefix(q.sql, "SET "):
					return done(0)
				case strings.HasPrefix(q.sql, "SELECT TOP (100)"):
					return texts(planHead + c.plan + planTail)
				}
				return nil
			}
			s, r := openLot(t, l, func(c *sources.Config) { c.Cursor = "op" }, sources.Need{Column: "plate"})
			after := sources.Position{Values: []string{"2026-11-01 10:00:00.007", "17"}}
			plan, err := r.Plan(t.Context(), sources.Range{After: after}, 100)
			require.NoError(t, err)
			require.Equal(t, c.want, plan)
			const at = "CAST(N'2026-11-01T10:00:00.007' AS datetime)"
			require.Equal(t, []statement{
				{sql: "SET SHOWPLAN_XML ON"},
				{sql: "SELECT TOP (100) [op], [id], [plate] FROM [dbo].[pass] WHERE ([op] >= " + at + " AND ([op] > " + at + " OR ([op] = " + at + " AND [id] > CAST(17 AS bigint)))) ORDER BY [op], [id]"},
			}, s.statements())
			// That session runs nothing any more, so the next statement is another's.
			connected := s.connected()
			require.NoError(t, readPage(t, r))
			require.Equal(t, connected+1, s.connected())
		})
	}
}

// Every value that can be bound can stand in a statement, without an end of its
// own.
func TestPlanOfEveryType(t *testing.T) {
	t.Parallel()
	l := passLot()
	l.columns = [][]cell{
		catalogRow("f", "float", 8, 53, 0, "", 0), catalogRow("lane", "varchar", 10, 0, 0, "Chinese_PRC_CI_AS", 936), catalogRow("rv", "binary", 8, 0, 0, "", 0),
		catalogRow("id", "bigint", 8, 19, 0, "", 0),
	}
	l.sample = []cell{byteLen([]byte{0x6d, 8}), varchar(prc, []byte("A")), varbinary([]byte{1}), bigint(1)}
	l.answer = func(q statement) []byte {
		if strings.HasPrefix(q.sql, "SELECT TOP (7)") {
			return texts(planHead + `<RelOp PhysicalOp="Index Seek" EstimateRows="1"><IndexScan/></RelOp>` + planTail)
		}
		if strings.HasPrefix(q.sql, "SET ") {
			return done(0)
		}
		return nil
	}
	s, r := openLot(t, l, func(c *sources.Config) { c.Cursor, c.Key = "f", []string{"lane", "rv", "id"} }, sources.Need{Column: "id"})
	plan, err := r.Plan(t.Context(), sources.Range{UpTo: sources.Position{Values: []string{"1e+06", "O'西", "0x01ff", "-5"}}}, 7)
	require.NoError(t, err)
	require.Equal(t, sources.Plan{Seek: true, Steps: "Index Seek", Rows: 1}, plan)
	sql := s.statements()[1].sql
	for _, part := range []string{"TOP (7)", "CAST(1e+06 AS float)", "CAST(N'O''西' COLLATE Chinese_PRC_CI_AS AS varchar(8000))", "CAST(0x01ff AS binary(8))", "CAST(-5 AS bigint)"} {
		require.Contains(t, sql, part)
	}
	require.NotContains(t, sql, "@p")
}

func TestNoPlan(t *testing.T) {
	t.Parallel()
	plan := func(on, answer []byte) error {
		l := passLot()
		l.answer = func(q statement) []byte {
			switch {
			case q.sql == "SET SHOWPLAN_XML ON":
				return on
			case strings.HasPrefix(q.sql, "SELECT TOP (10)"):
				return answer
			}
			return nil
		}
		_, r := openLot(t, l, nil, sources.Need{Column: "plate"})
		plan, err := r.Plan(t.Context(), sources.Range{}, 10)
		require.False(t, plan.Seek)
		return err
	}
	denied := failure(262, "SHOWPLAN permission denied in database 'lot'.")
	for _, err := range []error{plan(denied, nil), plan(done(0), denied)} {
		require.ErrorIs(t, err, sources.ErrNoInspector)
		require.EqualError(t, err, "this engine cannot tell: the account has no SHOWPLAN permission in the database (GRANT SHOWPLAN TO it)")
	}
	require.EqualError(t, plan(done(0), failure(208, "Invalid object name 'pass'.")), "asking how table dbo.pass would be read: mssql: Invalid object name 'pass'. (208)")
	require.EqualError(t, plan(done(0), texts("<ShowPlanXML/>")), "asking how table dbo.pass would be read: reading the server's plan: it has no operator")
	require.ErrorContains(t, plan(done(0), texts("粤B12345")), "asking how table dbo.pass would be read: reading the server's plan: ")
}
