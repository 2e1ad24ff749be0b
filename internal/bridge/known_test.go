package bridge_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"

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

// booth is a lot on any engine, a stand-in gate behind real HTTP, and a bridge
// between them that may be opened anew.
type booth struct {
	t      *testing.T
	lot    *testdb.Lot
	gate   *gate.Gate
	url    string
	dir    string
	ahead  time.Duration // how far the test has moved the clocks
	cfg    sources.Config
	capt   capture.Config
	flow   string        // the expression of flow_no
	ready  string        // the source's condition; with one, the table has a column reason, which fills the field
	wait   time.Duration // its ready_timeout
	serial int
	puts   []string // serials that must arrive
	lists  int      // how often the tables of a series were looked for
	hook   func(where string) error
	asked  int              // keys of rows that were read by them
	now    func() time.Time // of the bridge
	ledger *ledger.Ledger
	bridge *bridge.Bridge
}

// setUp readies a booth on an engine, with a table pass whose id the server
// assigns; change may alter the config before the bridge is opened.
func setUp(t *testing.T, lot *testdb.Lot, change ...func(*booth)) *booth {
	t.Helper()
	b := &booth{t: t, lot: lot, gate: gate.New(gate.Config{Secret: secret}), dir: t.TempDir(), flow: `"EX" + string(id)`}
	server := httptest.NewServer(b.gate)
	t.Cleanup(server.Close)
	b.url = server.URL
	lot.Exec(t, "CREATE TABLE pass (id "+lot.Type("INTEGER PRIMARY KEY", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")+
		", serial VARCHAR(20), plate VARCHAR(20), op "+lot.Type("TEXT", "timestamp", "DATETIME(6)")+", st INTEGER DEFAULT 3)")
	lot.Exec(t, "CREATE INDEX pass_op ON pass (op, id)")
	lot.Grant(t, "pass")
	if lot.Driver == "mysql" {
		lot.GrantProcess(t)
	}
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	require.NoError(t, err)
	b.cfg = sources.Config{Name: "north", Driver: lot.Driver, DSN: sources.Secret(lot.DSN), Table: "pass", Key: []string{"id"}, Start: "earliest", PageSize: 100, Location: shanghai}
	b.now = func() time.Time { return time.Now().Add(b.ahead) }
	for _, f := range change {
		f(b)
	}
	b.open()
	t.Cleanup(b.close)
	return b
}

func byTime(b *booth) { b.cfg.Cursor = "op" }

func (b *booth) open() {
	b.t.Helper()
	var err error
	b.ledger, err = ledger.Open(b.t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(b.dir, "ledger.db"))}, b.now, true)
	require.NoError(b.t, err)
	client, err := sink.New(sink.Config{URL: b.url, AppSecret: secret, Timeout: 2 * time.Second, Concurrency: 4})
	require.NoError(b.t, err)
	b.bridge = &bridge.Bridge{
		Ledger: b.ledger, Gate: client, Log: slog.New(slog.DiscardHandler), Now: b.now,
		Settings: bridge.Settings{Timeout: 2 * time.Second, Concurrency: 4, Retention: time.Hour},
	}
	b.bridge.Sources = []*bridge.Source{b.source()}
}

func (b *booth) source() *bridge.Source {
	b.t.Helper()
	cfg, capt := b.cfg, b.capt
	cfg.Defaults()
	capt.Defaults()
	lot, operator := "P", "张三"
	var contract []mapping.Field
	for _, f := range sink.Contract() {
		contract = append(contract, mapping.Field(f))
	}
	reason, set := mapping.Rule{Const: &operator}, mapping.Settings{Location: cfg.Location, Series: cfg.IsSeries()}
	if b.ready != "" {
		reason = mapping.Rule{Column: "reason", Default: &operator}
	}
	program := mapping.Compile(mapping.Rules{
		"park_uuid": {Const: &lot}, "flow_no": {Expr: b.flow}, "parking_serial": {Column: "serial"}, "plate": {Column: "plate"},
		"operate_time": {Column: "op"}, "operator": {Const: &operator}, "reason": reason,
	}, contract, set, func(path, problem string) { b.t.Fatal(path, problem) })
	if b.ready != "" {
		require.NoError(b.t, program.Await(b.ready, set))
	}
	out := &bridge.Source{
		ReadyTimeout: b.wait,
		Name:         cfg.Name, Table: cfg.Table, Shape: cfg.Shape(), Location: cfg.Location, Program: program,
		Poller: &capture.Poller{Config: capt, PageSize: cfg.PageSize, Start: cfg.Start, Boot: func() time.Duration { return capture.SinceBoot() + b.ahead }},
		Open: func(ctx context.Context) (bridge.Reader, error) {
			r, err := sources.Open(ctx, sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver()), cfg, program.Needs())
			if err != nil {
				return nil, err
			}
			return watched{bridge.Table(r), b}, nil
		},
	}
	if cfg.IsSeries() {
		out.Series = b.series(cfg, program)
	}
	return out
}

func (b *booth) close() {
	if b.ledger == nil {
		return
	}
	for _, s := range b.bridge.Sources {
		require.NoError(b.t, s.Close())
	}
	b.bridge.Gate.(*sink.Client).Close() //nolint:forcetypeassert // it is one
	require.NoError(b.t, b.ledger.Close())
	b.ledger = nil
}

// reopen ends parkbridge and starts it again on what it has stored.
func (b *booth) reopen() {
	b.t.Helper()
	b.close()
	b.open()
}

// watched lets a test do something between the steps of a poll, or fail them.
type watched struct {
	bridge.Reader
	b *booth
}

func (w watched) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	s, err := w.Reader.Session(ctx, evidence)
	if err != nil {
		return nil, err
	}
	return watchedSession{s, w.b}, nil
}

type watchedSession struct {
	capture.Session
	b *booth
}

func (s watchedSession) at(where string) error {
	if s.b.hook == nil {
		return nil
	}
	return s.b.hook(where)
}

func (s watchedSession) Page(ctx context.Context, in sources.Range, limit int) (sources.Page, error) {
	if err := s.at("page"); err != nil {
		return sources.Page{}, err
	}
	return s.Session.Page(ctx, in, limit)
}

func (s watchedSession) ByKeys(ctx context.Context, keys []string) (sources.Page, error) {
	s.b.asked += len(keys)
	if err := s.at("keys"); err != nil {
		return sources.Page{}, err
	}
	page, err := s.Session.ByKeys(ctx, keys)
	return page, errors.Join(err, s.at("keys read"))
}

func (s watchedSession) Evidence(ctx context.Context) (sources.Evidence, error) {
	e, err := s.Session.Evidence(ctx)
	e.Now = e.Now.Add(s.b.ahead)
	return e, errors.Join(err, s.at("evidence"))
}

func (s watchedSession) Now(ctx context.Context) (time.Time, error) {
	now, err := s.Session.Now(ctx)
	return now.Add(s.b.ahead), err
}

// pass moves the clocks on.
func (b *booth) pass(d time.Duration) { b.ahead += d }

// wall is what a clock in the lot shows, a while from now.
func (b *booth) wall(d time.Duration) string {
	return b.now().Add(d).In(b.cfg.Location).Format("2006-01-02 15:04:05")
}

// insert adds a release at a wall time and gives its serial.
func (b *booth) insert(op string) string {
	b.t.Helper()
	serial := fmt.Sprintf("S%d", time.Now().UnixNano())
	b.lot.Exec(b.t, "INSERT INTO pass (serial, plate, op) VALUES ('"+serial+"', '粤B12345', '"+op+"')")
	return serial
}

// many adds n releases of one second, each of a serial of its own.
func (b *booth) many(n int) {
	b.t.Helper()
	var values []string
	for range n {
		b.serial++
		values = append(values, fmt.Sprintf("('M%d', '粤B12345', '2026-11-01 10:00:00')", b.serial))
	}
	b.lot.Exec(b.t, "INSERT INTO pass (serial, plate, op) VALUES "+strings.Join(values, ","))
}

// sync runs once; it must go well.
func (b *booth) sync() bridge.Report {
	b.t.Helper()
	report := b.bridge.Sync(b.t.Context(), 0)
	require.NoError(b.t, report.Err)
	require.NoError(b.t, report.Sources[0].Err)
	return report
}

// taken reports whether the gate has a serial.
func (b *booth) taken(serial string) bool {
	for _, r := range b.gate.Records() {
		if r["parking_serial"] == serial {
			return true
		}
	}
	return false
}

func (b *booth) seen() capture.State {
	b.t.Helper()
	mark, err := b.ledger.Mark(b.t.Context(), "north")
	require.NoError(b.t, err)
	state, err := bridge.StateOf(mark)
	require.NoError(b.t, err)
	return state
}

// txn is a transaction of the parking system's.
func (b *booth) txn() func(stmts ...string) {
	b.t.Helper()
	conn, err := b.lot.DB.Conn(b.t.Context())
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) })
	run := func(stmts ...string) {
		b.t.Helper()
		for _, stmt := range stmts {
			_, err := conn.ExecContext(context.WithoutCancel(b.t.Context()), stmt)
			require.NoError(b.t, err, stmt)
		}
	}
	run(b.lot.Type("BEGIN IMMEDIATE", "BEGIN", "START TRANSACTION"))
	return run
}

const lateRow = "INSERT INTO pass (serial, plate, op) VALUES ('late', '粤B12345', '2026-11-01 10:00:00')"

// TestKnownWays has a test for each way to lose or double a row that pollers are
// known for; docs/correctness.md lists them, with those that are tested elsewhere.
func TestKnownWays(t *testing.T) {
	t.Parallel()
	all, side := testdb.Engines, []string{"postgres", "mysql"} // side: where transactions run side by side
	for _, way := range []struct {
		name    string
		engines []string
		test    func(*testing.T, *testdb.Lot)
	}{
		{"late commit", side, lateCommit},
		{"tie", all, tieWithACrashInside},
		{"precision", all, precision},
		{"two snapshots", side, twoSnapshots},
		{"NULL", all, nullCursors},
		{"NULL, included at once", all, nullCursorsIncluded},
		{"backdated", all, backdated},
		{"state before delivery", all, stateBeforeDelivery},
		{"torn state", []string{"sqlite"}, tornState},
		{"source restored", all, sourceRestored},
		{"source restored, unseen", all, sourceRestoredUnseen},
		{"newest rows deleted", all, newestRowsDeleted},
		{"source repointed", all, sourceRepointed},
		{"two runners", []string{"sqlite"}, twoRunners},
		{"lost lease", []string{"sqlite"}, lostLease},
		{"future row", all, futureRow},
		{"future row, the first of all", all, futureRowFirst},
		{"lane clocks", all, laneClocks},
		{"row enters the set late", all, entersLate},
		{"key re-used", []string{"sqlite"}, keyReused},
		{"prepared, XA", side, preparedAcrossRestart},
		{"answer lost", all, answerLost},
		{"poison row", all, poisonRow},
		{"flow_no collision", []string{"sqlite"}, flowNoCollision},
		{"time zone", all, timeZone},
		{"changed row, ignored", all, changedIgnored},
		{"changed row, sent again", all, changedResent},
		{"changed row before it is delivered", all, changedPending},
		{"a new mapping rule sends nothing again", all, newRule},
		{"what lies before start is not sent", all, beforeStart},
		{"a cursor that is no time", all, garbageCursor},
		{"a start that is no time", all, mistypedStart},
		{"evidence lost for a while", side, evidenceLost},
		{"reconcile counts by day", all, reconcileByDay},
		{"reset forgets nothing below the mark", side, resetKeepsTheFloor},
	} {
		for _, engine := range way.engines {
			t.Run(way.name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				way.test(t, testdb.New(t, engine))
			})
		}
	}
}

func lateCommit(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	late := b.txn()
	late(lateRow)
	b.many(1)
	b.sync()
	require.Equal(t, 1, b.gate.Stats().Taken, "the open transaction delays no other row")
	b.pass(time.Hour)
	b.reopen()
	b.sync()
	late("COMMIT")
	b.sync()
	require.Equal(t, gate.Stats{Calls: 2, Taken: 2}, b.gate.Stats())
	require.True(t, b.taken("late"))
}

func tieWithACrashInside(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) { b.cfg.PageSize = 1000 })
	for range 6 {
		b.many(500)
	}
	pages := 0
	b.hook = func(where string) error {
		if pages++; pages == 4 {
			return errors.New("power cut")
		}
		return nil
	}
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, "power cut")
	require.Less(t, report.Sources[0].Run.Landed, 3000)
	b.hook = nil
	b.reopen()
	b.sync()
	require.Equal(t, gate.Stats{Calls: 3000, Taken: 3000}, b.gate.Stats())
}

func precision(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) { b.cfg.PageSize = 1 })
	for i := range 7 {
		b.lot.Exec(t, fmt.Sprintf("INSERT INTO pass (serial, plate, op) VALUES ('S%d', '粤B12345', '2026-11-01 10:00:00.00000%d')", i, i))
	}
	for range 3 {
		b.sync()
	}
	require.Equal(t, gate.Stats{Calls: 7, Taken: 7}, b.gate.Stats())
	require.True(t, strings.HasPrefix(b.seen().Mark.Values[0], "2026-11-01 10:00:00.000006"), "the mark is stored to the microsecond")
}

func twoSnapshots(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	late := b.txn()
	late(lateRow)
	b.many(1)
	b.sync()
	b.pass(3 * time.Second)
	b.sync() // has the list
	b.pass(3 * time.Second)
	b.hook = func(where string) error {
		if where == "evidence" { // after the look, before the first page
			late("COMMIT")
		}
		return nil
	}
	b.sync()
	b.hook = nil
	require.True(t, b.taken("late"))
}

func nullCursors(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	b.insert(b.wall(-time.Hour))
	lot.Exec(t, "INSERT INTO pass (serial, plate, op) VALUES ('null', '粤B12345', NULL)")
	b.sync()
	require.Equal(t, 1, b.gate.Stats().Taken)
	require.Equal(t, 1, b.seen().Seen.Nulls, "counted and shown")
	lot.Exec(t, "UPDATE pass SET op = '"+b.wall(-30*time.Hour)+"' WHERE serial = 'null'")
	b.pass(2 * time.Minute)
	b.sync()
	require.False(t, b.taken("null"), "further back than the look back")
	_, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, false)
	require.NoError(t, err)
	b.sync()
	require.True(t, b.taken("null"), "reconcile finds it")
	require.Zero(t, b.seen().Seen.Nulls)
}

func nullCursorsIncluded(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) { b.capt.NullCursor = capture.NullInclude })
	lot.Exec(t, "INSERT INTO pass (serial, plate, op) VALUES ('null', '粤B12345', NULL)")
	b.sync()
	found, err := b.ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(t, err)
	require.Len(t, found, 1, "landed; without a time it does not map")
	lot.Exec(t, "UPDATE pass SET op = '"+b.wall(-time.Hour)+"' WHERE serial = 'null'")
	b.sync()
	require.True(t, b.taken("null"), "mended at the source, it is mapped again")
}

func backdated(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	b.insert(b.wall(-time.Minute))
	b.sync()
	near, far := b.insert(b.wall(-20*time.Hour)), b.insert(b.wall(-72*time.Hour))
	b.pass(2 * time.Minute)
	b.sync()
	require.True(t, b.taken(near), "within the look back: found by polling")
	require.False(t, b.taken(far))
	dry, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, true)
	require.NoError(t, err)
	require.Equal(t, 1, sum(dry, func(d ledger.Day) int { return d.Missing }))
	b.sync()
	require.False(t, b.taken(far), "a dry run lands nothing")
	b.pass(2 * time.Hour) // the hourly reconcile is on by itself
	b.sync()
	require.True(t, b.taken(far))
	require.Equal(t, 3, b.gate.Stats().Calls)
}

func sum(r ledger.Reconcile, of func(ledger.Day) int) (n int) {
	for _, d := range r.Days {
		n += of(d)
	}
	return n
}

// A start that is no value of the cursor is refused, and does not send all
// history, or nothing.
func mistypedStart(t *testing.T, lot *testdb.Lot) {
	for _, start := range []string{"2026-13-01", "24/11/2026 10:00:00", "2026-11-24 25:00:00", "0"} {
		b := setUp(t, lot, byTime, func(b *booth) { b.cfg.Start = start })
		b.insert(b.wall(-time.Hour))
		report := b.bridge.Sync(t.Context(), 0)
		var mistake *sources.ConfigError
		require.ErrorAs(t, report.Sources[0].Err, &mistake, start)
		require.Equal(t, "start", mistake.Key)
		require.Zero(t, b.gate.Stats().Calls, start)
		lot.Exec(t, "DROP TABLE pass")
	}
}

func stateBeforeDelivery(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(30)
	b.gate.Answer(gate.Answer{Code: "503"})
	report := b.sync()
	require.Equal(t, 30, report.Sources[0].Pending, "the mark has moved, and every push was lost")
	lot.Exec(t, "DELETE FROM pass") // and so are the rows
	b.gate.Answer()
	b.reopen()
	b.sync()
	require.Equal(t, 30, b.gate.Stats().Taken)
}

// A power cut leaves any part of the ledger's log behind: what is read of it is
// a state that was, and nothing is lost.
func tornState(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	path := filepath.Join(b.dir, "ledger.db")
	b.many(150)
	b.sync()
	b.many(150)
	b.sync()
	main, err := os.ReadFile(path)
	require.NoError(t, err)
	log, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	require.NotEmpty(t, log)
	b.close()
	for i := range 8 {
		require.NoError(t, os.WriteFile(path, main, 0o600))
		require.NoError(t, os.WriteFile(path+"-wal", log[:len(log)*i/8+i*13], 0o600))
		require.NoError(t, errors.Join(os.RemoveAll(path+"-shm")))
		b.open()
		b.sync()
		b.sync()
		require.Equal(t, 300, b.gate.Stats().Taken)
		status, err := b.ledger.Status(t.Context(), "north")
		require.NoError(t, err)
		require.Equal(t, 300, status.Counts[ledger.Delivered])
		b.close()
	}
}

func sourceRestored(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(100)
	b.sync()
	lot.Exec(t, "DELETE FROM pass WHERE id > 40") // last night's copy
	b.pass(2 * time.Minute)
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, `the high-water mark is "100", but the last row of the table is at "40"`)
	require.ErrorContains(t, report.Sources[0].Err, "parkbridge reset --source north --to")
	_, err := b.bridge.Reset(t.Context(), b.bridge.Sources[0], "41")
	require.ErrorIs(t, err, bridge.ErrAboveAll, "nothing would be read for ever")
	_, err = b.bridge.Reset(t.Context(), b.bridge.Sources[0], "40")
	require.NoError(t, err)
	lot.Exec(t, "INSERT INTO pass (id, serial, plate, op) VALUES (101, 'new', '粤B12345', '2026-11-01 10:00:00')")
	b.sync()
	require.True(t, b.taken("new"))
	require.Equal(t, 101, b.gate.Stats().Calls, "nothing is sent again")
}

// Restored, and its numbers past the mark again before anybody looked: the source
// stops all the same, and stays stopped.
func sourceRestoredUnseen(t *testing.T, lot *testdb.Lot) {
	if lot.Driver == "sqlite" {
		t.Log("SQLite's own numbers: AUTOINCREMENT keeps them from being given again")
		lot.Exec(t, "CREATE TABLE made (id INTEGER PRIMARY KEY AUTOINCREMENT)")
	}
	b := setUp(t, lot, func(b *booth) {
		if lot.Driver == "sqlite" {
			lot.Exec(t, "DROP TABLE pass")
			lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY AUTOINCREMENT, serial TEXT, plate TEXT, op TEXT, st INTEGER DEFAULT 3)")
		}
	})
	b.many(100)
	b.sync()
	b.pass(3 * time.Second)
	b.sync()
	lot.Exec(t, "DELETE FROM pass WHERE id > 40")
	if b.pass(2 * time.Minute); lot.Driver == "mysql" { // once seen, on one engine
		require.Error(t, b.bridge.Sync(t.Context(), 0).Sources[0].Err)
	}
	again := 60
	for id := 41; id <= 110; id++ {
		if lot.Driver == "mysql" && id == 100 {
			again-- // the mark's own number is not given again
			continue
		}
		lot.Exec(t, fmt.Sprintf("INSERT INTO pass (id, serial, plate, op) VALUES (%d, 'N%d', '粤B1', '2026-11-24 10:00:00')", id, id))
	}
	for range 2 {
		b.reopen()
		report := b.bridge.Sync(t.Context(), 0)
		require.ErrorContains(t, report.Sources[0].Err, "parkbridge reset --source north")
		require.Equal(t, 100, b.gate.Stats().Calls)
	}
	_, err := b.bridge.Reset(t.Context(), b.bridge.Sources[0], "41")
	require.NoError(t, err)
	report := b.sync()
	require.Equal(t, again, report.Sources[0].Run.Invalid, "numbers that had landed before: for a person to look at")
	require.Equal(t, 110, b.gate.Stats().Taken)
}

// A few of the newest rows deleted is no restored table; reading goes on.
func newestRowsDeleted(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(100)
	b.sync()
	lot.Exec(t, "DELETE FROM pass WHERE id > 97")
	b.pass(2 * time.Minute)
	b.sync()
	b.many(2)
	b.pass(2 * time.Minute)
	report := b.sync()
	if lot.Driver != "sqlite" { // which gives the numbers of the deleted ones again
		require.Equal(t, 102, b.gate.Stats().Taken)
		require.Zero(t, report.Sources[0].Run.Invalid)
	}
}

func sourceRepointed(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(10)
	b.sync()
	other := setUp(t, testdb.New(t, lot.Driver))
	other.many(20)
	b.cfg.DSN = other.cfg.DSN
	b.reopen()
	report := b.bridge.Sync(t.Context(), 0)
	var mistake *sources.ConfigError
	require.ErrorAs(t, report.Sources[0].Err, &mistake)
	require.Equal(t, "dsn", mistake.Key)
	require.Contains(t, mistake.Problem, "parkbridge reset --source north --to")
	require.Equal(t, 10, b.gate.Stats().Calls, "nothing was read")
	_, err := b.bridge.Reset(t.Context(), b.bridge.Sources[0], "11")
	require.NoError(t, err)
	b.sync()
	require.Equal(t, 20, b.gate.Stats().Taken)
}

func twoRunners(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(10)
	lease, err := b.ledger.Acquire(t.Context(), "north")
	require.NoError(t, err)
	report := b.bridge.Sync(t.Context(), 0)
	require.NotNil(t, report.Sources[0].Held)
	require.Contains(t, report.Sources[0].Held.Holder, fmt.Sprintf("process %d", os.Getpid()))
	require.Zero(t, b.gate.Stats().Calls)
	require.NoError(t, lease.Release(t.Context()))
	b.sync()
	require.Equal(t, 10, b.gate.Stats().Taken)
}

// A run whose lease another has taken over stops reading and sending.
func lostLease(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, func(b *booth) { b.cfg.PageSize = 10 })
	b.many(100)
	pages := 0
	b.hook = func(string) error {
		if pages++; pages == 4 { // another machine's run: the lock beside the ledger is not on this disk
			require.NoError(t, os.Remove(filepath.Join(b.dir, "ledger.db.north.lock")))
			lease, err := b.ledger.Acquire(t.Context(), "north")
			require.NoError(t, err)
			t.Cleanup(func() { _ = lease.Release(context.WithoutCancel(t.Context())) })
		}
		return nil
	}
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorIs(t, report.Sources[0].Err, ledger.ErrLeaseLost)
	status, err := b.ledger.Status(t.Context(), "north")
	require.NoError(t, err)
	require.Less(t, status.Counts[ledger.Delivered]+status.Counts[ledger.Pending], 100, "nothing was landed after that")
	require.Less(t, b.gate.Stats().Calls, 100)
}

func futureRow(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	b.insert(b.wall(-time.Minute))
	b.sync()
	future := b.insert("2039-01-01 00:00:00")
	b.sync()
	require.True(t, b.taken(future), "landed at once")
	require.Equal(t, 1, b.seen().Seen.Future, "counted and shown")
	after := b.insert(b.wall(-time.Second))
	b.sync()
	require.True(t, b.taken(after), "and the mark has not moved to it")
	require.Equal(t, 3, b.gate.Stats().Calls)
}

func futureRowFirst(t *testing.T, lot *testdb.Lot) {
	for _, start := range []string{"earliest", "latest"} {
		b := setUp(t, lot, byTime, func(b *booth) { b.cfg.Start = start })
		b.insert("2039-01-01 00:00:00")
		b.sync()
		b.pass(2 * time.Second)
		after := b.insert(b.wall(-time.Second))
		b.sync()
		require.True(t, b.taken(after), start)
		lot.Exec(t, "DROP TABLE pass")
	}
}

func laneClocks(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	b.insert(b.wall(5 * time.Minute)) // this lane's clock is five minutes ahead
	b.sync()
	b.pass(6 * time.Minute)
	b.sync() // the mark is at that row now
	behind := b.insert(b.wall(-8 * time.Minute))
	b.pass(2 * time.Minute)
	b.sync()
	require.True(t, b.taken(behind))
	require.Equal(t, gate.Stats{Calls: 2, Taken: 2}, b.gate.Stats())
}

func entersLate(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, func(b *booth) { b.cfg.Where = "st = 3" })
	lot.Exec(t, "INSERT INTO pass (serial, plate, op, st) VALUES ('in', '粤B12345', '2026-11-01 10:00:00', 1)")
	b.many(5)
	b.sync()
	require.Equal(t, 5, b.gate.Stats().Taken)
	require.Equal(t, "client", b.seen().Seen.Class)
	lot.Exec(t, "UPDATE pass SET st = 3")
	b.pass(2 * time.Minute)
	b.sync()
	require.True(t, b.taken("in"))
	require.Equal(t, 6, b.gate.Stats().Calls)
}

func keyReused(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(10)
	b.sync()
	for _, id := range []int{10, 9} {
		lot.Exec(t, fmt.Sprintf("DELETE FROM pass WHERE id = %d", id))
	}
	lot.Exec(t, "INSERT INTO pass (serial, plate, op) VALUES ('nine', '粤B1', '2026-11-02 10:00:00'), ('ten', '粤B2', '2026-11-02 10:00:00')")
	report := b.sync()
	require.Equal(t, 2, report.Sources[0].Run.Invalid, "exit code 3: a person must see them")
	found, err := b.ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "key", found[0].Problems[0].Field)
	require.Regexp(t, "record (9|10) has it", found[0].Problems[0].Problem)
	require.Equal(t, 10, b.gate.Stats().Calls)
	// And again: the second release stays as it was kept.
	lot.Exec(t, "DELETE FROM pass WHERE id = 10")
	lot.Exec(t, "INSERT INTO pass (serial, plate, op) VALUES ('ten again', '粤B3', '2026-11-03 10:00:00')")
	b.sync()
	found, err = b.ledger.Records(t.Context(), ledger.Filter{Key: "10", Oldest: true})
	require.NoError(t, err)
	require.Len(t, found, 3)
	require.Equal(t, "ten", found[1].Columns["serial"].Text)
	require.Equal(t, "ten again", found[2].Columns["serial"].Text)
	require.Equal(t, 10, b.gate.Stats().Calls)
}

func preparedAcrossRestart(t *testing.T, lot *testdb.Lot) {
	server := testdb.NewServer(t, lot.Driver)
	b := setUp(t, server.NewLot(t))
	gid := fmt.Sprintf("p%d", time.Now().UnixNano())
	end := "COMMIT PREPARED '" + gid + "'"
	if lot.Driver == "postgres" {
		b.txn()(lateRow, "PREPARE TRANSACTION '"+gid+"'")
	} else {
		end = "XA COMMIT '" + gid + "'"
		conn, err := b.lot.DB.Conn(t.Context())
		require.NoError(t, err)
		for _, stmt := range []string{"XA START '" + gid + "'", lateRow, "XA END '" + gid + "'", "XA PREPARE '" + gid + "'"} {
			_, err := conn.ExecContext(t.Context(), stmt)
			require.NoError(t, err)
		}
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	b.many(1)
	b.sync()
	b.pass(3 * time.Second)
	b.sync() // listed under the name it has now
	server.Kill(t)
	require.Error(t, b.bridge.Sync(t.Context(), 0).Sources[0].Err)
	server.Start(t)
	for range 3 {
		b.pass(time.Minute)
		b.sync()
	}
	b.lot.Exec(t, end)
	b.sync()
	require.True(t, b.taken("late"))
}

func answerLost(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(20)
	b.gate.Answer(gate.Answer{Drop: "after", Every: 2})
	b.sync()
	b.gate.Answer()
	b.pass(time.Hour)
	b.sync()
	stats := b.gate.Stats()
	require.Equal(t, 20, stats.Taken)
	require.Positive(t, stats.Repeats, "sent again under the same flow_no, and ignored")
}

func poisonRow(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(50)
	lot.Exec(t, "UPDATE pass SET plate = NULL WHERE id = 25")
	report := b.sync()
	require.Equal(t, 1, report.Sources[0].Run.Invalid)
	require.Equal(t, 49, b.gate.Stats().Taken)
}

func flowNoCollision(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	b.many(3)
	second := b.source()
	second.Name = "south"
	b.bridge.Sources = append(b.bridge.Sources, second)
	b.sync()
	require.Equal(t, gate.Stats{Calls: 3, Taken: 3}, b.gate.Stats())
	found, err := b.ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(t, err)
	require.Len(t, found, 3, "the platform would swallow them")
	require.Equal(t, "flow_no", found[0].Problems[0].Field)
}

// The host is in UTC, the lot in +8: its now is the lot's wall clock, and what
// goes out is UTC.
func timeZone(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	at := b.now().Add(-time.Minute)
	serial := b.insert(b.wall(-time.Minute))
	b.sync()
	require.True(t, b.taken(serial))
	require.Zero(t, b.seen().Seen.Future, "it is no future row")
	require.Equal(t, at.UTC().Format("2006-01-02T15:04:05Z"), b.gate.Records()[0]["operate_time"])
	// In the hour that happens twice, rows appear below the mark again.
	newYork, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	lot.Exec(t, "DROP TABLE pass")
	b = setUp(t, lot, byTime, func(b *booth) { b.cfg.Location, b.capt.Lookback = newYork, time.Minute })
	b.pass(time.Date(2026, 11, 1, 5, 50, 0, 0, time.UTC).Sub(b.now())) // 01:50, the first time
	b.insert(b.wall(0))
	b.sync()
	b.pass(20 * time.Minute) // 01:10, the second time
	again := b.insert(b.wall(0))
	b.sync()
	require.True(t, b.taken(again))
}

func changedIgnored(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	b.insert(b.wall(-time.Hour))
	b.sync()
	lot.Exec(t, "UPDATE pass SET plate = '粤B77777'")
	for range 3 {
		b.pass(2 * time.Minute)
		b.sync()
	}
	require.Equal(t, 1, b.gate.Stats().Calls)
	status, err := b.ledger.Status(t.Context(), "north")
	require.NoError(t, err)
	require.Equal(t, 1, status.Changed, "counted once, and shown")
	lot.Exec(t, "UPDATE pass SET plate = '粤B12345'")
	b.pass(2 * time.Minute)
	b.sync()
	status, err = b.ledger.Status(t.Context(), "north")
	require.NoError(t, err)
	require.Zero(t, status.Changed, "it is as it was again")
}

func changedResent(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) {
		b.capt.OnChange, b.flow = capture.ChangeResend, `"EX" + string(id) + (revision > 0 ? "-" + string(revision) : "")`
	})
	b.insert(b.wall(-time.Hour))
	b.sync()
	for i := range 2 {
		lot.Exec(t, fmt.Sprintf("UPDATE pass SET plate = '粤B7777%d'", i))
		for range 2 {
			b.pass(2 * time.Minute)
			b.sync()
		}
	}
	var sent []string
	for _, r := range b.gate.Records() {
		sent = append(sent, r["flow_no"]+" "+r["plate"])
	}
	require.Equal(t, []string{"EX1 粤B12345", "EX1-1 粤B77770", "EX1-2 粤B77771"}, sent)
	require.Equal(t, 3, b.gate.Stats().Calls)
}

func changedPending(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	b.insert(b.wall(-time.Hour))
	b.gate.Answer(gate.Answer{Code: "503"})
	b.sync()
	lot.Exec(t, "UPDATE pass SET plate = '粤B77777'")
	b.pass(2 * time.Minute)
	b.sync()
	b.gate.Answer()
	b.pass(2 * time.Minute)
	b.sync()
	require.Len(t, b.gate.Records(), 1)
	require.Equal(t, "粤B77777", b.gate.Records()[0]["plate"], "under the same flow_no")
	require.Equal(t, "EX1", b.gate.Records()[0]["flow_no"])
}

func newRule(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) {
		b.capt.OnChange, b.flow = capture.ChangeResend, `"EX" + string(id) + (revision > 0 ? "-" + string(revision) : "")`
	})
	for range 5 {
		b.insert(b.wall(-time.Hour))
	}
	b.sync()
	b.flow += ` + (st == 9 ? "x" : "")` // reads another column
	b.reopen()
	for range 3 {
		b.pass(2 * time.Minute)
		b.sync()
	}
	require.Equal(t, 5, b.gate.Stats().Calls)
	// From now on a change shows again.
	lot.Exec(t, "UPDATE pass SET plate = '粤B77777' WHERE id = 3")
	b.pass(2 * time.Minute)
	b.sync()
	require.Equal(t, 6, b.gate.Stats().Taken)
}

func beforeStart(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) { b.cfg.Start = sources.StartLatest })
	old := b.insert(b.wall(-2 * time.Hour))
	b.insert(b.wall(-time.Hour))
	b.sync()
	fresh := b.insert(b.wall(-time.Minute))
	for range 3 {
		b.pass(2 * time.Hour) // look back and reconcile, both
		b.sync()
	}
	_, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{From: b.now().Add(-99 * time.Hour)}, false)
	require.NoError(t, err)
	b.sync()
	require.True(t, b.taken(fresh))
	require.False(t, b.taken(old), "it was not asked for")
	require.Equal(t, 1, b.gate.Stats().Calls)
}

// A value that is no time, at the top of the order, keeps nothing from being
// read.
func garbageCursor(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, func(b *booth) {
		lot.Exec(t, "DROP TABLE pass")
		lot.Exec(t, "CREATE TABLE pass (id "+lot.Type("INTEGER PRIMARY KEY", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")+", serial VARCHAR(20), plate VARCHAR(20), op VARCHAR(30), st INTEGER DEFAULT 3)")
		lot.Grant(t, "pass")
	})
	b.insert("N/A")
	b.insert(b.wall(-time.Hour))
	b.sync()
	for range 3 {
		b.pass(200 * time.Hour)
		fresh := b.insert(b.wall(0))
		b.pass(time.Second)
		b.sync()
		require.True(t, b.taken(fresh))
	}
}

// Evidence that is gone for one poll does not let the floor pass a transaction
// that is known to be open.
func evidenceLost(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	late := b.txn()
	late(lateRow)
	b.many(1)
	b.sync()
	for range 2 {
		b.pass(20 * time.Minute)
		b.sync() // the list holds the transaction
	}
	gone := true
	b.bridge.Sources[0].Open = withoutEvidence(b.bridge.Sources[0].Open, &gone)
	require.NoError(t, b.bridge.Sources[0].Close())
	b.sync()
	require.Equal(t, capture.RuleSettle, b.seen().Seen.Rule)
	gone = false
	b.sync()
	late("COMMIT")
	b.sync()
	require.True(t, b.taken("late"))
}

func withoutEvidence(open func(context.Context) (bridge.Reader, error), gone *bool) func(context.Context) (bridge.Reader, error) {
	return func(ctx context.Context) (bridge.Reader, error) {
		r, err := open(ctx)
		return blind{r, gone}, err
	}
}

type blind struct {
	bridge.Reader
	gone *bool
}

func (r blind) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	s, err := r.Reader.Session(ctx, evidence)
	return blindSession{s, r.gone}, err
}

type blindSession struct {
	capture.Session
	gone *bool
}

func (s blindSession) Evidence(ctx context.Context) (sources.Evidence, error) {
	e, err := s.Session.Evidence(ctx)
	if *s.gone {
		e.None, e.Open = "the privilege was taken away", nil
	}
	return e, err
}

func reconcileByDay(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime)
	day := func(d int) string { return b.now().In(b.cfg.Location).AddDate(0, 0, d).Format(time.DateOnly) }
	for d := -3; d < 0; d++ {
		for range 4 {
			b.insert(day(d) + " 12:00:00")
		}
	}
	b.sync()
	lot.Exec(t, "DELETE FROM pass WHERE id IN (1, 5, 6)")
	missed := b.insert(day(-3) + " 13:00:00")
	lot.Exec(t, "UPDATE pass SET plate = '粤B7' WHERE id = 9")
	result, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, true)
	require.NoError(t, err)
	require.Equal(t, []ledger.Day{
		{Day: day(-3), Source: 4, Ledger: 4, Delivered: 4, Missing: 1, Deleted: 1},
		{Day: day(-2), Source: 2, Ledger: 4, Delivered: 4, Deleted: 2},
		{Day: day(-1), Source: 4, Ledger: 4, Delivered: 4, Changed: 1},
	}, result.Days)
	result, err = b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{From: b.now().AddDate(0, 0, -4), To: b.now().AddDate(0, 0, -1)}, false)
	require.NoError(t, err)
	require.Equal(t, 1, sum(result, func(d ledger.Day) int { return d.Healed }))
	kept, err := b.ledger.LastReconcile(t.Context(), "north")
	require.NoError(t, err)
	require.Equal(t, result.Days, kept.Days, "and the result is kept")
	b.sync()
	require.True(t, b.taken(missed))
	require.Equal(t, 13, b.gate.Stats().Taken, "what was deleted at the source stays as it is")
}

// A reset back to where the mark stood does not give up what may still turn up
// below it.
func resetKeepsTheFloor(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot)
	late := b.txn()
	late(lateRow)
	b.many(3)
	b.sync()
	_, err := b.bridge.Reset(t.Context(), b.bridge.Sources[0], "3")
	require.NoError(t, err)
	b.pass(time.Hour)
	b.sync()
	late("COMMIT")
	b.sync()
	require.True(t, b.taken("late"))
	require.Equal(t, 4, b.gate.Stats().Calls)
	// Into a gap that an open transaction may still fill.
	b.pass(3 * time.Second)
	b.sync()
	b.pass(3 * time.Second)
	b.sync()
	again := b.txn()
	again("INSERT INTO pass (serial, plate, op) VALUES ('gap', '粤B12345', '2026-11-01 10:00:00')")
	lot.Exec(t, "INSERT INTO pass (id, serial, plate, op) VALUES (60, 'x', '粤B12345', '2026-11-01 10:00:00'), (70, 'y', '粤B12345', '2026-11-01 10:00:00')")
	b.sync()
	_, err = b.bridge.Reset(t.Context(), b.bridge.Sources[0], "50")
	require.NoError(t, err)
	b.pass(time.Hour)
	b.sync()
	again("COMMIT")
	b.sync()
	require.True(t, b.taken("gap"))
}

// A changed row is told of once, and read again without effect after that.
func TestChangedRowIsToldOnce(t *testing.T) {
	t.Parallel()
	b := setUp(t, testdb.New(t, "sqlite"), byTime)
	var log strings.Builder
	b.bridge.Log = slog.New(slog.NewTextHandler(&log, nil))
	b.insert(b.wall(-time.Hour))
	b.sync()
	b.lot.Exec(t, "UPDATE pass SET plate = '粤B77777'")
	for range 4 {
		b.pass(2 * time.Minute)
		b.sync()
	}
	require.Equal(t, 1, strings.Count(log.String(), "rows were changed"), log.String())
	require.NotContains(t, log.String(), "77777")
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A daemon whose lease another has taken over stops moving the mark and stops
// sending, goes on with what else it has, and takes up the source again when the
// other is done.
func TestDaemonThatLostItsLease(t *testing.T) {
	t.Parallel()
	b := setUp(t, testdb.New(t, "sqlite"))
	var log logged
	b.bridge.Log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.bridge.Serve(ctx, map[string]cron.Schedule{"north": cron.Every(time.Second)}) }()
	b.many(5)
	require.Eventually(t, func() bool { return b.gate.Stats().Taken == 5 }, 20*time.Second, 20*time.Millisecond)

	require.NoError(t, os.Remove(filepath.Join(b.dir, "ledger.db.north.lock"))) // another machine's run
	lease, err := b.ledger.Acquire(t.Context(), "north")
	require.NoError(t, err)
	b.many(5)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "another run holds the source; waiting") }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, 1, strings.Count(log.String(), "another run has taken over the source"), log.String())
	status, err := b.ledger.Status(t.Context(), "north")
	require.NoError(t, err)
	require.Equal(t, "5", status.Mark.Mark.String())
	require.Equal(t, 5, b.gate.Stats().Calls)

	require.NoError(t, lease.Release(t.Context()))
	require.Eventually(t, func() bool { return b.gate.Stats().Taken == 10 }, 20*time.Second, 20*time.Millisecond)
	stop()
	require.NoError(t, <-served)
}
