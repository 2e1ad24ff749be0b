package capture

import (
	"context"
	"errors"
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

// atMark holds the row at the mark against its record, before a process reads for
// the first time, and each time while the table is known to be a restored one:
// another row there means that numbers ran backwards and have come past the
// mark since.
func (p *poll) atMark(ctx context.Context) error {
	st := p.st
	if p.everUp && st.Journal.Restored == nil || p.Class().Reused || st.Mark.Inclusive || same(st.Mark, st.Journal.Start) {
		return nil
	}
	at := st.Mark
	at.Inclusive = true
	page, err := p.sess.Page(ctx, sources.Range{After: at, UpTo: st.Mark, Whole: true}, 1)
	known := errors.Is(err, sources.ErrLocked) && st.Journal.Restored == nil // it is there
	if err != nil && !known {
		return err
	}
	if len(page.Rows) > 0 {
		if known, _, err = p.to.Recognise(ctx, page, 1); err != nil {
			return err
		}
	}
	switch {
	case known:
		st.Journal.Restored = nil
	case st.Journal.Restored != nil:
		return st.Journal.Restored
	case len(page.Rows) > 0:
		return p.restored(ctx, &RestoredError{Mark: st.Mark, Highest: st.Mark})
	}
	return nil
}

// restored stores that the table is not the one that was read, so that it stays
// known when its numbers have come past the mark.
func (p *poll) restored(ctx context.Context, e *RestoredError) error {
	p.st.Journal.Restored = e
	if err := p.to.Save(ctx, *p.st); err != nil {
		return err
	}
	return e
}

// lookUp holds the mark of class server against the highest row there is, where
// a poll found nothing above it: a table whose highest row is below the mark was
// restored, is another one, or has lost its newest rows. In class client the
// look back and reconcile find what turns up below the mark, whatever happened.
func (p *poll) lookUp(ctx context.Context) error {
	if p.everUp && p.boot()-p.lookedUp < lookUpEvery || same(p.st.Mark, p.st.Journal.Start) {
		return nil
	}
	p.everUp, p.lookedUp = true, p.boot()
	err := p.compareUp(ctx)
	if errors.Is(err, sources.ErrLocked) {
		return nil // a row that is locked is not gone; the next look will tell
	}
	return err
}

func (p *poll) compareUp(ctx context.Context) error {
	st, start := p.st, p.st.Journal.Start
	at := st.Mark
	at.Inclusive = true
	highest, err := p.sess.Highest(ctx, sources.Range{After: at})
	if err != nil || !highest.IsZero() {
		return err
	}
	page, err := p.sess.Page(ctx, sources.Range{UpTo: st.Mark, Newest: true, Whole: true}, 1)
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
	if !known {
		// All that came since the beginning may be gone.
		since, err := p.sess.Highest(ctx, sources.Range{After: start, UpTo: to})
		if err != nil {
			return err
		}
		if since.IsZero() && !start.IsZero() {
			known, to = true, start
		}
	}
	restored := !known || gone > deletedMost
	if restored {
		return p.restored(ctx, &RestoredError{Mark: st.Mark, Highest: page.Rows[0].Position, Known: known})
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
// that is not empty, or at a row that is another than it was.
type RestoredError struct {
	Mark    sources.Position `json:"mark"`
	Highest sources.Position `json:"highest"` // the last row, when it was found
	Known   bool             `json:"known"`   // that row is one that has landed
}

func (e *RestoredError) Error() string {
	if same(e.Mark, e.Highest) {
		return fmt.Sprintf("the row at the high-water mark %q is another than it was: an older copy of the table was restored, or it is another one", e.Mark)
	}
	what := "it is not the table that was read so far"
	if e.Known {
		what = "an older copy of it was restored"
	}
	return fmt.Sprintf("the high-water mark is %q, but the last row of the table is at %q: %s", e.Mark, e.Highest, what)
}
