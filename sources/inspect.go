package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Inspector is what a [DB] may be besides: one that can tell a person who sets
// a source up what to mend. An engine without it is read like any other.
type Inspector interface {
	// About describes the server and what the account may do with a table beyond
	// reading it; table is empty for a query. What was found before an error is
	// given with it.
	About(ctx context.Context, table []string) (About, error)
	// Plan is the engine's own plan of a statement, which is not run. An
	// [ErrNoInspector] says why this account gets none.
	Plan(ctx context.Context, query string, args []any) (Plan, error)
}

// About is what an engine says of its server and of the account.
type About struct {
	// Version names the product and its version, such as "PostgreSQL 15.18".
	Version string
	// Account is whose rights count, as the server spells it; "" where the engine
	// has no accounts.
	Account string
	// Zone is the zone of the clock by which the server itself writes date-times
	// without a zone, and Offset how far that is ahead of UTC now; "" where it has
	// no clock of its own.
	Zone   string
	Offset time.Duration
	// Writes lists what the account may do beyond reading.
	Writes []string
	// Readers are the statements that make an account that may only read, and
	// Revokes those that take the rights of Writes from this one. A DBA may run
	// them as they are, but for the password.
	Readers, Revokes []string
	// Risks are other things that a person should mend.
	Risks []Risk
	// Notes are worth knowing, and no fault.
	Notes []string
	// Index begins the statement that makes an index without keeping writers out.
	Index string
}

// Risk is something to mend.
type Risk struct{ Found, Do string }

// Plan is how an engine would run a statement.
type Plan struct {
	// Seek tells that it goes straight to the first row by an index and reads on
	// from there. Sorts tells that it has to sort all that it finds there, and not
	// ties alone, because the index does not hold the whole reading order.
	Seek, Sorts bool
	// Steps is the plan in the engine's own words, in one line.
	Steps string
	// Rows is the engine's estimate of the rows it would touch; -1 where it gives
	// none.
	Rows int64
}

// ErrNoInspector is returned where an engine cannot tell.
var ErrNoInspector = errors.New("this engine cannot tell")

// Clock is a server's clock beside this machine's.
type Clock struct {
	// Ahead is how far the server's is ahead, at the least: what the question took
	// on its way is left out.
	Ahead time.Duration
	// Own is false where the source has none but this machine's.
	Own bool
}

// Ask connects and has the engine describe itself. Where that is all that fails,
// the error is with what was found; [ErrNoInspector] for an engine that tells
// nothing but the time.
func Ask(ctx context.Context, drivers Registry, cfg Config) (about About, clock Clock, err error) {
	driver, ok := drivers[cfg.Driver]
	if !ok {
		return about, clock, &ConfigError{Source: cfg.Name, Key: "driver", Problem: fmt.Sprintf("%q is not known", cfg.Driver)}
	}
	db, _, err := driver.Open(ctx, cfg)
	if err != nil {
		return about, clock, &ConnectError{err}
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Connect(ctx, false)
	if err != nil {
		return about, clock, &ConnectError{err}
	}
	before := time.Now()
	now, err := conn.Now(ctx)
	after := time.Now()
	if err = errors.Join(err, conn.Close()); err != nil {
		return about, clock, &ConnectError{err}
	}
	clock.Own = true
	switch {
	case now.After(after):
		clock.Ahead = now.Sub(after)
	case now.Before(before):
		clock.Ahead = now.Sub(before)
	}
	inspector, ok := db.(Inspector)
	if !ok {
		return about, clock, ErrNoInspector
	}
	var table []string
	if cfg.Table != "" {
		table = splitName(cfg.Table)
	}
	about, err = inspector.About(ctx, table)
	clock.Own = about.Zone != ""
	return about, clock, err
}

// ConnectError says that there is no connection to a database. Returned by [Ask].
type ConnectError struct{ Err error }

func (e *ConnectError) Error() string { return "connecting to the database: " + e.Err.Error() }

func (e *ConnectError) Unwrap() error { return e.Err }

// Plan is the engine's own plan of the statement that [Session.Page] runs.
// [ErrNoInspector] where it gives none.
func (r *Reader) Plan(ctx context.Context, in Range, limit int) (Plan, error) {
	inspector, ok := r.db.(Inspector)
	if !ok {
		return Plan{}, ErrNoInspector
	}
	sql, args, err := r.PageSQL(in, limit)
	if err != nil {
		return Plan{}, err
	}
	plan, err := inspector.Plan(ctx, sql, args)
	if err != nil && !errors.Is(err, ErrNoInspector) {
		return plan, fmt.Errorf("asking how %s would be read: %w", r.place(), err)
	}
	return plan, err
}

// Table is what the catalogue says of the polled table; ok is false for a query,
// and where the engine has no catalogue or does not list the table in it.
func (r *Reader) Table(ctx context.Context) (t Table, ok bool, err error) {
	catalog, has := r.db.(Catalog)
	if !has || r.cfg.Table == "" {
		return t, false, nil
	}
	tables, err := catalog.Tables(ctx)
	if err != nil {
		return t, false, fmt.Errorf("reading the catalogue: %w", err)
	}
	find := func(name []string) bool {
		i := slices.IndexFunc(tables, func(t Table) bool { return slices.EqualFunc(t.Name, name, strings.EqualFold) })
		if i >= 0 {
			t = tables[i]
		}
		return i >= 0
	}
	name := splitName(r.cfg.Table)
	if ok = find(name); !ok && len(name) == 2 && r.isDefault(ctx, name[0]) {
		ok = find(name[1:])
	}
	return t, ok, nil
}

// isDefault reports that a catalogue leaves a schema's name out, because tables
// are looked for there: that of the engine or, in MySQL, the database of the DSN.
func (r *Reader) isDefault(ctx context.Context, schema string) bool {
	if slices.Contains([]string{"public", "main", "dbo"}, strings.ToLower(schema)) {
		return true
	}
	id, err := r.db.Identity(ctx)
	return err == nil && strings.HasSuffix(id, " "+schema)
}

// Order lists the columns of the reading order: the cursor, then the key's other
// columns.
func (r *Reader) Order() []Column { return r.order }

// KeyColumns lists the columns of the key.
func (r *Reader) KeyColumns() []Column { return r.keyColumns() }

// Mapped lists the columns that the mapping reads, in the order of [Page.Columns].
func (r *Reader) Mapped() []Column {
	columns := make([]Column, len(r.mapped))
	for i, at := range r.mapped {
		columns[i] = r.fields[at].Column
	}
	return columns
}

// From is the table as the engine quotes it; "" for a query.
func (r *Reader) From() string {
	if r.cfg.Table == "" {
		return ""
	}
	return r.from
}

// IndexSQL is the statement that makes an index over some columns, or a unique
// one. verb is [About.Index], or "" for the plain one.
func (r *Reader) IndexSQL(verb string, unique bool, columns []Column) string {
	table := splitName(r.cfg.Table)
	name, quoted := table[len(table)-1], make([]string, len(columns))
	for i, c := range columns {
		name += "_" + c.Name
		quoted[i] = r.dialect.Quote(c.Name)
	}
	if r := []rune(name); len(r) > 60 { // MySQL takes 64 characters, PostgreSQL 63 bytes
		name = string(r[:60])
	}
	if verb == "" {
		verb = "CREATE INDEX"
	}
	if unique {
		verb = strings.Replace(verb, "CREATE INDEX", "CREATE UNIQUE INDEX", 1)
	}
	return fmt.Sprintf("%s %s ON %s (%s);", verb, r.dialect.Quote(name), r.from, strings.Join(quoted, ", "))
}

// Places reads the columns of the reading order alone, of up to limit rows of a
// range. Unlike [Session.Page] it takes rows whose key is NULL.
func (s *Session) Places(ctx context.Context, in Range, limit int) ([][]Value, error) {
	r := s.r
	list := make([]string, len(r.order))
	for i := range r.order {
		list[i] = r.dialect.Select(r.fields[i])
	}
	rows, _, err := s.fetch(ctx, in.Whole, r.fields[:len(r.order)], func(from string) (string, []any, error) {
		return r.rangeSQL(strings.Join(list, ", "), from, in, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", r.place(), err)
	}
	return rows, nil
}
