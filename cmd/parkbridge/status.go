package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"parkbridge/internal/bridge"
	"parkbridge/internal/capture"
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
	Ledger  ledgerJSON   `json:"ledger"`
}

// ledgerJSON is in bytes; the room of what was wiped is free for new records.
type ledgerJSON struct {
	File string `json:"file"`
	Size int64  `json:"size"`
	Free int64  `json:"free"`
}

type sourceJSON struct {
	Name        string      `json:"name"`
	Class       *string     `json:"class"`
	Rule        *string     `json:"rule"`
	RuleWhy     *string     `json:"rule_why"` // why there is no better rule
	HeldBy      *string     `json:"held_by"`  // what holds the floor below the mark
	HeldSince   *string     `json:"held_since"`
	Parked      *parkedJSON `json:"parked"`
	LeaseHolder *string     `json:"lease_holder"` // who runs the source now
	// Of a series of tables, Table is the one of the latest period that was read,
	// which class to floor speak of; null where the source is none.
	Table                *string        `json:"table"`
	Tables               []tableJSON    `json:"tables"`
	Mark                 *string        `json:"mark"`
	Floor                *string        `json:"floor"`
	MovedAt              *string        `json:"moved_at"`
	Counts               map[string]int `json:"counts"`
	Remarks              int            `json:"remarks"`
	Future               int            `json:"future"`       // rows dated later than now, at the last poll
	NullCursors          int            `json:"null_cursors"` // rows without a cursor, at the last look
	Changed              int            `json:"changed"`      // delivered records whose row is another by now
	Reconciled           *reconcileJSON `json:"reconciled"`   // the last one that healed what it found
	OldestPendingSeconds *int64         `json:"oldest_pending_seconds"`
	LastRun              *runJSON       `json:"last_run"`
}

// tableJSON is a table of a series; one that is emptied each year is one for each
// time.
type tableJSON struct {
	Table    string  `json:"table"`
	Period   string  `json:"period"`
	Mark     *string `json:"mark"`
	Floor    *string `json:"floor"`
	HeldBy   *string `json:"held_by"`
	MovedAt  *string `json:"moved_at"`
	ClosedAt *string `json:"closed_at"` // since when it is not read any more, because nothing more comes
	GoneAt   *string `json:"gone_at"`   // since when it is not there any more
	OldRows  *string `json:"old_rows"`  // up to here rows of the year before are still in it
}

// parkedJSON is a range below the floor that is read again once an hour.
type parkedJSON struct {
	From  *string `json:"from"`
	To    *string `json:"to"`
	Since *string `json:"since"`
}

type runJSON struct {
	ID         int64   `json:"id"` // 0: a sync's that found nothing, which is counted in an earlier one
	Source     string  `json:"source"`
	StartedAt  *string `json:"started_at"`
	FinishedAt *string `json:"finished_at"`
	// Runs in a row that found nothing are one: Runs is their number, and Read what
	// they read together. FirstStartedAt is null for one.
	Runs           int     `json:"runs"`
	FirstStartedAt *string `json:"first_started_at"`
	Read           int     `json:"read"`
	Landed         int     `json:"landed"`
	Delivered      int     `json:"delivered"`
	Rejected       int     `json:"rejected"`
	Invalid        int     `json:"invalid"`
	Error          *string `json:"error"`
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
		ID: r.ID, Source: r.Source, StartedAt: when(r.StartedAt), FinishedAt: when(r.FinishedAt), Runs: r.Runs, FirstStartedAt: when(r.FirstStartedAt), Read: r.Read, Landed: r.Landed,
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
	size, free, err := app.Ledger.Size(ctx)
	if err != nil {
		return err
	}
	out := statusJSON{Sources: []sourceJSON{}, Sink: sinkAsJSON(sink), Ledger: ledgerJSON{app.Ledger.Path(), size, free}}
	var notes []string
	t := a.table("SOURCE", "MARK", ">PENDING", ">DELIVERED", ">REJECTED", ">INVALID", ">DISMISSED", "OLDEST PENDING", "LAST RUN", "RESULT")
	for _, src := range app.Bridge.Sources {
		s, err := app.Ledger.Status(ctx, src.Name)
		if err != nil {
			return err
		}
		var tables []string
		if src.Series != nil {
			if tables, err = seriesNotes(src, &s, time.Now()); err != nil {
				return err
			}
		}
		state, err := bridge.StateOf(s.Mark)
		if err != nil {
			return err
		}
		j := sourceAsJSON(s, state)
		if j.Tables, err = tablesAsJSON(s.Tables); err != nil {
			return err
		}
		if n := len(s.Tables); n > 0 {
			j.Table = &s.Tables[n-1].Table
		}
		out.Sources = append(out.Sources, j)
		notes = append(append(notes, sourceNotes(s, state)...), tables...)
		mark, last, result := "-", "never", ""
		if !s.Mark.Mark.IsZero() {
			mark = s.Mark.Mark.String()
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
	for _, note := range notes {
		fmt.Fprintln(a.stdout, note)
	}
	a.printSink(sink)
	fmt.Fprintf(a.stdout, "ledger: %s, %s, %s of it free for new records\n", app.Ledger.Path(), humanize.IBytes(uint64(size)), humanize.IBytes(uint64(free)))
	return nil
}

func sourceAsJSON(s ledger.SourceStatus, state capture.State) sourceJSON {
	seen := state.Seen
	j := sourceJSON{
		Name: s.Source, Class: text(seen.Class), Rule: text(seen.Rule), RuleWhy: text(seen.RuleWhy), HeldBy: text(seen.HeldBy), HeldSince: when(seen.HeldSince),
		LeaseHolder: text(s.Holder), Mark: position(s.Mark.Mark), Floor: position(s.Mark.Floor), MovedAt: when(s.MovedAt), Remarks: s.Remarks,
		Future: seen.Future, NullCursors: seen.Nulls, Changed: s.Changed, Counts: map[string]int{}, LastRun: runAsJSON(s.LastRun),
	}
	if p := state.Journal.Parked; p != nil {
		j.Parked = &parkedJSON{From: position(p.From), To: position(p.Entry.Mark), Since: when(p.Since)}
	}
	if s.Reconciled != nil {
		r := reconcileAsJSON(*s.Reconciled)
		j.Reconciled = &r
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

// sourceNotes says what a table of sources has no room for.
func sourceNotes(s ledger.SourceStatus, state capture.State) (notes []string) {
	note := func(format string, args ...any) {
		notes = append(notes, s.Source+": "+fmt.Sprintf(format, args...))
	}
	seen := state.Seen
	if seen.Rule != "" {
		rule := "class " + seen.Class + " (" + seen.Why + "), rule " + seen.Rule
		if seen.RuleWhy != "" {
			rule += " (" + seen.RuleWhy + ")"
		}
		note("%s", rule)
	}
	if seen.HeldBy != "" {
		note("what may still turn up below the mark is read again from %s on; held at least since %s by %s", clip(orNone(s.Mark.Floor), 40), localTime(seen.HeldSince), seen.HeldBy)
	}
	if p := state.Journal.Parked; p != nil {
		note("parked since %s: %s to %s, read once an hour until what holds it has ended", localTime(p.Since), clip(orNone(p.From), 40), clip(p.Entry.Mark.String(), 40))
	}
	if r := s.LastRun; r != nil && len(r.Error) > 60 { // cut in the table
		note("%s", r.Error)
	}
	if seen.Future > 0 {
		note("rows dated later than now: %d; they are landed, and the mark waits for their time", seen.Future)
	}
	if seen.Nulls > 0 {
		more := ""
		if seen.Nulls >= capture.NullsMost {
			more = " or more"
		}
		note("rows without a cursor: %d%s (see null_cursor)", seen.Nulls, more)
	}
	if n := s.Counts[ledger.Held]; n > 0 {
		note("held until they are ready: %d (see ready); parkbridge records list --source %s --state held", n, s.Source)
	}
	if s.Changed > 0 {
		note("delivered records whose row was changed since: %d (see on_change)", s.Changed)
	}
	if s.Remarks > 0 {
		note("accepted with a remark: %d; see parkbridge records list --remark", s.Remarks)
	}
	if r := s.Reconciled; r != nil {
		all := r.Total()
		switch {
		case r.Error != "":
			note("reconciled %s: failed: %s", ago(r.FinishedAt), clip(r.Error, 80))
		default:
			note("reconciled %s: missing %d, healed %d, deleted at the source %d", ago(r.FinishedAt), all.Missing, all.Healed, all.Deleted)
		}
	}
	return notes
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
