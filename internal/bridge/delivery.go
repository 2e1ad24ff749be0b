package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"parkbridge/internal/ledger"
	"parkbridge/sink"
)

// delivery sends due records and settles the answers. One goroutine conducts:
// it alone decides what is sent next and what an answer means. Senders only
// send, the settler only writes.
type delivery struct {
	b       *Bridge
	log     *slog.Logger
	limit   int // most records to send; 0 means all
	limiter *rate.Limiter

	// shared with the goroutines that capture
	mu        sync.Mutex
	leases    map[string]*ledger.Lease
	runs      map[string]*run
	lost      map[string]*ledger.LostError // leases that another run has taken over
	capturing bool
	woken     chan struct{}
	told      map[string]string // holders of other runs that were logged, by source
	fresh     handed
	late      []int64 // see reopened

	// the conductor's own
	verdict           // what answers say about the gate
	queue   []*record // in order of landing
	lastID  int64     // the last one that came into the queue in this sweep
	// behind tells that the ledger may hold records above lastID which were not
	// handed over; waiting, that it holds some which this sweep passes by, so that
	// only the ledger knows who waits for whom.
	behind, waiting bool
	dry             bool           // nothing more to fetch since the last wake
	dryEnd          bool           // and nothing can have landed since: capture had ended
	probed          map[int64]bool // sent as probes in this sweep
	// backingOff leaves records alone while their backoff runs; a sync does not.
	backingOff bool
	inFlight   map[string]int    // records under way, by serial
	chained    map[string]*chain // records that wait for an earlier one of their serial
	chainLen   int
	// again holds refused records that go out once more, ahead of all others;
	// their serials are chained already.
	again      []*record
	sweepStart time.Time // zero where no record is passed by
	sweepWish  bool      // a new sweep is to begin when this one's queue is through
	paced      *time.Timer
	sending    int
	sent       int
	jobs       chan job
	answers    chan answer
	settler    *settler
}

// record is one that may be sent.
type record struct {
	ledger.Due
	fields sink.Fields
	// serial names the (lot, parking serial) whose records go one after another;
	// "" for a record that waits for none.
	serial string
}

// read makes a record of what the ledger gives.
func (d *delivery) read(due ledger.Due) (*record, error) {
	fields, err := decodeFields(due.Fields)
	if err != nil {
		return nil, fmt.Errorf("reading the fields of record %d: %w", due.ID, err)
	}
	return d.record(due, fields), nil
}

func (d *delivery) record(due ledger.Due, fields sink.Fields) *record {
	r := &record{Due: due, fields: fields}
	if r.ParkingSerial != "" && !slices.Contains(d.b.Settings.UnorderedSerials, r.ParkingSerial) {
		r.serial = r.ParkUUID + "\x00" + r.ParkingSerial
	}
	return r
}

type job struct {
	*record
	probe bool
}

type answer struct {
	job
	reply sink.Reply
	begun time.Time
	at    time.Time // to the millisecond, as the ledger keeps it
	cut   bool      // broken off by our own stop
}

// chain holds the later records of a serial while an earlier one is under way.
type chain struct {
	records []*record
	dead    bool // the earlier one stays pending: the others wait for the next sweep
}

const (
	fetchPage = 500
	// chainMost bounds the records held back in memory for their serials.
	chainMost = 5000
	// stopGrace is how long calls under way may go on once asked to stop.
	stopGrace = 8 * time.Second
)

func (b *Bridge) newDelivery(limit int) *delivery {
	return &delivery{
		b: b, log: b.Log, limit: limit, limiter: b.Settings.limiter(),
		leases: map[string]*ledger.Lease{}, runs: map[string]*run{}, lost: map[string]*ledger.LostError{}, capturing: true, woken: make(chan struct{}, 1),
		told: map[string]string{}, fresh: handed{taken: make(chan struct{}, 1)}, behind: true,
		inFlight: map[string]int{}, chained: map[string]*chain{}, probed: map[int64]bool{},
	}
}

// wake tells the conductor that there may be more to send.
func (d *delivery) wake() { notify(d.woken) }

// notify tells a channel with room for one that there is news.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// captured tells that no more records will land.
func (d *delivery) captured() {
	d.mu.Lock()
	d.capturing = false
	d.mu.Unlock()
	d.wake()
}

func (d *delivery) isCapturing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.capturing
}

// limited reports that as many records were sent as may be. A refused one
// does not count: the platform did not take it.
func (d *delivery) limited() bool { return d.limit > 0 && d.sent >= d.limit }

// stoppedByLimit reports that the limit, and nothing that went wrong, is why
// records are left.
func (d *delivery) stoppedByLimit() bool {
	return d.limited() && d.mode == sendingAll && d.failures == 0
}

// query says which records this delivery may take.
func (d *delivery) query() ledger.DueQuery {
	leases := d.held()
	q := ledger.DueQuery{Unordered: d.b.Settings.UnorderedSerials, SweepStart: d.sweepStart}
	for _, name := range slices.Sorted(maps.Keys(leases)) {
		q.Leases = append(q.Leases, leases[name])
	}
	return q
}

// start begins the goroutines; the returned function ends them, writes every
// answer down, and gives the first error of settling.
func (d *delivery) start(ctx context.Context) (stop func() error, err error) {
	if err := d.settleNoted(ctx); err != nil {
		return nil, err
	}
	if err := d.load(ctx, d.b); err != nil {
		return nil, err
	}
	work := context.WithoutCancel(ctx)
	calls, cut := context.WithCancel(work)
	// Asked to stop, calls under way get a while to bring their answer home.
	release := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cut) })
	d.paced = time.NewTimer(time.Hour)
	d.paced.Stop()
	n := d.b.Settings.Concurrency
	d.jobs, d.answers = make(chan job), make(chan answer, n)
	d.settler = newSettler(work, d, ctx.Done())
	var senders sync.WaitGroup
	for range n {
		senders.Go(func() {
			for j := range d.jobs {
				begun := d.b.Now()
				reply := d.b.Gate.Send(calls, j.fields)
				d.answers <- answer{
					job: j, reply: reply, begun: begun, at: d.b.Now().Truncate(time.Millisecond),
					cut: calls.Err() != nil && reply.Outcome == sink.Retry,
				}
			}
		})
	}
	return func() error {
		for d.sending > 0 {
			d.settleAnswers(<-d.answers)
		}
		if d.admit() {
			d.settler.addState(d.sink)
		}
		close(d.jobs)
		senders.Wait()
		d.paced.Stop()
		release()
		cut()
		return d.settler.close()
	}, nil
}

// sweepOnce sends every pending record once, for a sync. It returns when the
// sources are read and nothing is left that may be sent now.
func (d *delivery) sweepOnce(ctx context.Context) error {
	stop, err := d.start(ctx)
	if err != nil {
		return err
	}
	err = d.sweep(ctx)
	return errors.Join(err, stop())
}

func (d *delivery) sweep(ctx context.Context) error {
	if d.waitUntil().After(d.b.Now()) {
		d.log.Warn("the gate asked to be left alone; sending nothing until then", "until", d.waitUntil())
		d.mode = stopped
	} else if d.sink.State == ledger.SinkBlocked {
		d.mode = probing
	}
	if err := d.lookForWaiting(ctx); err != nil {
		return err
	}
	for {
		// A blocked sink is tried with one record, and which one that is is best
		// known when all have landed.
		if d.sink.State != ledger.SinkBlocked || d.mode != probing || !d.isCapturing() {
			if err := d.dispatch(ctx); err != nil {
				return err
			}
		}
		if d.sending == 0 {
			d.settler.hurry()
		}
		if d.sending == 0 && d.mode == stopped {
			return nil
		}
		if d.sending == 0 && !d.isCapturing() && (d.limited() || d.exhausted()) {
			if more, err := d.takeReopened(ctx); err != nil || !more {
				return err
			}
			continue
		}
		select {
		case a := <-d.answers:
			d.settleAnswers(a)
		case <-d.woken:
			d.dry = false
		case <-d.settler.written:
		case <-d.paced.C:
		case <-ctx.Done():
			return nil
		case <-d.settler.failed:
			return nil // stop gives the error
		}
	}
}

// exhausted reports that the sweep has come to its end: everything fetched was
// sent, and there is nothing more to fetch.
func (d *delivery) exhausted() bool {
	return d.mode == sendingAll && d.dry && d.dryEnd && len(d.queue)+len(d.again) == 0
}

// dispatch hands out as many records as may be under way.
func (d *delivery) dispatch(ctx context.Context) error {
	n := d.b.Settings.Concurrency
	for d.sending < n && d.settler.room() && !d.limited() && ctx.Err() == nil {
		var next *record
		var err error
		probe := false
		if !d.mayCall() {
			return nil
		}
		switch d.mode {
		case stopped:
			return nil
		case sendingAll:
			next, err = d.nextDue(ctx)
		case probing:
			if d.sending > 0 {
				return nil // one at a time, and only when all others are answered
			}
			// What is answered must be settled, or the ledger would offer it again.
			if !d.settler.flush() {
				return nil // stop gives the error
			}
			probe = true
			capturing := d.isCapturing() // before the look, as in nextDue
			next, err = d.nextProbe(ctx)
			if next == nil && err == nil && capturing && !d.backingOff {
				return nil // another record may land yet
			}
			if next == nil && err == nil {
				d.noProbe()
				d.settler.addState(d.sink)
				continue
			}
		}
		if err != nil || next == nil {
			return err
		}
		if d.limiter != nil {
			d.limiter.Allow()
		}
		d.sent++
		d.sending++
		if key := next.serial; probe {
			d.probed[next.ID] = true
			if key != "" && d.chained[key] == nil {
				d.chained[key] = &chain{}
			}
		}
		d.inFlight[next.serial]++
		d.jobs <- job{next, probe}
	}
	if d.mode == probing && d.limited() && d.sending == 0 {
		d.noProbe()
		d.settler.addState(d.sink)
	}
	return nil
}

// mayCall reports whether the rate limit lets a call begin now; where it does
// not, the conductor is woken when it will.
func (d *delivery) mayCall() bool {
	if d.limiter == nil {
		return true
	}
	missing := 1 - d.limiter.Tokens()
	if missing <= 0 {
		return true
	}
	d.paced.Reset(time.Duration(missing / float64(d.limiter.Limit()) * float64(time.Second)))
	return false
}

// settleAnswers takes in an answer and those that have come with it.
func (d *delivery) settleAnswers(a answer) {
	for {
		d.settleAnswer(a)
		select {
		case a = <-d.answers:
		default:
			d.settler.note()
			return
		}
	}
}

// settleAnswer takes an answer in: what it means for the record, and what for
// the gate.
func (d *delivery) settleAnswer(a answer) {
	d.sending--
	key := a.serial
	if d.inFlight[key]--; d.inFlight[key] == 0 {
		delete(d.inFlight, key)
	}
	if some := d.judge(a); len(some) > 0 {
		d.settler.add(some, d.sink)
	}
	for _, r := range d.freed {
		d.release(r.record, r.done)
	}
	d.freed = d.freed[:0]
	d.again = append(d.again, d.requeued...)
	d.requeued = d.requeued[:0]
	if a.reply.Outcome == sink.Refused {
		d.sent--
	}
}
