package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// What is noted of a row, see the flag -status.
const (
	statusNone    = "none"
	statusOutcome = "outcome"
	statusDurable = "durable"
)

// status keeps what became of each row, in SQLite.
type status struct {
	o                 options
	mu                sync.Mutex
	conn              *sql.Conn // nil where nothing is noted
	landing, settling statements
}

// statements do one thing to as many rows as sizes says.
type statements struct {
	columns int
	stmts   [len(sizes)]*sql.Stmt
}

var sizes = [...]int{100, 10, 1}

const (
	schema = `CREATE TABLE IF NOT EXISTS status (
		id INTEGER PRIMARY KEY, flow_no TEXT NOT NULL, state TEXT NOT NULL, code TEXT, seqno TEXT,
		landed_at TEXT, settled_at TEXT, payload TEXT)`
	land     = "INSERT INTO status (id, flow_no, state, landed_at, payload) VALUES "
	settle   = "INSERT INTO status (id, flow_no, state, code, seqno, settled_at) VALUES "
	onLanded = ` ON CONFLICT (id) DO UPDATE SET state = excluded.state, code = excluded.code, seqno = excluded.seqno, settled_at = excluded.settled_at`
)

func openStatus(ctx context.Context, o options) *status {
	s := &status{o: o}
	if o.status == statusNone {
		return s
	}
	db, err := sql.Open("sqlite", "file:"+o.file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	must(err)
	s.conn, err = db.Conn(ctx)
	must(err)
	s.exec(ctx, schema)
	s.landing, s.settling = s.prepare(ctx, land, 5, ""), s.prepare(ctx, settle, 6, onLanded)
	return s
}

func (s *status) prepare(ctx context.Context, before string, columns int, after string) (p statements) {
	p.columns = columns
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", columns), ",") + "),"
	for i, n := range sizes {
		var err error
		p.stmts[i], err = s.conn.PrepareContext(ctx, before+strings.TrimSuffix(strings.Repeat(row, n), ",")+after) //nolint:sqlclosecheck // until the program ends
		must(err)
	}
	return p
}

func (s *status) exec(ctx context.Context, stmt string) {
	_, err := s.conn.ExecContext(ctx, stmt)
	must(err)
}

// resume gives what an earlier run noted and did not push, and the last row noted.
func (s *status) resume(ctx context.Context) (unsent []record, last int64) {
	if s.conn == nil {
		return nil, s.o.after
	}
	must(s.conn.QueryRowContext(ctx, "SELECT COALESCE(max(id), ?) FROM status", s.o.after).Scan(&last))
	found, err := s.conn.QueryContext(ctx, "SELECT id, payload FROM status WHERE state = 'pending' ORDER BY id")
	must(err)
	defer found.Close()
	for found.Next() {
		var r record
		var payload []byte
		must(found.Scan(&r.id, &payload))
		must(json.Unmarshal(payload, &r.fields))
		unsent = append(unsent, r)
	}
	must(found.Err())
	return unsent, last
}

// land notes a page's rows before they are pushed.
func (s *status) land(ctx context.Context, page []record) {
	if s.o.status != statusDurable {
		return
	}
	now := stamp()
	args := make([]any, 0, 5*len(page))
	for i := range page {
		payload, err := json.Marshal(&page[i].fields)
		must(err)
		args = append(args, page[i].id, page[i].fields.FlowNo, "pending", now, string(payload))
	}
	s.write(ctx, s.landing, args)
}

// settleAll notes the answers that have gathered, until there are no more.
func (s *status) settleAll(ctx context.Context, answers <-chan answer) {
	for a := range answers {
		batch := []answer{a}
		linger := time.After(s.o.linger)
	gathering:
		for len(batch) < s.o.gather {
			select {
			case a, ok := <-answers:
				if !ok {
					break gathering
				}
				batch = append(batch, a)
			case <-linger:
				break gathering
			}
		}
		if s.conn != nil {
			s.settle(ctx, batch)
		}
	}
}

func (s *status) settle(ctx context.Context, batch []answer) {
	now := stamp()
	args := make([]any, 0, 6*len(batch))
	for _, a := range batch {
		args = append(args, a.id, a.flowNo, a.state, a.code, a.sequence, now)
	}
	s.write(ctx, s.settling, args)
}

// write runs a statement for all rows in one transaction, many at a time.
func (s *status) write(ctx context.Context, to statements, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exec(ctx, "BEGIN IMMEDIATE")
	for i, size := range sizes {
		for n := size * to.columns; len(args) >= n; args = args[n:] {
			_, err := to.stmts[i].ExecContext(ctx, args[:n]...)
			must(err)
		}
	}
	s.exec(ctx, "COMMIT")
}

func stamp() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }
