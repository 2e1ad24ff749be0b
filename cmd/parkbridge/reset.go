package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"parkbridge/internal/bridge"
	"parkbridge/internal/daemon"
	"parkbridge/sources"
)

func (a *app) resetCommand() *cobra.Command {
	var source, to string
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset --source NAME --to earliest|latest|VALUE",
		Short: "Move a source's mark on purpose",
		Long: `Move a source's mark on purpose: to earliest (read everything again), to latest
(go on with what comes from now on), or to a value of the cursor (read from there
on, inclusive). Records stay as they are, and rows that have landed before are
recognised by their keys: nothing is sent again. What lies above the old mark
and below latest is never read. Of a series of tables, one a month or year, the
marks of all tables are cleared; VALUE is a day then, such as 2026-11-01, and
begins with the table of that day, or from then on where the cursor is a time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if source == "" || to == "" {
				return &exit{exitUsage, errors.New("--source and --to are both needed")}
			}
			if to != sources.StartEarliest && to != sources.StartLatest && !strings.ContainsAny(to, "0123456789") {
				return &exit{exitUsage, fmt.Errorf("--to %q is neither earliest nor latest nor a value of the cursor", to)}
			}
			return a.with(cmd, []string{source}, func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				was, err := app.Ledger.Mark(ctx, source)
				if err != nil {
					return err
				}
				src, err := app.Source(source)
				if err != nil {
					return err
				}
				if !yes {
					if src.Series == nil {
						fmt.Fprintf(a.stdout, "The mark of %s is at %s. Move it to %s? ", source, orNone(was.Mark), to)
					} else {
						fmt.Fprintf(a.stdout, "%s has a mark for each table of %s. Clear them all and begin with %s? ", source, src.Table, to)
					}
					fmt.Fprint(a.stdout, "Back, nothing is sent again; forward, what lies between is given up. Type yes: ")
					answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // no answer is no
					if strings.TrimSpace(answer) != "yes" {
						return &exit{exitUsage, errors.New("not confirmed; nothing was changed (--yes confirms without asking)")}
					}
				}
				position, err := app.Reset(ctx, source, to)
				if errors.Is(err, bridge.ErrAboveAll) {
					return &exit{exitUsage, err}
				}
				if err != nil {
					return err
				}
				if src.Series != nil {
					fmt.Fprintf(a.stdout, "The marks of the tables of %s are cleared; reading begins with %s.\n", source, to)
					return nil
				}
				fmt.Fprintf(a.stdout, "The mark of %s was at %s and is at %s now.\n", source, orNone(was.Mark), orNone(position))
				return nil
			})
		},
	}
	a.sourceFlag(cmd, &source, "the source")
	cmd.Flags().StringVar(&to, "to", "", "earliest, latest, or a value of the cursor")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func orNone(p sources.Position) string {
	if p.IsZero() {
		return "the beginning"
	}
	return p.String()
}
