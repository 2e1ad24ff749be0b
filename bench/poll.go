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
	// polls is how many empty polls are measured in each rhythm.
	polls = 1000
	// apart is how long polls are apart in the slower rhythm, in which each finds
	// caches and processor cold; in the other each follows the last one at once.
	apart = 10 * time.Millisecond
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
	out := newTable(fmt.Sprintf("%s, nothing new in a table of %d rows, %d times", engine, rows, polls), "what", "median ms", "p99 ms")
	row := func(what string, values []float64) {
		b.results.note("empty", engine+" "+what, "ms", values)
		out.row(what, fmt.Sprintf("%.3f", quantile(values, 0.5)), fmt.Sprintf("%.3f", quantile(values, 0.99)))
	}
	for _, every := range []time.Duration{0, apart} {
		rhythm := ", one after the other"
		if every > 0 {
			rhythm = ", every " + every.String()
		}
		seek, err := s.seeks(ctx, every)
		if err != nil {
			return err
		}
		row("bare seek"+rhythm, seek)
		serving, cancel := context.WithCancel(ctx)
		watch.begin(serving, cancel, every)
		if err := app.Bridge.Serve(serving, map[string]cron.Schedule{s.table: watch}); err != nil {
			return err
		}
		if len(watch.took) < polls {
			return fmt.Errorf("%d polls of %d came to their end", len(watch.took), polls)
		}
		row("poll of the daemon"+rhythm, watch.took)
	}
	var syncs []float64
	for range polls {
		at := time.Now()
		app.Bridge.Sync(ctx, 0)
		syncs = append(syncs, milliseconds(time.Since(at)))
	}
	row("whole sync, in one process", syncs)
	b.results.print(os.Stdout, out)
	return nil
}

// seeks times the bare query, prepared, on one connection, in the rhythm of the
// polls that it stands beside.
func (s *site) seeks(ctx context.Context, every time.Duration) (took []float64, err error) {
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
		if every > 0 {
			pause(ctx, every)
		}
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
// when it asks for the next, to the line that the daemon logs at its end. It is
// the daemon's schedule and its log.
type stopwatch struct {
	mu      sync.Mutex
	serving context.Context //nolint:containedctx // of the one call of Serve that it times
	stop    func()          // nil: nothing is timed
	every   time.Duration   // 0: each poll begins at the end of the last
	asked   bool            // the scheduler has asked for the first poll
	begun   time.Time
	running bool
	took    []float64
	ended   chan struct{} // has one for the poll that is under way, once it has ended
}

// begin readies it for the polls of one call of Serve, which ends with enough of
// them.
func (w *stopwatch) begin(serving context.Context, stop func(), every time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serving, w.stop, w.every = serving, stop, every
	w.asked, w.running, w.took, w.ended = false, false, nil, make(chan struct{}, 1)
}

const (
	nothingNew = "a run found nothing new"
	skipped    = "the last run is still going; this one is skipped"
)

// Next is asked once before the first poll, and then when a poll begins.
func (w *stopwatch) Next(now time.Time) time.Time {
	w.mu.Lock()
	first := !w.asked
	w.asked = true
	if !first && !w.running { // one that comes too early for the last one's end is skipped
		w.begun, w.running = time.Now(), true
	}
	w.mu.Unlock()
	switch {
	case w.every > 0:
		return now.Add(w.every)
	case !first:
		select {
		case <-w.ended:
		case <-w.serving.Done():
		}
	}
	return now
}

// Enabled asks for every line.
func (w *stopwatch) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs changes nothing: the line's text tells enough. So does WithGroup.
func (w *stopwatch) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup changes nothing.
func (w *stopwatch) WithGroup(string) slog.Handler { return w }

// Handle takes a line.
func (w *stopwatch) Handle(_ context.Context, r slog.Record) error {
	at := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop == nil || r.Message != nothingNew && r.Message != skipped {
		return nil
	}
	if r.Message == nothingNew && w.running {
		w.took = append(w.took, milliseconds(at.Sub(w.begun)))
		if len(w.took) >= polls {
			w.stop()
		}
	}
	if w.every == 0 {
		w.running = false
		select {
		case w.ended <- struct{}{}:
		default:
		}
	} else if r.Message == nothingNew {
		w.running = false
	}
	return nil
}
