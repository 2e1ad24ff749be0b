// Package postgres reads PostgreSQL through pgx's own pool and types.
package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"parkbridge/sources"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Driver is registered as "postgres". Its DSN is a URL
// (postgres://user:password@host:5432/db) or libpq's key=value form.
func Driver() sources.Driver { return sources.Driver{Name: "postgres", Open: open, CheckDSN: checkDSN} }

func checkDSN(dsn string) error {
	// The library's own message quotes the DSN, and does not mask every form of password.
	if _, err := pgxpool.ParseConfig(dsn); err != nil {
		return errors.New("is neither a postgres:// URL nor a list of key=value pairs that PostgreSQL knows")
	}
	return nil
}

type db struct {
	pool *pgxpool.Pool
	// settings is what follows [begin] in a page's transaction. Settings are LOCAL
	// to it, so that a connection pooler between us and the server cannot drop them,
	// and every value is rendered the same whatever the role's own settings are.
	settings string
	// table is the polled table's oid where the server assigns its cursor, else 0.
	table uint32
}

func open(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
	if err := checkDSN(string(cfg.DSN)); err != nil {
		return nil, nil, &sources.ConfigError{Source: cfg.Name, Key: "dsn", Problem: err.Error()}
	}
	pc, err := pgxpool.ParseConfig(string(cfg.DSN))
	if err != nil {
		return nil, nil, err
	}
	pc.MaxConns, pc.MinConns = 2, 0
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.ConnConfig.ConnectTimeout = 10 * time.Second
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // no prepared statements: a pooler may sit between
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "parkbridge"
	}
	pc.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		if c.PgConn().ParameterStatus("server_encoding") != "SQL_ASCII" {
			return nil
		}
		// Bytes of unknown encoding would fail the whole page on their way to UTF-8.
		_, err := c.Exec(ctx, "SET client_encoding TO SQL_ASCII")
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, nil, err
	}
	d := &db{pool: pool, settings: fmt.Sprintf("SELECT set_config('statement_timeout', '%d', true), set_config('TimeZone', 'UTC', true), "+
		"set_config('DateStyle', 'ISO, YMD', true), set_config('IntervalStyle', 'iso_8601', true), set_config('bytea_output', 'hex', true), "+
		"set_config('extra_float_digits', '3', true)", cfg.StatementTimeout.Milliseconds())}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		// One line for each address and TLS mode tried, with tabs.
		return nil, nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	return d, dialect{}, nil
}

// Share implements [sources.Sharer]: evidence is of one table.
func (d *db) Share() sources.DB { return &db{pool: d.pool, settings: d.settings} }

func (d *db) Close() error {
	d.pool.Close()
	return nil
}

// conn is one connection of the pool's.
type conn struct {
	*pgxpool.Conn
	settings string
	table    *uint32 // the polled table, once it is known; nil: none is
}

func (d *db) Connect(ctx context.Context, _ bool) (sources.Conn, error) { return d.connect(ctx) }

func (d *db) connect(ctx context.Context) (*conn, error) {
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{c, d.settings, &d.table}, nil
}

func (c *conn) Close() error {
	c.Release()
	return nil
}

// begin opens a page's transaction.
const begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"

// read runs f in a short read-only transaction.
func (c *conn) read(ctx context.Context, f func(*pgx.Conn) error) error {
	if _, err := c.Conn.Conn().PgConn().Exec(ctx, begin+";"+c.settings).ReadAll(); err != nil {
		return err
	}
	err := f(c.Conn.Conn())
	_, end := c.Conn.Conn().PgConn().Exec(ctx, "COMMIT").ReadAll()
	if err != nil {
		return err
	}
	return end
}

// read is conn.read on a connection for that alone.
func (d *db) read(ctx context.Context, f func(*pgx.Conn) error) error {
	c, err := d.connect(ctx)
	if err != nil {
		return err
	}
	return errors.Join(c.read(ctx, f), c.Close())
}

func (d *db) Columns(ctx context.Context, list, from string) ([]sources.Column, error) {
	var columns []sources.Column
	err := d.read(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, "SELECT "+list+" FROM "+from+" WHERE false")
		if err != nil {
			return err
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && pe.Code == "42P01" {
				return fmt.Errorf("%w: %w", sources.ErrNoTable, err)
			}
			return err
		}
		fields := slices.Clone(rows.FieldDescriptions()) // the next query has the same room
		oids, modifiers := make([]int64, len(fields)), make([]int32, len(fields))
		for i, f := range fields {
			oids[i], modifiers[i] = int64(f.DataTypeOID), f.TypeModifier
		}
		var names []string
		if err := c.QueryRow(ctx, "SELECT array_agg(format_type(o::oid, m) ORDER BY n) FROM unnest($1::int8[], $2::int4[]) WITH ORDINALITY AS t (o, m, n)",
			oids, modifiers).Scan(&names); err != nil {
			return err
		}
		for i, f := range fields {
			columns = append(columns, column(f, names[i]))
		}
		return nil
	})
	return columns, err
}

func column(f pgconn.FieldDescription, typ string) sources.Column {
	c := sources.Column{Name: f.Name, Type: typ}
	switch f.DataTypeOID {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		c.Integer = true
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID:
		c.IsText = true
	case pgtype.ByteaOID:
		c.Binary = true
	}
	return c
}

// Query sends the whole transaction at once: one round trip.
func (c *conn) Query(ctx context.Context, sql string, fields []sources.Field, args []any) (out [][]sources.Value, err error) {
	pg := c.Conn.Conn()
	ascii := pg.PgConn().ParameterStatus("server_encoding") == "SQL_ASCII"
	var all pgx.Batch
	all.Queue(begin)
	all.Queue(c.settings)
	// Everything comes as text: the form the server itself parses back without
	// loss.
	all.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			raw, types := rows.RawValues(), rows.FieldDescriptions()
			row := make([]sources.Value, len(raw))
			for i, b := range raw {
				row[i] = value(types[i].DataTypeOID, b, fields[i].Raw && ascii)
			}
			out = append(out, row)
		}
		return rows.Err()
	})
	all.Queue("COMMIT")
	err = pg.SendBatch(ctx, &all).Close()
	if pg.PgConn().TxStatus() != 'I' && !pg.IsClosed() { // what failed is the transaction's still
		_, end := pg.PgConn().Exec(ctx, "ROLLBACK").ReadAll()
		err = errors.Join(err, end)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Uncommitted is not to be had: PostgreSQL has no dirty read.
func (*conn) Uncommitted(context.Context, string, []sources.Field, []any) ([][]sources.Value, bool, error) {
	return nil, false, nil
}

func value(oid uint32, b []byte, raw bool) sources.Value {
	if b == nil {
		return sources.Value{}
	}
	s := string(b)
	switch oid {
	case pgtype.BoolOID:
		if s == "t" {
			return sources.Value{Kind: sources.Bool, Text: "true"}
		}
		return sources.Value{Kind: sources.Bool, Text: "false"}
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return sources.Value{Kind: sources.Int, Text: s}
	case pgtype.Float4OID, pgtype.Float8OID:
		return sources.Value{Kind: sources.Float, Text: s}
	case pgtype.NumericOID:
		return sources.Value{Kind: sources.Decimal, Text: s}
	case pgtype.ByteaOID:
		raw, _ := hex.DecodeString(strings.TrimPrefix(s, `\x`)) // bytea_output is hex by our own SET
		return sources.Value{Kind: sources.Bytes, Text: string(raw)}
	case pgtype.DateOID, pgtype.TimestampOID:
		return sources.Value{Kind: sources.Local, Text: s}.Checked()
	case pgtype.TimestamptzOID:
		return sources.Value{Kind: sources.Time, Text: s}.Checked()
	}
	return sources.TextOrBytes(s, raw)
}

type dialect struct{}

func (dialect) Quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func (d dialect) Select(f sources.Field) string { return d.Quote(f.Column.Name) }

func (dialect) Param(n int, c sources.Column) string {
	return fmt.Sprintf("CAST($%d::text AS %s)", n, c.Type)
}

func (dialect) Compare(columns []string, op string, param func(int) string) string {
	return sources.CompareRows(columns, op, param)
}

func (dialect) Native(c sources.Column, v sources.Value) (string, error) {
	if v.Kind == sources.Bytes && c.Binary {
		return `\x` + hex.EncodeToString([]byte(v.Text)), nil
	}
	if v.Kind == sources.Bool || utf8.ValidString(v.Text) {
		return v.Text, nil
	}
	return "", errors.New("holds text that is not UTF-8, which cannot be a key or cursor here")
}

func (dialect) Arg(_ sources.Column, native string) (any, error) {
	if strings.ContainsRune(native, 0) {
		return nil, errors.New("holds a NUL character")
	}
	return native, nil
}
