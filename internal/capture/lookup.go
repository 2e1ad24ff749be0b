package capture

import (
	"context"
	"fmt"
	"time"

	"parkbridge/sources"
)

const (
	lookUpEvery = time.Minute
	// Of the newestLooked records that landed last, deletedMost rows may be gone
	// and still be taken for deleted ones.
	newestLooked = 50
	deletedMost  = 10
)

// lookUp holds the mark against the highest row there is, where a poll found
// nothing above it: a table whose highest row is below the mark was restored,
// is another one, or has lost its newest rows.
func (p *poll) lookUp(ctx context.Context) error {
	st, start := p.st, p.st.Journal.Start
	if p.everUp && p.boot()-p.lookedUp < lookUpEvery || same(st.Mark, start) {
		return nil
	}
	p.everUp, p.lookedUp = true, p.boot()
	at := st.Mark
	at.Inclusive = true
	highest, err := p.sess.Highest(ctx, sources.Range{After: at})
	if err != nil || !highest.IsZero() {
		return err
	}
	page, err := p.sess.Page(ctx, sources.Range{UpTo: st.Mark, Newest: true}, 1)
	if err != nil || len(page.Rows) == 0 {
		return err // an empty table: it was purged
	}
	to := page.Rows[0].Position
	known, newest, err := p.to.Recognise(ctx, page, newestLooked)
	if err != nil {
		return err
	}
	gone, err := p.gone(ctx, newest)
	if err != nil {
		return err
	}
	restored := gone > deletedMost && p.Class().Server // elsewhere rows may leave the set by an update
	if !known {
		// All that came since the beginning may be gone.
		since, err := p.sess.Highest(ctx, sources.Range{After: start, UpTo: to})
		if err != nil {
			return err
		}
		switch {
		case since.IsZero() && !start.IsZero():
			to = start
		case p.Class().Server || gone > deletedMost:
			restored = true
		default: // it entered the set late, and is read with the next look back
		}
	}
	if restored {
		return &RestoredError{Mark: st.Mark, Highest: page.Rows[0].Position, Known: known}
	}
	// The newest rows are gone. What comes next may take their place, so reading
	// goes on from what is left.
	return stepBack(ctx, p.sess, st, to)
}

// gone counts the keys whose rows are no longer there.
func (p *poll) gone(ctx context.Context, keys []string) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	page, err := p.sess.ByKeys(ctx, keys)
	return len(keys) - len(page.Rows), err
}

// RestoredError says that a source's mark stands above everything in a table
// that is not empty.
type RestoredError struct {
	Mark, Highest sources.Position
	Known         bool // the highest row is one that has landed
}

func (e *RestoredError) Error() string {
	what := "it is not the table that was read so far"
	if e.Known {
		what = "an older copy of it was restored"
	}
	return fmt.Sprintf("the high-water mark is %q, but the last row of the table is at %q: %s", e.Mark, e.Highest, what)
}
