package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// writing is a transaction that writes records.
type writing struct {
	l    *Ledger
	tx   *sql.Conn
	now  string
	lots map[string]int64 // ids of park_uuids
}

// insert adds the landing's rows, many in a statement.
func (w *writing) insert(ctx context.Context, in *Landing, out *Landed) error {
	if len(in.Rows) == 0 {
		return nil
	}
	origin, err := w.origin(ctx, in.Lease.Source, in.Table)
	if err != nil {
		return err
	}
	var last int64
	if err := w.tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'record'").Scan(&last); err != nil {
		return err
	}
	plain, payloads := w.l.stmts.plain.rows(plainValues, origin, nil, w.now), w.l.stmts.payload.rows(payloadValues)
	for i := range in.Rows {
		r := &in.Rows[i]
		last++
		r.ID = last
		state, fields, problems, err := r.encode()
		if err != nil {
			return err
		}
		lot, err := w.lot(ctx, r.ParkUUID)
		if err != nil {
			return err
		}
		out.count(state)
		if plain.args[plainLot].Value == nil {
			plain.args[plainLot].Value = lot
		}
		if state == Pending && r.Generation <= 1 && r.Revision == 0 && lot == plain.args[plainLot].Value {
			err = plain.add(ctx, r.ID, r.Key, []byte(r.Hash), blob(r.Identity), null(r.Day), null(r.FlowNo), null(r.ParkingSerial))
		} else {
			_, err = w.l.stmts.record.ExecContext(ctx, r.ID, origin, r.Key, max(r.Generation, 1), r.Revision, []byte(r.Hash), blob(r.Identity), null(r.Day),
				lot, null(r.FlowNo), null(r.ParkingSerial), state, w.now, w.now, problems)
		}
		if err == nil && !r.Held {
			err = payloads.add(ctx, r.ID, r.Columns, fields)
		}
		if err != nil {
			return fmt.Errorf("landing the rows up to key %s: %w", r.Key, err)
		}
	}
	if err := errors.Join(plain.flush(ctx), payloads.flush(ctx)); err != nil {
		return fmt.Errorf("landing the rows up to key %s: %w", in.Rows[len(in.Rows)-1].Key, err)
	}
	return nil
}

// OR FAIL: what came before in the statement need not be undone by itself, for
// the transaction is given up.
const (
	insertRecord = "INSERT OR FAIL INTO record (id, origin_id, row_key, generation, revision, content_hash, identity_hash, day, " +
		"lot_id, flow_no, parking_serial, state, next_attempt_at, first_seen_at, errors) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	// Nearly all records begin alike; what they have in common is given once: the
	// origin, the lot and the time.
	plainInto = "INSERT OR FAIL INTO record (origin_id, lot_id, next_attempt_at, first_seen_at, generation, revision, state, " +
		"id, row_key, content_hash, identity_hash, day, flow_no, parking_serial) VALUES "
	plainRow      = "(?1, ?2, ?3, ?3, 1, 0, 'pending', ?, ?, ?, ?, ?, ?, ?)"
	plainValues   = 7
	plainLot      = 1 // its place among what is given once
	payloadInto   = "INSERT OR FAIL INTO payload (id, columns, fields) VALUES "
	payloadRow    = "(?, ?, ?)"
	payloadValues = 3
)

// origin is the id of a source's table.
func (w *writing) origin(ctx context.Context, source, table string) (id int64, err error) {
	err = w.tx.QueryRowContext(ctx, "SELECT id FROM origin WHERE source = ? AND table_name = ?", source, table).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = w.tx.QueryRowContext(ctx, "INSERT INTO origin (source, table_name) VALUES (?, ?) RETURNING id", source, table).Scan(&id)
	}
	return id, err
}

// lot is the id of a park_uuid; NULL for "".
func (w *writing) lot(ctx context.Context, uuid string) (any, error) {
	if uuid == "" {
		return nil, nil
	}
	if id, ok := w.lots[uuid]; ok {
		return id, nil
	}
	var id int64
	err := w.tx.QueryRowContext(ctx, "SELECT id FROM lot WHERE park_uuid = ?", uuid).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = w.tx.QueryRowContext(ctx, "INSERT INTO lot (park_uuid) VALUES (?) RETURNING id", uuid).Scan(&id)
	}
	w.lots[uuid] = id
	return id, err
}

// change brings the records of rows that were read again up to date. One whose
// content is another meanwhile is left to the next time it is read.
func (w *writing) change(ctx context.Context, in *Landing, out *Landed) error {
	for i := range in.Changes {
		c := &in.Changes[i]
		var err error
		switch {
		case c.Held:
			err = w.held(ctx, c, out)
		case c.To != nil:
			err = w.replace(ctx, c, out)
		case c.Rehash != "":
			_, err = w.tx.ExecContext(ctx, "UPDATE record SET content_hash = ?, identity_hash = COALESCE(?, identity_hash), seen_hash = NULL WHERE id = ? AND content_hash = ?",
				[]byte(c.Rehash), blob(c.Identity), c.ID, []byte(c.Was))
		default:
			_, err = w.tx.ExecContext(ctx, "UPDATE record SET seen_hash = ? WHERE id = ? AND content_hash = ?", blob(c.Seen), c.ID, []byte(c.Was))
		}
		if err != nil {
			return fmt.Errorf("updating record %d: %w", c.ID, err)
		}
	}
	return nil
}

// replace gives a record that was not delivered the row's new content and maps
// it again; one that a person ended stays ended.
func (w *writing) replace(ctx context.Context, c *Change, out *Landed) error {
	state, fields, problems, err := c.To.encode()
	if err != nil {
		return err
	}
	lot, err := w.lot(ctx, c.To.ParkUUID)
	if err != nil {
		return err
	}
	res, err := w.tx.ExecContext(ctx, `UPDATE record SET state = CASE state WHEN 'dismissed' THEN state ELSE ? END, attempts = 0, next_attempt_at = ?, last_attempt_at = NULL,
		code = NULL, message = NULL, hint = NULL, http_status = NULL, content_hash = ?, seen_hash = NULL, identity_hash = ?, day = ?,
		lot_id = ?, flow_no = ?, parking_serial = ?, errors = ?
		WHERE id = ? AND content_hash = ? AND state <> 'delivered'`,
		state, w.now, []byte(c.To.Hash), blob(c.To.Identity), null(c.To.Day), lot, null(c.To.FlowNo), null(c.To.ParkingSerial),
		problems, c.ID, []byte(c.Was))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	out.count(state)
	return w.keep(ctx, c.ID, c.To.Columns, fields)
}

// keep stores a record's payload in the place of what is there; nil columns
// leave those.
func (w *writing) keep(ctx context.Context, id int64, columns, fields any) error {
	_, err := w.tx.ExecContext(ctx, `INSERT INTO payload (id, columns, fields) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET columns = COALESCE(excluded.columns, columns), fields = excluded.fields`, id, columns, fields)
	return err
}
