package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parkbridge/internal/ledger"
)

// settler writes answers down, as many as have gathered in one transaction.
type settler struct {
	ctx     context.Context //nolint:containedctx // it outlives the call that a stop cancels, and ends with close
	d       *delivery
	stop    <-chan struct{} // closed when the delivery is to stop; nil: never
	wake    chan struct{}   // told where there may be something to write
	failed  chan struct{}   // closed at the first error
	written chan struct{}   // told when unwritten goes down
	waiting atomic.Int64    // answers that are not written yet

	// the conductor's own
	accepted []ledger.Settlement // on their way into the journals beside the ledger
	noted    bool                // these are not empty
	full     bool                // one of these is
	deaf     bool                // one of these could not be written the last time
	told     bool                // of that

	done sync.WaitGroup

	mu       sync.Mutex
	gathered []ledger.Settlement
	spare    []ledger.Settlement // the other of two that take turns
	state    ledger.SinkState    // as it is after the last answer
	news     bool                // state is not written yet
	urgent   bool                // what has gathered is to be written now
	flushes  []chan struct{}     // wishes to know that all before are written
	closed   bool
	err      error
}

const (
	// linger is how long answers gather while more are under way.
	linger = 5 * time.Millisecond
	// worthOne is how many answers are worth a transaction of their own; unwrittenMost
	// is with how many sending waits.
	worthOne      = 250
	unwrittenMost = 500
	// Answers that cannot be written for now are tried again this often; by a daemon,
	// until they can or it is to stop.
	settleTries = 20
	settleWait  = time.Second
)

func newSettler(ctx context.Context, d *delivery, stop <-chan struct{}) *settler {
	s := &settler{
		ctx: ctx, d: d, stop: stop,
		wake: make(chan struct{}, 1), failed: make(chan struct{}), written: make(chan struct{}, 1),
	}
	s.done.Go(s.run)
	return s
}

// add takes settlements, and the sink's state after them.
func (s *settler) add(some []ledger.Settlement, state ledger.SinkState) {
	for i := range some {
		if some[i].State == ledger.Delivered {
			s.accepted = append(s.accepted, some[i])
		}
	}
	s.waiting.Add(int64(len(some)))
	s.mu.Lock()
	s.gathered = append(s.gathered, some...)
	s.state, s.news = state, true
	tell := len(s.gathered) == len(some) || len(s.gathered) >= worthOne
	s.mu.Unlock()
	if tell {
		notify(s.wake)
	}
}

// note keeps the acceptances among what was added since it was last called: killed
// from here on, the process has them all the same, see [ledger.Lease.Note].
func (s *settler) note() {
	for rest := s.accepted; len(rest) > 0; {
		source, n := rest[0].Source, 1
		for n < len(rest) && rest[n].Source == source {
			n++
		}
		if lease := s.d.leaseOf(source); lease != nil {
			full, err := lease.Note(rest[:n])
			s.noted = true
			s.full = s.full || full
			if s.deaf = err != nil; s.deaf && !s.told {
				s.d.log.Warn("should this process be killed, records go out again that the gate has accepted a moment before", "source", source, "error", err)
				s.told = true
			}
		}
		rest = rest[n:]
	}
	clear(s.accepted)
	s.accepted = s.accepted[:0]
}

// room reports whether more answers may come: few where they cannot be noted. A full
// journal is emptied when all is written.
func (s *settler) room() bool {
	n, most := s.waiting.Load(), int64(unwrittenMost)
	if s.deaf {
		most = 2 * int64(s.d.b.Settings.Concurrency)
	}
	s.full = s.full && n > 0
	return n < most && !s.full
}

// addState writes the sink's state down without a settlement.
func (s *settler) addState(state ledger.SinkState) {
	s.add(nil, state)
	s.hurry()
}

// hurry has what has gathered written now, for no call is under way; where all is,
// the journals go.
func (s *settler) hurry() {
	if s.noted && s.waiting.Load() == 0 {
		for _, lease := range s.d.held() {
			lease.Tidy()
		}
		s.noted = false
	}
	if s.urge() {
		notify(s.wake)
	}
}

// urge has what has gathered written next, and reports whether there is anything.
func (s *settler) urge() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urgent = s.news
	return s.news
}

// flush returns when all that was added is written. ok is false where the
// settler has failed; close gives the error.
func (s *settler) flush() (ok bool) {
	flushed := make(chan struct{})
	s.mu.Lock()
	s.flushes = append(s.flushes, flushed)
	s.mu.Unlock()
	notify(s.wake)
	<-flushed
	return s.failure() == nil
}

func (s *settler) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// close writes what is left and gives the first error.
func (s *settler) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	notify(s.wake)
	s.done.Wait()
	return s.failure()
}

func (s *settler) run() {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	gathering := false
	for {
		s.mu.Lock()
		some := s.news || len(s.flushes) > 0
		now := s.urgent || s.closed || len(s.flushes) > 0 || len(s.gathered) >= worthOne
		closed := s.closed
		s.mu.Unlock()
		switch {
		case some && now:
			s.write()
			gathering = false
		case closed:
			return
		case some:
			if !gathering {
				timer.Reset(linger)
				gathering = true
			}
			select {
			case <-s.wake:
			case <-timer.C:
				s.urge()
			}
		default:
			<-s.wake
		}
	}
}

// write settles what has gathered. After an error nothing more is written: the
// answers are lost, the records stay pending and go out again under their
// flow_no.
func (s *settler) write() {
	s.mu.Lock()
	batch, state, news, flushes := s.gathered, s.state, s.news, s.flushes
	s.gathered, s.spare = s.spare[:0], nil
	s.news, s.urgent, s.flushes = false, false, nil
	failed := s.err != nil
	s.mu.Unlock()
	if news && !failed {
		err := s.settle(batch, &state)
		tries := 0
		for ; errors.Is(err, ledger.ErrTransient) && (tries < settleTries || s.mayWait()); tries++ {
			// The answers are in hand, and to lose them is to send the records
			// again; sending waits meanwhile.
			if tries == settleTries {
				s.d.log.Error("answers of the gate cannot be written; trying on, and sending waits", "answers", len(batch), "error", err)
			}
			<-time.After(settleWait)
			err = s.settle(batch, &state)
		}
		if tries > settleTries && err == nil {
			s.d.log.Info("answers of the gate are written again", "answers", len(batch))
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			close(s.failed)
		}
	}
	s.waiting.Add(-int64(len(batch)))
	clear(batch)
	s.mu.Lock()
	s.spare = batch
	s.mu.Unlock()
	notify(s.written)
	for _, flushed := range flushes {
		close(flushed)
	}
}

// mayWait reports that answers may be kept for as long as it takes.
func (s *settler) mayWait() bool {
	select {
	case <-s.stop:
		return false
	default:
		return s.d.backingOff
	}
}

// settle writes settlements. Those of a source that another run has taken over
// are dropped: that run sends its records again, under their flow_no.
func (s *settler) settle(settlements []ledger.Settlement, state *ledger.SinkState) error {
	for {
		runs, err := s.runs(settlements)
		if err != nil {
			return err
		}
		err = s.d.b.Ledger.Settle(s.ctx, ledger.Answers{Leases: s.d.held(), Runs: runs, Settlements: settlements, Sink: state})
		lost := (*ledger.LostError)(nil)
		if !errors.As(err, &lost) {
			return err
		}
		s.d.lose(lost)
		settlements = slices.DeleteFunc(slices.Clone(settlements), func(x ledger.Settlement) bool { return x.Source == lost.Source && !x.Reopen })
	}
}

// runs are those that settlements count for, by source.
func (s *settler) runs(settlements []ledger.Settlement) (map[string]int64, error) {
	out := map[string]int64{}
	for _, x := range settlements {
		if x.Reopen || out[x.Source] != 0 {
			continue
		}
		id, err := s.d.noteRun(s.ctx, x.Source)
		if err != nil {
			return nil, err
		}
		out[x.Source] = id
	}
	return out, nil
}
