package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

const (
	// heldMost is how many held records one run reads again. Where there are more,
	// the next run goes on behind them.
	heldMost = 1000
	// readyTimeout is the default of [Source].ReadyTimeout.
	readyTimeout = 168 * time.Hour
)

// readied is content for a row that may not be ready: that has no content yet,
// and its record is held.
func (l *lander) readied(c candidate, revision, generation int) (sink.Fields, ledger.Content) {
	from := l.origin(revision, generation)
	fields, content := l.content(c, from)
	return l.s.awaited(c.row.Values, from, fields, content)
}

// awaited leaves of a row that is not ready its hash and its day alone: what else
// it says is about to change.
func (s *Source) awaited(values []sources.Value, origin mapping.Origin, fields sink.Fields, c ledger.Content) (sink.Fields, ledger.Content) {
	ready, problem := s.Program.Ready(values, origin)
	switch {
	case problem != nil:
		c.Mapped = ledger.Mapped{Problems: append(c.Problems, ledger.Problem(*problem))}
		return nil, c
	case !ready:
		return nil, ledger.Content{Hash: c.Hash, Day: c.Day, Mapped: ledger.Mapped{Held: true}}
	}
	return fields, c
}

// compareHeld says what a row does to its held record; nil: nothing.
func (l *lander) compareHeld(c candidate, k ledger.Known) *ledger.Change {
	_, content := l.readied(c, k.Revision, k.Generation)
	if content.Held && c.hash == k.Hash {
		return nil
	}
	return &ledger.Change{ID: k.ID, Was: k.Hash, Key: c.row.Key, Held: true, To: &content}
}

// readHeld reads held records' rows again by their keys, heldMost of them at the
// most, and lands what has become of them. A source without a condition is looked
// at once: what is held there is so by an earlier config.
func (l *lander) readHeld(ctx context.Context, r Reader, state *capture.State) (err error) {
	if l.s.Program.Condition() == "" && l.s.noneHeld {
		return nil
	}
	begun := state.Journal.HeldAfter
	held, err := l.b.Ledger.Held(ctx, l.s.Name, l.s.Table, begun, heldMost)
	if err == nil && len(held) == 0 && begun > 0 { // once round
		begun = 0
		held, err = l.b.Ledger.Held(ctx, l.s.Name, l.s.Table, begun, heldMost)
	}
	if err != nil {
		return err
	}
	if l.s.noneHeld = len(held) == 0; l.s.noneHeld {
		return nil
	}
	sess, err := r.Session(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sess.Close()) }()
	for batch := range slices.Chunk(held, existPage) {
		asked := time.Now()
		rows, unread, err := rowsOf(ctx, sess, batch)
		if err != nil {
			return err
		}
		l.read += len(rows)
		last := batch[len(batch)-1].ID
		done := last == held[len(held)-1].ID
		switch {
		case done && len(held) < heldMost:
			state.Journal.HeldAfter = 0
		case begun > 0 || len(held) == heldMost:
			state.Journal.HeldAfter = last
		}
		if changes := l.judge(batch, rows, unread); len(changes) > 0 {
			if err := l.write(ctx, encodeState(*state), &sifted{changes: changes}); err != nil {
				return err
			}
		}
		if done {
			break
		}
		if err := l.s.Poller.Config.Pause(ctx, len(rows), asked); err != nil {
			return err
		}
	}
	return l.Save(ctx, *state)
}

// dropHeld ends what is held of a table that is no longer there.
func (l *lander) dropHeld(ctx context.Context, state capture.State) error {
	for {
		held, err := l.b.Ledger.Held(ctx, l.s.Name, l.s.Table, 0, existPage)
		if err != nil || len(held) == 0 {
			return err
		}
		if err := l.write(ctx, encodeState(state), &sifted{changes: l.judge(held, nil, nil)}); err != nil {
			return err
		}
	}
}

// rowsOf reads the rows of held records, by their keys. unread are those that
// another session holds locked: these are not gone, and the next run will tell.
func rowsOf(ctx context.Context, sess capture.Session, held []ledger.HeldRecord) (rows map[string]sources.Row, unread map[string]bool, err error) {
	keys := make([]string, len(held))
	for i, h := range held {
		keys[i] = h.Key
	}
	page, err := sess.ByKeys(ctx, keys)
	rows, unread = map[string]sources.Row{}, map[string]bool{}
	switch {
	case errors.Is(err, sources.ErrLocked) && len(held) == 1:
		unread[keys[0]] = true
		return rows, unread, nil
	case errors.Is(err, sources.ErrLocked):
		for _, half := range [][]ledger.HeldRecord{held[:len(held)/2], held[len(held)/2:]} {
			some, left, err := rowsOf(ctx, sess, half)
			if err != nil {
				return nil, nil, err
			}
			maps.Copy(rows, some)
			maps.Copy(unread, left)
		}
		return rows, unread, nil
	case err != nil:
		return nil, nil, err
	}
	for _, row := range page.Rows {
		rows[row.Key] = row
	}
	return rows, unread, nil
}

// judge says what has become of held records.
func (l *lander) judge(held []ledger.HeldRecord, rows map[string]sources.Row, unread map[string]bool) (changes []ledger.Change) {
	for _, h := range held {
		if unread[h.Key] {
			continue
		}
		row, there := rows[h.Key]
		c := candidate{row: row}
		k := ledger.Known{ID: h.ID, Hash: h.Hash, Day: h.Day, Generation: h.Generation, Revision: h.Revision}
		if there {
			c.hash, c.identity = l.mapper.hashes(row.Values)
		}
		if !there || l.refilled(c, k) { // with its table, perhaps, which was filled anew
			changes = append(changes, ledger.Change{ID: h.ID, Was: h.Hash, Key: h.Key, Held: true, To: &ledger.Content{Day: h.Day, Mapped: gone()}})
			continue
		}
		change := l.compareHeld(c, k)
		if (change == nil || change.To.Held) && l.s.expired(h.FirstSeenAt, l.b.Now()) {
			_, content := l.content(c, l.origin(h.Revision, h.Generation))
			content.Mapped = l.s.tooLate()
			change = &ledger.Change{ID: h.ID, Was: h.Hash, Key: h.Key, Held: true, To: &content}
		}
		if change != nil {
			changes = append(changes, *change)
		}
	}
	return changes
}

// gone is what is left of a row that was deleted while it was held.
func gone() ledger.Mapped {
	return ledger.Mapped{Problems: []ledger.Problem{{Field: mapping.FieldReady, Problem: "the row is no longer in the source, and was not ready before: it was deleted there, or where leaves it out now"}}}
}

// tooLate is what becomes of a row that was not ready in time.
func (s *Source) tooLate() ledger.Mapped {
	return ledger.Mapped{Problems: []ledger.Problem{{Field: mapping.FieldReady, Problem: fmt.Sprintf(
		"%s was not true within %s (ready_timeout); once it is, say records retry; records retry --force sends the row as it is", s.Program.Condition(), sources.ShortDuration(s.readyTimeout()))}}}
}

func (s *Source) readyTimeout() time.Duration {
	if s.ReadyTimeout == 0 {
		return readyTimeout
	}
	return s.ReadyTimeout
}

// expired reports that a row first seen at a time has had its time to be ready.
func (s *Source) expired(seen, now time.Time) bool { return !now.Before(seen.Add(s.readyTimeout())) }

// reopened notes records that a landing has made pending again, where there is no
// later sweep to find them.
func (d *delivery) reopened(changes []ledger.Change) {
	if d.backingOff {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		if c.To != nil && !c.To.Held && len(c.To.Problems) == 0 {
			d.late = append(d.late, c.ID)
		}
	}
}

// takeReopened puts the records into the queue that have become pending again
// behind the sweep's back. more tells that there are some.
func (d *delivery) takeReopened(ctx context.Context) (more bool, err error) {
	d.mu.Lock()
	ids := d.late
	d.late = nil
	d.mu.Unlock()
	if len(ids) == 0 || d.limited() || !d.settler.flush() {
		return false, nil
	}
	due, err := d.b.Ledger.DueOf(context.WithoutCancel(ctx), d.query(), ids)
	for d.loses(err) {
		due, err = d.b.Ledger.DueOf(context.WithoutCancel(ctx), d.query(), ids)
	}
	if err != nil {
		return false, err
	}
	for _, one := range due {
		if one.Attempts > 0 || !one.RefusedAt.IsZero() {
			continue // the sweep has come by
		}
		r, err := d.read(one)
		if err != nil {
			return false, err
		}
		d.queue = append(d.queue, r)
	}
	return len(d.queue) > 0, nil
}
