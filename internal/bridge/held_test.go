package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/bridge"
	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/internal/testdb"
	"parkbridge/sink/gate"
	"parkbridge/sources"
)

const filledIn = `(reason ?? "") != ""`

// waits makes a source that holds rows back until their reason is filled in. The
// last rows of an SQLite table without AUTOINCREMENT would be read at each poll.
func waits(b *booth) {
	if b.lot.Driver == "sqlite" {
		b.lot.Exec(b.t, "DROP TABLE pass")
		b.lot.Exec(b.t, "CREATE TABLE pass (id INTEGER PRIMARY KEY AUTOINCREMENT, serial TEXT, plate TEXT, op TEXT, st INTEGER DEFAULT 3)")
	}
	b.lot.Exec(b.t, "ALTER TABLE pass ADD reason VARCHAR(40)")
	b.ready = filledIn
}

func (b *booth) fill(serial, reason string) {
	b.t.Helper()
	b.lot.Exec(b.t, "UPDATE pass SET reason = '"+reason+"' WHERE serial = '"+serial+"'")
}

// quiet syncs until the floor has come to the mark: then a poll reads no row
// again, and what becomes ready is found by its key alone.
func (b *booth) quiet() {
	b.t.Helper()
	for range 10 {
		b.sync()
		if s := b.seen(); s.Floor.Encode() == s.Mark.Encode() {
			return
		}
		b.pass(3 * time.Second)
	}
	b.t.Fatal("the floor does not come to the mark")
}

// counts gives held, pending, delivered, invalid.
func (b *booth) counts() [4]int {
	b.t.Helper()
	s, err := b.ledger.Status(b.t.Context(), "north")
	require.NoError(b.t, err)
	return [4]int{s.Counts[ledger.Held], s.Counts[ledger.Pending], s.Counts[ledger.Delivered], s.Counts[ledger.Invalid]}
}

// only is the one record in a state.
func (b *booth) only(state string) ledger.Record {
	b.t.Helper()
	found, err := b.ledger.Records(b.t.Context(), ledger.Filter{States: []string{state}})
	require.NoError(b.t, err)
	require.Len(b.t, found, 1, state)
	return found[0]
}

// sent is the reason that the gate got with a serial.
func (b *booth) sent(serial string) string {
	for _, r := range b.gate.Records() {
		if r["parking_serial"] == serial {
			return r["reason"]
		}
	}
	return ""
}

// TestHeld: what `ready` promises, on every engine.
func TestHeld(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		test func(*testing.T, *testdb.Lot)
	}{
		{"filled in later", heldFilledIn},
		{"the mark is not stalled", heldMarkMoves},
		{"not in time", heldTimeout},
		{"deleted", heldDeleted},
		{"killed between", heldKilled},
		{"reconcile", heldReconcile},
		{"read again", heldReread},
		{"many", heldMany},
		{"changes while it is held", heldChanges},
		{"stays as it was ready", heldNeverAgain},
		{"sent again", heldResend},
		{"a condition that fails", heldFails},
		{"another condition", heldOtherCondition},
		{"by a person", heldByAPerson},
		{"order of a serial", heldSerial},
		{"ready once, retried", heldNotByRetry},
		{"number taken", heldNumberTaken},
	} {
		for _, engine := range testdb.Engines {
			t.Run(way.name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				way.test(t, testdb.New(t, engine))
			})
		}
	}
}

func heldFilledIn(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one := b.insert(b.wall(-time.Hour))
	report := b.sync()
	require.Zero(t, report.Sources[0].Pending)
	require.Equal(t, [4]int{1, 0, 0, 0}, b.counts())
	r := b.only(ledger.Held)
	require.True(t, r.Wiped(), "what the row says is personal and will change: it is not kept")
	require.Empty(t, r.FlowNo)
	require.Empty(t, r.Fields)
	b.reopen()
	b.quiet()
	require.Zero(t, b.gate.Stats().Calls)
	b.fill(one, "抬杆放行")
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts(), "in the very next run, class server though it is")
	require.Equal(t, "抬杆放行", b.sent(one))
	asked := b.asked
	b.fill(one, "")
	b.sync()
	require.Equal(t, asked, b.asked, "where nothing is held, nothing is read by key")
	require.Equal(t, 1, b.gate.Stats().Calls)
}

func heldMarkMoves(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	first := b.insert(b.wall(-time.Hour))
	second := b.insert(b.wall(-time.Hour))
	b.fill(second, "设备异常")
	b.sync()
	require.True(t, b.taken(second))
	require.Equal(t, []string{"2"}, b.seen().Mark.Values)
	// One that becomes ready goes out in the sync that finds it so, also with newer
	// rows landed and others still pending from before.
	third := b.insert(b.wall(-time.Hour))
	b.fill(third, "设备异常")
	b.fill(first, "设备异常")
	report := b.sync()
	require.True(t, b.taken(third))
	require.True(t, b.taken(first))
	require.Zero(t, report.Sources[0].Pending)
	require.Equal(t, gate.Stats{Calls: 3, Taken: 3}, b.gate.Stats())
}

func heldTimeout(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one := b.insert("2026-11-01 10:00:00")
	b.sync()
	b.pass(167 * time.Hour)
	b.sync()
	require.Equal(t, [4]int{1, 0, 0, 0}, b.counts())
	b.pass(time.Hour)
	b.reopen()
	report := b.sync()
	require.Equal(t, 1, report.Sources[0].Run.Invalid, "exit code 3: a person must see it")
	r := b.only(ledger.Invalid)
	require.Equal(t, []ledger.Problem{{Field: "ready", Problem: filledIn + " was not true within 168h (ready_timeout); once it is, say records retry; records retry --force sends the row as it is"}}, r.Problems)
	require.Equal(t, "粤B12345", r.Columns["plate"].Text, "kept now, so that it can be mapped again")
	asked := b.asked
	b.sync()
	require.Equal(t, asked, b.asked)
	state, problems, err := b.bridge.Remap(t.Context(), b.bridge.Sources[0], r)
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state, "it still is not ready")
	require.Equal(t, r.Problems, problems)
	b.fill(one, "人工放行")
	state, _, err = b.bridge.Remap(t.Context(), b.bridge.Sources[0], b.only(ledger.Invalid))
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)
	b.sync()
	require.Equal(t, "人工放行", b.sent(one), "as the row is now")
	two := b.insert("2026-11-02 10:00:00")
	b.sync()
	b.pass(168 * time.Hour)
	b.sync()
	lot.Exec(t, "DELETE FROM pass WHERE serial = '"+two+"'")
	state, problems, err = b.bridge.Remap(t.Context(), b.bridge.Sources[0], b.only(ledger.Invalid))
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	require.Contains(t, problems[0].Problem, "no longer in the source")
	state, _, err = b.bridge.Force(t.Context(), b.bridge.Sources[0], b.only(ledger.Invalid))
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state, "from what was kept of it")
	b.sync()
	require.Equal(t, "张三", b.sent(two))
}

// A record that was ready once is mapped again from what is stored of it, as a
// ready one.
func heldNotByRetry(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one := b.insert("2026-11-01 10:00:00")
	b.fill(one, "设备异常")
	b.gate.Answer(gate.Answer{Code: "400"})
	b.sync()
	lot.Exec(t, "DELETE FROM pass")
	b.gate.Answer()
	b.ready = "st == 1" // another condition by now
	b.reopen()
	state, _, err := b.bridge.Remap(t.Context(), b.bridge.Sources[0], b.only(ledger.Rejected))
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state, "it needs a column that was not stored")
	b.ready = `reason == "x"`
	b.reopen()
	state, _, err = b.bridge.Remap(t.Context(), b.bridge.Sources[0], b.only(ledger.Invalid))
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)
	b.sync()
	require.True(t, b.taken(one))
}

func heldDeleted(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one := b.insert(b.wall(-time.Hour))
	two := b.insert(b.wall(-time.Hour))
	b.fill(two, "设备异常")
	b.sync()
	lot.Exec(t, "DELETE FROM pass WHERE serial = '"+one+"'")
	report := b.sync()
	require.Equal(t, 1, report.Sources[0].Run.Invalid)
	r := b.only(ledger.Invalid)
	require.Contains(t, r.Problems[0].Problem, "no longer in the source, and was not ready before")
	state, problems, err := b.bridge.Force(t.Context(), b.bridge.Sources[0], r)
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	require.Equal(t, r.Problems, problems)
	lot.Exec(t, "INSERT INTO pass (id, serial, plate, op, reason) VALUES (1, '"+one+"', '粤B12345', '"+b.wall(-time.Hour)+"', '设备异常')")
	_, err = b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, false)
	require.NoError(t, err)
	b.sync()
	require.True(t, b.taken(one), "back again, it is mapped as any invalid row that was mended")
	require.Equal(t, [4]int{0, 0, 2, 0}, b.counts())
}

// Killed at any moment, a held row is held, or pending, never both and never
// neither.
func heldKilled(t *testing.T, lot *testdb.Lot) {
	for _, where := range []string{"keys", "keys read"} {
		b := setUp(t, lot, waits)
		one := b.insert(b.wall(-time.Hour))
		b.quiet()
		b.fill(one, "设备异常")
		b.hook = func(at string) error {
			if at == where {
				return errors.New("power cut")
			}
			return nil
		}
		report := b.bridge.Sync(t.Context(), 0)
		require.ErrorContains(t, report.Sources[0].Err, "power cut")
		require.Equal(t, [4]int{1, 0, 0, 0}, b.counts())
		b.hook = nil
		b.reopen()
		b.gate.Answer(gate.Answer{Code: "503"})
		b.sync()
		require.Equal(t, [4]int{0, 1, 0, 0}, b.counts())
		b.gate.Answer()
		b.reopen()
		b.sync()
		require.Equal(t, [4]int{0, 0, 1, 0}, b.counts())
		require.Equal(t, 1, b.gate.Stats().Taken)
		lot.Exec(t, "DROP TABLE pass")
	}
}

func heldReconcile(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one := b.insert(b.wall(-time.Hour))
	b.lot.Exec(t, "INSERT INTO pass (serial, plate, op) VALUES ('untimed', '粤B12345', NULL)")
	b.sync()
	require.Equal(t, [4]int{2, 0, 0, 0}, b.counts(), "a row that is not ready need not map")
	dry, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, true)
	require.NoError(t, err)
	all := dry.Total()
	require.Equal(t, [4]int{2, 2, 0, 0}, [4]int{all.Source, all.Ledger, all.Delivered, all.Missing})
	b.fill(one, "设备异常")
	result, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, false)
	require.NoError(t, err)
	require.Zero(t, result.Total().Missing)
	require.Equal(t, [4]int{1, 1, 0, 0}, b.counts(), "ready, it is pending at once")
	b.sync()
	require.True(t, b.taken(one))
	require.Equal(t, 1, b.gate.Stats().Calls)
}

func heldReread(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, waits)
	one := b.insert(b.wall(-time.Hour))
	b.sync()
	b.fill(one, "设备异常")
	b.pass(2 * time.Minute)
	b.hook = func(at string) error {
		if at == "keys" {
			return errors.New("the look back was there before")
		}
		return nil
	}
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts(), "one record, and not a second one")
	require.Equal(t, 1, b.gate.Stats().Calls)
}

// Many rows that are not ready are read a thousand a run, in turns, also by
// programs that end in between.
func heldMany(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	for range 5 {
		b.many(500)
	}
	b.quiet()
	require.Equal(t, [4]int{2500, 0, 0, 0}, b.counts())
	for b.seen().Journal.HeldAfter != 0 { // to the end of a round
		b.sync()
	}
	b.lot.Exec(t, "UPDATE pass SET reason = '设备异常' WHERE id = 2 OR id = 1900 OR id = 2500")
	for _, delivered := range []int{1, 2, 3, 3} {
		asked := b.asked
		b.reopen()
		b.sync()
		require.LessOrEqual(t, b.asked-asked, 1000)
		require.Equal(t, [4]int{2500 - delivered, 0, delivered, 0}, b.counts())
	}
	report := b.sync()
	require.Zero(t, report.Sources[0].Run.Invalid)
	require.Equal(t, 3, b.gate.Stats().Calls)
}

func heldChanges(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one := b.insert("2026-11-01 10:00:00")
	b.sync()
	first := b.only(ledger.Held)
	lot.Exec(t, "UPDATE pass SET op = '2026-11-03 11:00:00', plate = '粤B1' WHERE serial = '"+one+"'")
	b.sync()
	r := b.only(ledger.Held)
	require.Equal(t, first.ID, r.ID)
	require.True(t, r.Wiped())
	b.fill(one, "设备异常")
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts(), "another time of a row that is not ready makes no re-used key of its own")
	require.Equal(t, "粤B1", b.gate.Records()[0]["plate"])
}

// A record that was ready once stays as it was then, until the row is ready
// again: what is not ready is not sent, and nothing is held for a second time.
func heldNeverAgain(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, waits)
	one := b.insert(b.wall(-time.Hour))
	b.fill(one, "设备异常")
	b.gate.Answer(gate.Answer{Code: "503"})
	b.sync()
	require.Equal(t, [4]int{0, 1, 0, 0}, b.counts())
	b.fill(one, "")
	b.pass(2 * time.Minute)
	b.sync()
	require.Equal(t, [4]int{0, 1, 0, 0}, b.counts())
	require.Equal(t, "设备异常", b.only(ledger.Pending).Fields["reason"])
	b.fill(one, "人工放行")
	b.pass(2 * time.Minute)
	b.sync()
	require.Equal(t, "人工放行", b.only(ledger.Pending).Fields["reason"], "ready again, it replaces the record's content")
	b.gate.Answer()
	b.pass(time.Hour)
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts())
	b.fill(one, "")
	b.pass(2 * time.Minute)
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts(), "a delivered record is never held")
	require.Equal(t, "人工放行", b.sent(one))
}

func heldResend(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, byTime, waits, func(b *booth) {
		b.capt.OnChange = capture.ChangeResend
		b.flow = `"EX" + string(id) + "-" + string(revision)`
	})
	one := b.insert(b.wall(-time.Hour))
	b.fill(one, "设备异常")
	b.sync()
	edit := func(reason string) {
		b.fill(one, reason)
		b.pass(2 * time.Minute)
		b.sync()
	}
	edit("")
	edit("设备异常")
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts(), "as it was again: nothing to send")
	edit("")
	edit("人工放行")
	require.Equal(t, [4]int{0, 0, 2, 0}, b.counts())
	require.Equal(t, 2, b.gate.Stats().Calls, "the revision is sent once the row is ready again, and not half edited")
}

func heldFails(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits, func(b *booth) { b.ready = "st" })
	one := b.insert(b.wall(-time.Hour))
	lot.Exec(t, "INSERT INTO pass (serial, plate, op, st) VALUES ('null', '粤B12345', '2026-11-01 10:00:00', NULL)")
	report := b.sync()
	require.Equal(t, 2, report.Sources[0].Run.Invalid)
	found, err := b.ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}, Oldest: true})
	require.NoError(t, err)
	require.Equal(t, []ledger.Problem{{Field: "ready", Problem: `gives "3", which is neither true nor false; compare it, as in column == 1`}}, found[0].Problems)
	require.Contains(t, found[1].Problems[0].Problem, "gives NULL, which is neither true nor false")
	b.ready = "st == 1" // mended
	b.reopen()
	for i, r := range found {
		state, _, err := b.bridge.Remap(t.Context(), b.bridge.Sources[0], r)
		require.NoError(t, err)
		require.Equal(t, ledger.Held, state, i)
	}
	require.Equal(t, [4]int{2, 0, 0, 0}, b.counts())
	again := b.ledgerHas(found[0].ID)
	require.True(t, again.Wiped())
	lot.Exec(t, "UPDATE pass SET st = 1")
	b.sync()
	require.Equal(t, [4]int{0, 0, 2, 0}, b.counts())
	require.True(t, b.taken(one))
}

func (b *booth) ledgerHas(id int64) ledger.Record {
	b.t.Helper()
	found, err := b.ledger.Records(b.t.Context(), ledger.Filter{IDs: []int64{id}})
	require.NoError(b.t, err)
	return found[0]
}

// What is held is so by the condition as it is now, also where there is none any
// more.
func heldOtherCondition(t *testing.T, lot *testdb.Lot) {
	for _, ready := range []string{"st == 3", ""} {
		b := setUp(t, lot, waits)
		one := b.insert(b.wall(-time.Hour))
		b.sync()
		require.Equal(t, [4]int{1, 0, 0, 0}, b.counts())
		b.ready = ready
		b.reopen()
		b.sync()
		require.Equal(t, [4]int{0, 0, 1, 0}, b.counts(), ready)
		require.True(t, b.taken(one))
		lot.Exec(t, "DROP TABLE pass")
	}
}

func heldByAPerson(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	one, two := b.insert(b.wall(-time.Hour)), b.insert(b.wall(-time.Hour))
	b.sync()
	found, err := b.ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Held}, Oldest: true})
	require.NoError(t, err)
	state, _, err := b.bridge.Remap(t.Context(), b.bridge.Sources[0], found[0])
	require.NoError(t, err)
	require.Equal(t, ledger.Held, state)
	state, _, err = b.bridge.Force(t.Context(), b.bridge.Sources[0], found[0])
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state, "a person says so")
	require.NoError(t, b.ledger.Dismiss(t.Context(), found[1].ID, "测试车"))
	b.fill(two, "设备异常")
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts())
	require.Equal(t, "张三", b.sent(one), "as it was, by the default")
	require.False(t, b.taken(two))
	// A person is faster than the run that has read the row meanwhile.
	three := b.insert(b.wall(-time.Hour))
	b.quiet()
	b.fill(three, "设备异常")
	b.hook = func(at string) error {
		if at == "keys read" {
			return b.ledger.Dismiss(context.WithoutCancel(t.Context()), b.only(ledger.Held).ID, "测试车")
		}
		return nil
	}
	b.sync()
	require.False(t, b.taken(three))
	require.Equal(t, [4]int{0, 0, 1, 0}, b.counts())
}

// Records of one serial go in the order in which they landed, where both are
// there; one that is held does not hold up what came after it.
func heldSerial(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits)
	for i := range 3 {
		lot.Exec(t, fmt.Sprintf("INSERT INTO pass (serial, plate, op, st, reason) VALUES ('same', '粤B12345', '2026-11-01 10:00:0%d', %d, '%s')", i, i, strings.Repeat("x", i/2)))
	}
	b.gate.Answer(gate.Answer{Code: "503"})
	b.sync()
	require.Equal(t, [4]int{2, 1, 0, 0}, b.counts())
	lot.Exec(t, "UPDATE pass SET reason = 'x' WHERE st = 1")
	b.sync()
	require.Equal(t, [4]int{1, 2, 0, 0}, b.counts())
	b.gate.Answer()
	b.sync()
	require.Equal(t, [4]int{1, 0, 2, 0}, b.counts())
	lot.Exec(t, "UPDATE pass SET reason = 'x'")
	b.sync()
	var flows []string
	for _, r := range b.gate.Records() {
		flows = append(flows, r["flow_no"])
	}
	require.Equal(t, []string{"EX2", "EX3", "EX1"}, flows)
}

// A number that is taken shows when the row is ready, and not before.
func heldNumberTaken(t *testing.T, lot *testdb.Lot) {
	b := setUp(t, lot, waits, func(b *booth) { b.flow = `"EX" + plate` })
	one, two := b.insert(b.wall(-time.Hour)), b.insert(b.wall(-time.Hour))
	b.quiet()
	require.Equal(t, [4]int{2, 0, 0, 0}, b.counts())
	b.fill(one, "设备异常")
	b.fill(two, "设备异常")
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 1}, b.counts())
	require.Contains(t, b.only(ledger.Invalid).Problems[0].Problem, `"EX粤B12345" is already the number of the row with key 1 of the same page`)
	three := b.insert(b.wall(-time.Hour))
	b.quiet()
	b.fill(three, "设备异常")
	b.sync()
	require.Equal(t, [4]int{0, 0, 1, 2}, b.counts())
	require.False(t, b.taken(three))
}

// Rows that another session holds locked are not gone, and hold up no others.
func TestHeldAndLocked(t *testing.T) {
	t.Parallel()
	b := setUp(t, testdb.New(t, "sqlite"), waits)
	b.many(10)
	b.sync()
	b.lot.Exec(t, "UPDATE pass SET reason = 'x'")
	src := b.bridge.Sources[0]
	open := src.Open
	require.NoError(t, src.Close())
	src.Open = func(ctx context.Context) (bridge.Reader, error) {
		r, err := open(ctx)
		return lockedRow{r, "7"}, err
	}
	b.sync()
	require.Equal(t, [4]int{1, 0, 9, 0}, b.counts())
	require.Equal(t, "7", b.only(ledger.Held).Key)
}

// lockedRow is a reader of a table one of whose rows is locked, as on SQL Server.
type lockedRow struct {
	bridge.Reader
	key string
}

func (r lockedRow) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	s, err := r.Reader.Session(ctx, evidence)
	return lockedRowSession{s, r.key}, err
}

type lockedRowSession struct {
	capture.Session
	key string
}

func (s lockedRowSession) ByKeys(ctx context.Context, keys []string) (sources.Page, error) {
	if slices.Contains(keys, s.key) {
		return sources.Page{}, sources.ErrLocked
	}
	return s.Session.ByKeys(ctx, keys)
}
