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

// settler writes answers down, as many as have gathered in one transaction; a
// landing that comes first takes them along.
type settler struct {
	ctx     context.Context //nolint:containedctx // it outlives the call that a stop cancels, and ends with close
	d       *delivery
	most    int           // answers that are worth a transaction of their own
	wake    chan struct{} // told where there may be something to write
	failed  chan struct{} // closed at the first error
	written chan struct{} // told when unwritten goes down
	waiting atomic.Int64  // answers that are not written yet
	done    sync.WaitGroup

	mu       sync.Mutex
	gathered []ledger.Settlement
	state    ledger.SinkState // as it is after the last answer
	news     int              // changes that are not written
	said     ledger.SinkState // as it was written last
	stale    bool             // what has changed since is not worth a write of its own
	urgent   bool             // what has gathered is to be written now
	flushes  []chan struct{}  // wishes to know that all before are written
	closed   bool
	err      error
}

const (
	// linger is how long answers gather while more are under way.
	linger = 5 * time.Millisecond
	// Answers that cannot be written for now are tried again this often.
	// sinkEvery is how often the time of the last acceptance is written while answers
	// keep coming.
	sinkEvery   = time.Second
	settleTries = 20
	settleWait  = time.Second
)

// newSettler starts a settler of answers to so many calls at a time.
func newSettler(ctx context.Context, d *delivery, concurrency int) *settler {
	s := &settler{
		ctx: ctx, d: d, most: concurrency,
		wake: make(chan struct{}, 1), failed: make(chan struct{}), written: make(chan struct{}, 1),
	}
	s.done.Go(s.run)
	return s
}

// add takes settlements, and the sink's state after them.
func (s *settler) add(some []ledger.Settlement, state ledger.SinkState) {
	s.waiting.Add(int64(len(some)))
	s.mu.Lock()
	s.gathered = append(s.gathered, some...)
	s.state = state
	s.news++
	tell := len(s.gathered) == len(some) || len(s.gathered) >= s.most
	s.mu.Unlock()
	if tell {
		notify(s.wake)
	}
}

// unwritten is how many settlements are not written yet.
func (s *settler) unwritten() int { return int(s.waiting.Load()) }

// addState writes the sink's state down without a settlement.
func (s *settler) addState(state ledger.SinkState) {
	s.add(nil, state)
	s.hurry()
}

// hurry has what has gathered written now: no more is to come for the moment.
func (s *settler) hurry() {
	s.mu.Lock()
	s.urgent = s.news > 0 || s.stale
	tell := s.urgent
	s.mu.Unlock()
	if tell {
		notify(s.wake)
	}
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
		some := s.news > 0 || s.stale || len(s.flushes) > 0
		now := s.urgent || s.closed || len(s.flushes) > 0 || len(s.gathered) >= s.most
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
				s.hurry()
			}
		default:
			<-s.wake
		}
	}
}

// take gives what has gathered, for a transaction that has begun. Answers of a
// source that another run has taken over are dropped: that run sends its records
// again, under their flow_no.
func (s *settler) take() *ledger.Answers {
	leases := s.d.held()
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.news == 0 && !s.stale) || s.err != nil {
		return nil
	}
	all := len(s.gathered)
	s.gathered = slices.DeleteFunc(s.gathered, func(x ledger.Settlement) bool { return !x.Reopen && leases[x.Source] == nil })
	s.waiting.Add(int64(len(s.gathered) - all))
	runs := map[string]int64{}
	for i := range s.gathered {
		if x := &s.gathered[i]; !x.Reopen && runs[x.Source] == 0 {
			if runs[x.Source] = s.d.runOf(x.Source).current.Load(); runs[x.Source] == 0 {
				return nil // noteRuns has it noted
			}
		}
	}
	n, news, flushes, state := len(s.gathered), s.news, len(s.flushes), s.state
	out := &ledger.Answers{Leases: leases, Runs: runs, Settlements: s.gathered[:n:n]}
	if s.urgent || s.closed || flushes > 0 || s.changed() {
		out.Sink = &state
	}
	s.urgent = false
	out.Written = func() { s.wrote(n, news, flushes, out.Sink) }
	return out
}

// changed reports that the sink's state is more than a little ahead of what is
// written.
func (s *settler) changed() bool {
	a, b := &s.state, &s.said
	return a.State != b.State || a.Reason != b.Reason || !a.Since.Equal(b.Since) || !a.RetryAt.Equal(b.RetryAt) ||
		!slices.Equal(a.RejectedRun, b.RejectedRun) || a.LastAcceptedAt.Sub(b.LastAcceptedAt) >= sinkEvery
}

// wrote takes what is written out of what has gathered, as much as take gave, or
// what is left of it where writing has failed meanwhile; said is the sink's state
// as it was written, nil where that was left out.
func (s *settler) wrote(n, news, flushes int, said *ledger.SinkState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale = said == nil; !s.stale {
		s.said = *said
	}
	n, news, flushes = min(n, len(s.gathered)), min(news, s.news), min(flushes, len(s.flushes))
	rest := copy(s.gathered, s.gathered[n:])
	clear(s.gathered[rest:])
	s.gathered = s.gathered[:rest]
	s.news -= news
	for _, flushed := range s.flushes[:flushes] {
		close(flushed)
	}
	s.flushes = s.flushes[flushes:]
	s.waiting.Add(-int64(n))
	notify(s.written)
}

// write settles what has gathered. After an error nothing more is written: the
// answers are lost, the records stay pending and go out again under their
// flow_no.
func (s *settler) write() {
	s.mu.Lock()
	n, news, flushes, state, failed, stale := len(s.gathered), s.news, len(s.flushes), s.state, s.err != nil, s.stale
	s.mu.Unlock()
	if !failed && (news > 0 || stale) {
		err := s.settle()
		for tries := 0; errors.Is(err, ledger.ErrTransient) && tries < settleTries; tries++ {
			// The answers are in hand, and to lose them is to send the records
			// again; sending waits meanwhile.
			<-time.After(settleWait)
			err = s.settle()
		}
		if err == nil {
			return
		}
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(s.failed)
	}
	s.wrote(n, news, flushes, &state) // or as if it were
}

// settle writes what has gathered.
func (s *settler) settle() error {
	for {
		err := s.noteRuns()
		if err == nil {
			err = s.d.b.Ledger.Settle(s.ctx, s.take)
		}
		lost := (*ledger.LostError)(nil)
		if !errors.As(err, &lost) {
			return err
		}
		s.d.lose(lost)
	}
}

// noteRuns has the runs noted that what has gathered counts for.
func (s *settler) noteRuns() error {
	leases := s.d.held()
	sources := map[string]bool{}
	s.mu.Lock()
	for i := range s.gathered {
		if x := &s.gathered[i]; !x.Reopen && leases[x.Source] != nil {
			sources[x.Source] = true
		}
	}
	s.mu.Unlock()
	for source := range sources {
		if _, err := s.d.noteRun(s.ctx, source); err != nil {
			return err
		}
	}
	return nil
}
