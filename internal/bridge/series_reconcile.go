package bridge

import (
	"context"
	"errors"
	"fmt"

	"parkbridge/internal/ledger"
)

// reconcileSeries compares a window of the tables of a series with the ledger.
func (b *Bridge) reconcileSeries(ctx context.Context, s *Source, lease *ledger.Lease, w Window, dry bool) (ledger.Reconcile, error) {
	r, err := b.openSeries(ctx, s, lease)
	if err != nil {
		return ledger.Reconcile{}, err
	}
	if !dry {
		// What is new is the poll's to find, and not missing.
		members, err := r.plan(ctx)
		if err != nil {
			return ledger.Reconcile{}, err
		}
		for _, m := range members {
			if _, err := r.poll(ctx, m); err != nil {
				return ledger.Reconcile{}, fmt.Errorf("table %s: %w", m.Table, err)
			}
		}
	}
	return r.reconcile(ctx, w, dry)
}

// reconcile compares the window of each table that has rows of it, and keeps the
// sum unless dry is set.
func (r *seriesRun) reconcile(ctx context.Context, w Window, dry bool) (ledger.Reconcile, error) {
	from := w.From
	if from.IsZero() {
		from = r.now.Add(-r.s.Poller.Config.Reconcile.Window)
	}
	sum := ledger.Reconcile{Source: r.s.Name, StartedAt: r.b.Now(), DryRun: dry}
	days := &tally{days: map[string]*ledger.Day{}}
	var err error
	for _, t := range r.known {
		if err != nil {
			break
		}
		if last := r.last(t.Table); last.Generation != t.Generation || !t.GoneAt.IsZero() || !t.Started {
			continue
		}
		m, merr := r.member(t)
		// A row that is late, or early by a clock, is not in the table of its day.
		const beside = lateLeast
		if merr == nil && (m.period.End(r.s.zone()).Add(beside).Before(from) || !w.To.IsZero() && m.period.Begin(r.s.zone()).Add(-beside).After(w.To)) {
			continue
		}
		if err = merr; err == nil {
			err = r.compare(ctx, m, w, days, &sum)
		}
	}
	sum.Days, sum.FinishedAt = days.result(), r.b.Now()
	if err != nil {
		sum.Error = err.Error()
	}
	if dry {
		return sum, err
	}
	return sum, errors.Join(err, r.b.Ledger.SaveReconcile(context.WithoutCancel(ctx), sum))
}

// compare adds what the comparison of one table finds.
func (r *seriesRun) compare(ctx context.Context, m *member, w Window, days *tally, sum *ledger.Reconcile) error {
	reader, err := r.reader(ctx, m)
	if err != nil {
		return fmt.Errorf("table %s: %w", m.Table, err)
	}
	l, state, err := r.lander(m)
	if err != nil {
		return err
	}
	l.dry, l.closed = sum.DryRun, !m.mark.ClosedAt.IsZero()
	one, err := l.compareWindow(ctx, reader, state, w)
	m.mark.Mark = l.mark
	r.store(m.mark)
	for _, d := range one.Days {
		all := days.of(d.Day)
		all.Source, all.Ledger, all.Delivered, all.Missing = all.Source+d.Source, all.Ledger+d.Ledger, all.Delivered+d.Delivered, all.Missing+d.Missing
		all.Changed, all.Healed, all.Deleted = all.Changed+d.Changed, all.Healed+d.Healed, all.Deleted+d.Deleted
	}
	if sum.Start == "" {
		sum.Start = one.Start
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", m.Table, err)
	}
	return nil
}
