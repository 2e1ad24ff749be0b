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
	Table       int     `json:"rows_in_table"`
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
func compare(ctx context.Context, b *bench, engine string) error {
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
	t := task{engine: engine, rows: b.rowsFor(latency, concurrency), concurrency: concurrency, latency: latency}
	programs := b.programs()
	var runs []carried
	for round := range b.rounds {
		order := slices.Clone(programs)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, program := range order {
			r, err := b.carry(ctx, program, t)
			if err != nil {
				return err
			}
			r.Round = round + 1
			runs = append(runs, r)
		}
	}
	b.results.Runs = append(b.results.Runs, runs...)
	out := newTable(fmt.Sprintf("%s, %d at a time, %s at the gate, %d rows, %d rounds: median (min-max); ratios are parkbridge's to the loop's, a round",
		engine, concurrency, latency, t.rows, b.rounds),
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
		out.row(program, rate, rateRatio, cpu, cpuRatio, peak, first, total, totalRatio, gate)
	}
	b.results.print(os.Stdout, out)
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
func (b *bench) carry(ctx context.Context, program string, t task) (carried, error) {
	s, done, err := b.site(ctx, t)
	if err != nil {
		return carried{}, err
	}
	defer done()
	return b.carryAt(ctx, program, s)
}

func (b *bench) carryAt(ctx context.Context, program string, s *site) (carried, error) {
	p, err := start(b.carrying(ctx, s, program))
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
	if c.Taken != s.rows || c.Calls != s.rows {
		return carried{}, fmt.Errorf("%s: %d rows came to the gate as %+v\n%s", program, s.rows, c, p.output.Bytes())
	}
	gate := s.gate.kill()
	perRow := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(s.rows) }
	return carried{
		Program: program, Engine: s.engine, Concurrency: s.concurrency, LatencyMS: float64(s.latency) / float64(time.Millisecond),
		Rows: s.rows, Table: s.of,
		Rate:  float64(s.rows-1) / math.Max(time.Duration(c.Last-c.First).Seconds(), 1e-9),
		Total: u.wall.Seconds(), First: time.Unix(0, c.First).Sub(p.started).Seconds(),
		CPU: perRow(u.cpu), Peak: float64(u.peak) / (1 << 20), GateCPU: perRow(gate.cpu),
	}, nil
}
