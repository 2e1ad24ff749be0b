package check

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/config"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
	"parkbridge/sources/sqlite"
)

// failing is a database of which one thing or another fails.
type failing struct {
	skewed
	about, columns, tables, query, close error
}

func (f failing) About(ctx context.Context, table []string) (sources.About, error) {
	a, _ := f.skewed.About(ctx, table)
	return a, f.about
}

func (f failing) Columns(ctx context.Context, list, from string) ([]sources.Column, error) {
	if f.columns != nil {
		return nil, f.columns
	}
	return f.DB.Columns(ctx, list, from)
}

func (f failing) Tables(ctx context.Context) ([]sources.Table, error) {
	if f.tables != nil {
		return nil, f.tables
	}
	return f.skewed.Tables(ctx)
}

func (f failing) Connect(ctx context.Context, evidence bool) (sources.Conn, error) {
	c, err := f.skewed.Connect(ctx, evidence)
	return failingConn{c, f.query}, err
}

func (f failing) Close() error { return errors.Join(f.DB.Close(), f.close) }

type failingConn struct {
	sources.Conn
	query error
}

func (c failingConn) Query(ctx context.Context, sql string, fields []sources.Field, args []any) ([][]sources.Value, error) {
	if c.query != nil {
		return nil, c.query
	}
	return c.Conn.Query(ctx, sql, fields, args)
}

// What is said where the database itself is in trouble, and where a table is set
// up in a way that no scene of real servers has.
func TestTrouble(t *testing.T) {
	t.Parallel()
	about := sources.About{Version: "Odd 1", Account: "lot", Zone: "UTC"}
	gone := errors.New("the server has gone away")
	byName := "\n    table: pass\n    key: plate_no\n    cursor: op_time\n    start: earliest"
	joined := "\n    query: SELECT a.id, a.plate_no, a.entry_id, a.op_time, a.op_name FROM pass AS a JOIN pass AS b ON b.id <> a.id\n    key: id\n    cursor: op_time\n    start: earliest"
	var all strings.Builder
	for _, c := range []struct {
		name   string
		rows   int
		source string
		with   failing
	}{
		{"the server does not say who it is", 5, byTime, failing{about: gone}},
		{"the table cannot be described", 5, byTime, failing{columns: gone}},
		{"the catalogue cannot be read", 5, byTime, failing{tables: gone}},
		{"rows cannot be read", 5, byTime, failing{query: fmt.Errorf("%w: canceling statement due to statement timeout", context.DeadlineExceeded)}},
		{"the connection cannot be closed", 5, byTime, failing{close: gone}},
		{"an index is not used", 150, byTime, failing{}},
		{"not the table's own key", 5, byName, failing{}},
		{"a join that finds two rows for one", 3, joined, failing{}},
	} {
		s := newStand(t, "sqlite")
		s.makeTable(t, "pass")
		s.Exec(t, "CREATE INDEX pass_time ON pass (op_time)")
		s.insert(t, "pass", c.rows, func(int) map[string]string { return map[string]string{"plate_no": "'粤B12345'"} })
		odd := sources.Driver{Name: "odd", Open: func(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
			db, dialect, err := sqlite.Driver().Open(ctx, cfg)
			with := c.with
			with.skewed = skewed{db, 0, about}
			return with, dialect, err
		}}
		path := filepath.Join(s.dir, "config.yaml")
		text := "ledger: { dsn: ledger.db }\nsink: { app_secret: x, url: " + s.gate.URL + ", park_uuid: lot-1 }\nsources:\n  - name: north\n    driver: odd\n    dsn: '" + s.DSN + "'\n    timezone: Asia/Shanghai" + c.source + strings.Replace(fields, "string(id)", "entry_id", 1)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		cfg, err := config.Load(path, sources.NewRegistry(odd))
		require.NoError(t, err)
		var lines strings.Builder
		checker := &Checker{Config: cfg, Drivers: sources.NewRegistry(odd), Rows: 100, Now: func() time.Time { return now }, Tell: func(r Result) {
			if r.Source != "" && r.Level != OK {
				write(&lines, r)
			}
		}}
		checker.Run(t.Context())
		fmt.Fprintf(&all, "--- %s\n%s", c.name, s.normal(lines.String()))
	}

	// More kinds of problems than anybody reads.
	all.WriteString("--- too many problems\n")
	s := &source{
		Source: &config.Source{Config: sources.Config{Name: "north"}, Location: time.UTC}, c: &Checker{Now: func() time.Time { return now }},
		reporter: reporter{source: "north", tell: func(r Result) { write(&all, r) }}, sample: sources.Page{Rows: make([]sources.Row, 100)},
	}
	many := problems{}
	for i := range problemsTold + 3 {
		many.add(mapping.FieldError{Field: fmt.Sprintf("field_%02d", i), Problem: "does not do"}, "17")
	}
	s.tellMapped(many, 60, 100, now)

	all.WriteString("--- the gate's own settings\n")
	checker := &Checker{Now: func() time.Time { return now }, Tell: func(r Result) { write(&all, r) }}
	checker.Config = &config.Config{Sink: sink.Config{URL: "https://gate.example/", CAFile: filepath.Join(t.TempDir(), "gone.pem")}}
	checker.gate(t.Context())
	u, err := url.Parse("http://gate.example/")
	require.NoError(t, err)
	checker.reached(reporter{tell: checker.Tell}, u, u.Host, sink.Reached{Status: http.StatusMethodNotAllowed})
	all.WriteString("--- a server without evidence\n")
	fmt.Fprintf(&all, "    %s\n", strings.Join(s.evidenceDo("the server is a standby"), "\n    "))
	golden(t, "trouble", strings.ReplaceAll(all.String(), checker.Config.Sink.CAFile, "DIR/gone.pem"))
}
