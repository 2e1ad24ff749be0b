package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"parkbridge/sources"
)

// Record is one release as the ledger knows it.
type Record struct {
	ID             int64
	Source         string
	Table          string
	Key            string
	Generation     int
	Revision       int
	ParkUUID       string
	FlowNo         string
	ParkingSerial  string
	State          string
	Attempts       int
	Code           string
	Message        string
	Hint           string
	SeqNo          string
	HTTPStatus     int
	FirstSeenAt    time.Time
	NextAttemptAt  time.Time
	LastAttemptAt  time.Time // zero: never sent
	DeliveredAt    time.Time // zero: not delivered
	Columns        map[string]sources.Value
	Fields         map[string]string
	Problems       []Problem
	Note           string
	columnsPresent bool
}

// Wiped reports that the columns are gone: the retention has passed.
func (r *Record) Wiped() bool { return !r.columnsPresent }

// Filter narrows a list of records. Zero fields do not narrow.
type Filter struct {
	IDs     []int64
	States  []string
	Source  string
	Table   string
	Key     string
	FlowNo  string
	Plate   string
	Remark  bool      // only those delivered with a hint
	Since   time.Time // first seen at or after
	Until   time.Time // first seen before
	Limit   int       // 0 means all
	AfterID int64     // for lists that are walked in order of landing
	Oldest  bool      // oldest first; else the newest come first
}

const recordColumns = `SELECT id, source, table_name, row_key, generation, revision, COALESCE(park_uuid, ''), COALESCE(flow_no, ''), COALESCE(parking_serial, ''), state, attempts,
	COALESCE(code, ''), COALESCE(message, ''), COALESCE(hint, ''), COALESCE(seqno, ''), COALESCE(http_status, 0), first_seen_at, COALESCE(next_attempt_at, ''),
	COALESCE(last_attempt_at, ''), COALESCE(delivered_at, ''), columns, fields, errors, COALESCE(note, '') FROM sync_status`

func (f Filter) where() (string, []any) {
	var conds []string
	var args []any
	add := func(cond string, arg ...any) {
		conds, args = append(conds, cond), append(args, arg...)
	}
	if f.IDs != nil {
		ids := make([]any, len(f.IDs))
		for i, id := range f.IDs {
			ids[i] = id
		}
		add("id IN ("+placeholders(len(ids))+")", ids...)
	}
	if len(f.States) > 0 {
		states := make([]any, len(f.States))
		for i, s := range f.States {
			states[i] = s
		}
		add("state IN ("+placeholders(len(states))+")", states...)
		// In so many words, or the small indexes are not used.
		if len(states) == 1 && f.States[0] == Pending {
			add("state = 'pending'")
		} else if !slices.Contains(f.States, Pending) && !slices.Contains(f.States, Delivered) {
			add(special)
		}
	}
	if f.Source != "" {
		add("source = ?", f.Source)
	}
	if f.Table != "" {
		add("table_name = ?", f.Table)
	}
	if f.Key != "" {
		add("row_key = ?", f.Key)
	}
	if f.FlowNo != "" {
		add("flow_no = ?", f.FlowNo)
	}
	if f.Plate != "" {
		add("json_extract(fields, '$.plate') = ?", f.Plate)
	}
	if f.Remark {
		add("state = 'delivered' AND hint IS NOT NULL")
	}
	if !f.Since.IsZero() {
		add("first_seen_at >= ?", stamp(f.Since))
	}
	if !f.Until.IsZero() {
		add("first_seen_at < ?", stamp(f.Until))
	}
	if f.AfterID > 0 {
		add("id > ?", f.AfterID)
	}
	if conds == nil {
		return "", nil
	}
	return " WHERE " + strings.Join(conds, " AND "), args
}

// Records lists records.
func (l *Ledger) Records(ctx context.Context, f Filter) ([]Record, error) {
	where, args := f.where()
	query := recordColumns + where + " ORDER BY id"
	if !f.Oldest {
		query += " DESC"
	}
	if f.Limit > 0 {
		query += fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	var out []Record
	err := each(ctx, l.read, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		out = append(out, r)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("listing records: %w", err)
	}
	return out, nil
}

func scanRecord(rows *sql.Rows) (Record, error) {
	var r Record
	var seen, next, last, delivered string
	var columns, fields, problems []byte
	err := rows.Scan(&r.ID, &r.Source, &r.Table, &r.Key, &r.Generation, &r.Revision, &r.ParkUUID, &r.FlowNo, &r.ParkingSerial, &r.State, &r.Attempts,
		&r.Code, &r.Message, &r.Hint, &r.SeqNo, &r.HTTPStatus, &seen, &next, &last, &delivered, &columns, &fields, &problems, &r.Note)
	if err != nil {
		return r, err
	}
	r.FirstSeenAt, r.NextAttemptAt, r.LastAttemptAt, r.DeliveredAt = unstamp(seen), unstamp(next), unstamp(last), unstamp(delivered)
	if r.columnsPresent = columns != nil; r.columnsPresent {
		if r.Columns, err = sources.DecodeRow(columns); err != nil {
			return r, err
		}
	}
	for _, part := range []struct {
		raw []byte
		to  any
	}{{fields, &r.Fields}, {problems, &r.Problems}} {
		if part.raw != nil {
			if err := json.Unmarshal(part.raw, part.to); err != nil {
				return r, fmt.Errorf("record %d: %w", r.ID, err)
			}
		}
	}
	return r, nil
}

// Find gives the records a person means: by id, by flow_no, or by either with
// "id:" or "flow:" before it. [ErrNoRecord] where there is none.
func (l *Ledger) Find(ctx context.Context, name string) ([]Record, error) {
	filters := []Filter{{FlowNo: name}}
	if rest, ok := strings.CutPrefix(name, "flow:"); ok {
		filters[0].FlowNo = rest
	} else if id, err := strconv.ParseInt(strings.TrimPrefix(name, "id:"), 10, 64); err == nil {
		filters = append(filters, Filter{IDs: []int64{id}})
	}
	var out []Record
	for _, f := range filters {
		found, err := l.Records(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if len(out) == 0 || out[0].ID != r.ID {
				out = append(out, r)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no id and no flow_no is %q", ErrNoRecord, name)
	}
	return out, nil
}

// Reopen takes a held, rejected or invalid record, mapped again, back to pending or,
// where it still does not map, to invalid. Columns and hashes replace the stored
// row where it was read again; where they are empty, it stays. state is the one
// it now has.
func (l *Ledger) Reopen(ctx context.Context, r Record, m Content) (state string, problems []Problem, err error) {
	err = l.tx(ctx, func(tx *sql.Conn) error {
		if err := findCollisions(ctx, tx, []candidate{{Mapped: &m.Mapped, id: r.ID, key: r.Key}}); err != nil {
			return err
		}
		var fields, problemJSON any
		if state, fields, problemJSON, err = m.encode(); err != nil {
			return err
		}
		w := &writing{l: l, tx: tx, lots: map[string]int64{}}
		lot, err := w.lot(ctx, m.ParkUUID)
		if err != nil {
			return err
		}
		if err := changedOne(tx.ExecContext(ctx, `UPDATE record SET state = ?, attempts = 0, next_attempt_at = ?, last_attempt_at = NULL,
			code = NULL, message = NULL, hint = NULL, http_status = NULL, lot_id = ?, flow_no = ?, parking_serial = ?, errors = ?,
			content_hash = COALESCE(?, content_hash), identity_hash = COALESCE(?, identity_hash), day = ?, note = NULL
			WHERE id = ? AND state IN ('held', 'rejected', 'invalid', 'dismissed')`,
			state, stamp(l.now()), lot, null(m.FlowNo), null(m.ParkingSerial), problemJSON,
			blob(m.Hash), blob(m.Identity), null(m.Day), r.ID)); err != nil {
			return err
		}
		if m.Held {
			_, err := tx.ExecContext(ctx, "DELETE FROM payload WHERE id = ?", r.ID)
			return err
		}
		return w.keep(ctx, r.ID, null(m.Columns), fields)
	})
	if err != nil {
		return "", nil, fmt.Errorf("retrying record %d: %w", r.ID, err)
	}
	return state, m.Problems, nil
}

func changedOne(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("it changed its state meanwhile; look again"), err)
	}
	return nil
}

// HurryUp makes a pending record due now.
func (l *Ledger) HurryUp(ctx context.Context, id int64) error {
	return l.exec(ctx, "UPDATE record SET next_attempt_at = ? WHERE id = ? AND state = 'pending'", stamp(l.now()), id)
}

// Dismiss ends a record by a person's decision.
func (l *Ledger) Dismiss(ctx context.Context, id int64, note string) error {
	err := l.tx(ctx, func(tx *sql.Conn) error {
		return changedOne(tx.ExecContext(ctx, "UPDATE record SET state = 'dismissed', note = ? WHERE id = ? AND state IN ('held', 'pending', 'rejected', 'invalid')", note, id))
	})
	if err != nil {
		return fmt.Errorf("dismissing record %d: %w", id, err)
	}
	return nil
}

// Resend makes delivered records pending again, under the same flow_no. wiped
// counts those whose fields the retention has taken, which cannot be sent.
func (l *Ledger) Resend(ctx context.Context, f Filter) (resent, wiped int, err error) {
	f.States = []string{Delivered}
	where, args := f.where()
	// The period of a resend is that of delivery: what the platform lost.
	where = strings.ReplaceAll(where, "first_seen_at", "delivered_at")
	err = l.tx(ctx, func(tx *sql.Conn) error {
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM sync_status"+where+" AND fields IS NULL", args...).Scan(&wiped); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "UPDATE record SET state = 'pending', attempts = 0, next_attempt_at = ? WHERE id IN (SELECT id FROM sync_status"+where+" AND fields IS NOT NULL)", //nolint:gosec // where holds placeholders only
			append([]any{stamp(l.now())}, args...)...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		resent = int(n)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("resending: %w", err)
	}
	return resent, wiped, nil
}

// wipePage bounds one transaction of Wipe, so that landing and settling do not
// wait for it.
const wipePage = 1000

// Wipe takes the personal data off records delivered before a time: columns,
// fields, and what the platform quoted of them.
func (l *Ledger) Wipe(ctx context.Context, before time.Time) (int, error) {
	last, err := l.seenBefore(ctx, before)
	if err != nil {
		return 0, fmt.Errorf("wiping delivered records: %w", classed(err))
	}
	total, after := 0, int64(0)
	for {
		var ids []int64
		err := each(ctx, l.read, func(rows *sql.Rows) error {
			var id int64
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		}, `SELECT p.id FROM payload p CROSS JOIN record r ON r.id = p.id
			WHERE p.id > ? AND p.id <= ? AND r.state = 'delivered' AND r.delivered_at < ? ORDER BY p.id LIMIT ?`, after, last, stamp(before), wipePage)
		if err == nil && len(ids) > 0 {
			after = ids[len(ids)-1]
			err = l.wipe(ctx, ids)
			total += len(ids)
		}
		if err != nil {
			return total, fmt.Errorf("wiping delivered records: %w", err)
		}
		if len(ids) < wipePage {
			return total, nil
		}
	}
}

func (l *Ledger) wipe(ctx context.Context, ids []int64) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	return l.tx(ctx, func(tx *sql.Conn) error {
		const delivered = "(SELECT id FROM record WHERE id IN (SELECT value FROM json_each(?)) AND state = 'delivered')" // still so
		if _, err := tx.ExecContext(ctx, "DELETE FROM payload WHERE id IN "+delivered, list); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE record SET hint = NULL, errors = NULL WHERE (hint IS NOT NULL OR errors IS NOT NULL) AND id IN "+delivered, list)
		return err
	})
}

// seenBefore is the id of the last record first seen before a time; 0 where
// there is none. Records are numbered as they are first seen.
func (l *Ledger) seenBefore(ctx context.Context, before time.Time) (int64, error) {
	var low, high int64 // low was seen before it, or is none; what is above high was not
	if err := l.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM record").Scan(&high); err != nil {
		return 0, err
	}
	for low < high {
		middle := low + (high-low+1)/2
		var id int64
		var seen string
		if err := l.read.QueryRowContext(ctx, "SELECT id, first_seen_at FROM record WHERE id >= ? ORDER BY id LIMIT 1", middle).Scan(&id, &seen); err != nil {
			return 0, err
		}
		if seen < stamp(before) {
			low = id
		} else {
			high = middle - 1
		}
	}
	return low, nil
}
