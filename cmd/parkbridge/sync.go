package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"parkbridge/internal/bridge"
	"parkbridge/internal/config"
	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
)

func (a *app) syncCommand() *cobra.Command {
	var source string
	var limit int
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "sync",
		Short: "Run every source once: read what is new, send what is pending",
		Long: `Run every source once: read what is new, send what is pending, and end.
For system cron, the Task Scheduler, and the first push by hand (--limit 1).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return &exit{exitUsage, errors.New("--limit must not be negative")}
			}
			var names []string
			if source != "" {
				names = []string{source}
			}
			return a.wired(cmd, names, true, func(ctx context.Context, app *daemon.App, log *slog.Logger) error {
				return a.finishSync(app, log, app.Bridge.Sync(ctx, limit))
			})
		},
	})
	a.sourceFlag(cmd, &source, "only this source")
	cmd.Flags().IntVar(&limit, "limit", 0, "send at most this many records; what is left stays pending")
	return cmd
}

// finishSync prints what a sync did and gives it its exit code.
func (a *app) finishSync(app *daemon.App, log *slog.Logger, r bridge.Report) error {
	if err := a.printSync(r); err != nil {
		return err
	}
	var failures []error
	for _, s := range r.Sources {
		if s.Err != nil {
			failures = append(failures, fmt.Errorf("source %s: %w", s.Source, app.Config.Wrap(s.Err)))
		}
		if app.Config.Log.File == "" {
			continue // what stderr would say, stdout has said
		}
		switch {
		case s.Held != nil:
			log.Warn("another run holds the source", "source", s.Source, "holder", s.Held.Holder)
		case s.Err != nil:
			log.Error("a run failed", "source", s.Source, "error", s.Err)
		default:
			log.Info("a run ended", "source", s.Source, "read", s.Run.Read, "landed", s.Run.Landed, "delivered", s.Run.Delivered,
				"rejected", s.Run.Rejected, "invalid", s.Run.Invalid, "pending", s.Pending)
		}
	}
	if r.Err != nil {
		failures = append(failures, r.Err)
	}
	return syncExit(r, errors.Join(failures...))
}

// syncExit picks the first exit code that applies.
func syncExit(r bridge.Report, failure error) error {
	if _, ok := errors.AsType[*config.Error](failure); ok {
		return &exit{exitUsage, failure}
	}
	if failure != nil {
		return &exit{exitFailed, failure}
	}
	var held *ledger.HeldError
	pending, faults := false, false
	for _, s := range r.Sources {
		pending = pending || s.Pending > 0
		faults = faults || s.Run.Rejected > 0 || s.Run.Invalid > 0
		if s.Held != nil {
			held = s.Held
		}
	}
	switch {
	case pending && (!r.Limited || r.Sink.State != ledger.SinkOK):
		return &exit{code: exitPending}
	case held != nil:
		return &exit{exitHeld, held}
	case faults:
		return &exit{code: exitFaults}
	}
	return nil
}

type syncJSON struct {
	Sources []syncSourceJSON `json:"sources"`
	Sink    sinkJSON         `json:"sink"`
}

type syncSourceJSON struct {
	Name    string   `json:"name"`
	Run     *runJSON `json:"run"`
	Pending int      `json:"pending"`
	HeldBy  *string  `json:"held_by"`
	Error   *string  `json:"error"`
}

func (a *app) printSync(r bridge.Report) error {
	if a.json {
		out := syncJSON{Sources: []syncSourceJSON{}, Sink: sinkAsJSON(r.Sink)}
		for _, s := range r.Sources {
			j := syncSourceJSON{Name: s.Source, Pending: s.Pending}
			if !s.Run.StartedAt.IsZero() {
				j.Run = runAsJSON(&s.Run)
			}
			if s.Held != nil {
				j.HeldBy = &s.Held.Holder
			}
			if s.Err != nil {
				j.Error = text(s.Err.Error())
			}
			out.Sources = append(out.Sources, j)
		}
		return a.printJSON(out)
	}
	t := a.table("SOURCE", ">READ", ">LANDED", ">DELIVERED", ">REJECTED", ">INVALID", ">PENDING", ">TOOK", "RESULT")
	left := 0
	for _, s := range r.Sources {
		left += s.Pending
		switch {
		case s.Held != nil:
			t.row(s.Source, "-", "-", "-", "-", "-", "-", "-", t.paint("held by another run", "yellow"))
			continue
		case s.Run.StartedAt.IsZero(): // it never began
			t.row(s.Source, "-", "-", "-", "-", "-", "-", "-", t.paint("failed", "red"))
			continue
		}
		result := "ok"
		if s.Err != nil {
			result = t.paint("failed", "red")
		}
		t.row(s.Source, s.Run.Read, s.Run.Landed, s.Run.Delivered, t.count(s.Run.Rejected, "red"), t.count(s.Run.Invalid, "red"), t.count(s.Pending, "yellow"),
			took(s.Run), result)
	}
	t.print()
	if r.Limited && left > 0 {
		fmt.Fprintf(a.stdout, "The limit is reached; left for the next sync: %d.\n", left)
	}
	a.printSink(r.Sink)
	return nil
}
