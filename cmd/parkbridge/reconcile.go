package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"parkbridge/internal/bridge"
	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
)

func (a *app) reconcileCommand() *cobra.Command {
	var source, from, to string
	var dry bool
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "reconcile",
		Short: "Compare a window of the source with the ledger, and land what is missing",
		Long: `Compare a window of the source with the ledger, by day, and land what is
missing; the next sync sends it. --dry-run only compares.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var names []string
			if source != "" {
				names = []string{source}
			}
			return a.with(cmd, names, func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				return a.reconcile(ctx, app, from, to, dry)
			})
		},
	})
	a.sourceFlag(cmd, &source, "only this source")
	cmd.Flags().StringVar(&from, "from", "", "from this time on, by the source's clocks, or from this age on (72h); without it the config's window")
	cmd.Flags().StringVar(&to, "to", "", "up to this time; without it up to now")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "compare only: land nothing, keep nothing")
	return cmd
}

func (a *app) reconcile(ctx context.Context, app *daemon.App, from, to string, dry bool) error {
	var failures []error
	out := []reconcileJSON{}
	for _, s := range app.Bridge.Sources {
		var w bridge.Window
		var err error
		if w.From, err = parseTimeIn("from", from, s.Location); err != nil {
			return err
		}
		if w.To, err = parseTimeIn("to", to, s.Location); err != nil {
			return err
		}
		if !w.To.IsZero() && !w.From.Before(w.To) {
			return &exit{exitUsage, errors.New("--from must lie before --to")}
		}
		result, err := app.Reconcile(ctx, s, w, dry)
		if held := (*ledger.HeldError)(nil); errors.As(err, &held) {
			failures = append(failures, &exit{exitHeld, fmt.Errorf("%w; it reconciles by its own schedule, --dry-run compares beside it", err)})
			continue
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("source %s: %w", s.Name, err))
			continue
		}
		if a.json {
			out = append(out, reconcileAsJSON(result))
			continue
		}
		a.printReconcile(result)
	}
	if a.json {
		if err := a.printJSON(map[string]any{"reconciles": out}); err != nil {
			return err
		}
	}
	return errors.Join(failures...)
}

type reconcileJSON struct {
	Source     string       `json:"source"`
	StartedAt  *string      `json:"started_at"`
	FinishedAt *string      `json:"finished_at"`
	DryRun     bool         `json:"dry_run"`
	Error      *string      `json:"error"`
	Start      *string      `json:"start"` // what lies before it is not compared; null: nothing does
	Days       []ledger.Day `json:"days"`
}

func reconcileAsJSON(r ledger.Reconcile) reconcileJSON {
	return reconcileJSON{
		Source: r.Source, StartedAt: when(r.StartedAt), FinishedAt: when(r.FinishedAt), DryRun: r.DryRun, Error: text(r.Error), Start: text(r.Start),
		Days: append([]ledger.Day{}, r.Days...),
	}
}

func (a *app) printReconcile(r ledger.Reconcile) {
	fmt.Fprintf(a.stdout, "%s\n", r.Source)
	t := a.table("DAY", ">SOURCE", ">LEDGER", ">DELIVERED", ">MISSING", ">CHANGED", ">HEALED", ">DELETED")
	all := r.Total()
	for _, d := range r.Days {
		day := d.Day
		if day == "" {
			day = "does not map"
		}
		t.row(day, d.Source, d.Ledger, d.Delivered, t.count(d.Missing, "red"), t.count(d.Changed, "yellow"), t.count(d.Healed, "green"), d.Deleted)
	}
	t.print()
	if r.Start != "" {
		fmt.Fprintf(a.stdout, "What lies before %s was not asked for (start, or the last reset) and is not compared.\n", clip(r.Start, 40))
	}
	switch {
	case len(r.Days) == 0:
		fmt.Fprintln(a.stdout, "There is nothing in this window.")
	case all.Missing == 0:
		fmt.Fprintln(a.stdout, "Nothing is missing.")
	case r.DryRun:
		fmt.Fprintf(a.stdout, "Missing: %d; without --dry-run they are landed.\n", all.Missing)
	default:
		fmt.Fprintf(a.stdout, "Healed: %d; the next sync sends them.\n", all.Healed)
	}
}
