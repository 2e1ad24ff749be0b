package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
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
	if err := s.plain.prepare(ctx, write, plainInto, plainRow, ""); err != nil {
		return err
	}
	if err := s.payload.prepare(ctx, write, payloadInto, payloadRow, ""); err != nil {
		return err
	}
	if err := s.delivered.prepare(ctx, write, deliveredInto, deliveredRow, deliveredThen); err != nil {
		return err
	}
	return s.prepare(ctx, write, []prepared{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.record, insertRecord},
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
	return errors.Join(err, s.plain.close(), s.payload.close(), s.delivered.close())
}

// batch is a statement for many rows, for each of batchSizes. It is prepared by
// SQLite's driver itself: database/sql would look at each value of each row.
type batch struct {
	conn  *sql.Conn
	stmts [len(batchSizes)]driver.Stmt
}

var batchSizes = [...]int{32, 8, 1}

// prepare readies a statement: before the rows, a row, after them.
func (b *batch) prepare(ctx context.Context, conn *sql.Conn, before, row, after string) error {
	b.conn = conn
	return conn.Raw(func(c any) (err error) {
		for i, n := range batchSizes {
			query := before + strings.TrimSuffix(strings.Repeat(row+", ", n), ", ") + after
			if b.stmts[i], err = c.(driver.ConnPrepareContext).PrepareContext(ctx, query); err != nil { //nolint:forcetypeassert,errcheck // every driver that database/sql prepares with
				return err
			}
		}
		return nil
	})
}

func (b *batch) exec(ctx context.Context, size int, args []driver.NamedValue) (res driver.Result, err error) {
	err = b.conn.Raw(func(any) (err error) {
		res, err = b.stmts[size].(driver.StmtExecContext).ExecContext(ctx, args) //nolint:forcetypeassert,errcheck // SQLite's is
		return err
	})
	return res, err
}

func (b *batch) close() (err error) {
	if b.conn == nil {
		return nil
	}
	return b.conn.Raw(func(any) (err error) {
		for _, stmt := range b.stmts {
			if stmt != nil {
				err = errors.Join(err, stmt.Close())
			}
		}
		return err
	})
}

// rows gathers rows for a batch. Their values are of the kinds that a driver takes:
// int64, string, []byte or nil.
type rows struct {
	to     *batch
	common int // values given once, ahead of the rows'
	values int // of a row
	args   []driver.NamedValue
	// wrote is told of each statement for how many rows it was; nil is not told.
	wrote func(n int, res driver.Result) error
}

func (b *batch) rows(values int, common ...driver.Value) *rows {
	r := &rows{to: b, common: len(common), values: values, args: make([]driver.NamedValue, 0, len(common)+values*batchSizes[0])}
	r.append(common)
	return r
}

func (r *rows) append(values []driver.Value) {
	for _, v := range values {
		r.args = append(r.args, driver.NamedValue{Ordinal: len(r.args) + 1, Value: v})
	}
}

// add takes a row, and writes when there are enough for the largest statement.
func (r *rows) add(ctx context.Context, row ...driver.Value) error {
	r.append(row)
	if len(r.args) < r.common+r.values*batchSizes[0] {
		return nil
	}
	return r.flush(ctx)
}

// flush writes the rows that have gathered.
func (r *rows) flush(ctx context.Context) error {
	for i, n := range batchSizes {
		for size := r.common + n*r.values; len(r.args) >= size; {
			res, err := r.to.exec(ctx, i, r.args[:size])
			if err == nil && r.wrote != nil {
				err = r.wrote(n, res)
			}
			if err != nil {
				return err
			}
			rest := r.args[size:]
			r.args = r.args[:r.common]
			for _, left := range rest {
				r.args = append(r.args, driver.NamedValue{Ordinal: len(r.args) + 1, Value: left.Value})
			}
		}
	}
	return nil
}
