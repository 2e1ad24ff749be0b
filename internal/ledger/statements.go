package ledger

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// statements are those that run once a record or once a batch, prepared on the
// writing connection, and one on those that read.
type statements struct {
	begin, commit     *sql.Stmt
	record            *sql.Stmt
	plain, plainOne   *sql.Stmt // insert insertRows rows, and one
	payloads, payload *sql.Stmt
	delivered, settle *sql.Stmt
	lease             *sql.Stmt
	runDelivered      *sql.Stmt
	sink              *sql.Stmt
	leaseRead, mark   *sql.Stmt // of the connections that read
	all               []*sql.Stmt
}

// prepared is a statement and its text.
type prepared struct {
	stmt  **sql.Stmt
	query string
}

func (s *statements) prepareWrite(ctx context.Context, write *sql.Conn) error {
	return s.prepare(ctx, write, []prepared{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.record, insertRecord},
		{&s.plain, manyRows(plainInto, plainRow, insertRows)},
		{&s.plainOne, manyRows(plainInto, plainRow, 1)},
		{&s.payloads, manyRows(payloadInto, payloadRow, insertRows)},
		{&s.payload, manyRows(payloadInto, payloadRow, 1)},
		{&s.delivered, settleDelivered},
		{&s.settle, settleAny},
		{&s.lease, leaseToken},
		{&s.runDelivered, countDelivered},
		{&s.sink, updateSink},
	})
}

func (s *statements) prepareRead(ctx context.Context, read *sql.DB) error {
	return s.prepare(ctx, read, []prepared{{&s.leaseRead, leaseToken}, {&s.mark, readMark}})
}

// prepare readies statements. They must be closed, or SQLite keeps the connection.
func (s *statements) prepare(ctx context.Context, db interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}, all []prepared,
) (err error) {
	for _, one := range all {
		if *one.stmt, err = db.PrepareContext(ctx, one.query); err != nil { //nolint:sqlclosecheck // close does
			return err
		}
		s.all = append(s.all, *one.stmt)
	}
	return nil
}

func (s *statements) close() (err error) {
	for _, stmt := range s.all {
		err = errors.Join(err, stmt.Close())
	}
	return err
}

// insertRows is the number of rows of one INSERT.
const insertRows = 32

func manyRows(into, row string, rows int) string {
	return into + strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// inserting gathers rows for INSERTs of many.
type inserting struct {
	many, one *sql.Stmt
	common    int // values given once, ahead of the rows'
	values    int // of a row
	args      []any
}

func newInserting(many, one *sql.Stmt, values int, common ...any) *inserting {
	args := make([]any, 0, len(common)+values*insertRows)
	return &inserting{many: many, one: one, common: len(common), values: values, args: append(args, common...)}
}

func (i *inserting) add(ctx context.Context, row ...any) error {
	i.args = append(i.args, row...)
	if len(i.args) < i.common+i.values*insertRows {
		return nil
	}
	_, err := i.many.ExecContext(ctx, i.args...)
	i.args = i.args[:i.common]
	return err
}

// flush inserts what is left.
func (i *inserting) flush(ctx context.Context) error {
	rest := i.args[i.common:]
	for ; len(rest) > 0; rest = rest[i.values:] {
		if _, err := i.one.ExecContext(ctx, append(i.args[:i.common:i.common], rest[:i.values]...)...); err != nil {
			return err
		}
	}
	i.args = i.args[:i.common]
	return nil
}
