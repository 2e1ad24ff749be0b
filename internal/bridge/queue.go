package bridge

import (
	"context"
	"maps"
	"slices"
)

// nextDue gives the next record that may be sent, or nil where there is none
// now.
func (d *delivery) nextDue(ctx context.Context) (*record, error) {
	for len(d.again) > 0 {
		next := d.again[0]
		d.again = d.again[1:]
		if d.leaseOf(next.Source) != nil {
			return next, nil
		}
	}
	for {
		if len(d.queue) == 0 {
			if d.sweepWish || d.chainLen >= chainMost {
				return nil, nil
			}
			if more, err := d.refill(ctx); err != nil || !more {
				return nil, err
			}
			continue
		}
		next := d.queue[0]
		d.queue = d.queue[1:]
		if d.probed[next.ID] || d.leaseOf(next.Source) == nil {
			continue
		}
		if key := next.serial; key != "" {
			if c := d.chained[key]; c != nil {
				if !c.dead {
					c.records = append(c.records, next)
					d.chainLen++
				}
				continue
			}
			d.chained[key] = &chain{}
		}
		return next, nil
	}
}

// refill gets more records into the queue: those handed over by the landings,
// else those that the ledger has. more tells that it is worth another look.
func (d *delivery) refill(ctx context.Context) (more bool, err error) {
	capturing := d.isCapturing() // before the look: what lands later than this is not in it
	if !d.behind && !d.waiting {
		fresh, spilt := d.fresh.take(d.lastID)
		if len(fresh) > 0 {
			d.queue, d.lastID = fresh, fresh[len(fresh)-1].ID
			return true, nil
		}
		if d.behind = spilt; !spilt {
			d.dry, d.dryEnd = true, !capturing
			return false, nil
		}
	}
	if d.dry && (d.dryEnd || capturing) {
		return false, nil
	}
	d.fresh.restart() // what lands from here on is handed over, or in what is read now
	q := d.query()
	q.AfterID, q.Limit = d.lastID, fetchPage
	if d.backingOff {
		q.Now = d.b.Now()
	}
	due, err := d.b.Ledger.Due(context.WithoutCancel(ctx), q)
	if d.loses(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	d.behind = len(due) == fetchPage
	if len(due) == 0 {
		d.dry, d.dryEnd = true, !capturing
		return !d.waiting && capturing, nil
	}
	for _, one := range due {
		r, err := d.read(one)
		if err != nil {
			return false, err
		}
		d.queue = append(d.queue, r)
	}
	d.lastID = due[len(due)-1].ID
	return true, nil
}

// lookForWaiting sees whether this sweep passes records by.
func (d *delivery) lookForWaiting(ctx context.Context) error {
	some, err := d.b.Ledger.Waiting(context.WithoutCancel(ctx), d.query())
	if d.loses(err) {
		return d.lookForWaiting(ctx)
	}
	d.waiting = some
	return err
}

// nextProbe gives the record to try the gate with.
func (d *delivery) nextProbe(ctx context.Context) (*record, error) {
	excluded := append(d.suspectIDs(), slices.Collect(maps.Keys(d.probed))...)
	for {
		due, err := d.b.Ledger.Probe(context.WithoutCancel(ctx), d.query(), excluded)
		if d.loses(err) {
			continue
		}
		if err != nil || len(due) == 0 {
			return nil, err
		}
		return d.read(due[0])
	}
}

// release lets the records go that waited for one of their serial: into the
// queue where the earlier one is done with, out of this sweep where it stays
// pending.
func (d *delivery) release(r *record, done bool) {
	key := r.serial
	c := d.chained[key]
	if c == nil || d.inFlight[key] > 0 {
		return
	}
	d.chainLen -= len(c.records)
	if !done {
		c.records, c.dead = nil, true
		return
	}
	delete(d.chained, key)
	if len(c.records) > 0 {
		d.queue = append(slices.Clip(c.records), d.queue...)
	}
}

// newSweep begins the walk over the pending records anew. Nothing may be under
// way, and what was answered must be settled.
func (d *delivery) newSweep(ctx context.Context) error {
	clear(d.chained)
	clear(d.probed)
	d.queue, d.again, d.lastID, d.chainLen, d.dry, d.sweepWish, d.behind = nil, nil, 0, 0, false, false, true
	d.sweepStart = d.b.Now()
	return d.lookForWaiting(ctx)
}
