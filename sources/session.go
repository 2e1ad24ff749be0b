package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Session is one connection to the source, for reads that belong together.
type Session struct {
	r    *Reader
	conn Conn
}

// Session connects; evidence says that [Session.Evidence] is called first.
func (r *Reader) Session(ctx context.Context, evidence bool) (*Session, error) {
	conn, err := r.db.Connect(ctx, evidence)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	return &Session{r, conn}, nil
}

// Close gives the connection back.
func (s *Session) Close() error { return s.conn.Close() }

// Evidence lists the transactions that are open on the server.
func (s *Session) Evidence(ctx context.Context) (Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, s.r.cfg.StatementTimeout)
	defer cancel()
	e, err := s.conn.Evidence(ctx)
	if err != nil {
		return Evidence{}, fmt.Errorf("looking for open transactions: %w", err)
	}
	return e, nil
}

// Now is the server's own clock.
func (s *Session) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.r.cfg.StatementTimeout)
	defer cancel()
	t, err := s.conn.Now(ctx)
	if err != nil {
		return t, fmt.Errorf("asking the database for its time: %w", err)
	}
	return t, nil
}

// Page reads up to limit rows of a range, in reading order or, where the range
// says so, the last ones first. Rows whose cursor is NULL have no place in it
// and are not read.
func (s *Session) Page(ctx context.Context, in Range, limit int) (Page, error) {
	sql, args, err := s.r.PageSQL(in, limit)
	if err != nil {
		return Page{}, err
	}
	page, err := s.query(ctx, sql, args)
	page.Full = len(page.Rows) == limit
	return page, err
}

// Highest gives the position of the last row of a range; the zero Position
// where there is no row.
func (s *Session) Highest(ctx context.Context, in Range) (Position, error) {
	in.Newest = true
	page, err := s.Page(ctx, in, 1)
	if err != nil || len(page.Rows) == 0 {
		return Position{}, err
	}
	return page.Rows[0].Position, nil
}

// InFlight gives the key of a row in a range that is written and not committed,
// among the first limit rows of it, or the last where the range says so; "" where there is none, or where the engine
// does not show such rows.
func (s *Session) InFlight(ctx context.Context, in Range, limit int) (string, error) {
	r := s.r
	sql, args, err := r.rangeSQL(r.keyList(), in, limit)
	if err != nil {
		return "", err
	}
	fields := make([]Field, len(r.key))
	for i, c := range r.keyColumns() {
		fields[i] = Field{Column: c}
	}
	written, ok, err := s.conn.Uncommitted(ctx, sql, fields, args)
	if err != nil || !ok {
		return "", err
	}
	committed, err := s.conn.Query(ctx, sql, fields, args)
	if err != nil {
		return "", err
	}
	there := make(map[string]bool, len(committed))
	for _, row := range committed {
		there[fmt.Sprint(row)] = true
	}
	for _, row := range written {
		if !there[fmt.Sprint(row)] {
			key := make([]string, len(row))
			for i, v := range row {
				key[i] = v.Text
			}
			return EncodeKey(key), nil
		}
	}
	return "", nil
}

func (r *Reader) keyList() string {
	var list []string
	for _, c := range r.keyColumns() {
		list = append(list, r.dialect.Select(Field{Column: c}))
	}
	return strings.Join(list, ", ")
}

// Nulls reads up to limit rows that have no cursor, the highest keys first;
// belowKey is the key to go on below, "" for the first page.
func (s *Session) Nulls(ctx context.Context, belowKey string, limit int) (Page, error) {
	st := statement{r: s.r, conds: s.r.nullConds()}
	keys := s.r.keyColumns()
	var names, order []string
	for _, c := range keys {
		name := s.r.dialect.Quote(c.Name)
		names, order = append(names, name), append(order, name+" DESC")
	}
	if belowKey != "" {
		args, err := s.r.keyArgs(&st, belowKey)
		if err != nil {
			return Page{}, err
		}
		st.conds = append(st.conds, s.r.dialect.Compare(names, "<", func(i int) string { return st.param(keys[i], args[i]) }))
	}
	page, err := s.query(ctx, s.r.selectSQL(st.conds)+" ORDER BY "+strings.Join(order, ", ")+fmt.Sprintf(" LIMIT %d", limit), st.args)
	page.Full = len(page.Rows) == limit
	return page, err
}

// CountNulls counts the rows that have no cursor, most at the most.
func (s *Session) CountNulls(ctx context.Context, most int) (int, error) {
	r := s.r
	sql := "SELECT " + r.dialect.Select(Field{Column: r.order[r.key[0]]}) + " FROM " + r.from + " WHERE " + strings.Join(r.nullConds(), " AND ") + fmt.Sprintf(" LIMIT %d", most)
	rows, err := s.conn.Query(ctx, sql, r.fields[r.key[0]:r.key[0]+1], nil)
	if err != nil {
		return 0, fmt.Errorf("counting rows without a cursor in %s: %w", r.place(), err)
	}
	return len(rows), nil
}

// CursorMayBeNull reports whether rows may have no cursor: it is no part of the
// key, and not the server's to assign.
func (r *Reader) CursorMayBeNull() bool {
	return !r.class.Server && !slices.Contains(r.key, 0)
}

func (r *Reader) nullConds() []string {
	conds := []string{r.dialect.Quote(r.order[0].Name) + " IS NULL"}
	if r.where != "" {
		conds = append(conds, r.where)
	}
	return conds
}

func (r *Reader) keyColumns() []Column {
	var cols []Column
	for _, i := range r.key {
		cols = append(cols, r.order[i])
	}
	return cols
}

// ByKey reads the row of a key that [EncodeKey] made; ok is false where the
// source no longer has it.
func (r *Reader) ByKey(ctx context.Context, key string) (page Page, ok bool, err error) {
	s, err := r.Session(ctx, false)
	if err != nil {
		return Page{}, false, err
	}
	page, err = s.ByKeys(ctx, []string{key})
	return page, len(page.Rows) > 0, errors.Join(err, s.Close())
}

// ByKeys reads the rows of some keys, in no order; those that are gone are left
// out.
func (s *Session) ByKeys(ctx context.Context, keys []string) (Page, error) {
	st := statement{r: s.r}
	if s.r.where != "" {
		st.conds = append(st.conds, s.r.where)
	}
	var alternatives []string
	for _, key := range keys {
		args, err := s.r.keyArgs(&st, key)
		if err != nil && len(keys) == 1 {
			return Page{}, err
		}
		if err != nil {
			continue // a key of another shape, from before the config was changed: it is gone
		}
		var all []string
		for i, c := range s.r.keyColumns() {
			all = append(all, s.r.dialect.Quote(c.Name)+" = "+st.param(c, args[i]))
		}
		alternatives = append(alternatives, "("+strings.Join(all, " AND ")+")")
	}
	if len(alternatives) == 0 {
		return Page{Columns: s.r.columns}, nil
	}
	st.conds = append(st.conds, "("+strings.Join(alternatives, " OR ")+")")
	return s.query(ctx, s.r.selectSQL(st.conds), st.args)
}

// keyArgs gives the arguments that stand for a key's columns.
func (r *Reader) keyArgs(st *statement, key string) ([]any, error) {
	cols := r.keyColumns()
	natives, err := DecodeKey(key, len(cols))
	if err != nil {
		return nil, err
	}
	for i, c := range cols {
		if c.Integer && !isInteger(natives[i]) {
			return nil, fmt.Errorf("key %q: %s is an integer column", key, c.Name)
		}
	}
	return st.bind(cols, natives)
}

func (s *Session) query(ctx context.Context, sql string, args []any) (Page, error) {
	r := s.r
	rows, err := s.conn.Query(ctx, sql, r.fields, args)
	if err != nil {
		return Page{}, fmt.Errorf("reading %s: %w", r.place(), err)
	}
	page := Page{Columns: r.columns, Rows: make([]Row, 0, len(rows))}
	for _, values := range rows {
		row, err := r.row(values)
		if err != nil {
			return Page{}, fmt.Errorf("reading %s: %w", r.place(), err)
		}
		page.Rows = append(page.Rows, row)
	}
	return page, nil
}

func errNullKey(c Column) error {
	return fmt.Errorf("column %s %w", c.Name, ErrNullKey)
}

func (r *Reader) row(values []Value) (Row, error) {
	position := make([]string, len(r.order))
	for i, c := range r.order {
		if values[i].IsNull() {
			if i == 0 && r.CursorMayBeNull() {
				continue // the row has no place in the reading order
			}
			return Row{}, errNullKey(c)
		}
		native, err := r.dialect.Native(c, values[i])
		if err != nil {
			return Row{}, fmt.Errorf("column %s: %w", c.Name, err)
		}
		position[i] = native
	}
	key := make([]string, len(r.key))
	for i, at := range r.key {
		key[i] = position[at]
	}
	mapped := make([]Value, len(r.mapped))
	for i, at := range r.mapped {
		mapped[i] = values[at]
	}
	row := Row{Key: EncodeKey(key), Position: Position{Values: position}, Values: mapped}
	if values[0].IsNull() {
		row.Position = Position{}
	}
	return row, nil
}
