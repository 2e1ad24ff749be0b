package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

func (a *app) statusCommand() *cobra.Command {
	var source string
	var runs int
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "status",
		Short: "Show where every source stands, and the last runs (--runs 20)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var names []string
			if source != "" {
				names = []string{source}
			}
			if runs < 0 {
				return &exit{exitUsage, errors.New("--runs must not be negative")}
			}
			return a.with(cmd, names, func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				if runs > 0 {
					return a.printRuns(ctx, app, source, runs)
				}
				return a.printStatus(ctx, app)
			})
		},
	})
	a.sourceFlag(cmd, &source, "only this source")
	cmd.Flags().IntVar(&runs, "runs", 0, "list this many of the last runs instead")
	return cmd
}

type statusJSON struct {
	Sources []sourceJSON `json:"sources"`
	Sink    sinkJSON     `json:"sink"`
}

type sourceJSON struct {
	Name                 string         `json:"name"`
	Class                *string        `json:"class"`
	Rule                 *string        `json:"rule"`
	HeldBy               *string        `json:"held_by"`
	Mark                 *string        `json:"mark"`
	Floor                *string        `json:"floor"`
	MovedAt              *string        `json:"moved_at"`
	Counts               map[string]int `json:"counts"`
	Remarks              int            `json:"remarks"`
	OldestPendingSeconds *int64         `json:"oldest_pending_seconds"`
	LastRun              *runJSON       `json:"last_run"`
}

type runJSON struct {
	ID         int64   `json:"id"`
	Source     string  `json:"source"`
	StartedAt  *string `json:"started_at"`
	FinishedAt *string `json:"finished_at"`
	Read       int     `json:"read"`
	Landed     int     `json:"landed"`
	Delivered  int     `json:"delivered"`
	Rejected   int     `json:"rejected"`
	Invalid    int     `json:"invalid"`
	Error      *string `json:"error"`
}

type sinkJSON struct {
	State   string  `json:"state"`
	Reason  *string `json:"reason"`
	Since   *string `json:"since"`
	RetryAt *string `json:"retry_at"`
}

func sinkAsJSON(s ledger.SinkState) sinkJSON {
	return sinkJSON{State: s.State, Reason: text(s.Reason), Since: when(s.Since), RetryAt: when(s.RetryAt)}
}

func runAsJSON(r *ledger.Run) *runJSON {
	if r == nil {
		return nil
	}
	return &runJSON{
		ID: r.ID, Source: r.Source, StartedAt: when(r.StartedAt), FinishedAt: when(r.FinishedAt), Read: r.Read, Landed: r.Landed,
		Delivered: r.Delivered, Rejected: r.Rejected, Invalid: r.Invalid, Error: text(r.Error),
	}
}

func position(p sources.Position) *string {
	if p.IsZero() {
		return nil
	}
	return text(p.String())
}

func (a *app) printStatus(ctx context.Context, app *daemon.App) error {
	sink, err := app.Ledger.Sink(ctx)
	if err != nil {
		return err
	}
	out := statusJSON{Sources: []sourceJSON{}, Sink: sinkAsJSON(sink)}
	t := a.table("SOURCE", "MARK", ">PENDING", ">DELIVERED", ">REJECTED", ">INVALID", ">DISMISSED", "OLDEST PENDING", "LAST RUN", "RESULT")
	for _, src := range app.Bridge.Sources {
		s, err := app.Ledger.Status(ctx, src.Name)
		if err != nil {
			return err
		}
		out.Sources = append(out.Sources, sourceAsJSON(s))
		mark, last, result := "-", "never", ""
		if !s.Mark.Position.IsZero() {
			mark = s.Mark.Position.String()
		}
		if r := s.LastRun; r != nil {
			last, result = ago(r.StartedAt), runResult(*r)
		}
		t.row(s.Source, clip(mark, 40), t.count(s.Counts[ledger.Pending], "yellow"), t.count(s.Counts[ledger.Delivered], "green"),
			t.count(s.Counts[ledger.Rejected], "red"), t.count(s.Counts[ledger.Invalid], "red"), s.Counts[ledger.Dismissed],
			ago(s.OldestPending), last, result)
	}
	if a.json {
		return a.printJSON(out)
	}
	t.print()
	for _, s := range out.Sources {
		if s.Remarks > 0 {
			fmt.Fprintf(a.stdout, "%s: accepted with a remark: %d; see parkbridge records list --remark\n", s.Name, s.Remarks)
		}
	}
	a.printSink(sink)
	return nil
}

func sourceAsJSON(s ledger.SourceStatus) sourceJSON {
	j := sourceJSON{
		Name: s.Source, HeldBy: text(s.Holder), Mark: position(s.Mark.Position), Floor: position(s.Mark.Floor), MovedAt: when(s.MovedAt), Remarks: s.Remarks,
		Counts: map[string]int{}, LastRun: runAsJSON(s.LastRun),
	}
	for _, state := range ledger.States {
		j.Counts[state] = s.Counts[state]
	}
	if !s.OldestPending.IsZero() {
		seconds := int64(time.Since(s.OldestPending).Seconds())
		j.OldestPendingSeconds = &seconds
	}
	return j
}

func runResult(r ledger.Run) string {
	switch {
	case r.Error != "":
		return "failed: " + clip(r.Error, 60)
	case r.FinishedAt.IsZero():
		return "running, or killed"
	}
	return fmt.Sprintf("landed %d, delivered %d", r.Landed, r.Delivered)
}

func (a *app) printSink(s ledger.SinkState) {
	g := a.table()
	switch s.State {
	case ledger.SinkOK:
		fmt.Fprintln(a.stdout, "gate: "+g.paint("ok", "green"))
	case ledger.SinkBlocked:
		fmt.Fprintf(a.stdout, "gate: %s %s: %s\n      Every record stays pending. Mend the cause; the next sync tries one record, or say parkbridge resume.\n",
			g.paint("blocked", "red"), ago(s.Since), s.Reason)
	default:
		fmt.Fprintf(a.stdout, "gate: %s %s: %s\n      Nothing is lost; the next sync tries again.\n", g.paint("failing", "yellow"), ago(s.Since), s.Reason)
	}
	if s.RetryAt.After(time.Now()) {
		fmt.Fprintf(a.stdout, "      It asked to be left alone until %s.\n", s.RetryAt.Local().Format(time.DateTime))
	}
}

func (a *app) printRuns(ctx context.Context, app *daemon.App, source string, n int) error {
	runs, err := app.Ledger.Runs(ctx, source, n)
	if err != nil {
		return err
	}
	if a.json {
		out := struct {
			Runs []*runJSON `json:"runs"`
		}{[]*runJSON{}}
		for i := range runs {
			out.Runs = append(out.Runs, runAsJSON(&runs[i]))
		}
		return a.printJSON(out)
	}
	t := a.table(">RUN", "SOURCE", "STARTED", ">TOOK", ">READ", ">LANDED", ">DELIVERED", ">REJECTED", ">INVALID", "ERROR")
	for _, r := range runs {
		t.row(r.ID, r.Source, ago(r.StartedAt), took(r), r.Read, r.Landed, r.Delivered, t.count(r.Rejected, "red"), t.count(r.Invalid, "red"), clip(r.Error, 80))
	}
	t.print()
	return nil
}
