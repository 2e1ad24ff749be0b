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
	records, record   *sql.Stmt // insert insertRows rows, and one
	payloads, payload *sql.Stmt
	delivered, settle *sql.Stmt
	lease             *sql.Stmt
	runDelivered      *sql.Stmt
	sink              *sql.Stmt
	leaseRead         *sql.Stmt
	all               []*sql.Stmt
}

// prepare readies the statements. They must be closed, or SQLite keeps the
// connection.
func (s *statements) prepare(ctx context.Context, write *sql.Conn, read *sql.DB) (err error) {
	for _, one := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.records, manyRows(recordInto, recordValues, insertRows)},
		{&s.record, manyRows(recordInto, recordValues, 1)},
		{&s.payloads, manyRows(payloadInto, payloadValues, insertRows)},
		{&s.payload, manyRows(payloadInto, payloadValues, 1)},
		{&s.delivered, settleDelivered},
		{&s.settle, settleAny},
		{&s.lease, leaseToken},
		{&s.runDelivered, countDelivered},
		{&s.sink, updateSink},
	} {
		if *one.stmt, err = write.PrepareContext(ctx, one.query); err != nil {
			return err
		}
		s.all = append(s.all, *one.stmt)
	}
	if s.leaseRead, err = read.PrepareContext(ctx, leaseToken); err == nil {
		s.all = append(s.all, s.leaseRead)
	}
	return err
}

func (s *statements) close() (err error) {
	for _, stmt := range s.all {
		err = errors.Join(err, stmt.Close())
	}
	return err
}

// insertRows is the number of rows of one INSERT.
const insertRows = 32

func manyRows(into string, values, rows int) string {
	row := "(" + placeholders(values) + ")"
	return into + strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// inserting gathers rows for INSERTs of many.
type inserting struct {
	many, one *sql.Stmt
	values    int // of a row
	args      []any
}

func newInserting(many, one *sql.Stmt, values int) *inserting {
	return &inserting{many: many, one: one, values: values, args: make([]any, 0, values*insertRows)}
}

func (i *inserting) add(ctx context.Context, row ...any) error {
	i.args = append(i.args, row...)
	if len(i.args) < i.values*insertRows {
		return nil
	}
	_, err := i.many.ExecContext(ctx, i.args...)
	i.args = i.args[:0]
	return err
}

// flush inserts what is left.
func (i *inserting) flush(ctx context.Context) error {
	for at := 0; at < len(i.args); at += i.values {
		if _, err := i.one.ExecContext(ctx, i.args[at:at+i.values]...); err != nil {
			return err
		}
	}
	return nil
}
