// Package sqlserver reads SQL Server, 2008 R2 to 2022.
package sqlserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"parkbridge/sources"
)

// Driver is registered as "sqlserver". Its DSN is go-mssqldb's:
// sqlserver://user:password@host:1433?database=lot, or the ADO form
// server=host;user id=user;password=password;database=lot.
func Driver() sources.Driver {
	return sources.Driver{Name: "sqlserver", Open: open, CheckDSN: checkDSN}
}

func checkDSN(dsn string) error {
	_, err := parseDSN(dsn)
	return err
}

// parseDSN never gives back the library's own message, which can quote the DSN.
func parseDSN(dsn string) (msdsn.Config, error) {
	mc, err := msdsn.Parse(dsn)
	switch {
	case err != nil || mc.Parameters[msdsn.Server] == "":
		return mc, errors.New("is not of the form sqlserver://user:password@host:1433?database=lot, or one of its options is wrong (docs/sqlserver.md lists them)")
	case mc.Database == "":
		return mc, errors.New("names no database; add ?database=NAME to it")
	}
	return mc, nil
}

// readyConnection is run on each new connection, and each time one is taken from
// the pool again, after the server has reset it. Nothing is ever waited for: a
// lock that is not to be had at once fails the statement with error 1222. In a
// deadlock it is this session that loses. Where the database allows it, rows are
// read by version and no lock is asked for at all. A date in the config's where
// is read as yyyy-MM-dd, whatever the language of the login.
const readyConnection = "SET DEADLOCK_PRIORITY LOW; SET DATEFORMAT ymd; " +
	"IF EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID() AND is_read_committed_snapshot_on = 0 AND snapshot_isolation_state = 1) " +
	"SET TRANSACTION ISOLATION LEVEL SNAPSHOT ELSE SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCK_TIMEOUT 0"

type db struct {
	pool    *sql.DB
	timeout time.Duration
	cursor  cursor
}

// cursor is the polled table's where the server assigns its values.
type cursor struct {
	table   int64 // the table's object id; 0: none is
	version bool  // it is a rowversion
}

func open(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
	mc, err := parseDSN(string(cfg.DSN))
	if err != nil {
		return nil, nil, &sources.ConfigError{Source: cfg.Name, Key: "dsn", Problem: err.Error()}
	}
	if mc.Parameters[msdsn.AppName] == "" {
		mc.AppName = "parkbridge"
	}
	if mc.Parameters[msdsn.DialTimeout] == "" {
		mc.DialTimeout = 10 * time.Second
	}
	if mc.ConnTimeout == 0 {
		mc.ConnTimeout = cfg.StatementTimeout + 10*time.Second // for a server that has stopped answering; the statement's own limit strikes first
	}
	// Date-times without a zone must come as they are stored, and nothing that
	// is read may go to a log.
	mc.Encoding, mc.LogFlags = msdsn.EncodeParameters{Timezone: time.UTC}, 0
	connector := mssql.NewConnectorConfig(mc)
	connector.SessionInitSQL = readyConnection
	d := &db{pool: sql.OpenDB(connector), timeout: cfg.StatementTimeout}
	d.pool.SetMaxOpenConns(2)
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := d.pool.PingContext(ctx); err != nil {
		_ = d.pool.Close() // the first error tells more
		return nil, nil, advised(err)
	}
	return d, dialect{}, nil
}

func (d *db) Close() error { return d.pool.Close() }

// Share implements [sources.Sharer]: evidence is of one table.
func (d *db) Share() sources.DB { return &db{pool: d.pool, timeout: d.timeout} }

// TableNames implements [sources.Lister]. The server shows an account the tables
// that it has a right to.
func (d *db) TableNames(ctx context.Context, schema, prefix string) (names []string, err error) {
	var name string
	err = sources.EachRow(ctx, d.pool, `SELECT o.name FROM sys.objects o
		WHERE o.type IN ('U', 'V') AND (@p1 = N'' AND o.schema_id IN (SCHEMA_ID(), SCHEMA_ID(N'dbo')) OR o.schema_id = SCHEMA_ID(@p1))
			AND LOWER(LEFT(o.name, LEN(@p2))) = LOWER(@p2) ORDER BY o.name`,
		[]any{schema, prefix}, []any{&name}, func() error { names = append(names, name); return nil })
	return names, classed(err)
}

var (
	_ sources.Lister = (*db)(nil)
	_ sources.Sharer = (*db)(nil)
)

// conn is one connection of the pool's.
type conn struct {
	*sql.Conn
	timeout time.Duration
	cursor  *cursor
}

func (d *db) Connect(ctx context.Context, _ bool) (sources.Conn, error) {
	c, err := d.pool.Conn(ctx)
	if err != nil {
		return nil, advised(err)
	}
	return &conn{c, d.timeout, &d.cursor}, nil
}

// Query runs in a transaction of its own: the session commits by itself, and has
// no other statement under way. SQL Server has no read-only session, so nothing
// but a SELECT is sent.
func (c *conn) Query(ctx context.Context, query string, fields []sources.Field, args []any) ([][]sources.Value, error) {
	if !strings.HasPrefix(query, "SELECT ") {
		return nil, errors.New("only a SELECT may be sent to a source")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out, err := sources.ScanRows(ctx, c, query, args, fields, value)
	return out, classed(err)
}

// Uncommitted reads in READ UNCOMMITTED, which takes no row lock and waits for
// none.
func (c *conn) Uncommitted(ctx context.Context, query string, fields []sources.Field, args []any) (rows [][]sources.Value, ok bool, err error) {
	if _, err := c.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"); err != nil {
		return nil, true, classed(err)
	}
	rows, err = c.Query(ctx, query, fields, args)
	_, rerr := c.ExecContext(ctx, readyConnection)
	return rows, true, errors.Join(err, classed(rerr))
}

// Numbers of SQL Server's errors.
const (
	errNoSuchObject = 208
	errNoShowPlan   = 262 // a permission in the database is denied: SHOWPLAN, of all that is asked
	errNoSelect     = 229 // SELECT is denied on the object
	errDeadlock     = 1205
	errLockTimeout  = 1222
	errReadPast     = 650 // READPAST under snapshot isolation, where only a schema lock can be in the way
)

// number is the SQL Server error that an error is; 0 where it is none.
func number(err error) int32 {
	me, _ := errors.AsType[mssql.Error](err)
	return me.Number
}

// classed names the errors that pass by themselves, and makes one line of each.
func classed(err error) error {
	switch number(err) {
	case 0:
		return err
	case errLockTimeout, errReadPast:
		return fmt.Errorf("%w: %w", sources.ErrLocked, lineError{err})
	case errDeadlock:
		return fmt.Errorf("%w: %w", sources.ErrBusy, lineError{err})
	case 3952, 3957, 3958, 3959, 3960, 3961: // a snapshot that the database could not keep, or gives no longer
		return fmt.Errorf("%w: %w", sources.ErrBusy, lineError{err})
	}
	return lineError{err}
}

// lineError is an error whose text is one line; the library gives one for each
// message of the server's.
type lineError struct{ error }

func (e lineError) Error() string {
	text := e.error.Error()
	if fatal, ok := errors.AsType[mssql.ServerError](e.error); ok {
		text += ": " + fatal.Unwrap().Error() // what it had to say before it broke off
	}
	return strings.Join(strings.Fields(text), " ")
}

func (e lineError) Unwrap() error { return e.error }

// advised adds what to do to the errors that a first connection meets.
func advised(err error) error {
	text := lineError{err}.Error()
	for _, a := range []struct{ sign, advice string }{
		{"protocol version", "the server speaks only an older TLS: tlsmin=1.0 in the dsn lets it, or encrypt=disable does without"},
		{"handshake failure", "the two have no cipher in common, as with Windows before 2008 R2: say encrypt=disable in the dsn"},
		{"x509:", "the server's certificate is not one that this machine trusts: name it in the dsn with certificate=FILE.pem, or say trustservercertificate=true"},
		{"server does not support encryption", "say encrypt=disable in the dsn"},
		{"no instance matching", "the SQL Server Browser does not know that instance: name the port in the dsn instead, host:1433"},
		{"unable to open tcp connection", "is TCP/IP switched on in the SQL Server Configuration Manager, and the port open?"},
	} {
		if strings.Contains(text, a.sign) {
			return fmt.Errorf("%w (%s; see docs/sqlserver.md)", lineError{err}, a.advice)
		}
	}
	return lineError{err}
}
