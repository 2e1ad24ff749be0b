package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parkbridge/sources"
)

// Reader is what a poll needs of an open source: [sources.Reader] has it.
type Reader interface {
	// Session connects; evidence says that Evidence is called first on it.
	Session(ctx context.Context, evidence bool) (Session, error)
	// Class is the class of the cursor.
	Class() sources.Class
	// CursorMayBeNull reports whether rows may have no cursor.
	CursorMayBeNull() bool
	// At is the position that a clock in the source's zone shows at an instant,
	// written as like is; Shift is the one a duration away from p. ok is false
	// where the cursor is no time.
	At(instant time.Time, like sources.Position) (p sources.Position, ok bool)
	Shift(p sources.Position, by time.Duration) (shifted sources.Position, ok bool)
	// Zoneless reports whether the times of the cursor carry no zone.
	Zoneless(like sources.Position) bool
}

// Session is one connection: [sources.Session] has it.
type Session interface {
	Page(ctx context.Context, in sources.Range, limit int) (sources.Page, error)
	Highest(ctx context.Context, in sources.Range) (sources.Position, error)
	Nulls(ctx context.Context, afterKey string, limit int) (sources.Page, error)
	CountNulls(ctx context.Context, most int) (int, error)
	Evidence(ctx context.Context) (sources.Evidence, error)
	Now(ctx context.Context) (time.Time, error)
	Close() error
}

// Landing is where a poll puts what it has read.
type Landing interface {
	// Land stores what is new in a page, and with it the state; where nothing is
	// new it writes nothing.
	Land(ctx context.Context, page sources.Page, state State) error
	// Save stores the state, where it is not the stored one.
	Save(ctx context.Context, state State) error
	// Recognise tells whether a row is in the ledger as it was read, and how many
	// records landed after it, or in all where it is not; enough at the most.
	Recognise(ctx context.Context, page sources.Page, enough int) (known bool, after int, err error)
}

// NullsMost bounds the count of rows without a cursor.
const NullsMost = 10000

// Poller follows one source. It is for one goroutine at a time, and is kept
// from poll to poll.
type Poller struct {
	Config   Config
	PageSize int
	Start    string // see [sources.Config]
	// Boot is the time since this machine booted; nil means [SinceBoot].
	Boot func() time.Duration

	lookedBack time.Duration // by Boot, when class client was last read again
	lookedUp   time.Duration // by Boot, when the mark was last held against the highest row
	everBack   bool
	everUp     bool
}

// poll is one poll under way.
type poll struct {
	*Poller
	Reader
	to   Landing // nil where nothing is stored
	land func(ctx context.Context, page sources.Page, state State) error
	st   *State
	sess Session
	look look // its Now is zero where no look was taken
}

func (p *Poller) boot() time.Duration {
	if p.Boot != nil {
		return p.Boot()
	}
	return SinceBoot()
}

// Poll reads what is new in a source and hands it over page by page. state is
// the stored one, and is moved along; a poll may be broken off after any page.
func (p *Poller) Poll(ctx context.Context, r Reader, to Landing, state *State) error {
	for {
		again, err := p.once(ctx, r, to, state)
		if err != nil || !again {
			return err
		}
	}
}

func (p *Poller) once(ctx context.Context, r Reader, to Landing, st *State) (again bool, err error) {
	class := r.Class()
	waiting := class.Server && !class.Serial && (st.Seen.Rule == "" ||
		!same(st.Mark, st.Floor) || len(st.Journal.Entries) > 0 || st.Journal.Ahead != nil || st.Journal.Parked != nil)
	sess, err := patient(ctx, func() (Session, error) { return r.Session(ctx, waiting) })
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, sess.Close()) }()
	run := &poll{Poller: p, Reader: r, to: to, land: to.Land, st: st, sess: sess}
	if waiting {
		if err := run.takeEvidence(ctx); err != nil {
			return false, err
		}
	}
	started := st.Started
	if !started {
		if err := run.begin(ctx); err != nil {
			return false, err
		}
	}
	before := st.Mark
	if class.Server {
		again, err = run.server(ctx)
	} else {
		err = run.client(ctx)
	}
	if err != nil {
		return false, err
	}
	if !again && same(before, st.Mark) {
		if err := run.lookUp(ctx); err != nil {
			return false, err
		}
	}
	if !started && same(st.Mark, st.Journal.Start) && p.Start != sources.StartLatest {
		return again, nil // nothing was there; the beginning may still be corrected in the config
	}
	return again, to.Save(ctx, *st)
}

// takeEvidence looks at the open transactions before anything is read.
func (p *poll) takeEvidence(ctx context.Context) error {
	at := p.boot() // before the look: nothing is taken for older than it is
	e, err := p.sess.Evidence(ctx)
	if err != nil {
		return err
	}
	p.look = look{Evidence: e, at: Moment{at, e.Now}, settle: p.Config.Settle}
	p.st.Journal.list(e, p.look.at)
	return nil
}

// moment is now, by both clocks.
func (p *poll) moment(ctx context.Context) (Moment, error) {
	now, err := patient(ctx, func() (time.Time, error) { return p.sess.Now(ctx) })
	return Moment{p.boot(), now}, err
}

// begin finds where a source that was never read begins.
func (p *poll) begin(ctx context.Context) error {
	start, err := Beginning(ctx, p.Reader, p.sess, p.Start)
	if err != nil {
		return err
	}
	*p.st = Begun(start)
	// "latest" is stored at once, or it would be found anew at the next run and
	// skip what came in between.
	if p.Start == sources.StartLatest {
		return p.to.Save(ctx, *p.st)
	}
	return nil
}

// Begun is the state of a source that is to be read from a position on.
func Begun(start sources.Position) State {
	return State{Mark: start, Floor: start, Started: true, Journal: Journal{Start: start}}
}

// Beginning is the position that a start value means: "earliest", "latest" or a
// value of the cursor, rows at which are read too.
func Beginning(ctx context.Context, r Reader, sess Session, start string) (sources.Position, error) {
	switch start {
	case sources.StartEarliest:
		return sources.Position{}, nil
	case sources.StartLatest:
		highest, err := patient(ctx, func() (sources.Position, error) { return sess.Highest(ctx, sources.Range{}) })
		if err != nil || r.Class().Server || highest.IsZero() {
			return highest, err
		}
		// What is dated later than now is no beginning.
		now, err := sess.Now(ctx)
		if err != nil {
			return highest, err
		}
		if bound, ok := r.At(now, highest); ok {
			past, err := sess.Highest(ctx, sources.Range{UpTo: bound})
			if past.IsZero() {
				past = bound
			}
			return past, err
		}
		return highest, nil
	default:
		return sources.Position{Values: []string{start}, Inclusive: true}, nil
	}
}

// zone is a stretch to be read page by page.
type zone struct {
	sources.Range
	mark, floor bool // what follows along with the pages
	// limit is the number of rows after which it is left; 0 means none.
	limit int
	// more is asked after each full page whether to go on; nil means yes.
	more func() (bool, error)
}

// read reads a zone, and lands its pages. done tells that it came to the end.
func (p *poll) read(ctx context.Context, z zone) (rows int, done bool, err error) {
	size := p.PageSize
	if z.limit > 0 {
		size = min(size, z.limit)
	}
	for ctx.Err() == nil {
		page, err := patient(ctx, func() (sources.Page, error) { return p.sess.Page(ctx, z.Range, size) })
		if err != nil {
			return rows, false, err
		}
		if rows += len(page.Rows); len(page.Rows) > 0 {
			last := page.Rows[len(page.Rows)-1].Position
			if z.mark {
				p.st.Mark = last
			}
			if z.floor {
				p.st.Floor = last
			}
			if err := p.land(ctx, page, *p.st); err != nil {
				return rows, false, err
			}
			if z.Newest {
				z.UpTo, z.Below = last, true
			} else {
				z.After = last
			}
		}
		if !page.Full {
			return rows, true, nil
		}
		if z.limit > 0 && rows >= z.limit {
			return rows, false, nil
		}
		if z.more != nil {
			if on, err := z.more(); err != nil || !on {
				return rows, false, err
			}
		}
	}
	return rows, false, ctx.Err()
}

const (
	lookUpEvery = time.Minute
	// deletedMost is how many of the newest rows may be gone and still be taken
	// for deleted ones.
	deletedMost = 10
)

// lookUp holds the mark against the highest row there is, where a poll found
// nothing above it: a table whose highest row is below the mark was restored,
// is another one, or has lost its newest rows.
func (p *poll) lookUp(ctx context.Context) error {
	st, start := p.st, p.st.Journal.Start
	if p.everUp && p.boot()-p.lookedUp < lookUpEvery || same(st.Mark, start) {
		return nil
	}
	p.everUp, p.lookedUp = true, p.boot()
	at := st.Mark
	at.Inclusive = true
	highest, err := p.sess.Highest(ctx, sources.Range{After: at})
	if err != nil || !highest.IsZero() {
		return err
	}
	page, err := p.sess.Page(ctx, sources.Range{Newest: true}, 1)
	if err != nil || len(page.Rows) == 0 {
		return err // an empty table: it was purged
	}
	top := page.Rows[0].Position
	known, after, err := p.to.Recognise(ctx, page, deletedMost+1)
	if err != nil {
		return err
	}
	to := top
	if !known {
		// All that came since the beginning may be gone.
		since, err := p.sess.Highest(ctx, sources.Range{After: start, UpTo: top})
		if err != nil {
			return err
		}
		known, to = since.IsZero() && !start.IsZero(), start
	}
	if !known || after > deletedMost {
		return &RestoredError{Mark: st.Mark, Highest: top, Known: known}
	}
	// The newest rows are gone. What comes next may take their place, so reading
	// goes on from what is left. The floor only ever goes down here.
	above, err := p.sess.Highest(ctx, sources.Range{After: st.Floor, UpTo: to})
	if err != nil {
		return err
	}
	if above.IsZero() {
		st.Floor = to
	}
	st.Mark = to
	st.Journal.Entries, st.Journal.Ahead = nil, nil
	return nil
}

// RestoredError says that a source's mark stands above everything in a table
// that is not empty.
type RestoredError struct {
	Mark, Highest sources.Position
	Known         bool // the highest row is one that has landed
}

func (e *RestoredError) Error() string {
	what := "it is not the table that was read so far"
	if e.Known {
		what = "an older copy of it was restored"
	}
	return fmt.Sprintf("the high-water mark is %q, but the last row of the table is at %q: %s", e.Mark, e.Highest, what)
}

// busyWaits is how long a busy database is given before it is said so.
var busyWaits = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// patient tries again while the database is busy with its own work.
func patient[T any](ctx context.Context, read func() (T, error)) (T, error) {
	for _, wait := range busyWaits {
		got, err := read()
		if !errors.Is(err, sources.ErrBusy) {
			return got, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return got, ctx.Err()
		}
	}
	return read()
}
