package capture

import (
	"context"
	"slices"
	"time"

	"parkbridge/sources"
)

// server polls a cursor that the source's server assigns.
//
// The rule of the floor, for transactions: poll k has read up to mark M. A list
// of open transactions that was taken no less than margin after that read ended
// holds every transaction that took a value up to M and has not ended. When a
// later look shows all of the list ended, every row up to M is visible to a
// read begun after that look; that read, begun at the old floor, may take the
// floor along with it as far as M. docs/correctness.md has the argument.
func (p *poll) server(ctx context.Context) (again bool, err error) {
	class, st := p.Class(), p.st
	if class.Serial {
		st.Seen = Seen{Class: class.String(), Why: class.Why, Rule: RuleSnapshot}
		if class.Reused && !st.Mark.IsZero() {
			// Numbers of deleted rows are given again, so the mark itself and some
			// rows below it may be others by now.
			last := zone{Range: sources.Range{Since: st.Journal.Start, UpTo: st.Mark, Newest: true}, limit: deletedMost + 1}
			if _, _, err := p.read(ctx, last); err != nil {
				return false, err
			}
		}
		_, _, err := p.read(ctx, zone{Range: sources.Range{After: st.Mark}, mark: true, floor: true})
		return false, err
	}
	if err := p.reread(ctx); err != nil {
		return false, err
	}
	if again, err = p.readOn(ctx); err != nil || again {
		return again, err
	}
	if err := p.parked(ctx); err != nil {
		return false, err
	}
	if !same(st.Mark, st.Floor) && !st.Journal.covers(st.Mark) {
		now, err := p.moment(ctx)
		if err != nil {
			return false, err
		}
		st.Journal.add(st.Mark, now)
	}
	p.describe(class)
	return false, nil
}

// window is how far back a mark of an hour may be asked for.
func (p *poll) window() time.Duration { return max(p.Config.Reconcile.Window, p.Config.Lookback) }

// reread reads what lies between the floor and the mark again, and takes the
// floor as far along as this poll's evidence allows.
func (p *poll) reread(ctx context.Context) error {
	st := p.st
	j := &st.Journal
	if j.Ahead != nil {
		if ok, err := p.passable(ctx, st.Floor, j.Ahead); err != nil {
			return err
		} else if ok {
			return p.followAhead(ctx)
		}
	}
	for i := len(j.Entries) - 1; i >= 0; i-- {
		if ok, err := p.passable(ctx, st.Floor, &j.Entries[i]); err != nil {
			return err
		} else if !ok {
			continue
		}
		// Everything up to this mark is visible now, or never will be.
		to := j.Entries[i].Mark
		_, done, err := p.read(ctx, zone{Range: sources.Range{After: st.Floor, UpTo: to}, floor: true})
		if err != nil {
			return err
		}
		if done {
			st.Floor, j.Entries = to, slices.Clone(j.Entries[i+1:])
		}
		break
	}
	if same(st.Floor, st.Mark) {
		return nil
	}
	_, done, err := p.read(ctx, zone{Range: sources.Range{After: st.Floor, UpTo: st.Mark}, limit: p.Config.RereadLimit})
	if err != nil || done {
		return err
	}
	return p.park(ctx)
}

// passable reports that the floor may pass an entry's mark, from where it is.
// Without evidence a settled mark is held by rows that are seen to be written
// and not committed; what has a value and is not written yet does not show.
func (p *poll) passable(ctx context.Context, from sources.Position, e *Entry) (bool, error) {
	if e.Parked || !p.look.ended(e) || p.look.None == "" {
		return e.Parked || p.look.ended(e), nil
	}
	key, err := p.sess.InFlight(ctx, sources.Range{After: from, UpTo: e.Mark, Newest: true}, p.Config.RereadLimit)
	if key != "" {
		p.uncommitted = key
	}
	return key == "", err
}

// followAhead reads history whose end was seen before: the floor follows the
// mark page by page, and nothing is read twice.
func (p *poll) followAhead(ctx context.Context) error {
	st := p.st
	j := &st.Journal
	if !same(st.Floor, st.Mark) && !j.Ahead.Parked {
		if _, done, err := p.read(ctx, zone{Range: sources.Range{After: st.Floor, UpTo: st.Mark}, floor: true}); err != nil || !done {
			return err // where a row is locked, reading goes on and the floor stays
		}
	}
	st.Floor, j.Entries = st.Mark, nil
	_, done, err := p.read(ctx, zone{Range: sources.Range{After: st.Mark, UpTo: j.Ahead.Mark}, mark: true, floor: true})
	if err != nil {
		return err
	}
	st.Mark = j.Ahead.Mark
	if done {
		st.Floor = st.Mark
	} else {
		j.Entries = []Entry{*j.Ahead}
	}
	j.Ahead = nil
	return nil
}

// readOn reads what lies above the mark. Where that is much, its end is noted
// first; once that note has aged enough for a list, the poll begins anew, so
// that the floor follows and history is read once.
func (p *poll) readOn(ctx context.Context) (again bool, err error) {
	st := p.st
	j := &st.Journal
	for {
		z := zone{Range: sources.Range{After: st.Mark}, mark: true}
		if j.Ahead != nil {
			z.UpTo, z.offline = j.Ahead.Mark, true
		}
		z.more = func() (bool, error) {
			if j.Ahead == nil {
				err := p.probe(ctx)
				return j.Ahead == nil, err
			}
			again = p.worthAnother(j.Ahead)
			return !again, nil
		}
		_, done, err := p.read(ctx, z)
		switch {
		case err != nil || again:
			return again, err
		case !done: // there is an end now to read up to
		case j.Ahead == nil:
			return false, nil
		default:
			st.Mark = j.Ahead.Mark
			j.Entries, j.Ahead = append(j.Entries, *j.Ahead), nil
		}
	}
}

// worthAnother reports that a look taken now would give an entry the list that
// the one before this poll came too early for.
func (p *poll) worthAnother(e *Entry) bool {
	if e.Listed || p.look.None != "" || p.look.at.since(e.Read) >= margin || p.boot()-max(e.Read.Boot, p.begunAnew) < margin {
		return false
	}
	p.begunAnew = p.boot()
	return true
}

// probe notes the highest row there is, where it is above the mark.
func (p *poll) probe(ctx context.Context) error {
	highest, err := patient(ctx, func() (sources.Position, error) {
		return p.sess.Highest(ctx, sources.Range{After: p.st.Mark})
	})
	if err != nil || highest.IsZero() {
		return err
	}
	now, err := p.moment(ctx)
	if err != nil {
		return err
	}
	p.st.Journal.Ahead = &Entry{Mark: highest, Read: now}
	return nil
}

// parkedEvery is how often a parked range is read again.
const parkedEvery = time.Hour

// park sets the range below the highest journalled mark aside with what holds
// it, so that the re-read does not grow for ever.
func (p *poll) park(ctx context.Context) error {
	st := p.st
	j := &st.Journal
	ready := func(e *Entry) bool { return e.Listed || p.look.None != "" }
	var entry *Entry
	for i := len(j.Entries) - 1; i >= 0 && entry == nil; i-- {
		if ready(&j.Entries[i]) {
			entry = &j.Entries[i]
			j.Entries = j.Entries[i+1:]
		}
	}
	to := st.Mark
	switch {
	case entry != nil:
		to = entry.Mark
	case j.Ahead != nil && ready(j.Ahead):
		j.Ahead.Parked = true
		entry, j.Entries = j.Ahead, nil
	default:
		return nil // no list yet; the next poll has one
	}
	now, err := p.moment(ctx)
	if err != nil {
		return err
	}
	parked := Parked{From: st.Floor, Entry: *entry, Since: now.DB, Last: now}
	if j.Parked != nil {
		// One range, grown: what was in the older list and is still open is in the
		// newer one too.
		parked.From, parked.Since, parked.Last = j.Parked.From, j.Parked.Since, j.Parked.Last
	}
	j.Parked, st.Floor = &parked, to
	return nil
}

// parked reads the parked range again when its hour is over, and a last time
// when what holds it has ended.
func (p *poll) parked(ctx context.Context) error {
	j := &p.st.Journal
	if j.Parked == nil || p.look.Now.IsZero() {
		return nil
	}
	held := j.Parked.Entry
	held.Parked = false
	last, err := p.passable(ctx, j.Parked.From, &held)
	if err != nil {
		return err
	}
	if age := p.look.at.since(j.Parked.Last); !last && age >= 0 && age < parkedEvery {
		return nil
	}
	_, done, err := p.read(ctx, zone{Range: sources.Range{After: j.Parked.From, UpTo: j.Parked.Entry.Mark}, whole: last})
	if err != nil {
		return err
	}
	last = last && done
	if j.Parked.Last = p.look.at; last {
		j.Parked = nil
	}
	return nil
}

// describe says by which rule the source lives, and what holds the floor.
func (p *poll) describe(class sources.Class) {
	j, was := &p.st.Journal, p.st.Seen
	seen := Seen{Class: class.String(), Why: class.Why, Rule: RuleTransactions}
	if p.look.Now.IsZero() { // no look was needed; the last one still says
		seen.Rule, seen.RuleWhy = was.Rule, was.RuleWhy
	} else if p.look.None != "" {
		seen.Rule, seen.RuleWhy = RuleSettle, p.look.None
	}
	var entry *Entry
	switch {
	case j.Parked != nil:
		entry = &j.Parked.Entry
	case len(j.Entries) > 0:
		entry = &j.Entries[0]
	}
	if entry != nil && !p.look.Now.IsZero() {
		seen.HeldBy, seen.HeldSince = p.look.heldBy(entry)
	}
	if p.uncommitted != "" {
		seen.HeldBy = "a row that is not committed (key " + p.uncommitted + ")"
	} else if p.locked {
		seen.HeldBy = "rows that another session holds locked"
	}
	p.st.Seen = seen
}

// heldBy says what holds an entry, and since when; "" where nothing does, or
// where it has no list yet.
func (l *look) heldBy(e *Entry) (who string, since time.Time) {
	switch {
	case l.None != "":
		return "rows younger than settle", e.Read.DB
	case l.Stale != "":
		return l.Stale, e.Read.DB
	case !e.Listed:
		return "", since
	}
	t, held := l.holder(e)
	if held && t.Since.IsZero() {
		t.Since = e.ListedAt
	}
	return t.Who, t.Since
}
