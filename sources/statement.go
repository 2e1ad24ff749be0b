package sources

import (
	"fmt"
	"strings"
)

// PageSQL is the statement that [Reader.Page] runs, for looking at its plan.
func (r *Reader) PageSQL(after Position, limit int) (string, []any, error) {
	st := statement{r: r}
	if r.where != "" {
		st.conds = append(st.conds, r.where)
	}
	if after.IsZero() {
		st.conds = append(st.conds, r.dialect.Quote(r.order[0].Name)+" IS NOT NULL")
	} else if err := st.after(after); err != nil {
		return "", nil, err
	}
	return r.selectSQL(st.conds) + " ORDER BY " + r.orderBy + fmt.Sprintf(" LIMIT %d", limit), st.args, nil
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

func (s *statement) after(p Position) error {
	args, err := s.bind(s.r.order, p.Values)
	if err != nil {
		return err
	}
	var columns []string
	for i := range args {
		columns = append(columns, s.r.dialect.Quote(s.r.order[i].Name))
	}
	op := ">"
	if p.Inclusive {
		op = ">="
	}
	param := func(i int) string { return s.param(s.r.order[i], args[i]) }
	s.conds = append(s.conds, s.r.dialect.After(columns, op, param))
	return nil
}

func (r *Reader) selectSQL(conds []string) string {
	sql := "SELECT " + r.list + " FROM " + r.from
	if len(conds) > 0 {
		sql += " WHERE " + strings.Join(conds, " AND ")
	}
	return sql
}

// RowAfter writes "after this position" as a row value, which PostgreSQL and
// SQLite run as one index seek.
func RowAfter(columns []string, op string, param func(i int) string) string {
	params := make([]string, len(columns))
	for i := range columns {
		params[i] = param(i)
	}
	if len(columns) == 1 {
		return columns[0] + " " + op + " " + params[0]
	}
	return "(" + strings.Join(columns, ", ") + ") " + op + " (" + strings.Join(params, ", ") + ")"
}

// SpelledAfter writes the same spelled out, for engines that scan on row
// values: (a > ? OR (a = ? AND b > ?)).
func SpelledAfter(columns []string, op string, param func(i int) string) string {
	return spelled(columns, op, param, 0)
}

func spelled(columns []string, op string, param func(i int) string, at int) string {
	c := columns[at]
	if at == len(columns)-1 {
		return c + " " + op + " " + param(at)
	}
	first := c + " > " + param(at)
	return "(" + first + " OR (" + c + " = " + param(at) + " AND " + spelled(columns, op, param, at+1) + "))"
}
