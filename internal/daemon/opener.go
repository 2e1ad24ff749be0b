package daemon

import (
	"context"
	"time"

	"parkbridge/internal/bridge"
	"parkbridge/internal/config"
	"parkbridge/sources"
)

// opener connects to a source, at first ahead of the time when it is needed.
// open is for one goroutine at a time.
type opener struct {
	cfg     *config.Config
	source  *config.Source
	drivers sources.Registry
	ahead   chan connection // nil: nothing is under way
}

type connection struct {
	reader bridge.Reader
	err    error
}

// begin connects in the background; the first open gets what comes of it.
func (o *opener) begin(ctx context.Context) {
	o.ahead = make(chan connection, 1)
	go func() {
		r, err := o.connect(ctx)
		o.ahead <- connection{r, err}
	}()
}

func (o *opener) open(ctx context.Context) (bridge.Reader, error) {
	if o.ahead == nil {
		return o.connect(ctx)
	}
	first := <-o.ahead
	o.ahead = nil
	return first.reader, first.err
}

func (o *opener) connect(ctx context.Context) (bridge.Reader, error) {
	r, err := sources.Open(ctx, o.drivers, o.source.Config, o.source.Program.Needs())
	if err != nil {
		return nil, o.cfg.Wrap(err)
	}
	return &typed{Reader: bridge.Table(r), check: r.CheckTypes, now: time.Now}, nil
}

// close ends a connection that nobody has taken.
func (o *opener) close() error {
	if o.ahead == nil {
		return nil
	}
	if first := <-o.ahead; first.err == nil {
		return first.reader.Close()
	}
	return nil
}
