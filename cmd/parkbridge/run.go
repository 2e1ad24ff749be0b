package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"parkbridge/internal/daemon"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run as a daemon: every source by its own schedule",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.wired(cmd, nil, true, func(ctx context.Context, app *daemon.App, log *slog.Logger) error {
				var errs []error
				for _, s := range app.Config.Sources {
					if s.Cron == nil {
						errs = append(errs, fmt.Errorf("%s: source %s has no schedule, which run needs; give it one, such as */1 * * * *", app.Config.Path, s.Name))
					}
				}
				if errs != nil {
					return &exit{exitUsage, errors.Join(errs...)}
				}
				log.Info("parkbridge runs", "version", version(), "config", app.Config.Path, "sources", len(app.Config.Sources))
				err := app.Run(ctx)
				log.Info("parkbridge has stopped")
				return err
			})
		},
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Unblock the sink, after its cause is gone",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, nil, func(ctx context.Context, app *daemon.App, _ *slog.Logger) error {
				was, err := app.Ledger.Unblock(ctx)
				if err != nil {
					return err
				}
				if was.State == "ok" {
					fmt.Fprintln(a.stdout, "The sink was not blocked.")
					return nil
				}
				fmt.Fprintf(a.stdout, "The sink was %s (%s). It is ok now: the next sync, or the running daemon within seconds, sends what is pending.\n", was.State, was.Reason)
				return nil
			})
		},
	}
}
