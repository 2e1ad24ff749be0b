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
	return s.page(ctx, in.Whole, limit, func(from string) (string, []any, error) {
		return s.r.rangeSQL(s.r.list, from, in, limit)
	})
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
	keys := func(from string) (string, []any, error) { return r.rangeSQL(r.keyList(), from, in, limit) }
	sql, args, err := keys(r.from)
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
	committed, _, err := s.fetch(ctx, false, fields, keys)
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
	return s.page(ctx, false, limit, func(from string) (string, []any, error) {
		return s.r.nullsSQL(from, belowKey, limit)
	})
}

func (r *Reader) nullsSQL(from, belowKey string, limit int) (string, []any, error) {
	st := statement{r: r, conds: r.nullConds()}
	keys := r.keyColumns()
	var names, order []string
	for _, c := range keys {
		name := r.dialect.Quote(c.Name)
		names, order = append(names, name), append(order, name+" DESC")
	}
	if belowKey != "" {
		args, err := r.keyArgs(&st, belowKey)
		if err != nil {
			return "", nil, err
		}
		st.conds = append(st.conds, r.dialect.Compare(names, "<", func(i int) string { return st.param(keys[i], args[i]) }))
	}
	sql := st.limit(selectSQL(r.list, from, st.conds)+" ORDER BY "+strings.Join(order, ", "), limit)
	return sql, st.args, nil
}

// CountNulls counts the rows that have no cursor, most at the most.
func (s *Session) CountNulls(ctx context.Context, most int) (int, error) {
	r := s.r
	rows, _, err := s.fetch(ctx, false, r.fields[r.key[0]:r.key[0]+1], func(from string) (string, []any, error) {
		st := statement{r: r}
		sql := st.limit(selectSQL(r.dialect.Select(Field{Column: r.order[r.key[0]]}), from, r.nullConds()), most)
		return sql, st.args, nil
	})
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
	return s.page(ctx, true, len(keys)+1, func(from string) (string, []any, error) {
		return selectSQL(s.r.list, from, st.conds), st.args, nil
	})
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

// fetch runs the SELECT that build writes of a FROM item. Where another session
// holds rows of it locked, it is run again without them, and held is true; where
// the whole is asked for, that is an error.
func (s *Session) fetch(ctx context.Context, whole bool, fields []Field, build func(from string) (string, []any, error)) (rows [][]Value, held bool, err error) {
	sql, args, err := build(s.r.from)
	if err != nil {
		return nil, false, err
	}
	rows, err = s.conn.Query(ctx, sql, fields, args)
	if whole || s.r.past == "" || !errors.Is(err, ErrLocked) {
		return rows, false, err
	}
	if sql, args, err = build(s.r.past); err != nil {
		return nil, true, err
	}
	rows, err = s.conn.Query(ctx, sql, fields, args)
	return rows, true, err
}

func (s *Session) page(ctx context.Context, whole bool, limit int, build func(from string) (string, []any, error)) (Page, error) {
	r := s.r
	rows, held, err := s.fetch(ctx, whole, r.fields, build)
	if err != nil {
		return Page{}, fmt.Errorf("reading %s: %w", r.place(), err)
	}
	page := Page{Columns: r.columns, Rows: make([]Row, 0, len(rows)), Full: len(rows) == limit, Held: held}
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
