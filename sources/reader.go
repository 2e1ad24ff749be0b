// Package sources reads rows from databases that nobody may change.
//
// One [Reader] polls a table, or a query, by keyset pagination; an engine adds
// only its [Dialect] (SQL text and the native form of values) and a [DB] that
// runs one statement. Every read is a short read-only transaction that is
// fetched whole before anything else is done.
package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Column is a column of the polled table or query.
type Column struct {
	Name string // as the database spells it
	Type string // the database's type name, for messages and casts
	// Integer, IsText and Binary classify the type; all may be false.
	Integer, IsText, Binary bool
	// Charset is the column's own character set where the engine has one a
	// column (MySQL), else empty.
	Charset string
	// TextTimes tells that date-times in it compare as texts, whatever its type
	// (SQLite).
	TextTimes bool
	// Loose tells that it may hold values of any type, whatever is declared
	// (SQLite).
	Loose bool
	// Instant tells that date-times without a zone in their text are UTC
	// (MySQL's TIMESTAMP, as it is read here).
	Instant bool
	// Version tells that the server gives the column a new value, higher than any
	// before, at each write of its row (SQL Server's rowversion).
	Version bool
	// Collation is the column's own where a text to compare it with must be given
	// it (SQL Server), else empty.
	Collation string
}

// Field is one item of a SELECT list.
type Field struct {
	Column Column
	// Raw asks for the bytes as stored, for text whose real charset only the
	// mapping knows.
	Raw bool
	// UTF8 tells that the bytes as stored are UTF-8, whatever the column
	// declares.
	UTF8 bool
}

// Dialect is an engine's SQL text and the native form of its values. It is pure.
type Dialect interface {
	// Quote makes an identifier of one name.
	Quote(name string) string
	// Select is the expression that reads a field.
	Select(f Field) string
	// Param is the n-th placeholder (from 1), cast to the column's type.
	Param(n int, c Column) string
	// Compare is the condition "columns op values" in the form that the engine
	// runs as one index seek; op is >, >=, < or <=, and param(i) binds the value
	// of columns[i] once more and gives its placeholder.
	Compare(columns []string, op string, param func(i int) string) string
	// Native is a value's lossless text for a position; an error where the
	// value cannot be one.
	Native(c Column, v Value) (string, error)
	// Arg is the argument to bind for a native text.
	Arg(c Column, native string) (any, error)
}

// Limiter is a [Dialect] that bounds the rows of a SELECT in a way of its own;
// the others write LIMIT behind it.
type Limiter interface {
	// Limit makes a SELECT give no more rows than its n-th argument says.
	Limit(sql string, n int) string
}

// LockSkipper is a [Dialect] of an engine whose readers may have to wait for
// writers. It never waits: [Conn.Query] fails with [ErrLocked] instead.
type LockSkipper interface {
	// SkipLocked is a table as a FROM item, without the rows that are locked.
	SkipLocked(table string) string
}

// DB is one database, read with at most two connections and under the
// statement timeout.
type DB interface {
	// Columns describes the columns of a SELECT list, * for all, of a FROM
	// item without reading rows.
	Columns(ctx context.Context, list, from string) ([]Column, error)
	// Assigned tells how the values of a table's column come about; table is the
	// name's parts, schema first where it has one.
	Assigned(ctx context.Context, table []string, column string) (Assigned, error)
	// Identity names the server and the database, the same for as long as they
	// are the same ones.
	Identity(ctx context.Context) (string, error)
	// Connect gives one connection for statements that belong together. Where
	// evidence is set, [Conn.Evidence] is called on it, once and first.
	Connect(ctx context.Context, evidence bool) (Conn, error)
	Close() error
}

// Conn is one connection to one server: what is read on it after evidence was
// taken on it comes from the server that the evidence speaks of. An error may
// leave it unusable; it never connects anew by itself.
type Conn interface {
	// Query fetches all rows of a SELECT of the given fields and ends its
	// transaction before it returns.
	Query(ctx context.Context, sql string, fields []Field, args []any) ([][]Value, error)
	// Uncommitted is Query, but sees rows that are not committed yet, without
	// waiting for anybody; ok is false where the engine has no such read.
	Uncommitted(ctx context.Context, sql string, fields []Field, args []any) (rows [][]Value, ok bool, err error)
	// Evidence lists the transactions that are open.
	Evidence(ctx context.Context) (Evidence, error)
	// Now is the server's own clock.
	Now(ctx context.Context) (time.Time, error)
	Close() error
}

// Driver opens databases of one engine.
type Driver struct {
	// Name is the name in `driver:`.
	Name string
	// Open connects and proves that the database answers.
	Open func(ctx context.Context, cfg Config) (DB, Dialect, error)
	// CheckDSN says what is wrong with a DSN's form, without connecting; nil
	// where any text will do. Its answer must not quote the DSN.
	CheckDSN func(dsn string) error
}

// Registry holds the drivers a program was built with.
type Registry map[string]Driver

// NewRegistry makes a registry of drivers.
func NewRegistry(drivers ...Driver) Registry {
	r := Registry{}
	for _, d := range drivers {
		r[d.Name] = d
	}
	return r
}

// Names lists the registered drivers in order.
func (r Registry) Names() []string {
	var names []string
	for n := range r {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Need is a column that the mapping reads.
type Need struct {
	Column string
	Raw    bool // see [Field]
	UTF8   bool // see [Field]
}

// Row is one row as read.
type Row struct {
	Key      string   // see [EncodeKey]
	Position Position // where the row stands in the reading order
	Values   []Value  // in the order of Page.Columns
}

// Page is a run of rows in reading order.
type Page struct {
	Columns []string // names of the mapped columns, as the config spells them
	Rows    []Row
	// Full reports that the page holds as many rows as were asked for, so
	// that more may follow.
	Full bool
	// Held reports that rows of the range are left out, because another session
	// holds them locked and the engine would have had to wait for it.
	Held bool
}

// Reader polls one table or query.
type Reader struct {
	db      DB
	dialect Dialect
	cfg     Config
	shared  bool // the connections are another's to end

	from    string   // the FROM item with its condition's parenthesised text
	past    string   // the same without locked rows; "" where there is none
	where   string   // "" or "(condition)"
	order   []Column // the reading order
	key     []int    // index of each key column in order
	fields  []Field  // order columns, then mapped ones
	mapped  []int    // index in fields of each mapped column
	columns []string // names of the mapped columns
	list    string   // the SELECT list
	class   Class
	clock   *cursorClock // nil: the cursor is no time
}

// Open connects to the source and resolves the columns that cfg and needs name.
// Columns are matched as written, else without regard to case where that is
// unambiguous. A mistake in the config is a [*ConfigError].
func Open(ctx context.Context, drivers Registry, cfg Config, needs []Need) (*Reader, error) {
	db, dialect, err := connect(ctx, drivers, cfg)
	if err != nil {
		return nil, err
	}
	r := &Reader{db: db, dialect: dialect, cfg: cfg}
	if err := r.prepare(ctx, needs); err != nil {
		_ = db.Close() // the first error tells more
		return nil, err
	}
	return r, nil
}

// connect opens the database of a config.
func connect(ctx context.Context, drivers Registry, cfg Config) (DB, Dialect, error) {
	driver, ok := drivers[cfg.Driver]
	if !ok {
		return nil, nil, &ConfigError{
			Source: cfg.Name, Key: "driver",
			Problem: fmt.Sprintf("%q is not known; it is one of %s", cfg.Driver, strings.Join(drivers.Names(), ", ")),
		}
	}
	db, dialect, err := driver.Open(ctx, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to the database: %w", err)
	}
	return db, dialect, nil
}

func (r *Reader) prepare(ctx context.Context, needs []Need) error {
	if r.cfg.Table != "" {
		parts := splitName(r.cfg.Table)
		for i, p := range parts {
			parts[i] = r.dialect.Quote(p)
		}
		r.from = strings.Join(parts, ".")
		if d, ok := r.dialect.(LockSkipper); ok {
			r.past = d.SkipLocked(r.from)
		}
	} else {
		r.from = "(" + strings.TrimSpace(r.cfg.Query) + "\n) AS " + r.dialect.Quote("source_query")
	}
	if r.cfg.Where != "" {
		r.where = "(" + r.cfg.Where + "\n)" // the break ends a trailing comment
	}
	all, err := r.describe(ctx, needs)
	if err != nil {
		if errors.Is(err, ErrNoTable) && r.cfg.Table != "" {
			return &ConfigError{Source: r.cfg.Name, Key: "table", Problem: fmt.Sprintf("%s is not there, or this account does not see it: %v", r.cfg.Table, err)}
		}
		return fmt.Errorf("describing %s: %w", r.place(), err)
	}
	find := func(key, name string, rule bool) (Column, error) {
		if c, ok := findColumn(all, name); ok {
			return c, nil
		}
		e := &ConfigError{
			Source: r.cfg.Name, Key: key,
			Problem: fmt.Sprintf("%q is not a column of %s, which has %s", name, r.place(), columnNames(all)),
		}
		if rule {
			e.Column = name
		}
		return Column{}, e
	}
	for i, name := range r.cfg.Order() {
		key := "key"
		if i == 0 && !slices.Contains(r.cfg.Key, name) {
			key = "cursor"
		}
		c, err := find(key, name, false)
		if err != nil {
			return err
		}
		if c.Version && slices.Contains(r.cfg.Key, name) {
			return &ConfigError{
				Source: r.cfg.Name, Key: "key",
				Problem: fmt.Sprintf("%s is a rowversion, which is another one after each edit of its row; it can be the cursor, but name a column as key that stays as it is", c.Name),
			}
		}
		r.order = append(r.order, c)
		r.fields = append(r.fields, Field{Column: c})
	}
	if len(r.cfg.Key) == 1 && r.cfg.Cursor == r.cfg.Key[0] && !r.order[0].Integer {
		return &ConfigError{
			Source: r.cfg.Name, Key: "cursor",
			Problem: fmt.Sprintf("is the key %s by default, but that is of type %s and not an integer, so new rows need not sort last; name the column that new rows are read by, such as a time",
				r.order[0].Name, r.order[0].Type),
		}
	}
	if err := r.checkStart(); err != nil {
		return err
	}
	for _, k := range r.cfg.Key {
		r.key = append(r.key, slices.Index(r.cfg.Order(), k))
	}
	for _, n := range needs {
		c, err := find("mapping", n.Column, true)
		if err != nil {
			return err
		}
		f := Field{Column: c, Raw: n.Raw, UTF8: n.UTF8}
		at := slices.Index(r.fields, f)
		if at < 0 {
			at = len(r.fields)
			r.fields = append(r.fields, f)
		}
		r.mapped = append(r.mapped, at)
		r.columns = append(r.columns, n.Column)
	}
	var list []string
	for _, f := range r.fields {
		list = append(list, r.dialect.Select(f))
	}
	r.list = strings.Join(list, ", ")
	return r.classify(ctx)
}

// describe lists the columns there are or, for an account that may read only
// some of them, those that the config names.
func (r *Reader) describe(ctx context.Context, needs []Need) ([]Column, error) {
	all, err := r.db.Columns(ctx, "*", r.from)
	if err == nil {
		return all, nil
	}
	names := r.cfg.Order()
	for _, n := range needs {
		if !slices.Contains(names, n.Column) {
			names = append(names, n.Column)
		}
	}
	for i, n := range names {
		names[i] = r.dialect.Quote(n)
	}
	if some, serr := r.db.Columns(ctx, strings.Join(names, ", "), r.from); serr == nil {
		return some, nil
	}
	return nil, err
}

// checkStart refuses a start value that an integer cursor cannot have. SQLite
// would compare it all the same, and find nothing for ever.
func (r *Reader) checkStart() error {
	c, start := r.order[0], r.cfg.Start
	if start == "" || start == StartEarliest || start == StartLatest || !c.Integer {
		return nil
	}
	if isInteger(start) {
		return nil
	}
	return &ConfigError{Source: r.cfg.Name, Key: "start", Problem: fmt.Sprintf("%q is no value of the cursor %s, which is an integer column", start, c.Name)}
}

func isInteger(s string) bool {
	_, signed := strconv.ParseInt(s, 10, 64)
	_, unsigned := strconv.ParseUint(s, 10, 64)
	return signed == nil || unsigned == nil
}

func (r *Reader) place() string {
	if r.cfg.Table != "" {
		if r.cfg.Where != "" {
			return "table " + r.cfg.Table + " with its where"
		}
		return "table " + r.cfg.Table
	}
	return "the query"
}

func findColumn(all []Column, name string) (Column, bool) {
	var folded []Column
	for _, c := range all {
		if c.Name == name {
			return c, true
		}
		if strings.EqualFold(c.Name, name) {
			folded = append(folded, c)
		}
	}
	if len(folded) == 1 {
		return folded[0], true
	}
	return Column{}, false
}

func columnNames(all []Column) string {
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// splitName splits schema.table at dots outside double quotes, backticks and
// brackets, and takes those away.
func splitName(name string) []string {
	var parts []string
	var b strings.Builder
	var quote rune
	for _, c := range name {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(c)
		case c == '"' || c == '`':
			quote = c
		case c == '[':
			quote = ']'
		case c == '.':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteRune(c)
		}
	}
	return append(parts, b.String())
}

// Close ends the connections.
func (r *Reader) Close() error {
	if r.shared {
		return nil
	}
	return r.db.Close()
}
