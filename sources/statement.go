package sources

import (
	"fmt"
	"strconv"
	"strings"
)

// Range is a stretch of the reading order.
type Range struct {
	// After is where it begins: exclusive, unless the position itself is
	// inclusive. Zero means from the first row that has a cursor.
	After Position
	// Since is a second beginning: of the two, the later one counts. Only the
	// database could tell which that is.
	Since Position
	// UpTo is where it ends, inclusive; a prefix of the order's columns includes
	// all that tie with it. Zero means to the end.
	UpTo Position
	// Below leaves the rows at UpTo out.
	Below bool
	// Newest gives the last rows first.
	Newest bool
	// Whole asks for every row: where another session holds one locked, reading
	// fails with [ErrLocked]. Else such rows are left out, see [Page.Held].
	Whole bool
}

// PageSQL is the statement that [Session.Page] runs, for looking at its plan.
func (r *Reader) PageSQL(in Range, limit int) (string, []any, error) {
	return r.rangeSQL(r.list, r.from, in, limit)
}

// rangeSQL selects a list of columns from the rows of a range.
func (r *Reader) rangeSQL(list, from string, in Range, limit int) (string, []any, error) {
	st := statement{r: r}
	if r.where != "" {
		st.conds = append(st.conds, r.where)
	}
	if in.After.IsZero() && in.Since.IsZero() && in.UpTo.IsZero() {
		st.conds = append(st.conds, r.dialect.Quote(r.order[0].Name)+" IS NOT NULL")
	}
	upTo := "<="
	if in.Below {
		upTo = "<"
	}
	for _, b := range []struct {
		p  Position
		op string
	}{{in.After, beginning(in.After)}, {in.Since, beginning(in.Since)}, {in.UpTo, upTo}} {
		if err := st.bound(b.p, b.op); err != nil {
			return "", nil, err
		}
	}
	return st.limit(selectSQL(list, from, st.conds)+r.orderBy(in.Newest), limit), st.args, nil
}

func beginning(p Position) string {
	if p.Inclusive {
		return ">="
	}
	return ">"
}

func (r *Reader) orderBy(newest bool) string {
	order := make([]string, len(r.order))
	for i, c := range r.order {
		order[i] = r.dialect.Quote(c.Name)
		if newest {
			order[i] += " DESC"
		}
	}
	return " ORDER BY " + strings.Join(order, ", ")
}

// statement gathers the conditions of a SELECT and the arguments they bind.
type statement struct {
	r     *Reader
	conds []string
	args  []any
}

// bind adds arguments for native values of the leading order columns.
func (s *statement) bind(cols []Column, natives []string) ([]any, error) {
	if len(natives) > len(cols) {
		return nil, fmt.Errorf("the stored position %q has more columns than the reading order", natives)
	}
	var args []any
	for i, native := range natives {
		arg, err := s.r.dialect.Arg(cols[i], native)
		if err != nil {
			return nil, fmt.Errorf("value %q of column %s: %w", native, cols[i].Name, err)
		}
		args = append(args, arg)
	}
	return args, nil
}

func (s *statement) param(c Column, arg any) string {
	s.args = append(s.args, arg)
	return s.r.dialect.Param(len(s.args), c)
}

// bound adds the condition that rows stand on one side of a position; none for
// the zero position.
func (s *statement) bound(p Position, op string) error {
	if p.IsZero() {
		return nil
	}
	args, err := s.bind(s.r.order, p.Values)
	if err != nil {
		return err
	}
	var columns []string
	for i := range args {
		columns = append(columns, s.r.dialect.Quote(s.r.order[i].Name))
	}
	param := func(i int) string { return s.param(s.r.order[i], args[i]) }
	s.conds = append(s.conds, s.r.dialect.Compare(columns, op, param))
	return nil
}

// limit makes a SELECT give n rows at the most.
func (s *statement) limit(sql string, n int) string {
	sql, s.args = limited(s.r.dialect, sql, n, s.args)
	return sql
}

// limited makes a SELECT with some arguments give n rows at the most.
func limited(dialect Dialect, sql string, n int, args []any) (string, []any) {
	if d, ok := dialect.(Limiter); ok {
		args = append(args, n)
		return d.Limit(sql, len(args)), args
	}
	return sql + " LIMIT " + strconv.Itoa(n), args
}

func selectSQL(list, from string, conds []string) string {
	sql := "SELECT " + list + " FROM " + from
	if len(conds) > 0 {
		sql += " WHERE " + strings.Join(conds, " AND ")
	}
	return sql
}

// CompareRows writes a comparison of positions as one of row values, which
// PostgreSQL and SQLite run as one index seek.
func CompareRows(columns []string, op string, param func(i int) string) string {
	params := make([]string, len(columns))
	for i := range columns {
		params[i] = param(i)
	}
	if len(columns) == 1 {
		return columns[0] + " " + op + " " + params[0]
	}
	return "(" + strings.Join(columns, ", ") + ") " + op + " (" + strings.Join(params, ", ") + ")"
}

// CompareSpelled writes the same spelled out, for engines that scan on row
// values: (a > ? OR (a = ? AND b > ?)).
func CompareSpelled(columns []string, op string, param func(i int) string) string {
	return spelled(columns, op, param, 0)
}

func spelled(columns []string, op string, param func(i int) string, at int) string {
	c := columns[at]
	if at == len(columns)-1 {
		return c + " " + op + " " + param(at)
	}
	first := c + " " + op[:1] + " " + param(at)
	return "(" + first + " OR (" + c + " = " + param(at) + " AND " + spelled(columns, op, param, at+1) + "))"
}
