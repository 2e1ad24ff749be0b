package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/check"
	"parkbridge/internal/config"
)

func (a *app) checkCommand() *cobra.Command {
	var source string
	var rows int
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "check",
		Short: "Look whether databases, mapping, ledger and gate would do; change nothing",
		Long: `Look whether databases, mapping, ledger and gate would do. Nothing is changed,
nothing is pushed. One line a check: ok, warn or FAIL, and under it what to do.
It ends with 0 if nothing fails, else with 2 (configuration or mapping), 1
(database or ledger) or 4 (gate), the first that applies.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rows < 1 || rows > 10000 {
				return &exit{exitUsage, errors.New("--rows must be from 1 to 10000")}
			}
			return a.check(cmd.Context(), source, rows)
		},
	})
	a.sourceFlag(cmd, &source, "only this source, and what all share")
	cmd.Flags().IntVar(&rows, "rows", 100, "how many of the newest rows are mapped")
	return cmd
}

// checks gathers results, and prints each at once where they are for people.
type checks struct {
	*app
	results []check.Result
	grid    *grid // for colour
}

func (a *app) check(ctx context.Context, source string, rows int) error {
	out := &checks{app: a, grid: a.table()}
	cfg, err := config.Load(a.configPath, drivers())
	if err != nil {
		out.mistakes(err)
		return out.finish(ctx)
	}
	var names []string
	if source != "" {
		if _, err := cfg.Source(source); err != nil {
			return &exit{exitUsage, err}
		}
		names = []string{source}
	}
	out.tell(check.Result{Check: "config", Found: cfg.Path + " has no mistake that shows without a database"})
	c := &check.Checker{Config: cfg, Drivers: drivers(), Names: names, Rows: rows, Now: time.Now, Tell: out.tell}
	c.Run(ctx)
	return out.finish(ctx)
}

// mistakes tells what is wrong with a config file that cannot be loaded.
func (c *checks) mistakes(err error) {
	wrong := func(text string) {
		c.tell(check.Result{Check: "config", Level: check.Fail, Found: text, Fault: check.Config, Do: []string{"correct it; nothing else can be looked at before"}})
	}
	mistakes, ok := errors.AsType[*config.Error](err)
	if !ok {
		wrong(err.Error())
		return
	}
	for _, p := range mistakes.Problems {
		wrong(p.String())
	}
}

var levelColours = map[check.Level]string{check.OK: "green", check.Warn: "yellow", check.Fail: "red"}

func (c *checks) tell(r check.Result) {
	c.results = append(c.results, r)
	if c.json {
		return
	}
	where := r.Check
	if r.Source != "" {
		where = r.Source + ": " + where
	}
	fmt.Fprintf(c.stdout, "%s%*s %s: %s\n", c.grid.paint(r.Level.String(), levelColours[r.Level]), 4-len(r.Level.String()), "", where, r.Found)
	for _, line := range r.Do {
		fmt.Fprintf(c.stdout, "       %s\n", line)
	}
}

type checkJSON struct {
	Source *string  `json:"source"`
	Check  string   `json:"check"`
	Result string   `json:"result"` // ok, warn or fail
	Found  string   `json:"found"`
	Do     []string `json:"do"`
}

// finish sums up, and picks the exit code.
func (c *checks) finish(ctx context.Context) error {
	warnings, failures := 0, 0
	faults := map[check.Fault]bool{}
	out := struct {
		Checks   []checkJSON `json:"checks"`
		Warnings int         `json:"warnings"`
		Failures int         `json:"failures"`
	}{Checks: []checkJSON{}}
	results := map[check.Level]string{check.OK: "ok", check.Warn: "warn", check.Fail: "fail"}
	for _, r := range c.results {
		if r.Level == check.Warn {
			warnings++
		}
		if r.Level == check.Fail {
			failures++
			faults[r.Fault] = true
		}
		out.Checks = append(out.Checks, checkJSON{Source: text(r.Source), Check: r.Check, Result: results[r.Level], Found: r.Found, Do: append([]string{}, r.Do...)})
	}
	out.Warnings, out.Failures = warnings, failures
	if c.json {
		if err := c.printJSON(out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.stdout, "\nFailures: %d, warnings: %d. Nothing was changed, nothing was sent.\n", failures, warnings)
	}
	switch {
	case ctx.Err() != nil:
		return &exit{exitFailed, errors.New("stopped before the end, as asked")}
	case faults[check.Config]:
		return &exit{code: exitUsage}
	case faults[check.Database]:
		return &exit{code: exitFailed}
	case faults[check.Gate]:
		return &exit{code: exitPending}
	}
	return nil
}
