package ledger_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type fixture struct {
	*ledger.Ledger
	clock *clock
	path  string
	lease *ledger.Lease
	run   int64
}

func open(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}, path: filepath.Join(t.TempDir(), "账本 ledger.db")}
	var err error
	f.Ledger, err = ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(f.path)}, f.clock.Now, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	f.lease, err = f.Acquire(t.Context(), "gate")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.lease.Release(context.WithoutCancel(t.Context()))) })
	f.run, err = f.BeginRun(t.Context(), "gate", f.clock.Now())
	require.NoError(t, err)
	return f
}

func answers(leases map[string]*ledger.Lease, runs map[string]int64, settlements []ledger.Settlement, sink *ledger.SinkState) ledger.Answers {
	return ledger.Answers{Leases: leases, Runs: runs, Settlements: settlements, Sink: sink}
}

func row(key, flow string) ledger.New {
	m := ledger.Mapped{Fields: fmt.Sprintf(`{"flow_no":%q,"plate":"粤B%s"}`, flow, key), ParkUUID: "P", FlowNo: flow, ParkingSerial: "S" + key}
	return ledger.New{Key: key, Content: ledger.Content{Hash: "00000000:" + key, Columns: `{"id":` + fmt.Sprintf("%q", key) + `}`, Mapped: m}}
}

func at(values ...string) sources.Position { return sources.Position{Values: values} }

func (f *fixture) land(t *testing.T, to string, rows ...ledger.New) ledger.Landed {
	t.Helper()
	mark, err := f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	out, err := f.Land(t.Context(), ledger.Landing{Lease: f.lease, From: mark, To: ledger.State{Mark: at(to), Floor: at(to)}, Table: "pass", Rows: rows, RunID: f.run, Read: len(rows)})
	require.NoError(t, err)
	return out
}

func (f *fixture) due(t *testing.T, now time.Time, unordered ...string) (keys []string) {
	t.Helper()
	due, err := f.Due(t.Context(), ledger.DueQuery{Leases: []*ledger.Lease{f.lease}, Limit: 100, Now: now, SweepStart: now, Unordered: unordered})
	require.NoError(t, err)
	for _, d := range due {
		keys = append(keys, strings.TrimPrefix(d.FlowNo, "F"))
	}
	return keys
}

func (f *fixture) settle(t *testing.T, s ...ledger.Settlement) {
	t.Helper()
	for i := range s {
		s[i].Source, s[i].At = "gate", f.clock.Now()
		if found, err := f.Records(t.Context(), ledger.Filter{IDs: []int64{s[i].ID}}); err == nil && len(found) == 1 {
			known, err := f.Known(t.Context(), found[0].Source, found[0].Table, []string{found[0].Key})
			require.NoError(t, err)
			s[i].Hash = known[found[0].Key].Hash
		}
	}
	require.NoError(t, f.Settle(t.Context(), answers(map[string]*ledger.Lease{"gate": f.lease}, map[string]int64{"gate": f.run}, s, nil)))
}

func (f *fixture) only(t *testing.T, filter ledger.Filter) ledger.Record {
	t.Helper()
	found, err := f.Records(t.Context(), filter)
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// A page lands with its mark or not at all.
func TestLandingIsAtomic(t *testing.T) {
	t.Parallel()
	f := open(t)
	mark, err := f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	require.False(t, mark.Started)
	out := f.land(t, "2", row("1", "F1"), row("2", "F2"))
	require.Equal(t, 2, out.Pending)
	mark, err = f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	require.True(t, mark.Started)
	require.Equal(t, at("2"), mark.Mark)

	// The second row of this page cannot be stored: neither is the first, nor the mark.
	_, err = f.Land(t.Context(), ledger.Landing{Lease: f.lease, From: mark, To: ledger.State{Mark: at("4"), Floor: at("4")}, Table: "pass", Rows: []ledger.New{row("3", "F3"), row("1", "F9")}, RunID: f.run})
	require.ErrorContains(t, err, "key 1")
	after, err := f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	require.Equal(t, mark, after)
	found, err := f.Records(t.Context(), ledger.Filter{})
	require.NoError(t, err)
	require.Len(t, found, 2)
}

// The mark moves by compare-and-swap: a page read from another mark is refused.
func TestMarkMovesFromWhatWasRead(t *testing.T) {
	t.Parallel()
	f := open(t)
	stale, err := f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	f.land(t, "1", row("1", "F1"))
	_, err = f.Land(t.Context(), ledger.Landing{Lease: f.lease, From: stale, To: ledger.State{Mark: at("2"), Floor: at("2")}, Table: "pass", Rows: []ledger.New{row("2", "F2")}, RunID: f.run})
	require.ErrorIs(t, err, ledger.ErrMarkMoved)
	require.Equal(t, []string{"1"}, f.due(t, time.Time{}))
}

// One runner: a second one is told who the first is, and a run that lost its
// lease can neither land nor settle.
func TestOneRunner(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.land(t, "1", row("1", "F1"))
	_, err := f.Acquire(t.Context(), "gate")
	var held *ledger.HeldError
	require.ErrorAs(t, err, &held)
	require.Contains(t, held.Holder, fmt.Sprintf("process %d", os.Getpid()))

	other, err := f.Acquire(t.Context(), "another source")
	require.NoError(t, err)
	require.NoError(t, other.Release(t.Context()))

	lost := f.lease
	require.NoError(t, f.lease.Release(t.Context()))
	f.lease, err = f.Acquire(t.Context(), "gate")
	require.NoError(t, err)
	mark, err := f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	_, err = f.Land(t.Context(), ledger.Landing{Lease: lost, From: mark, To: ledger.State{Mark: at("2"), Floor: at("2")}, Table: "pass", RunID: f.run})
	require.ErrorIs(t, err, ledger.ErrLeaseLost)
	err = f.Settle(t.Context(), answers(map[string]*ledger.Lease{"gate": lost}, nil, []ledger.Settlement{{Due: &ledger.Due{ID: 1, Source: "gate"}, State: ledger.Delivered}}, nil))
	require.ErrorIs(t, err, ledger.ErrLeaseLost)
	require.Equal(t, []string{"1"}, f.due(t, time.Time{}))
}

// Records come in order of landing; one waits while an earlier one of its lot
// and serial cannot be sent now.
func TestDue(t *testing.T) {
	t.Parallel()
	f := open(t)
	same := func(key string) ledger.New {
		r := row(key, "F"+key)
		r.ParkingSerial = "S"
		return r
	}
	f.land(t, "4", same("1"), row("2", "F2"), same("3"), row("4", "F4"))
	now := f.clock.Now()
	require.Equal(t, []string{"1", "2", "3", "4"}, f.due(t, now), "a serial's later records follow in one list")
	f.settle(t, ledger.Settlement{Due: &ledger.Due{ID: 1}, State: ledger.Pending, Attempted: true, NextAttempt: now.Add(time.Minute)})
	require.Equal(t, []string{"2", "4"}, f.due(t, now), "1 backs off, so 3 waits")
	require.Equal(t, []string{"2", "3", "4"}, f.due(t, now, "S"), "unless the serial is a placeholder")
	require.Equal(t, []string{"1", "2", "3", "4"}, f.due(t, time.Time{}), "a sync takes all as due")
	require.Equal(t, []string{"1", "2", "3", "4"}, f.due(t, now.Add(time.Minute)))

	probe, err := f.Probe(t.Context(), ledger.DueQuery{Leases: []*ledger.Lease{f.lease}}, nil)
	require.NoError(t, err)
	require.Equal(t, "F2", probe[0].FlowNo, "the one tried longest ago; 3 waits for 1")
	probe, err = f.Probe(t.Context(), ledger.DueQuery{Leases: []*ledger.Lease{f.lease}}, []int64{2, 4})
	require.NoError(t, err)
	require.Equal(t, "F1", probe[0].FlowNo)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.land(t, "3", row("1", "F1"), row("2", "F2"), row("3", "F3"))
	f.clock.add(time.Second)
	f.settle(t,
		ledger.Settlement{Due: &ledger.Due{ID: 1}, State: ledger.Delivered, Attempted: true, Code: "1001", Message: "OK", SeqNo: "s1", HTTPStatus: 200},
		ledger.Settlement{
			Due: &ledger.Due{ID: 2}, State: ledger.Rejected, Attempted: true, Code: "400", Message: "参数错误", Hint: "plate", HTTPStatus: 400,
			Problems: []ledger.Problem{{Field: "plate", Problem: "?"}},
		},
		ledger.Settlement{Due: &ledger.Due{ID: 3}, State: ledger.Pending, Attempted: true, NextAttempt: f.clock.Now().Add(time.Hour), Message: "no answer"})
	r := f.only(t, ledger.Filter{IDs: []int64{1}})
	require.Equal(t, ledger.Delivered, r.State)
	require.Equal(t, f.clock.Now(), r.DeliveredAt)
	require.Equal(t, "s1", r.SeqNo)
	r = f.only(t, ledger.Filter{States: []string{ledger.Rejected}})
	require.Equal(t, []ledger.Problem{{Field: "plate", Problem: "?"}}, r.Problems)
	r = f.only(t, ledger.Filter{FlowNo: "F3"})
	require.Equal(t, 1, r.Attempts)
	require.True(t, r.DeliveredAt.IsZero())
	run, err := f.FinishRun(t.Context(), f.run, 0, nil)
	require.NoError(t, err)
	require.Equal(t, [4]int{3, 3, 1, 1}, [4]int{run.Read, run.Landed, run.Delivered, run.Rejected})

	// What a person ended stays ended, unless the platform has it.
	require.NoError(t, f.Dismiss(t.Context(), 3, "test ride"))
	f.settle(t, ledger.Settlement{Due: &ledger.Due{ID: 3}, State: ledger.Pending, Attempted: true})
	require.Equal(t, ledger.Dismissed, f.only(t, ledger.Filter{IDs: []int64{3}}).State)
	f.settle(t, ledger.Settlement{Due: &ledger.Due{ID: 3}, State: ledger.Delivered, Attempted: true})
	require.Equal(t, ledger.Delivered, f.only(t, ledger.Filter{IDs: []int64{3}}).State)
}

// flow_no collision: the platform would swallow the second, so it is invalid
// and names the first, across pages, within one, and across sources of a lot.
func TestFlowNoCollision(t *testing.T) {
	t.Parallel()
	f := open(t)
	out := f.land(t, "2", row("1", "F1"), row("2", "F1"))
	require.Equal(t, 1, out.Invalid)
	out = f.land(t, "3", row("3", "F1"))
	require.Equal(t, 1, out.Invalid)
	r := f.only(t, ledger.Filter{Key: "3"})
	require.Equal(t, ledger.Invalid, r.State)
	require.Contains(t, r.Problems[0].Problem, "record 1 (source gate, key 1)")
	require.NoError(t, f.Dismiss(t.Context(), r.ID, "a double"))

	other := row("4", "F1")
	other.ParkUUID = "another lot"
	require.Equal(t, 1, f.land(t, "4", other).Pending)

	lease, err := f.Acquire(t.Context(), "south")
	require.NoError(t, err)
	mark, err := f.Mark(t.Context(), "south")
	require.NoError(t, err)
	landed, err := f.Land(t.Context(), ledger.Landing{Lease: lease, From: mark, To: ledger.State{Mark: at("1"), Floor: at("1")}, Table: "pass", Rows: []ledger.New{row("1", "F1")}})
	require.NoError(t, err)
	require.Equal(t, 1, landed.Invalid)
	require.NoError(t, lease.Release(t.Context()))

	// Mapped again to a number of its own, it is good; to its own old one too.
	again := row("3", "F3").Mapped
	state, _, err := f.Reopen(t.Context(), r, ledger.Content{Mapped: again})
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)
}

func TestReopenDismissResend(t *testing.T) {
	t.Parallel()
	f := open(t)
	bad := ledger.New{Key: "1", Content: ledger.Content{Hash: "h", Columns: `{"id":1}`, Mapped: ledger.Mapped{Problems: []ledger.Problem{{Field: "plate", Problem: "is NULL"}}}}}
	f.land(t, "2", bad, row("2", "F2"))
	r := f.only(t, ledger.Filter{Key: "1"})
	state, problems, err := f.Reopen(t.Context(), r, ledger.Content{Mapped: bad.Mapped})
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	require.Equal(t, bad.Problems, problems)
	state, _, err = f.Reopen(t.Context(), r, ledger.Content{Mapped: row("1", "F1").Mapped, Columns: `{"id":1,"plate":"x"}`, Hash: "h2"})
	require.NoError(t, err)
	require.Equal(t, ledger.Pending, state)
	require.Equal(t, "x", f.only(t, ledger.Filter{Key: "1"}).Columns["plate"].Text)
	_, _, err = f.Reopen(t.Context(), r, ledger.Content{Mapped: row("1", "F1").Mapped})
	require.ErrorContains(t, err, "changed its state meanwhile")

	f.settle(t, ledger.Settlement{Due: &ledger.Due{ID: 2}, State: ledger.Delivered})
	require.ErrorContains(t, f.Dismiss(t.Context(), 2, "x"), "changed its state")
	resent, wiped, err := f.Resend(t.Context(), ledger.Filter{Since: f.clock.Now().Add(-time.Second)})
	require.NoError(t, err)
	require.Equal(t, [2]int{1, 0}, [2]int{resent, wiped})
	require.Equal(t, "F2", f.only(t, ledger.Filter{Key: "2", States: []string{ledger.Pending}}).FlowNo)
}

// After the retention the personal data of delivered records is gone; key,
// hash and status stay.
func TestWipe(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.land(t, "2", row("1", "F1"), row("2", "F2"))
	f.settle(t, ledger.Settlement{Due: &ledger.Due{ID: 1}, State: ledger.Delivered, Hint: "plate=粤B1"})
	f.clock.add(time.Hour)
	n, err := f.Wipe(t.Context(), f.clock.Now().Add(-2*time.Hour))
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = f.Wipe(t.Context(), f.clock.Now())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	r := f.only(t, ledger.Filter{Key: "1"})
	require.True(t, r.Wiped())
	require.Nil(t, r.Fields)
	require.Empty(t, r.Hint)
	require.Equal(t, "F1", r.FlowNo)
	require.False(t, func() bool { r := f.only(t, ledger.Filter{Key: "2"}); return r.Wiped() }())
	resent, wiped, err := f.Resend(t.Context(), ledger.Filter{Since: time.Unix(0, 0)})
	require.NoError(t, err)
	require.Equal(t, [2]int{0, 1}, [2]int{resent, wiped})
}

func TestFind(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.land(t, "3", row("1", "2"), row("2", "F2"), row("3", "a:b"))
	for name, want := range map[string]int{"F2": 1, "2": 2, "id:2": 1, "flow:2": 1, "a:b": 1, "3": 1} {
		found, err := f.Find(t.Context(), name)
		require.NoError(t, err, name)
		require.Len(t, found, want, name)
	}
	_, err := f.Find(t.Context(), "nobody")
	require.ErrorIs(t, err, ledger.ErrNoRecord)
}

func TestKnown(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.land(t, "2", row("1", "F1"), row(`["东","2"]`, "F2"))
	known, err := f.Known(t.Context(), "gate", "pass", []string{"1", `["东","2"]`, "3"})
	require.NoError(t, err)
	require.Equal(t, map[string]ledger.Known{
		"1":         {ID: 1, Hash: "00000000:1", State: ledger.Pending, Generation: 1},
		`["东","2"]`: {ID: 2, Hash: `00000000:["东","2"]`, State: ledger.Pending, Generation: 1},
	}, known)
}

// A damaged ledger is refused, and never replaced by an empty one.
func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string)
		want   string
	}{
		"empty":     {func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 0)) }, "damaged"},
		"truncated": {func(t *testing.T, p string) { require.NoError(t, os.Truncate(p, 20000)) }, "damaged"},
		"not SQLite": {func(t *testing.T, p string) {
			require.NoError(t, os.WriteFile(p, []byte(strings.Repeat("a letter to mother ", 100)), 0o600))
		}, "damaged"},
		"garbage in the middle": {func(t *testing.T, p string) {
			file, err := os.OpenFile(p, os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = file.WriteAt([]byte(strings.Repeat("\xa5", 8192)), 8192)
			require.NoError(t, err)
			require.NoError(t, file.Close())
		}, "damaged"},
		"somebody else's database": {func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			db, err := sql.Open("sqlite", sources.FileURI(p))
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "CREATE TABLE pass (id INTEGER)")
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}, "no ledger of parkbridge's"},
		"moved away without its log": {func(t *testing.T, p string) {
			require.NoError(t, os.Rename(p, p+"-wal"))
		}, "-wal is there"},
		"a folder": {func(t *testing.T, p string) { require.NoError(t, os.Remove(p)); require.NoError(t, os.Mkdir(p, 0o700)) }, "folder"},
		"newer": {func(t *testing.T, p string) {
			db, err := sql.Open("sqlite", sources.FileURI(p))
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}, "newer parkbridge"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "l.db")
			cfg := ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}
			l, err := ledger.Open(t.Context(), cfg, time.Now, true)
			require.NoError(t, err)
			require.NoError(t, l.Close())
			c.damage(t, path)
			before, _ := os.ReadFile(path)
			_, err = ledger.Open(t.Context(), cfg, time.Now, true)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
			after, _ := os.ReadFile(path)
			require.Equal(t, before, after, "the file is left as it was")
		})
	}
	none := filepath.Join(t.TempDir(), "l.db")
	_, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(none)}, time.Now, false)
	require.ErrorIs(t, err, ledger.ErrNone)
	require.NoFileExists(t, none)
	_, err = ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(t.TempDir(), "no", "such", "l.db"))}, time.Now, true)
	require.ErrorContains(t, err, "no such file or directory")
}

// Programs that start at the same moment on no ledger make one between them.
func TestCreatedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, true)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.BeginRun(t.Context(), "gate", time.Now()); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, true)
	require.NoError(t, err)
	defer l.Close()
	runs, err := l.Runs(t.Context(), "gate", 100)
	require.NoError(t, err)
	require.Len(t, runs, 8)
}

func TestSinkStateSurvives(t *testing.T) {
	t.Parallel()
	f := open(t)
	want := ledger.SinkState{State: ledger.SinkBlocked, Reason: "401", Since: f.clock.Now(), RetryAt: f.clock.Now(), LastAcceptedAt: f.clock.Now(), RejectedRun: []int64{3, 4}}
	require.NoError(t, f.Settle(t.Context(), answers(nil, nil, nil, &want)))
	got, err := f.Sink(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
	was, err := f.Unblock(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, was)
	got, err = f.Sink(t.Context())
	require.NoError(t, err)
	require.Equal(t, ledger.SinkOK, got.State)
	require.Empty(t, got.RejectedRun)
}

// A closed ledger is one file: nothing keeps a connection.
func TestClosedIsOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, true)
	require.NoError(t, err)
	lease, err := l.Acquire(t.Context(), "gate")
	require.NoError(t, err)
	require.NoError(t, lease.Release(t.Context()))
	require.FileExists(t, path+"-wal")
	require.NoError(t, l.Close())
	require.NoFileExists(t, path+"-wal")
}

// A ledger says how large it is, and what is wiped is room for new records.
func TestSize(t *testing.T) {
	t.Parallel()
	f := open(t)
	var rows []ledger.New
	for i := range 2000 {
		rows = append(rows, row(fmt.Sprint(i), fmt.Sprint("F", i)))
		rows[i].Columns = `{"reason":"` + strings.Repeat("x", 500) + `"}`
	}
	out := f.land(t, "2000", rows...)
	require.Equal(t, 2000, out.Pending)
	before, free, err := f.Size(t.Context())
	require.NoError(t, err)
	require.Greater(t, before, int64(1_000_000))
	require.Less(t, free, before/10)
	for chunk := range slices.Chunk(rows, 500) {
		var all []ledger.Settlement
		for i := range chunk {
			all = append(all, ledger.Settlement{Due: &ledger.Due{ID: chunk[i].ID, Source: "gate", Hash: chunk[i].Hash}, State: ledger.Delivered, Attempted: true, At: f.clock.Now(), Code: "1001"})
		}
		require.NoError(t, f.Settle(t.Context(), answers(map[string]*ledger.Lease{"gate": f.lease}, nil, all, nil)))
	}
	wiped, err := f.Wipe(t.Context(), f.clock.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 2000, wiped)
	_, free, err = f.Size(t.Context())
	require.NoError(t, err)
	require.Greater(t, free, int64(1_000_000))
}

// Many acceptances are written in one statement, each as it would be alone: one of
// a content that was replaced meanwhile keeps what was sent.
func TestManyAcceptances(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 7, 8, 9, 31, 32, 33, 75} {
		f := open(t)
		rows, sent := make([]ledger.New, n), make([]ledger.Settlement, n)
		for i := range rows {
			rows[i] = row(fmt.Sprint(i), fmt.Sprint("F", i))
		}
		f.land(t, "1", rows...)
		for i := range rows {
			sent[i] = ledger.Settlement{
				Due:   &ledger.Due{ID: rows[i].ID, Source: "gate", Hash: rows[i].Hash, Fields: rows[i].Fields, FlowNo: rows[i].FlowNo, ParkUUID: "P"},
				State: ledger.Delivered, Attempted: true, At: f.clock.Now(), Code: fmt.Sprint("c", i), HTTPStatus: 200,
			}
		}
		changed := n / 2
		mark, err := f.Mark(t.Context(), "gate")
		require.NoError(t, err)
		_, err = f.Land(t.Context(), ledger.Landing{Lease: f.lease, From: mark, To: ledger.State{Mark: at("1")}, Table: "pass", Changes: []ledger.Change{
			{ID: rows[changed].ID, Key: rows[changed].Key, Was: rows[changed].Hash, To: &ledger.Content{Hash: "00000000:new", Columns: "{}", Mapped: row("new", "Fnew").Mapped}},
		}})
		require.NoError(t, err)
		require.NoError(t, f.Settle(t.Context(), answers(map[string]*ledger.Lease{"gate": f.lease}, map[string]int64{"gate": f.run}, sent, nil)))
		records, err := f.Records(t.Context(), ledger.Filter{})
		require.NoError(t, err)
		require.Len(t, records, n)
		for _, r := range records {
			require.Equal(t, ledger.Delivered, r.State)
			require.Equal(t, "F"+r.Key, r.FlowNo)
			require.Equal(t, "c"+r.Key, r.Code)
			require.Equal(t, 1, r.Attempts)
		}
		runs, err := f.Runs(t.Context(), "gate", 1)
		require.NoError(t, err)
		require.Equal(t, n, runs[0].Delivered)
	}
}

func BenchmarkLand(b *testing.B) {
	l, err := ledger.Open(b.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(b.TempDir(), "l.db"))}, time.Now, true)
	require.NoError(b, err)
	defer l.Close()
	lease, err := l.Acquire(b.Context(), "gate")
	require.NoError(b, err)
	mark, err := l.Mark(b.Context(), "gate")
	require.NoError(b, err)
	columns, _ := json.Marshal(map[string]string{"plate_no": "粤B12345", "op_name": "张三", "reason": "设备异常", "op_time": "2026-11-01 10:00:00"})
	const page = 1000
	n := 0
	for b.Loop() {
		rows := make([]ledger.New, page)
		for i := range rows {
			n++
			rows[i] = row(fmt.Sprint(n), fmt.Sprint("F", n))
			rows[i].Columns = string(columns)
		}
		out, err := l.Land(b.Context(), ledger.Landing{Lease: lease, From: mark, To: ledger.State{Mark: at(fmt.Sprint(n))}, Table: "pass", Rows: rows})
		require.NoError(b, err)
		mark = out.Mark
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	require.NoError(b, lease.Release(b.Context()))
}

// BenchmarkSettle writes batches of 64 acceptances.
func BenchmarkSettle(b *testing.B) {
	l, err := ledger.Open(b.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(b.TempDir(), "l.db"))}, time.Now, true)
	require.NoError(b, err)
	defer l.Close()
	lease, err := l.Acquire(b.Context(), "gate")
	require.NoError(b, err)
	mark, err := l.Mark(b.Context(), "gate")
	require.NoError(b, err)
	leases, runs := map[string]*ledger.Lease{"gate": lease}, map[string]int64{}
	const batch = 64
	n := 0
	for b.Loop() {
		b.StopTimer()
		rows := make([]ledger.New, batch)
		for i := range rows {
			n++
			rows[i] = row(fmt.Sprint(n), fmt.Sprint("F", n))
		}
		settlements := make([]ledger.Settlement, batch)
		out, err := l.Land(b.Context(), ledger.Landing{Lease: lease, From: mark, To: ledger.State{Mark: at(fmt.Sprint(n))}, Table: "pass", Rows: rows})
		require.NoError(b, err)
		mark = out.Mark
		for i := range rows {
			settlements[i] = ledger.Settlement{
				Due: &ledger.Due{ID: rows[i].ID, Source: "gate", Hash: rows[i].Hash}, State: ledger.Delivered, Attempted: true,
				At: time.Now(), Code: "1001", Message: "OK", SeqNo: "abc6c253b93cc940", HTTPStatus: 200,
			}
		}
		b.StartTimer()
		require.NoError(b, l.Settle(b.Context(), answers(leases, runs, settlements, nil)))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	require.NoError(b, lease.Release(b.Context()))
}

// An answer speaks of what was sent: where the row's content has been replaced
// meanwhile, an acceptance keeps what was sent, and the number with it, and any
// other answer says nothing of the new content.
func TestAnswerToAReplacedContent(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.land(t, "1", row("1", "F1"), row("2", "F2"))
	replace := func(id int64, key, was string, to ledger.Content) {
		mark, err := f.Mark(t.Context(), "gate")
		require.NoError(t, err)
		_, err = f.Land(t.Context(), ledger.Landing{Lease: f.lease, From: mark, To: mark.State, Table: "pass", RunID: f.run, Changes: []ledger.Change{{ID: id, Was: was, To: &to, Key: key}}})
		require.NoError(t, err)
	}
	replace(1, "1", "00000000:1", ledger.Content{Hash: "00000000:new", Columns: `{}`, Mapped: ledger.Mapped{Problems: []ledger.Problem{{Field: "plate", Problem: "is NULL"}}}})
	replace(2, "2", "00000000:2", ledger.Content{Hash: "00000000:new2", Columns: `{}`, Mapped: row("2", "F2b").Mapped})
	f.land(t, "3", row("3", "F1")) // takes the number that record 1 has given up
	sent := func(id int64, hash, state, flow string) ledger.Settlement {
		return ledger.Settlement{Due: &ledger.Due{ID: id, Source: "gate", Hash: hash, Fields: `{}`, FlowNo: flow, ParkUUID: "P"}, State: state, At: f.clock.Now(), Code: "x"}
	}
	require.NoError(t, f.Settle(t.Context(), answers(map[string]*ledger.Lease{"gate": f.lease}, map[string]int64{"gate": f.run},
		[]ledger.Settlement{sent(1, "00000000:1", ledger.Delivered, "F1"), sent(2, "00000000:2", ledger.Rejected, "F2")}, nil)))
	first := f.only(t, ledger.Filter{IDs: []int64{1}})
	require.Equal(t, ledger.Delivered, first.State)
	require.Equal(t, "F1", first.FlowNo)
	known, err := f.Known(t.Context(), "gate", "pass", []string{"1"})
	require.NoError(t, err)
	require.Equal(t, "00000000:1", known["1"].Hash, "it is what was sent")
	require.Equal(t, "00000000:new", known["1"].Seen, "and its row has changed since")
	require.Equal(t, ledger.Pending, f.only(t, ledger.Filter{IDs: []int64{2}}).State, "the refusal was of the old content")
	third := f.only(t, ledger.Filter{IDs: []int64{3}})
	require.Equal(t, ledger.Invalid, third.State, "the platform has that number")
	require.Contains(t, third.Problems[0].Problem, "record 1")

	// Two acceptances of one number: the second is kept, and says so.
	f.land(t, "4", row("4", "F4"))
	replace(4, "4", "00000000:4", ledger.Content{Hash: "00000000:new4", Columns: `{}`, Mapped: row("4", "F4b").Mapped})
	f.land(t, "5", row("5", "F4"))
	require.NoError(t, f.Settle(t.Context(), answers(map[string]*ledger.Lease{"gate": f.lease}, map[string]int64{"gate": f.run},
		[]ledger.Settlement{sent(5, "00000000:5", ledger.Delivered, "F4"), sent(4, "00000000:4", ledger.Delivered, "F4")}, nil)))
	fourth := f.only(t, ledger.Filter{IDs: []int64{4}})
	require.Equal(t, ledger.Delivered, fourth.State)
	require.Contains(t, fourth.Problems[0].Problem, "record 5 was delivered under the same number")
}
