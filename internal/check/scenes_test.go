package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/config"
)

const byID = `
    table: pass
    key: id
    start: earliest`

func good(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.insert(t, "pass", 120, nil)
	if s.Driver == "mysql" {
		s.GrantProcess(t)
	}
	return s.look(t, s.DSN, byID+fields)
}

func noRows(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.sink = "" // unsigned
	return s.look(t, s.DSN, byID+fields)
}

func tooManyRights(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.insert(t, "pass", 3, nil)
	if s.Driver == "postgres" {
		var name string
		require.NoError(t, s.DB.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&name))
		s.Exec(t, "ALTER DATABASE "+name+" SET TimeZone = 'UTC'")
	}
	text := s.look(t, s.Admin, byID+fields)
	if s.Driver == "sqlite" {
		return text
	}
	// The administrator is the server's own, and where it is called parkbridge the
	// account to be made is called otherwise.
	var admin string
	require.NoError(t, s.DB.QueryRowContext(t.Context(), s.Type("", "SELECT current_user", "SELECT CURRENT_USER()")).Scan(&admin))
	if s.Driver == "mysql" {
		name, host, _ := strings.Cut(admin, "@")
		admin = "'" + name + "'@'" + host + "'"
		text = strings.ReplaceAll(text, "@'"+host+"'", "@'HOST'")
		admin = strings.ReplaceAll(admin, "@'"+host+"'", "@'HOST'")
	}
	return strings.NewReplacer("as "+admin+"\n", "as ADMIN\n", admin+" may do", "ADMIN may do", "parkbridge_reader", "parkbridge").Replace(text)
}

func wrongColumns(t *testing.T, s *stand) string {
	s.makeTable(t, "pass", "counted INTEGER", "lane_no "+s.Type("REAL", "double precision", "DOUBLE"), "picture "+s.Type("BLOB", "bytea", "BLOB"),
		"clock "+s.Type("TEXT", "time", "TIME"), "flag "+s.Type("BOOLEAN", "boolean", "BIT"))
	return s.look(t, s.DSN, byID+`
    mapping:
      flow_no:        plat
      parking_serial: lane_no
      plate:          plate_number
      plate_color:    picture
      car_desc:       picture
      operate_time:   counted
      enter_time:     clock
      leave_time:     picture
      operator:       op_name
      reason:         { const: 设备异常 }
`)
}

func noTable(t *testing.T, s *stand) string {
	s.makeTable(t, "other") // so that there is a file, and something that the account may read
	return s.look(t, s.DSN, byID+fields)
}

func noConnection(t *testing.T, s *stand) string {
	if s.Driver == "sqlite" {
		return s.look(t, filepath.Join(filepath.Dir(s.DSN), "lost.db"), byID+fields)
	}
	dsn := map[string]string{"postgres": "postgres://parkbridge:s3cret@127.0.0.1:1/lot", "mysql": "parkbridge:s3cret@tcp(127.0.0.1:1)/lot"}
	return s.look(t, dsn[s.Driver], byID+fields)
}

func badWhere(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.insert(t, "pass", 3, nil)
	return s.look(t, s.DSN, byID+`
    where: plate_no LIKES 'x'`+fields)
}

func badRows(t *testing.T, s *stand) string {
	s.makeTable(t, "pass", "color VARCHAR(8)", "kind VARCHAR(8)", "op_text VARCHAR(20)")
	if s.Driver == "mysql" {
		s.GrantProcess(t)
	}
	s.insert(t, "pass", 100, func(i int) map[string]string {
		row := map[string]string{"op_text": fmt.Sprintf("'2026-11-24 09:%02d'", i%60), "kind": "'月卡'", "color": "'蓝'"}
		switch {
		case i%10 == 1:
			row["entry_id"] = "'0'"
		case i == 98:
			row["op_text"] = "''"
		case i == 97:
			row["op_text"] = "'24/11/2026'"
		case i > 90 && i < 95:
			row["kind"] = fmt.Sprintf("'访客%d'", i)
		case i == 90:
			row["plate_no"] = "'无牌'"
		case i == 89:
			row["color"] = "'紫'"
		}
		return row
	})
	return s.look(t, s.DSN, byID+`
    mapping:
      flow_no:        { expr: '"EX" + string(id % 99)' }
      parking_serial: entry_id
      plate:          { column: plate_no, transform: [digits], values: { "00001": 粤B00001 }, otherwise: 粤B }
      plate_color:    { column: color, values: { 蓝: 1 } }
      car_type:       { column: kind, values: { 月卡: 2 } }
      operate_time:   { column: op_text, format: "yyyy-MM-dd HH:mm" }
      operator:       { column: plate_no, values: { 无牌: 无牌 }, otherwise: 未知 }
      reason:         { const: 设备异常 }
`)
}

func notReady(t *testing.T, s *stand) string {
	s.makeTable(t, "pass", "why VARCHAR(20)")
	if s.Driver == "mysql" {
		s.GrantProcess(t)
	}
	s.insert(t, "pass", 50, func(i int) map[string]string {
		return map[string]string{"why": map[int]string{1: "NULL", 2: "''"}[i%10] + map[bool]string{true: "'抬杆'"}[i%10 > 2 || i%10 == 0]}
	})
	ready := func(condition string) string {
		return s.look(t, s.DSN, byID+"\n    ready: '"+condition+"'"+fields)
	}
	return ready(`(why ?? "") != ""`) + "--- with NULL forgotten\n" + ready(`why != ""`) +
		"--- never ready\n" + ready(`why == "x"`) + "--- always ready\n" + ready("id > 0") + "--- no condition\n" + ready("why")
}

func noneMaps(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.insert(t, "pass", 5, nil)
	return s.look(t, s.DSN, byID+`
    mapping:
      flow_no:        { expr: '"EX" + string(id)' }
      parking_serial: entry_id
      plate:          { column: plate_no, values: { x: y } }
      operate_time:   op_time
      operator:       op_name
      reason:         { const: 设备异常 }
`)
}

const byTime = `
    table: pass
    key: id
    cursor: op_time
    start: earliest`

func keyNotUnique(t *testing.T, s *stand) string {
	s.makeTableAs(t, "pass", "id INTEGER NOT NULL")
	s.Exec(t, "CREATE INDEX pass_time ON pass (op_time)")
	s.insert(t, "pass", 50, func(i int) map[string]string { return map[string]string{"id": fmt.Sprint(i)} })
	unique := s.look(t, s.DSN, byTime+fields)
	s.insert(t, "pass", 2, func(int) map[string]string { return map[string]string{"id": "7"} })
	s.Exec(t, "ALTER TABLE pass ADD COLUMN lane INTEGER NOT NULL DEFAULT 0")
	return unique + "--- with a key that is there twice\n" + s.look(t, s.DSN, byTime+fields)
}

func keyMayBeNull(t *testing.T, s *stand) string {
	s.makeTableAs(t, "pass", "id INTEGER UNIQUE")
	s.Exec(t, "CREATE INDEX pass_time ON pass (op_time)")
	s.insert(t, "pass", 5, func(i int) map[string]string { return map[string]string{"id": fmt.Sprint(i)} })
	return s.look(t, s.DSN, byTime+fields)
}

func keyIsNull(t *testing.T, s *stand) string {
	s.makeTableAs(t, "pass", "id INTEGER UNIQUE")
	s.Exec(t, "CREATE INDEX pass_time ON pass (op_time)")
	s.insert(t, "pass", 5, func(i int) map[string]string {
		return map[string]string{"id": map[bool]string{true: "NULL", false: fmt.Sprint(i)}[i == 3]}
	})
	return s.look(t, s.DSN, byTime+fields)
}

func timeCursor(t *testing.T, s *stand) string {
	s.makeTable(t, "pass", "done_at "+s.Type("TEXT", "timestamp", "DATETIME")+" NOT NULL")
	s.Exec(t, "CREATE INDEX pass_done ON pass (done_at, id)")
	s.insert(t, "pass", 50, func(i int) map[string]string {
		// The last ones are dated later than now.
		return map[string]string{"op_time": fmt.Sprintf("'2026-11-24 10:%02d:00'", i), "done_at": fmt.Sprintf("'2026-11-24 10:%02d:00'", i)}
	})
	ok := s.look(t, s.DSN, strings.Replace(byTime, "op_time", "done_at", 1)+fields)
	if s.Driver == "sqlite" {
		s.Exec(t, "UPDATE pass SET done_at = 'no time' WHERE id = 3")
		s.Exec(t, "UPDATE pass SET op_time = 1793498400 WHERE id > 48")
		ok += "--- with texts that are no times, and other types\n" + s.look(t, s.DSN, strings.Replace(byTime, "op_time", "done_at", 1)+fields)
		s.Exec(t, "ALTER TABLE pass ADD COLUMN stamp")
		s.Exec(t, "UPDATE pass SET stamp = CASE WHEN id < 40 THEN op_time WHEN id < 48 THEN 1793498400 + id ELSE 2461345.5 END")
		ok += "--- with other types\n" + s.look(t, s.DSN, strings.Replace(byTime, "op_time", "stamp", 1)+fields)
	}
	return ok
}

func nullCursor(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	none := s.look(t, s.DSN, byTime+fields)
	s.insert(t, "pass", 50, func(i int) map[string]string {
		return map[string]string{"op_time": map[bool]string{true: "NULL", false: "'2026-11-24 09:00:00'"}[i%10 == 0]}
	})
	return none + "--- with rows that have none\n" + s.look(t, s.DSN, byTime+fields) +
		"--- included\n" + s.look(t, s.DSN, byTime+"\n    null_cursor: include"+fields)
}

func bigWithoutIndex(t *testing.T, s *stand) string {
	s.makeTableAs(t, "pass", "id INTEGER NOT NULL")
	s.insert(t, "pass", 500, func(i int) map[string]string { return map[string]string{"id": fmt.Sprint(i)} })
	for n := 500; n < 125000; n *= 2 {
		s.Exec(t, fmt.Sprintf("INSERT INTO pass (id, entry_id, plate_no, op_time) SELECT id + %d, entry_id, plate_no, op_time FROM pass", n))
	}
	s.count(t, "pass")
	return s.look(t, s.DSN, byTime+fields)
}

// bigIndexNoKey has an index that begins with the cursor and has no key in it.
func bigIndexNoKey(t *testing.T, s *stand) string {
	s.makeTableAs(t, "pass", "id INTEGER NOT NULL")
	s.Exec(t, "CREATE INDEX pass_time ON pass (op_time)")
	s.insert(t, "pass", 500, func(i int) map[string]string { return map[string]string{"id": fmt.Sprint(i)} })
	for n := 500; n < 30000; n *= 2 {
		s.Exec(t, fmt.Sprintf("INSERT INTO pass (id, entry_id, plate_no, op_time) SELECT id + %d, CONCAT('E', id + %d), plate_no, op_time FROM pass", n, n))
	}
	s.count(t, "pass")
	return s.look(t, s.DSN, byTime+fields)
}

func query(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.insert(t, "pass", 30, nil)
	return s.look(t, s.DSN, `
    query: SELECT p.*, p.op_time AS seen FROM pass p WHERE p.plate_no <> ''
    key: id
    cursor: seen
    start: earliest`+fields)
}

func view(t *testing.T, s *stand) string {
	s.makeTable(t, "base")
	s.insert(t, "base", 30, nil)
	s.Exec(t, "CREATE VIEW pass AS SELECT * FROM base WHERE plate_no <> ''")
	s.Grant(t, "pass")
	return s.look(t, s.DSN, byTime+fields)
}

// Two sources of one lot that make the same numbers.
func twoSources(t *testing.T, s *stand) string {
	s.makeTable(t, "pass")
	s.insert(t, "pass", 3, nil)
	path := filepath.Join(s.dir, "config.yaml")
	source := func(name string) string {
		return fmt.Sprintf("  - name: %s\n    driver: %s\n    dsn: '%s'\n    timezone: Asia/Shanghai", name, s.Driver, strings.ReplaceAll(s.DSN, "'", "''")) + byID + fields
	}
	text := fmt.Sprintf("sink: { app_secret: s3cret, url: %s, park_uuid: lot-1 }\nsources:\n", s.gate.URL) + source("north") + source("south")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path, drivers)
	require.NoError(t, err)
	all := s.lines(t, cfg, 100)
	var flows []string
	for line := range strings.SplitSeq(all, "\n") {
		if strings.Contains(line, "flow_no") {
			flows = append(flows, line)
		}
	}
	require.Len(t, flows, 3, all)
	return strings.Join(flows, "\n") + "\n"
}

const monthly = `
    table: out_{yyyyMM}
    key: id
    start: 2026-10-01`

// fieldsOfMonths is fields with numbers that the months do not share.
var fieldsOfMonths = strings.Replace(fields, `"EX" + string(id)`, `"EX" + period + "-" + string(id)`, 1)

func series(t *testing.T, s *stand) string {
	s.makeTable(t, "out_202610")
	s.makeTable(t, "out_202611")
	s.makeTable(t, "out_202701") // made ahead of its time
	s.insert(t, "out_202610", 120, nil)
	s.insert(t, "out_202611", 120, nil)
	if s.Driver == "mysql" {
		s.GrantProcess(t)
	}
	return s.look(t, s.DSN, monthly+fieldsOfMonths)
}

// The table of the month is not there yet, older ones have other columns, and the
// numbers of all months are the same.
func seriesOdd(t *testing.T, s *stand) string {
	s.makeTable(t, "out_202610")
	s.makeTable(t, "out_202609", "reason2 VARCHAR(9)")
	s.Exec(t, "ALTER TABLE out_202609 RENAME COLUMN plate_no TO plate")
	s.makeTable(t, "out_202608")
	s.Exec(t, "ALTER TABLE out_202608 DROP COLUMN op_name")
	s.Exec(t, "ALTER TABLE out_202608 ADD COLUMN op_name "+s.Type("INTEGER", "integer", "INT"))
	s.insert(t, "out_202610", 50, nil)
	return s.look(t, s.DSN, monthly+fields)
}

func seriesNone(t *testing.T, s *stand) string {
	s.makeTable(t, "out_2611")
	none := s.look(t, s.DSN, monthly+fieldsOfMonths)
	s.makeTable(t, "out_202701")
	return none + "--- with one of a time to come\n" + s.look(t, s.DSN, monthly+fieldsOfMonths)
}
