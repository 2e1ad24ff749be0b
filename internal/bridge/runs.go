package bridge

import (
	"context"
	"sync"
	"time"

	"parkbridge/internal/ledger"
)

// run is a source's run as it goes on. It is noted in the ledger once there is
// something to note; what is delivered after its end still counts for it.
type run struct {
	mu      sync.Mutex
	id      int64 // of the last one noted; 0: there is none
	active  bool
	noted   bool // the active one is
	started time.Time
	read    int // rows read that no landing has counted
	// empty counts the runs since the last one noted that found nothing and did
	// nothing, see [ledger.Run].
	empty      ledger.Run
	emptyNoted time.Time // when such ones were last noted
}

// emptyEvery is how often a daemon notes runs that found nothing.
const emptyEvery = time.Minute

func (d *delivery) runOf(source string) *run {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.runs[source]
	if r == nil {
		r = &run{}
		d.runs[source] = r
	}
	return r
}

// startRun begins a run of a source whose lease is held. What is delivered from
// now on counts for it.
func (d *delivery) startRun(source string) {
	r := d.runOf(source)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active, r.noted, r.started, r.read = true, false, d.b.Now(), 0
}

// countRead adds to the rows that a source's run has read and no landing has
// counted.
func (d *delivery) countRead(source string, rows int) {
	r := d.runOf(source)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read += rows
}

// noteRun gives the id of the run that landings and deliveries of a source count
// for, noting it where it is not yet.
func (d *delivery) noteRun(ctx context.Context, source string) (int64, error) {
	r := d.runOf(source)
	r.mu.Lock()
	defer r.mu.Unlock()
	return d.note(ctx, source, r)
}

func (d *delivery) note(ctx context.Context, source string, r *run) (id int64, err error) {
	if r.noted || (!r.active && r.id != 0) {
		return r.id, nil
	}
	if err := d.noteEmpty(ctx, r); err != nil {
		return 0, err
	}
	begun := r.started
	if !r.active {
		begun = d.b.Now()
	}
	if r.id, err = d.b.Ledger.BeginRun(ctx, source, begun); err != nil {
		return 0, err
	}
	if r.noted = r.active; !r.active { // delivered before any run: that is all there is of it
		_, err = d.b.Ledger.FinishRun(ctx, r.id, 0, nil)
	}
	return r.id, err
}

func (d *delivery) noteEmpty(ctx context.Context, r *run) error {
	if r.empty.Runs == 0 {
		return nil
	}
	err := d.b.Ledger.NoteEmptyRuns(ctx, r.empty)
	r.empty, r.emptyNoted = ledger.Run{}, d.b.Now()
	return err
}

// endRun ends a source's run; failure is nil for a good one.
func (d *delivery) endRun(ctx context.Context, source string, failure error) (ledger.Run, error) {
	r := d.runOf(source)
	r.mu.Lock()
	defer r.mu.Unlock()
	if failure != nil {
		if _, err := d.note(ctx, source, r); err != nil {
			return ledger.Run{}, err
		}
	}
	r.active = false
	if r.noted {
		return d.b.Ledger.FinishRun(ctx, r.id, r.read, failure)
	}
	this := ledger.Run{Source: source, Runs: 1, StartedAt: r.started, FinishedAt: d.b.Now(), Read: r.read}
	all := this
	if r.empty.Runs > 0 {
		all.FirstStartedAt = r.empty.FirstStartedAt
		all.Runs, all.Read = r.empty.Runs+1, r.empty.Read+r.read
	} else {
		all.FirstStartedAt = r.started
	}
	r.empty = all
	if d.b.Now().Sub(r.emptyNoted) < emptyEvery && d.backingOff {
		return this, nil
	}
	return this, d.noteEmpty(ctx, r)
}

// settleRuns notes what endRun has put off.
func (d *delivery) settleRuns(ctx context.Context, source string) error {
	r := d.runOf(source)
	r.mu.Lock()
	defer r.mu.Unlock()
	return d.noteEmpty(ctx, r)
}
