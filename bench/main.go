// Command bench measures parkbridge beside a plain hand-written loop that does
// the same work on the same rows, and what else a site wants to know: the cost
// of an empty poll, of the first backfill, of being killed. `make bench` runs it
// with private database servers; docs/performance.md says how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is one call of the command.
type bench struct {
	options
	dir     string // of this call, removed at its end
	lots    map[string]*lot
	results results
}

type options struct {
	scenario             string
	engines, loops       []string
	concurrency          []int
	latency              []time.Duration
	rows, rounds, gather int
	linger               time.Duration
	product, out         string
}

// scenarios by name, for one engine; each prints its own table.
var scenarios = []struct {
	name string
	run  func(ctx context.Context, b *bench, engine string) error
}{
	{"compare", compare},
	{"empty", empty},
	{"growth", growth},
	{"start", starting},
	{"latency", latency},
	{"kill", killing},
	{"idle", idle},
	{"memory", memoryFlat},
	{"load", load},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	b := &bench{lots: map[string]*lot{}}
	if err := b.parse(args); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "parkbridge-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.closeLots(), os.RemoveAll(b.dir)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	b.results = newResults(ctx, args)
	b.results.head(os.Stdout)
	known := false
	for _, s := range scenarios {
		if s.name == b.scenario || b.scenario == "all" {
			known = true
			for _, engine := range b.engines {
				if err := s.run(ctx, b, engine); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, engine, err)
				}
			}
		}
	}
	if !known {
		return fmt.Errorf("there is no scenario %s", b.scenario)
	}
	return b.results.write(b.out)
}

func (b *bench) parse(args []string) error {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&b.scenario, "scenario", "compare", "one of "+strings.Join(names, ", ")+", all")
	engines := f.String("engines", "postgres,mysql,sqlite", "the databases to read")
	loops := f.String("loops", "durable", "what the loops note of a row: durable, outcome, none")
	concurrency := f.String("concurrency", "8,32,128", "calls at a time")
	latency := f.String("latency", "0,5ms,50ms", "of the gate's answers; those above 0 are tried at 32 calls at a time alone, with fewer rows")
	f.IntVar(&b.rows, "rows", 0, "rows in the table; 0: the scenario's own number")
	f.IntVar(&b.rounds, "rounds", 5, "how often everything is measured")
	f.IntVar(&b.gather, "gather", 1000, "the most answers that the loop notes in one transaction")
	f.DurationVar(&b.linger, "linger", 5*time.Millisecond, "how long the loop lets answers gather")
	f.StringVar(&b.product, "product", "", "a built parkbridge to measure in the place of this tree's")
	f.StringVar(&b.out, "out", "bench/results", "the folder for the results")
	if err := f.Parse(args); err != nil {
		return err
	}
	b.engines, b.loops = strings.Split(*engines, ","), strings.Split(*loops, ",")
	for s := range strings.SplitSeq(*concurrency, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("-concurrency: %w", err)
		}
		b.concurrency = append(b.concurrency, n)
	}
	for s := range strings.SplitSeq(*latency, ",") {
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("-latency: %w", err)
		}
		b.latency = append(b.latency, d)
	}
	return nil
}

// build builds the programs, the product as `make build` does where none is given.
func (b *bench) build(ctx context.Context) error {
	programs := []string{"./bench/loop", "./bench/gate"}
	if b.product == "" {
		programs = append(programs, "./cmd/parkbridge")
	}
	for _, program := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.program(filepath.Base(program)), program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	return nil
}

// program is the path of a built program.
func (b *bench) program(name string) string {
	if name == "parkbridge" && b.product != "" {
		return b.product
	}
	return filepath.Join(b.dir, name+".exe") // the ending does no harm elsewhere
}

// atOnce is the concurrency of cases that are tried at one alone.
func (b *bench) atOnce() int {
	if slices.Contains(b.concurrency, 32) {
		return 32
	}
	return b.concurrency[0]
}

// number is what was asked for, or else the scenario's own.
func (b *bench) number(own int) int {
	if b.rows > 0 {
		return b.rows
	}
	return own
}
