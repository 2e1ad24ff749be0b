package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"parkbridge/sources"
)

// States of a record. The drawing in docs/states.md shows what leads where.
const (
	Pending   = "pending"   // to be sent
	Delivered = "delivered" // the platform has it
	Rejected  = "rejected"  // the platform will not take it as it is
	Invalid   = "invalid"   // it does not map
	Dismissed = "dismissed" // a person ended it
)

// States lists them all, in the order of tables.
var States = []string{Pending, Delivered, Rejected, Invalid, Dismissed}

// Problem is one problem of one field.
type Problem struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

// Mapped is what the mapping made of a row: either fields or problems.
type Mapped struct {
	Fields        map[string]string
	ParkUUID      string
	FlowNo        string
	ParkingSerial string
	Problems      []Problem
}

// New is a row that is about to become a record.
type New struct {
	Key     string
	Hash    string
	Columns []byte // JSON, from [sources.EncodeRow]
	Mapped
}

// Landing is a page with the move of the mark that it justifies.
type Landing struct {
	Lease *Lease
	From  Mark             // the mark the page was read from
	To    sources.Position // the mark after it
	Shape sources.Shape    // what To was made with
	Table string
	Rows  []New
	RunID int64 // the run that read it
	Read  int   // rows read, those already landed included
}

// Landed says what a landing did.
type Landed struct {
	Mark    Mark // to go on from
	Pending int
	Invalid int
}

// Known gives the content hashes of the keys of a source's table that have
// landed, one query for the whole page.
func (l *Ledger) Known(ctx context.Context, source, table string, keys []string) (map[string]string, error) {
	known := map[string]string{}
	for chunk := range slices.Chunk(keys, 10000) {
		list, err := json.Marshal(chunk)
		if err != nil {
			return nil, err
		}
		err = each(ctx, l.read, func(rows *sql.Rows) error {
			var key, hash string
			err := rows.Scan(&key, &hash)
			known[key] = hash
			return err
		}, `SELECT row_key, content_hash FROM sync_status
			WHERE source = ? AND table_name = ? AND generation = 1 AND row_key IN (SELECT value FROM json_each(?)) ORDER BY revision`, source, table, list)
		if err != nil {
			return nil, fmt.Errorf("looking up keys of source %s: %w", source, err)
		}
	}
	return known, nil
}

// querier is a *sql.DB, a *sql.Tx or a *sql.Conn.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each runs a query and hands its rows over one by one.
func each(ctx context.Context, db querier, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return classed(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return classed(rows.Err())
}

// Land stores a page's rows and moves the mark, in one transaction: either
// both are there afterwards or neither. It fails with [ErrLeaseLost] or
// [ErrMarkMoved] where another hand was faster.
func (l *Ledger) Land(ctx context.Context, in Landing) (Landed, error) {
	out := Landed{Mark: Mark{Position: in.To, Floor: in.To, Started: true, Shape: &in.Shape, version: in.From.version + 1}}
	now := stamp(l.now())
	err := l.tx(ctx, func(tx *sql.Tx) error {
		if err := moveMark(ctx, tx, &in, now); err != nil {
			return err
		}
		all := make([]candidate, len(in.Rows))
		for i := range in.Rows {
			all[i] = candidate{Mapped: &in.Rows[i].Mapped, key: in.Rows[i].Key}
		}
		if err := findCollisions(ctx, tx, all); err != nil {
			return err
		}
		insert, err := tx.PrepareContext(ctx, `INSERT INTO sync_status
			(source, table_name, row_key, content_hash, park_uuid, flow_no, parking_serial, state, next_attempt_at, first_seen_at, columns, fields, errors)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range in.Rows {
			r := &in.Rows[i]
			state, fields, problems, err := r.encode()
			if err != nil {
				return err
			}
			if state == Invalid {
				out.Invalid++
			} else {
				out.Pending++
			}
			if _, err := insert.ExecContext(ctx, in.Lease.Source, in.Table, r.Key, r.Hash, null(r.ParkUUID), null(r.FlowNo), null(r.ParkingSerial),
				state, now, now, string(r.Columns), fields, problems); err != nil {
				return fmt.Errorf("landing the row with key %s: %w", r.Key, err)
			}
		}
		_, err = tx.ExecContext(ctx, "UPDATE sync_run SET read_rows = read_rows + ?, landed = landed + ?, invalid = invalid + ? WHERE id = ?",
			in.Read, len(in.Rows), out.Invalid, in.RunID)
		return err
	})
	if err != nil {
		return Landed{}, fmt.Errorf("landing rows of source %s: %w", in.Lease.Source, err)
	}
	return out, nil
}

// encode gives the state a mapped row begins in, and its JSON.
func (m *Mapped) encode() (state string, fields, problems any, err error) {
	if len(m.Problems) > 0 {
		b, err := json.Marshal(m.Problems)
		return Invalid, nil, string(b), err
	}
	b, err := json.Marshal(m.Fields)
	return Pending, string(b), nil, err
}

// null makes NULL of an empty text.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// candidate is a row on its way into the ledger; id is that of its record
// where it has one already.
type candidate struct {
	*Mapped
	id  int64
	key string
}

// findCollisions turns every candidate whose flow_no is taken in its lot, by
// another record or by an earlier candidate, into an invalid one that names
// the first.
func findCollisions(ctx context.Context, tx *sql.Tx, all []candidate) error {
	type number struct{ lot, flow string }
	type owner struct {
		id   int64
		name string
	}
	var flows []string
	for _, m := range all {
		if m.FlowNo != "" && len(m.Problems) == 0 {
			flows = append(flows, m.FlowNo)
		}
	}
	list, err := json.Marshal(flows)
	if err != nil {
		return err
	}
	taken := map[number]owner{}
	if err := each(ctx, tx, func(rows *sql.Rows) error {
		var id int64
		var n number
		var source, key string
		if err := rows.Scan(&id, &n.lot, &n.flow, &source, &key); err != nil {
			return err
		}
		taken[n] = owner{id, fmt.Sprintf("record %d (source %s, key %s)", id, source, key)}
		return nil
	}, `SELECT id, park_uuid, flow_no, source, row_key FROM sync_status WHERE flow_no IN (SELECT value FROM json_each(?))`, list); err != nil {
		return err
	}
	for _, m := range all {
		if m.FlowNo == "" || len(m.Problems) > 0 {
			continue
		}
		n := number{m.ParkUUID, m.FlowNo}
		if first, ok := taken[n]; ok && (m.id == 0 || m.id != first.id) {
			m.Problems, m.FlowNo = []Problem{{Field: "flow_no", Problem: fmt.Sprintf("%q is already the number of %s; the platform would ignore a second one", m.FlowNo, first.name)}}, ""
			continue
		}
		taken[n] = owner{m.id, "the row with key " + m.key + " of the same page"}
	}
	return nil
}
