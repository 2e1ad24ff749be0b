package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/check"
	"parkbridge/internal/config"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

func (a *app) previewCommand() *cobra.Command {
	var source, key string
	var limit int
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "preview",
		Short: "Show what would be sent of the newest rows, to the last byte; send nothing",
		Long: `Show rows as they are read, the fields that they map to, and the exact request,
with the secret masked, as it would go out now. Where a record of the row is in
the ledger, show what the mapping as it is now would send otherwise. Nothing is
sent and nothing is stored; a running daemon is not disturbed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 1000 {
				return &exit{exitUsage, errors.New("--limit must be from 1 to 1000")}
			}
			if key != "" && source == "" {
				return &exit{exitUsage, errors.New("--key goes with --source")}
			}
			return classed(a.preview(cmd.Context(), source, key, limit))
		},
	})
	a.sourceFlag(cmd, &source, "only this source")
	cmd.Flags().StringVar(&key, "key", "", "the row with this key, with --source; a JSON list for a key of several columns")
	cmd.Flags().IntVar(&limit, "limit", 3, "how many of the newest rows of each source")
	return cmd
}

// preview is a look at rows and what would become of them.
type preview struct {
	*app
	cfg    *config.Config
	ledger *ledger.Ledger // nil where there is none that can be read
	rows   []previewRow
}

// previewRow is one row on its way.
type previewRow struct {
	source   string
	table    string // of a series; else ""
	program  *mapping.Program
	columns  []string
	row      sources.Row
	fields   map[string]string
	problems []mapping.FieldError
	unready  string         // the condition that is not true of the row; "": it is ready
	request  *sink.Request  // nil where the row does not map
	record   *ledger.Record // nil where the ledger has none of it
	edited   bool           // the row is another than the record was made of
	changes  []change
}

// change is one field that would be sent otherwise.
type change struct {
	Field string `json:"field"`
	Was   string `json:"was"` // "": it was left out
	Is    string `json:"is"`
}

func (a *app) preview(ctx context.Context, name, key string, limit int) (err error) {
	cfg, err := config.Load(a.configPath, drivers())
	if err != nil {
		return err
	}
	if name != "" {
		if _, err := cfg.Source(name); err != nil {
			return &exit{exitUsage, err}
		}
	}
	if key, err = canonicalKey(key); err != nil {
		return err
	}
	p := &preview{app: a, cfg: cfg}
	if p.ledger, err = ledger.Look(ctx, cfg.Ledger, time.Now); err != nil {
		if !errors.Is(err, ledger.ErrNone) {
			fmt.Fprintf(a.stderr, "parkbridge: %v; what was sent is not compared\n", err)
		}
	} else {
		defer func() { err = errors.Join(err, p.ledger.Close()) }()
	}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		if name == "" || s.Name == name {
			if err := p.source(ctx, s, key, limit); err != nil {
				return fmt.Errorf("source %s: %w", s.Name, cfg.Wrap(err))
			}
		}
	}
	if a.json {
		return p.printJSON()
	}
	p.print()
	return nil
}

// source reads rows of a source, and follows each as far as the gate's door.
func (p *preview) source(ctx context.Context, s *config.Source, key string, limit int) (err error) {
	if s.Series != nil {
		return p.series(ctx, s, key, limit)
	}
	r, err := sources.Open(ctx, drivers(), s.Config, s.Program.Needs())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	page, err := p.read(ctx, r, key, limit)
	if err != nil {
		return err
	}
	table := s.Table
	if table == "" {
		table = "query"
	}
	return p.followAll(ctx, s, page, sources.Member{Table: table})
}

// series reads the newest rows of a series of tables, or those with a key, from
// the newest table on.
func (p *preview) series(ctx context.Context, s *config.Source, key string, limit int) (err error) {
	tables, err := sources.OpenTables(ctx, drivers(), s.Config, s.Program.Needs())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tables.Close()) }()
	listing, err := tables.List(ctx)
	if err != nil {
		return err
	}
	members := sources.Upto(s.Series.Members(listing.Names, listing.Now, s.Location), s.Series.At(listing.Now, s.Location))
	found := 0
	for _, m := range slices.Backward(members) {
		if found >= limit && key == "" {
			break
		}
		r, err := tables.Open(ctx, m.Table)
		if err != nil {
			return fmt.Errorf("table %s: %w", m.Table, err)
		}
		page, err := p.read(ctx, r, key, limit-found)
		if errors.Is(err, errNoRow) {
			continue
		}
		if err != nil {
			return err
		}
		if err := p.followAll(ctx, s, page, m); err != nil {
			return err
		}
		found += len(page.Rows)
	}
	if found == 0 && key != "" {
		return fmt.Errorf("%w %s", errNoRow, key)
	}
	return nil
}

func (p *preview) followAll(ctx context.Context, s *config.Source, page sources.Page, from sources.Member) error {
	for _, row := range page.Rows {
		shown, err := p.follow(ctx, s, page.Columns, row, from)
		if err != nil {
			return err
		}
		p.rows = append(p.rows, shown)
	}
	return nil
}

var errNoRow = errors.New("there is no row with key")

func (p *preview) read(ctx context.Context, r *sources.Reader, key string, limit int) (sources.Page, error) {
	if key != "" {
		page, ok, err := r.ByKey(ctx, key)
		if err == nil && !ok {
			err = fmt.Errorf("%w %s", errNoRow, key)
		}
		return page, err
	}
	sess, err := r.Session(ctx, false)
	if err != nil {
		return sources.Page{}, err
	}
	page, err := sess.Page(ctx, sources.Range{Newest: true}, limit)
	return page, errors.Join(err, sess.Close())
}

func (p *preview) follow(ctx context.Context, s *config.Source, columns []string, row sources.Row, from sources.Member) (previewRow, error) {
	out := previewRow{source: s.Name, program: s.Program, columns: columns, row: row}
	origin := mapping.Origin{Table: from.Table, Period: from.Period.String(), Now: time.Now()}
	filter := ledger.Filter{Source: s.Name, Key: row.Key, Limit: 1} // the latest
	if s.Series != nil {
		out.table, filter.Table = from.Table, from.Table
	}
	if p.ledger != nil {
		records, err := p.ledger.Records(ctx, filter)
		if err != nil {
			return out, err
		}
		tables, err := p.ledger.Tables(ctx, s.Name)
		if err != nil {
			return out, err
		}
		for _, t := range tables { // the last one is that of now
			if t.Table == from.Table {
				origin.Period = t.Period
			}
			if t.Table == from.Table && len(records) > 0 && records[0].Generation < t.Generation {
				records = nil // of a row that the table had before it was emptied
			}
		}
		if len(records) > 0 {
			out.record, origin.Revision = &records[0], records[0].Revision
		}
	}
	var ready bool
	if out.fields, out.problems, ready = check.Map(s.Program, origin, row.Values); !ready {
		out.unready = s.Program.Condition()
	}
	if out.problems == nil {
		request, err := sink.Rehearse(p.cfg.Sink, out.fields)
		if err != nil {
			return out, err
		}
		out.request = &request
	}
	if r := out.record; r != nil && r.Fields != nil && out.problems == nil {
		out.changes = differences(r.Fields, out.fields)
		for i, name := range columns {
			if was, ok := r.Columns[name]; ok && was != row.Values[i] {
				out.edited = true
			}
		}
	}
	return out, nil
}

// differences lists the fields that two mappings of a row give otherwise.
func differences(was, is map[string]string) []change {
	var out []change
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if was[name] != is[name] {
			out = append(out, change{name, was[name], is[name]})
		}
	}
	return out
}

func (p *preview) print() {
	if len(p.rows) == 0 {
		fmt.Fprintln(p.stdout, "There are no rows.")
		return
	}
	for i := range p.rows {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		p.show(&p.rows[i])
	}
	fmt.Fprintln(p.stdout, "\nNothing was sent, nothing was stored.")
}

func (p *preview) show(r *previewRow) {
	where := r.source
	if r.table != "" {
		where += ", table " + r.table
	}
	p.line("row", fmt.Sprintf("%s, key %s", where, r.row.Key))
	for i, name := range r.columns {
		p.pair(name, r.program.Shown(name, r.row.Values[i]))
	}
	if r.unready != "" {
		fmt.Fprintf(p.stdout, "\nit is not ready; it would be held until this is true\n  %s\n", r.unready)
	}
	if r.problems != nil {
		what := "it does not map; it would be kept as invalid"
		if r.unready != "" {
			what = "as it is now it would not map"
		}
		fmt.Fprintf(p.stdout, "\n%s\n", what)
		for _, e := range r.problems {
			p.pair(e.Field, e.Problem)
		}
		p.compared(r)
		return
	}
	fmt.Fprintln(p.stdout, "\nfields")
	for _, name := range slices.Sorted(maps.Keys(r.fields)) {
		p.pair(name, r.fields[name])
	}
	fmt.Fprintf(p.stdout, "\nplain text to sign\n  %s\n", r.request.Plain)
	if r.request.Sign == "" {
		fmt.Fprintln(p.stdout, "\nsignature\n  none: no app_secret is set")
	} else {
		fmt.Fprintf(p.stdout, "\nsignature\n  %s\n", r.request.Sign)
	}
	fmt.Fprintf(p.stdout, "\nrequest to %s\n", r.request.URL)
	for line := range strings.SplitSeq(r.request.Head+"\r\n\r\n"+r.request.Body, "\r\n") {
		fmt.Fprintln(p.stdout, strings.TrimRight("  "+line, " "))
	}
	p.compared(r)
}

// compared says what the mapping as it is now would send otherwise.
func (p *preview) compared(r *previewRow) {
	if r.record == nil {
		return
	}
	head := fmt.Sprintf("record %d of this row is %s", r.record.ID, r.record.State)
	switch {
	case r.record.Wiped():
		fmt.Fprintf(p.stdout, "\n%s; its fields were wiped when the ledger's retention passed\n", head)
	case r.record.Fields == nil || r.problems != nil:
		fmt.Fprintf(p.stdout, "\n%s\n", head)
	case r.changes == nil:
		fmt.Fprintf(p.stdout, "\n%s, with the same fields\n", head)
	default:
		why := ""
		if r.edited {
			why = " (the row was changed since, too)"
		}
		fmt.Fprintf(p.stdout, "\n%s; with the mapping as it is now these fields would be others%s\n", head, why)
		for _, c := range r.changes {
			p.pair(c.Field, orLeftOut(c.Was)+" → "+orLeftOut(c.Is))
		}
	}
}

func orLeftOut(s string) string {
	if s == "" {
		return "(left out)"
	}
	return s
}

func (p *preview) pair(name, value string) { fmt.Fprintf(p.stdout, "  %s %s\n", pad(name, 20), value) }

type previewJSON struct {
	Source  string               `json:"source"`
	Table   *string              `json:"table"` // of a series of tables; else null
	RowKey  string               `json:"row_key"`
	Columns map[string]any       `json:"columns"`
	Fields  map[string]string    `json:"fields"`
	Errors  []mapping.FieldError `json:"errors"`
	// Ready is false for a row that would be held.
	Ready    bool         `json:"ready"`
	Request  *requestJSON `json:"request"`
	RecordID *int64       `json:"record_id"`
	State    *string      `json:"state"`
	// Changes are the fields of the record that would be others now; null where
	// there is nothing to compare.
	Changes []change `json:"changes"`
}

type requestJSON struct {
	Method string  `json:"method"`
	URL    string  `json:"url"`
	Plain  string  `json:"plain"`
	Sign   *string `json:"sign"`
	Head   string  `json:"head"`
	Body   string  `json:"body"`
}

func (p *preview) printJSON() error {
	out := struct {
		Rows []previewJSON `json:"rows"`
	}{[]previewJSON{}}
	for i := range p.rows {
		r := &p.rows[i]
		j := previewJSON{
			Source: r.source, Table: text(r.table), RowKey: r.row.Key, Columns: map[string]any{}, Fields: r.fields, Ready: r.unready == "",
			Errors: append([]mapping.FieldError{}, r.problems...),
		}
		for i, name := range r.columns {
			j.Columns[name] = r.row.Values[i]
		}
		if q := r.request; q != nil {
			j.Request = &requestJSON{Method: q.Method, URL: q.URL, Plain: q.Plain, Sign: text(q.Sign), Head: q.Head, Body: q.Body}
		}
		if r.record != nil {
			j.RecordID, j.State = &r.record.ID, &r.record.State
			if r.record.Fields != nil && r.problems == nil {
				j.Changes = append([]change{}, r.changes...)
			}
		}
		out.Rows = append(out.Rows, j)
	}
	return p.app.printJSON(out)
}
