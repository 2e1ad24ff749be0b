package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"time"
)

// carried is what one program did with a table.
type carried struct {
	Program     string  `json:"program"`
	Engine      string  `json:"engine"`
	Concurrency int     `json:"concurrency"`
	LatencyMS   float64 `json:"latency_ms"`
	Round       int     `json:"round"`
	Rows        int     `json:"rows"`
	Rate        float64 `json:"rows_per_second"` // between the first and the last push, as the gate sees them
	Total       float64 `json:"total_seconds"`   // from the program's start to its end
	First       float64 `json:"first_push_seconds"`
	CPU         float64 `json:"cpu_us_per_row"` // of the program alone, user and system
	Peak        float64 `json:"peak_mb"`
	GateCPU     float64 `json:"gate_cpu_us_per_row"`
}

const product = "parkbridge"

// compare runs the product and the loops in turn on the same rows, each with a
// fresh ledger or status file and a fresh gate.
func compare(ctx context.Context, b *bench) error {
	for _, engine := range b.engines {
		for _, latency := range b.latency {
			for _, concurrency := range b.concurrency {
				if latency > 0 && concurrency != b.atOnce() {
					continue
				}
				if err := b.compareCase(ctx, engine, latency, concurrency); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// rowsFor keeps a case with latency to about five seconds a run.
func (b *bench) rowsFor(latency time.Duration, concurrency int) int {
	rows := b.number(20000)
	if latency > 0 {
		rows = min(rows, int(5*time.Second/latency)*concurrency)
	}
	return rows
}

func (b *bench) compareCase(ctx context.Context, engine string, latency time.Duration, concurrency int) error {
	rows := b.rowsFor(latency, concurrency)
	programs := []string{product}
	for _, status := range b.loops {
		programs = append(programs, "loop "+status)
	}
	var runs []carried
	for round := range b.rounds {
		order := slices.Clone(programs)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, program := range order {
			r, err := b.carry(ctx, program, engine, latency, concurrency, rows)
			if err != nil {
				return err
			}
			r.Round = round + 1
			runs = append(runs, r)
		}
	}
	b.results.Runs = append(b.results.Runs, runs...)
	t := newTable(fmt.Sprintf("%s, %d at a time, %s at the gate, %d rows, %d rounds: median (min-max); ratios are parkbridge's to the loop's, a round",
		engine, concurrency, latency, rows, b.rounds),
		"program", "rows/s", "ratio", "CPU µs/row", "ratio", "peak MB", "first push s", "total s", "ratio", "gate µs/row")
	for _, program := range programs {
		ratio := func(value func(carried) float64, digits int) (string, string) {
			own, theirs := pick(runs, product, value), pick(runs, program, value)
			if program == product {
				return spread(own, digits), ""
			}
			ratios := make([]float64, len(own))
			for i := range own {
				ratios[i] = own[i] / theirs[i]
			}
			return spread(theirs, digits), spread(ratios, 2)
		}
		rate, rateRatio := ratio(func(r carried) float64 { return r.Rate }, 0)
		cpu, cpuRatio := ratio(func(r carried) float64 { return r.CPU }, 1)
		peak, _ := ratio(func(r carried) float64 { return r.Peak }, 1)
		first, _ := ratio(func(r carried) float64 { return r.First }, 3)
		total, totalRatio := ratio(func(r carried) float64 { return r.Total }, 2)
		gate, _ := ratio(func(r carried) float64 { return r.GateCPU }, 1)
		t.row(program, rate, rateRatio, cpu, cpuRatio, peak, first, total, totalRatio, gate)
	}
	b.results.print(os.Stdout, t)
	return nil
}

// pick gives one figure of one program's runs, by round.
func pick(runs []carried, program string, value func(carried) float64) (values []float64) {
	for _, r := range runs {
		if r.Program == program {
			values = append(values, value(r))
		}
	}
	return values
}

// carry runs one program from its start to its end and checks that each row
// came to the gate once.
func (b *bench) carry(ctx context.Context, program, engine string, latency time.Duration, concurrency, rows int) (carried, error) {
	s, done, err := b.site(ctx, engine, rows, concurrency, latency)
	if err != nil {
		return carried{}, err
	}
	defer done()
	cmd := b.parkbridge(ctx, s, "sync")
	if status, ok := loopStatus(program); ok {
		cmd = b.loop(ctx, s, status)
	}
	p, err := start(cmd)
	if err != nil {
		return carried{}, err
	}
	u, err := p.wait()
	if err != nil {
		return carried{}, err
	}
	c, err := s.gate.counts(ctx)
	if err != nil {
		return carried{}, err
	}
	if c.Taken != rows || c.Calls != rows {
		return carried{}, fmt.Errorf("%s: %d rows came to the gate as %+v\n%s", program, rows, c, p.output.Bytes())
	}
	gate := s.gate.kill()
	perRow := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(rows) }
	return carried{
		Program: program, Engine: engine, Concurrency: concurrency, LatencyMS: float64(latency) / float64(time.Millisecond), Rows: rows,
		Rate:  float64(rows-1) / math.Max(time.Duration(c.Last-c.First).Seconds(), 1e-9),
		Total: u.wall.Seconds(), First: time.Unix(0, c.First).Sub(p.started).Seconds(),
		CPU: perRow(u.cpu), Peak: float64(u.peak) / (1 << 20), GateCPU: perRow(gate.cpu),
	}, nil
}
