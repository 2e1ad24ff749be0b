package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Run is one run of a source, or several in a row that found nothing and did
// nothing.
type Run struct {
	ID         int64
	Source     string
	StartedAt  time.Time // of the last of several
	FinishedAt time.Time // zero: still going, or killed
	// Runs is their number, and FirstStartedAt when the first of several began;
	// zero for one.
	Runs           int
	FirstStartedAt time.Time
	Read           int // rows read, those already landed included
	Landed         int
	Delivered      int
	Rejected       int
	Invalid        int
	Error          string
}

// BeginRun notes that a run has begun and gives its id. The caller holds the
// source's lease, so an earlier run that has no end was killed.
func (l *Ledger) BeginRun(ctx context.Context, source string, at time.Time) (id int64, err error) {
	err = l.tx(ctx, func(tx *sql.Conn) error {
		if _, err := tx.ExecContext(ctx, "UPDATE sync_run SET finished_at = ?, error = 'killed before its end' WHERE source = ? AND finished_at IS NULL", stamp(l.now()), source); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO sync_run (source, started_at) VALUES (?, ?)", source, stamp(at))
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

// NoteEmptyRuns notes runs that found nothing and did nothing, see [Run]. They
// are counted in the source's last row where that is of such runs too.
func (l *Ledger) NoteEmptyRuns(ctx context.Context, r Run) error {
	err := l.tx(ctx, func(tx *sql.Conn) error {
		first := r.FirstStartedAt
		if first.IsZero() {
			first = r.StartedAt
		}
		res, err := tx.ExecContext(ctx, `UPDATE sync_run SET runs = runs + ?, first_started_at = COALESCE(first_started_at, started_at), started_at = ?, finished_at = ?, read_rows = read_rows + ?
			WHERE id = (SELECT MAX(id) FROM sync_run WHERE source = ?)
			AND landed = 0 AND delivered = 0 AND rejected = 0 AND invalid = 0 AND error IS NULL AND finished_at IS NOT NULL`,
			r.Runs, stamp(r.StartedAt), stamp(r.FinishedAt), r.Read, r.Source)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		var since any
		if r.Runs > 1 {
			since = stamp(first)
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO sync_run (source, runs, first_started_at, started_at, finished_at, read_rows) VALUES (?, ?, ?, ?, ?, ?)",
			r.Source, r.Runs, since, stamp(r.StartedAt), stamp(r.FinishedAt), r.Read)
		return err
	})
	if err != nil {
		return fmt.Errorf("noting a run: %w", err)
	}
	return nil
}

// FinishRun notes the end of a run; failure is nil for a good one. read counts
// the rows it read that no landing has counted. It gives the run back with its
// counts.
func (l *Ledger) FinishRun(ctx context.Context, id int64, read int, failure error) (Run, error) {
	var text any
	if failure != nil {
		text = failure.Error()
	}
	var runs []Run
	err := l.tx(ctx, func(tx *sql.Conn) (err error) {
		runs, err = scanRuns(ctx, tx, "UPDATE sync_run SET finished_at = ?, read_rows = read_rows + ?, error = ? WHERE id = ? RETURNING "+runColumns, stamp(l.now()), read, text, id)
		return err
	})
	if err == nil && len(runs) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Run{}, fmt.Errorf("noting the end of a run: %w", err)
	}
	return runs[0], nil
}

const runColumns = "id, source, started_at, COALESCE(finished_at, ''), runs, COALESCE(first_started_at, ''), read_rows, landed, delivered, rejected, invalid, COALESCE(error, '')"

func scanRuns(ctx context.Context, db querier, query string, args ...any) ([]Run, error) {
	var out []Run
	err := each(ctx, db, func(rows *sql.Rows) error {
		var r Run
		var started, finished, first string
		if err := rows.Scan(&r.ID, &r.Source, &started, &finished, &r.Runs, &first, &r.Read, &r.Landed, &r.Delivered, &r.Rejected, &r.Invalid, &r.Error); err != nil {
			return err
		}
		r.StartedAt, r.FinishedAt, r.FirstStartedAt = unstamp(started), unstamp(finished), unstamp(first)
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
	return l.exec(ctx, `DELETE FROM sync_run WHERE id IN (
		SELECT id FROM (SELECT id, started_at FROM sync_run ORDER BY id LIMIT 1000) AS oldest WHERE started_at < ?)`, stamp(before))
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
	// Tables are those of a series, in order of their periods; nil: it is none.
	Tables []TableMark
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
	tx, err := l.read.BeginTx(ctx, nil) // the counts are of one moment
	if err == nil {
		err = errors.Join(count(ctx, tx, &s), tx.Rollback())
	}
	if err != nil {
		return s, fmt.Errorf("counting records of source %s: %w", source, classed(err))
	}
	if s.Tables, err = l.Tables(ctx, source); err != nil {
		return s, err
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

// count fills in how many records there are of each kind. The delivered ones,
// nearly all, are what is left of all when the others are taken off.
func count(ctx context.Context, tx *sql.Tx, s *SourceStatus) error {
	const ofSource = "origin_id IN (SELECT id FROM origin WHERE source = ?)"
	var all int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM record WHERE "+ofSource, s.Source).Scan(&all); err != nil {
		return err
	}
	if err := each(ctx, tx, func(rows *sql.Rows) error {
		var state string
		var n int
		err := rows.Scan(&state, &n)
		s.Counts[state], all = n, all-n
		return err
	}, `SELECT state, COUNT(*) FROM record WHERE `+special+` AND `+ofSource+` GROUP BY state
		UNION ALL SELECT 'pending', COUNT(*) FROM record WHERE state = 'pending' AND `+ofSource, s.Source, s.Source); err != nil {
		return err
	}
	s.Counts[Delivered] = all
	for state, n := range s.Counts {
		if n == 0 {
			delete(s.Counts, state)
		}
	}
	var oldest sql.NullString
	err := tx.QueryRowContext(ctx, "SELECT MIN(first_seen_at) FROM record WHERE state = 'pending' AND "+ofSource, s.Source).Scan(&oldest)
	if err != nil {
		return err
	}
	s.OldestPending = unstamp(oldest.String)
	return tx.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM record WHERE state = 'delivered' AND hint IS NOT NULL AND `+ofSource+`),
		(SELECT COUNT(*) FROM record WHERE seen_hash IS NOT NULL AND `+ofSource+`)`, s.Source, s.Source).Scan(&s.Remarks, &s.Changed)
}
