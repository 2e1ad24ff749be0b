// Package mysql reads MySQL and MariaDB.
package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"parkbridge/sources"

	"github.com/go-sql-driver/mysql"
)

// Driver is registered as "mysql". Its DSN is go-sql-driver's:
// user:password@tcp(host:3306)/database.
func Driver() sources.Driver { return sources.Driver{Name: "mysql", Open: open, CheckDSN: checkDSN} }

func checkDSN(dsn string) error {
	// The library's own message can quote the password.
	if mc, err := mysql.ParseDSN(dsn); err != nil || mc.DBName == "" {
		return errors.New("is not of the form user:password@tcp(host:3306)/database")
	}
	return nil
}

type db struct {
	pool    *sql.DB
	open    driver.Connector
	address string // of the server
	timeout time.Duration
}

func open(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
	if err := checkDSN(string(cfg.DSN)); err != nil {
		return nil, nil, &sources.ConfigError{Source: cfg.Name, Key: "dsn", Problem: err.Error()}
	}
	mc, err := mysql.ParseDSN(string(cfg.DSN))
	if err != nil {
		return nil, nil, err
	}
	// The text protocol gives every value as the server prints it, so nothing
	// is rounded or shifted on the way; the driver must not parse times.
	mc.InterpolateParams, mc.ParseTime = true, false
	mc.Collation = ""
	if err := mc.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return nil, nil, err
	}
	if mc.Timeout == 0 {
		mc.Timeout = 10 * time.Second
	}
	if mc.ReadTimeout == 0 {
		mc.ReadTimeout = cfg.StatementTimeout + 10*time.Second // the server's own limit strikes first
	}
	mc.Logger = &mysql.NopLogger{} // its messages come back as errors too
	conn, err := mysql.NewConnector(mc)
	if err != nil {
		return nil, nil, err
	}
	d := &db{open: connector{conn, cfg.StatementTimeout}, address: mc.Addr, timeout: cfg.StatementTimeout}
	d.pool = sql.OpenDB(d.open)
	d.pool.SetMaxOpenConns(1) // the second is the fresh one that evidence needs
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := d.pool.PingContext(ctx); err != nil {
		_ = d.pool.Close() // the first error tells more
		return nil, nil, err
	}
	return d, dialect{}, nil
}

// connector readies each new connection: read-only transactions, UTC for
// TIMESTAMP columns, and the server's own statement timeout.
type connector struct {
	driver.Connector
	timeout time.Duration
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.ready(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c connector) ready(ctx context.Context, conn driver.Conn) error {
	exec, ok := conn.(driver.ExecerContext)
	if !ok {
		return errors.New("the mysql driver's connection cannot run statements")
	}
	run := func(stmt string) error {
		_, err := exec.ExecContext(ctx, stmt, nil)
		return err
	}
	for _, stmt := range []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
		"SET SESSION time_zone = '+00:00'",
	} {
		if err := run(stmt); err != nil {
			return fmt.Errorf("preparing the connection: %w", err)
		}
	}
	// MySQL counts milliseconds, MariaDB seconds under another name; each
	// refuses the other's (1193, unknown system variable). Servers before
	// MySQL 5.7 and MariaDB 10.1 have neither, and the client's timeout is all.
	err := run(fmt.Sprintf("SET SESSION max_execution_time = %d", c.timeout.Milliseconds()))
	if isError(err, 1193) {
		err = run(fmt.Sprintf("SET SESSION max_statement_time = %f", c.timeout.Seconds()))
	}
	if isError(err, 1193) {
		err = nil
	}
	return err
}

func isError(err error, number uint16) bool {
	var me *mysql.MySQLError
	return errors.As(err, &me) && me.Number == number
}

func (d *db) Close() error { return d.pool.Close() }

func (d *db) Columns(ctx context.Context, list, from string) ([]sources.Column, error) {
	rows, err := d.pool.QueryContext(ctx, "SELECT "+list+" FROM "+from+" WHERE 1 = 0") //nolint:gosec // names are quoted, a query is the config's own
	if isError(err, 1146) || isError(err, 1142) {                                      // 1142 is what an account without rights gets for a table that is not there
		return nil, fmt.Errorf("%w: %w", sources.ErrNoTable, err)
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	var columns []sources.Column
	for _, t := range types {
		columns = append(columns, column(t.Name(), t.DatabaseTypeName()))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil { // one connection at a time
		return nil, err
	}
	return columns, d.charsets(ctx, from, columns)
}

func column(name, typ string) sources.Column {
	c := sources.Column{Name: name, Type: typ}
	switch base := strings.TrimPrefix(typ, "UNSIGNED "); base {
	case "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT":
		c.Integer = true
	case "CHAR", "VARCHAR", "TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "ENUM", "SET":
		c.IsText = true
	case "BINARY", "VARBINARY", "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BIT":
		c.Binary = true
	case "TIMESTAMP":
		c.Instant = true
	}
	return c
}

// charsets fills in each text column's own character set. An aggregate over no
// rows has that of its argument, for a table, a view and a query alike.
func (d *db) charsets(ctx context.Context, from string, columns []sources.Column) error {
	var list []string
	var dest []any
	for i := range columns {
		if columns[i].IsText {
			list = append(list, "CHARSET(MAX("+dialect{}.Quote(columns[i].Name)+"))")
			dest = append(dest, &columns[i].Charset)
		}
	}
	if list == nil {
		return nil
	}
	q := "SELECT " + strings.Join(list, ", ") + " FROM " + from + " WHERE 1 = 0"
	if err := d.pool.QueryRowContext(ctx, q).Scan(dest...); err != nil {
		return fmt.Errorf("asking for the character sets of columns: %w", err)
	}
	return nil
}

// conn is one connection: the pool's or, where fresh is set, one of its own.
type conn struct {
	*sql.Conn
	fresh   *sql.DB
	address string
	timeout time.Duration
}

// Connect gives a connection that was not there before where evidence is to be
// taken, for only that shows whether the server's list is a new one.
func (d *db) Connect(ctx context.Context, evidence bool) (sources.Conn, error) {
	pool, c := d.pool, &conn{address: d.address, timeout: d.timeout}
	if evidence {
		c.fresh = sql.OpenDB(d.open)
		c.fresh.SetMaxOpenConns(1)
		pool = c.fresh
	}
	var err error
	if c.Conn, err = pool.Conn(ctx); err != nil {
		if c.fresh != nil {
			err = errors.Join(err, c.fresh.Close())
		}
		return nil, err
	}
	return c, nil
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	if c.fresh != nil {
		err = errors.Join(err, c.fresh.Close())
	}
	return err
}

// Query runs in its own read-only transaction: the session is READ ONLY and
// commits by itself, so one statement is one transaction.
func (c *conn) Query(ctx context.Context, query string, fields []sources.Field, args []any) ([][]sources.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+10*time.Second)
	defer cancel()
	rows, err := c.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	types := make([]string, len(columns))
	raw := make([]sql.RawBytes, len(columns))
	dest := make([]any, len(columns))
	for i, c := range columns {
		types[i], dest[i] = strings.TrimPrefix(c.DatabaseTypeName(), "UNSIGNED "), &raw[i]
	}
	var out [][]sources.Value
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		row := make([]sources.Value, len(raw))
		for i, b := range raw {
			row[i] = value(types[i], b, fields[i])
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// Uncommitted reads in READ UNCOMMITTED, which takes no lock and waits for none.
func (c *conn) Uncommitted(ctx context.Context, query string, fields []sources.Field, args []any) (rows [][]sources.Value, ok bool, err error) {
	if _, err := c.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"); err != nil { // of the next one alone
		return nil, true, err
	}
	rows, err = c.Query(ctx, query, fields, args)
	return rows, true, err
}

func value(typ string, b []byte, f sources.Field) sources.Value {
	if b == nil {
		return sources.Value{}
	}
	s := string(b)
	switch typ {
	case "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "YEAR":
		return sources.Value{Kind: sources.Int, Text: s}
	case "FLOAT", "DOUBLE":
		return sources.Value{Kind: sources.Float, Text: s}
	case "DECIMAL":
		return sources.Value{Kind: sources.Decimal, Text: s}
	case "BIT":
		return sources.Value{Kind: sources.Int, Text: bits(b)}
	case "DATE", "DATETIME":
		return sources.Value{Kind: sources.Local, Text: s}.Checked()
	case "TIMESTAMP":
		// The session's zone is +00:00, so the text is UTC.
		v := sources.Value{Kind: sources.Time, Text: s + "Z"}.Checked()
		if v.Kind == sources.Bad {
			v.Text = s // as the server spells it
		}
		return v
	case "BINARY", "VARBINARY", "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "GEOMETRY":
		if f.UTF8 && !f.Raw && f.Column.IsText {
			return sources.TextOrBytes(s, false)
		}
		return sources.Value{Kind: sources.Bytes, Text: s}
	}
	return sources.TextOrBytes(s, false)
}

func bits(b []byte) string {
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return fmt.Sprint(n)
}

type dialect struct{}

func (dialect) Quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// Select reads the stored bytes where the mapping asks for them and the
// server's own conversion to UTF-8 would spoil them: of a column declared in a
// single-byte character set, which can hold anything.
func (d dialect) Select(f sources.Field) string {
	if (f.Raw || f.UTF8) && f.Column.IsText {
		switch f.Column.Charset {
		case "latin1", "ascii", "binary", "cp1250", "cp1251", "cp1252", "cp850", "latin2", "latin5", "latin7", "swe7", "dec8", "hp8":
			return "CAST(" + d.Quote(f.Column.Name) + " AS BINARY)"
		}
	}
	return d.Quote(f.Column.Name)
}

func (dialect) Param(int, sources.Column) string { return "?" }

// Compare is spelled out: MySQL and MariaDB scan the index from its start for a
// row value (a, b) > (?, ?).
func (dialect) Compare(columns []string, op string, param func(int) string) string {
	return sources.CompareSpelled(columns, op, param)
}

func (dialect) Native(c sources.Column, v sources.Value) (string, error) {
	switch {
	case c.Type == "BIT":
		return v.Text, nil // compared as a number
	case c.Binary:
		return "0x" + hex.EncodeToString([]byte(v.Text)), nil
	case v.Kind == sources.Time:
		return strings.TrimSuffix(v.Text, "Z"), nil
	case !utf8.ValidString(v.Text):
		return "", errors.New("holds text that is not UTF-8, which cannot be a key or cursor here")
	}
	return v.Text, nil
}

// Arg binds numbers as numbers: MySQL compares an integer column with a string
// as floating point, which rounds ids beyond 2^53.
func (dialect) Arg(c sources.Column, native string) (any, error) {
	switch {
	case c.Binary && c.Type != "BIT":
		b, err := hex.DecodeString(strings.TrimPrefix(native, "0x"))
		if err != nil || !strings.HasPrefix(native, "0x") {
			return nil, errors.New("is not of the form 0x…, which a binary column needs")
		}
		return b, nil
	case c.Integer || c.Type == "BIT":
		return integer(native)
	}
	return native, nil
}

func integer(native string) (any, error) {
	var n int64
	if _, err := fmt.Sscanf(native, "%d", &n); err == nil && fmt.Sprint(n) == native {
		return n, nil
	}
	var u uint64
	if _, err := fmt.Sscanf(native, "%d", &u); err == nil && fmt.Sprint(u) == native {
		return u, nil
	}
	return nil, errors.New("is not an integer")
}
