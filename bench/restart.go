package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// starting measures how long it is from a program's start to its first push,
// with a ledger that is there already.
func starting(ctx context.Context, b *bench, engine string) error {
	out := newTable(engine+", from the start to the first push, small config, existing ledger: median (min-max) of 20", "program", "ms")
	for _, program := range b.programs() {
		s, done, err := b.site(ctx, task{engine: engine, rows: b.number(1000), concurrency: 8, table: "starting"}, "-arrivals")
		if err != nil {
			return err
		}
		defer done()
		if _, err := finish(b.carrying(ctx, s, program)); err != nil {
			return err
		}
		var times []float64
		for range 20 {
			id, _, err := s.lot.insert(ctx, s.table)
			if err != nil {
				return err
			}
			p, err := finish(b.carrying(ctx, s, program))
			if err != nil {
				return err
			}
			arrivals, err := s.gate.arrivals(ctx)
			if err != nil {
				return err
			}
			times = append(times, milliseconds(arrivals[id].Sub(p.started)))
		}
		b.results.note("start", engine+" "+program, "ms", times)
		out.row(program, spread(times, 1))
	}
	b.results.print(os.Stdout, out)
	return nil
}

// killing kills a program in the middle of its work, starts it again, and
// counts what it sends a second time.
func killing(ctx context.Context, b *bench, engine string) error {
	const kills = 10
	out := newTable(fmt.Sprintf("%s, repeats at the gate after SIGKILL: median (min-max) of %d", engine, kills), "program", "at a time", "repeats", "most / at a time")
	for _, concurrency := range b.concurrency {
		for _, program := range b.programs() {
			if program == "loop none" || program == "loop outcome" {
				continue // the first sends all again, the second forgets what was under way
			}
			var repeats []float64
			for range kills {
				n, err := b.killOnce(ctx, program, task{engine: engine, rows: b.number(10000), concurrency: concurrency})
				if err != nil {
					return err
				}
				repeats = append(repeats, float64(n))
			}
			b.results.note("kill", fmt.Sprintf("%s %s %d", engine, program, concurrency), "repeats", repeats)
			out.row(program, concurrency, spread(repeats, 0), fmt.Sprintf("%.2f", quantile(repeats, 1)/float64(concurrency)))
		}
	}
	b.results.print(os.Stdout, out)
	return nil
}

func (b *bench) killOnce(ctx context.Context, program string, t task) (repeats int, err error) {
	s, done, err := b.site(ctx, t)
	if err != nil {
		return 0, err
	}
	defer done()
	p, err := start(b.carrying(ctx, s, program))
	if err != nil {
		return 0, err
	}
	at := t.rows/10 + rand.N(t.rows*8/10)
	var c counts
	for deadline := time.Now().Add(time.Minute); c.Calls < at && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if c, err = s.gate.counts(ctx); err != nil {
			return 0, err
		}
	}
	p.kill()
	if _, err := finish(b.carrying(ctx, s, program)); err != nil {
		return 0, err
	}
	if c, err = s.gate.counts(ctx); err == nil && c.Taken != t.rows {
		err = fmt.Errorf("%s was killed at %d calls, and %d of %d rows came", program, at, c.Taken, t.rows)
	}
	return c.Repeats, err
}
