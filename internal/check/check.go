// Package check looks whether a configuration would work: at its databases, its
// mapping, its ledger and the gate. It changes nothing and pushes nothing, goes
// on after a failure with what can still be looked at, and says for everything
// that is not well what to do.
package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	"parkbridge/internal/config"
	"parkbridge/sources"
)

// Level is what a check came to.
type Level uint8

// The levels, from good to bad.
const (
	OK   Level = iota
	Warn       // it works, and should be mended
	Fail       // it does not work
)

func (l Level) String() string { return [...]string{"ok", "warn", "FAIL"}[l] }

// Fault is whose fault a failure is, which decides the exit code.
type Fault uint8

// The faults.
const (
	Nobody   Fault = iota
	Config         // the configuration's, the mapping included
	Database       // the database's, or the ledger's
	Gate           // the gate's, or the way to it
)

// Result is what one check found.
type Result struct {
	Source string // "" where it is not about one source
	Check  string // what was looked at, in a word or two
	Level  Level
	Found  string
	// Do says what to do, in lines; empty where nothing is wrong. Statements are
	// lines of their own.
	Do    []string
	Fault Fault // of a failure
}

// Checker runs the checks of a configuration.
type Checker struct {
	Config  *config.Config
	Drivers sources.Registry
	// Names are the sources to look at; none means all.
	Names []string
	// Rows is the number of newest rows that are mapped.
	Rows int
	Now  func() time.Time
	// Tell takes each result as soon as it is there.
	Tell func(Result)

	flows map[string]seenFlow // by flow_no and lot, of all sources
}

// Run runs every check, one after another.
func (c *Checker) Run(ctx context.Context) {
	c.flows = map[string]seenFlow{}
	c.ledger(ctx)
	for i := range c.Config.Sources {
		s := &c.Config.Sources[i]
		if len(c.Names) == 0 || slices.Contains(c.Names, s.Name) {
			(&source{Source: s, c: c}).run(ctx)
		}
	}
	c.gate(ctx)
}

// reporter tells results of one place: a source, or none.
type reporter struct {
	source string
	tell   func(Result)
}

func (r reporter) ok(check, format string, args ...any) {
	r.tell(Result{Source: r.source, Check: check, Found: fmt.Sprintf(format, args...)})
}

func (r reporter) warn(check string, do []string, format string, args ...any) {
	r.tell(Result{Source: r.source, Check: check, Level: Warn, Found: fmt.Sprintf(format, args...), Do: do})
}

func (r reporter) fail(check string, whose Fault, do []string, format string, args ...any) {
	r.tell(Result{Source: r.source, Check: check, Level: Fail, Found: fmt.Sprintf(format, args...), Do: do, Fault: whose})
}

// do makes the lines of what to do.
func do(lines ...string) []string { return lines }
