package capture

import (
	"context"
	"errors"
	"time"

	"parkbridge/sources"
)

// Window is the stretch of time that a reconcile compares.
type Window struct {
	// From is its beginning; zero means as long ago as the config's window.
	From time.Time
	// To is its end; zero means now.
	To time.Time
}

// Walk reads a window of the source once more, in pages, oldest first, and hands
// each over; above tells that its rows lie above the mark, where no poll has
// come yet. begin is called before with what it covers: From is zero there where that is
// everything from the source's beginning on. Cursors that
// are times are compared as such; for others the window begins and ends at the
// mark of the nearest hour that the journal knows, outside of what was asked for.
func (p *Poller) Walk(ctx context.Context, r Reader, st State, w Window, begin func(Window) error, visit func(page sources.Page, above bool) error) (err error) {
	sess, err := patient(ctx, func() (Session, error) { return r.Session(ctx, false) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sess.Close()) }()
	above := false
	walk := &poll{Poller: p, Reader: r, st: &st, sess: sess, land: func(_ context.Context, page sources.Page, _ State) error {
		return visit(page, above)
	}}
	pages := func(in sources.Range) error {
		_, _, err := walk.read(ctx, zone{Range: in})
		return err
	}
	now, err := walk.moment(ctx)
	if err != nil {
		return err
	}
	if w.From.IsZero() {
		w.From = now.DB.Add(-p.Config.Reconcile.Window)
	}
	like, err := sample(ctx, r, sess, st.Mark)
	if err != nil {
		return err
	}
	in := sources.Range{Since: st.Journal.Start}
	var timed bool
	if in.After, timed = r.At(w.From, like); timed {
		in.After.Inclusive = true
	} else {
		in.After = st.Journal.markAt(w.From)
	}
	span := w
	if in.After.IsZero() {
		span.From = time.Time{}
	}
	if !w.To.IsZero() {
		if in.UpTo, timed = r.At(w.To, like); timed {
			in.Below = true
		} else {
			in.UpTo = st.Journal.markAfter(w.To)
		}
	}
	if err := begin(span); err != nil {
		return err
	}
	if !w.To.IsZero() && !in.UpTo.IsZero() {
		return pages(in)
	}
	in.UpTo = st.Mark
	if !st.Mark.IsZero() && !st.Mark.Inclusive {
		if err := pages(in); err != nil {
			return err
		}
	}
	above = true // so are rows without a cursor, which are read at every poll
	if err := pages(sources.Range{After: st.Mark, Since: in.After}); err != nil {
		return err
	}
	if p.Config.NullCursor == NullInclude && r.CursorMayBeNull() {
		_, err = walk.nulls(ctx, 0)
	}
	return err
}

// markAfter is the first mark noted at or after a time; zero where there is none
// yet.
func (j *Journal) markAfter(t time.Time) sources.Position {
	for _, h := range j.Hours {
		if !h.At.Before(t) {
			return h.Mark
		}
	}
	return sources.Position{}
}
