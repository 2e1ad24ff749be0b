//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
)

// What commands show of a series of tables, one a month.
func TestSeriesCommands(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			shanghai, err := time.LoadLocation("Asia/Shanghai")
			require.NoError(t, err)
			now := time.Now().In(shanghai)
			month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, shanghai)
			table := func(ago int) string { return "out_" + month.AddDate(0, -ago, 0).Format("200601") }
			for ago := range 4 {
				b.lot.Exec(t, "CREATE TABLE "+table(ago)+" (id "+b.lot.Type("INTEGER PRIMARY KEY", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")+
					", entry_id VARCHAR(32), plate_no VARCHAR(20), color VARCHAR(8), op_time "+b.lot.Type("TEXT", "timestamp(3)", "DATETIME(3)")+", op_name VARCHAR(20), reason VARCHAR(200))")
				b.lot.Grant(t, table(ago))
				for i := range 3 - ago {
					b.lot.Exec(t, "INSERT INTO "+table(ago)+fmt.Sprintf(" (entry_id, plate_no, color, op_time, reason) VALUES ('E%d-%d', '粤b00001', '蓝', '%s', 'x')",
						ago, i, month.AddDate(0, -ago, 0).Format(time.DateTime)))
				}
			}
			b.configure(t, "table: abnormal_pass", "table: out_{yyyyMM}", `'"EX" + string(id)'`, `'"EX" + period + "-" + string(id)'`, "start: earliest", "start: "+month.AddDate(0, -2, 0).Format(time.DateOnly))
			var p previewed
			require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "preview", "--json", "--limit", "4")), &p))
			require.Len(t, p.Rows, 4)
			require.Equal(t, []string{table(0), table(0), table(0), table(1)}, []string{*p.Rows[0].Table, *p.Rows[1].Table, *p.Rows[2].Table, *p.Rows[3].Table})
			require.Equal(t, "EX"+table(0)[4:]+"-3", p.Rows[0].Fields["flow_no"])
			require.Contains(t, b.run(t, 0, "preview", "--source", "north-gate", "--key", "2"), "north-gate, table "+table(1)+", key 2")
			b.run(t, 0, "sync")
			sent := map[string]bool{}
			for _, r := range b.gate.Records() {
				sent[r["flow_no"]] = true
			}
			require.Equal(t, map[string]bool{
				"EX" + table(2)[4:] + "-1": true, "EX" + table(1)[4:] + "-1": true, "EX" + table(1)[4:] + "-2": true,
				"EX" + table(0)[4:] + "-1": true, "EX" + table(0)[4:] + "-2": true, "EX" + table(0)[4:] + "-3": true,
			}, sent)
			var status statusJSON
			require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "status", "--json")), &status))
			s := status.Sources[0]
			require.Equal(t, table(0), *s.Table)
			require.Equal(t, "3", *s.Mark)
			require.Equal(t, "server", *s.Class)
			require.Equal(t, 6, s.Counts["delivered"])
			require.Len(t, s.Tables, 3)
			require.Equal(t, []string{table(2), "1"}, []string{s.Tables[0].Table, *s.Tables[0].Mark})
			text := b.run(t, 0, "status")
			require.Contains(t, text, "north-gate: reads table "+table(0)+", to 3\n")
			b.lot.Exec(t, "DROP TABLE "+table(2))
			b.run(t, 0, "sync")
			require.Contains(t, b.run(t, 0, "status"), "north-gate: table "+table(2)+" is no longer there since")
			require.Contains(t, b.run(t, 0, "records", "list", "--json"), `"table": "`+table(1)+`"`)
			require.Contains(t, b.run(t, 0, "records", "show", "EX"+table(1)[4:]+"-2"), "table "+table(1)+", key 2")
			require.Contains(t, b.run(t, 0, "reconcile"), "Nothing is missing.")
			require.Contains(t, b.run(t, 2, "reset", "--source", "north-gate", "--to", "17", "--yes"), `"17" does not say with which table of out_{yyyyMM} to begin`)
			require.Contains(t, b.run(t, 0, "reset", "--source", "north-gate", "--to", "earliest", "--yes"), "The marks of the tables of north-gate are cleared; reading begins with earliest.")
			b.run(t, 0, "sync")
			require.Equal(t, 6, b.gate.Stats().Calls, "nothing is sent again")
			b.run(t, 0, "check")

			// A record that does not map, of a month that is over, is mended under its number.
			b.lot.Exec(t, "INSERT INTO "+table(1)+" (entry_id, plate_no, color, op_time) VALUES ('E1-9', '粤b00001', '蓝', '"+month.AddDate(0, -1, 0).Format(time.DateTime)+"')")
			b.lot.Exec(t, "ALTER TABLE "+table(1)+" ADD COLUMN op_name2 VARCHAR(9)")
			b.configure(t, "reason:         { column: reason, default: 未填写 }", "reason:         reason")
			b.run(t, 3, "sync")
			b.configure(t, "reason:         reason", "reason:         { column: reason, default: 未填写 }")
			b.run(t, 0, "records", "retry", "--state", "invalid")
			b.run(t, 0, "sync")
			require.Equal(t, 7, b.gate.Stats().Calls)
			last := b.gate.Records()[6]
			require.True(t, strings.HasPrefix(last["flow_no"], "EX"+table(1)[4:]), last["flow_no"])
		})
	}
}
