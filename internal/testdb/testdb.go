// Package testdb gives tests lots of their own on real database servers.
// Only tests import it.
package testdb

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // "pgx" for database/sql
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"parkbridge/sources"
)

// Lot is a database of a parking lot, made for one test.
type Lot struct {
	Driver string
	// DB is the parking system's own connection: it may do anything.
	DB *sql.DB
	// DSN is what parkbridge gets: an account that may only read.
	DSN string
	// Admin is a DSN with every right.
	Admin string

	reader string
	name   string // of the database (SQL Server)
}

// Engines are the drivers that every test of polling runs on.
var Engines = []string{"sqlite", "postgres", "mysql"}

// Sources are the drivers that the conformance suite of sources runs on: Engines,
// and SQL Server where PARKBRIDGE_TEST_SQLSERVER names one. No such server can be
// installed by a script, so nothing requires it.
func Sources() []string {
	if os.Getenv(sqlServerVariable) != "" {
		return append([]string{"sqlserver"}, Engines...)
	}
	return Engines
}

var count atomic.Int64

// New makes an empty lot of an engine. Where the engine needs a server that is
// not there, the test is skipped, or fails where servers are required.
func New(t testing.TB, engine string) *Lot {
	t.Helper()
	switch engine {
	case "sqlite":
		return newSQLite(t)
	case "postgres":
		return postgresLot(t, server(t, "PARKBRIDGE_TEST_POSTGRES"), "")
	case "mysql":
		return mysqlLot(t, server(t, "PARKBRIDGE_TEST_MYSQL"))
	case "sqlserver":
		return sqlServerLot(t, os.Getenv(sqlServerVariable))
	}
	t.Fatalf("no engine %q", engine)
	return nil
}

func server(t testing.TB, name string) string {
	t.Helper()
	dsn := os.Getenv(name)
	if dsn == "" {
		missing(t, name+" is not set; make test sets it")
	}
	return dsn
}

// missing skips a test that lacks a part or, where every part must be there,
// fails it.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("PARKBRIDGE_TEST_REQUIRED") != "" || os.Getenv("CI") != "" {
		t.Fatalf("%s, and tests must not be skipped here", what)
	}
	t.Skip(what)
}

func answers(t testing.TB, driver, dsn string) bool {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return false
	}
	defer db.Close()
	return db.PingContext(context.WithoutCancel(t.Context())) == nil
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.PingContext(t.Context()))
	return db
}

func newSQLite(t testing.TB) *Lot {
	t.Helper()
	path := filepath.Join(t.TempDir(), "停车 lot.db")
	return &Lot{Driver: "sqlite", DSN: path, Admin: path, DB: open(t, "sqlite", sources.FileURI(path, "_pragma=busy_timeout(5000)"))}
}

// NewASCII makes a PostgreSQL lot that keeps bytes of no known encoding.
func NewASCII(t testing.TB) *Lot {
	t.Helper()
	return postgresLot(t, server(t, "PARKBRIDGE_TEST_POSTGRES"), " ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
}

func postgresLot(t testing.TB, admin, options string) *Lot {
	t.Helper()
	name := fmt.Sprintf("lot_%d_%d", os.Getpid(), count.Add(1))
	server := open(t, "pgx", admin)
	run(t, server, "CREATE DATABASE "+name+options)
	run(t, server, "CREATE ROLE "+name+"_reader LOGIN PASSWORD 'secret'")
	t.Cleanup(func() {
		run(t, server, "DROP DATABASE "+name+" WITH (FORCE)")
		run(t, server, "DROP ROLE "+name+"_reader")
	})
	cfg, err := pgx.ParseConfig(admin)
	require.NoError(t, err)
	dsn := func(user, password string) string {
		return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", cfg.Host, cfg.Port, user, password, name)
	}
	full := dsn(cfg.User, "'"+cfg.Password+"'")
	return &Lot{Driver: "postgres", DB: open(t, "pgx", full), DSN: dsn(name+"_reader", "secret"), Admin: full, reader: name + "_reader"}
}

func mysqlLot(t testing.TB, admin string) *Lot {
	t.Helper()
	name := fmt.Sprintf("lot_%d_%d", os.Getpid(), count.Add(1))
	server := open(t, "mysql", admin)
	run(t, server, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4")
	run(t, server, "CREATE USER '"+name+"_r'@'%' IDENTIFIED BY 'secret'")
	t.Cleanup(func() {
		run(t, server, "DROP DATABASE "+name)
		run(t, server, "DROP USER '"+name+"_r'@'%'")
	})
	cfg, err := mysql.ParseDSN(admin)
	require.NoError(t, err)
	cfg.DBName = name
	full := cfg.FormatDSN()
	cfg.User, cfg.Passwd = name+"_r", "secret"
	return &Lot{Driver: "mysql", DB: open(t, "mysql", full+"?multiStatements=false"), DSN: cfg.FormatDSN(), Admin: full, reader: "'" + name + "_r'@'%'"}
}

// run executes a statement; cleanups run it after the test's context has ended.
func run(t testing.TB, db *sql.DB, stmt string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(context.WithoutCancel(t.Context()), stmt, args...)
	require.NoError(t, err, stmt)
}

// Exec runs a statement of the parking system.
func (l *Lot) Exec(t testing.TB, stmt string, args ...any) {
	t.Helper()
	switch l.Driver {
	case "postgres":
		stmt = numbered(stmt, "$")
	case "sqlserver":
		stmt = numbered(stmt, "@p")
	}
	run(t, l.DB, stmt, args...)
}

// numbered turns ? into $1, $2, … for PostgreSQL, and into @p1, … for SQL Server.
func numbered(stmt, sign string) string {
	var b strings.Builder
	n := 0
	for _, r := range stmt {
		if r == '?' {
			n++
			fmt.Fprintf(&b, "%s%d", sign, n)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Grant lets the reading account read a table, the README's own GRANT.
func (l *Lot) Grant(t testing.TB, table string) {
	t.Helper()
	if l.reader != "" {
		run(t, l.DB, "GRANT SELECT ON "+table+" TO "+l.reader)
	}
}

// GrantProcess lets the reading account see every transaction (MySQL, SQL Server).
func (l *Lot) GrantProcess(t testing.TB) {
	t.Helper()
	if l.Driver == "sqlserver" {
		run(t, l.DB, "USE master; GRANT VIEW SERVER STATE TO "+l.reader+"; USE "+l.name)
		return
	}
	run(t, l.DB, "GRANT PROCESS ON *.* TO "+l.reader)
}

// GrantColumns lets the reading account read some columns of a table only.
func (l *Lot) GrantColumns(t testing.TB, table, columns string) {
	t.Helper()
	run(t, l.DB, "GRANT SELECT ("+columns+") ON "+table+" TO "+l.reader)
}

// Type picks the engine's own type name or text; SQL Server's goes by MySQL's.
func (l *Lot) Type(sqlite, postgres, mysql string) string {
	if own, ok := sqlServerTypes[mysql]; ok && l.Driver == "sqlserver" {
		return own
	}
	return map[string]string{"sqlite": sqlite, "postgres": postgres, "mysql": mysql, "sqlserver": mysql}[l.Driver]
}
