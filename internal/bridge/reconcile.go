package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/robfig/cron/v3"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// Window is what a reconcile compares.
type Window = capture.Window

// tally counts by day what a reconcile finds. A nil tally counts nothing.
type tally struct {
	days map[string]*ledger.Day
	// first and last bound the days that are counted, see [lander.countDays].
	first, last string
	all         map[string]ledger.Day // the records of the window's days
	above       bool                  // the rows are ones that no poll has come to yet
}

func (t *tally) of(day string) *ledger.Day {
	d := t.days[day]
	if d == nil {
		d = &ledger.Day{Day: day}
		t.days[day] = d
	}
	return d
}

// matched counts a row that has a record.
func (t *tally) matched(k ledger.Known) {
	if t == nil || (k.Day != "" && (k.Day < t.first || k.Day > t.last)) {
		return // beside the window: a cursor that is no time has no exact one
	}
	d := t.of(k.Day)
	d.Source++
	d.Ledger++
	if k.State == ledger.Delivered {
		d.Delivered++
	}
}

// missing counts a row without a record.
func (t *tally) missing(day string, dry bool) {
	if t == nil || t.above {
		return
	}
	d := t.of(day)
	d.Source++
	d.Missing++
	if !dry {
		d.Healed++
	}
}

func (t *tally) changed(k ledger.Known) {
	if t != nil {
		t.of(k.Day).Changed++
	}
}

// result is the days in order.
func (t *tally) result() []ledger.Day {
	for day, all := range t.all {
		d := t.of(day)
		d.Ledger, d.Delivered = max(all.Ledger, d.Ledger), max(all.Delivered, d.Delivered)
	}
	var days []ledger.Day
	for _, day := range slices.Sorted(maps.Keys(t.days)) {
		if d := *t.days[day]; d != (ledger.Day{Day: day}) {
			days = append(days, d)
		}
	}
	return days
}

// Reconcile compares a window of a source with the ledger, lands what is
// missing unless dry is set, and keeps the result. It takes the source's lease,
// except for a dry run, which writes nothing.
func (b *Bridge) Reconcile(ctx context.Context, s *Source, w Window, dry bool) (result ledger.Reconcile, err error) {
	var lease *ledger.Lease
	if !dry {
		if lease, err = b.acquire(ctx, s.Name); err != nil {
			return result, err
		}
		d := b.newDelivery(0)
		d.leases[s.Name] = lease
		renewing := d.renew(context.WithoutCancel(ctx))
		defer func() {
			renewing()
			err = errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
		}()
	}
	if s.Series != nil {
		return b.reconcileSeries(ctx, s, lease, w, dry)
	}
	l, r, state, err := b.openSource(ctx, s, lease)
	if err != nil {
		return result, err
	}
	l.dry = dry
	if !state.Started {
		return ledger.Reconcile{Source: s.Name, StartedAt: b.Now(), FinishedAt: b.Now(), DryRun: dry}, nil
	}
	if !dry {
		// What is new is the poll's to find, and not missing.
		if err := s.Poller.Poll(ctx, r, l, &state); err != nil {
			return result, s.explained(err)
		}
	}
	return l.reconcile(ctx, r, state, w)
}

// reconcile compares a window, and keeps the result.
func (l *lander) reconcile(ctx context.Context, r Reader, state capture.State, w Window) (ledger.Reconcile, error) {
	result, err := l.compareWindow(ctx, r, state, w)
	if l.dry {
		return result, err
	}
	return result, errors.Join(err, l.b.Ledger.SaveReconcile(context.WithoutCancel(ctx), result))
}

// compareWindow streams a window's rows past the ledger, page by page.
func (l *lander) compareWindow(ctx context.Context, r Reader, state capture.State, w Window) (ledger.Reconcile, error) {
	result := ledger.Reconcile{Source: l.s.Name, StartedAt: l.b.Now(), DryRun: l.dry, Start: state.Journal.Start.String()}
	l.tally = &tally{days: map[string]*ledger.Day{}}
	defer func() { l.tally = nil }()
	err := l.s.Poller.Walk(ctx, r, state, w, func(span Window) error {
		return l.countDays(ctx, span)
	}, func(page sources.Page, above bool) error {
		l.tally.above = above && !l.closed
		return l.Land(ctx, page, state)
	})
	if err == nil {
		err = l.countDeleted(ctx, r)
	}
	result.Days = l.tally.result()
	result.FinishedAt = l.b.Now()
	if err != nil {
		result.Error = err.Error()
	}
	return result, err
}

// countDays counts the records of the window's days, before anything is healed.
func (l *lander) countDays(ctx context.Context, span Window) (err error) {
	zone := l.s.zone()
	first, last := "", "9999"
	if !span.From.IsZero() {
		first = span.From.In(zone).Format(time.DateOnly)
	}
	if !span.To.IsZero() {
		last = span.To.In(zone).Format(time.DateOnly)
	}
	l.tally.first, l.tally.last = first, last
	l.tally.all, err = l.b.Ledger.CountDays(ctx, l.s.Name, l.s.Table, l.generation, first, last)
	return err
}

// existPage is the number of keys that the source is asked for at a time.
const existPage = 200

// countDeleted looks for the rows of those days that have more records than the
// walk has met rows: they were deleted, or lie outside of the window.
func (l *lander) countDeleted(ctx context.Context, r Reader) (err error) {
	sess, err := r.Session(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sess.Close()) }()
	for day, all := range l.tally.all {
		for after := ""; all.Ledger > l.tally.of(day).Ledger; {
			keys, err := l.b.Ledger.KeysOfDay(ctx, l.s.Name, l.s.Table, l.generation, day, after, existPage)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				break
			}
			there, err := sess.ByKeys(ctx, keys)
			if err != nil {
				return err
			}
			l.tally.of(day).Deleted += len(keys) - len(there.Rows)
			if len(keys) < existPage {
				break
			}
			after = keys[len(keys)-1]
		}
	}
	return nil
}

// reconcileEvery is how often class client is reconciled by default.
const reconcileEvery = time.Hour

// reconcileDue reports whether it is time to compare a window again.
func (b *Bridge) reconcileDue(ctx context.Context, s *Source, r Reader, state capture.State) bool {
	now := b.Now()
	schedule := s.Reconcile
	if schedule == nil {
		if r.Class().Server {
			return false
		}
		schedule = cron.Every(reconcileEvery)
	}
	if s.reconciled.IsZero() {
		last, err := b.Ledger.LastReconcile(ctx, s.Name)
		switch {
		case err != nil:
			return false
		case last != nil:
			s.reconciled = last.StartedAt
		case len(state.Journal.Hours) > 0: // since the first row was read
			s.reconciled = state.Journal.Hours[0].At
		default:
			return false
		}
	}
	if schedule.Next(s.reconciled).After(now) {
		return false
	}
	s.reconciled = now
	return true
}

// tellReconcile logs what a reconcile found, where that is worth telling.
func (b *Bridge) tellReconcile(source string, r ledger.Reconcile) {
	all := r.Total()
	log := b.Log.With("source", source)
	if all.Missing > 0 {
		log.Warn("reconcile found rows that polling had missed, and landed them", "rows", all.Source, "missing", all.Missing, "healed", all.Healed)
		return
	}
	log.Debug("reconcile found nothing missing", "rows", all.Source, "deleted", all.Deleted)
}
