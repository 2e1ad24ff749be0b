package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"parkbridge/sources"
)

// expression is a compiled expr with the columns it reads.
type expression struct {
	program  *vm.Program
	columns  []string
	origin   []string // what it reads of [Origin], by its names in expressions
	machines sync.Pool
}

// machine runs an expression; one is used by one goroutine at a time.
type machine struct {
	vm  vm.VM
	env map[string]any
}

func (e *expression) machine() *machine {
	if m, ok := e.machines.Get().(*machine); ok {
		return m
	}
	return &machine{env: make(map[string]any, len(e.columns)+len(exprNames))}
}

// Names an expression knows beside the columns.
var exprNames = []string{"revision", "table", "period", "$env"}

func compileExpr(source string) (*expression, error) {
	// The clock is not there: the same row must give the same fields for ever.
	program, err := expr.Compile(source,
		expr.Env(map[string]any{}), expr.AllowUndefinedVariables(),
		expr.DisableBuiltin("now"), expr.DisableBuiltin("string"),
		expr.Function("string", exprString))
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n") // the rest draws an arrow under it
		return nil, errors.New(first)
	}
	e := &expression{program: program}
	node := program.Node()
	v := &columnVisitor{locals: map[string]bool{}}
	ast.Walk(&node, v)
	if v.err != nil {
		return nil, v.err
	}
	for _, name := range []string{"revision", "table", "period"} {
		if slices.Contains(v.names, name) && !v.locals[name] {
			e.origin = append(e.origin, name)
		}
	}
	for _, name := range v.names {
		if !v.locals[name] && !slices.Contains(exprNames, name) && !slices.Contains(e.columns, name) {
			e.columns = append(e.columns, name)
		}
	}
	return e, nil
}

// columnVisitor gathers the names an expression takes from its environment.
type columnVisitor struct {
	names  []string
	locals map[string]bool
	err    error
}

func (v *columnVisitor) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		v.names = append(v.names, n.Value)
	case *ast.VariableDeclaratorNode:
		v.locals[n.Name] = true
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			v.locals[id.Value] = true
			if id.Value != "string" {
				v.err = fmt.Errorf("%s is not a function that expressions have", id.Value)
			} else if len(n.Arguments) == 2 {
				if pattern, ok := n.Arguments[1].(*ast.StringNode); ok {
					_, v.err = tokenize(pattern.Value)
				}
			}
		}
	case *ast.MemberNode:
		if id, ok := n.Node.(*ast.IdentifierNode); ok && id.Value == "$env" {
			name, ok := n.Property.(*ast.StringNode)
			if !ok {
				v.err = errors.New(`$env takes a column's name as written text: $env["出场 时间"]`)
				return
			}
			v.names = append(v.names, name.Value)
		}
	}
}

// exprString makes text of a value, of a time also by a pattern. NULL has no text.
func exprString(params ...any) (any, error) {
	if len(params) == 2 {
		return exprTimeText(params[0], params[1])
	}
	if len(params) != 1 {
		return nil, errors.New("string takes one value, or a time and a pattern")
	}
	switch x := params[0].(type) {
	case nil:
		return nil, errors.New("NULL has no text; give another value with ??, as in string(column ?? 0)")
	case float64:
		return floatText(x), nil
	case time.Time:
		return wallText(x), nil
	default:
		return fmt.Sprint(x), nil
	}
}

func exprTimeText(value, pattern any) (any, error) {
	t, isTime := value.(time.Time)
	text, isText := pattern.(string)
	switch {
	case value == nil:
		return nil, errors.New("NULL has no text; ask first, as in column == nil ? \"\" : string(column, \"HH:mm:ss\")")
	case !isTime:
		return nil, fmt.Errorf("string with a pattern takes a time, and %s is none; a column of dates alone, of clock times or of text is text already", quoted(fmt.Sprint(value)))
	case !isText:
		return nil, errors.New("the pattern of string is a text, such as \"HH:mm:ss\"")
	}
	tokens, err := tokenize(text)
	if err != nil {
		return nil, err
	}
	return write(tokens, t), nil
}

// exprValue is what an expression sees of a column: integers are int,
// decimals and text string, floats float64, date-times time.Time, NULL nil. A
// date alone is the text yyyy-MM-dd, so that it can be joined with a clock time,
// which the databases give as text. Placeholders are let through: the date of a
// clock time is 1899-12-30 or 1900-01-01 in many a table, and what the rule
// gives in the end is checked.
func (r *rule) exprValue(v sources.Value) (any, error) {
	switch v.Kind {
	case sources.Null:
		return nil, nil
	case sources.Bool:
		return v.Text == "true", nil
	case sources.Int:
		if n, err := strconv.Atoi(v.Text); err == nil {
			return n, nil
		}
		return v.Text, nil // beyond 64 bits signed: exact as text
	case sources.Float:
		return strconv.ParseFloat(v.Text, 64)
	case sources.Local, sources.Time:
		if v.Kind == sources.Local && len(v.Text) == len(time.DateOnly) {
			return v.Text, nil
		}
		t, err := r.moment(v)
		return t, r.advised(err)
	default:
		return r.asText(v)
	}
}

// exprAdvice says what to do about the commonest failures.
func exprAdvice(problem string) string {
	switch {
	case !strings.Contains(problem, "invalid operation"):
		return ""
	case strings.Contains(problem, "<nil>"):
		return `; a column is NULL there: give another value with ??, as in (column ?? "")`
	case strings.Contains(problem, "time.Time"):
		return `; make text of a date-time, as in string(column, "yyyy-MM-dd")`
	case strings.Contains(problem, "string"):
		return `; make text of a number, as in string(column)`
	}
	return ""
}

func (e *expression) run(m *machine) (sources.Value, error) {
	out, err := m.vm.Run(e.program, m.env)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return sources.Value{}, fmt.Errorf("expr failed: %s%s", first, exprAdvice(first))
	}
	switch x := out.(type) {
	case nil:
		return sources.Value{}, nil
	case string:
		return sources.TextOrBytes(x, false), nil
	case bool:
		return sources.Value{Kind: sources.Bool, Text: strconv.FormatBool(x)}, nil
	case int:
		return sources.Value{Kind: sources.Int, Text: strconv.Itoa(x)}, nil
	case float64:
		return sources.Value{Kind: sources.Float, Text: floatText(x)}, nil
	case time.Time:
		return sources.Value{Kind: sources.Time, Text: x.Format(time.RFC3339Nano)}, nil
	}
	return sources.Value{}, errors.New("expr must give a text, a number or a time, and gives something else, such as a list")
}
