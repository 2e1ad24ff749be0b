package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sink"
	"parkbridge/sink/gate"
)

// program is the built program, which the tests run as a user would.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "parkbridge-e2e-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "parkbridge")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("building the program: %v\n%s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// booth is a PC with parkbridge on it: a folder, a config, a lot and a gate.
type booth struct {
	dir    string
	lot    *testdb.Lot
	gate   *gate.Gate
	server *httptest.Server
	open   atomic.Int64 // the server's connections
	rows   int
	// serving is what the server asks for the gate; it may change while it runs.
	serving atomic.Pointer[gate.Gate]
}

// useGate puts another gate behind the same address.
func (b *booth) useGate(cfg gate.Config) {
	b.gate = gate.New(cfg)
	b.serving.Store(b.gate)
}

const boothConfig = `ledger: { dsn: parkbridge.db }
sink:
  url: %s
  app_id: op1234567723122
  app_secret: s3cret-of-the-lot
  park_uuid: 49f0cc52-e8c7-41e3-b54d-af666b8cc11a
  timeout: 5s
  concurrency: 16
sources:
  - name: north-gate
    driver: %s
    dsn: "%s"
    timezone: Asia/Shanghai
    table: abnormal_pass
    key: id
    start: earliest
    schedule: "@every 1s"
    mapping:
      flow_no:        { expr: '"EX" + string(id)' }
      parking_serial: entry_id
      plate:          { column: plate_no, transform: [upper] }
      plate_color:    { column: color, values: { 蓝: 1, 黄: 2, 白: 3, 黑: 4, 绿: 5 }, otherwise: -1 }
      operate_time:   op_time
      operator:       { column: op_name, default: 未知 }
      reason:         { column: reason, default: 未填写 }
`

// newBoothOn makes a booth beside a lot, without a table and a config yet.
func newBoothOn(t *testing.T, lot *testdb.Lot) *booth {
	t.Helper()
	b := &booth{dir: t.TempDir(), lot: lot}
	b.useGate(gate.Config{Secret: "s3cret-of-the-lot"})
	b.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.serving.Load().ServeHTTP(w, r) }))
	b.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state { //nolint:exhaustive // a connection is open between these
		case http.StateNew:
			b.open.Add(1)
		case http.StateClosed:
			b.open.Add(-1)
		}
	}
	b.server.Start()
	t.Cleanup(b.server.Close)
	return b
}

// hear waits until the gate has taken in all that a killed program had sent: what
// it had is accepted before a connection of ours, and ends with its connections.
func (b *booth) hear(t *testing.T) {
	t.Helper()
	own := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL, nil)
	require.NoError(t, err)
	res, err := own.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	await(t, "the killed program's calls are through", func() bool { return b.open.Load() == 0 })
}

func newBooth(t *testing.T, engine string) *booth {
	t.Helper()
	b := newBoothOn(t, testdb.New(t, engine))
	b.lot.Exec(t, "CREATE TABLE abnormal_pass (id "+b.lot.Type("INTEGER PRIMARY KEY AUTOINCREMENT", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")+
		", entry_id VARCHAR(32), plate_no VARCHAR(20), color VARCHAR(8), op_time "+b.lot.Type("TEXT", "timestamp(3)", "DATETIME(3)")+
		", op_name VARCHAR(20), reason VARCHAR(200), picture "+b.lot.Type("BLOB", "bytea", "BLOB")+")")
	b.lot.Grant(t, "abnormal_pass")
	b.write(t, fmt.Sprintf(boothConfig, b.server.URL, engine, strings.ReplaceAll(b.lot.DSN, `\`, `\\`)))
	return b
}

func (b *booth) write(t *testing.T, config string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "config.yaml"), []byte(config), 0o600))
}

// insert writes n releases as the parking system does, 500 a statement.
func (b *booth) insert(t *testing.T, n int) {
	t.Helper()
	for n > 0 {
		var values []string
		for range min(n, 500) {
			b.rows++
			values = append(values, fmt.Sprintf("('E%06d', '粤b%05d', '蓝', '2026-11-01 10:00:%02d.%03d', NULL, '设备异常')", b.rows, b.rows%100000, b.rows%60, b.rows%1000))
		}
		n -= len(values)
		b.lot.Exec(t, "INSERT INTO abnormal_pass (entry_id, plate_no, color, op_time, op_name, reason) VALUES "+strings.Join(values, ","))
	}
}

// command makes a call of the program in the booth's folder.
func (b *booth) command(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return cmd, &stdout, &stderr
}

// run runs the program and checks its exit code, and that no secret shows.
func (b *booth) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd, stdout, stderr := b.command(t.Context(), args...)
	err := cmd.Run()
	all := stdout.String() + stderr.String()
	require.Equal(t, code, cmd.ProcessState.ExitCode(), "%v: %v\n%s", args, err, all)
	require.NotContains(t, all, "s3cret-of-the-lot")
	require.NotContains(t, all, "panic")
	return all
}

func (b *booth) status(t *testing.T) (s statusJSON) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "status", "--json")), &s))
	return s
}

// 10,000 rows from each engine, through the built program, arrive once each; a
// second sync sends nothing; what came meanwhile arrives in the next.
func TestTenThousandRows(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			b.insert(t, 10000)
			b.run(t, 0, "sync")
			require.Equal(t, gate.Stats{Calls: 10000, Taken: 10000}, b.gate.Stats())
			b.run(t, 0, "sync")
			require.Equal(t, 10000, b.gate.Stats().Calls)
			b.insert(t, 100)
			b.run(t, 0, "sync")
			require.Equal(t, gate.Stats{Calls: 10100, Taken: 10100}, b.gate.Stats())

			s := b.status(t)
			require.Equal(t, b.gate.Stats().Taken, s.Sources[0].Counts["delivered"])
			require.Zero(t, s.Sources[0].Counts["pending"])
			require.Equal(t, "10100", *s.Sources[0].Mark)
			require.Equal(t, "ok", s.Sink.State)
			require.Equal(t, 100, s.Sources[0].LastRun.Delivered)

			first := b.gate.Records()[0]
			id := strings.TrimPrefix(first["flow_no"], "EX")
			var n int
			fmt.Sscan(id, &n)
			want := map[string]string{
				"app_id": "op1234567723122", "park_uuid": "49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "flow_no": "EX" + id,
				"parking_serial": fmt.Sprintf("E%06d", n), "plate": fmt.Sprintf("粤B%05d", n), "plate_color": "1",
				"operate_time": fmt.Sprintf("2026-11-01T02:00:%02d.%03dZ", n%60, n%1000), "operator": "未知", "reason": "设备异常",
			}
			want["sign"] = sink.Sign(want, "s3cret-of-the-lot")
			require.Equal(t, want, first)
		})
	}
}

// Killed with SIGKILL at moments spread over its run, and started again, the
// program loses nothing, and sends twice only what it had no time to note.
func TestSIGKILL(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 6000)
	for i := range 12 {
		cmd, _, _ := b.command(t.Context(), "sync")
		require.NoError(t, cmd.Start())
		before := b.gate.Stats().Calls
		// From before the first call to the middle of many; the last ones not before
		// it, however slow the machine is.
		started := time.Now()
		waits := func(calls int) bool {
			if i >= 8 && calls == 0 {
				return time.Since(started) < 20*time.Second
			}
			return time.Since(started) < time.Duration(i)*15*time.Millisecond && calls < 400*i
		}
		for waits(b.gate.Stats().Calls - before) {
			runtime.Gosched()
		}
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	b.run(t, 0, "sync")
	s := b.gate.Stats()
	require.Equal(t, 6000, s.Taken)
	require.LessOrEqual(t, s.Repeats, 12*16, "at most what was under way")
	require.Equal(t, 6000, b.status(t).Sources[0].Counts["delivered"])
	require.Contains(t, b.run(t, 0, "status", "--runs", "20"), "killed before its end")
}

// A sync that finds nothing has not failed, and says so.
func TestSyncOfNothing(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 3)
	b.run(t, 0, "sync")
	for range 2 {
		out := b.run(t, 0, "sync")
		require.Regexp(t, `north-gate +\d +0 +0 +0 +0 +0 .*ok`, out)
	}
	require.Contains(t, b.run(t, 0, "sync", "--json"), `"landed": 0`)
}

// Each exit code, in the order of the README.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	require.Contains(t, b.run(t, 1, "status"), "there is none yet")
	b.insert(t, 30)
	b.run(t, 2, "no-such-command")
	b.run(t, 2, "sync", "--no-such-flag")
	b.run(t, 2, "sync", "--source", "south-gate")
	b.run(t, 2, "sync", "-c", "no-such-file.yaml")
	b.run(t, 2, "sync", "--limit", "-1")

	b.gate.Answer(gate.Answer{Code: "503"})
	require.Contains(t, b.run(t, 4, "sync", "--limit", "1"), "gate: failing")
	b.gate.Answer(gate.Answer{Code: "401"})
	out := b.run(t, 4, "sync", "--limit", "1")
	require.Contains(t, out, "gate: blocked")
	require.Contains(t, b.run(t, 0, "status"), "gate: blocked")
	b.gate.Answer()
	b.run(t, 0, "resume")
	require.Contains(t, b.run(t, 0, "sync", "--limit", "1"), "left for the next sync: 29")
	b.gate.Answer(gate.Answer{Code: "400", Times: 1})
	b.run(t, 3, "sync")
	b.run(t, 0, "sync")

	b.lot.Exec(t, "ALTER TABLE abnormal_pass RENAME TO renamed")
	require.Contains(t, b.run(t, 2, "sync"), "config.yaml:14:5: sources[0].table abnormal_pass is not there")
	b.lot.Exec(t, "ALTER TABLE renamed RENAME TO abnormal_pass")

	// Another run holds the source: 5, and who.
	cmd, _, stderr := b.command(t.Context(), "run")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return b.status(t).Sources[0].LeaseHolder != nil }, 10*time.Second, 20*time.Millisecond)
	require.Contains(t, b.run(t, 5, "sync"), fmt.Sprintf("held by process %d", cmd.Process.Pid))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), stderr.String())
	b.run(t, 0, "sync")

	// 1: failed while running; what had landed is still sent.
	require.NoError(t, os.Rename(b.lot.DSN, b.lot.DSN+".away"))
	require.Contains(t, b.run(t, 1, "sync"), "is not there")
}

// Five different mistakes come back as five, with line and column, and 2.
func TestFiveMistakes(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	config := fmt.Sprintf(boothConfig, "http//x", "sqlight", "lot.db")
	config = strings.NewReplacer("start: earliest", "begin: earliest", "timeout: 5s", "timeout: 5", "[upper]", "[uper]").Replace(config)
	b.write(t, config)
	out := b.run(t, 2, "sync")
	for _, want := range []string{
		"config.yaml:3:3: sink.url", "config.yaml:7:12: sink.timeout", "config.yaml:11:5: sources[0].driver",
		"config.yaml:16:5: sources[0].begin", "config.yaml:21:43: sources[0].mapping.plate.transform", "sources[0].start is missing",
	} {
		require.Contains(t, out, want)
	}
	require.Len(t, regexp.MustCompile(`config\.yaml:\d+:\d+: `).FindAllString(out, -1), 6)
}

// The daemon delivers what comes while it runs, and stops in time.
func TestDaemon(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			b.insert(t, 50)
			cmd, _, stderr := b.command(t.Context(), "run")
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool { return b.gate.Stats().Taken == 50 }, 15*time.Second, 20*time.Millisecond, "%s", stderr)
			b.insert(t, 50)
			require.Eventually(t, func() bool { return b.gate.Stats().Taken == 100 }, 15*time.Second, 20*time.Millisecond, "%s", stderr)
			asked := time.Now()
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			require.NoError(t, cmd.Wait(), stderr.String())
			require.Less(t, time.Since(asked), 10*time.Second)
			require.Equal(t, 100, b.status(t).Sources[0].Counts["delivered"])
			require.NotContains(t, stderr.String(), "粤", "plates stay out of the log")
		})
	}
}

// What an operator does about single records.
func TestRecords(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 10)
	b.lot.Exec(t, "UPDATE abnormal_pass SET op_time = '0000-00-00 00:00:00' WHERE id = 3")
	b.gate.Answer(gate.Answer{Code: "400", Hint: "plate is wrong", Match: func(f map[string]string) bool { return f["flow_no"] == "EX5" }})
	b.run(t, 3, "sync")

	out := b.run(t, 0, "records", "list")
	require.Contains(t, out, "plate is wrong")
	require.Contains(t, out, "0000-00-00")
	out = b.run(t, 0, "records", "show", "EX5")
	require.Contains(t, out, "rejected")
	require.Contains(t, out, "粤B00005")
	require.Contains(t, b.run(t, 0, "records", "show", "--source", "north-gate", "--key", "3"), "operate_time")
	require.Contains(t, b.run(t, 1, "records", "show", "EX99"), "no such record")
	require.Contains(t, b.run(t, 2, "records", "list", "--state", "lost"), "is not one of pending")

	var list struct {
		Records []recordJSON `json:"records"`
	}
	require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "records", "list", "--state", "rejected,invalid", "--json")), &list))
	require.Len(t, list.Records, 2)
	require.Equal(t, "operate_time", list.Records[1].Errors[0].Field)
	require.Nil(t, list.Records[1].FlowNo)
	require.Equal(t, "plate is wrong", *list.Records[0].Hint)
	require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "records", "list", "--plate", "粤B00007", "--json")), &list))
	require.Len(t, list.Records, 1)

	b.gate.Answer()
	require.Contains(t, b.run(t, 0, "records", "retry", "EX5"), "is pending")
	require.Contains(t, b.run(t, 3, "records", "retry", "--state", "invalid"), "is invalid")
	require.Contains(t, b.run(t, 2, "records", "dismiss", "3"), "--note is missing")
	b.run(t, 0, "records", "dismiss", "--source", "north-gate", "--key", "3", "--note", "a test of the barrier")
	require.Contains(t, b.run(t, 1, "records", "dismiss", "EX1", "--note", "x"), "record 1 is delivered")
	b.run(t, 0, "sync")
	require.Equal(t, map[string]int{"held": 0, "pending": 0, "delivered": 9, "rejected": 0, "invalid": 0, "dismissed": 1}, b.status(t).Sources[0].Counts)

	require.Contains(t, b.run(t, 0, "records", "resend", "--since", "1h"), "9 delivered records are pending again")
	b.run(t, 0, "sync")
	require.Equal(t, 9, b.gate.Stats().Repeats)
	require.Equal(t, 9, b.gate.Stats().Taken)
}

// The example shows every key, loads, and runs.
func TestExampleConfig(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	raw, err := os.ReadFile("../../config.example.yaml")
	require.NoError(t, err)
	text := strings.Replace(string(raw), "https://api.4pyun.com/gate/1.0/parking/internal/update", b.server.URL, 1)
	require.NotEqual(t, string(raw), text)
	b.write(t, text)
	b.lot.Exec(t, "DROP TABLE abnormal_pass")
	b.lot.Exec(t, "CREATE TABLE abnormal_pass (id INTEGER PRIMARY KEY, entry_id TEXT, plate_no TEXT, color TEXT, card_kind TEXT, in_time TEXT, out_time, op_time TEXT, op_name TEXT, reason TEXT, open_kind INTEGER)")
	b.lot.Exec(t, "INSERT INTO abnormal_pass VALUES (1, 'E1', ' 粤b12345', '蓝', '月卡', '2026-11-01 08:00:00', 1793498400, '2026-11-01 10:00:01', NULL, '', 1), (2, 'E2', 'x', NULL, NULL, NULL, NULL, '2026-11-01 10:00:01', 'x', 'x', 0)")
	require.NoError(t, os.Rename(b.lot.DSN, filepath.Join(b.dir, "lot.db")))
	t.Cleanup(func() { _ = os.Rename(filepath.Join(b.dir, "lot.db"), b.lot.DSN) })
	cmd, stdout, stderr := b.command(t.Context(), "sync")
	cmd.Env = append(os.Environ(), "PARKBRIDGE_APP_ID=op1", "PARKBRIDGE_APP_SECRET=s3cret-of-the-lot")
	require.NoError(t, cmd.Run(), "%s%s", stdout, stderr)
	records := b.gate.Records()
	require.Len(t, records, 1)
	require.Equal(t, "粤B12345", records[0]["plate"])
	require.Equal(t, "2026-11-01T00:00:00Z", records[0]["enter_time"])
	require.Equal(t, "2026-11-01T02:00:00Z", records[0]["leave_time"])
	log, err := os.ReadFile(filepath.Join(b.dir, "parkbridge.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "a run ended")
	require.NotContains(t, string(log), "12345", "plates stay out of the log")

	// Every key of the config has its line in the example.
	for _, key := range configKeys() {
		require.Regexp(t, `(?m)(^|[\s{#])`+regexp.QuoteMeta(key)+`:`, string(raw), key)
	}
}

// The demo ends well, with the gate and the ledger agreeing.
func TestDemo(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	out := b.run(t, 0, "demo", "--folder", filepath.Join(b.dir, "demo"))
	require.Contains(t, out, "The gate counts 395 distinct records in 395 calls.")
	require.Contains(t, out, "粤B12345")
	require.Contains(t, b.run(t, 0, "status", "-c", filepath.Join(b.dir, "demo", "config.yaml")), "395")
	require.Contains(t, b.run(t, 1, "demo", "--folder", filepath.Join(b.dir, "demo")), "is there already")
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	require.Contains(t, b.run(t, 0, "__complete", "sync", "--source", ""), "north-gate")
	require.Contains(t, b.run(t, 0, "completion", "bash"), "parkbridge")
	require.Contains(t, b.run(t, 0, "version"), "parkbridge ")
}

// The first signal asks to stop and lets calls bring their answers home; a
// second one ends the program at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.useGate(gate.Config{Latency: time.Hour})
	b.run(t, 0, "sync") // makes the ledger
	b.insert(t, 5)
	cmd, _, stderr := b.command(t.Context(), "run")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return b.status(t).Sources[0].Counts["pending"] == 5 }, 10*time.Second, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		t.Fatalf("it did not wait for its calls: %s", stderr)
	case <-time.After(time.Second):
	}
	asked := time.Now()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, <-ended)
	require.Less(t, time.Since(asked), 3*time.Second)
	b.server.CloseClientConnections()
	require.Equal(t, 5, b.status(t).Sources[0].Counts["pending"], "nothing is lost")
}

// A mark is moved on purpose only, and with a confirmation.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			b.insert(t, 20)
			b.run(t, 0, "sync")
			require.Contains(t, b.run(t, 2, "reset", "--source", "north-gate", "--to", "earliest"), "not confirmed")
			require.Equal(t, "20", *b.status(t).Sources[0].Mark)
			require.Contains(t, b.run(t, 2, "reset", "--source", "north-gate", "--to", "lastest", "--yes"), "neither earliest nor latest")
			require.Contains(t, b.run(t, 0, "reset", "--source", "north-gate", "--to", "11", "--yes"), "was at 20 and is at 11 now")
			b.run(t, 0, "sync")
			last := b.status(t).Sources[0].LastRun
			// Where transactions may still insert below 11, that is read again too.
			read := map[string]int{"sqlite": 10, "postgres": 21, "mysql": 21}[engine]
			require.Equal(t, [3]int{read, 0, 0}, [3]int{last.Read, last.Landed, last.Delivered})
			require.Equal(t, 20, b.gate.Stats().Calls)

			raw, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
			require.NoError(t, err)
			b.write(t, strings.Replace(string(raw), "    key: id\n", "    key: id\n    cursor: op_time\n", 1))
			require.Contains(t, b.run(t, 2, "sync"), `config.yaml:16:5: sources[0].cursor was "id" when the mark "20" was made`)
			b.run(t, 0, "reset", "--source", "north-gate", "--to", "earliest", "--yes")
			b.run(t, 0, "sync")
			require.Equal(t, 20, b.gate.Stats().Calls, "nothing is sent again")
		})
	}
}
