package ledger

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
)

// statements are those that run once a record or once a batch, prepared on the
// writing connection, and one on those that read.
type statements struct {
	begin, commit   *sql.Stmt
	record          *sql.Stmt
	plain, payload  batch
	delivered       batch
	settle          *sql.Stmt
	lease           *sql.Stmt
	runDelivered    *sql.Stmt
	sink            *sql.Stmt
	leaseRead, mark *sql.Stmt // of the connections that read
	all             []*sql.Stmt
}

// prepared is a statement and its text.
type prepared struct {
	stmt  **sql.Stmt
	query string
}

func (s *statements) prepareWrite(ctx context.Context, write *sql.Conn) error {
	return s.prepare(ctx, write, slices.Concat(
		s.plain.of(plainInto, plainRow, ""), s.payload.of(payloadInto, payloadRow, ""), s.delivered.of(deliveredInto, deliveredRow, deliveredThen), []prepared{
			{&s.begin, "BEGIN IMMEDIATE"},
			{&s.commit, "COMMIT"},
			{&s.record, insertRecord},
			{&s.settle, settleAny},
			{&s.lease, leaseToken},
			{&s.runDelivered, countDelivered},
			{&s.sink, updateSink},
		}))
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

// batch is a statement for many rows, prepared for each of batchSizes.
type batch [len(batchSizes)]*sql.Stmt

var batchSizes = [...]int{32, 8, 1}

// of lists a batch's statements for prepare: before the rows, a row, after them.
func (b *batch) of(before, row, after string) []prepared {
	var all []prepared
	for i, n := range batchSizes {
		all = append(all, prepared{&b[i], before + strings.TrimSuffix(strings.Repeat(row+", ", n), ", ") + after})
	}
	return all
}

// rows gathers rows for a batch.
type rows struct {
	to     *batch
	common int // values given once, ahead of the rows'
	values int // of a row
	args   []any
	// wrote is told of each statement for how many rows it was; nil is not told.
	wrote func(n int, res sql.Result) error
}

func (b *batch) rows(values int, common ...any) *rows {
	args := make([]any, 0, len(common)+values*batchSizes[0])
	return &rows{to: b, common: len(common), values: values, args: append(args, common...)}
}

// add takes a row, and writes when there are enough for the largest statement.
func (r *rows) add(ctx context.Context, row ...any) error {
	r.args = append(r.args, row...)
	if len(r.args) < r.common+r.values*batchSizes[0] {
		return nil
	}
	return r.flush(ctx)
}

// flush writes the rows that have gathered.
func (r *rows) flush(ctx context.Context) error {
	for i, n := range batchSizes {
		for size := r.common + n*r.values; len(r.args) >= size; {
			res, err := r.to[i].ExecContext(ctx, r.args[:size]...)
			if err == nil && r.wrote != nil {
				err = r.wrote(n, res)
			}
			if err != nil {
				return err
			}
			r.args = append(r.args[:r.common], r.args[size:]...)
		}
	}
	return nil
}
