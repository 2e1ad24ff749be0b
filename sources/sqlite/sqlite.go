// Package sqlite reads SQLite files without ever writing to them.
package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parkbridge/sources"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Driver is registered as "sqlite". Its DSN is a path or a file: URI.
func Driver() sources.Driver { return sources.Driver{Name: "sqlite", Open: open} }

type db struct {
	pool    *sql.DB
	path    string
	timeout time.Duration
}

func open(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
	dsn := string(cfg.DSN)
	if !strings.HasPrefix(dsn, "file:") {
		if info, err := os.Stat(dsn); err != nil {
			return nil, nil, fmt.Errorf("the SQLite file is not there: %w", err)
		} else if info.IsDir() {
			return nil, nil, &sources.ConfigError{Source: cfg.Name, Key: "dsn", Problem: dsn + " is a folder; name the database file in it"}
		}
	}
	pool, err := sql.Open("sqlite", sources.FileURI(dsn, "mode=ro", "_pragma=query_only(1)", "_pragma=busy_timeout(2000)"))
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxOpenConns(2)
	d := &db{pool: pool, path: sources.FilePath(dsn), timeout: cfg.StatementTimeout}
	if err := pool.PingContext(ctx); err != nil {
		_ = pool.Close() // the first error tells more
		if risk, is := d.walRisk(); is {
			return nil, nil, fmt.Errorf("%s; %s: %w", risk.Found, risk.Do, classed(err))
		}
		return nil, nil, classed(err)
	}
	return d, dialect{}, nil
}

func (d *db) Close() error { return d.pool.Close() }

func (d *db) Columns(ctx context.Context, list, from string) ([]sources.Column, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	rows, err := d.pool.QueryContext(ctx, "SELECT "+list+" FROM "+from+" LIMIT 0") //nolint:gosec // names are quoted, a query is the config's own
	if err != nil && strings.Contains(err.Error(), "no such table") {
		return nil, fmt.Errorf("%w: %w", sources.ErrNoTable, err)
	}
	if err != nil {
		return nil, classed(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	var columns []sources.Column
	for _, t := range types {
		typ := strings.ToUpper(t.DatabaseTypeName())
		columns = append(columns, sources.Column{
			Name: t.Name(), Type: typ,
			Integer: strings.Contains(typ, "INT"), IsText: textAffinity(typ), TextTimes: !strings.Contains(typ, "INT"), Loose: true,
		})
	}
	return columns, classed(rows.Err())
}

// textAffinity follows "Determination Of Column Affinity" in SQLite's manual.
func textAffinity(typ string) bool {
	return !strings.Contains(typ, "INT") &&
		(strings.Contains(typ, "CHAR") || strings.Contains(typ, "CLOB") || strings.Contains(typ, "TEXT"))
}

// conn is one connection of the pool's.
type conn struct {
	*sql.Conn
	timeout time.Duration
}

func (d *db) Connect(ctx context.Context, _ bool) (sources.Conn, error) {
	c, err := d.pool.Conn(ctx)
	if err != nil {
		return nil, classed(err)
	}
	return &conn{c, d.timeout}, nil
}

// Evidence is the read itself: there is one writer at a time, so what a read
// does not see has no value yet.
func (c *conn) Evidence(ctx context.Context) (sources.Evidence, error) {
	now, err := c.Now(ctx)
	return sources.Evidence{Now: now}, err
}

// Now is this machine's clock: the file has none of its own.
func (c *conn) Now(context.Context) (time.Time, error) { return time.Now(), nil }

// Identity is the file's path.
func (d *db) Identity(context.Context) (string, error) {
	path, err := filepath.Abs(d.path)
	if real, lerr := filepath.EvalSymlinks(path); lerr == nil {
		path = real
	}
	return path, err
}

func (d *db) Assigned(ctx context.Context, table []string, column string) (sources.Assigned, error) {
	not := func(why string, args ...any) (sources.Assigned, error) {
		return sources.Assigned{Not: fmt.Sprintf(why, args...)}, nil
	}
	name, schema := table[len(table)-1], "main"
	if len(table) > 1 {
		schema = table[0]
	}
	var kind, text string
	var withoutRowID bool
	err := d.pool.QueryRowContext(ctx, `SELECT l.type, l.wr, COALESCE(m.sql, '') FROM pragma_table_list AS l LEFT JOIN sqlite_master AS m ON m.name = l.name
		WHERE l.name = ? COLLATE NOCASE AND l.schema = ? COLLATE NOCASE`, name, schema).Scan(&kind, &withoutRowID, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return not("%s is not a table of the file", name)
	}
	if err != nil {
		return sources.Assigned{}, classed(err)
	}
	if kind != "table" || withoutRowID {
		return not("%s is a %s without rowids", name, kind)
	}
	var keys int
	var typ sql.NullString
	err = d.pool.QueryRowContext(ctx, `SELECT COUNT(*), MAX(CASE WHEN name = ? COLLATE NOCASE THEN type END) FROM pragma_table_info(?, ?) WHERE pk > 0`,
		column, name, schema).Scan(&keys, &typ)
	if err != nil {
		return sources.Assigned{}, classed(err)
	}
	// Only this makes a column another name of the rowid (https://www.sqlite.org/lang_createtable.html).
	if keys != 1 || !strings.EqualFold(typ.String, "INTEGER") {
		return not("%s is not the table's INTEGER PRIMARY KEY", column)
	}
	return sources.Assigned{Serial: true, Reused: !strings.Contains(strings.ToUpper(text), "AUTOINCREMENT")}, nil
}

// Query fetches the rows in one statement, which is SQLite's read transaction,
// and finishes it before it returns: in rollback-journal mode a reader in the
// middle of a SELECT makes the parking system's own write fail.
func (c *conn) Query(ctx context.Context, query string, fields []sources.Field, args []any) ([][]sources.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out, err := sources.ScanRows(ctx, c, query, args, fields, value)
	return out, classed(err)
}

// Uncommitted is not to be had, nor needed: there is one writer at a time.
func (*conn) Uncommitted(context.Context, string, []sources.Field, []any) ([][]sources.Value, bool, error) {
	return nil, false, nil
}

// classed names the errors that pass by themselves: another connection holds
// the file, or a writer that died left a journal a read-only connection may
// not roll back.
func classed(err error) error {
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return fmt.Errorf("%w: %w", sources.ErrBusy, err)
		case sqlite3.SQLITE_READONLY:
			return fmt.Errorf("%w: the file needs recovery or a -shm file that a reader may not make; open it once with the parking system's own program: %w", sources.ErrBusy, err)
		}
	}
	return err
}

func value(cell any, f sources.Field) (sources.Value, error) {
	switch c := cell.(type) {
	case nil:
		return sources.Value{}, nil
	case int64:
		return sources.Value{Kind: sources.Int, Text: strconv.FormatInt(c, 10)}, nil
	case float64:
		return sources.Value{Kind: sources.Float, Text: strconv.FormatFloat(c, 'g', -1, 64)}, nil
	case string:
		return sources.TextOrBytes(c, f.Raw), nil
	case []byte:
		return sources.Value{Kind: sources.Bytes, Text: string(c)}, nil
	}
	return sources.Value{}, fmt.Errorf("the SQLite driver gave a %T, which no storage class is", cell)
}

type dialect struct{}

func (dialect) Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Select reads through a unary plus, which changes nothing but that the column
// loses its declared type: the driver would else parse the text of a DATETIME
// column into a time and give up its precision and its mistakes.
func (d dialect) Select(f sources.Field) string { return "+" + d.Quote(f.Column.Name) }

func (dialect) Param(int, sources.Column) string { return "?" }

func (dialect) Compare(columns []string, op string, param func(int) string) string {
	return sources.CompareRows(columns, op, param)
}

// Native writes the value so that its storage class survives: numbers in
// digits, text as it stands, text that could be taken for something else in
// quotes, blobs as x'…'. A column of text affinity holds no numbers, so its
// digits need no quotes.
func (dialect) Native(c sources.Column, v sources.Value) (string, error) {
	switch v.Kind {
	case sources.Int, sources.Float:
		return v.Text, nil
	case sources.Text:
		_, err := strconv.ParseFloat(v.Text, 64)
		if (err == nil && !c.IsText) || strings.HasPrefix(v.Text, "'") || strings.HasPrefix(v.Text, "x'") || strings.HasPrefix(v.Text, "t'") {
			return "'" + v.Text + "'", nil
		}
		return v.Text, nil
	case sources.Bytes:
		if c.IsText && !utf8.ValidString(v.Text) {
			return "t'" + hex.EncodeToString([]byte(v.Text)) + "'", nil
		}
		return "x'" + hex.EncodeToString([]byte(v.Text)) + "'", nil
	default:
		return "", fmt.Errorf("a %s cannot be a key or cursor", v.Kind)
	}
}

func (dialect) Arg(c sources.Column, native string) (any, error) {
	if n := len(native); n >= 2 && native[0] == '\'' && native[n-1] == '\'' {
		return native[1 : n-1], nil
	}
	if n := len(native); n >= 3 && (native[0] == 'x' || native[0] == 't') && native[1] == '\'' && native[n-1] == '\'' {
		b, err := hex.DecodeString(native[2 : n-1])
		if err != nil {
			return nil, fmt.Errorf("reading hex digits: %w", err)
		}
		if native[0] == 't' {
			return string(b), nil
		}
		return b, nil
	}
	if c.IsText {
		return native, nil
	}
	if n, err := strconv.ParseInt(native, 10, 64); err == nil {
		return n, nil
	}
	if f, err := strconv.ParseFloat(native, 64); err == nil {
		return f, nil
	}
	return native, nil
}
