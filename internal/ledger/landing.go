package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"parkbridge/internal/failpoint"
	"parkbridge/sources"
)

// States of a record. The drawing in docs/states.md shows what leads where.
const (
	Pending   = "pending"   // to be sent
	Held      = "held"      // its row is not ready to be sent
	Delivered = "delivered" // the platform has it
	Rejected  = "rejected"  // the platform will not take it as it is
	Invalid   = "invalid"   // it does not map
	Dismissed = "dismissed" // a person ended it
)

// States lists them all, in the order of tables.
var States = []string{Pending, Held, Delivered, Rejected, Invalid, Dismissed}

// special are the states that few records are in, as their index has them.
const special = "state <> 'pending' AND state <> 'delivered'"

// Problem is one problem of one field.
type Problem struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

// Mapped is what the mapping made of a row: either fields or problems.
type Mapped struct {
	Fields        string // JSON, an object of texts
	ParkUUID      string
	FlowNo        string
	ParkingSerial string
	Problems      []Problem
	// Held tells that the row is not ready: there are neither.
	Held bool
}

// Content is a row as read and what was made of it.
type Content struct {
	Hash     string // see [sources.Hash]
	Identity string // the hash of the columns that tell a re-used key; "" where there are none
	Day      string // of operate_time in the source's zone, yyyy-MM-dd; "" where it does not map
	Columns  string // JSON, from [sources.AppendRow]
	Mapped
}

// New is a row that is about to become a record.
type New struct {
	ID  int64 // given by [Ledger.Land]
	Key string
	// Generation begins at 1 (which 0 means too), and Revision at 0: a re-used key
	// is the next generation of its key, a changed row sent again the next revision.
	Generation, Revision int
	Content
}

// Known is the latest record of a key.
type Known struct {
	ID       int64
	Hash     string
	Seen     string // the row's hash where it differs from Hash and that is known; else ""
	Identity string
	State    string
	Day      string
	// Generation and Revision are the record's.
	Generation, Revision int
}

// Change is what a row that was read again does to its record.
type Change struct {
	ID  int64
	Was string // the content hash that the record had; a record of another is left alone
	// To replaces the content of a record that was not delivered; nil leaves it.
	To  *Content
	Key string // of the row, with To
	// Held tells that the record was held. One that is not any more, because a
	// person has ended or retried it, is left alone.
	Held bool
	// Seen notes that a delivered record's row is another by now.
	Seen string
	// Rehash is the hash of the same content under another list of columns.
	Rehash, Identity string
}

// State is how far the reading of a source has come.
type State struct {
	Mark, Floor sources.Position
	// Journal and Seen are the capture's own, in its own form.
	Journal, Seen string
}

// Landing is a page with the move of the mark that it justifies.
type Landing struct {
	Lease   *Lease
	From    Mark  // the mark the page was read from
	To      State // how far reading has come with it
	Shape   sources.Shape
	Server  string // what the source's server and database are; "" leaves what is stored
	Table   string
	Rows    []New
	Changes []Change
	RunID   int64 // the run that read it; 0: none
	Read    int   // rows read, those already landed included
	// Then is called once the landing is written, before anything else can be:
	// what it is called for comes in order of the records' ids. nil is not called.
	Then func()
}

// Landed says what a landing did.
type Landed struct {
	Mark    Mark // to go on from
	Pending int  // records that are now to be sent
	Invalid int  // records that do not map
}

// ofTable narrows to the records of a source's table.
const ofTable = "origin_id = (SELECT id FROM origin WHERE source = ? AND table_name = ?)"

// Known gives the latest record of each key of a source's table that has
// landed, in one query for the whole page.
func (l *Ledger) Known(ctx context.Context, source, table string, keys []string) (map[string]Known, error) {
	known := map[string]Known{}
	for chunk := range slices.Chunk(keys, 10000) {
		list, err := json.Marshal(chunk)
		if err != nil {
			return nil, err
		}
		err = each(ctx, l.read, func(rows *sql.Rows) error {
			var key string
			var k Known
			err := rows.Scan(&key, &k.ID, &k.Hash, &k.Seen, &k.Identity, &k.State, &k.Day, &k.Generation, &k.Revision)
			if was, ok := known[key]; !ok || k.Generation > was.Generation || (k.Generation == was.Generation && k.Revision > was.Revision) {
				known[key] = k
			}
			return err
		}, `SELECT row_key, id, content_hash, COALESCE(seen_hash, ''), COALESCE(identity_hash, ''), state, COALESCE(day, ''), generation, revision FROM record
			WHERE `+ofTable+` AND row_key IN (SELECT value FROM json_each(?))`, source, table, list)
		if err != nil {
			return nil, fmt.Errorf("looking up keys of source %s: %w", source, err)
		}
	}
	return known, nil
}

// NewestKeys gives the keys of a source's table that landed last, each once,
// newest first; those of a generation or a higher one.
func (l *Ledger) NewestKeys(ctx context.Context, source, table string, generation, most int) (keys []string, err error) {
	err = each(ctx, l.read, func(rows *sql.Rows) error {
		var key string
		err := rows.Scan(&key)
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		return err
	}, "SELECT row_key FROM record WHERE "+ofTable+" AND generation >= ? ORDER BY id DESC LIMIT ?", source, table, generation, most)
	if err != nil {
		return nil, fmt.Errorf("reading the newest keys of source %s: %w", source, err)
	}
	return keys, nil
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
// [ErrMarkMoved] where another hand was faster, and with [ErrKnown] where a row
// is in the ledger already.
func (l *Ledger) Land(ctx context.Context, in Landing) (Landed, error) {
	// A number that is taken is rare, and the ledger's own index tells: only then
	// is it asked which they are.
	out, err := l.land(ctx, &in, false)
	if uniqueOf(err, "record.flow_no") {
		out, err = l.land(ctx, &in, true)
	}
	if uniqueOf(err, "record.row_key") {
		err = fmt.Errorf("%w: %w", ErrKnown, err)
	}
	if err != nil {
		return Landed{}, fmt.Errorf("landing rows: %w", err)
	}
	failpoint.Hit("land.done")
	return out, nil
}

func (l *Ledger) land(ctx context.Context, in *Landing, collide bool) (Landed, error) {
	out := Landed{Mark: in.From.moved(*in)}
	now := stamp(l.now())
	err := l.txThen(ctx, func(tx *sql.Conn) error {
		failpoint.Hit("land.begin")
		if err := moveMark(ctx, tx, in, now); err != nil {
			return err
		}
		failpoint.Hit("land.mark")
		if collide {
			if err := findCollisions(ctx, tx, in.candidates()); err != nil {
				return err
			}
		}
		w := &writing{l: l, tx: tx, now: now, lots: map[string]int64{}}
		if err := w.insert(ctx, in, &out); err != nil {
			return err
		}
		failpoint.Hit("land.rows")
		if err := w.change(ctx, in, &out); err != nil {
			return err
		}
		err := error(nil)
		if in.RunID != 0 {
			_, err = tx.ExecContext(ctx, "UPDATE sync_run SET read_rows = read_rows + ?, landed = landed + ?, invalid = invalid + ? WHERE id = ?",
				in.Read, len(in.Rows), out.Invalid, in.RunID)
		}
		failpoint.Hit("land.commit")
		return err
	}, in.Then)
	return out, err
}

// candidates are the records that a landing gives a flow_no.
func (in *Landing) candidates() []candidate {
	all := make([]candidate, 0, len(in.Rows))
	for i := range in.Rows {
		all = append(all, candidate{Mapped: &in.Rows[i].Mapped, key: in.Rows[i].Key})
	}
	for i := range in.Changes {
		if c := &in.Changes[i]; c.To != nil {
			all = append(all, candidate{Mapped: &c.To.Mapped, id: c.ID, key: c.Key})
		}
	}
	return all
}

func (out *Landed) count(state string) {
	switch state {
	case Invalid:
		out.Invalid++
	case Pending:
		out.Pending++
	}
}

// encode gives the state a mapped row begins in, and its JSON.
func (m *Mapped) encode() (state string, fields, problems any, err error) {
	if m.Held {
		return Held, nil, nil, nil
	}
	if len(m.Problems) > 0 {
		b, err := json.Marshal(m.Problems)
		return Invalid, nil, string(b), err
	}
	return Pending, m.Fields, nil, nil
}

// null makes NULL of an empty text.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// blob makes NULL of an empty hash.
func blob(hash string) any {
	if hash == "" {
		return nil
	}
	return []byte(hash)
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
func findCollisions(ctx context.Context, tx *sql.Conn, all []candidate) error {
	type number struct{ lot, flow string }
	type owner struct {
		id          int64
		source, key string // source is "" for a row of the same page
	}
	flows := []string{}
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
		taken[n] = owner{id, source, key}
		return nil
	}, `SELECT r.id, l.park_uuid, r.flow_no, o.source, r.row_key FROM record r CROSS JOIN lot l ON l.id = r.lot_id CROSS JOIN origin o ON o.id = r.origin_id
		WHERE r.flow_no IN (SELECT value FROM json_each(?))`, list); err != nil {
		return err
	}
	for _, m := range all {
		if m.FlowNo == "" || len(m.Problems) > 0 {
			continue
		}
		n := number{m.ParkUUID, m.FlowNo}
		if first, ok := taken[n]; ok && (m.id == 0 || m.id != first.id) {
			name := fmt.Sprintf("record %d (source %s, key %s)", first.id, first.source, first.key)
			if first.source == "" {
				name = "the row with key " + first.key + " of the same page"
			}
			m.Problems, m.FlowNo = []Problem{{Field: "flow_no", Problem: fmt.Sprintf("%q is already the number of %s; the platform would ignore a second one", m.FlowNo, name)}}, ""
			continue
		}
		taken[n] = owner{id: m.id, key: m.key}
	}
	return nil
}
