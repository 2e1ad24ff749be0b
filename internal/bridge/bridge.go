// Package bridge runs sources: it captures rows, maps and lands them, sends
// what is due and settles the answers.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	"golang.org/x/time/rate"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

// Gate is what the bridge needs of the sink.
type Gate interface {
	// Send pushes one record and says what the answer means. It never fails.
	Send(ctx context.Context, fields sink.Fields) sink.Reply
}

// Reader is what the bridge needs of an open source.
type Reader interface {
	capture.Reader
	// ByKey reads one row again; ok is false where it is gone.
	ByKey(ctx context.Context, key string) (page sources.Page, ok bool, err error)
	// Identity names the server and the database.
	Identity(ctx context.Context) (string, error)
	Close() error
}

// Table makes a Reader of an open table or query.
func Table(r *sources.Reader) Reader { return table{r} }

type table struct{ *sources.Reader }

func (t table) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	s, err := t.Reader.Session(ctx, evidence)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Source is one source, ready to run.
type Source struct {
	Name     string
	Table    string // the table, or "query", as the ledger names the rows' origin
	Shape    sources.Shape
	Location *time.Location // of the days that reconcile counts; nil means UTC
	Program  *mapping.Program
	Poller   *capture.Poller
	// ReadyTimeout is how long a row may be held (see [mapping.Program.Await])
	// from when it was first seen; 0 means 168h.
	ReadyTimeout time.Duration
	// Reconcile says when a window is compared; nil means hourly for class client
	// and never for class server.
	Reconcile cron.Schedule
	// Open connects. The connection is kept until a run fails.
	Open func(ctx context.Context) (Reader, error)
	// Series is set for a source of several tables, one for each period. Table is
	// then the name that they have in common, Poller what they are polled like, and
	// Open is nil.
	Series *Series

	mu         sync.Mutex
	reader     Reader
	server     string     // the identity of what reader is connected to
	noneHeld   bool       // nothing was held at the last look
	following  *following // the last poll, where it came to its end; else nil
	reconciled time.Time  // when a reconcile last began; zero: not known
}

// connected gives the open reader and what it is connected to, connecting where
// there is none.
func (s *Source) connected(ctx context.Context) (Reader, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == nil {
		r, err := s.Open(ctx)
		if err != nil {
			return nil, "", err
		}
		if s.server, err = r.Identity(ctx); err != nil {
			return nil, "", errors.Join(fmt.Errorf("asking the database who it is: %w", err), r.Close())
		}
		s.reader = r
	}
	return s.reader, s.server, nil
}

// Close ends the connection; the next run connects again.
func (s *Source) Close() error {
	if s.Series != nil {
		return s.Series.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == nil {
		return nil
	}
	r := s.reader
	s.reader = nil
	return r.Close()
}

// Settings of delivery, from the sink's config.
type Settings struct {
	Timeout          time.Duration // of one call
	Concurrency      int
	RateLimit        float64 // calls a second; 0 means no limit
	UnorderedSerials []string
	Retention        time.Duration
}

// Bridge carries the records of sources to the gate.
type Bridge struct {
	Ledger   *ledger.Ledger
	Gate     Gate
	Sources  []*Source
	Settings Settings
	Log      *slog.Logger
	Now      func() time.Time
}

// SourceReport says what a run did for one source.
type SourceReport struct {
	Source string
	Run    ledger.Run
	Held   *ledger.HeldError // another run holds it; nothing was done
	Err    error             // reading or landing failed; what had landed was sent
	// Pending is what is left to send.
	Pending int
}

// Report says what a sync did.
type Report struct {
	Sources []SourceReport
	Sink    ledger.SinkState
	// Limited tells that records were left because the limit was reached.
	Limited bool
	// Err is a failure of delivery itself, such as a ledger that cannot be written.
	Err error
}

// Sync runs each source once: it reads to its end, and sends every pending
// record once, side by side. limit is the most records it sends; 0 means all.
// It ends early where the circuit opens, the sink is blocked, or ctx ends; all
// that is pending then stays so.
func (b *Bridge) Sync(ctx context.Context, limit int) Report {
	var report Report
	work := context.WithoutCancel(ctx) // what was begun is written down, also when stopping
	d := b.newDelivery(limit)
	var running []*Source
	for _, s := range b.Sources {
		err := d.take(work, s.Name)
		if err != nil {
			r := SourceReport{Source: s.Name}
			if !errors.As(err, &r.Held) {
				r.Err = err
			}
			report.Sources = append(report.Sources, r)
			continue
		}
		d.startRun(s.Name)
		running = append(running, s)
	}
	failures := make([]error, len(running))
	var captures sync.WaitGroup
	for i, s := range running {
		captures.Go(func() {
			failures[i] = b.captureOnce(ctx, s, d)
		})
	}
	go func() {
		captures.Wait()
		d.captured()
	}()
	renewing := d.renew(work)
	report.Err = d.sweepOnce(ctx)
	captures.Wait()
	renewing()
	report.Limited = d.stoppedByLimit()
	for i, s := range running {
		report.Sources = append(report.Sources, b.finish(work, s, d, failures[i]))
	}
	var err error
	if ctx.Err() != nil {
		report.Err = errors.Join(report.Err, ErrStopped)
	} else if report.Err == nil && len(running) > 0 {
		_, report.Err = b.forget(ctx)
	}
	if report.Sink, err = b.Ledger.Sink(work); err != nil {
		report.Err = errors.Join(report.Err, err)
	}
	return report
}

// ErrStopped is in the report of a sync that was asked to stop before its end.
var ErrStopped = errors.New("stopped before the end, as asked; nothing is lost, the next sync goes on")

// runsKept is how long the list of runs goes back.
const runsKept = 90 * 24 * time.Hour

// forget wipes what retention says, and forgets old runs.
func (b *Bridge) forget(ctx context.Context) (wiped int, err error) {
	wiped, err = b.Ledger.Wipe(ctx, b.Now().Add(-b.Settings.Retention))
	return wiped, errors.Join(err, b.Ledger.PruneRuns(ctx, b.Now().Add(-runsKept)))
}

// finish notes the end of a source's run and gives its lease back.
func (b *Bridge) finish(ctx context.Context, s *Source, d *delivery, failure error) SourceReport {
	r := SourceReport{Source: s.Name, Err: failure}
	run, err := d.endRun(ctx, s.Name, failure)
	r.Run, r.Err = run, errors.Join(r.Err, err)
	if lost := d.lostLease(s.Name); lost != nil {
		r.Err = errors.Join(r.Err, lost)
	}
	if r.Pending, _, err = b.Ledger.CountPending(ctx, []string{s.Name}); err != nil {
		r.Err = errors.Join(r.Err, err)
	}
	if err := d.giveBack(ctx, s.Name); err != nil {
		r.Err = errors.Join(r.Err, err)
	}
	return r
}

// captureOnce reads one source to its end and lands what it finds. A failure
// closes the connection, so that the next run begins with a new one.
func (b *Bridge) captureOnce(ctx context.Context, s *Source, d *delivery) error {
	err := b.poll(ctx, s, d)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // stopped between two pages; the mark stands where the last one landed
	}
	d.loses(err)
	if err != nil {
		if cerr := s.Close(); cerr != nil {
			b.Log.Debug("closing a failed connection", "source", s.Name, "error", cerr)
		}
	}
	return err
}

func (b *Bridge) poll(ctx context.Context, s *Source, d *delivery) error {
	lease := d.leaseOf(s.Name)
	if lease == nil {
		return &ledger.LostError{Source: s.Name}
	}
	if s.Series != nil {
		return b.pollSeries(ctx, s, lease, d)
	}
	l, r, state, err := b.followSource(ctx, s, lease)
	if err != nil {
		return err
	}
	l.d = d
	defer func() { d.countRead(s.Name, l.read) }()
	started := state.Started
	if err := s.Poller.Poll(ctx, r, l, &state); err != nil {
		return s.explained(err)
	}
	if err := l.readHeld(ctx, r, &state); err != nil {
		return err
	}
	if !started || !b.reconcileDue(ctx, s, r, state) {
		if l.mark.Started { // else nothing is stored yet, and the beginning may still be corrected
			s.following = &following{l, r, state}
		}
		return nil
	}
	result, err := l.reconcile(ctx, r, state, Window{})
	if err == nil {
		b.tellReconcile(s.Name, result)
	}
	return err
}

// following is where a poll came to its end: the next one goes on from there
// without asking the ledger, which nobody else writes under the same lease.
type following struct {
	l     *lander
	r     Reader
	state capture.State
}

// followSource is openSource for a poll.
func (b *Bridge) followSource(ctx context.Context, s *Source, lease *ledger.Lease) (*lander, Reader, capture.State, error) {
	f := s.following
	s.following = nil
	if f != nil && f.l.lease == lease {
		if r, _, err := s.connected(ctx); err == nil && r == f.r {
			f.l.read, f.l.allNew = 0, false
			return f.l, f.r, f.state, nil
		}
	}
	return b.openSource(ctx, s, lease)
}

// openSource connects to a source, holds its mark against the config and the
// server, and readies the landing of its rows.
func (b *Bridge) openSource(ctx context.Context, s *Source, lease *ledger.Lease) (*lander, Reader, capture.State, error) {
	mark, err := b.Ledger.Mark(ctx, s.Name)
	if err != nil {
		return nil, nil, capture.State{}, err
	}
	r, server, err := s.connected(ctx) // a column that is not there is told first
	if err != nil {
		return nil, nil, capture.State{}, err
	}
	if err := s.fits(mark); err != nil {
		return nil, nil, capture.State{}, err
	}
	if err := s.leads(mark, server); err != nil {
		return nil, nil, capture.State{}, err
	}
	state, err := StateOf(mark)
	return &lander{b: b, s: s, mapper: s.mapper(s.Program.Columns()), lease: lease, mark: mark, server: server, generation: 1}, r, state, err
}

// explained adds to a mark that does not fit the table what to do about it.
func (s *Source) explained(err error) error {
	if restored, ok := errors.AsType[*capture.RestoredError](err); ok {
		return fmt.Errorf("%w; reading stops here. See what happened to the table, then say where to go on: %s. New rows under numbers that had landed before are kept as invalid",
			err, s.resetCommand(restored.Highest))
	}
	return err
}

// resetCommand is the command that moves the mark, with a value to begin with.
func (s *Source) resetCommand(at sources.Position) string {
	value := "VALUE"
	if !at.IsZero() && s.Series == nil {
		value = "'" + at.Values[0] + "'"
	}
	return fmt.Sprintf("parkbridge reset --source %s --to earliest|latest|%s", s.Name, value)
}

// fits refuses a mark that was made with another table, query, key or cursor:
// a position of one means nothing to the other, and reading from it would find
// nothing for ever, or skip what was never read.
func (s *Source) fits(mark ledger.Mark) error {
	if !mark.Started || mark.Shape == nil {
		return nil
	}
	key, was, is := mark.Shape.Changed(s.Shape)
	if key == "" {
		return nil
	}
	return &sources.ConfigError{Source: s.Name, Key: key, Problem: fmt.Sprintf(
		"was %q when the mark %q was made, and is %q now; if that is meant, say where to go on: %s",
		was, mark.Mark.String(), is, s.resetCommand(sources.Position{}))}
}

// leads refuses a server or a database other than the one the mark was made in.
func (s *Source) leads(mark ledger.Mark, server string) error {
	if mark.Started && mark.Server != "" && mark.Server != server {
		return &sources.ConfigError{Source: s.Name, Key: "dsn", Problem: fmt.Sprintf(
			"leads to %q now, but the mark %q was made in %q; nothing was read. If that is meant, say where to go on: %s", server, mark.Mark.String(), mark.Server, s.resetCommand(mark.Mark))}
	}
	return nil
}

// Reset moves a source's mark on purpose: to "earliest", "latest" or a value of
// the cursor, from which on rows are read. Records stay; rows read again are
// recognised by their keys.
func (b *Bridge) Reset(ctx context.Context, s *Source, to string) (position sources.Position, err error) {
	if s.Series != nil {
		return position, b.resetSeries(ctx, s, to)
	}
	r, server, err := s.connected(ctx)
	if err != nil {
		return position, err
	}
	lease, err := b.acquire(ctx, s.Name)
	if err != nil {
		return position, err
	}
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	mark, err := b.Ledger.Mark(ctx, s.Name)
	if err != nil {
		return position, err
	}
	state, err := StateOf(mark)
	if err != nil {
		return position, err
	}
	if s.fits(mark) != nil || s.leads(mark, server) != nil {
		state.Started = false // its positions mean nothing any more
	}
	sess, err := r.Session(ctx, false)
	if err != nil {
		return position, err
	}
	defer func() { err = errors.Join(err, sess.Close()) }()
	if position, err = capture.Beginning(ctx, r, sess, "--to", to); err != nil {
		return position, err
	}
	if position.Inclusive {
		if err := aboveEverything(ctx, sess, position); err != nil {
			return position, err
		}
	}
	if state, err = capture.Moved(ctx, sess, state, position); err != nil {
		return position, err
	}
	_, err = b.Ledger.Land(ctx, ledger.Landing{Lease: lease, From: mark, To: encodeState(state), Shape: s.Shape, Server: server, Table: s.Table})
	return position, err
}

// ErrAboveAll is returned by Reset for a value above the last row.
var ErrAboveAll = errors.New("there is no row at this value or above it, so nothing would be read until one comes there; latest means from now on")

// aboveEverything refuses a place above every row of a table that is not empty.
func aboveEverything(ctx context.Context, sess capture.Session, position sources.Position) error {
	above, err := sess.Highest(ctx, sources.Range{After: position})
	if err != nil || !above.IsZero() {
		return err
	}
	last, err := sess.Highest(ctx, sources.Range{})
	if err == nil && !last.IsZero() {
		err = fmt.Errorf("--to %s: %w (the last row is at %s)", position, ErrAboveAll, last)
	}
	return err
}

// limiter paces calls; nil means no limit.
func (s Settings) limiter() *rate.Limiter {
	if s.RateLimit <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(s.RateLimit), 1)
}
