// Package daemon wires a configuration into a running program.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
	"gopkg.in/natefinch/lumberjack.v2"

	"parkbridge/internal/bridge"
	"parkbridge/internal/capture"
	"parkbridge/internal/config"
	"parkbridge/internal/ledger"
	"parkbridge/sink"
	"parkbridge/sources"
)

// App is a wired program: an open ledger, a client of the gate, and the
// sources, which connect when they are first read.
type App struct {
	Config *config.Config
	Ledger *ledger.Ledger
	Bridge *bridge.Bridge

	client *sink.Client
}

// New wires the sources named, or all where none is. A ledger that is not
// there is made only where mayCreate says so.
func New(ctx context.Context, cfg *config.Config, drivers sources.Registry, log *slog.Logger, mayCreate bool, names ...string) (*App, error) {
	a := &App{Config: cfg}
	var err error
	if a.client, err = sink.New(cfg.Sink); err != nil {
		return nil, err
	}
	var wired []*bridge.Source
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		if len(names) == 0 || slices.Contains(names, s.Name) {
			wired = append(wired, source(cfg, s, drivers))
		}
	}
	if a.Ledger, err = ledger.Open(ctx, cfg.Ledger, time.Now, mayCreate); err != nil {
		return nil, err
	}
	if a.Ledger.Created {
		log.Info("there was no ledger; made a new one", "file", a.Ledger.Path())
	}
	a.Bridge = &bridge.Bridge{
		Sources: wired, Ledger: a.Ledger, Gate: a.client, Log: log, Now: time.Now,
		Settings: bridge.Settings{
			Timeout: cfg.Sink.Timeout, Concurrency: cfg.Sink.Concurrency, RateLimit: cfg.Sink.RateLimit,
			UnorderedSerials: cfg.Sink.UnorderedSerials, Retention: cfg.Ledger.Retention,
		},
	}
	return a, nil
}

// Reset moves a source's mark on purpose; see [bridge.Bridge.Reset].
func (a *App) Reset(ctx context.Context, name, to string) (sources.Position, error) {
	s, err := a.Source(name)
	if err != nil {
		return sources.Position{}, err
	}
	position, err := a.Bridge.Reset(ctx, s, to)
	return position, a.Config.Wrap(err)
}

// Reconcile compares a window of a source with the ledger; see
// [bridge.Bridge.Reconcile].
func (a *App) Reconcile(ctx context.Context, s *bridge.Source, w bridge.Window, dry bool) (ledger.Reconcile, error) {
	result, err := a.Bridge.Reconcile(ctx, s, w, dry)
	return result, a.Config.Wrap(err)
}

func source(cfg *config.Config, s *config.Source, drivers sources.Registry) *bridge.Source {
	table := s.Table
	if table == "" {
		table = "query"
	}
	out := &bridge.Source{
		Name: s.Name, Table: table, Shape: s.Shape(), Location: s.Location, Program: s.Program, ReadyTimeout: s.ReadyTimeout, Reconcile: s.ReconcileCron,
		Poller: &capture.Poller{Config: s.Capture, PageSize: s.PageSize, Start: s.Start},
		Open: func(ctx context.Context) (bridge.Reader, error) {
			r, err := sources.Open(ctx, drivers, s.Config, s.Program.Needs())
			if err != nil {
				return nil, cfg.Wrap(err)
			}
			return &typed{Reader: bridge.Table(r), check: r.CheckTypes, now: time.Now}, nil
		},
	}
	if s.Series != nil {
		out.Open = nil
		out.Series = &bridge.Series{Pattern: s.Series, Open: func(ctx context.Context) (bridge.Tables, error) {
			t, err := sources.OpenTables(ctx, drivers, s.Config, s.Program.Needs())
			if err != nil {
				return nil, cfg.Wrap(err)
			}
			return tables{t, cfg}, nil
		}}
	}
	return out
}

// tables opens the tables of a series with their mistakes placed in the file.
type tables struct {
	*sources.Tables
	cfg *config.Config
}

func (t tables) List(ctx context.Context) (sources.Listing, error) {
	l, err := t.Tables.List(ctx)
	return l, t.cfg.Wrap(err)
}

func (t tables) Open(ctx context.Context, table string) (bridge.Reader, error) {
	r, err := t.Tables.Open(ctx, table)
	if err != nil {
		return nil, t.cfg.Wrap(err)
	}
	return &typed{Reader: bridge.Table(r), check: r.CheckTypes, now: time.Now}, nil
}

// Run serves until ctx ends. Every source must have a schedule.
func (a *App) Run(ctx context.Context) error {
	schedules := map[string]cron.Schedule{}
	for _, s := range a.Config.Sources {
		schedules[s.Name] = s.Cron
	}
	return a.Bridge.Serve(ctx, schedules)
}

// Source finds a wired source by name.
func (a *App) Source(name string) (*bridge.Source, error) {
	for _, s := range a.Bridge.Sources {
		if s.Name == name {
			return s, nil
		}
	}
	_, err := a.Config.Source(name)
	return nil, err
}

// Close ends every connection.
func (a *App) Close() error {
	var errs []error
	for _, s := range a.Bridge.Sources {
		errs = append(errs, s.Close())
	}
	a.client.Close()
	return errors.Join(append(errs, a.Ledger.Close())...)
}

// Logger makes the logger that the config asks for, and what closes it.
// Without a file it writes to stderr.
func Logger(cfg config.Log, stderr io.Writer) (*slog.Logger, func() error, error) {
	out, closing := stderr, func() error { return nil }
	if cfg.File != "" {
		// Tried at once: lumberjack would fail at the first line, which nobody sees.
		if err := os.MkdirAll(filepath.Dir(cfg.File), 0o755); err != nil {
			return nil, nil, fmt.Errorf("opening log.file: %w", err)
		}
		f, err := os.OpenFile(cfg.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("opening log.file: %w", err)
		}
		if err := f.Close(); err != nil {
			return nil, nil, err
		}
		rotating := &lumberjack.Logger{Filename: cfg.File, MaxSize: 10, MaxBackups: 5}
		out, closing = rotating, rotating.Close
	}
	var level slog.Level
	if cfg.Level != "" {
		if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
			return nil, nil, err
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, opts)), closing, nil
	}
	return slog.New(slog.NewTextHandler(out, opts)), closing, nil
}
