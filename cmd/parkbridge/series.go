package main

import (
	"fmt"
	"time"

	"parkbridge/internal/bridge"
	"parkbridge/internal/ledger"
)

// tablesAsJSON is the tables of a series; a list of none for another source.
func tablesAsJSON(tables []ledger.TableMark) ([]tableJSON, error) {
	out := []tableJSON{}
	for _, t := range tables {
		state, err := bridge.StateOf(t.Mark)
		if err != nil {
			return nil, err
		}
		out = append(out, tableJSON{
			Table: t.Table, Period: t.Period, Mark: position(t.Mark.Mark), Floor: position(t.Floor), HeldBy: text(state.Seen.HeldBy),
			MovedAt: when(t.MovedAt), ClosedAt: when(t.ClosedAt), GoneAt: when(t.GoneAt), OldRows: position(t.OldRows),
		})
	}
	return out, nil
}

// goneTold is how long status speaks of a table that is no longer there.
const goneTold = 31 * 24 * time.Hour

// seriesNotes says which tables of a series are read. It gives the source's status
// the mark of the latest one.
func seriesNotes(src *bridge.Source, s *ledger.SourceStatus, now time.Time) (notes []string, err error) {
	note := func(format string, args ...any) {
		notes = append(notes, s.Source+": "+fmt.Sprintf(format, args...))
	}
	if len(s.Tables) == 0 {
		s.Mark = ledger.Mark{} // the source's own holds where it begins, and no position
		return nil, nil
	}
	newest := s.Tables[len(s.Tables)-1]
	s.Mark, s.MovedAt = newest.Mark, newest.MovedAt
	pattern := src.Series.Pattern
	if current := pattern.At(now, src.Location); newest.Period < current.String() {
		more := ""
		if now.Sub(current.Begin(src.Location)) > 24*time.Hour {
			more = "; if it is, this account has no right to it: GRANT SELECT on all tables of the database lets it see each new one"
		}
		note("%s has no rows yet or is not there yet; it is waited for%s", pattern.Table(current), more)
	}
	for i, t := range s.Tables {
		state, err := bridge.StateOf(t.Mark)
		if err != nil {
			return nil, err
		}
		at := "from its first row"
		if !t.Mark.Mark.IsZero() {
			at = "to " + clip(t.Mark.Mark.String(), 40)
		}
		switch {
		case !t.GoneAt.IsZero() && now.Sub(t.GoneAt) < goneTold && t.ClosedAt.IsZero():
			note("table %s is no longer there since %s; it was read %s, and more rows could have come to it", t.Table, localTime(t.GoneAt), at)
		case !t.GoneAt.IsZero() && now.Sub(t.GoneAt) < goneTold:
			note("table %s is no longer there since %s; it had been read to its end", t.Table, localTime(t.GoneAt))
		case !t.GoneAt.IsZero() || !t.ClosedAt.IsZero() || superseded(s.Tables, i):
		case i == len(s.Tables)-1:
			note("reads table %s, %s", t.Table, at)
		default:
			note("reads table %s too, %s, for rows that come late", t.Table, at)
			if state.Seen.HeldBy != "" {
				note("table %s: what may still turn up below the mark is read again from %s on; held by %s", t.Table, clip(orNone(t.Floor), 40), state.Seen.HeldBy)
			}
		}
		if !t.OldRows.IsZero() && !superseded(s.Tables, i) {
			note("table %s still has rows of the year before, up to %s", t.Table, clip(t.OldRows.String(), 40))
		}
	}
	return notes, nil
}

// superseded reports that a table was emptied since.
func superseded(tables []ledger.TableMark, i int) bool {
	for _, t := range tables {
		if t.Table == tables[i].Table && t.Generation > tables[i].Generation {
			return true
		}
	}
	return false
}
