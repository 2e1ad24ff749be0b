package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Catalog is what a [DB] may be besides: one that can list its tables. Only
// [Explore] asks for it; an engine without it is read like any other, but no
// config can be drafted from it.
type Catalog interface {
	// Tables lists the tables and views that this account may read some columns
	// of, with what the catalogue says about them, in order of name. It reads and
	// counts no rows.
	Tables(ctx context.Context) ([]Table, error)
}

// Table is what a database's catalogue says of a table or view.
type Table struct {
	// Name is the name's parts, schema first where a config must name it.
	Name    []string
	View    bool   // or another thing whose rows may be dear to read, such as a foreign table
	Comment string // "" where there is none
	// Rows is an estimate of the number of rows; -1 where there is none.
	Rows int64
	// Columns are those the account may read, in their order.
	Columns []TableColumn
	Indexes []Index
}

// TableColumn is what the catalogue says of a column.
type TableColumn struct {
	Name     string
	Type     string // as the database writes it, with its length where it has one
	Comment  string // "" where there is none
	Nullable bool
}

// Index is an index over plain columns, all rows of the table in it.
type Index struct {
	Columns []string // in its order
	Unique  bool
	Primary bool
}

// String is the name as `table:` in a config takes it.
func (t *Table) String() string {
	parts := make([]string, len(t.Name))
	for i, p := range t.Name {
		parts[i] = p
		if strings.ContainsAny(p, ".\"`[") {
			parts[i] = `"` + p + `"`
		}
	}
	return strings.Join(parts, ".")
}

// Column finds a column by its name.
func (t *Table) Column(name string) (TableColumn, bool) {
	i := slices.IndexFunc(t.Columns, func(c TableColumn) bool { return c.Name == name })
	if i < 0 {
		return TableColumn{}, false
	}
	return t.Columns[i], true
}

// ErrNoCatalog is returned by [Explore] where the engine cannot list its tables.
var ErrNoCatalog = errors.New("this engine's tables cannot be listed yet")

// Explorer looks at a database that no source reads yet. Like a [Reader] it
// only reads, in short transactions and with at most two connections.
type Explorer struct {
	db      DB
	dialect Dialect
	catalog Catalog
}

// Explore connects to the database of cfg, of which only Driver, DSN and
// StatementTimeout count. A mistake in them is a [*ConfigError].
func Explore(ctx context.Context, drivers Registry, cfg Config) (*Explorer, error) {
	driver, ok := drivers[cfg.Driver]
	if !ok {
		return nil, &ConfigError{Key: "driver", Problem: fmt.Sprintf("%q is not known; it is one of %s", cfg.Driver, strings.Join(drivers.Names(), ", "))}
	}
	db, dialect, err := driver.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	catalog, ok := db.(Catalog)
	if !ok {
		return nil, errors.Join(ErrNoCatalog, db.Close())
	}
	return &Explorer{db, dialect, catalog}, nil
}

// Tables is [Catalog.Tables].
func (e *Explorer) Tables(ctx context.Context) ([]Table, error) {
	tables, err := e.catalog.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return tables, nil
}

// Count counts a table's rows, most at the most.
func (e *Explorer) Count(ctx context.Context, t *Table, most int) (int, error) {
	one := Column{Name: "one", Integer: true}
	rows, err := e.query(ctx, t, []Field{{Column: one}}, func(from string) (string, []any) {
		few, args := limited(e.dialect, "SELECT 1 AS one FROM "+from, most, nil)
		return "SELECT COUNT(*) FROM (" + few + ") AS few", args
	})
	if err != nil {
		return 0, fmt.Errorf("counting rows of %s: %w", t, err)
	}
	var n int
	_, err = fmt.Sscan(rows[0][0].Text, &n)
	return n, err
}

// Newest reads up to limit rows of some columns of a table: those that are the
// highest in the order of by, columns that an index begins with, or any where
// there are none. Text of which the database cannot tell the charset comes as
// bytes.
func (e *Explorer) Newest(ctx context.Context, t *Table, columns, by []string, limit int) ([][]Value, error) {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = e.dialect.Quote(c)
	}
	described, err := e.db.Columns(ctx, strings.Join(quoted, ", "), e.from(t))
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w", t, err)
	}
	fields, list := make([]Field, len(described)), make([]string, len(described))
	for i, c := range described {
		fields[i] = Field{Column: c, Raw: c.IsText && c.Charset != ""}
		list[i] = e.dialect.Select(fields[i])
	}
	where := ""
	if len(by) > 0 {
		order := make([]string, len(by))
		for i, c := range by {
			order[i] = e.dialect.Quote(c) + " DESC"
		}
		// PostgreSQL sorts NULL above all.
		where = " WHERE " + e.dialect.Quote(by[0]) + " IS NOT NULL ORDER BY " + strings.Join(order, ", ")
	}
	rows, err := e.query(ctx, t, fields, func(from string) (string, []any) {
		return limited(e.dialect, "SELECT "+strings.Join(list, ", ")+" FROM "+from+where, limit, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("reading a few rows of %s: %w", t, err)
	}
	return rows, nil
}

// Assigned is [DB.Assigned].
func (e *Explorer) Assigned(ctx context.Context, t *Table, column string) (Assigned, error) {
	a, err := e.db.Assigned(ctx, t.Name, column)
	if err != nil {
		return a, fmt.Errorf("asking how %s of %s comes by its values: %w", column, t, err)
	}
	return a, nil
}

// Close ends the connections.
func (e *Explorer) Close() error { return e.db.Close() }

func (e *Explorer) from(t *Table) string {
	parts := make([]string, len(t.Name))
	for i, p := range t.Name {
		parts[i] = e.dialect.Quote(p)
	}
	return strings.Join(parts, ".")
}

// query runs what build makes of a FROM item: of the table or, where rows of it
// are locked and would have to be waited for, of the table without those.
func (e *Explorer) query(ctx context.Context, t *Table, fields []Field, build func(from string) (string, []any)) ([][]Value, error) {
	conn, err := e.db.Connect(ctx, false)
	if err != nil {
		return nil, err
	}
	sql, args := build(e.from(t))
	rows, err := conn.Query(ctx, sql, fields, args)
	if d, ok := e.dialect.(LockSkipper); ok && errors.Is(err, ErrLocked) {
		sql, args = build(d.SkipLocked(e.from(t)))
		rows, err = conn.Query(ctx, sql, fields, args)
	}
	return rows, errors.Join(err, conn.Close())
}
