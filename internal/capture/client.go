package capture

import (
	"context"
	"time"

	"parkbridge/sources"
)

// lookBackEvery is how often a stretch below the mark is read again.
const lookBackEvery = time.Minute

// overlap is what clocks are put back by in autumn, in almost every zone.
const overlap = time.Hour

// client polls a cursor whose values are not the server's to assign: clocks of
// lanes differ, uploads are late, rows enter the set by an update. No evidence
// helps, so a stretch below the mark is read again and again, and reconcile
// reads the rest.
func (p *poll) client(ctx context.Context) error {
	st := p.st
	class := p.Class()
	seen := Seen{Class: class.String(), Why: class.Why, Rule: RuleLookback, Future: st.Seen.Future, Nulls: st.Seen.Nulls}
	now, err := p.moment(ctx)
	if err != nil {
		return err
	}
	like, err := sample(ctx, p.Reader, p.sess, st.Mark)
	if err != nil {
		return err
	}
	before := st.Mark
	bound, timed := p.At(now.DB, like)
	// The mark never passes the database's own now. Without a row nothing says how
	// times are written, and what comes meanwhile is left to the next poll.
	if !like.IsZero() {
		if _, _, err := p.read(ctx, zone{Range: sources.Range{After: st.Mark, UpTo: bound}, mark: true}); err != nil {
			return err
		}
	}
	seen.Future = 0
	if timed {
		later := zone{Range: sources.Range{After: bound, Since: st.Journal.Start}, limit: p.Config.RereadLimit}
		if seen.Future, _, err = p.read(ctx, later); err != nil {
			return err
		}
	}
	if p.Config.NullCursor == NullInclude && p.CursorMayBeNull() {
		if seen.Nulls, err = p.nulls(ctx, p.Config.RereadLimit); err != nil {
			return err
		}
	}
	if !p.everBack || p.boot()-p.lookedBack >= lookBackEvery {
		p.everBack, p.lookedBack = true, p.boot()
		if err := p.lookBack(ctx, before, like, now); err != nil {
			return err
		}
		if p.Config.NullCursor != NullInclude && p.CursorMayBeNull() {
			if seen.Nulls, err = p.sess.CountNulls(ctx, NullsMost); err != nil {
				return err
			}
		}
	}
	st.Seen = seen
	return nil
}

// lookBack reads the stretch below where this poll began again, the newest rows
// first, and no more of it than reread_limit.
func (p *poll) lookBack(ctx context.Context, from, like sources.Position, now Moment) error {
	if from.IsZero() || from.Inclusive {
		return nil // this poll read everything there is
	}
	by := p.Config.Lookback
	if p.Zoneless(from) {
		by += overlap
	}
	low, timed := p.Shift(from, -by)
	if !timed { // no time at all, or one that is none, such as 0000-00-00
		if low, timed = p.At(now.DB.Add(-by), like); !timed {
			low = p.st.Journal.markAt(now.DB.Add(-by))
		}
	}
	_, done, err := p.read(ctx, zone{Range: sources.Range{After: low, Since: p.st.Journal.Start, UpTo: from, Newest: true}, limit: p.Config.RereadLimit})
	if done {
		p.st.Floor = low
	}
	return err
}

// nulls lands rows that have no cursor, the highest keys first, and counts them;
// a limit of 0 is none.
func (p *poll) nulls(ctx context.Context, limit int) (n int, err error) {
	for last := ""; ; {
		page, err := patient(ctx, func() (sources.Page, error) { return p.sess.Nulls(ctx, last, p.PageSize) })
		if err != nil || len(page.Rows) == 0 {
			return n, err
		}
		n += len(page.Rows)
		if err := p.land(ctx, page, *p.st); err != nil {
			return n, err
		}
		if !page.Full || (limit > 0 && n >= limit) {
			return n, nil
		}
		last = page.Rows[len(page.Rows)-1].Key
	}
}
