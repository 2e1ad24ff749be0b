package capture_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parkbridge/internal/capture"
	"parkbridge/internal/testdb"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// follower follows one table with a poller, on clocks that the test moves, and
// keeps what lands.
type follower struct {
	t      *testing.T
	lot    *testdb.Lot
	reader *sources.Reader
	poller *capture.Poller
	state  capture.State
	ahead  atomic.Int64 // how far the test has moved both clocks

	landed map[string]string // content by key
	order  []string          // keys in order of landing
	news   []string          // keys landed since the last poll began
	read   int               // rows read by the last poll
	looks  int               // at transactions, in all
	saves  int
	fail   func() error // before a page lands
	// hooks, each may be nil
	beforePage    func(n int) // before the n-th page of a poll is read, from 1
	pages         int
	sessions      []string // of this test's own transactions
	shared        bool     // the server is MySQL, and other tests' too
	afterEvidence func(*sources.Evidence)
	locked        func(key string) bool // rows that are left out, as those that are locked
}

const passTable = "pass"

// follow makes a table whose id the server assigns, and follows it.
func follow(t *testing.T, engine string, change ...func(*sources.Config, *capture.Config)) *follower {
	t.Helper()
	f := followOn(t, testdb.New(t, engine), change...)
	f.shared = engine == "mysql"
	return f
}

func followOn(t *testing.T, lot *testdb.Lot, change ...func(*sources.Config, *capture.Config)) *follower {
	t.Helper()
	f := &follower{t: t, lot: lot, landed: map[string]string{}}
	f.lot.Exec(t, "CREATE TABLE pass (id "+f.lot.Type("INTEGER PRIMARY KEY AUTOINCREMENT", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")+
		", op "+f.lot.Type("TEXT", "timestamp", "DATETIME(6)")+", st INTEGER DEFAULT 0)")
	f.lot.Exec(t, "CREATE INDEX pass_op ON pass (op, id)")
	f.lot.Grant(t, passTable)
	if lot.Driver == "mysql" {
		f.lot.GrantProcess(t)
	}
	f.open(change...)
	return f
}

func (f *follower) open(change ...func(*sources.Config, *capture.Config)) {
	f.t.Helper()
	cfg := sources.Config{Name: "lot", Driver: f.lot.Driver, DSN: sources.Secret(f.lot.DSN), Table: passTable, Key: []string{"id"}, Start: "earliest", PageSize: 100}
	capt := capture.Config{}
	for _, c := range change {
		c(&cfg, &capt)
	}
	cfg.Defaults()
	capt.Defaults()
	var err error
	f.reader, err = sources.Open(f.t.Context(), sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver()), cfg, []sources.Need{{Column: "op"}, {Column: "st"}})
	require.NoError(f.t, err)
	reader := f.reader
	f.t.Cleanup(func() { require.NoError(f.t, reader.Close()) })
	boot := capture.SinceBoot
	f.poller = &capture.Poller{Config: capt, PageSize: cfg.PageSize, Start: cfg.Start, Boot: func() time.Duration { return boot() + f.moved() }}
}

// pass moves both clocks on.
func (f *follower) pass(d time.Duration) { f.ahead.Add(int64(d)) }

func (f *follower) moved() time.Duration { return time.Duration(f.ahead.Load()) }

func (f *follower) tryPoll() ([]string, error) {
	f.news, f.read, f.pages = nil, 0, 0
	// The state goes through the ledger's form, as between two processes.
	journal, err := capture.DecodeJournal(f.state.Journal.Encode(), f.state.Mark)
	if err != nil {
		return nil, err
	}
	if f.state.Started {
		f.state.Journal = journal
	}
	state := f.state
	err = f.poller.Poll(f.t.Context(), hooked{f.reader, f}, f, &state)
	return f.news, err
}

// poll polls once and gives the keys that landed.
func (f *follower) poll() []string {
	f.t.Helper()
	news, err := f.tryPoll()
	require.NoError(f.t, err)
	return news
}

// settled polls, with time passing, until nothing is waited for any more.
func (f *follower) settled() {
	f.t.Helper()
	for range 20 {
		f.pass(3 * time.Second)
		f.poll()
		if f.state.Mark.Encode() == f.state.Floor.Encode() && f.state.Journal.Parked == nil {
			return
		}
	}
	f.t.Fatalf("the floor stays at %q, the mark is at %q", f.state.Floor, f.state.Mark)
}

func (f *follower) Land(_ context.Context, page sources.Page, state capture.State) error {
	f.read += len(page.Rows)
	if f.fail != nil {
		if err := f.fail(); err != nil {
			return err
		}
	}
	news := false
	for _, row := range page.Rows {
		content := fmt.Sprint(row.Values)
		if f.landed[row.Key] != content {
			if _, known := f.landed[row.Key]; !known {
				f.order = append(f.order, row.Key)
			}
			f.landed[row.Key], news = content, true
			f.news = append(f.news, row.Key)
		}
	}
	if news {
		f.state = state
	}
	return nil
}

func (f *follower) Save(_ context.Context, state capture.State) error {
	if f.state.Mark.Encode() != state.Mark.Encode() || f.state.Floor.Encode() != state.Floor.Encode() ||
		f.state.Journal.Encode() != state.Journal.Encode() || f.state.Seen != state.Seen || !f.state.Started {
		f.saves++
	}
	f.state = state
	return nil
}

func (f *follower) Recognise(_ context.Context, page sources.Page, most int) (known bool, newest []string, err error) {
	row := page.Rows[0]
	for i := len(f.order) - 1; i >= 0 && len(newest) < most; i-- {
		newest = append(newest, f.order[i])
	}
	return f.landed[row.Key] == fmt.Sprint(row.Values), newest, nil
}

type hooked struct {
	*sources.Reader
	f *follower
}

func (h hooked) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	s, err := h.Reader.Session(ctx, evidence)
	if err != nil {
		return nil, err
	}
	return &hookedSession{s, h.f}, nil
}

type hookedSession struct {
	*sources.Session
	f *follower
}

func (s *hookedSession) Page(ctx context.Context, in sources.Range, limit int) (sources.Page, error) {
	s.f.pages++
	if s.f.beforePage != nil {
		s.f.beforePage(s.f.pages)
	}
	if s.f.locked == nil {
		return s.Session.Page(ctx, in, limit)
	}
	page, err := s.Session.Page(ctx, in, limit+100)
	rows := len(page.Rows)
	page.Rows = slices.DeleteFunc(page.Rows, func(r sources.Row) bool { return s.f.locked(r.Key) })
	page.Held = len(page.Rows) < rows
	page.Rows = page.Rows[:min(limit, len(page.Rows))]
	page.Full = len(page.Rows) == limit
	if in.Whole && page.Held {
		return sources.Page{}, sources.ErrLocked
	}
	return page, err
}

func (s *hookedSession) Highest(ctx context.Context, in sources.Range) (sources.Position, error) {
	in.Newest = true
	page, err := s.Page(ctx, in, 1)
	if err != nil || len(page.Rows) == 0 {
		return sources.Position{}, err
	}
	return page.Rows[0].Position, nil
}

func (s *hookedSession) ByKeys(ctx context.Context, keys []string) (sources.Page, error) {
	if s.f.locked != nil && slices.ContainsFunc(keys, s.f.locked) {
		return sources.Page{}, sources.ErrLocked
	}
	return s.Session.ByKeys(ctx, keys)
}

func (s *hookedSession) Evidence(ctx context.Context) (sources.Evidence, error) {
	s.f.looks++
	e, err := s.Session.Evidence(ctx)
	e.Now = e.Now.Add(s.f.moved())
	if s.f.shared {
		// MySQL's list is that of the server; other tests have transactions there.
		e.InDoubt = nil
		e.Open = slices.DeleteFunc(e.Open, func(t sources.Txn) bool {
			session, _, _ := strings.Cut(t.ID, " ")
			return !slices.Contains(s.f.sessions, session)
		})
	}
	if err == nil && s.f.afterEvidence != nil {
		s.f.afterEvidence(&e)
	}
	return e, err
}

func (s *hookedSession) Now(ctx context.Context) (time.Time, error) {
	now, err := s.Session.Now(ctx)
	return now.Add(s.f.moved()), err
}

// txn is a transaction of the parking system's.
func (f *follower) txn() func(stmts ...string) {
	f.t.Helper()
	conn, err := f.lot.DB.Conn(f.t.Context())
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }) // an open transaction must not go back to the pool
	run := func(stmts ...string) {
		f.t.Helper()
		for _, stmt := range stmts {
			_, err := conn.ExecContext(context.WithoutCancel(f.t.Context()), stmt)
			require.NoError(f.t, err, stmt)
		}
	}
	if f.shared {
		var id string
		require.NoError(f.t, conn.QueryRowContext(f.t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
		f.sessions = append(f.sessions, id)
	}
	run(f.lot.Type("BEGIN IMMEDIATE", "BEGIN", "START TRANSACTION"))
	return run
}

const insertOne = "INSERT INTO pass (op) VALUES ('2026-11-01 10:00:00')"

func (f *follower) insert(n int) {
	f.t.Helper()
	f.lot.Exec(f.t, "INSERT INTO pass (op) VALUES "+strings.TrimSuffix(strings.Repeat("('2026-11-01 10:00:00'),", n), ","))
}

// concurrent runs a test on the engines whose transactions commit side by side.
func concurrent(t *testing.T, test func(t *testing.T, f *follower), change ...func(*sources.Config, *capture.Config)) {
	t.Helper()
	for _, engine := range []string{"postgres", "mysql"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, follow(t, engine, change...))
		})
	}
}

// A row that commits after a higher one was read is found: the counter-example
// behind the whole floor.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		late := f.txn()
		late(insertOne)
		f.insert(1)
		require.Equal(t, []string{"2"}, f.poll())
		for range 3 { // however many polls go by, with however much time between them
			f.pass(time.Minute)
			require.Empty(t, f.poll())
			require.NotEqual(t, f.state.Mark, f.state.Floor)
		}
		require.Contains(t, f.state.Seen.HeldBy, "session")
		f.insert(1)
		require.Equal(t, []string{"3"}, f.poll(), "an idle transaction delays no other row")
		late("COMMIT")
		require.Equal(t, []string{"1"}, f.poll())
		f.settled()
		require.Empty(t, f.state.Seen.HeldBy)
	})
}

// A list of transactions that is taken at once after the read misses one that
// holds a value already and does not show yet: it must be late.
func TestListIsTakenLate(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		start := f.moved()
		f.afterEvidence = func(e *sources.Evidence) {
			if f.moved()-start < time.Second { // it takes a second to show
				e.Open = nil
			}
		}
		late := f.txn()
		late(insertOne)
		f.insert(1)
		require.Equal(t, []string{"2"}, f.poll())
		f.pass(100 * time.Millisecond)
		f.poll()
		f.poll()
		f.pass(5 * time.Second)
		f.poll()
		late("COMMIT")
		require.Equal(t, []string{"1"}, f.poll())
	})
}

// Time that only one of the two clocks says has passed is no time: neither a
// stepped host clock nor a stepped database clock makes a list late enough.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		start := time.Now()
		step := time.Hour
		f.afterEvidence = func(e *sources.Evidence) {
			e.Now = e.Now.Add(step) // the database's clock jumps to and fro
			step = -step
			if time.Since(start) < 1500*time.Millisecond {
				e.Open = nil
			}
		}
		late := f.txn()
		late(insertOne)
		f.insert(1)
		require.Equal(t, []string{"2"}, f.poll())
		for range 4 {
			f.poll()
		}
		require.NotEqual(t, f.state.Mark, f.state.Floor)
		late("COMMIT")
		require.Equal(t, []string{"1"}, f.poll())
	})
}

// The floor moves with a read that began at the old floor after the evidence,
// and never to a mark without that read: rows that commit between two polls.
func TestFloorMovesWithACompleteRead(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		late := f.txn()
		late(insertOne)
		f.insert(1)
		f.poll()
		f.pass(3 * time.Second)
		f.poll() // the list holds the transaction
		late("COMMIT")
		f.pass(3 * time.Second)
		require.Equal(t, []string{"1"}, f.poll(), "the poll that sees it ended reads from the old floor")
	})
}

// A read broken off in the middle goes on from the floor, not from the mark.
func TestInterruptedReadGoesOnFromTheFloor(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		late := f.txn()
		late(insertOne, insertOne, insertOne)
		f.insert(300)
		f.poll()
		f.pass(3 * time.Second)
		f.poll()
		late("COMMIT")
		// Every page of the next polls fails in turn.
		for broken := 1; broken <= 3; broken++ {
			pages := 0
			f.fail = func() error {
				if pages++; pages == broken {
					return errors.New("pulled the plug")
				}
				return nil
			}
			_, err := f.tryPoll()
			require.ErrorContains(t, err, "pulled the plug")
		}
		f.fail = nil
		f.settled()
		require.Len(t, f.landed, 303)
	})
}

// Evidence comes before the first page's snapshot: a commit between the two,
// and between any two pages, is seen.
func TestCommitBetweenEvidenceAndPages(t *testing.T) {
	t.Parallel()
	for _, at := range []int{0, 1, 2, 3} {
		t.Run(fmt.Sprint("before page ", at), func(t *testing.T) {
			t.Parallel()
			concurrent(t, func(t *testing.T, f *follower) {
				late := f.txn()
				late(insertOne)
				f.insert(150)
				f.poll()
				f.pass(3 * time.Second)
				f.poll()
				f.pass(3 * time.Second)
				done := false
				commit := func() {
					if !done {
						done = true
						late("COMMIT")
					}
				}
				f.afterEvidence = func(*sources.Evidence) {
					if at == 0 {
						commit()
					}
				}
				f.beforePage = func(n int) {
					if n == at {
						commit()
					}
				}
				f.poll()
				commit()
				f.afterEvidence, f.beforePage = nil, nil
				f.settled()
				require.Len(t, f.landed, 151)
			})
		})
	}
}

// A transaction that takes its value first and inserts much later.
func TestValueTakenLongBeforeTheInsert(t *testing.T) {
	t.Parallel()
	f := follow(t, "postgres")
	late := f.txn()
	late("SAVEPOINT a", "SELECT nextval('pass_id_seq')", "ROLLBACK TO a")
	f.insert(1)
	require.Equal(t, []string{"2"}, f.poll())
	for range 3 {
		f.pass(time.Minute)
		f.poll()
	}
	late("INSERT INTO pass (id, op) VALUES (1, '2026-11-01 10:00:00')", "COMMIT")
	require.Equal(t, []string{"1"}, f.poll())
}

// Prepared transactions hold every floor, whatever they are called.
func TestPreparedTransactionsHold(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		if f.lot.Driver == "mysql" {
			f = followOn(t, testdb.NewServer(t, "mysql").NewLot(t)) // XA holds every floor of its server
		}
		gid := fmt.Sprintf("p%d", time.Now().UnixNano())
		var commit func()
		if f.lot.Driver == "postgres" {
			late := f.txn()
			late(insertOne, "PREPARE TRANSACTION '"+gid+"'")
			commit = func() { f.lot.Exec(t, "COMMIT PREPARED '"+gid+"'") }
		} else {
			conn, err := f.lot.DB.Conn(t.Context())
			require.NoError(t, err)
			for _, stmt := range []string{"XA START '" + gid + "'", insertOne, "XA END '" + gid + "'", "XA PREPARE '" + gid + "'"} {
				_, err := conn.ExecContext(t.Context(), stmt)
				require.NoError(t, err)
			}
			f.insert(1)
			f.poll()
			f.pass(3 * time.Second)
			f.poll() // listed under its session
			require.ErrorIs(t, conn.Raw(func(any) error { return driver.ErrBadConn }), driver.ErrBadConn)
			commit = func() { f.lot.Exec(t, "XA COMMIT '"+gid+"'") }
		}
		f.insert(1)
		for range 4 {
			f.pass(time.Minute)
			f.poll()
		}
		require.NotEqual(t, f.state.Mark, f.state.Floor)
		require.Regexp(t, "prepared|XA", f.state.Seen.HeldBy)
		commit()
		require.Equal(t, []string{"1"}, f.poll())
		f.settled()
	})
}

// A monitor that reads innodb_trx all the time keeps the server from showing a
// new list. An old list counts for nothing.
func TestStaleEvidence(t *testing.T) {
	t.Parallel()
	f := followOn(t, testdb.NewServer(t, "mysql").NewLot(t))
	conn, err := f.lot.DB.Conn(t.Context())
	require.NoError(t, err)
	var stop atomic.Bool
	looked, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		ticker := time.NewTicker(30 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; !stop.Load(); n++ {
			var trx int
			if err := conn.QueryRowContext(context.WithoutCancel(t.Context()), "SELECT COUNT(*) FROM information_schema.innodb_trx").Scan(&trx); err != nil {
				ended <- err
				return
			}
			if n == 5 {
				close(looked)
			}
			<-ticker.C
		}
	}()
	<-looked
	late := f.txn()
	late(insertOne)
	f.insert(1)
	require.Equal(t, []string{"2"}, f.poll())
	for range 3 {
		f.pass(time.Minute)
		f.poll()
	}
	late("COMMIT")
	require.Equal(t, []string{"1"}, f.poll())
	stop.Store(true)
	require.NoError(t, <-ended)
	require.NoError(t, conn.Close())
	f.settled()
}

// Past reread_limit the range is parked: polls read no more of it, rows above
// it are not delayed, and what turns up in it is found within the hour and when
// its transaction has ended.
func TestParking(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		first, second := f.txn(), f.txn()
		first(insertOne)
		second(insertOne)
		f.insert(250)
		f.poll()
		for range 3 {
			f.pass(3 * time.Second)
			f.poll()
		}
		require.NotNil(t, f.state.Journal.Parked, "parked")
		f.insert(1)
		f.poll()
		f.pass(3 * time.Second)
		f.poll()
		require.Less(t, f.read, 20, "a poll no longer reads the parked range")
		require.Contains(t, f.state.Seen.HeldBy, "session")
		first("COMMIT")
		f.pass(time.Minute)
		require.Empty(t, f.poll())
		f.pass(time.Hour)
		require.Equal(t, []string{"1"}, f.poll(), "once an hour")
		second("COMMIT")
		// A server whose list many look at may need some polls for a new one.
		for n := 0; f.state.Journal.Parked != nil; n++ {
			require.Less(t, n, 50, "it stays parked")
			f.poll()
		}
		require.Contains(t, f.landed, "2", "and a last time")
		f.settled()
		require.Len(t, f.landed, 253)
	}, func(_ *sources.Config, c *capture.Config) { c.RereadLimit = 100 })
}

// A parked range grows as one, and loses nothing.
func TestParkedRangeGrows(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		var open []func(...string)
		for range 4 {
			late := f.txn()
			late(insertOne)
			open = append(open, late)
			f.insert(60)
			f.poll()
			f.pass(3 * time.Second)
			f.poll()
		}
		require.NotNil(t, f.state.Journal.Parked)
		for _, late := range open {
			late("COMMIT")
			f.pass(3 * time.Second)
			f.poll()
		}
		f.settled()
		require.Len(t, f.landed, 244)
	}, func(_ *sources.Config, c *capture.Config) { c.RereadLimit = 50 })
}

// A long history is read once: its end is noted first, and the floor follows
// the mark.
func TestHistoryIsReadOnce(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		for range 10 {
			f.insert(500)
		}
		f.beforePage = func(n int) { f.pass(500 * time.Millisecond) }
		f.poll()
		require.Len(t, f.landed, 5000)
		require.LessOrEqual(t, f.read, 5000+1000, "but for what was read before the list could be taken")
		f.settled()
	})
}

// Without evidence of transactions a mark becomes the floor when it has settled.
func TestSettle(t *testing.T) {
	t.Parallel()
	f := follow(t, "postgres") // which shows no uncommitted rows either
	f.afterEvidence = func(e *sources.Evidence) { e.Open, e.None = nil, "no privilege" }
	late := f.txn()
	late(insertOne)
	f.insert(1)
	require.Equal(t, []string{"2"}, f.poll())
	require.Equal(t, capture.RuleSettle, f.state.Seen.Rule)
	f.pass(9 * time.Minute)
	f.poll()
	late("COMMIT")
	require.Equal(t, []string{"1"}, f.poll())
	f.insert(1)
	f.poll()
	f.pass(10*time.Minute + time.Second)
	f.poll()
	require.Equal(t, f.state.Mark, f.state.Floor)
}

// Where MySQL shows no transactions, it still shows rows that are not committed:
// a mark that has settled does not pass them.
func TestUncommittedRowsHold(t *testing.T) {
	t.Parallel()
	f := follow(t, "mysql")
	f.afterEvidence = func(e *sources.Evidence) { e.Open, e.None = nil, "no privilege" }
	late := f.txn()
	late(insertOne)
	f.insert(1)
	require.Equal(t, []string{"2"}, f.poll())
	for range 3 {
		f.pass(time.Hour)
		f.poll()
	}
	require.Equal(t, "a row that is not committed (key 1)", f.state.Seen.HeldBy)
	late("COMMIT")
	require.Equal(t, []string{"1"}, f.poll())
	f.settled()

	// Behind more rows than are read again, too.
	f.poller.Config.RereadLimit = 5
	f.insert(20)
	late = f.txn()
	late(insertOne)
	f.insert(1)
	f.poll()
	for range 3 {
		f.pass(time.Hour)
		f.poll()
	}
	late("COMMIT")
	f.pass(time.Hour)
	f.poll()
	f.pass(time.Hour)
	f.poll()
	require.Contains(t, f.landed, "23")
}

// With nothing new and nothing waited for, no transactions are looked at and
// nothing is written.
func TestIdlePollsCostNothing(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			f := follow(t, engine)
			f.insert(10)
			f.poll()
			f.settled()
			f.poll()
			looks, saves := f.looks, f.saves
			for range 5 {
				f.pass(30 * time.Second)
				require.Empty(t, f.poll())
				require.Zero(t, f.read)
			}
			require.Equal(t, looks, f.looks)
			require.Equal(t, saves, f.saves)
		})
	}
}
