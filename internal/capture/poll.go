package capture

import (
	"context"
	"errors"
	"slices"
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
	// locked tells that a read left rows out because another session holds them
	// locked, so that the floor could not follow it.
	locked bool
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
		if started {
			if err := run.atMark(ctx); err != nil {
				return false, err
			}
		}
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
	case !again && class.Server:
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

// zone is a stretch to be read page by page.
type zone struct {
	sources.Range
	mark, floor bool // what follows along with the pages
	// whole tells that a read which left locked rows out is not done; so does floor.
	whole bool
	// limit is the number of rows after which it is left; 0 means none.
	limit int
	// more is asked after each full page whether to go on; nil means yes. It may
	// use the connection unless offline says that it does not.
	more    func() (bool, error)
	offline bool
}

// landRows bounds the rows of one landing, so that answers of the gate, which
// are written between two, do not wait for a whole page.
const landRows = 250

// fetched is a page on its way.
type fetched struct {
	page  sources.Page
	err   error
	begun time.Time // when it was asked for
}

// get reads a page, after a wait.
func (p *poll) get(ctx context.Context, in sources.Range, size int, wait time.Duration) fetched {
	if err := rest(ctx, wait); err != nil {
		return fetched{err: err}
	}
	begun := time.Now()
	page, err := patient(ctx, func() (sources.Page, error) { return p.sess.Page(ctx, in, size) })
	return fetched{page, err, begun}
}

// fetch is get in the background.
func (p *poll) fetch(ctx context.Context, in sources.Range, size int, wait time.Duration) <-chan fetched {
	out := make(chan fetched, 1)
	go func() { out <- p.get(ctx, in, size, wait) }()
	return out
}

// restAfter is how long the source is left alone after rows that were asked for at
// a time.
func (c Config) restAfter(rows int, begun time.Time) time.Duration {
	wait := c.PagePause
	if c.ReadLimit > 0 {
		share := time.Duration(rows) * time.Second / time.Duration(c.ReadLimit)
		wait = max(wait, share-time.Since(begun))
	}
	return wait
}

// Pause leaves the source alone after rows that were asked for at a time, as long
// as the config says, or until ctx ends.
func (c Config) Pause(ctx context.Context, rows int, begun time.Time) error {
	return rest(ctx, c.restAfter(rows, begun))
}

// rest returns after a time, or with ctx's error when that ends.
func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read reads a zone, and lands its pages; where that is certain to be wanted, the
// next page is read meanwhile. done tells that it came to the end.
func (p *poll) read(ctx context.Context, z zone) (rows int, done bool, err error) {
	size := p.PageSize
	whole, held := z.whole || z.floor, false
	if z.limit > 0 {
		size = min(size, z.limit)
	}
	got := p.get(ctx, z.Range, size, 0)
	for {
		if got.err != nil {
			return rows, false, got.err
		}
		page := got.page
		held = held || page.Held
		z.floor = z.floor && !held
		rows += len(page.Rows)
		if len(page.Rows) > 0 {
			last := page.Rows[len(page.Rows)-1].Position
			if z.Newest {
				z.UpTo, z.Below = last, true
			} else {
				z.After = last
			}
		}
		enough := z.limit > 0 && rows >= z.limit
		var next <-chan fetched
		if page.Full && !enough && (z.more == nil || z.offline) {
			next = p.fetch(ctx, z.Range, size, p.Config.restAfter(len(page.Rows), got.begun))
		}
		on, err := p.take(ctx, z, page)
		switch {
		case err == nil && on && page.Full && !enough && ctx.Err() == nil:
			if next == nil {
				got = p.get(ctx, z.Range, size, p.Config.restAfter(len(page.Rows), got.begun))
			} else {
				got = <-next
			}
			continue
		case next != nil:
			<-next // the connection is not to be used by two
		}
		switch {
		case err != nil:
			return rows, false, err
		case page.Full && !enough:
			return rows, false, ctx.Err()
		case page.Full:
			return rows, false, nil
		}
		p.locked = p.locked || whole && held
		return rows, !whole || !held, nil
	}
}

// take lands a page and tells whether to go on where it was full.
func (p *poll) take(ctx context.Context, z zone, page sources.Page) (on bool, err error) {
	if err := p.landPage(ctx, z, page); err != nil {
		return false, err
	}
	if !page.Full || z.more == nil {
		return true, nil
	}
	return z.more()
}

// landPage lands a page part by part; mark and floor follow where the zone says
// so.
func (p *poll) landPage(ctx context.Context, z zone, page sources.Page) error {
	for rows := range slices.Chunk(page.Rows, landRows) {
		last := rows[len(rows)-1].Position
		if z.mark {
			p.st.Mark = last
		}
		if z.floor {
			p.st.Floor = last
		}
		part := page
		part.Rows = rows
		if err := p.land(ctx, part, *p.st); err != nil {
			return err
		}
	}
	return nil
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
		if err := rest(ctx, wait); err != nil {
			return got, err
		}
	}
	return read()
}
