package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// begin finds where a series that was never read begins, or begins anew, and
// stores it. key is where start was given.
func (r *seriesRun) begin(ctx context.Context, key, start string) error {
	r.state, r.first = seriesState{}, sources.Period{}
	var skipped []ledger.TableMark
	if start != sources.StartEarliest {
		if err := r.beginWith(ctx, key, start); err != nil {
			return err
		}
		r.state.First = r.first.String()
		var err error
		if skipped, err = r.skip(ctx, start == sources.StartLatest); err != nil {
			return err
		}
	}
	journal, err := json.Marshal(r.state)
	if err != nil {
		return err
	}
	r.mark, err = r.b.Ledger.BeginSeries(ctx, ledger.Landing{
		Lease: r.lease, From: r.mark, To: ledger.State{Journal: string(journal)}, Shape: r.s.Shape, Server: r.server,
	}, skipped)
	if err == nil {
		r.known, err = r.b.Ledger.Tables(ctx, r.s.Name)
	}
	return err
}

// dates are the forms of a start that is a day or a month.
var dates = []string{time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly, "2006-01", time.RFC3339}

// beginWith finds the period that a start means, and the value to begin at in its
// table where the cursor is a time.
func (r *seriesRun) beginWith(ctx context.Context, key, start string) error {
	if r.first = r.current(); start == sources.StartLatest {
		return nil
	}
	if upto := r.upto(); len(upto) > 0 {
		reader, err := r.tables.Open(ctx, upto[len(upto)-1].Table)
		if err != nil {
			return err
		}
		defer reader.Close() // it ends no connection
		// Where the cursor holds times, so is the value one.
		last, err := inSession(ctx, reader, func(sess capture.Session) (sources.Position, error) { return sess.Highest(ctx, sources.Range{}) })
		if err != nil {
			return err
		}
		if _, times := reader.TimeOf(last); times {
			if err := reader.CheckValue(key, start, last); err != nil {
				return err
			}
		}
		at := sources.Position{Values: []string{start}, Inclusive: true}
		if t, timed := reader.TimeOf(at); timed {
			zone := r.s.zone()
			if reader.Zoneless(at) {
				zone = time.UTC // it is the wall clock as it is
			}
			r.first, r.state.From = r.s.Series.Pattern.At(t, zone), start
			return nil
		}
	}
	for _, layout := range dates {
		if t, err := time.ParseInLocation(layout, start, r.s.zone()); err == nil {
			r.first = r.s.Series.Pattern.At(t, r.s.zone())
			return nil
		}
	}
	return &sources.ConfigError{Source: r.s.Name, Key: key, Problem: fmt.Sprintf(
		"%q does not say with which table of %s to begin, because numbers begin again in each: say earliest, latest, or a day such as 2026-11-01, which begins with the table of that day", start, r.s.Table)}
}

// skip notes, for tables with rows that are not asked for, the row up to which
// they are left out: with start latest that is the last one of the period's table,
// and in a series that wraps the last one of every table of an earlier period, for
// that will be filled again.
func (r *seriesRun) skip(ctx context.Context, latest bool) (skipped []ledger.TableMark, err error) {
	for _, at := range r.upto() {
		earlier := at.Period.Before(r.first)
		asked := !latest
		if earlier {
			asked = !r.s.Series.Pattern.Wraps
		}
		if asked {
			continue // or it is never read at all
		}
		t := ledger.TableMark{Table: at.Table, Period: at.Period.String(), Generation: 1}
		if earlier {
			t.ClosedAt = r.b.Now()
		}
		if last := r.last(at.Table); last != nil {
			t.Generation = last.Generation
		} else if r.s.Series.Pattern.Wraps {
			t.Generation = 0
		}
		age, err := r.beginLatest(ctx, at, &t)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", at.Table, err)
		}
		if !earlier && age == old {
			t.OldRows = t.Mark.Mark
		}
		if t.Started {
			skipped = append(skipped, t)
		}
	}
	return skipped, nil
}

// beginLatest lets a table begin above its last row, and tells which year that is
// of where the series wraps; where there is none, it is left as it is.
func (r *seriesRun) beginLatest(ctx context.Context, at sources.Member, t *ledger.TableMark) (age, error) {
	reader, err := r.tables.Open(ctx, at.Table)
	if err != nil {
		return none, err
	}
	defer reader.Close() // it ends no connection
	position, err := inSession(ctx, reader, func(sess capture.Session) (sources.Position, error) {
		return capture.Beginning(ctx, reader, sess, "start", sources.StartLatest)
	})
	if err != nil || position.IsZero() {
		return none, err
	}
	t.State, t.Started = encodeState(capture.Begun(position)), true
	if !r.s.Series.Pattern.Wraps {
		return recent, nil
	}
	return r.newest(ctx, at, reader, position, 0)
}

// inSession runs f on a connection of its own.
func inSession[T any](ctx context.Context, r Reader, f func(capture.Session) (T, error)) (out T, err error) {
	sess, err := r.Session(ctx, false)
	if err != nil {
		return out, err
	}
	out, err = f(sess)
	return out, errors.Join(err, sess.Close())
}

// resetSeries clears the marks of all tables of a series, and begins anew. Records
// stay; rows read again are recognised by their keys.
func (b *Bridge) resetSeries(ctx context.Context, s *Source, to string) (err error) {
	r := &seriesRun{b: b, s: s}
	if r.tables, r.server, err = s.Series.connected(ctx); err != nil {
		return err
	}
	if r.lease, err = b.acquire(ctx, s.Name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.lease.Release(context.WithoutCancel(ctx))) }()
	if r.mark, err = b.Ledger.Mark(ctx, s.Name); err != nil {
		return err
	}
	if r.known, err = b.Ledger.Tables(ctx, s.Name); err != nil {
		return err
	}
	if err := r.look(ctx, true); err != nil {
		return err
	}
	return r.begin(ctx, "--to", to)
}
