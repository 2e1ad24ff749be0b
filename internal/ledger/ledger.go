// Package ledger keeps what became of every release: the sync status of each
// record, each source's high-water mark, and each run. It is the only writer
// of state.
package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"parkbridge/migrations"
	"parkbridge/sources"
)

// Config says where the ledger is.
type Config struct {
	// Driver is "sqlite", which is also what empty means.
	Driver string `yaml:"driver"`
	// DSN is a path or a file: URI; empty means parkbridge.db beside the config.
	DSN sources.Secret `yaml:"dsn,secret"`
	// Retention is how long the columns and fields of delivered records are
	// kept; 0 means 720h.
	Retention time.Duration `yaml:"retention"`
}

// Defaults fills what was left out.
func (c *Config) Defaults() {
	if c.Driver == "" {
		c.Driver = "sqlite"
	}
	if c.DSN == "" {
		c.DSN = "parkbridge.db"
	}
	if c.Retention == 0 {
		c.Retention = 720 * time.Hour
	}
}

// Validate reports every problem with the config key it concerns.
func (c *Config) Validate(report func(key, problem string)) {
	if c.Driver != "sqlite" {
		report("driver", fmt.Sprintf("%q is not known; the ledger is kept in sqlite", c.Driver))
	}
	if c.Retention < time.Hour {
		report("retention", "must be at least 1h")
	}
}

// Ledger is an open ledger. It is safe for concurrent use.
type Ledger struct {
	path string // the file, for locks beside it and for messages
	db   *sql.DB
	// write is the one connection that writes, in transactions one after another:
	// writers queue at order, and not inside SQLite.
	write *sql.Conn
	order sync.Mutex // held by a transaction and what follows it
	stmts statements
	read  *sql.DB
	now   func() time.Time
	// Created tells that Open has made the ledger, for there was none.
	Created bool
}

// Open opens the ledger and brings its schema up to date. Where there is none,
// it is made if mayCreate says so, else that is [ErrNone]. A damaged file and one of a newer program are refused
// ([ErrCorrupt], [ErrNewer]); neither is ever replaced by an empty one.
func Open(ctx context.Context, cfg Config, now func() time.Time, mayCreate bool) (*Ledger, error) {
	path := sources.FilePath(string(cfg.DSN))
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("opening the ledger %s: its folder: %w", path, err)
	}
	lock := flock.New(path + ".lock")
	locking, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if ok, err := lock.TryLockContext(locking, 20*time.Millisecond); err != nil || !ok {
		return nil, fmt.Errorf("opening the ledger %s: taking the lock file beside it: %w", path, err)
	}
	defer lock.Unlock() //nolint:errcheck // the lock ends with the process at the latest
	if err := checkFile(path); err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, err)
	}
	created := false
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if created = mayCreate; !created {
			return nil, fmt.Errorf("opening the ledger %s: %w", path, ErrNone)
		}
		if err := create(ctx, cfg.Driver, path); err != nil {
			return nil, fmt.Errorf("making the ledger %s: %w", path, err)
		}
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // one ledger has one set of locks, by whatever name it is opened
	}
	l := &Ledger{path: path, now: now, Created: created}
	if err := l.connect(ctx, cfg); err != nil {
		_ = l.Close() // the first error tells more
		return nil, fmt.Errorf("opening the ledger %s: %w", path, classed(err))
	}
	return l, nil
}

func (l *Ledger) connect(ctx context.Context, cfg Config) error {
	var err error
	if l.db, err = openWriter(string(cfg.DSN)); err != nil {
		return err
	}
	if err := migrate(ctx, cfg.Driver, l.db); err != nil {
		return err
	}
	if l.write, err = l.db.Conn(ctx); err != nil {
		return err
	}
	if l.read, err = openReader(string(cfg.DSN)); err != nil {
		return err
	}
	if err := l.verify(ctx); err != nil {
		return err
	}
	if err := l.stmts.prepareRead(ctx, l.read); err != nil {
		return err
	}
	return l.stmts.prepareWrite(ctx, l.write)
}

// openWriter opens the one writing connection. synchronous=FULL: what a
// transaction said is there after a power cut.
func openWriter(dsn string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", sources.FileURI(dsn,
		"_txlock=immediate", "_pragma=busy_timeout(10000)", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)",
		"_pragma=temp_store(MEMORY)",        // what a statement would be undone with needs no file
		"_pragma=wal_autocheckpoint(4000)")) // 16 MB: a page that is written again and again is copied once
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// openReader opens connections that only read.
func openReader(dsn string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", sources.FileURI(dsn, "_pragma=query_only(1)", "_pragma=busy_timeout(10000)", "_pragma=cache_size(-512)"))
	if err == nil {
		db.SetMaxOpenConns(2)
	}
	return db, err
}

// create makes a new ledger under another name and moves it into place whole,
// so that a program killed here leaves no empty ledger behind.
func create(ctx context.Context, driver, path string) error {
	// A log left behind by another ledger would be replayed into the new one.
	for _, name := range []string{path + "-wal", path + "-journal"} {
		if _, err := os.Stat(name); err == nil {
			return fmt.Errorf("there is no ledger, but %s is there: move it away with the ledger it belongs to, or put that one back", name)
		}
	}
	tmp := path + ".new"
	for _, name := range []string{tmp, tmp + "-wal", tmp + "-shm"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	// SQLite gives its side files the same rights as the main one. What is in
	// them is personal data.
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openWriter(tmp)
	if err != nil {
		return err
	}
	err = migrate(ctx, driver, db)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func migrate(ctx context.Context, driver string, db *sql.DB) error {
	p, older, err := versions(ctx, driver, db)
	if err == nil && older {
		_, err = p.Up(ctx)
		// The parser of the migrations leaves buffers of 4 MB each behind, in a pool
		// that two collections empty: the heap need not grow by them.
		runtime.GC()
		debug.FreeOSMemory()
	}
	return err
}

// versions compares a ledger's schema with this program's.
func versions(ctx context.Context, driver string, db *sql.DB) (p *goose.Provider, older bool, err error) {
	files, err := migrations.For(driver)
	if err != nil {
		return nil, false, err
	}
	if p, err = goose.NewProvider(goose.DialectSQLite3, db, files); err != nil {
		return nil, false, err
	}
	have, want, err := p.GetVersions(ctx)
	if err == nil && have > want {
		err = fmt.Errorf("%w: its schema is version %d, this program knows %d", ErrNewer, have, want)
	}
	return p, have < want, err
}

// quickCheckLimit is the size up to which the whole file is checked at each
// start; beyond it damage shows when the damaged part is read.
const quickCheckLimit = 8 << 20

// checkFile refuses a file that is there and no ledger.
func checkFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("it is a folder; ledger.dsn names a file")
	}
	head := make([]byte, 100)
	if n, err := io.ReadFull(f, head); err != nil {
		return fmt.Errorf("%w: it holds only %d bytes", ErrCorrupt, n)
	}
	if !bytes.HasPrefix(head, []byte("SQLite format 3\x00")) {
		return fmt.Errorf("%w: it does not begin as an SQLite file does", ErrCorrupt)
	}
	// Offset 68 of the header is the application id (https://www.sqlite.org/fileformat.html).
	if string(head[68:72]) != "PKBR" {
		return errors.New("it is an SQLite database, but no ledger of parkbridge's; it was left as it is: name another file as ledger.dsn")
	}
	return nil
}

// verify looks for damage inside the file.
func (l *Ledger) verify(ctx context.Context) error {
	info, err := os.Stat(l.path)
	if err != nil || info.Size() > quickCheckLimit {
		return err
	}
	var result string
	if err := l.read.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("%w: %s", ErrCorrupt, strings.ReplaceAll(result, "\n", " "))
	}
	return nil
}

// Close ends the connections.
func (l *Ledger) Close() error {
	errs := []error{l.stmts.close()}
	if l.write != nil {
		errs = append(errs, l.write.Close())
	}
	for _, db := range []*sql.DB{l.read, l.db} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Path is the ledger's file.
func (l *Ledger) Path() string { return l.path }

// Size is how large the ledger is, its log included, and how much of that is
// free for new records, both in bytes.
func (l *Ledger) Size(ctx context.Context) (size, free int64, err error) {
	for _, name := range []string{l.path, l.path + "-wal"} {
		info, err := os.Stat(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, 0, fmt.Errorf("measuring the ledger: %w", err)
		}
		if err == nil {
			size += info.Size()
		}
	}
	err = l.read.QueryRowContext(ctx, "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size").Scan(&free)
	if err != nil {
		return 0, 0, fmt.Errorf("measuring the ledger: %w", classed(err))
	}
	return size, free, nil
}

// tx runs f in one writing transaction.
func (l *Ledger) tx(ctx context.Context, f func(*sql.Conn) error) error { return l.txThen(ctx, f, nil) }

// txThen runs f in one writing transaction and then, once that is written and
// before any other begins, then; nil is not run.
func (l *Ledger) txThen(ctx context.Context, f func(*sql.Conn) error, then func()) error {
	l.order.Lock()
	defer l.order.Unlock()
	open := true
	defer func() {
		if open {
			// Also where BEGIN says that it was cancelled, for it may have begun all the
			// same. It fails where there is nothing to undo. Were something left of the
			// transaction, the next one could not begin.
			_, _ = l.write.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if _, err := l.stmts.begin.ExecContext(ctx); err != nil {
		return classed(err)
	}
	if err := f(l.write); err != nil {
		return classed(err)
	}
	if _, err := l.stmts.commit.ExecContext(context.WithoutCancel(ctx)); err != nil {
		return classed(err)
	}
	open = false
	if then != nil {
		then()
	}
	return nil
}

// exec runs one statement that writes.
func (l *Ledger) exec(ctx context.Context, query string, args ...any) error {
	return l.tx(ctx, func(tx *sql.Conn) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// Errors of the ledger.
var (
	// ErrCorrupt is returned by Open and by any call that meets damage.
	ErrCorrupt = errors.New("the ledger is damaged; keep the file, restore it from a backup, or move it away together with its -wal file to begin anew (the same rows give the same flow_no, which the platform ignores)")
	// ErrNone is returned by Open where there is no ledger and none is to be made.
	ErrNone = errors.New("there is none yet; parkbridge sync or run makes it")
	// ErrNewer is returned by Open for a ledger that a newer program wrote.
	ErrNewer = errors.New("the ledger was written by a newer parkbridge; use that one")
	// ErrLeaseLost is what a [*LostError] is.
	ErrLeaseLost = errors.New("another run has taken over this source")
	// ErrMarkMoved is returned by Land where the mark is not the one the page
	// was read from; nothing was written.
	ErrMarkMoved = errors.New("the high-water mark was moved by another hand; starting over from the stored one")
	// ErrKnown is returned by Land where a row's key, generation and revision are
	// in the ledger already; nothing was written.
	ErrKnown = errors.New("a row has landed already")
	// ErrTransient is returned where the ledger could not be written for now:
	// another process holds it, or its disk is full. Trying again is the remedy.
	ErrTransient = errors.New("the ledger cannot be written for now")
	// ErrNoRecord is returned where no record fits what was asked for.
	ErrNoRecord = errors.New("no such record")
)

// LostError is returned by Land, Settle, Due and Renew where another run holds
// the source by now; nothing was written for it.
type LostError struct{ Source string }

func (e *LostError) Error() string { return fmt.Sprintf("source %s: %v", e.Source, ErrLeaseLost) }

func (e *LostError) Unwrap() error { return ErrLeaseLost }

// HeldError is returned by Acquire where another run holds the source.
type HeldError struct {
	Source string
	Holder string // who, as far as the ledger knows
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("source %s is held by %s", e.Source, e.Holder)
}

func classed(err error) error {
	var se *sqlite.Error
	if errors.As(err, &se) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTransient) {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return fmt.Errorf("%w: another process holds it: %w", ErrTransient, err)
		case sqlite3.SQLITE_IOERR:
			return fmt.Errorf("%w: %w", ErrTransient, err)
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("%w: its disk is full; free some space, nothing is lost: %w", ErrTransient, err)
		case sqlite3.SQLITE_READONLY:
			return fmt.Errorf("the ledger cannot be written; check the rights on the file, on the -wal and -shm files beside it, and on its folder: %w", err)
		}
	}
	return err
}

// uniqueOf reports that an error is of a value that must be there once, in a
// column.
func uniqueOf(err error, column string) bool {
	se, ok := errors.AsType[*sqlite.Error](err)
	return ok && se.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE && strings.Contains(se.Error(), column)
}

const stampLayout = "2006-01-02T15:04:05.000Z"

// stamp is the ledger's form of a time: UTC, milliseconds, fixed width.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(stampLayout)
}

func unstamp(s string) time.Time {
	t, err := time.Parse(stampLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// placeholders gives "?, ?, ?".
func placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
