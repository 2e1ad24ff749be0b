package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"parkbridge/sources"
)

// TableMark is where the reading of one table of a series stands; one that is
// emptied and filled again has one for each time.
type TableMark struct {
	Mark
	Table      string
	Generation int    // of its records, this one or a higher one, up to the table's next
	Period     string // yyyyMM or yyyy: what the table is for
	// OldRows is up to where rows of the year before are still in the table; zero:
	// there are none.
	OldRows sources.Position
	// ClosedAt is when it had been read to its end and nothing more was to come;
	// zero: it is read on.
	ClosedAt time.Time
	// GoneAt is when it was found to be no longer there; zero: it is.
	GoneAt time.Time
	// MovedAt is when its mark was last moved; zero: never.
	MovedAt time.Time
}

// Tables lists the tables of a source that is a series, each time that one was
// filled, in order of their periods.
func (l *Ledger) Tables(ctx context.Context, source string) ([]TableMark, error) {
	var out []TableMark
	err := each(ctx, l.read, func(rows *sql.Rows) error {
		var t TableMark
		var mark, floor, old, closed, gone, moved string
		err := rows.Scan(&t.Table, &t.Generation, &t.Period, &mark, &floor, &t.Journal, &t.Seen, &t.version, &old, &closed, &gone, &moved)
		for _, p := range []struct {
			text string
			to   *sources.Position
		}{{mark, &t.Mark.Mark}, {floor, &t.Floor}, {old, &t.OldRows}} {
			if err == nil {
				*p.to, err = sources.DecodePosition(p.text)
			}
		}
		t.Started, t.table, t.generation = t.version > 0, t.Table, t.Generation
		t.ClosedAt, t.GoneAt, t.MovedAt = unstamp(closed), unstamp(gone), unstamp(moved)
		out = append(out, t)
		return err
	}, `SELECT table_name, generation, period, mark, floor, journal, seen, version, old_rows, COALESCE(closed_at, ''), COALESCE(gone_at, ''), COALESCE(moved_at, '')
		FROM table_mark WHERE source = ? ORDER BY period, generation, table_name`, source)
	if err != nil {
		return nil, fmt.Errorf("reading the marks of the tables of source %s: %w", source, classed(err))
	}
	return out, nil
}

// BeginSeries stores where a series of tables begins, or begins anew: in is the
// move of the source's own mark, and tables are those of which the rows up to a
// position are left out. Every other table is to be read from its first row on;
// what is known of its records stays.
func (l *Ledger) BeginSeries(ctx context.Context, in Landing, tables []TableMark) (Mark, error) {
	now := stamp(l.now())
	err := l.tx(ctx, func(tx *sql.Conn) error {
		if err := moveMark(ctx, tx, &in, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE table_mark SET mark = '', floor = '', journal = '', seen = '', version = 0, moved_at = NULL, old_rows = '', closed_at = NULL, gone_at = NULL
			WHERE source = ?`, in.Lease.Source); err != nil {
			return err
		}
		for i := range tables {
			if err := addTable(ctx, tx, in.Lease.Source, &tables[i], now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Mark{}, fmt.Errorf("noting where source %s begins: %w", in.Lease.Source, err)
	}
	return in.From.moved(in), nil
}

// AddTable notes that a table of a series is read from now on, or was emptied and
// is being filled again. A generation of 0 becomes the next one that no record has.
func (l *Ledger) AddTable(ctx context.Context, lease *Lease, t TableMark) (TableMark, error) {
	err := l.tx(ctx, func(tx *sql.Conn) error {
		if err := lease.check(ctx, l.stmts.lease); err != nil {
			return err
		}
		return addTable(ctx, tx, lease.Source, &t, stamp(l.now()))
	})
	if err != nil {
		return t, fmt.Errorf("noting table %s of source %s: %w", t.Table, lease.Source, err)
	}
	return t, nil
}

func addTable(ctx context.Context, tx *sql.Conn, source string, t *TableMark, now string) error {
	if t.Generation == 0 {
		if err := tx.QueryRowContext(ctx, `SELECT 1 + MAX(COALESCE((SELECT MAX(generation) FROM table_mark WHERE source = ? AND table_name = ?), 0),
			COALESCE((SELECT MAX(generation) FROM record WHERE `+ofTable+`), 0))`, source, t.Table, source, t.Table).Scan(&t.Generation); err != nil {
			return err
		}
	}
	t.version = 0
	if t.Started {
		t.version = 1
	}
	t.table, t.generation = t.Table, t.Generation
	_, err := tx.ExecContext(ctx, `INSERT INTO table_mark (source, table_name, generation, period, mark, floor, journal, seen, version, moved_at, old_rows, closed_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, CASE ? WHEN '' THEN NULL ELSE ? END, ?, ?)
		ON CONFLICT (source, table_name, generation) DO UPDATE SET mark = excluded.mark, floor = excluded.floor, journal = excluded.journal, seen = excluded.seen,
			version = excluded.version, old_rows = excluded.old_rows, closed_at = excluded.closed_at, gone_at = NULL`,
		source, t.Table, t.Generation, t.Period, t.Mark.Mark.Encode(), t.Floor.Encode(), t.Journal, t.Seen, t.version,
		t.Mark.Mark.Encode(), now, t.OldRows.Encode(), null(stamp(t.ClosedAt)))
	return err
}

// NoteTable stores what is known of a table of a series beside its mark: up to
// where it holds old rows, and whether it is closed or gone.
func (l *Ledger) NoteTable(ctx context.Context, lease *Lease, t TableMark) error {
	err := l.tx(ctx, func(tx *sql.Conn) error {
		if err := lease.check(ctx, l.stmts.lease); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE table_mark SET old_rows = ?, closed_at = ?, gone_at = ? WHERE source = ? AND table_name = ? AND generation = ?",
			t.OldRows.Encode(), null(stamp(t.ClosedAt)), null(stamp(t.GoneAt)), lease.Source, t.Table, t.Generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("noting table %s of source %s: %w", t.Table, lease.Source, err)
	}
	return nil
}

// moveTable is moveMark for a table of a series.
func moveTable(ctx context.Context, tx *sql.Conn, in *Landing, now string) error {
	to, mark := in.To, in.To.Mark.Encode()
	res, err := tx.ExecContext(ctx, `UPDATE table_mark SET mark = ?, floor = ?, journal = ?, seen = ?, version = version + 1,
		moved_at = CASE WHEN mark = ? THEN moved_at ELSE ? END WHERE source = ? AND table_name = ? AND generation = ? AND version = ?`,
		mark, to.Floor.Encode(), to.Journal, to.Seen, mark, now, in.Lease.Source, in.From.table, in.From.generation, in.From.version)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrMarkMoved, err)
	}
	return nil
}
