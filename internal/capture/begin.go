package capture

import (
	"context"

	"parkbridge/sources"
)

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
	st.Journal.Hours = nil // some may be above it
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
		// The floor is above, or nothing between the two is visible: the last row
		// that is, is below both.
		last, err := sess.Highest(ctx, sources.Range{After: st.Journal.Start, UpTo: to})
		if err != nil {
			return err
		}
		if st.Floor = last; last.IsZero() {
			st.Floor = st.Journal.Start
		}
	}
	st.Mark = to
	st.Journal.Entries, st.Journal.Ahead, st.Journal.Restored = nil, nil, nil
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
