package sources

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Lister is what a [DB] must be besides for a series of tables to be read.
type Lister interface {
	// TableNames lists the tables and views of a schema whose names begin with a
	// text, as far as this account sees them; "" is the schema that a bare name is
	// looked for in.
	TableNames(ctx context.Context, schema, prefix string) ([]string, error)
}

// Sharer is a [DB] that keeps something of the table it reads. Share gives one
// over the same connections for another table; it is not closed by itself.
type Sharer interface {
	Share() DB
}

// Member is a table of a series that is there.
type Member struct {
	Table  string // its name, as `table:` takes it
	Period Period // that it is for now
}

// Listing is which tables of a series there are.
type Listing struct {
	// Now is the server's clock just before the look.
	Now time.Time
	// Names are the tables' own, without that of their schema.
	Names []string
}

// Tables reads the tables of a series over the connections of one [DB].
type Tables struct {
	// Series is the name they have in common.
	Series *Series

	db      DB
	dialect Dialect
	list    Lister
	cfg     Config
	needs   []Need
}

// OpenTables connects to the source of a series. A mistake in the config is a
// [*ConfigError].
func OpenTables(ctx context.Context, drivers Registry, cfg Config, needs []Need) (*Tables, error) {
	series, err := ParseSeries(cfg.Table, cfg.Wrap)
	if err == nil && series == nil {
		err = errors.New("is no series of tables")
	}
	if err != nil {
		return nil, &ConfigError{Source: cfg.Name, Key: "table", Problem: err.Error()}
	}
	db, dialect, err := connect(ctx, drivers, cfg)
	if err != nil {
		return nil, err
	}
	list, ok := db.(Lister)
	if !ok {
		return nil, errors.Join(ErrNoCatalog, db.Close())
	}
	return &Tables{Series: series, db: db, dialect: dialect, list: list, cfg: cfg, needs: needs}, nil
}

// List looks which tables of the series there are.
func (t *Tables) List(ctx context.Context) (l Listing, err error) {
	if l.Now, err = t.now(ctx); err != nil {
		return l, fmt.Errorf("asking the database for its time: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.StatementTimeout)
	defer cancel()
	names, err := t.list.TableNames(ctx, strings.Join(t.Series.schema, ""), t.Series.parts[0])
	if err != nil {
		return l, fmt.Errorf("listing the tables named %s: %w", t.cfg.Table, err)
	}
	for _, name := range names {
		if _, ok := t.Series.match(name); ok {
			l.Names = append(l.Names, name)
		}
	}
	if l.Names == nil {
		return l, &ConfigError{Source: t.cfg.Name, Key: "table", Problem: fmt.Sprintf(
			"no table fits %s, of those that this account sees; correct the name, or let a DBA grant the account SELECT on all tables of the database, so that it sees each new one", t.cfg.Table)}
	}
	return l, nil
}

func (t *Tables) now(ctx context.Context) (now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.StatementTimeout)
	defer cancel()
	c, err := t.db.Connect(ctx, false)
	if err != nil {
		return now, err
	}
	now, err = c.Now(ctx)
	return now, errors.Join(err, c.Close())
}

// Identity names the server and the database.
func (t *Tables) Identity(ctx context.Context) (string, error) { return t.db.Identity(ctx) }

// Open readies the reading of one table. A mistake in the config is a
// [*ConfigError]. Closing the reader does not end the connections.
func (t *Tables) Open(ctx context.Context, table string) (*Reader, error) {
	r := &Reader{db: t.db, dialect: t.dialect, cfg: t.cfg, shared: true}
	if s, ok := t.db.(Sharer); ok {
		r.db = s.Share()
	}
	// Where the series begins is not for one table to say.
	r.cfg.Table, r.cfg.Wrap, r.cfg.Start = table, "", StartEarliest
	if err := r.prepare(ctx, t.needs); err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends the connections.
func (t *Tables) Close() error { return t.db.Close() }
