// Package soak_test holds the generator with its oracle: many connections of a
// parking system insert, change, commit and roll back in random order while
// parkbridge polls, against a gate that fails at random. At the end the tables
// themselves say what had to be delivered.
//
// PARKBRIDGE_SOAK is how long each engine is loaded (30s), PARKBRIDGE_SOAK_SEED
// the seed of a run that is to be repeated.
package soak_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("PARKBRIDGE_SOAK")
	if text == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64() % 1e9
	if text := os.Getenv("PARKBRIDGE_SOAK_SEED"); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("PARKBRIDGE_SOAK_SEED=%d repeats this run's choices", n)
	return n
}

// TestSoak is the proof by load: every committed row is delivered once.
func TestSoak(t *testing.T) {
	t.Parallel()
	for i, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, engine, rand.New(rand.NewPCG(seed(t), uint64(i))))
			w.load(t, duration(t))
			w.drain(t)
			w.check(t)
		})
	}
}

// world is a parking lot under load, and parkbridge beside it.
type world struct {
	engine string
	server *testdb.Server // nil: SQLite
	lot    *testdb.Lot
	tables []*table
	rnd    *rand.Rand
	mu     sync.Mutex // of rnd and of what follows
	// began is when each session of the parking system took a value in the
	// transaction it is in. A transaction need not show at once.
	began map[string]time.Time
	gate  *gate.Gate
	http  *httptest.Server

	dir     string
	ledger  *ledger.Ledger
	bridge  *bridge.Bridge
	quiet   bool // no more pauses
	unwell  []string
	restart time.Time
	inDoubt atomic.Int64 // prepared transactions
}

func newWorld(t *testing.T, engine string, rnd *rand.Rand) *world {
	t.Helper()
	w := &world{engine: engine, rnd: rnd, began: map[string]time.Time{}, dir: t.TempDir()}
	if engine == "sqlite" {
		w.lot = testdb.New(t, engine)
	} else {
		w.server = testdb.NewServer(t, engine)
		w.lot = w.server.NewLot(t)
	}
	if engine == "mysql" {
		w.lot.GrantProcess(t)
	}
	if engine == "sqlite" {
		w.lot.Exec(t, "PRAGMA journal_mode = WAL")
	}
	w.gate = gate.New(gate.Config{Secret: "s3cret"})
	w.gate.Answer(
		gate.Answer{Code: "503", Every: 13}, gate.Answer{Drop: "after", Every: 17}, gate.Answer{Drop: "before", Every: 29},
		gate.Answer{Body: `{"code":"10`, Every: 37}, gate.Answer{Code: "429", Every: 41},
	)
	w.http = httptest.NewServer(w.gate)
	t.Cleanup(w.http.Close)
	w.tables = []*table{
		{name: "pass", kind: serverTable},
		{name: "lane", kind: clientTable},
		{name: "trip", kind: lateTable},
	}
	for _, tab := range w.tables {
		tab.w = w
		tab.make(t)
	}
	w.open(t)
	t.Cleanup(func() { w.close(t) })
	return w
}

// chance is true once in n.
func (w *world) chance(n int) bool { return w.intn(n) == 0 }

func (w *world) intn(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

// pause is what happens between any two steps on a slow, busy PC.
func (w *world) pause(most time.Duration) {
	w.mu.Lock()
	quiet := w.quiet
	w.mu.Unlock()
	if most > 0 && !quiet {
		time.Sleep(time.Duration(w.intn(int(most))))
	}
}

// open starts parkbridge on what is stored.
func (w *world) open(t *testing.T) {
	t.Helper()
	var err error
	w.ledger, err = ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(w.dir, "ledger.db"))}, time.Now, true)
	require.NoError(t, err)
	client, err := sink.New(sink.Config{URL: w.http.URL, AppSecret: "s3cret", Timeout: 5 * time.Second, Concurrency: 4})
	require.NoError(t, err)
	w.bridge = &bridge.Bridge{
		Ledger: w.ledger, Gate: client, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Settings: bridge.Settings{Timeout: 5 * time.Second, Concurrency: 4, Retention: time.Hour},
	}
	for _, tab := range w.tables {
		w.bridge.Sources = append(w.bridge.Sources, tab.source(t))
	}
	w.restart = time.Now().Add(time.Duration(1000+w.intn(4000)) * time.Millisecond)
}

func (w *world) close(t *testing.T) {
	t.Helper()
	if w.ledger == nil {
		return
	}
	for _, s := range w.bridge.Sources {
		require.NoError(t, s.Close())
	}
	w.bridge.Gate.(*sink.Client).Close() //nolint:forcetypeassert // it is one
	require.NoError(t, w.ledger.Close())
	w.ledger = nil
}

// load runs the parking system and parkbridge side by side for a while.
func (w *world) load(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var writers sync.WaitGroup
	for range 5 {
		writers.Go(func() { w.write(ctx, t) })
	}
	if w.engine == "mysql" {
		writers.Go(func() { w.monitor(ctx) })
	}
	crash := time.Now().Add(d / 2)
	polls := 0
	slowest := time.Duration(0)
	defer func() { t.Logf("%d polls in %s, the slowest took %s", polls, d, slowest.Round(time.Millisecond)) }()
	for ctx.Err() == nil {
		polls++
		begun := time.Now()
		w.sync(t)
		slowest = max(slowest, time.Since(begun))
		if time.Now().After(w.restart) { // parkbridge ends and starts again
			w.close(t)
			w.open(t)
		}
		if w.server != nil && time.Now().After(crash) { // and so does the server, prepared transactions and all
			crash = time.Now().Add(time.Hour)
			w.server.Kill(t)
			w.sync(t)
			w.server.Start(t)
		}
		if w.inDoubt.Load() > 5 { // a server takes so many only, and somebody looks at them some day
			w.endPrepared(t)
		}
		w.pause(60 * time.Millisecond)
	}
	writers.Wait()
}

// sync is one run of parkbridge. That the database is away, or busy, is told and
// passes.
func (w *world) sync(t *testing.T) {
	t.Helper()
	report := w.bridge.Sync(t.Context(), 0)
	require.NoError(t, report.Err)
	for _, s := range report.Sources {
		require.Nil(t, s.Held)
		if s.Err != nil {
			w.unwell = append(w.unwell, s.Source+": "+s.Err.Error())
		}
	}
}

// monitor is a colleague's: it looks at innodb_trx every 30 ms, now and then.
func (w *world) monitor(ctx context.Context) {
	ticker := time.NewTicker(30 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n/100%2 == 0 { // three seconds on, three off
			var trx int
			_ = w.lot.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.innodb_trx").Scan(&trx) // the server may be away
		}
	}
}

// drain lets everything that polling can find be found.
func (w *world) drain(t *testing.T) {
	t.Helper()
	ended, left := w.endPrepared(t)
	require.Zero(t, left, "transactions that cannot be ended")
	t.Logf("%d transactions were in doubt", ended)
	w.mu.Lock()
	w.quiet = true
	w.mu.Unlock()
	w.gate.Answer()
	w.unwell = nil
	w.close(t)
	w.open(t) // so that class client looks back at once
	deadline := time.Now().Add(30 * time.Second)
	for {
		w.sync(t)
		status, err := w.ledger.Status(t.Context(), "pass")
		require.NoError(t, err)
		if status.Mark.Mark.Encode() == status.Mark.Floor.Encode() && !strings.Contains(status.Mark.Journal, `"parked"`) {
			break
		}
		require.Less(t, time.Now(), deadline, "the floor stays at %q, the mark is at %q: %s", status.Mark.Floor, status.Mark.Mark, status.Mark.Seen)
		time.Sleep(200 * time.Millisecond)
	}
	w.sync(t)
	require.Empty(t, w.unwell)
}

// table is one table of the lot's.
type table struct {
	w    *world
	name string
	kind int

	mu     sync.Mutex
	serial int
	expect map[string]expectation // by parking serial; a row that nothing is said of must be found by polling
}

const (
	serverTable = iota // the cursor is the server's id
	clientTable        // the cursor is a lane's clock
	lateTable          // rows enter the set by an update
)

// expectation is what may become of a row beside being delivered by polling.
type expectation struct {
	byReconcile bool   // polling cannot see it
	invalid     string // the field that does not map
}

func (tab *table) make(t *testing.T) {
	t.Helper()
	lot := tab.w.lot
	tab.expect = map[string]expectation{}
	id := lot.Type("INTEGER PRIMARY KEY", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")
	lot.Exec(t, "CREATE TABLE "+tab.name+" (id "+id+", serial VARCHAR(40), plate VARCHAR(20), op "+lot.Type("TEXT", "timestamp(0)", "DATETIME")+", reason VARCHAR(40), st INTEGER DEFAULT 3)")
	lot.Exec(t, "CREATE INDEX "+tab.name+"_op ON "+tab.name+" (op, id)")
	lot.Grant(t, tab.name)
	if tab.kind == lateTable && lot.Driver == "postgres" {
		lot.Exec(t, "ALTER SEQUENCE trip_id_seq CACHE 20")
	}
}

func (tab *table) source(t *testing.T) *bridge.Source {
	t.Helper()
	cfg := sources.Config{
		Name: tab.name, Driver: tab.w.engine, DSN: sources.Secret(tab.w.lot.DSN), Table: tab.name, Key: []string{"id"}, Start: "earliest",
		PageSize: 40, StatementTimeout: 20 * time.Second, Location: time.UTC,
	}
	capt := capture.Config{Lookback: time.Minute, RereadLimit: 50000, Settle: 3 * time.Second}
	switch tab.kind {
	case serverTable:
		capt.RereadLimit = 120
	case clientTable:
		cfg.Cursor = "op"
	case lateTable:
		cfg.Where = "st = 3"
	}
	cfg.Defaults()
	capt.Defaults()
	lot, operator := "P", "张三"
	program := mapping.Compile(mapping.Rules{
		"park_uuid": {Const: &lot}, "flow_no": {Expr: `"` + tab.name + `-" + string(id)`}, "parking_serial": {Column: "serial"}, "plate": {Column: "plate"},
		"operate_time": {Column: "op"}, "operator": {Const: &operator}, "reason": {Column: "reason"},
	}, contract(), mapping.Settings{Location: time.UTC}, func(path, problem string) { t.Error(path, problem) })
	drivers := sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver())
	return &bridge.Source{
		Name: tab.name, Table: tab.name, Shape: cfg.Shape(), Program: program,
		Poller: &capture.Poller{Config: capt, PageSize: cfg.PageSize, Start: cfg.Start},
		Open: func(ctx context.Context) (bridge.Reader, error) {
			r, err := sources.Open(ctx, drivers, cfg, program.Needs())
			if err != nil {
				return nil, err
			}
			return slow{bridge.Table(r), tab.w}, nil
		},
	}
}

func contract() []mapping.Field {
	var out []mapping.Field
	for _, f := range sink.Contract() {
		out = append(out, mapping.Field(f))
	}
	return out
}

// slow pauses between all that a poll does.
type slow struct {
	bridge.Reader
	w *world
}

func (s slow) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	s.w.pause(20 * time.Millisecond)
	session, err := s.Reader.Session(ctx, evidence)
	if err != nil {
		return nil, err
	}
	return slowSession{session, s.w}, nil
}

type slowSession struct {
	capture.Session
	w *world
}

func (s slowSession) Page(ctx context.Context, in sources.Range, limit int) (sources.Page, error) {
	s.w.pause(40 * time.Millisecond)
	return s.Session.Page(ctx, in, limit)
}

func (s slowSession) Highest(ctx context.Context, in sources.Range) (sources.Position, error) {
	s.w.pause(20 * time.Millisecond)
	return s.Session.Highest(ctx, in)
}

// showsAfter is how long a transaction may hold a value before it shows: a
// little less than the premise allows.
const showsAfter = 1800 * time.Millisecond

// Evidence leaves out what need not show yet.
func (s slowSession) Evidence(ctx context.Context) (sources.Evidence, error) {
	asked := time.Now()
	e, err := s.Session.Evidence(ctx)
	var shown []sources.Txn
	s.w.mu.Lock()
	for _, txn := range e.Open {
		var session string
		_, _ = fmt.Sscanf(txn.Who, "session %s", &session) // a prepared one has none
		if at, ours := s.w.began[session]; !ours || asked.Sub(at) >= showsAfter {
			shown = append(shown, txn)
		}
	}
	s.w.mu.Unlock()
	e.Open = shown
	s.w.pause(80 * time.Millisecond)
	return e, err
}
