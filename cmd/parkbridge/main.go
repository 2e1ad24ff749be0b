// Command parkbridge pushes a parking lot's exception releases from its own
// database to the city's platform.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"parkbridge/internal/config"
	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
	"parkbridge/sources/sqlserver"
)

// Exit codes; the first that applies.
const (
	exitDone    = 0
	exitFailed  = 1 // failed while running
	exitUsage   = 2 // wrong usage or config
	exitFaults  = 3 // this run moved records to rejected or invalid
	exitPending = 4 // something stays pending: gate unreachable, failing or blocked
	exitHeld    = 5 // another run holds the source
)

// exit is an error with the code the program ends with. err may be nil where
// the output has said it all.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks to stop; after it the handler is gone, so that a
	// second one ends the process at once.
	defer context.AfterFunc(ctx, stop)()
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var e *exit
	if !errors.As(err, &e) {
		e = &exit{exitUsage, err} // cobra's own: an unknown command or flag
		err = fmt.Errorf("%w; see parkbridge --help", err)
	}
	var mistakes *config.Error
	switch {
	case e.err == nil:
	case errors.As(err, &mistakes): // each line says where it is
		fmt.Fprintln(stderr, mistakes)
	default:
		fmt.Fprintln(stderr, "parkbridge:", err)
	}
	return e.code
}

// app is what the commands share.
type app struct {
	configPath     string
	json           bool
	stdout, stderr io.Writer
}

// drivers are the databases this program can read.
func drivers() sources.Registry {
	return sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver(), sqlserver.Driver())
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:           "parkbridge",
		Short:         "Push a parking lot's exception releases to the city's platform",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.PersistentFlags().StringVarP(&a.configPath, "config", "c", "config.yaml", "the configuration file")
	root.AddCommand(
		a.demoCommand(), a.initCommand(), a.checkCommand(), a.previewCommand(), a.syncCommand(), a.runCommand(), a.statusCommand(), a.recordsCommand(),
		a.resumeCommand(), a.reconcileCommand(), a.resetCommand(), a.gateCommand(), a.versionCommand(),
	)
	return root
}

// jsonFlag gives a command --json.
func (a *app) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON instead of tables")
	return cmd
}

// sourceFlag gives a command --source, with the config's names for completion.
func (a *app) sourceFlag(cmd *cobra.Command, to *string, usage string) {
	cmd.Flags().StringVar(to, "source", "", usage)
	err := cmd.RegisterFlagCompletionFunc("source", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		cfg, err := config.Load(a.configPath, drivers())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, s := range cfg.Sources {
			names = append(names, s.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // only a flag that is not there, a mistake of this program
	}
}

// with loads the config, wires the sources named (all where none is), and runs
// f on the ledger there is; errors get their exit codes.
func (a *app) with(cmd *cobra.Command, names []string, f func(ctx context.Context, app *daemon.App, log *slog.Logger) error) error {
	return a.wired(cmd, names, false, f)
}

// wired is with, and makes a ledger where mayCreate says so.
func (a *app) wired(cmd *cobra.Command, names []string, mayCreate bool, f func(ctx context.Context, app *daemon.App, log *slog.Logger) error) error {
	ctx := cmd.Context()
	cfg, err := config.Load(a.configPath, drivers())
	if err != nil {
		return classed(err)
	}
	for _, name := range names {
		if _, err := cfg.Source(name); err != nil {
			return &exit{exitUsage, err}
		}
	}
	log, closeLog, err := daemon.Logger(cfg.Log, a.stderr)
	if err != nil {
		return classed(err)
	}
	app, err := daemon.New(ctx, cfg, drivers(), log, mayCreate, names...)
	if err != nil {
		return classed(errors.Join(err, closeLog()))
	}
	err = f(ctx, app, log)
	return classed(errors.Join(err, app.Close(), closeLog()))
}

// classed gives an error its exit code.
func classed(err error) error {
	if err == nil {
		return nil
	}
	var e *exit
	var held *ledger.HeldError
	var mistakes *config.Error
	var mistake *sources.ConfigError
	switch {
	case errors.As(err, &e):
		return err
	case errors.As(err, &mistakes), errors.As(err, &mistake):
		return &exit{exitUsage, err}
	case errors.As(err, &held):
		return &exit{exitHeld, err}
	}
	return &exit{exitFailed, err}
}
