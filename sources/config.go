package sources

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Config says which table of which database a source polls and how.
// The zero value of every optional field is replaced by [Config.Defaults].
type Config struct {
	// Name identifies the source in the ledger, in commands and in logs.
	Name string `yaml:"name"`
	// Driver is the engine of the database, by the name its dialect is
	// registered under.
	Driver string `yaml:"driver"`
	// DSN is the connection string in the form the driver documents; for
	// sqlite a path, relative to the config file, or a file: URI.
	DSN Secret `yaml:"dsn,secret"`
	// Table is the table to read, optionally with its schema: dbo.pass. A period
	// in it, {yyyyMM}, {yyyy}, or {MM} or {M} with Wrap, means one table for each.
	// Exactly one of Table and Query is set.
	Table string `yaml:"table"`
	// Wrap is "year" for tables that are named by their month alone, and emptied
	// and filled again each year; empty means they are not.
	Wrap string `yaml:"wrap"`
	// Query is a SELECT that stands in the table's place.
	Query string `yaml:"query"`
	// Where is a condition in the database's SQL that narrows Table.
	Where string `yaml:"where"`
	// Key is the column or columns that identify a row for good.
	Key []string `yaml:"key"`
	// Cursor is the column rows are read in order of; empty means the key,
	// if that is one integer column.
	Cursor string `yaml:"cursor"`
	// Start says where the first run begins: "earliest", "latest", or a
	// cursor value, from which on (inclusive) rows are read. It has no default.
	Start string `yaml:"start"`
	// PageSize is the number of rows a page holds, 1 to 10000; 0 means 1000.
	PageSize int `yaml:"page_size"`
	// CursorLayout is how a cursor that is a date-time is written, as a layout of
	// package time, or [CursorUnix] or [CursorUnixMS]; "" finds the usual forms.
	CursorLayout string
	// Location is the zone of date-times without one; nil means UTC.
	Location *time.Location
	// StatementTimeout bounds every statement sent to the source; 0 means 30s.
	StatementTimeout time.Duration `yaml:"statement_timeout"`
}

// Start values with a meaning of their own; anything else is a cursor value.
const (
	StartEarliest = "earliest"
	StartLatest   = "latest"
)

// Defaults fills what was left out.
func (c *Config) Defaults() {
	if c.PageSize == 0 {
		c.PageSize = 1000
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = 30 * time.Second
	}
	if c.Cursor == "" && len(c.Key) == 1 {
		c.Cursor = c.Key[0]
	}
}

// Validate reports every problem that can be seen without a connection, each
// with the config key it concerns.
func (c *Config) Validate(report func(key, problem string)) {
	if c.Name == "" {
		report("name", "is missing; give the source a name, such as north-gate")
	}
	if c.Driver == "" {
		report("driver", "is missing; it is one of postgres, mysql, sqlite, sqlserver")
	}
	if c.DSN == "" {
		report("dsn", "is missing; it says how to connect to the database")
	}
	switch {
	case c.Table == "" && c.Query == "":
		report("table", "is missing; name a table, or give a SELECT as query")
	case c.Table != "" && c.Query != "":
		report("query", "cannot stand beside table; keep one of them")
	case c.Query != "" && c.Where != "":
		report("where", "narrows a table; with query, put the condition into the SELECT")
	}
	if _, err := ParseSeries(c.Table, c.Wrap); err != nil {
		key, problem, _ := asSeriesError(err)
		report(key, problem)
	}
	if strings.HasSuffix(strings.TrimSpace(c.Query), ";") {
		report("query", "ends in a semicolon; take it away, the SELECT is used inside another")
	}
	if len(c.Key) == 0 {
		report("key", "is missing; name the column or columns that identify a row for good")
	}
	seen := map[string]bool{}
	for _, k := range c.Key {
		if k == "" || seen[k] {
			report("key", fmt.Sprintf("names the column %q twice or not at all", k))
		}
		seen[k] = true
	}
	if len(c.Key) > 1 && c.Cursor == "" {
		report("cursor", "is missing; with a key of several columns, name the column rows are read in order of")
	}
	if c.Start == "" {
		report("start", "is missing and has no default, because what the platform once took cannot be taken back; say earliest (all history), latest (only what comes from now on) or a cursor value")
	}
	if c.Start != "" && c.Start != StartEarliest && c.Start != StartLatest && !strings.ContainsAny(c.Start, "0123456789") {
		report("start", fmt.Sprintf("%q is neither earliest nor latest nor a value of the cursor", c.Start))
	}
	if c.PageSize < 0 || c.PageSize > 10000 {
		report("page_size", "must be from 1 to 10000")
	}
	if c.StatementTimeout < 0 {
		report("statement_timeout", "must not be negative")
	}
}

// IsSeries reports that Table names a series of tables, one for each period.
func (c *Config) IsSeries() bool { return strings.ContainsAny(c.Table, "{}") }

// Shape is what a stored position means: the table or query it is a place in,
// the key and the cursor. A position of another shape must not be read from.
type Shape struct {
	Table  string   `json:"table,omitempty"`
	Wrap   string   `json:"wrap,omitempty"`
	Query  string   `json:"query,omitempty"`
	Key    []string `json:"key"`
	Cursor string   `json:"cursor"`
}

// Shape gives the config's.
func (c *Config) Shape() Shape {
	return Shape{Table: c.Table, Wrap: c.Wrap, Query: strings.TrimSpace(c.Query), Key: c.Key, Cursor: c.Cursor}
}

// Changed names the first config key in which two shapes differ, with both
// values; "" where they do not.
func (s Shape) Changed(now Shape) (key, was, is string) {
	for _, d := range [][3]string{
		{"table", s.Table, now.Table},
		{"wrap", s.Wrap, now.Wrap},
		{"query", s.Query, now.Query},
		{"key", strings.Join(s.Key, ", "), strings.Join(now.Key, ", ")},
		{"cursor", s.Cursor, now.Cursor},
	} {
		if d[1] != d[2] {
			return d[0], d[1], d[2]
		}
	}
	return "", "", ""
}

// Order is the reading order: the cursor, then the key's other columns.
func (c *Config) Order() []string {
	order := []string{c.Cursor}
	for _, k := range c.Key {
		if k != c.Cursor {
			order = append(order, k)
		}
	}
	return order
}

// ConfigError is a mistake in the config that only the database could show,
// such as a column the table does not have. Returned by [Open].
type ConfigError struct {
	Source string // the source's name
	Key    string // the config key, such as "cursor"
	// Column is set where the mistake is a column that a mapping rule names.
	Column  string
	Problem string
}

func (e *ConfigError) Error() string {
	return e.Key + ": " + e.Problem
}

// ErrNoTable is returned by [DB.Columns] where the database knows no such table.
var ErrNoTable = errors.New("no such table")

// ErrNullKey is returned by a page read that met a row without a key.
var ErrNullKey = errors.New("of the reading order is NULL in a row; a key must not be")

// ErrBusy is returned by a page read that could not get at the database
// because another connection holds it; nothing was read, and trying again is
// the remedy.
var ErrBusy = errors.New("the database is busy")

// ErrLocked is the [ErrBusy] of an engine that would have had to wait for a
// session that holds rows locked.
var ErrLocked = fmt.Errorf("%w: another session holds rows of it locked", ErrBusy)

// ShortDuration writes a duration as a config does: 24h, not 24h0m0s.
func ShortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
