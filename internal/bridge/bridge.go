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
	Send(ctx context.Context, fields map[string]string) sink.Reply
}

// Reader is what the bridge needs of an open source.
type Reader interface {
	capture.Reader
	// ByKey reads one row again; ok is false where it is gone.
	ByKey(ctx context.Context, key string) (page sources.Page, ok bool, err error)
	Close() error
}

// Source is one source, ready to run.
type Source struct {
	Name     string
	Table    string // the table, or "query", as the ledger names the rows' origin
	Shape    sources.Shape
	PageSize int
	Start    string
	Program  *mapping.Program
	// Open connects. The connection is kept until a run fails.
	Open func(ctx context.Context) (Reader, error)

	mu     sync.Mutex
	reader Reader
}

// connected gives the open reader, connecting where there is none.
func (s *Source) connected(ctx context.Context) (Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == nil {
		r, err := s.Open(ctx)
		if err != nil {
			return nil, err
		}
		s.reader = r
	}
	return s.reader, nil
}

// Close ends the connection; the next run connects again.
func (s *Source) Close() error {
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
		if err == nil {
			err = d.newRun(work, s.Name)
		}
		if err != nil {
			r := SourceReport{Source: s.Name}
			if !errors.As(err, &r.Held) {
				r.Err = errors.Join(err, d.giveBack(work, s.Name))
			}
			report.Sources = append(report.Sources, r)
			continue
		}
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
	report.Err = d.sweepOnce(ctx)
	captures.Wait()
	report.Limited = d.stoppedByLimit()
	for i, s := range running {
		report.Sources = append(report.Sources, b.finish(work, s, d, failures[i]))
	}
	var err error
	if ctx.Err() != nil {
		report.Err = errors.Join(report.Err, ErrStopped)
	} else if report.Err == nil {
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
	run, err := b.Ledger.FinishRun(ctx, d.runOf(s.Name), failure)
	r.Run, r.Err = run, errors.Join(r.Err, err)
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
	if err != nil {
		if cerr := s.Close(); cerr != nil {
			b.Log.Debug("closing a failed connection", "source", s.Name, "error", cerr)
		}
	}
	return err
}

func (b *Bridge) poll(ctx context.Context, s *Source, d *delivery) error {
	mark, err := b.Ledger.Mark(ctx, s.Name)
	if err != nil {
		return err
	}
	if err := s.fits(mark); err != nil {
		return err
	}
	r, err := s.connected(ctx)
	if err != nil {
		return err
	}
	lease, run := d.leaseOf(s.Name), d.runOf(s.Name)
	return capture.Poll(ctx, r, s.PageSize, s.Start, mark.Position, mark.Started, func(page sources.Page, to sources.Position) error {
		// A page that was read is landed, also when stopping.
		landed, err := b.land(context.WithoutCancel(ctx), s, lease, run, mark, page, to)
		if err != nil {
			return err
		}
		mark = landed.Mark
		if landed.Invalid > 0 {
			b.Log.Warn("rows do not map; they are kept as invalid", "source", s.Name, "rows", landed.Invalid)
		}
		if landed.Pending > 0 {
			b.Log.Debug("landed a page", "source", s.Name, "rows", len(page.Rows), "pending", landed.Pending)
			d.wake()
		}
		return nil
	})
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
		"was %q when the mark %q was made, and is %q now; if that is meant, say where to go on: parkbridge reset --source %s --to earliest|latest|VALUE",
		was, mark.Position.String(), is, s.Name)}
}

// Reset moves a source's mark on purpose: to "earliest", "latest" or a value of
// the cursor, from which on rows are read. Records stay; rows read again are
// recognised by their keys.
func (b *Bridge) Reset(ctx context.Context, s *Source, to string) (position sources.Position, err error) {
	r, err := s.connected(ctx)
	if err != nil {
		return position, err
	}
	if position, err = capture.Beginning(ctx, r, to); err != nil {
		return position, err
	}
	if to != sources.StartLatest {
		// A value that the cursor cannot have shows now, and not at the next run.
		if _, err := r.Page(ctx, position, 1); err != nil {
			return position, err
		}
	}
	lease, err := b.Ledger.Acquire(ctx, s.Name)
	if err != nil {
		return position, err
	}
	err = b.Ledger.Reset(ctx, lease, position, s.Shape)
	return position, errors.Join(err, lease.Release(ctx))
}

// land maps a page's new rows and stores them with the mark.
func (b *Bridge) land(ctx context.Context, s *Source, lease *ledger.Lease, run int64, from ledger.Mark, page sources.Page, to sources.Position) (ledger.Landed, error) {
	keys := make([]string, len(page.Rows))
	for i, row := range page.Rows {
		keys[i] = row.Key
	}
	known, err := b.Ledger.Known(ctx, s.Name, s.Table, keys)
	if err != nil {
		return ledger.Landed{}, err
	}
	in := ledger.Landing{Lease: lease, From: from, To: to, Shape: s.Shape, Table: s.Table, RunID: run, Read: len(page.Rows)}
	inPage := make(map[string]string, len(page.Rows))
	changed := 0
	for _, row := range page.Rows {
		hash := sources.Hash(page.Columns, row.Values)
		if first, twice := inPage[row.Key]; twice {
			if first != hash {
				return ledger.Landed{}, fmt.Errorf("the key %s stands for two rows, so it does not identify one; mend key in the config (nothing of this page was landed)", row.Key)
			}
			continue
		}
		inPage[row.Key] = hash
		if before, ok := known[row.Key]; ok {
			if before != hash && sources.SameColumns(before, hash) {
				changed++
			}
			continue
		}
		columns, err := sources.EncodeRow(page.Columns, row.Values)
		if err != nil {
			return ledger.Landed{}, fmt.Errorf("source %s: row with key %s: %w", s.Name, row.Key, err)
		}
		fields, problems := s.Program.Map(row.Values, mapping.Origin{Table: s.Table})
		in.Rows = append(in.Rows, ledger.New{Key: row.Key, Hash: hash, Columns: columns, Mapped: mapped(fields, problems)})
	}
	if changed > 0 {
		b.Log.Warn("rows were changed after they had landed; their records stay as they are", "source", s.Name, "rows", changed)
	}
	return b.Ledger.Land(ctx, in)
}

// mapped turns the mapping's result into the ledger's.
func mapped(fields map[string]string, problems []mapping.FieldError) ledger.Mapped {
	m := ledger.Mapped{Fields: fields, ParkUUID: fields[sink.FieldParkUUID], FlowNo: fields[sink.FieldFlowNo], ParkingSerial: fields[sink.FieldParkingSerial]}
	for _, p := range problems {
		m.Problems = append(m.Problems, ledger.Problem(p))
	}
	return m
}

// limiter paces calls; nil means no limit.
func (s Settings) limiter() *rate.Limiter {
	if s.RateLimit <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(s.RateLimit), 1)
}
