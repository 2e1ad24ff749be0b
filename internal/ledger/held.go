package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// HeldRecord is a held record: its row was not ready when it was read.
type HeldRecord struct {
	ID   int64
	Key  string
	Hash string // of the row as it was read last
	Day  string // of operate_time; "" where it did not map
	// Generation and Revision are the record's.
	Generation, Revision int
	FirstSeenAt          time.Time
}

// Held gives held records of a source's table in order of landing, after one of
// them (0 for the first).
func (l *Ledger) Held(ctx context.Context, source, table string, after int64, limit int) ([]HeldRecord, error) {
	var out []HeldRecord
	err := each(ctx, l.read, func(rows *sql.Rows) error {
		var h HeldRecord
		var seen string
		err := rows.Scan(&h.ID, &h.Key, &h.Hash, &h.Day, &h.Generation, &h.Revision, &seen)
		h.FirstSeenAt = unstamp(seen)
		out = append(out, h)
		return err
	}, "SELECT id, row_key, content_hash, COALESCE(day, ''), generation, revision, first_seen_at FROM record WHERE "+ofTable+" AND state = 'held' AND "+special+" AND id > ? ORDER BY id LIMIT ?",
		source, table, after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the held records of source %s: %w", source, err)
	}
	return out, nil
}

// HeldTables gives the tables of a source that have held records.
func (l *Ledger) HeldTables(ctx context.Context, source string) (map[string]bool, error) {
	out := map[string]bool{}
	err := each(ctx, l.read, func(rows *sql.Rows) error {
		var table string
		err := rows.Scan(&table)
		out[table] = true
		return err
	}, "SELECT table_name FROM origin WHERE source = ? AND EXISTS (SELECT 1 FROM record WHERE origin_id = origin.id AND state = 'held' AND "+special+")", source)
	if err != nil {
		return nil, fmt.Errorf("looking for held records of source %s: %w", source, err)
	}
	return out, nil
}

// held brings a held record up to date: it is pending or invalid now, or still
// held, with the hash of the row as it is.
func (w *writing) held(ctx context.Context, c *Change, out *Landed) error {
	state, fields, problems, err := c.To.encode()
	if err != nil {
		return err
	}
	lot, err := w.lot(ctx, c.To.ParkUUID)
	if err != nil {
		return err
	}
	res, err := w.tx.ExecContext(ctx, `UPDATE record SET state = ?, next_attempt_at = ?, content_hash = COALESCE(?, content_hash), identity_hash = ?, day = ?,
		lot_id = ?, flow_no = ?, parking_serial = ?, errors = ? WHERE id = ? AND content_hash = ? AND state = 'held'`,
		state, w.now, blob(c.To.Hash), blob(c.To.Identity), null(c.To.Day), lot, null(c.To.FlowNo), null(c.To.ParkingSerial), problems, c.ID, []byte(c.Was))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 || state == Held {
		return err
	}
	out.count(state)
	return w.keep(ctx, c.ID, null(c.To.Columns), fields)
}

// DueOf is [Ledger.Due] narrowed to some records, all at once.
func (l *Ledger) DueOf(ctx context.Context, q DueQuery, ids []int64) ([]Due, error) {
	sourceList, unordered, err := l.lists(ctx, q)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	return l.due(ctx, dueColumns+`WHERE r.id IN (SELECT value FROM json_each(?)) AND r.state = 'pending' AND r.origin_id IN `+ofSources+`
		AND (r.parking_serial IN (SELECT value FROM json_each(?)) OR NOT EXISTS (
			SELECT 1 FROM record e WHERE e.state = 'pending' AND e.parking_serial = r.parking_serial AND e.lot_id = r.lot_id AND e.id < r.id
			AND e.origin_id NOT IN `+ofSources+`))
		ORDER BY r.id`, list, sourceList, unordered, sourceList)
}
