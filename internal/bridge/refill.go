package bridge

import (
	"context"
	"fmt"
	"time"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sources"
)

// This file is about tables that are emptied and filled again each year. When
// exactly that happens nobody says: before the table's month begins, with it, days
// later, at once or row by row. What a row's own operate_time says of its year is
// looked at first; where it says nothing, whether the ledger has it from before.
// Taking an old row for a new one costs a read, because it is recognised by its
// key and its identity; a new one is taken for an old one only while the clock that
// wrote it is a year behind, and then waits for the next.

// refilled reports that a row has a key that a row of an earlier filling of the
// table had.
func (l *lander) refilled(c candidate, k ledger.Known) bool {
	switch {
	case k.Generation >= l.generation || k.Hash == c.hash:
		return false
	case c.identity != "" && sources.SameColumns(k.Identity, c.identity):
		return k.Identity != c.identity
	}
	// The mapping has changed since; the day of the release has not.
	_, content := l.content(c, l.origin(0, l.generation))
	return k.Day == "" || content.Day != k.Day
}

// add begins the reading of a table that was never read.
func (r *seriesRun) add(ctx context.Context, at sources.Member) (*ledger.TableMark, error) {
	t := ledger.TableMark{Table: at.Table, Period: at.Period.String(), Generation: 1}
	if r.s.Series.Pattern.Wraps {
		t.Generation = 0
		reader, err := r.tables.Open(ctx, at.Table)
		if err != nil {
			return nil, err
		}
		defer reader.Close() // it ends no connection
		row, err := r.newest(ctx, at, reader, sources.Position{}, 0)
		if err != nil {
			return nil, err
		}
		// It still holds last year's rows: that is what it stands for.
		if row == old && !at.Period.YearBefore().Before(r.first) {
			t.Period = at.Period.YearBefore().String()
		} else if row == old {
			if _, err := r.beginLatest(ctx, at, &t); err != nil {
				return nil, err
			}
			t.OldRows = t.Mark.Mark
		}
	}
	return r.addTable(ctx, t)
}

func (r *seriesRun) addTable(ctx context.Context, t ledger.TableMark) (*ledger.TableMark, error) {
	t, err := r.b.Ledger.AddTable(ctx, r.lease, t)
	if err != nil {
		return nil, err
	}
	r.store(t)
	return r.last(t.Table), nil
}

// turn begins a new filling of a table whose month has come again, once there is
// a row of it or none of last year's. Where those are still there, reading goes on
// above them.
func (r *seriesRun) turn(ctx context.Context, at sources.Member, last ledger.TableMark) (*ledger.TableMark, error) {
	m, err := r.member(last)
	if err != nil {
		return nil, err
	}
	reader, err := r.reader(ctx, m)
	if err != nil {
		return nil, err
	}
	row, err := r.newest(ctx, at, reader, sources.Position{}, everyGeneration)
	if err != nil {
		return nil, err
	}
	if row == old {
		return &last, nil
	}
	t := ledger.TableMark{Table: at.Table, Period: at.Period.String()}
	if row != none && !last.Mark.Mark.IsZero() {
		below, err := r.newest(ctx, at, reader, last.Mark.Mark, everyGeneration)
		if err != nil {
			return nil, err
		}
		if below == old {
			t.State, t.Started, t.OldRows = last.State, last.Started, last.Mark.Mark
		}
	}
	return r.addTable(ctx, t)
}

// oldRows looks whether last year's rows are still in a table above which reading
// goes on; where they are gone, its numbers may begin again.
func (r *seriesRun) oldRows(ctx context.Context, m *member, reader Reader) (*member, error) {
	row, err := r.newest(ctx, sources.Member{Table: m.Table, Period: m.period}, reader, m.mark.OldRows, m.mark.Generation)
	if err != nil || row == old {
		return m, err
	}
	return r.refill(ctx, m)
}

// refill begins a new filling of a table, from its first row on.
func (r *seriesRun) refill(ctx context.Context, m *member) (*member, error) {
	t, err := r.addTable(ctx, ledger.TableMark{Table: m.Table, Period: r.roleOf(m).String()})
	if err != nil {
		return m, err
	}
	r.b.Log.Info("a table of the series was emptied; it is read from its first row on", "source", r.s.Name, "table", m.Table, "period", t.Period)
	next, err := r.member(*t)
	if err != nil {
		return m, err
	}
	next.reader, m.reader = m.reader, nil
	return next, nil
}

// age is which year a row is of.
type age uint8

const (
	none   age = iota // there is no row
	recent            // this year's, or nothing says which
	old               // last year's
)

// everyGeneration is above that of any record.
const everyGeneration = 1 << 30

// newest tells which year the last row of a table is of, or the last one up to a
// position. Where the row does not say, one that the ledger has of a generation
// below one is old.
func (r *seriesRun) newest(ctx context.Context, at sources.Member, reader Reader, upTo sources.Position, generation int) (age, error) {
	page, err := inSession(ctx, reader, func(sess capture.Session) (sources.Page, error) {
		return sess.Page(ctx, sources.Range{UpTo: upTo, Newest: true}, 1)
	})
	if err != nil || len(page.Rows) == 0 {
		return none, err
	}
	row := page.Rows[0]
	m := r.s.mapper(r.s.Program.Columns())
	_, content := m.mapped(row.Values, mapping.Origin{Table: at.Table, Period: at.Period.String(), Now: r.b.Now()})
	if is := r.ageOf(content.Day, at.Period); is != none {
		return is, nil
	}
	known, err := r.b.Ledger.Known(ctx, r.s.Name, at.Table, []string{row.Key})
	if err != nil {
		return none, err
	}
	identity := m.identityOf(row.Values)
	if k, found := known[row.Key]; found && k.Generation < generation && identity != "" && k.Identity == identity {
		return old, nil
	}
	return recent, nil
}

// ageOf tells by the day of a release whether it is of the period that its table
// is for, or of that of the year before: the nearer one; none where it is neither.
func (r *seriesRun) ageOf(day string, period sources.Period) age {
	t, err := time.ParseInLocation(time.DateOnly, day, r.s.zone())
	if err != nil {
		return none
	}
	middle := period.Begin(r.s.zone()).AddDate(0, 0, 15)
	switch {
	case t.After(middle.AddDate(0, 6, 0)) || t.Before(middle.AddDate(-1, -6, 0)):
		return none
	case t.Before(middle.AddDate(0, -6, 0)):
		return old
	}
	return recent
}

// periodOfRecord is the period that a record's table was for when it landed; "" for a
// source without.
func (b *Bridge) periodOfRecord(ctx context.Context, s *Source, r ledger.Record) (string, error) {
	if s.Series == nil {
		return "", nil
	}
	if p, ok := s.Series.Pattern.Named(r.Table); ok {
		return p.String(), nil
	}
	tables, err := b.Ledger.Tables(ctx, s.Name)
	if err != nil {
		return "", err
	}
	run := &seriesRun{known: tables}
	period := periodOf(run.filled(r.Table), r.Generation)
	if period == "" {
		return "", fmt.Errorf("table %s of the record is none that the series %s has read", r.Table, s.Table)
	}
	return period, nil
}
