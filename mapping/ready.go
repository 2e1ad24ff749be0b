package mapping

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/expr-lang/expr/ast"

	"parkbridge/sources"
)

// FieldReady is the Field of a [FieldError] about the condition of
// [Program.Await]. No field of the gate is called so.
const FieldReady = "ready"

// Await gives the program a condition, an expression as in a rule: a row for
// which it is not true is not ready to be sent yet. The columns it names are read
// too. It is called right after [Compile], before the program is used.
func (p *Program) Await(condition string, set Settings) error {
	e, err := compileExpr(condition)
	if err != nil {
		return err
	}
	if err := e.mayBeBool(); err != nil {
		return err
	}
	r := &rule{Rule: Rule{Expr: condition}, field: Field{Name: FieldReady}, charset: set.Charset, loc: set.Location, trim: true, expr: e}
	for _, name := range e.columns {
		r.columns = append(r.columns, p.need(name, set.Charset))
	}
	p.ready = r
	return nil
}

// Condition is the expression of [Program.Await]; "" where there is none, and
// every row is ready.
func (p *Program) Condition() string {
	if p.ready == nil {
		return ""
	}
	return p.ready.Expr
}

// Ready reports whether a row is ready to be sent. A row for which the condition
// gives neither true nor false has a problem, of [FieldReady]; nil means none.
func (p *Program) Ready(values []sources.Value, origin Origin) (ready bool, problem *FieldError) {
	if p.ready == nil {
		return true, nil
	}
	v, err := p.ready.input(p.needs, values, origin)
	switch {
	case err != nil:
	case v.Kind == sources.Bool:
		return v.Text == "true", nil
	case v.IsNull():
		err = errors.New("gives NULL, which is neither true nor false; give another value with ??, as in (column ?? false)")
	default:
		err = fmt.Errorf("gives %s, which is neither true nor false; compare it, as in column == 1", quoted(v.Text))
	}
	if err != nil {
		return false, &FieldError{Field: FieldReady, Problem: err.Error()}
	}
	return false, nil
}

// mayBeBool refuses an expression that is known to give something else.
func (e *expression) mayBeBool() error {
	node := e.program.Node()
	if _, isNil := node.(*ast.NilNode); isNil {
		return errors.New("must be true or false for each row, and is nil for all")
	}
	t := node.Type()
	if t == nil || t.Kind() == reflect.Interface || t.Kind() == reflect.Bool {
		return nil // what a column holds is known when a row is read
	}
	what, ok := map[reflect.Kind]string{
		reflect.String: "a text", reflect.Int: "a number", reflect.Float64: "a number", reflect.Slice: "a list", reflect.Map: "a map",
	}[t.Kind()]
	if !ok {
		what = "a " + t.Kind().String()
	}
	return fmt.Errorf(`must be true or false for each row, such as (reason ?? "") != "", and gives %s`, what)
}
