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
	// TimeOf is the time that a position shows; ok is false where it is no time.
	TimeOf(p sources.Position) (t time.Time, ok bool)
	// CheckValue says what is wrong with a value of the cursor that was typed for a
	// config key.
	CheckValue(key, value string, like sources.Position) error
	// Zoneless reports whether the times of the cursor carry no zone.
	Zoneless(like sources.Position) bool
}

// Session is one connection: [sources.Session] has it.
type Session interface {
	Page(ctx context.Context, in sources.Range, limit int) (sources.Page, error)
	Highest(ctx context.Context, in sources.Range) (sources.Position, error)
	Nulls(ctx context.Context, belowKey string, limit int) (sources.Page, error)
	ByKeys(ctx context.Context, keys []string) (sources.Page, error)
	CountNulls(ctx context.Context, most int) (int, error)
	InFlight(ctx context.Context, in sources.Range, limit int) (key string, err error)
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
	// Recognise tells whether a page's one row is in the ledger as it was read, and
	// gives the keys that landed last, newest first, most at the most.
	Recognise(ctx context.Context, page sources.Page, most int) (known bool, newest []string, err error)
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
	looked     bool          // transactions were looked at, so that the rule is known
	begunAnew  time.Duration // by Boot, when a poll last began anew for a look
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
	// uncommitted is the key of a row that holds the floor though it has settled.
	uncommitted string
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
	waiting := class.Server && !class.Serial && (!p.looked && st.Seen.Rule == "" ||
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
	switch {
	case !same(before, st.Mark):
		now, err := run.moment(ctx)
		if err != nil {
			return false, err
		}
		st.Journal.hour(st.Mark, now.DB, run.window())
	case !again:
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
	p.looked = true
	p.look = look{Evidence: e, at: Moment{at, e.Now}, settle: p.Config.Settle}
	if e.None != "" && p.st.Seen.Rule == RuleTransactions {
		p.st.Journal.distrust(p.look.at)
	}
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
	start, err := Beginning(ctx, p.Reader, p.sess, "start", p.Start)
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

// Moved is the state of a source whose mark is moved to a position on purpose.
// Back to what was read before, nothing is forgotten: what may still turn up
// below stays waited for. Forward, what lies between is given up.
func Moved(ctx context.Context, sess Session, st State, to sources.Position) (State, error) {
	if !st.Started || to.IsZero() {
		return Begun(to), nil
	}
	back, err := sess.Highest(ctx, sources.Range{After: to, UpTo: st.Mark})
	if err != nil || back.IsZero() {
		return Begun(to), err
	}
	asked, err := sess.Highest(ctx, sources.Range{After: st.Journal.Start, UpTo: to})
	if err != nil {
		return st, err
	}
	if asked.IsZero() && !st.Journal.Start.IsZero() {
		return Begun(to), nil // further back than it ever began
	}
	return st, stepBack(ctx, sess, &st, to)
}

// stepBack moves the mark back to a position below it; the floor only ever goes
// down here.
func stepBack(ctx context.Context, sess Session, st *State, to sources.Position) error {
	below, err := sess.Highest(ctx, sources.Range{After: st.Floor, UpTo: to})
	if err != nil {
		return err
	}
	if below.IsZero() {
		st.Floor = to
	}
	st.Mark = to
	st.Journal.Entries, st.Journal.Ahead = nil, nil
	return nil
}

// Beginning is the position that a start value means: "earliest", "latest" or a
// value of the cursor, rows at which are read too. key is where it was given.
func Beginning(ctx context.Context, r Reader, sess Session, key, start string) (sources.Position, error) {
	switch start {
	case sources.StartEarliest:
		return sources.Position{}, nil
	case sources.StartLatest:
		highest, err := patient(ctx, func() (sources.Position, error) { return sess.Highest(ctx, sources.Range{}) })
		if err != nil || r.Class().Server || highest.IsZero() {
			return highest, err
		}
		// What is dated later than now is no beginning.
		like, err := sample(ctx, r, sess, highest)
		if err != nil {
			return highest, err
		}
		now, err := sess.Now(ctx)
		if err != nil {
			return highest, err
		}
		bound, timed := r.At(now, like)
		if !timed {
			return highest, nil
		}
		past, err := sess.Highest(ctx, sources.Range{UpTo: bound})
		if past.IsZero() {
			past = bound
		}
		return past, err
	default:
		like, err := sample(ctx, r, sess, sources.Position{})
		if err == nil {
			err = r.CheckValue(key, start, like)
		}
		return sources.Position{Values: []string{start}, Inclusive: true}, err
	}
}

// The search for a row whose cursor is a time is bounded: a text cursor that is
// none at all is searched at every poll.
const sampleMost, sampleTexts = 5000, 100

// sample gives a position that shows how times are written in the cursor: the
// mark, or that of the last row that is one. Where none is a time, it is that of
// the last row; zero where there is no row.
func sample(ctx context.Context, r Reader, sess Session, mark sources.Position) (sources.Position, error) {
	if _, timed := r.TimeOf(mark); timed && !mark.Inclusive {
		return mark, nil // a start value is a person's
	}
	class, most := r.Class(), sampleMost
	switch {
	case !class.Times && !mark.IsZero():
		return mark, nil
	case !class.Times:
		return sess.Highest(ctx, sources.Range{})
	case class.Text:
		most = sampleTexts
	}
	var last sources.Position
	in := sources.Range{Newest: true}
	for seen := 0; seen < most; {
		page, err := patient(ctx, func() (sources.Page, error) { return sess.Page(ctx, in, 100) })
		if err != nil {
			return last, err
		}
		for _, row := range page.Rows {
			if last.IsZero() {
				last = row.Position
			}
			if _, timed := r.TimeOf(row.Position); timed {
				return row.Position, nil
			}
		}
		if seen += len(page.Rows); !page.Full {
			break
		}
		in.UpTo, in.Below = page.Rows[len(page.Rows)-1].Position, true
	}
	return last, nil
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
	// Of the newestLooked records that landed last, deletedMost rows may be gone
	// and still be taken for deleted ones.
	newestLooked = 50
	deletedMost  = 10
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
	page, err := p.sess.Page(ctx, sources.Range{UpTo: st.Mark, Newest: true}, 1)
	if err != nil || len(page.Rows) == 0 {
		return err // an empty table: it was purged
	}
	to := page.Rows[0].Position
	known, newest, err := p.to.Recognise(ctx, page, newestLooked)
	if err != nil {
		return err
	}
	gone, err := p.gone(ctx, newest)
	if err != nil {
		return err
	}
	restored := gone > deletedMost && p.Class().Server // elsewhere rows may leave the set by an update
	if !known {
		// All that came since the beginning may be gone.
		since, err := p.sess.Highest(ctx, sources.Range{After: start, UpTo: to})
		if err != nil {
			return err
		}
		switch {
		case since.IsZero() && !start.IsZero():
			to = start
		case p.Class().Server || gone > deletedMost:
			restored = true
		default: // it entered the set late, and is read with the next look back
		}
	}
	if restored {
		return &RestoredError{Mark: st.Mark, Highest: page.Rows[0].Position, Known: known}
	}
	// The newest rows are gone. What comes next may take their place, so reading
	// goes on from what is left.
	return stepBack(ctx, p.sess, st, to)
}

// gone counts the keys whose rows are no longer there.
func (p *poll) gone(ctx context.Context, keys []string) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	page, err := p.sess.ByKeys(ctx, keys)
	return len(keys) - len(page.Rows), err
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
