package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// Tables is what the bridge needs of an open series of tables.
type Tables interface {
	// List looks which of them there are; a [*sources.ConfigError] where none is.
	List(ctx context.Context) (sources.Listing, error)
	Identity(ctx context.Context) (string, error)
	// Open readies the reading of one. Closing it does not end the connection.
	Open(ctx context.Context, table string) (Reader, error)
	Close() error
}

// Series is a source of several tables of one shape, one for each period. Each is
// polled as a table of its own is, with a mark of its own, under the lease that
// the source has; in order of their periods.
type Series struct {
	// Pattern is the name they have in common.
	Pattern *sources.Series
	// Open connects. The connection is kept until a run fails.
	Open func(ctx context.Context) (Tables, error)

	mu     sync.Mutex
	tables Tables
	server string // the identity of what tables is connected to
	// members are the tables being read, by name and generation.
	members map[string]*member
	listing sources.Listing
	listed  time.Duration // by Boot, when the listing was made
	looked  bool
}

const (
	// lateLeast is how long after its period a table is read on, at the least;
	// lookback, where it is longer, counts.
	lateLeast = 72 * time.Hour
	// A table whose period is over is read each time for justOver, then once a
	// lateEvery.
	justOver, lateEvery = 10 * time.Minute, time.Minute
	// A table that is waited for is looked for once a listEvery, and else whether
	// all are still there once a listAgain.
	listEvery, listAgain = time.Minute, time.Hour
)

// member is a table of a series, from when it was last emptied.
type member struct {
	*Source
	mark   ledger.TableMark
	period sources.Period
	polled time.Duration // by Boot, when it was last read to its end
	read   bool          // it was
}

// connected gives the open tables and what they are connected to.
func (x *Series) connected(ctx context.Context) (Tables, string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.tables == nil {
		tables, err := x.Open(ctx)
		if err != nil {
			return nil, "", err
		}
		if x.server, err = tables.Identity(ctx); err != nil {
			return nil, "", errors.Join(fmt.Errorf("asking the database who it is: %w", err), tables.Close())
		}
		x.tables, x.members = tables, map[string]*member{}
	}
	return x.tables, x.server, nil
}

func (x *Series) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.tables == nil {
		return nil
	}
	var errs []error
	for _, m := range x.members {
		errs = append(errs, m.Close())
	}
	tables := x.tables
	x.tables, x.members, x.looked = nil, nil, false
	return errors.Join(append(errs, tables.Close())...)
}

// seriesState is what the source's own mark keeps of a series, as its journal.
type seriesState struct {
	// First is the period that was begun with; "" means with the first there is.
	First string `json:"first"`
	// From is the value of the cursor that was begun with, in that period's table;
	// "" means with its first row.
	From string `json:"from,omitempty"`
}

// seriesRun is a run of a series.
type seriesRun struct {
	b      *Bridge
	s      *Source
	lease  *ledger.Lease // nil: nothing is written
	d      *delivery     // nil: nobody is told
	tables Tables
	server string
	mark   ledger.Mark
	state  seriesState
	first  sources.Period
	now    time.Time          // by the server's clock
	there  []sources.Member   // in order of their periods
	known  []ledger.TableMark // as they are stored, in order of their periods
}

// openSeries connects to a series, holds its mark against the config and the
// server, looks which tables there are, and begins it where it was never read.
func (b *Bridge) openSeries(ctx context.Context, s *Source, lease *ledger.Lease) (*seriesRun, error) {
	r := &seriesRun{b: b, s: s, lease: lease}
	var err error
	if r.mark, err = b.Ledger.Mark(ctx, s.Name); err != nil {
		return nil, err
	}
	if r.tables, r.server, err = s.Series.connected(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(s.fits(r.mark), s.leads(r.mark, r.server)); err != nil {
		return nil, err
	}
	if err := r.look(ctx, false); err != nil {
		return nil, err
	}
	if r.known, err = b.Ledger.Tables(ctx, s.Name); err != nil {
		return nil, err
	}
	if !r.mark.Started {
		if lease == nil {
			return r, nil
		}
		return r, r.begin(ctx, "start", s.Poller.Start)
	}
	return r, r.decode()
}

func (r *seriesRun) decode() (err error) {
	if err = json.Unmarshal([]byte(r.mark.Journal), &r.state); err == nil {
		r.first, err = sources.ParsePeriod(r.state.First)
	}
	if err != nil {
		return fmt.Errorf("reading where source %s began: %w", r.s.Name, err)
	}
	return nil
}

// look tells the time and which tables there are. The database is asked once an
// hour, when the period has changed, and once a minute while the table of the
// period is not there.
func (r *seriesRun) look(ctx context.Context, anew bool) error {
	x := r.s.Series
	boot := r.s.boot()
	since := boot - x.listed
	if x.looked && !anew && since >= 0 {
		r.see(x.listing.Now.Add(since))
		limit := listEvery
		if upto := r.upto(); len(upto) > 0 && upto[len(upto)-1].Period == r.current() {
			limit = listAgain
		}
		if since < limit && x.Pattern.At(x.listing.Now, r.s.zone()) == r.current() {
			return nil
		}
	}
	l, err := r.tables.List(ctx)
	if err != nil {
		return err
	}
	x.listing, x.listed, x.looked = l, boot, true
	r.see(l.Now)
	return nil
}

func (r *seriesRun) see(now time.Time) {
	r.now, r.there = now, r.s.Series.Pattern.Members(r.s.Series.listing.Names, now, r.s.zone())
}

// upto are the tables that are for now's period or an earlier one.
func (r *seriesRun) upto() []sources.Member { return sources.Upto(r.there, r.current()) }

// current is the period of now.
func (r *seriesRun) current() sources.Period { return r.s.Series.Pattern.At(r.now, r.s.zone()) }

func (s *Source) boot() time.Duration {
	if s.Poller.Boot != nil {
		return s.Poller.Boot()
	}
	return capture.SinceBoot()
}

// last is what is stored of a table since it was last emptied; nil: nothing is.
func (r *seriesRun) last(table string) *ledger.TableMark {
	var last *ledger.TableMark
	for i := range r.known {
		if t := &r.known[i]; t.Table == table && (last == nil || t.Generation > last.Generation) {
			last = t
		}
	}
	return last
}

// filled are all times that a table was filled.
func (r *seriesRun) filled(table string) []ledger.TableMark {
	all := slices.DeleteFunc(slices.Clone(r.known), func(t ledger.TableMark) bool { return t.Table != table })
	slices.SortFunc(all, func(a, b ledger.TableMark) int { return a.Generation - b.Generation })
	return all
}

// periodOf is the period of a table when a generation of its records began.
func periodOf(filled []ledger.TableMark, generation int) string {
	period := ""
	for _, t := range filled {
		if t.Generation <= max(generation, 1) || period == "" {
			period = t.Period
		}
	}
	return period
}

// store replaces or adds what is known of a table.
func (r *seriesRun) store(t ledger.TableMark) {
	for i := range r.known {
		if k := &r.known[i]; k.Table == t.Table && k.Generation == t.Generation {
			*k = t
			return
		}
	}
	r.known = append(r.known, t)
}

// member readies the reading of a table.
func (r *seriesRun) member(t ledger.TableMark) (*member, error) {
	period, err := sources.ParsePeriod(t.Period)
	if err != nil {
		return nil, fmt.Errorf("reading the mark of table %s: %w", t.Table, err)
	}
	x, s := r.s.Series, r.s
	x.mu.Lock()
	defer x.mu.Unlock()
	name := fmt.Sprintf("%d %s", t.Generation, t.Table)
	m := x.members[name]
	if m == nil {
		poller := capture.Poller{Config: s.Poller.Config, PageSize: s.Poller.PageSize, Boot: s.Poller.Boot, Start: sources.StartEarliest}
		if r.state.From != "" && t.Period == r.state.First {
			poller.Start = r.state.From
		}
		m = &member{Source: &Source{
			Name: s.Name, Table: t.Table, Location: s.Location, Program: s.Program, ReadyTimeout: s.ReadyTimeout, Poller: &poller,
		}}
		x.members[name] = m
	}
	m.mark, m.period = t, period
	return m, nil
}

// reader opens a member's table over the connection of the series.
func (r *seriesRun) reader(ctx context.Context, m *member) (Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reader == nil {
		opened, err := r.tables.Open(ctx, m.Table)
		if err != nil {
			return nil, err
		}
		m.reader = opened
	}
	return m.reader, nil
}

// lander readies the landing of a member's rows.
func (r *seriesRun) lander(m *member) (*lander, capture.State, error) {
	state, err := StateOf(m.mark.Mark)
	return &lander{
		b: r.b, s: m.Source, mapper: m.mapper(m.Program.Columns()), lease: r.lease, mark: m.mark.Mark, d: r.d,
		generation: m.mark.Generation, tables: r.filled(m.Table),
	}, state, err
}

// pollSeries reads the tables of a series that rows may be in, those of the
// earlier periods first. What is wrong with one does not keep the others from
// being read.
func (b *Bridge) pollSeries(ctx context.Context, s *Source, lease *ledger.Lease, d *delivery) error {
	r, err := b.openSeries(ctx, s, lease)
	if err != nil {
		return err
	}
	r.d = d
	members, err := r.plan(ctx)
	if err != nil {
		return err
	}
	var failures []error
	var newest *member
	var state capture.State
	for _, m := range members {
		if !r.due(m) {
			continue
		}
		after, err := r.poll(ctx, m)
		if err == nil {
			newest, state = m, after
			continue
		}
		if err = r.orGone(ctx, m, err); err != nil {
			failures = append(failures, fmt.Errorf("table %s: %w", m.Table, err))
		}
		if ctx.Err() != nil || errors.Is(err, ledger.ErrLeaseLost) {
			return errors.Join(failures...)
		}
	}
	if newest == nil || len(failures) > 0 {
		return errors.Join(failures...)
	}
	reader, err := r.reader(ctx, newest)
	if err != nil || !b.reconcileDue(ctx, s, reader, state) {
		return err
	}
	result, err := r.reconcile(ctx, Window{}, false)
	if err == nil {
		b.tellReconcile(s.Name, result)
	}
	return err
}

// plan finds the tables to be read: those from the period that the series was
// begun with up to now's, as far as they are there and more may come to them.
func (r *seriesRun) plan(ctx context.Context) (members []*member, err error) {
	there := map[string]bool{}
	for _, at := range r.there {
		there[at.Table] = true
	}
	held, err := r.held(ctx)
	if err != nil {
		return nil, err
	}
	for _, at := range r.upto() {
		if at.Period.Before(r.first) {
			continue
		}
		t := r.last(at.Table)
		if t == nil {
			t, err = r.add(ctx, at)
		} else if t.Period < at.Period.String() {
			t, err = r.turn(ctx, at, *t)
		}
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", at.Table, err)
		}
		if !t.GoneAt.IsZero() {
			t.GoneAt, t.ClosedAt = time.Time{}, time.Time{} // it is back: what more it has is read
			if err := r.b.Ledger.NoteTable(ctx, r.lease, *t); err != nil {
				return nil, err
			}
		}
		if !t.ClosedAt.IsZero() && !held[t.Table] {
			continue
		}
		m, err := r.member(*t)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	for i := range r.known {
		t := &r.known[i]
		if there[t.Table] || t != r.last(t.Table) {
			continue
		}
		if t.GoneAt.IsZero() {
			if err := r.gone(ctx, t); err != nil {
				return nil, err
			}
		}
		if held[t.Table] {
			if err := r.dropHeld(ctx, *t); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(members, func(a, b *member) int { return compareText(a.mark.Period, b.mark.Period) })
	return members, nil
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// held gives the tables that have held records; none where none can have.
func (r *seriesRun) held(ctx context.Context) (map[string]bool, error) {
	if r.s.Program.Condition() == "" && r.s.noneHeld {
		return nil, nil
	}
	held, err := r.b.Ledger.HeldTables(ctx, r.s.Name)
	r.s.noneHeld = err == nil && len(held) == 0
	return held, err
}

// dropHeld ends what is held of a table that is no longer there.
func (r *seriesRun) dropHeld(ctx context.Context, t ledger.TableMark) error {
	m, err := r.member(t)
	if err != nil {
		return err
	}
	l, state, err := r.lander(m)
	if err != nil {
		return err
	}
	err = l.dropHeld(ctx, state)
	m.mark.Mark = l.mark
	r.store(m.mark)
	return err
}

// gone notes, and tells once, that a table is no longer there. That is no error:
// old ones are put away.
func (r *seriesRun) gone(ctx context.Context, t *ledger.TableMark) error {
	t.GoneAt = r.b.Now()
	if err := r.b.Ledger.NoteTable(ctx, r.lease, *t); err != nil {
		return err
	}
	log := r.b.Log.With("source", r.s.Name, "table", t.Table, "mark", t.Mark.Mark.String())
	if t.ClosedAt.IsZero() {
		log.Warn("a table of the series is no longer there, and more rows could have come to it; what was read of it is safe")
	} else {
		log.Info("a table of the series is no longer there; it had been read to its end")
	}
	return nil
}

// orGone is nil where a table could not be read because it is no longer there, as
// the next run will find, and else what was wrong.
func (r *seriesRun) orGone(ctx context.Context, m *member, failure error) error {
	if ctx.Err() != nil || errors.Is(failure, ledger.ErrLeaseLost) {
		return failure
	}
	if err := r.look(ctx, true); err != nil {
		return failure
	}
	if slices.ContainsFunc(r.there, func(t sources.Member) bool { return t.Table == m.Table }) {
		return failure
	}
	return r.gone(ctx, &m.mark)
}

// roleOf is the period that a table is for now.
func (r *seriesRun) roleOf(m *member) sources.Period {
	for _, at := range r.there {
		if at.Table == m.Table {
			return at.Period
		}
	}
	return m.period
}

// due reports whether a table is to be read in this run.
func (r *seriesRun) due(m *member) bool {
	over := r.now.Sub(m.period.End(r.s.zone()))
	return !m.read || over < justOver || r.s.boot()-m.polled >= lateEvery
}

// poll reads what is new in a table.
func (r *seriesRun) poll(ctx context.Context, m *member) (state capture.State, err error) {
	reader, err := r.reader(ctx, m)
	if err != nil {
		return state, err
	}
	if !m.mark.OldRows.IsZero() {
		if m, err = r.oldRows(ctx, m, reader); err != nil {
			return state, err
		}
	}
	began := r.now
	state, err = r.pollOnce(ctx, m, reader)
	if _, restored := errors.AsType[*capture.RestoredError](err); restored && r.s.Series.Pattern.Wraps {
		// Numbers that run backwards are nothing to stop for where tables are emptied.
		if m, err = r.refill(ctx, m); err == nil {
			state, err = r.pollOnce(ctx, m, reader)
		}
	}
	if err != nil {
		if _, restored := errors.AsType[*capture.RestoredError](err); restored {
			err = fmt.Errorf("%w; reading of this table stops here, the others are read on. See what happened to it, then say where to go on: %s. New rows under numbers that had landed before are kept as invalid",
				err, r.s.resetCommand(sources.Position{}))
		}
		return state, err
	}
	m.read, m.polled = true, r.s.boot()
	return state, r.closeUp(ctx, m, reader, state, began)
}

func (r *seriesRun) pollOnce(ctx context.Context, m *member, reader Reader) (capture.State, error) {
	l, state, err := r.lander(m)
	if err != nil {
		return state, err
	}
	if r.d != nil {
		defer func() { r.d.countRead(r.s.Name, l.read) }()
	}
	if err = m.Poller.Poll(ctx, reader, l, &state); err == nil {
		err = l.readHeld(ctx, reader, &state)
	}
	m.mark.Mark = l.mark
	r.store(m.mark)
	return state, err
}

// closeUp ends the reading of a table for good: its period has been over for as
// long as rows may be late, a later table is being filled, and this read has come
// to the end with nothing left to wait for. began is when that read did.
func (r *seriesRun) closeUp(ctx context.Context, m *member, reader Reader, state capture.State, began time.Time) error {
	late := max(lateLeast, r.s.Poller.Config.Lookback)
	if began.Before(m.period.End(r.s.zone()).Add(late)) || !r.laterFilled(m.mark.Period) {
		return nil
	}
	if reader.Class().Server && !state.Settled() {
		return nil
	}
	if !m.noneHeld {
		return nil // they are read again by their keys
	}
	m.mark.ClosedAt = r.b.Now()
	r.store(m.mark)
	return r.b.Ledger.NoteTable(ctx, r.lease, m.mark)
}

// laterFilled reports that rows of a table of a later period were read: a clock
// that is ahead alone ends nothing.
func (r *seriesRun) laterFilled(period string) bool {
	return slices.ContainsFunc(r.known, func(t ledger.TableMark) bool {
		return t.Period > period && !t.Mark.Mark.IsZero() && !t.Mark.Mark.Inclusive
	})
}
