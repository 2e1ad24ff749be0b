package ledger

import (
	"context"
	"database/sql"
	"strings"
	"sync"
)

// statements are prepared once for the writing connection.
type statements struct {
	mu   sync.Mutex
	byQL map[string]*sql.Stmt
}

func (s *statements) get(ctx context.Context, db *sql.DB, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.byQL[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if s.byQL == nil {
		s.byQL = map[string]*sql.Stmt{}
	}
	s.byQL[query] = stmt
	return stmt, nil
}

// prepare readies the statements that run once a record, ahead of any
// transaction: preparing takes the connection that a transaction holds.
func (l *Ledger) prepare(ctx context.Context) error {
	for _, query := range []string{
		manyRows(recordInto, recordValues, insertRows), manyRows(recordInto, recordValues, 1),
		manyRows(payloadInto, payloadValues, insertRows), manyRows(payloadInto, payloadValues, 1),
		settleOne,
	} {
		if _, err := l.stmts.get(ctx, l.write, query); err != nil {
			return err
		}
	}
	return nil
}

// insertRows is the number of rows of one INSERT.
const insertRows = 32

func manyRows(into string, values, rows int) string {
	row := "(" + placeholders(values) + ")"
	return into + strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// inserting gathers rows for INSERTs of many.
type inserting struct {
	l      *Ledger
	tx     *sql.Tx
	into   string
	values int // of a row
	args   []any
}

func (l *Ledger) inserting(tx *sql.Tx, into string, values int) *inserting {
	return &inserting{l: l, tx: tx, into: into, values: values, args: make([]any, 0, values*insertRows)}
}

func (i *inserting) add(ctx context.Context, row ...any) error {
	i.args = append(i.args, row...)
	if len(i.args) < i.values*insertRows {
		return nil
	}
	err := i.exec(ctx, insertRows, i.args)
	i.args = i.args[:0]
	return err
}

// flush inserts what is left.
func (i *inserting) flush(ctx context.Context) error {
	for at := 0; at < len(i.args); at += i.values {
		if err := i.exec(ctx, 1, i.args[at:at+i.values]); err != nil {
			return err
		}
	}
	return nil
}

func (i *inserting) exec(ctx context.Context, rows int, args []any) error {
	stmt, err := i.l.stmts.get(ctx, i.l.write, manyRows(i.into, i.values, rows))
	if err != nil {
		return err
	}
	_, err = i.tx.StmtContext(ctx, stmt).ExecContext(ctx, args...)
	return err
}
