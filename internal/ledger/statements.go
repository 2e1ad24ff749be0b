package ledger

import (
	"context"
	"database/sql"
	"strings"
)

// statements are those that run once a record or once a batch, prepared for the
// writing connection. They end with it.
type statements struct {
	records, record   *sql.Stmt // insert insertRows rows, and one
	payloads, payload *sql.Stmt
	delivered, settle *sql.Stmt
	lease             *sql.Stmt
	runDelivered      *sql.Stmt
	sink              *sql.Stmt
}

// prepare readies the statements ahead of any transaction: preparing takes the
// connection that a transaction holds.
func (s *statements) prepare(ctx context.Context, db *sql.DB) (err error) {
	for _, one := range []struct {
		stmt  **sql.Stmt
		query string
	}{
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
		if *one.stmt, err = db.PrepareContext(ctx, one.query); err != nil { //nolint:sqlclosecheck // they end with the connection
			return err
		}
	}
	return nil
}

// within is a statement for one transaction; it ends with that.
func within(ctx context.Context, tx *sql.Tx, stmt *sql.Stmt) *sql.Stmt {
	return tx.StmtContext(ctx, stmt)
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

func newInserting(ctx context.Context, tx *sql.Tx, many, one *sql.Stmt, values int) *inserting {
	return &inserting{
		many: within(ctx, tx, many), one: within(ctx, tx, one), values: values, args: make([]any, 0, values*insertRows),
	}
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
