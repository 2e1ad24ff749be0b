package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Day is what a reconcile found of one day.
type Day struct {
	Day       string `json:"day"`       // yyyy-MM-dd in the source's zone; "": rows whose operate_time does not map
	Source    int    `json:"source"`    // rows in the source
	Ledger    int    `json:"ledger"`    // records in the ledger, before healing
	Delivered int    `json:"delivered"` // of those, delivered ones
	Missing   int    `json:"missing"`   // rows without a record
	Changed   int    `json:"changed"`   // rows whose content is not their record's
	Healed    int    `json:"healed"`    // missing rows that were landed
	Deleted   int    `json:"deleted"`   // records whose row is gone
}

// Reconcile is one comparison of a source's window with the ledger.
type Reconcile struct {
	ID         int64
	Source     string
	StartedAt  time.Time
	FinishedAt time.Time
	DryRun     bool
	Error      string
	// Start is where the source was begun, or reset to: what lies before it is not
	// compared. "" means at its first row. It is not kept.
	Start string
	Days  []Day // oldest first
}

// Total is the sum of the days.
func (r *Reconcile) Total() (all Day) {
	for _, d := range r.Days {
		all.Source += d.Source
		all.Ledger += d.Ledger
		all.Delivered += d.Delivered
		all.Missing += d.Missing
		all.Changed += d.Changed
		all.Healed += d.Healed
		all.Deleted += d.Deleted
	}
	return all
}

// CountDays counts the records of a source's table by the day of their
// operate_time, one for each key and generation, from a generation on, from a day
// to a day.
func (l *Ledger) CountDays(ctx context.Context, source, table string, generation int, from, to string) (map[string]Day, error) {
	days := map[string]Day{}
	err := each(ctx, l.read, func(rows *sql.Rows) error {
		var d Day
		err := rows.Scan(&d.Day, &d.Ledger, &d.Delivered)
		days[d.Day] = d
		return err
	}, `SELECT day, COUNT(*), SUM(state = 'delivered') FROM record
		WHERE `+ofTable+` AND day BETWEEN ? AND ? AND generation >= ? AND revision = 0 GROUP BY day`, source, table, from, to, generation)
	if err != nil {
		return nil, fmt.Errorf("counting records of source %s: %w", source, err)
	}
	return days, nil
}

// KeysOfDay gives keys of a source's table whose operate_time is of a day, from a
// generation on, in order, after one of them ("" for the first).
func (l *Ledger) KeysOfDay(ctx context.Context, source, table string, generation int, day, after string, limit int) (keys []string, err error) {
	err = each(ctx, l.read, func(rows *sql.Rows) error {
		var key string
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	}, "SELECT DISTINCT row_key FROM record WHERE "+ofTable+" AND day = ? AND generation >= ? AND row_key > ? ORDER BY row_key LIMIT ?", source, table, day, generation, after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of a day of source %s: %w", source, err)
	}
	return keys, nil
}

// SaveReconcile keeps a reconcile's result.
func (l *Ledger) SaveReconcile(ctx context.Context, r Reconcile) error {
	err := l.tx(ctx, func(tx *sql.Conn) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO reconcile_run (source, started_at, finished_at, error) VALUES (?, ?, ?, ?)",
			r.Source, stamp(r.StartedAt), stamp(r.FinishedAt), null(r.Error))
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		for _, d := range r.Days {
			if _, err := tx.ExecContext(ctx, "INSERT INTO reconcile_day (run_id, day, source_rows, ledger, delivered, missing, changed, healed, deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
				id, d.Day, d.Source, d.Ledger, d.Delivered, d.Missing, d.Changed, d.Healed, d.Deleted); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping the reconcile of source %s: %w", r.Source, err)
	}
	return nil
}

// LastReconcile is the last one of a source that healed what it found; nil
// where there was none.
func (l *Ledger) LastReconcile(ctx context.Context, source string) (*Reconcile, error) {
	r := Reconcile{Source: source}
	var started, finished string
	err := l.read.QueryRowContext(ctx, "SELECT id, started_at, finished_at, COALESCE(error, '') FROM reconcile_run WHERE source = ? ORDER BY id DESC LIMIT 1", source).
		Scan(&r.ID, &started, &finished, &r.Error)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // there was none
	}
	if err == nil {
		r.StartedAt, r.FinishedAt = unstamp(started), unstamp(finished)
		err = each(ctx, l.read, func(rows *sql.Rows) error {
			var d Day
			err := rows.Scan(&d.Day, &d.Source, &d.Ledger, &d.Delivered, &d.Missing, &d.Changed, &d.Healed, &d.Deleted)
			r.Days = append(r.Days, d)
			return err
		}, "SELECT day, source_rows, ledger, delivered, missing, changed, healed, deleted FROM reconcile_day WHERE run_id = ? ORDER BY day", r.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the last reconcile of source %s: %w", source, classed(err))
	}
	return &r, nil
}

func (l *Ledger) pruneReconciles(ctx context.Context, before time.Time) error {
	return l.tx(ctx, func(tx *sql.Conn) error {
		const old = "SELECT id FROM reconcile_run WHERE started_at < ? ORDER BY id LIMIT 1000"
		if _, err := tx.ExecContext(ctx, "DELETE FROM reconcile_day WHERE run_id IN ("+old+")", stamp(before)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM reconcile_run WHERE id IN ("+old+")", stamp(before))
		return err
	})
}
