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
	ctx    context.Context //nolint:containedctx // it outlives the call that a stop cancels, and ends with close
	d      *delivery
	in     chan settleItem
	failed chan struct{} // closed at the first error
	done   sync.WaitGroup
	// gathered counts what was added and is not written; written is told when
	// it goes down.
	gathered atomic.Int64
	written  chan struct{}

	mu  sync.Mutex
	err error
}

// Answers that cannot be written for now are tried again this often.
const (
	settleTries = 20
	settleWait  = time.Second
)

type settleItem struct {
	ledger.Settlement
	sink    ledger.SinkState // as it is after this answer
	flushed chan struct{}    // not nil: no settlement, but a wish to know that all before are written
	only    bool             // no settlement, the state alone
}

// newSettler starts a settler. At most waiting answers wait for it; then add
// blocks, and with it sending.
func newSettler(ctx context.Context, d *delivery, waiting int) *settler {
	s := &settler{ctx: ctx, d: d, in: make(chan settleItem, waiting), failed: make(chan struct{}), written: make(chan struct{}, 1)}
	s.done.Go(s.run)
	return s
}

func (s *settler) add(x ledger.Settlement, state ledger.SinkState) {
	s.gathered.Add(1)
	s.in <- settleItem{Settlement: x, sink: state}
}

// unwritten is how many settlements are not written yet.
func (s *settler) unwritten() int { return int(s.gathered.Load()) }

// addState writes the sink's state down without a settlement.
func (s *settler) addState(state ledger.SinkState) { s.in <- settleItem{sink: state, only: true} }

// flush returns when all that was added is written. ok is false where the
// settler has failed; close gives the error.
func (s *settler) flush() (ok bool) {
	flushed := make(chan struct{})
	s.in <- settleItem{flushed: flushed}
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
	close(s.in)
	s.done.Wait()
	return s.failure()
}

func (s *settler) run() {
	for item := range s.in {
		batch := []settleItem{item}
		for len(s.in) > 0 && len(batch) < 1000 {
			batch = append(batch, <-s.in)
		}
		s.write(batch)
	}
}

// write settles a batch. After an error nothing more is written: the answers
// are lost, the records stay pending and go out again under their flow_no.
func (s *settler) write(batch []settleItem) {
	var settlements []ledger.Settlement
	var state *ledger.SinkState
	for i, item := range batch {
		if item.flushed != nil {
			continue
		}
		state = &batch[i].sink
		if !item.only {
			settlements = append(settlements, item.Settlement)
		}
	}
	if state != nil && s.failure() == nil {
		err := s.settle(settlements, state)
		for tries := 0; errors.Is(err, ledger.ErrTransient) && tries < settleTries; tries++ {
			// The answers are in hand, and to lose them is to send the records
			// again; sending waits meanwhile.
			<-time.After(settleWait)
			err = s.settle(settlements, state)
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			close(s.failed)
		}
	}
	s.gathered.Add(-int64(len(settlements)))
	select {
	case s.written <- struct{}{}:
	default:
	}
	for _, item := range batch {
		if item.flushed != nil {
			close(item.flushed)
		}
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
		err = s.d.b.Ledger.Settle(s.ctx, s.d.held(), runs, settlements, state)
		lost := (*ledger.LostError)(nil)
		if !errors.As(err, &lost) {
			return err
		}
		s.d.lose(lost)
		settlements = slices.DeleteFunc(settlements, func(x ledger.Settlement) bool { return x.Source == lost.Source && !x.Reopen })
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
