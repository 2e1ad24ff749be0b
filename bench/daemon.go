package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// latency measures how long it is from a row's commit to its delivery by a
// daemon that polls each second. Half the interval is the floor.
func latency(ctx context.Context, b *bench, engine string) error {
	rows := b.number(100)
	s, done, err := b.site(ctx, task{engine: engine, rows: 1, of: 1000, concurrency: 8, schedule: "@every 1s", table: "latency"}, "-arrivals")
	if err != nil {
		return err
	}
	defer done()
	p, err := start(b.call(ctx, s, "run"))
	if err != nil {
		return err
	}
	defer p.kill()
	pause(ctx, 3*time.Second)
	committed := map[uint64]time.Time{}
	for range rows {
		id, came, err := s.lot.insert(ctx, s.table)
		if err != nil {
			return err
		}
		committed[id] = came
		pause(ctx, 200*time.Millisecond+rand.N(time.Second))
	}
	pause(ctx, 3*time.Second)
	arrivals, err := s.gate.arrivals(ctx)
	if err != nil {
		return err
	}
	var times []float64
	for id, came := range committed {
		if arrivals[id].IsZero() {
			return fmt.Errorf("row %d was not delivered:\n%s", id, p.output.Bytes())
		}
		times = append(times, milliseconds(arrivals[id].Sub(came)))
	}
	b.results.note("latency", engine, "ms", times)
	out := newTable(fmt.Sprintf("%s, from commit to the gate, a poll each second, %d rows", engine, rows), "median ms", "p99 ms", "most ms")
	out.row(fmt.Sprintf("%.0f", quantile(times, 0.5)), fmt.Sprintf("%.0f", quantile(times, 0.99)), fmt.Sprintf("%.0f", quantile(times, 1)))
	b.results.print(os.Stdout, out)
	return nil
}

// idle measures a daemon of 50 sources that find nothing new.
func idle(ctx context.Context, b *bench, engine string) error {
	const tables, seconds = 50, 60
	s, done, err := b.site(ctx, task{engine: engine, rows: 1, of: 1000, concurrency: 8, schedule: "@every 10s"})
	if err != nil {
		return err
	}
	defer done()
	var names []string
	for i := range tables {
		name := fmt.Sprintf("idle_%d", i)
		if err := s.lot.ready(ctx, name, s.of); err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := s.configure(names...); err != nil {
		return err
	}
	p, err := start(b.call(ctx, s, "run"))
	if err != nil {
		return err
	}
	defer p.kill()
	pause(ctx, 35*time.Second) // until every floor has caught up
	pid := p.cmd.Process.Pid
	before, at := processor(pid), time.Now()
	pause(ctx, seconds*time.Second)
	share := 100 * float64(processor(pid)-before) / float64(time.Since(at))
	resident, peak := float64(memory(pid, "VmRSS:"))/(1<<20), float64(memory(pid, "VmHWM:"))/(1<<20)
	b.results.note("idle", engine+" CPU", "% of a core", []float64{share})
	b.results.note("idle", engine+" memory", "MB", []float64{resident, peak})
	out := newTable(fmt.Sprintf("%s, a daemon of %d sources every 10 s, nothing new, for %d s", engine, tables, seconds), "CPU % of a core", "memory MB", "peak MB")
	out.row(fmt.Sprintf("%.2f", share), fmt.Sprintf("%.1f", resident), fmt.Sprintf("%.1f", peak))
	b.results.print(os.Stdout, out)
	return nil
}

// pause waits, unless the call is broken off.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
