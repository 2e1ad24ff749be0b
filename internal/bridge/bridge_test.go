package bridge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parkbridge/internal/bridge"
	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/internal/testdb"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sink/gate"
	"parkbridge/sources"
	"parkbridge/sources/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a lot on SQLite, a stand-in gate behind real HTTP, and a bridge.
type rig struct {
	serving atomic.Pointer[http.Handler] // what the server asks; it may change while it runs
	*bridge.Bridge
	lot    *testdb.Lot
	gate   *gate.Gate
	server *httptest.Server
	rows   int
}

const secret = "s3cret"

func newRig(t testing.TB, change ...func(*bridge.Settings)) *rig {
	t.Helper()
	r := &rig{lot: testdb.New(t, "sqlite")}
	r.remake(gate.Config{Secret: secret})
	r.lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, serial TEXT, plate TEXT, op TEXT)")
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { (*r.serving.Load()).ServeHTTP(w, req) }))
	t.Cleanup(r.server.Close)
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(t.TempDir(), "ledger.db"))}, time.Now, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	set := bridge.Settings{Timeout: 2 * time.Second, Concurrency: 4, Retention: time.Hour}
	for _, f := range change {
		f(&set)
	}
	r.Bridge = &bridge.Bridge{Ledger: l, Settings: set, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	r.useSecret(t, secret)
	r.Sources = []*bridge.Source{r.source(t, "pass", "north")}
	return r
}

// useSecret makes the client sign with another secret.
func (r *rig) useSecret(t testing.TB, s string) {
	t.Helper()
	c, err := sink.New(sink.Config{URL: r.server.URL, AppSecret: sink.Secret(s), Timeout: r.Settings.Timeout, Concurrency: r.Settings.Concurrency})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	r.Gate = c
}

func (r *rig) source(t testing.TB, table, name string) *bridge.Source {
	t.Helper()
	lot := "P"
	operator := "张三"
	rules := mapping.Rules{
		"park_uuid": {Const: &lot}, "flow_no": {Expr: `"EX" + string(id)`}, "parking_serial": {Column: "serial"}, "plate": {Column: "plate"},
		"operate_time": {Column: "op"}, "operator": {Const: &operator}, "reason": {Const: &operator},
	}
	var contract []mapping.Field
	for _, f := range sink.Contract() {
		contract = append(contract, mapping.Field(f))
	}
	program := mapping.Compile(rules, contract, mapping.Settings{Location: time.UTC}, func(path, problem string) { t.Fatal(path, problem) })
	cfg := sources.Config{Name: name, Driver: "sqlite", DSN: sources.Secret(r.lot.DSN), Table: table, Key: []string{"id"}, Start: "earliest"}
	cfg.Defaults()
	s := &bridge.Source{
		Name: name, Table: table, Program: program, Poller: poller(100),
		Open: func(ctx context.Context) (bridge.Reader, error) {
			return openTable(ctx, cfg, program)
		},
	}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func poller(pageSize int) *capture.Poller {
	p := &capture.Poller{PageSize: pageSize, Start: "earliest"}
	p.Config.Defaults()
	return p
}

func openTable(ctx context.Context, cfg sources.Config, program *mapping.Program) (bridge.Reader, error) {
	r, err := sources.Open(ctx, sources.NewRegistry(sqlite.Driver()), cfg, program.Needs())
	if err != nil {
		return nil, err
	}
	return bridge.Table(r), nil
}

// insert adds n releases, each of a serial of its own.
func (r *rig) insert(t testing.TB, n int) {
	t.Helper()
	var values []string
	for range n {
		r.rows++
		values = append(values, fmt.Sprintf("(%d, 'S%d', '粤B%05d', '2026-11-01 10:00:00')", r.rows, r.rows, r.rows))
	}
	r.lot.Exec(t, "INSERT INTO pass VALUES "+strings.Join(values, ","))
}

func (r *rig) sync(t *testing.T, limit int) bridge.Report {
	t.Helper()
	report := r.Sync(t.Context(), limit)
	require.NoError(t, report.Err)
	require.NoError(t, report.Sources[0].Err)
	return report
}

// counts gives pending, delivered, rejected, invalid.
func (r *rig) counts(t *testing.T) [4]int {
	t.Helper()
	s, err := r.Ledger.Status(t.Context(), "north")
	require.NoError(t, err)
	return [4]int{s.Counts["pending"], s.Counts["delivered"], s.Counts["rejected"], s.Counts["invalid"]}
}

func (r *rig) record(t *testing.T, key int) ledger.Record {
	t.Helper()
	found, err := r.Ledger.Records(t.Context(), ledger.Filter{Source: "north", Key: fmt.Sprint(key)})
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func plate(n int) func(map[string]string) bool {
	return func(f map[string]string) bool { return f["flow_no"] == fmt.Sprintf("EX%d", n) }
}

func TestDeliveredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 950)
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 950, 0, 0}, r.counts(t))
	require.Equal(t, gate.Stats{Calls: 950, Taken: 950}, r.gate.Stats())
	report := r.sync(t, 0)
	require.Equal(t, 950, r.gate.Stats().Calls, "a second sync sends nothing")
	require.Zero(t, report.Sources[0].Run.Delivered)
	r.insert(t, 50)
	report = r.sync(t, 0)
	require.Equal(t, 50, report.Sources[0].Run.Delivered)
	require.Equal(t, 1000, r.gate.Stats().Taken)
}

func TestLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 20)
	report := r.sync(t, 1)
	require.True(t, report.Limited)
	require.Equal(t, 19, report.Sources[0].Pending)
	require.Equal(t, 1, r.gate.Stats().Calls)
	r.sync(t, 5)
	require.Equal(t, 6, r.gate.Stats().Calls)
	// The limit holds for records that are not taken, too.
	r.gate.Answer(gate.Answer{Code: "401"})
	report = r.sync(t, 1)
	require.LessOrEqual(t, r.gate.Stats().Calls, 8)
	require.Equal(t, ledger.SinkBlocked, report.Sink.State)
	r.gate.Answer()
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 20, 0, 0}, r.counts(t))
}

// Poison row: a row that does not map is kept with its reasons and holds
// nothing up; after the mapping or the row is mended, it goes.
func TestInvalidRowsHoldNothingUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 10)
	r.lot.Exec(t, "UPDATE pass SET op = '0000-00-00 00:00:00', plate = NULL WHERE id = 5")
	report := r.sync(t, 0)
	require.Equal(t, 1, report.Sources[0].Run.Invalid)
	require.Equal(t, [4]int{0, 9, 0, 1}, r.counts(t))
	rec := r.record(t, 5)
	require.Len(t, rec.Problems, 2)
	state, problems, err := r.Remap(t.Context(), r.Sources[0], rec)
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	require.Len(t, problems, 2)
}

// A mended mapping that needs a column the ledger did not store reads the row
// again, or says that it is gone.
func TestRemapReadsTheRowAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 2)
	r.lot.Exec(t, "UPDATE pass SET op = NULL")
	r.lot.Exec(t, "ALTER TABLE pass ADD op2 TEXT")
	r.lot.Exec(t, "UPDATE pass SET op2 = '2026-11-01 10:00:00'")
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 0, 0, 2}, r.counts(t))

	old := r.Sources[0]
	mended := r.source(t, "pass", "north")
	lot, operator := "P", "李四"
	var contract []mapping.Field
	for _, f := range sink.Contract() {
		contract = append(contract, mapping.Field(f))
	}
	program := mapping.Compile(mapping.Rules{
		"park_uuid": {Const: &lot}, "flow_no": {Expr: `"EX" + string(id)`}, "parking_serial": {Column: "serial"}, "plate": {Column: "plate"},
		"operate_time": {Column: "op2"}, "operator": {Const: &operator}, "reason": {Const: &operator},
	}, contract, mapping.Settings{Location: time.UTC}, func(path, problem string) { t.Fatal(path, problem) })
	mended.Program = program
	mended.Open = func(ctx context.Context) (bridge.Reader, error) {
		cfg := sources.Config{Name: "north", Driver: "sqlite", DSN: sources.Secret(r.lot.DSN), Table: "pass", Key: []string{"id"}, Start: "earliest"}
		cfg.Defaults()
		return openTable(ctx, cfg, program)
	}
	require.NotSame(t, old, mended)
	state, _, err := r.Remap(t.Context(), mended, r.record(t, 1))
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)
	r.lot.Exec(t, "DELETE FROM pass WHERE id = 2")
	state, problems, err := r.Remap(t.Context(), mended, r.record(t, 2))
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	require.Contains(t, problems[0].Problem, "no longer in the source")
}

// A 400 sets one record aside, and the others go on.
func TestRejected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 30)
	r.gate.Answer(gate.Answer{Code: "400", Hint: "plate", Match: plate(7)})
	report := r.sync(t, 0)
	require.Equal(t, [4]int{0, 29, 1, 0}, r.counts(t))
	require.Equal(t, 1, report.Sources[0].Run.Rejected)
	rec := r.record(t, 7)
	require.Equal(t, "400", rec.Code)
	require.Equal(t, "plate", rec.Hint)
	r.gate.Answer()
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 29, 1, 0}, r.counts(t), "never retried by itself")
	state, _, err := r.Remap(t.Context(), r.Sources[0], rec)
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 30, 0, 0}, r.counts(t))
}

// One record whose text the platform mangles gets 401, is rejected with the
// field that differs, and the others go on: wherever in the order it stands,
// and with however few calls at a time.
func TestOneMangledRecord(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 4} {
		for _, bad := range []int{1, 7, 30} {
			t.Run(fmt.Sprintf("record %d, %d at a time", bad, concurrency), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(s *bridge.Settings) { s.Concurrency = concurrency })
				r.remake(gate.Config{Secret: secret, Mangle: func(f map[string]string) {
					if plate(bad)(f) {
						f["plate"] = strings.ReplaceAll(f["plate"], "粤", "?")
					}
				}})
				r.insert(t, 30)
				r.sync(t, 0)
				if bad == 30 && r.counts(t)[2] == 0 {
					// The last of all had no other record after it to tell.
					require.Equal(t, [4]int{1, 29, 0, 0}, r.counts(t))
					r.insert(t, 1)
					r.sync(t, 0)
					require.Equal(t, [4]int{0, 30, 1, 0}, r.counts(t))
				} else {
					require.Equal(t, [4]int{0, 29, 1, 0}, r.counts(t))
				}
				rec := r.record(t, bad)
				require.Equal(t, ledger.Rejected, rec.State)
				require.Equal(t, "plate", rec.Problems[0].Field)
				require.Contains(t, rec.Problems[0].Problem, "charset error")
				sinkState, err := r.Ledger.Sink(t.Context())
				require.NoError(t, err)
				require.Equal(t, ledger.SinkOK, sinkState.State)
			})
		}
	}
}

func (r *rig) serve(h http.Handler) { r.serving.Store(&h) }

// remake puts another gate behind the same address.
func (r *rig) remake(cfg gate.Config) {
	r.gate = gate.New(cfg)
	r.serve(r.gate)
}

// A refusal of every record stops with everything kept; once the cause is
// gone, the next sync delivers all.
func TestRefusedForAll(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"401", "403"} {
		for _, concurrency := range []int{1, 8} {
			for _, rows := range []int{1, 2, 300} {
				t.Run(fmt.Sprintf("%s, %d rows, %d at a time", code, rows, concurrency), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, func(s *bridge.Settings) { s.Concurrency = concurrency })
					r.insert(t, rows)
					r.gate.Answer(gate.Answer{Code: code})
					report := r.sync(t, 0)
					require.Equal(t, [4]int{rows, 0, 0, 0}, r.counts(t))
					require.Equal(t, ledger.SinkBlocked, report.Sink.State)
					require.Contains(t, report.Sink.Reason, code)
					require.LessOrEqual(t, r.gate.Stats().Calls, concurrency+1)
					require.Zero(t, r.record(t, 1).Attempts, "attempts unchanged")

					calls := r.gate.Stats().Calls
					r.sync(t, 0)
					require.Equal(t, calls+1, r.gate.Stats().Calls, "a blocked sink is tried with one record")
					r.gate.Answer()
					report = r.sync(t, 0)
					require.Equal(t, [4]int{0, rows, 0, 0}, r.counts(t))
					require.Equal(t, ledger.SinkOK, report.Sink.State)
				})
			}
		}
	}
}

func TestWrongSecretSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 5)
	r.useSecret(t, "wrong")
	report := r.sync(t, 0)
	require.Contains(t, report.Sink.Reason, "app_secret differs")
	require.NotContains(t, report.Sink.Reason, "wrong")
	r.useSecret(t, secret)
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 5, 0, 0}, r.counts(t))
}

// Ten 400s in a row are not the records' fault: none of them is set aside.
func TestTenRejectedInARow(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d at a time", concurrency), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *bridge.Settings) { s.Concurrency = concurrency })
			r.insert(t, 40)
			r.gate.Answer(gate.Answer{Code: "400"})
			report := r.sync(t, 0)
			require.Equal(t, ledger.SinkBlocked, report.Sink.State)
			require.Equal(t, [4]int{40, 0, 0, 0}, r.counts(t))
			r.gate.Answer()
			r.sync(t, 0)
			require.Equal(t, [4]int{0, 40, 0, 0}, r.counts(t))
		})
	}
}

// The run of 400s is counted across runs, as a cron job a minute makes them.
func TestTenRejectedInARowAcrossRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.gate.Answer(gate.Answer{Code: "400"})
	for i := range 10 {
		require.Equal(t, [4]int{0, 0, i, 0}, r.counts(t))
		r.insert(t, 1)
		r.sync(t, 0)
	}
	require.Equal(t, [4]int{10, 0, 0, 0}, r.counts(t))
	r.gate.Answer()
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 10, 0, 0}, r.counts(t))
}

// Ten records that are bad by themselves, in a row, do not hold the sink for
// ever: once another is accepted and they are refused again, it was they.
func TestTenBadRecordsAmongGoodOnes(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *bridge.Settings) { s.Concurrency = 1 })
	r.insert(t, 30)
	r.gate.Answer(gate.Answer{Code: "400", Match: func(f map[string]string) bool {
		var n int
		fmt.Sscanf(f["flow_no"], "EX%d", &n)
		return n > 5 && n <= 17
	}})
	syncs := 0
	for r.counts(t) != [4]int{0, 18, 12, 0} {
		r.sync(t, 0)
		syncs++
		require.Less(t, syncs, 15, "%v", r.counts(t))
	}
}

// A gate that fails keeps everything; when it is back, the next sync delivers all.
func TestFailingGate(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]gate.Answer{
		"503": {Code: "503"}, "500 on 200": {Code: "500", Status: 200}, "drops before": {Drop: "before"}, "drops after": {Drop: "after"},
		"not JSON": {Body: "<html>", Status: 502}, "unknown code": {Code: "999", Status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.insert(t, 60)
			r.gate.Answer(answer)
			report := r.sync(t, 0)
			require.Equal(t, ledger.SinkFailing, report.Sink.State)
			require.Equal(t, [4]int{60, 0, 0, 0}, r.counts(t))
			require.LessOrEqual(t, r.gate.Stats().Calls, 14, "one outage does not cost every record an attempt")
			r.gate.Answer()
			report = r.sync(t, 0)
			require.Equal(t, ledger.SinkOK, report.Sink.State)
			require.Equal(t, [4]int{0, 60, 0, 0}, r.counts(t))
			require.Equal(t, 60, r.gate.Stats().Taken, "answer lost: it goes again under the same flow_no")
		})
	}
}

// A flaky gate costs an attempt here and there, and every record is tried.
func TestFlakyGate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 200)
	r.gate.Answer(gate.Answer{Code: "503", Every: 3})
	r.sync(t, 0)
	counts := r.counts(t)
	require.Equal(t, 200, counts[0]+counts[1])
	require.Equal(t, 200, r.gate.Stats().Calls, "each once")
	r.gate.Answer()
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 200, 0, 0}, r.counts(t))
}

// A gate that hangs is known within three timeouts, even one call at a time.
func TestHangingGate(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d at a time", concurrency), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *bridge.Settings) { s.Concurrency, s.Timeout = concurrency, 300*time.Millisecond })
			r.remake(gate.Config{Latency: time.Hour})
			r.insert(t, 100)
			report := r.sync(t, 0)
			require.Equal(t, ledger.SinkFailing, report.Sink.State)
			require.LessOrEqual(t, r.gate.Stats().Calls, 3*concurrency)
			require.Equal(t, [4]int{100, 0, 0, 0}, r.counts(t))
			r.server.CloseClientConnections()
		})
	}
}

// A Retry-After holds across runs, and is not forgotten.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 20)
	r.gate.Answer(gate.Answer{Code: "503", RetryAfter: 600, Times: r.Settings.Concurrency})
	report := r.sync(t, 0)
	require.WithinDuration(t, time.Now().Add(10*time.Minute), report.Sink.RetryAt, time.Minute)
	calls := r.gate.Stats().Calls
	require.LessOrEqual(t, calls, 2*r.Settings.Concurrency, "those under way when it asked, and no more")
	pending := r.counts(t)[0]
	require.Positive(t, pending)
	r.sync(t, 0)
	require.Equal(t, calls, r.gate.Stats().Calls, "left alone")
	now := r.Now
	r.Now = func() time.Time { return now().Add(11 * time.Minute) }
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 20, 0, 0}, r.counts(t))
}

// Records of one lot and serial go in the order they were read, whatever
// happens to the first of them.
func TestOrderWithinASerial(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"all good", "first fails once", "first is rejected", "placeholder"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *bridge.Settings) {
				s.Concurrency = 8
				if name == "placeholder" {
					s.UnorderedSerials = []string{"S"}
				}
			})
			r.insert(t, 60)
			r.lot.Exec(t, "UPDATE pass SET serial = 'S' WHERE id % 3 = 0")
			switch name {
			case "first fails once":
				r.gate.Answer(gate.Answer{Code: "503", Match: plate(3), Times: 1})
			case "first is rejected":
				r.gate.Answer(gate.Answer{Code: "400", Match: plate(3)})
			}
			r.sync(t, 0)
			if name == "first fails once" {
				require.Equal(t, [4]int{20, 40, 0, 0}, r.counts(t), "the serial waits for its first")
				r.sync(t, 0)
			}
			last, seen := 0, 0
			for _, f := range r.gate.Records() {
				if f["parking_serial"] != "S" {
					continue
				}
				var n int
				fmt.Sscanf(f["flow_no"], "EX%d", &n)
				if name != "placeholder" {
					require.Greater(t, n, last)
				}
				last = n
				seen++
			}
			want := 20
			if name == "first is rejected" {
				want = 19
			}
			require.Equal(t, want, seen)
		})
	}
}

// A source that cannot be read does not keep its landed records from being sent.
func TestDeliveryGoesOnWithoutTheSource(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 20)
	r.sync(t, 1)
	require.NoError(t, r.Sources[0].Close())
	r.Sources[0].Open = func(context.Context) (bridge.Reader, error) { return nil, fmt.Errorf("the database is gone") }
	report := r.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, "gone")
	require.Equal(t, [4]int{0, 20, 0, 0}, r.counts(t))
	require.Contains(t, report.Sources[0].Run.Error, "gone")
}

// Latest is found once: what comes in between two runs is not skipped.
func TestStartLatestOnAnEmptyTable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Sources[0].Poller.Start = sources.StartLatest
	r.sync(t, 0)
	r.insert(t, 3)
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 3, 0, 0}, r.counts(t))
}

// The daemon reads by schedule, sends what comes, retries by itself, recovers
// when the gate does, and stops in time.
func TestServe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 10)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- r.Serve(ctx, map[string]cron.Schedule{"north": cron.ConstantDelaySchedule{Delay: time.Second}})
	}()
	require.Eventually(t, func() bool { return r.gate.Stats().Taken == 10 }, 10*time.Second, 20*time.Millisecond)

	// Another run is refused as long as the daemon holds the source.
	report := r.Sync(t.Context(), 0)
	require.NotNil(t, report.Sources[0].Held)

	r.gate.Answer(gate.Answer{Code: "503", Times: 12})
	r.insert(t, 10)
	require.Eventually(t, func() bool { return r.gate.Stats().Taken == 20 }, 40*time.Second, 50*time.Millisecond)

	r.gate.Answer(gate.Answer{Code: "401"})
	r.insert(t, 5)
	require.Eventually(t, func() bool {
		s, err := r.Ledger.Sink(t.Context())
		return err == nil && s.State == ledger.SinkBlocked
	}, 10*time.Second, 20*time.Millisecond)
	r.gate.Answer()
	_, err := r.Ledger.Unblock(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.gate.Stats().Taken == 25 }, 20*time.Second, 50*time.Millisecond)
	stop()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the daemon did not stop within 10 seconds")
	}
	require.Eventually(t, func() bool { return r.counts(t) == [4]int{0, 25, 0, 0} }, time.Second, 10*time.Millisecond)
	require.Equal(t, 25, r.gate.Stats().Taken)
}

// A stop in the middle loses nothing and sends nothing twice that was answered.
func TestStopInTheMiddle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.remake(gate.Config{Secret: secret, Latency: 5 * time.Millisecond})
	r.insert(t, 400)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for r.gate.Stats().Taken < 50 {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	report := r.Sync(ctx, 0)
	require.ErrorIs(t, report.Err, bridge.ErrStopped)
	taken := r.gate.Stats().Taken
	require.Less(t, taken, 400)
	require.Equal(t, taken, r.counts(t)[1], "every answer is written down")
	r.sync(t, 0)
	require.Equal(t, gate.Stats{Calls: 400, Taken: 400}, r.gate.Stats())
}

// A key that stands for two rows is no key: the source stops with a message,
// and neither row is lost without a word.
func TestKeyThatIsNotUnique(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 3)
	r.lot.Exec(t, "CREATE TABLE doubled (id INTEGER, serial TEXT, plate TEXT, op TEXT)")
	r.lot.Exec(t, "INSERT INTO doubled SELECT * FROM pass")
	r.lot.Exec(t, "INSERT INTO doubled SELECT id, serial, 'another', op FROM pass WHERE id = 2")
	r.Sources = []*bridge.Source{r.source(t, "doubled", "north")}
	report := r.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, "the key 2 stands for two rows")
	require.Equal(t, [4]int{0, 0, 0, 0}, r.counts(t))
}

// While the rate limit holds calls back, answers are settled all the same.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *bridge.Settings) { s.RateLimit = 0.001 })
	r.insert(t, 10)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan bridge.Report, 1)
	go func() { done <- r.Sync(ctx, 0) }()
	require.Eventually(t, func() bool { return r.counts(t) == [4]int{9, 1, 0, 0} }, 10*time.Second, 10*time.Millisecond)
	stop()
	require.ErrorIs(t, (<-done).Err, bridge.ErrStopped)
	require.Equal(t, 1, r.gate.Stats().Calls)
}

// A run that is still going when its turn comes is skipped, and that is said.
func TestOverlappingRunIsSkipped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	var log strings.Builder
	r.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	opening, release := make(chan struct{}, 10), make(chan struct{})
	open := r.Sources[0].Open
	r.Sources[0].Open = func(ctx context.Context) (bridge.Reader, error) {
		opening <- struct{}{}
		<-release
		return open(ctx)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- r.Serve(ctx, map[string]cron.Schedule{"north": cron.ConstantDelaySchedule{Delay: time.Second}})
	}()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(log.String(), "this one is skipped")
	}, 10*time.Second, 20*time.Millisecond)
	require.Len(t, opening, 1, "only one run at a time")
	close(release)
	stop()
	require.NoError(t, <-done)
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A remark of the platform's is kept and counted, and the record is delivered.
func TestRemark(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 3)
	r.gate.Answer(gate.Answer{Code: "1001", Hint: "plate looks odd", Match: plate(2)})
	r.sync(t, 0)
	require.Equal(t, [4]int{0, 3, 0, 0}, r.counts(t))
	s, err := r.Ledger.Status(t.Context(), "north")
	require.NoError(t, err)
	require.Equal(t, 1, s.Remarks)
	found, err := r.Ledger.Records(t.Context(), ledger.Filter{Remark: true})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "plate looks odd", found[0].Hint)
}

// Config changed under an old mark: another cursor, key or table stops the
// source with the command that resolves it, and after it nothing is sent again.
func TestConfigChangedUnderAnOldMark(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 10)
	s := r.Sources[0]
	s.Shape = sources.Shape{Table: "pass", Key: []string{"id"}, Cursor: "id"}
	r.sync(t, 0)
	r.insert(t, 5)
	s.Shape.Cursor = "op"
	report := r.Sync(t.Context(), 0)
	var ce *sources.ConfigError
	require.ErrorAs(t, report.Sources[0].Err, &ce)
	require.Equal(t, "cursor", ce.Key)
	require.Contains(t, ce.Problem, `was "id" when the mark "10" was made, and is "op" now`)
	require.Contains(t, ce.Problem, "parkbridge reset --source north")
	require.Equal(t, [4]int{0, 10, 0, 0}, r.counts(t))

	position, err := r.Reset(t.Context(), s, sources.StartEarliest)
	require.NoError(t, err)
	require.True(t, position.IsZero())
	report = r.sync(t, 0)
	require.Equal(t, 15, report.Sources[0].Run.Read)
	require.Equal(t, 5, report.Sources[0].Run.Landed, "rows that have landed are recognised")
	require.Equal(t, gate.Stats{Calls: 15, Taken: 15}, r.gate.Stats())
}

// Ledger lost: the same rows give the same flow_no again, and the platform
// ignores them.
func TestLedgerLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insert(t, 20)
	r.sync(t, 0)
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(t.TempDir(), "new.db"))}, time.Now, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	r.Ledger = l
	r.sync(t, 0)
	require.Equal(t, gate.Stats{Calls: 40, Taken: 20, Repeats: 20}, r.gate.Stats())
}
