package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/config"
	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
)

func (a *app) recordsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "records",
		Short: "List, show, retry, dismiss and resend single records",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.recordsListCommand(), a.recordsShowCommand(), a.recordsRetryCommand(), a.recordsDismissCommand(), a.recordsResendCommand())
	return cmd
}

func (a *app) recordsListCommand() *cobra.Command {
	var f filterFlags
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "list",
		Short: "List records, the latest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			if f.limit > 0 {
				filter.Limit++ // to know whether there are more
			}
			return a.with(cmd, (&selection{source: f.source}).names(), func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				records, err := app.Ledger.Records(ctx, filter)
				if err != nil {
					return err
				}
				more := f.limit > 0 && len(records) > f.limit
				if more {
					records = records[:f.limit]
				}
				if err = a.printRecords(records); err == nil && more && !a.json {
					fmt.Fprintf(a.stdout, "These are the latest %d; --limit 0 shows all.\n", f.limit)
				}
				return err
			})
		},
	})
	cmd.Flags().StringSliceVar(&f.states, "state", nil, "only these states: "+strings.Join(ledger.States, ", "))
	a.sourceFlag(cmd, &f.source, "only this source")
	cmd.Flags().BoolVar(&f.remark, "remark", false, "only those that the platform accepted with a remark")
	cmd.Flags().StringVar(&f.plate, "plate", "", "only this plate")
	cmd.Flags().StringVar(&f.since, "since", "", "only those first seen at or after this time, or within this age (24h)")
	cmd.Flags().StringVar(&f.until, "until", "", "only those first seen before this time")
	cmd.Flags().IntVar(&f.limit, "limit", 50, "at most this many; 0 means all")
	return cmd
}

type recordJSON struct {
	ID            int64            `json:"id"`
	Source        string           `json:"source"`
	Table         string           `json:"table"`
	RowKey        string           `json:"row_key"`
	Revision      int              `json:"revision"`
	FlowNo        *string          `json:"flow_no"`
	ParkUUID      *string          `json:"park_uuid"`
	State         string           `json:"state"`
	Attempts      int              `json:"attempts"`
	Code          *string          `json:"code"`
	Message       *string          `json:"message"`
	Hint          *string          `json:"hint"`
	SeqNo         *string          `json:"seqno"`
	HTTPStatus    *int             `json:"http_status"`
	FirstSeenAt   *string          `json:"first_seen_at"`
	LastAttemptAt *string          `json:"last_attempt_at"`
	NextAttemptAt *string          `json:"next_attempt_at"`
	DeliveredAt   *string          `json:"delivered_at"`
	Errors        []ledger.Problem `json:"errors"`
	Note          *string          `json:"note"`
}

func recordAsJSON(r *ledger.Record) recordJSON {
	j := recordJSON{
		ID: r.ID, Source: r.Source, Table: r.Table, RowKey: r.Key, Revision: r.Revision, FlowNo: text(r.FlowNo), ParkUUID: text(r.ParkUUID), State: r.State,
		Attempts: r.Attempts, Code: text(r.Code), Message: text(r.Message), Hint: text(r.Hint), SeqNo: text(r.SeqNo),
		FirstSeenAt: when(r.FirstSeenAt), LastAttemptAt: when(r.LastAttemptAt), DeliveredAt: when(r.DeliveredAt),
		Errors: append([]ledger.Problem{}, r.Problems...), Note: text(r.Note),
	}
	if r.HTTPStatus != 0 {
		j.HTTPStatus = &r.HTTPStatus
	}
	if r.State == ledger.Pending {
		j.NextAttemptAt = when(r.NextAttemptAt)
	}
	return j
}

func (a *app) printRecords(records []ledger.Record) error {
	if a.json {
		out := struct {
			Records []recordJSON `json:"records"`
		}{[]recordJSON{}}
		for i := range records {
			out.Records = append(out.Records, recordAsJSON(&records[i]))
		}
		return a.printJSON(out)
	}
	if len(records) == 0 {
		fmt.Fprintln(a.stdout, "No record fits.")
		return nil
	}
	t := a.table(">ID", "STATE", "SOURCE", "KEY", "FLOW_NO", "PLATE", ">CODE", ">TRIES", "FIRST SEEN", "DELIVERED", "WHY")
	for i := range records {
		r := &records[i]
		t.row(r.ID, t.state(r.State), r.Source, clip(r.Key, 48), clip(r.FlowNo, 24), r.Fields[sink.FieldPlate], r.Code, r.Attempts, ago(r.FirstSeenAt), ago(r.DeliveredAt), clip(why(r), 60))
	}
	t.print()
	return nil
}

// why says in a line why a record is in its state.
func why(r *ledger.Record) string {
	switch {
	case r.State == ledger.Delivered:
		return r.Hint
	case r.State == ledger.Held:
		return "its row is not ready yet"
	case r.Note != "":
		return r.Note
	case len(r.Problems) > 0:
		more := ""
		if len(r.Problems) > 1 {
			more = fmt.Sprintf(" (and %d more)", len(r.Problems)-1)
		}
		return r.Problems[0].Field + ": " + r.Problems[0].Problem + more
	case r.Hint != "":
		return r.Hint
	}
	return r.Message
}

func (a *app) recordsShowCommand() *cobra.Command {
	var s selection
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "show [ID | FLOW_NO ...]",
		Short: "Show a record: the row, the fields it maps to, the platform's answer",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, s.names(), func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				found, err := s.find(ctx, app.Ledger, args, false)
				if err != nil {
					return err
				}
				if a.json {
					return a.printShown(found)
				}
				for i := range found {
					if i > 0 {
						fmt.Fprintln(a.stdout)
					}
					a.showRecord(app.Config, &found[i])
				}
				return nil
			})
		},
	})
	a.selectionFlags(cmd, &s)
	return cmd
}

type shownJSON struct {
	recordJSON
	Columns map[string]any    `json:"columns"`
	Fields  map[string]string `json:"fields"`
}

func (a *app) printShown(found []ledger.Record) error {
	out := struct {
		Records []shownJSON `json:"records"`
	}{}
	for i := range found {
		j := shownJSON{recordJSON: recordAsJSON(&found[i]), Fields: found[i].Fields}
		if !found[i].Wiped() {
			j.Columns = map[string]any{}
			for name, v := range found[i].Columns {
				j.Columns[name] = v
			}
		}
		out.Records = append(out.Records, j)
	}
	return a.printJSON(out)
}

func (a *app) showRecord(cfg *config.Config, r *ledger.Record) {
	program := &mapping.Program{} // of a source that the config has no more
	if i := slices.IndexFunc(cfg.Sources, func(s config.Source) bool { return s.Name == r.Source }); i >= 0 {
		program = cfg.Sources[i].Program
	}
	g := a.table()
	a.line("record", r.ID)
	a.line("state", g.state(r.State))
	a.line("source", fmt.Sprintf("%s, table %s, key %s", r.Source, r.Table, r.Key))
	a.line("first seen", localTime(r.FirstSeenAt))
	if r.Note != "" {
		a.line("note", r.Note)
	}
	fmt.Fprintln(a.stdout, "\nrow")
	switch {
	case r.State == ledger.Held:
		fmt.Fprintln(a.stdout, "  not ready yet: it is read again at each run until the source's ready is true, and is not kept before")
	case r.Wiped() && r.State != ledger.Delivered:
		fmt.Fprintln(a.stdout, "  not kept: it was not ready when it was read")
	case r.Wiped():
		fmt.Fprintln(a.stdout, "  wiped: the ledger's retention has passed")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Columns)) {
		fmt.Fprintf(a.stdout, "  %s %s\n", pad(name, 20), program.Shown(name, r.Columns[name]))
	}
	if len(r.Fields) > 0 {
		fmt.Fprintln(a.stdout, "\nfields")
		for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
			fmt.Fprintf(a.stdout, "  %s %s\n", pad(name, 20), r.Fields[name])
		}
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(a.stdout, "\nproblems")
		for _, p := range r.Problems {
			fmt.Fprintf(a.stdout, "  %s %s\n", pad(p.Field, 20), p.Problem)
		}
	}
	fmt.Fprintln(a.stdout, "\nanswer")
	if r.LastAttemptAt.IsZero() {
		fmt.Fprintln(a.stdout, "  not sent yet")
		return
	}
	for _, l := range [][2]string{
		{"at", localTime(r.LastAttemptAt)},
		{"code", r.Code},
		{"message", r.Message},
		{"hint", r.Hint},
		{"seqno", r.SeqNo},
		{"http status", zeroEmpty(r.HTTPStatus)},
		{"attempts", zeroEmpty(r.Attempts)},
		{"delivered", localTime(r.DeliveredAt)},
	} {
		if l[1] != "" {
			fmt.Fprintf(a.stdout, "  %s %s\n", pad(l[0], 20), l[1])
		}
	}
	if r.State == ledger.Pending && r.NextAttemptAt.After(time.Now()) {
		fmt.Fprintf(a.stdout, "  %s %s\n", pad("next attempt", 20), localTime(r.NextAttemptAt))
	}
}

func (a *app) recordsRetryCommand() *cobra.Command {
	var s selection
	force := false
	cmd := &cobra.Command{
		Use:   "retry [ID | FLOW_NO ...]",
		Short: "Map a rejected or invalid record again and send it at the next run",
		Long: `Map rejected and invalid records again, with the mapping as it is now, and make
them pending. A pending record is made due at once. --state retries all records
of a state, for when a mended mapping has made them good. A record whose row was
not ready is read again; if it still is not, it is held, or invalid where its
time is over. --force sends it as it is.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, s.names(), func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				found, err := s.many(ctx, app.Ledger, args)
				if err != nil {
					return err
				}
				return a.retry(ctx, app, found, force)
			})
		},
	}
	a.selectionFlags(cmd, &s)
	cmd.Flags().BoolVar(&force, "force", false, "also where the row is not ready (the source's ready)")
	cmd.Flags().StringSliceVar(&s.states, "state", nil, "all records of these states (rejected, invalid); with --source, of that source")
	return cmd
}

func (a *app) retry(ctx context.Context, app *daemon.App, found []ledger.Record, force bool) error {
	still := 0
	remap := app.Bridge.Remap
	if force {
		remap = app.Bridge.Force
	}
	for _, r := range found {
		switch r.State {
		case ledger.Pending:
			if err := app.Ledger.HurryUp(ctx, r.ID); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "record %d is pending already, and due now\n", r.ID)
			continue
		case ledger.Delivered:
			return fmt.Errorf("record %d is delivered; to send it again, say records resend", r.ID)
		}
		src, err := app.Source(r.Source)
		if err != nil {
			return fmt.Errorf("record %d: %w", r.ID, err)
		}
		state, problems, err := remap(ctx, src, r)
		if err != nil {
			return err
		}
		if state == ledger.Pending {
			fmt.Fprintf(a.stdout, "record %d is pending; the next run sends it\n", r.ID)
			continue
		}
		if state == ledger.Held {
			fmt.Fprintf(a.stdout, "record %d is held: its row is not ready yet; --force sends it as it is\n", r.ID)
			continue
		}
		still++
		fmt.Fprintf(a.stdout, "record %d is %s:\n", r.ID, state)
		for _, p := range problems {
			fmt.Fprintf(a.stdout, "  %s: %s\n", p.Field, p.Problem)
		}
	}
	if len(found) == 0 {
		fmt.Fprintln(a.stdout, "No record fits.")
	}
	if still > 0 {
		return &exit{code: exitFaults}
	}
	return nil
}

func (a *app) recordsDismissCommand() *cobra.Command {
	var s selection
	var note string
	cmd := &cobra.Command{
		Use:   "dismiss [ID | FLOW_NO ...] --note TEXT",
		Short: "End records that need not be sent, and say why",
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(note) == "" {
				return &exit{exitUsage, errors.New("--note is missing; say why, for whoever asks later")}
			}
			return a.with(cmd, s.names(), func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				found, err := s.find(ctx, app.Ledger, args, true)
				if err != nil {
					return err
				}
				for _, r := range found {
					if r.State == ledger.Delivered || r.State == ledger.Dismissed {
						return fmt.Errorf("record %d is %s; held, pending, rejected and invalid records can be dismissed", r.ID, r.State)
					}
					if err := app.Ledger.Dismiss(ctx, r.ID, note); err != nil {
						return err
					}
					fmt.Fprintf(a.stdout, "record %d is dismissed\n", r.ID)
				}
				return nil
			})
		},
	}
	a.selectionFlags(cmd, &s)
	cmd.Flags().StringVar(&note, "note", "", "why")
	return cmd
}

func (a *app) recordsResendCommand() *cobra.Command {
	var f filterFlags
	cmd := &cobra.Command{
		Use:   "resend --since TIME [--until TIME]",
		Short: "Send delivered records again, under the same flow_no",
		Long: `Send records again that were delivered in a period, under the same flow_no: for
when the platform has lost them. What it still has, it ignores.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.since == "" {
				return &exit{exitUsage, errors.New("--since is missing; say from when on records are to be sent again")}
			}
			filter, err := f.filter()
			if err != nil {
				return err
			}
			return a.with(cmd, (&selection{source: f.source}).names(), func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				resent, wiped, err := app.Ledger.Resend(ctx, filter)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "%d delivered records are pending again; the next run sends them.\n", resent)
				if wiped > 0 {
					fmt.Fprintf(a.stdout, "%d more cannot be sent: their fields were wiped when the ledger's retention passed.\n", wiped)
				}
				return nil
			})
		},
	}
	a.sourceFlag(cmd, &f.source, "only this source")
	cmd.Flags().StringVar(&f.since, "since", "", "delivered at or after this time, or within this age (24h)")
	cmd.Flags().StringVar(&f.until, "until", "", "delivered before this time")
	return cmd
}
