package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parkbridge/sources"
)

// Settings are the source's own, which rules may override.
type Settings struct {
	Location *time.Location // zone of times that carry none
	Charset  string         // of text the database cannot vouch for; "" is UTF-8
	// MaxFuture is how far after [Origin].Now a time may lie; 0 means no bound.
	MaxFuture time.Duration
	// Series tells that the rows come from a series of tables, so that there is a
	// period.
	Series bool
}

// Program is a compiled set of rules. It is safe for concurrent use.
type Program struct {
	rules []*rule
	needs []sources.Need
	ready *rule // see [Program.Await]; nil: there is no condition
}

type rule struct {
	Rule
	field     Field
	charset   string
	loc       *time.Location
	maxFuture time.Duration
	trim      bool
	formats   []timeFormat
	expr      *expression
	columns   []int // indexes in Program.needs that this rule reads
}

// Compile checks rules against the gate's contract. Every problem goes to
// report with the path of the config key inside the mapping, such as
// "plate.transform"; the Program may be used only if there was none.
func Compile(rules Rules, contract []Field, set Settings, report func(path, problem string)) *Program {
	p := &Program{}
	known := map[string]bool{}
	for _, f := range contract {
		known[f.Name] = true
		r, ok := rules[f.Name]
		if !ok {
			if f.Required {
				report("", fmt.Sprintf("has no rule for %s, which the gate requires", f.Name))
			}
			continue
		}
		if c := p.compile(r, f, set, func(key, problem string) { report(strings.TrimSuffix(f.Name+"."+key, "."), problem) }); c != nil {
			p.rules = append(p.rules, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if !known[name] {
			var names []string
			for _, f := range contract {
				names = append(names, f.Name)
			}
			report(name, fmt.Sprintf("is not a field of the gate; it takes %s", strings.Join(names, ", ")))
		}
	}
	return p
}

func (p *Program) compile(in Rule, f Field, set Settings, report func(key, problem string)) *rule {
	r := &rule{Rule: in, field: f, charset: set.Charset, loc: set.Location, maxFuture: set.MaxFuture, trim: in.Trim == nil || *in.Trim}
	given := 0
	for _, is := range []bool{in.Column != "", in.Const != nil, in.Expr != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		report("", "must have exactly one of column, const and expr")
	}
	if in.Charset != "" {
		if !ValidCharset(in.Charset) {
			report("charset", fmt.Sprintf("%q is not known; it is one of %s", in.Charset, charsetNames()))
		}
		r.charset = in.Charset
	}
	if in.Timezone != "" {
		loc, err := time.LoadLocation(in.Timezone)
		if err != nil {
			report("timezone", fmt.Sprintf("%q is not a zone of the IANA database, such as Asia/Shanghai", in.Timezone))
		} else {
			r.loc = loc
		}
	}
	for _, t := range in.Transform {
		if transforms[t] == nil {
			report("transform", fmt.Sprintf("%q is not known; it is one of %s", t, transformNames()))
		}
	}
	if len(in.Format) > 0 && f.Kind != KindTime {
		report("format", "is for time fields; "+f.Name+" is none")
	}
	for _, pattern := range in.Format {
		tf, err := compileFormat(pattern)
		if err != nil {
			report("format", err.Error())
		}
		r.formats = append(r.formats, tf)
	}
	switch {
	case in.Invalid != "" && in.Invalid != "error" && in.Invalid != "omit":
		report("invalid", "must be error or omit")
	case in.Invalid == "omit" && f.Required:
		report("invalid", "cannot be omit: the gate requires "+f.Name)
	case in.Invalid == "omit" && f.Kind != KindTime:
		report("invalid", "is for time fields; "+f.Name+" is none")
	}
	if in.Otherwise != nil && in.Values == nil {
		report("otherwise", "goes with values, and there are none")
	}
	p.checkOutputs(r, report)
	switch {
	case in.Column != "":
		r.columns = []int{p.need(in.Column, r.charset)}
	case in.Expr != "":
		e, err := compileExpr(in.Expr)
		if err != nil {
			report("expr", err.Error())
			return nil
		}
		if slices.Contains(e.origin, "period") && !set.Series {
			report("expr", "reads period, which is the month or year of a table, and table names one table for all time: take period away, or let table say where its month or year stands, such as out_{yyyyMM} (a column of that name is read by column: period)")
		}
		r.expr = e
		for _, name := range e.columns {
			r.columns = append(r.columns, p.need(name, r.charset))
		}
	}
	return r
}

// checkOutputs tries the constants of a rule against the field's kind.
func (p *Program) checkOutputs(r *rule, report func(key, problem string)) {
	check := func(key string, text *string) {
		if text == nil || *text == "" {
			return
		}
		if r.field.Kind == KindEnum && !slices.Contains(r.field.Enum, *text) {
			report(key, fmt.Sprintf("%q is not a value of %s; the gate takes %s", *text, r.field.Name, strings.Join(r.field.Enum, ", ")))
		}
	}
	if r.Values == nil && r.Transform == nil {
		check("const", r.Const)
	}
	check("otherwise", r.Otherwise)
	check("default", r.Default)
	for _, from := range slices.Sorted(maps.Keys(r.Values)) {
		to := r.Values[from]
		check("values."+from, &to)
	}
	if r.field.Kind == KindTime && r.Default != nil && r.loc != nil {
		t, err := r.iso(*r.Default)
		if err != nil {
			report("default", "must be a time of the form yyyy-MM-dd HH:mm:ss")
			return
		}
		text := gateText(t)
		r.Default = &text
	}
}

// need gives the index of a column among those to be read.
func (p *Program) need(column, charset string) int {
	foreign := charsets[strings.ToLower(charset)] != nil
	n := sources.Need{Column: column, Raw: foreign, UTF8: !foreign && charset != ""}
	for i, have := range p.needs {
		if have.Column == column {
			// One column, read once: raw bytes can be decoded either way.
			p.needs[i].Raw, p.needs[i].UTF8 = have.Raw || n.Raw, have.UTF8 || n.UTF8
			return i
		}
	}
	p.needs = append(p.needs, n)
	return len(p.needs) - 1
}

// Needs lists the columns that the rules read, each once.
func (p *Program) Needs() []sources.Need { return p.needs }

// Columns lists the names of the columns that the rules read.
func (p *Program) Columns() []string {
	names := make([]string, len(p.needs))
	for i, n := range p.needs {
		names[i] = n.Column
	}
	return names
}

// Reads lists the columns that the rules of some fields read, and for
// [FieldReady] the condition, as indexes in [Program.Columns], in order and each
// once.
func (p *Program) Reads(fields ...string) []int {
	var out []int
	if p.ready != nil && slices.Contains(fields, FieldReady) {
		out = append(out, p.ready.columns...)
	}
	for _, r := range p.rules {
		if slices.Contains(fields, r.field.Name) {
			out = append(out, r.columns...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// UsesRevision reports whether a field's rule tells revisions of a row apart.
func (p *Program) UsesRevision(field string) bool { return p.uses(field, "revision") }

// UsesOrigin reports whether a field's rule tells the tables of a series apart, by
// table or by period.
func (p *Program) UsesOrigin(field string) bool {
	return p.uses(field, "table") || p.uses(field, "period")
}

func (p *Program) uses(field, name string) bool {
	return slices.ContainsFunc(p.rules, func(r *rule) bool {
		return r.field.Name == field && r.expr != nil && slices.Contains(r.expr.origin, name)
	})
}

// Origin is what an expression may know of a row beside its columns.
type Origin struct {
	Revision int    // 0 for a row as first seen
	Table    string // the table the row came from
	Period   string // yyyyMM or yyyy, of a table that is one of a series; else ""
	// Now is when the row was read. A time too far beyond it is refused (see
	// [Settings].MaxFuture); it never changes what a time becomes. Zero refuses
	// nothing.
	Now time.Time
}

// Fields names the fields that the rules fill.
func (p *Program) Fields() []string {
	names := make([]string, len(p.rules))
	for i, r := range p.rules {
		names[i] = r.field.Name
	}
	return names
}

// Apply applies the rules to the values of [Program.Columns], in that order. It
// appends the texts of [Program.Fields] to dst, in that order, "" for one that is
// left out; or it returns every problem of the row at once.
func (p *Program) Apply(dst []string, values []sources.Value, origin Origin) ([]string, []FieldError) {
	var problems []FieldError
	for _, r := range p.rules {
		text, err := r.apply(p.needs, values, origin)
		switch {
		case err != nil:
			problems = append(problems, FieldError{Field: r.field.Name, Problem: err.Error()})
		case text == "" && r.field.Required:
			problems = append(problems, FieldError{
				Field:   r.field.Name,
				Problem: fmt.Sprintf("is NULL or empty (%s), the gate requires it, and the rule has no default; mend the row, or give the rule a default", r.origin()),
			})
		}
		dst = append(dst, text)
	}
	if problems != nil {
		return nil, problems
	}
	return dst, nil
}

// Map is [Program.Apply] with the fields by name, without those left out.
func (p *Program) Map(values []sources.Value, origin Origin) (map[string]string, []FieldError) {
	texts, problems := p.Apply(nil, values, origin)
	if problems != nil {
		return nil, problems
	}
	fields := make(map[string]string, len(p.rules))
	for i, r := range p.rules {
		if texts[i] != "" {
			fields[r.field.Name] = texts[i]
		}
	}
	return fields, nil
}

// Stored gives the values of [Program.Columns] from columns kept in the ledger.
// missing names those that the rules need and stored does not have.
func (p *Program) Stored(stored map[string]sources.Value) (values []sources.Value, missing []string) {
	values = make([]sources.Value, len(p.needs))
	for i, n := range p.needs {
		v, ok := stored[n.Column]
		if !ok {
			missing = append(missing, n.Column)
		}
		values[i] = v
	}
	return values, missing
}

func (r *rule) origin() string {
	switch {
	case r.Column != "":
		return "column " + r.Column
	case r.Const != nil:
		return "const"
	}
	return "expr"
}

// apply gives the field's text; "" leaves it out.
func (r *rule) apply(needs []sources.Need, values []sources.Value, origin Origin) (string, error) {
	v, err := r.input(needs, values, origin)
	if err != nil {
		if r.Invalid == "omit" && v.Kind >= sources.Local {
			return "", nil
		}
		return "", err
	}
	text, isTime, err := r.shape(v)
	if err != nil {
		return "", err
	}
	if text == "" && !isTime {
		if r.Default != nil {
			return *r.Default, nil
		}
		return "", nil
	}
	switch r.field.Kind {
	case KindTime:
		t, err := r.when(v, text, isTime)
		if err == nil {
			err = r.future(t, origin.Now, v, text)
		}
		if err != nil && r.Invalid == "omit" {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return gateText(t), nil
	case KindEnum:
		if !slices.Contains(r.field.Enum, text) {
			return "", fmt.Errorf("%q is not a value of it; the gate takes %s; map it with values", text, strings.Join(r.field.Enum, ", "))
		}
	}
	return text, nil
}

// input gives the value that the rule starts from.
func (r *rule) input(needs []sources.Need, values []sources.Value, origin Origin) (sources.Value, error) {
	switch {
	case r.Const != nil:
		return sources.Value{Kind: sources.Text, Text: *r.Const}, nil
	case r.expr != nil:
		m := r.expr.machine()
		defer r.expr.machines.Put(m)
		m.env["revision"], m.env["table"], m.env["period"] = origin.Revision, origin.Table, origin.Period
		for _, i := range r.columns {
			x, err := r.exprValue(values[i])
			if err != nil {
				return sources.Value{Kind: values[i].Kind}, fmt.Errorf("column %s: %w", needs[i].Column, err)
			}
			m.env[needs[i].Column] = x
		}
		return r.expr.run(m)
	}
	return values[r.columns[0]], nil
}

// shape runs trim, transform and values. isTime reports that the value is a
// date-time of the database and went through untouched.
func (r *rule) shape(v sources.Value) (text string, isTime bool, err error) {
	if v.IsNull() {
		return "", false, nil
	}
	if r.field.Kind == KindTime && v.Kind >= sources.Local && r.Values == nil {
		return "", true, nil
	}
	if text, err = r.asText(v); err != nil || text == "" {
		return "", false, err
	}
	for _, t := range r.Transform {
		text = transforms[t](text)
	}
	if text == "" || r.Values == nil {
		return text, false, nil
	}
	to, ok := r.Values[text]
	switch {
	case ok:
		return to, false, nil
	case r.Otherwise != nil:
		return *r.Otherwise, false, nil
	}
	return "", false, fmt.Errorf("%q is in no entry of values, and there is no otherwise; add it to values, or say with otherwise what others become", text)
}

func (r *rule) when(v sources.Value, text string, isTime bool) (time.Time, error) {
	if isTime {
		return r.instant(v)
	}
	number := v.Kind == sources.Int || v.Kind == sources.Float || v.Kind == sources.Decimal
	return r.parseTime(text, number && r.Values == nil)
}
