package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"parkbridge/internal/config"
	"parkbridge/internal/daemon"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
)

const (
	// polls is how many empty polls are measured.
	polls = 1000
	// rhythm is how often.
	rhythm = 10 * time.Millisecond
)

// empty measures a poll that finds nothing new in a large table, in this
// process, beside the bare query of a page above the last row.
func empty(ctx context.Context, b *bench, engine string) error {
	rows := b.number(10_000_000)
	s, done, err := b.site(ctx, task{engine: engine, rows: 1, of: rows, concurrency: 8})
	if err != nil {
		return err
	}
	defer done()
	cfg, err := config.Load(filepath.Join(s.dir, "config.yaml"), sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver()))
	if err != nil {
		return err
	}
	watch := &stopwatch{}
	app, err := daemon.New(ctx, cfg, sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver()), slog.New(watch), true)
	if err != nil {
		return err
	}
	defer app.Close()
	for range 3 { // the first carries one row, the others take the floor up to it
		if r := app.Bridge.Sync(ctx, 0); r.Err != nil || r.Sources[0].Err != nil {
			return fmt.Errorf("syncing: %w, %w", r.Err, r.Sources[0].Err)
		}
		pause(ctx, 2500*time.Millisecond)
	}
	seek, err := s.seeks(ctx)
	if err != nil {
		return err
	}
	var syncs []float64
	for range polls {
		at := time.Now()
		app.Bridge.Sync(ctx, 0)
		syncs = append(syncs, milliseconds(time.Since(at)))
	}
	serving, cancel := context.WithCancel(ctx)
	watch.enough, watch.stop = polls, cancel
	if err := app.Bridge.Serve(serving, map[string]cron.Schedule{s.table: watch}); err != nil {
		return err
	}
	out := newTable(fmt.Sprintf("%s, nothing new in a table of %d rows, %d times", engine, rows, polls), "what", "median ms", "p99 ms")
	for _, f := range []struct {
		what   string
		values []float64
	}{{"bare seek", seek}, {"poll of the daemon", watch.took}, {"whole sync, in one process", syncs}} {
		b.results.note("empty", engine+" "+f.what, "ms", f.values)
		out.row(f.what, fmt.Sprintf("%.3f", quantile(f.values, 0.5)), fmt.Sprintf("%.3f", quantile(f.values, 0.99)))
	}
	b.results.print(os.Stdout, out)
	return nil
}

// seeks times the bare query, prepared, on one connection.
func (s *site) seeks(ctx context.Context) (took []float64, err error) {
	conn, err := s.lot.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	place := "?"
	if s.engine == "postgres" {
		place = "$1"
	}
	stmt, err := conn.PrepareContext(ctx, "SELECT id, entry_id, plate_no, color, card_kind, in_time, out_time, op_time, op_name, reason FROM "+ //nolint:gosec // a name of our own
		s.table+" WHERE id > "+place+" ORDER BY id LIMIT 1000")
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	for range polls {
		pause(ctx, rhythm) // as the daemon's polls, which find caches and processor as cold
		at := time.Now()
		if err := s.seek(ctx, stmt); err != nil {
			return nil, err
		}
		took = append(took, milliseconds(time.Since(at)))
	}
	return took, nil
}

func (s *site) seek(ctx context.Context, stmt *sql.Stmt) error {
	rows, err := stmt.QueryContext(ctx, s.of)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		return fmt.Errorf("%s has rows above %d", s.table, s.of)
	}
	return rows.Err()
}

// stopwatch times the daemon's polls from the moment the scheduler begins one,
// when it asks for the next, to the line that the daemon logs at its end.
type stopwatch struct {
	mu      sync.Mutex
	begun   time.Time
	running bool
	took    []float64
	enough  int
	stop    func()
}

const nothingNew = "a run found nothing new"

// Next is asked when a poll begins; the next is a rhythm from now. One that comes
// too early for the last one's end is skipped.
func (w *stopwatch) Next(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		w.begun, w.running = time.Now(), true
	}
	return now.Add(rhythm)
}

// Enabled asks for every line.
func (w *stopwatch) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs changes nothing: the line's text tells enough. So does WithGroup.
func (w *stopwatch) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup changes nothing.
func (w *stopwatch) WithGroup(string) slog.Handler { return w }

// Handle takes a line.
func (w *stopwatch) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Message != nothingNew || w.stop == nil {
		return nil
	}
	w.running = false
	w.took = append(w.took, milliseconds(time.Since(w.begun)))
	if len(w.took) >= w.enough {
		w.stop()
	}
	return nil
}
