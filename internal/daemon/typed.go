package daemon

import (
	"context"
	"sync"
	"time"

	"parkbridge/internal/bridge"
	"parkbridge/internal/capture"
)

// typedEvery is how often a cursor is looked at by a program that runs on.
const typedEvery = time.Minute

// typed refuses to read by a cursor that holds values of several types: it looks
// before the first read and then once a minute, for a value of another type can
// come at any time.
type typed struct {
	bridge.Reader
	check func(context.Context) error
	now   func() time.Time

	mu   sync.Mutex
	last time.Time // when it was last found in order
}

// Session implements [bridge.Reader].
func (t *typed) Session(ctx context.Context, evidence bool) (capture.Session, error) {
	if err := t.look(ctx); err != nil {
		return nil, err
	}
	return t.Reader.Session(ctx, evidence)
}

func (t *typed) look(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if now.Sub(t.last).Abs() < typedEvery { // in whichever way the clock was moved
		return nil
	}
	if err := t.check(ctx); err != nil {
		return err
	}
	t.last = now
	return nil
}
