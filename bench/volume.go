package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// growth measures what a row costs when its table is a hundred times as large.
func growth(ctx context.Context, b *bench, engine string) error {
	large := b.number(10_000_000)
	sizes := []int{large / 100, large}
	pushed := min(20000, sizes[0])
	var runs []carried
	for round := range b.rounds {
		order := slices.Clone(sizes)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, size := range order {
			r, err := b.carry(ctx, product, task{engine: engine, rows: pushed, of: size, concurrency: b.atOnce()})
			if err != nil {
				return err
			}
			runs = append(runs, r)
		}
	}
	b.results.Runs = append(b.results.Runs, runs...)
	figures := func(value func(carried) float64) (rows [2][]float64, ratio []float64) {
		for _, r := range runs {
			at := slices.Index(sizes, r.Table)
			rows[at] = append(rows[at], value(r))
		}
		for i := range rows[0] {
			ratio = append(ratio, rows[1][i]/rows[0][i])
		}
		return rows, ratio
	}
	times, timeRatio := figures(func(r carried) float64 { return 1e6 / r.Rate })
	cpu, cpuRatio := figures(func(r carried) float64 { return r.CPU })
	out := newTable(fmt.Sprintf("%s, the last %d rows of a table, %d at a time: median (min-max) of %d", engine, pushed, b.atOnce(), b.rounds),
		"rows in the table", "µs/row", "ratio", "CPU µs/row", "ratio")
	out.row(sizes[0], spread(times[0], 1), "", spread(cpu[0], 1), "")
	out.row(sizes[1], spread(times[1], 1), spread(timeRatio, 3), spread(cpu[1], 1), spread(cpuRatio, 3))
	b.results.print(os.Stdout, out)
	return nil
}

// memoryFlat carries a long history and measures the peak, and what the ledger
// keeps of a record before and after its payload is wiped.
func memoryFlat(ctx context.Context, b *bench, engine string) error {
	rows := b.number(1_000_000)
	s, done, err := b.site(ctx, task{engine: engine, rows: rows, concurrency: b.atOnce()})
	if err != nil {
		return err
	}
	defer done()
	r, err := b.carryAt(ctx, product, s)
	if err != nil {
		return err
	}
	b.results.Runs = append(b.results.Runs, r)
	file := filepath.Join(s.dir, "parkbridge.db")
	sizes, err := wiping(ctx, file)
	if err != nil {
		return err
	}
	for i := range sizes {
		sizes[i] /= float64(rows)
	}
	b.results.note("memory", engine+" ledger", "bytes a record: with its payload, wiped, wiped and packed", sizes)
	out := newTable(fmt.Sprintf("%s, a backfill of %d rows, %d at a time", engine, rows, b.atOnce()),
		"peak MB", "rows/s", "CPU µs/row", "ledger bytes a record", "wiped", "wiped and packed")
	out.row(fmt.Sprintf("%.1f", r.Peak), fmt.Sprintf("%.0f", r.Rate), fmt.Sprintf("%.1f", r.CPU), fmt.Sprintf("%.0f", sizes[0]), fmt.Sprintf("%.0f", sizes[1]),
		fmt.Sprintf("%.0f", sizes[2]))
	b.results.print(os.Stdout, out)
	return nil
}

// wiping does to a ledger what the program does when retention is over, and
// gives the bytes of its file that hold something: before, after, and once
// VACUUM has packed it. Pages that wiping frees count as empty: the next
// records use them.
func wiping(ctx context.Context, file string) (sizes []float64, err error) {
	l, err := ledger.Open(ctx, ledger.Config{Driver: "sqlite", DSN: sources.Secret(file)}, time.Now, false)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", sources.FileURI(file))
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	defer db.Close()
	wipe := func() error {
		n, err := l.Wipe(ctx, time.Now().Add(time.Hour))
		if err == nil && n == 0 {
			err = errors.New("there was nothing to wipe")
		}
		return errors.Join(err, l.Close())
	}
	pack := func() error {
		_, err := db.ExecContext(ctx, "VACUUM")
		return err
	}
	for _, step := range []func() error{func() error { return nil }, wipe, pack} {
		var size float64
		if err := step(); err != nil {
			return nil, err
		}
		err := db.QueryRowContext(ctx, "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&size)
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// load measures what a backfill costs the server that is read.
func load(ctx context.Context, b *bench, engine string) error {
	if engine == "sqlite" {
		return nil // there is no server
	}
	s, done, err := b.site(ctx, task{engine: engine, rows: b.number(100_000), concurrency: b.atOnce()})
	if err != nil {
		return err
	}
	defer done()
	before, err := s.lot.busy(ctx)
	if err != nil {
		return err
	}
	r, err := b.carryAt(ctx, product, s)
	if err != nil {
		return err
	}
	pause(ctx, time.Second) // the server counts what a session did when it has ended
	after, err := s.lot.busy(ctx)
	if err != nil {
		return err
	}
	b.results.Runs = append(b.results.Runs, r)
	cpu, statements := after.cpu-before.cpu, after.statements-before.statements
	out := newTable(fmt.Sprintf("%s, what a backfill of %d rows costs its server, %d at a time", engine, s.rows, b.atOnce()),
		"rows/s", "server CPU ms per 1,000 rows", "server CPU % of a core", map[string]string{"postgres": "transactions/s", "mysql": "statements/s"}[engine])
	out.row(fmt.Sprintf("%.0f", r.Rate), fmt.Sprintf("%.2f", milliseconds(cpu)*1000/float64(s.rows)), fmt.Sprintf("%.1f", 100*cpu.Seconds()/r.Total),
		fmt.Sprintf("%.1f", float64(statements)/r.Total))
	b.results.note("load", engine+" server CPU", "ms per 1,000 rows", []float64{milliseconds(cpu) * 1000 / float64(s.rows)})
	b.results.print(os.Stdout, out)
	return nil
}

// business is what a server has done since it began.
type business struct {
	cpu        time.Duration // PostgreSQL: of sessions that have ended
	statements int64         // PostgreSQL: transactions in this database
}

func (l *lot) busy(ctx context.Context) (s business, err error) {
	var pid int
	if l.engine == "postgres" {
		if err := l.db.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			return s, err
		}
		pid = parent(pid)
		err = l.db.QueryRowContext(ctx, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").Scan(&s.statements)
	} else {
		var file, name string
		if err := l.db.QueryRowContext(ctx, "SELECT @@pid_file").Scan(&file); err != nil {
			return s, err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return s, err
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return s, err
		}
		if err := l.db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Questions'").Scan(&name, &s.statements); err != nil {
			return s, err
		}
	}
	s.cpu = processor(pid)
	return s, err
}

// parent is the process that started another: PostgreSQL's own, of a session.
func parent(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // not on every system
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, "PPid:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(rest))
			return n
		}
	}
	return 0
}
