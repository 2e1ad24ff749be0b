package daemon_test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/config"
	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
	"parkbridge/internal/testdb"
	"parkbridge/sink/gate"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
)

var drivers = sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver())

// app wires a lot by a configuration of which only the source's own lines are
// given, to a stand-in gate.
func app(t *testing.T, lot *testdb.Lot, source string) (*daemon.App, *gate.Gate) {
	t.Helper()
	g := gate.New(gate.Config{})
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("sink: { url: %s, park_uuid: P }\nsources:\n  - name: lot\n    driver: %s\n    dsn: '%s'\n    timezone: Asia/Shanghai\n    key: id\n    start: earliest\n%s",
		server.URL, lot.Driver, lot.DSN, source)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path, drivers)
	require.NoError(t, err)
	a, err := daemon.New(t.Context(), cfg, drivers, slog.New(slog.DiscardHandler), true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a, g
}

// sync runs every source once and gives what the gate took, by flow_no, and
// what does not map: its problems by field, by key.
func sync(t *testing.T, a *daemon.App, g *gate.Gate) (taken, invalid map[string]map[string]string) {
	t.Helper()
	report := a.Bridge.Sync(t.Context(), 0)
	require.NoError(t, report.Err)
	for _, s := range report.Sources {
		require.NoError(t, s.Err)
	}
	taken, invalid = map[string]map[string]string{}, map[string]map[string]string{}
	for _, r := range g.Records() {
		taken[r["flow_no"]] = r
	}
	records, err := a.Ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(t, err)
	for _, r := range records {
		invalid[r.Key] = map[string]string{}
		for _, p := range r.Problems {
			invalid[r.Key][p.Field] = p.Problem
		}
	}
	return taken, invalid
}

// hexText is a literal of bytes that the engine keeps as text as they are.
func hexText(lot *testdb.Lot, bytes string) string {
	switch lot.Driver {
	case "sqlite":
		return fmt.Sprintf("CAST(x'%x' AS TEXT)", bytes)
	case "postgres":
		return fmt.Sprintf(`convert_from('\x%x', 'SQL_ASCII')`, bytes)
	}
	return fmt.Sprintf("x'%x'", bytes)
}

const (
	gbkPlate = "\xd4\xc1B12345"     // 粤B12345
	gbkName  = "\xd5\xc5\xc8\xfd"   // 张三
	gbkLucky = "\xc1\xaa\xcd\xa8"   // 联通, which is valid UTF-8 of something else
	big5Name = "\xb1\x69\xa4\x54  " // 張三
)

// MySQL 5 as it is found: GBK in columns declared latin1 beside columns declared
// as what they hold, UTF-8 in a latin1 column, Big5 in a binary one, an ENUM.
func TestForeignTextInMySQL(t *testing.T) {
	t.Parallel()
	for name, from := range map[string]string{
		"table": "    table: pass\n",
		"query": "    query: SELECT p.* FROM pass p\n    cursor: id\n",
		"view":  "    table: pass_view\n    cursor: id\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lot := testdb.New(t, "mysql")
			lot.Exec(t, `CREATE TABLE pass (id INT AUTO_INCREMENT PRIMARY KEY,
				serial CHAR(10) CHARACTER SET latin1, plate VARCHAR(20) CHARACTER SET latin1, name TEXT CHARACTER SET gbk, modern VARCHAR(20) CHARACTER SET utf8mb4,
				php VARCHAR(20) CHARACTER SET latin1, big VARBINARY(20), op BIGINT)`)
			lot.Exec(t, "CREATE VIEW pass_view AS SELECT * FROM pass")
			lot.Grant(t, "pass")
			lot.Grant(t, "pass_view")
			row := func(plate string) {
				lot.Exec(t, "INSERT INTO pass (serial, plate, name, modern, php, big, op) VALUES ('E1', "+hexText(lot, plate)+", '张三', '设备异常', "+
					hexText(lot, "月卡")+", "+hexText(lot, big5Name)+", 20261101100000)")
			}
			row(gbkPlate)
			row(gbkLucky)
			row("\xd4\xc1B1234\xd4")
			a, g := app(t, lot, from+`    charset: gbk
    mapping:
      flow_no: { expr: '"EX" + string(id)' }
      parking_serial: serial
      plate: plate
      operator: { expr: 'name + "/" + big', charset: big5 }
      reason: modern
      car_desc: { column: php, charset: utf-8 }
      car_type: { column: plate, values: { 联通: 2 }, otherwise: 1 }
      operate_time: { column: op, format: yyyyMMddHHmmss }
`)
			taken, invalid := sync(t, a, g)
			require.Len(t, taken, 2, invalid)
			require.Equal(t, map[string]string{
				"park_uuid": "P", "flow_no": "EX1", "parking_serial": "E1", "plate": "粤B12345", "operator": "张三/張三", "reason": "设备异常",
				"car_desc": "月卡", "car_type": "1", "operate_time": "2026-11-01T02:00:00Z",
			}, taken["EX1"])
			require.Equal(t, "联通", taken["EX2"]["plate"])
			require.Equal(t, "2", taken["EX2"]["car_type"], "values are compared with the decoded text")
			require.Len(t, invalid, 1)
			require.Contains(t, invalid["3"]["plate"], "not gbk text at byte 8: d4 c1 42 31 32 33 34 [d4]")
		})
	}
}

// Bytes of no declared charset, in SQLite and in a PostgreSQL database that keeps
// them as they come.
func TestForeignTextElsewhere(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			lot := testdb.New(t, engine)
			if engine == "postgres" {
				lot = testdb.NewASCII(t)
			}
			lot.Exec(t, "CREATE TABLE pass (id "+lot.Type("INTEGER", "serial", "")+" PRIMARY KEY, plate "+lot.Type("TEXT", "char(12)", "")+", name TEXT, desk TEXT)")
			lot.Grant(t, "pass")
			for _, plate := range []string{gbkPlate, gbkLucky, "\xff"} {
				lot.Exec(t, "INSERT INTO pass (plate, name, desk) VALUES ("+hexText(lot, plate)+", "+hexText(lot, gbkName)+", "+hexText(lot, "月卡")+")")
			}
			a, g := app(t, lot, `    table: pass
    charset: gbk
    mapping:
      flow_no: { expr: '"EX" + string(id)' }
      parking_serial: id
      plate: plate
      operator: { expr: 'name + "!"' }
      reason: { column: name, values: { 张三: 是 } }
      car_desc: { column: desk, charset: utf-8 }
      operate_time: { const: 2026-11-01 10:00:00 }
`)
			taken, invalid := sync(t, a, g)
			require.Len(t, taken, 2, invalid)
			require.Equal(t, "粤B12345", taken["EX1"]["plate"])
			require.Equal(t, "联通", taken["EX2"]["plate"])
			require.Equal(t, "张三!", taken["EX1"]["operator"])
			require.Equal(t, "是", taken["EX1"]["reason"])
			require.Equal(t, "月卡", taken["EX1"]["car_desc"])
			require.Contains(t, invalid["3"]["plate"], "not gbk text at byte 1: [ff]")
		})
	}
}

// Date and clock in two columns of the engine's own types, and times as the
// numbers that vendors keep.
func TestTimesOfEveryEngine(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			lot := testdb.New(t, engine)
			// day and clock; two date-times that each count for a half; a double of days; digits in a decimal.
			lot.Exec(t, "CREATE TABLE pass (id "+lot.Type("INTEGER", "serial", "INT AUTO_INCREMENT")+" PRIMARY KEY, d DATE, t TIME, dd "+lot.Type("TEXT", "timestamp", "DATETIME")+
				", tt "+lot.Type("TEXT", "timestamp", "DATETIME")+", ole "+lot.Type("REAL", "double precision", "DOUBLE")+", digits "+lot.Type("NUMERIC", "numeric(17,2)", "DECIMAL(17,2)")+")")
			lot.Grant(t, "pass")
			lot.Exec(t, "INSERT INTO pass (d, t, dd, tt, ole, digits) VALUES ('2026-11-01', '10:00:01', '2026-11-01 00:00:00', '1899-12-30 10:00:02', 46327.416701388887, 20261101100000)")
			halves := `'string(dd, "yyyy-MM-dd") + " " + string(tt, "HH:mm:ss")'`
			if engine == "sqlite" {
				halves = `'dd[:10] + tt[10:]'` // it has no date-times of its own
			}
			a, g := app(t, lot, `    table: pass
    mapping:
      flow_no: { expr: '"EX" + string(id)' }
      parking_serial: { expr: 'd + "T" + t' }
      plate: { const: x }
      operator: { const: x }
      reason: { const: x }
      operate_time: { expr: 'd + " " + t', format: "yyyy-MM-dd HH:mm:ss" }
      enter_time: { expr: `+halves+` }
      leave_time: { column: ole, format: ole }
`)
			taken, invalid := sync(t, a, g)
			require.Len(t, taken, 1, invalid)
			require.Equal(t, "2026-11-01T10:00:01", taken["EX1"]["parking_serial"])
			require.Equal(t, "2026-11-01T02:00:01Z", taken["EX1"]["operate_time"])
			require.Equal(t, "2026-11-01T02:00:02Z", taken["EX1"]["enter_time"])
			require.Equal(t, "2026-11-01T02:00:03Z", taken["EX1"]["leave_time"])
			a, g = app(t, lot, `    table: pass
    mapping:
      flow_no: { expr: '"EX" + string(id)' }
      parking_serial: id
      plate: { const: x }
      operator: { const: x }
      reason: { const: x }
      operate_time: { column: digits, format: yyyyMMddHHmmss }
`)
			taken, invalid = sync(t, a, g)
			require.Len(t, taken, 1, invalid)
			require.Equal(t, "2026-11-01T02:00:00Z", taken["EX1"]["operate_time"])
		})
	}
}

// A row from the future does not map, holds nothing up, and maps once its time
// has come or the source allows it.
func TestMaxFuture(t *testing.T) {
	t.Parallel()
	lot := testdb.New(t, "sqlite")
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, op TEXT)")
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	require.NoError(t, err)
	at := func(ahead time.Duration) string { return time.Now().Add(ahead).In(shanghai).Format(time.DateTime) }
	lot.Exec(t, "INSERT INTO pass VALUES (1, '"+at(23*time.Hour)+"'), (2, '"+at(25*time.Hour)+"'), (3, '"+at(-time.Hour)+"')")
	source := `    table: pass
    mapping:
      flow_no: { expr: '"EX" + string(id)' }
      parking_serial: id
      plate: { const: x }
      operator: { const: x }
      reason: { const: x }
      operate_time: op
`
	a, g := app(t, lot, source)
	taken, invalid := sync(t, a, g)
	require.Len(t, taken, 2)
	require.Contains(t, invalid["2"]["operate_time"], "more than 24h after the row was read")

	records, err := a.Ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(t, err)
	state, _, err := a.Bridge.Remap(t.Context(), a.Bridge.Sources[0], records[0])
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	a.Bridge.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	state, _, err = a.Bridge.Remap(t.Context(), a.Bridge.Sources[0], records[0])
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)

	a, g = app(t, lot, "    max_future: 48h\n"+source)
	taken, _ = sync(t, a, g)
	require.Len(t, taken, 3)
}
