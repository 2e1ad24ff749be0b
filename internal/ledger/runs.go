package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Run is one run of a source.
type Run struct {
	ID         int64
	Source     string
	StartedAt  time.Time
	FinishedAt time.Time // zero: still going, or killed
	Read       int       // rows read, those already landed included
	Landed     int
	Delivered  int
	Rejected   int
	Invalid    int
	Error      string
}

// StartRun notes that a run has begun and gives its id. The caller holds the
// source's lease, so an earlier run that has no end was killed.
func (l *Ledger) StartRun(ctx context.Context, source string) (id int64, err error) {
	err = l.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE sync_run SET finished_at = ?, error = 'killed before its end' WHERE source = ? AND finished_at IS NULL", stamp(l.now()), source); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO sync_run (source, started_at) VALUES (?, ?)", source, stamp(l.now()))
		if err != nil {
			return err
		}
		id, err = res.LastInsertId()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("noting the start of a run: %w", err)
	}
	return id, nil
}

// FinishRun notes the end of a run; failure is nil for a good one. read counts
// the rows it read that no landing has counted. It gives the run back with its
// counts.
func (l *Ledger) FinishRun(ctx context.Context, id int64, read int, failure error) (Run, error) {
	var text any
	if failure != nil {
		text = failure.Error()
	}
	runs, err := scanRuns(ctx, l.write, "UPDATE sync_run SET finished_at = ?, read_rows = read_rows + ?, error = ? WHERE id = ? RETURNING "+runColumns, stamp(l.now()), read, text, id)
	if err == nil && len(runs) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Run{}, fmt.Errorf("noting the end of a run: %w", err)
	}
	return runs[0], nil
}

const runColumns = "id, source, started_at, COALESCE(finished_at, ''), read_rows, landed, delivered, rejected, invalid, COALESCE(error, '')"

func scanRuns(ctx context.Context, db querier, query string, args ...any) ([]Run, error) {
	var out []Run
	err := each(ctx, db, func(rows *sql.Rows) error {
		var r Run
		var started, finished string
		if err := rows.Scan(&r.ID, &r.Source, &started, &finished, &r.Read, &r.Landed, &r.Delivered, &r.Rejected, &r.Invalid, &r.Error); err != nil {
			return err
		}
		r.StartedAt, r.FinishedAt = unstamp(started), unstamp(finished)
		out = append(out, r)
		return nil
	}, query, args...)
	return out, err
}

// Runs lists the latest runs, newest first; of all sources where source is "".
func (l *Ledger) Runs(ctx context.Context, source string, limit int) ([]Run, error) {
	where, args := "", []any{limit}
	if source != "" {
		where, args = " WHERE source = ?", []any{source, limit}
	}
	runs, err := scanRuns(ctx, l.read, "SELECT "+runColumns+" FROM sync_run"+where+" ORDER BY id DESC LIMIT ?", args...)
	if err != nil {
		return nil, fmt.Errorf("listing runs: %w", err)
	}
	return runs, nil
}

// PruneRuns forgets runs and reconciles begun before a time, the oldest thousand
// of each.
func (l *Ledger) PruneRuns(ctx context.Context, before time.Time) error {
	if err := l.pruneReconciles(ctx, before); err != nil {
		return err
	}
	_, err := l.write.ExecContext(ctx, `DELETE FROM sync_run WHERE id IN (
		SELECT id FROM (SELECT id, started_at FROM sync_run ORDER BY id LIMIT 1000) AS oldest WHERE started_at < ?)`, stamp(before))
	return classed(err)
}

// SourceStatus is what the ledger knows of a source.
type SourceStatus struct {
	Source        string
	Mark          Mark
	MovedAt       time.Time // zero: never
	Holder        string    // who holds the lease now, "" for nobody
	Counts        map[string]int
	OldestPending time.Time // when the oldest pending record was first seen; zero: none
	LastRun       *Run
	// Remarks counts the delivered records that the platform accepted with a hint.
	Remarks int
	// Changed counts the delivered records whose row is another by now.
	Changed int
	// Reconciled is the last reconcile; nil: there was none.
	Reconciled *Reconcile
}

// Status describes a source; one never run has zero counts and no run.
func (l *Ledger) Status(ctx context.Context, source string) (SourceStatus, error) {
	s := SourceStatus{Source: source, Counts: map[string]int{}}
	var err error
	if s.Mark, err = l.Mark(ctx, source); err != nil {
		return s, err
	}
	var holder, moved sql.NullString
	err = l.read.QueryRowContext(ctx, "SELECT lease_holder, moved_at FROM high_water_mark WHERE source = ?", source).Scan(&holder, &moved)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("reading the status of source %s: %w", source, classed(err))
	}
	s.Holder, s.MovedAt = holder.String, unstamp(moved.String)
	if err := each(ctx, l.read, func(rows *sql.Rows) error {
		var state string
		var n int
		err := rows.Scan(&state, &n)
		s.Counts[state] = n
		return err
	}, "SELECT state, COUNT(*) FROM sync_status WHERE source = ? GROUP BY state", source); err != nil {
		return s, fmt.Errorf("counting records of source %s: %w", source, err)
	}
	var oldest sql.NullString
	err = l.read.QueryRowContext(ctx, "SELECT MIN(first_seen_at) FROM sync_status WHERE state = 'pending' AND source = ?", source).Scan(&oldest)
	if err != nil {
		return s, fmt.Errorf("reading the status of source %s: %w", source, classed(err))
	}
	s.OldestPending = unstamp(oldest.String)
	err = l.read.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM sync_status WHERE state = 'delivered' AND hint IS NOT NULL AND source = ?1),
		(SELECT COUNT(*) FROM sync_status WHERE seen_hash IS NOT NULL AND source = ?1)`, source).Scan(&s.Remarks, &s.Changed)
	if err != nil {
		return s, fmt.Errorf("reading the status of source %s: %w", source, classed(err))
	}
	if s.Reconciled, err = l.LastReconcile(ctx, source); err != nil {
		return s, err
	}
	runs, err := l.Runs(ctx, source, 1)
	if err != nil {
		return s, err
	}
	if len(runs) > 0 {
		s.LastRun = &runs[0]
	}
	return s, nil
}
