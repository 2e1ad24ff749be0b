package draft

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	prettytext "github.com/jedib0t/go-pretty/v6/text"
)

// writeMapping writes a rule for each field of the gate.
func (c *Candidate) writeMapping(p *page) {
	p.add("    mapping:", "gate field: column, or rule")
	c.writeRule(p, "flow_no", c.flowRule(), "from the key, so that no two rows have the same")
	c.writeSerial(p)
	c.writePlate(p)
	c.writeWords(p, "plate_color", colours, "-1")
	c.writeWords(p, "car_type", carTypes, "0")
	if g := c.fields["car_type"]; g != nil && !codes(g.column.texts) && g.column.textual() {
		c.writeRule(p, "car_desc", (&rule{column: g.column.Name}).String(), "")
	}
	c.writeTime(p, "enter_time")
	c.writeTime(p, "leave_time")
	c.writeTime(p, "operate_time")
	c.writeText(p, "operator", "未知", "the name of who opened the barrier")
	c.writeText(p, "reason", "未填写", "why it was opened")
	c.writeRest(p)
}

func (c *Candidate) writeRule(p *page, field, rule, note string) {
	line := "      " + prettytext.Pad(field+":", 16, ' ') + rule
	if note != "" {
		line = prettytext.Pad(line, 60, ' ') + "   # " + note
	}
	p.add(line, "")
}

// because says what speaks for a guess.
func (c *Candidate) because(field string, g *guess) string {
	word := "a guess"
	switch {
	case g.sure():
		word = "sure"
	case g.likely():
		word = "likely"
	}
	col := g.column
	n := len(col.texts)
	switch field {
	case "plate":
		if col.plates > 0 {
			return fmt.Sprintf("%s: %d of %d sampled values are plates", word, col.plates, n)
		}
	case "operate_time", "enter_time", "leave_time":
		if col.times.misses > 0 && g.clock == nil {
			return fmt.Sprintf("%s: %d of %d sampled values are times", word, len(col.values)-col.times.misses, len(col.values))
		}
	}
	named, _ := col.name.says(fieldWords, field)
	commented, _ := col.comment.says(fieldWords, field)
	switch {
	case named == 0 && commented == 0:
		return word + ": by what it holds"
	case commented > named:
		return word + ": by its comment"
	}
	return word + ": by its name"
}

// unsure asks a person about a guess that is no more than that.
func (c *Candidate) unsure(p *page, field string, g *guess) {
	if !g.likely() && !g.borrowed {
		p.decide(6, "is %s the %s? That is a guess, %s.", g.column.Name, strings.ReplaceAll(field, "_", " "), strings.TrimPrefix(c.because(field, g), "a guess: "))
	}
}

// flowRule numbers a release by its key; in a series of tables numbers may
// start again in each.
func (c *Candidate) flowRule() string {
	key, _ := c.key()
	return exprRule(c.keyExpr(`"EX" + `, key))
}

func (c *Candidate) keyExpr(lead string, key []string) string {
	if c.Name != c.Table().String() {
		lead += `period + "-" + `
	}
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = "string(" + exprName(k) + ")"
	}
	return lead + strings.Join(parts, ` + "-" + `)
}

func exprRule(expr string) string { return "{ expr: " + scalar(expr) + " }" }

func (c *Candidate) writeSerial(p *page) {
	const field = "parking_serial"
	g := c.fields[field]
	if g == nil {
		key, _ := c.key()
		p.decide(6, "which column has the id of the entry record? None looks like it; this is the row's own key.")
		c.writeRule(p, field, exprRule(c.keyExpr("", key)), "")
		return
	}
	c.unsure(p, field, g)
	c.warnEmpty(p, g.column)
	c.writeRule(p, field, scalar(g.column.Name), c.because(field, g))
}

// warnEmpty asks what becomes of rows without a value that the gate requires.
func (c *Candidate) warnEmpty(p *page, col *column) {
	if col.empty > 0 {
		p.decide(6, "%d of %d sampled rows have no %s. Such rows are kept as invalid, unless the rule has a default: { column: %s, default: TEXT }.",
			col.empty, col.rows, col.Name, scalar(col.Name))
	}
}

func (c *Candidate) writePlate(p *page) {
	g := c.fields["plate"]
	if g == nil {
		p.decide(6, "which column has the plate? None looks like it.")
		c.writeRule(p, "plate", "{ const: 未识别 }", "")
		return
	}
	c.unsure(p, "plate", g)
	c.warnEmpty(p, g.column)
	r := &rule{column: g.column.Name}
	if t := g.column.transform; t != nil {
		r.with("transform", "["+strings.Join(t, ", ")+"]")
	}
	c.writeRule(p, "plate", r.String(), c.because("plate", g))
}

// writeWords writes a rule for an optional field of few values.
func (c *Candidate) writeWords(p *page, field string, meanings []meaning, otherwise string) {
	g := c.fields[field]
	if g == nil {
		return
	}
	c.unsure(p, field, g)
	col := g.column
	words := enumeration(col.texts)
	if words == nil { // too many, or none seen
		p.decide(6, "which words does %s hold, and what do they mean to the gate? Write them as values.", col.Name)
		for _, m := range meanings {
			if m.part[0] >= 0x80 && !slices.Contains(words, m.part) {
				words = append(words, m.part)
			}
		}
	}
	slices.SortFunc(words, func(a, b string) int {
		return cmp.Or(strings.Compare(mean(meanings, a), mean(meanings, b)), strings.Compare(a, b))
	})
	repeated := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return count(w, col.texts) < 2 })
	var values, open []string
	for _, w := range words {
		v := mean(meanings, w)
		switch {
		case v != "":
			values = append(values, scalar(w)+": "+v)
		case codes(col.texts):
			values = append(values, scalar(w)+": "+otherwise)
			open = append(open, w)
		case slices.Contains(repeated, w):
			open = append(open, w)
		}
	}
	if open != nil {
		p.decide(6, "what does %s mean by %s? For now %s is sent, which is unknown.", col.Name, strings.Join(open, ", "), otherwise)
	}
	r := &rule{column: col.Name}
	if values == nil {
		values = []string{scalar(meanings[1].part) + ": " + meanings[1].value}
	}
	r.with("values", "{ "+strings.Join(values, ", ")+" }")
	r.with("otherwise", otherwise)
	c.writeRule(p, field, r.String(), c.because(field, g))
}

func count(s string, texts []string) int {
	n := 0
	for _, t := range texts {
		if t == s {
			n++
		}
	}
	return n
}

func (c *Candidate) writeTime(p *page, field string) {
	g := c.fields[field]
	required := field == "operate_time"
	switch {
	case g == nil && required:
		p.decide(6, "which column has the time at which the barrier was opened? None looks like it.")
		c.writeRule(p, field, "TIME", "")
		return
	case g == nil:
		return
	case g.borrowed:
		p.decide(6, "no column looks like the time of the operation; %s is another one. Is it near enough?", g.column.Name)
	}
	c.unsure(p, field, g)
	col := g.column
	if required {
		c.warnEmpty(p, col)
	}
	r := &rule{column: col.Name}
	switch formats := col.times.named(); {
	case g.clock != nil:
		r = &rule{}
		r.with("expr", scalar(c.joined(g, required)))
		pattern := " HH:mm"
		if g.clock.clockSeconds {
			pattern = " HH:mm:ss"
		}
		r.with("format", quoted(formats[0]+pattern))
	case len(col.values) == 0 && !col.temporal():
		p.decide(6, "how is the time written in %s? There was no row to see it in. Name its format.", col.Name)
		r.with("format", `"yyyy-MM-dd HH:mm:ss"`)
	case formats != nil:
		r.with("format", list(formats, quoted))
	}
	if !required && col.times.misses > 0 {
		r.with("invalid", "omit")
	}
	c.writeRule(p, field, r.String(), c.because(field, g))
}

// joined is the expression for a time in two columns.
func (c *Candidate) joined(g *guess, required bool) string {
	day, clock := exprName(g.column.Name), exprName(g.clock.Name)
	expr := day + ` + " " + ` + clock
	if !required && g.column.empty+g.clock.empty > 0 {
		return day + " != nil && " + clock + " != nil ? " + expr + " : nil"
	}
	return expr
}

// writeText writes the rule of a required text that has a stand-in.
func (c *Candidate) writeText(p *page, field, standIn, what string) {
	g := c.fields[field]
	if g == nil {
		p.decide(6, "which column has %s? None looks like it; every release says %s.", what, standIn)
		c.writeRule(p, field, "{ const: "+standIn+" }", "")
		return
	}
	c.unsure(p, field, g)
	if codes(g.column.texts) || len(g.column.texts) == 0 && g.column.integer() {
		p.decide(6, "%s holds numbers. Give each its words with values, or read a query that joins the table that has them.", g.column.Name)
	}
	r := &rule{column: g.column.Name}
	r.with("default", standIn)
	c.writeRule(p, field, r.String(), c.because(field, g))
}

// writeRest names what is left over, for a person to look at.
func (c *Candidate) writeRest(p *page) {
	var missing []string
	for _, f := range []string{"plate_color", "car_type", "enter_time", "leave_time"} {
		if c.fields[f] == nil {
			missing = append(missing, f)
		}
	}
	if missing != nil {
		p.remark(6, "Left out, because no column looks like them: "+strings.Join(missing, ", ")+".")
	}
	var unused, unread []string
	key, _ := c.key()
	for _, col := range c.columns {
		switch {
		case c.uses(col) || slices.Contains(key, col.Name):
		case heavy(col.TableColumn):
			unread = append(unread, col.Name)
		default:
			unused = append(unused, col.Name)
		}
	}
	if unused != nil {
		p.remark(6, "Columns that no rule uses: "+strings.Join(unused, ", ")+".")
	}
	if unread != nil {
		p.remark(6, "Columns that are never read, pictures by their type or name: "+strings.Join(unread, ", ")+".")
	}
}

// uses reports whether a rule reads a column.
func (c *Candidate) uses(col *column) bool {
	for _, g := range c.fields {
		if g.column == col || g.clock == col {
			return true
		}
	}
	return false
}
