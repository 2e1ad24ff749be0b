package check

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

const (
	// problemsTold is how many distinct problems of the mapping are told.
	problemsTold = 20
	// A parking serial is taken for a placeholder where more than one row in
	// serialShare, and at least serialRows, have it.
	serialShare, serialRows = 100, 3
	// ahead is how far lanes' clocks are let be ahead of this one.
	ahead = 10 * time.Minute
)

// seenFlow is where a flow_no was seen first.
type seenFlow struct{ source, key string }

// Map maps a row as a run would that read it now, but for what only the ledger
// knows. A row that is not ready would be held, whatever it maps to.
func Map(p *mapping.Program, origin mapping.Origin, values []sources.Value) (fields map[string]string, problems []mapping.FieldError, ready bool) {
	fields, problems = p.Map(values, origin)
	ready, problem := p.Ready(values, origin)
	if problem != nil {
		return nil, append(problems, *problem), true
	}
	return fields, problems, ready
}

// checkMapping maps the newest rows, and looks at what comes of them.
func (s *source) checkMapping() {
	rows := s.sample.Rows
	if len(rows) == 0 {
		s.ok("mapping", "there are no rows yet to try it on")
		return
	}
	found := problems{}
	serials := map[string]int{}
	var newest time.Time
	mapped, twice := 0, ""
	clashes, held, nulls, unknown := 0, 0, 0, 0
	for _, row := range rows {
		fields, errs, ready := Map(s.Program, mapping.Origin{Table: s.Table, Period: s.period.String(), Now: s.c.Now()}, row.Values)
		if !ready {
			held++
			continue
		}
		for _, e := range errs {
			found.add(e, row.Key)
			if e.Field == mapping.FieldReady {
				unknown++
			}
		}
		if errs != nil {
			continue
		}
		if slices.ContainsFunc(s.Program.Reads(mapping.FieldReady), func(at int) bool { return row.Values[at].IsNull() }) {
			nulls++
		}
		mapped++
		serials[fields[sink.FieldParkingSerial]]++
		if t, err := time.Parse(time.RFC3339, fields[sink.FieldOperateTime]); err == nil && t.After(newest) {
			newest = t
		}
		if text := s.clash(fields, row.Key); text != "" {
			clashes++
			if twice == "" {
				twice = text
			}
		}
	}
	s.tellReady(held, len(rows), nulls, unknown)
	if held == len(rows) {
		return
	}
	s.tellMapped(found, mapped, len(rows)-held, newest)
	if clashes > 0 {
		s.fail("flow_no", Config, do("make flow_no of what identifies a row, such as { expr: '\"EX\" + string(id)' }, with something of the source's own before it; the platform ignores the second of two, and parkbridge keeps it as invalid"),
			"a flow_no is made twice, in %s: %s", ofNewest(clashes, len(rows)), twice)
	} else if mapped > 0 {
		s.ok("flow_no", "each of %d is the only one", mapped)
	}
	s.tellSerials(serials, mapped)
}

// clash says which row had a row's flow_no before; "" where none had.
func (s *source) clash(fields map[string]string, key string) string {
	flow := fields[sink.FieldFlowNo]
	id := flow + "\x00" + fields[sink.FieldParkUUID]
	first, taken := s.c.flows[id]
	if !taken {
		s.c.flows[id] = seenFlow{s.Name, key}
		return ""
	}
	other := "key " + first.key
	if first.source != s.Name {
		other = "key " + first.key + " of source " + first.source
	}
	return fmt.Sprintf("%s, of key %s and of %s", flow, key, other)
}

// tellReady tells how many rows would be held, and how many are ready with a NULL
// in a column that the condition names: NULL is another value than "". Of unknown
// rows it tells neither.
func (s *source) tellReady(held, all, nulls, unknown int) {
	switch {
	case s.Ready == "":
	case nulls > 0 && !strings.Contains(s.Ready, "nil") && !strings.Contains(s.Ready, "??"):
		s.warn("ready", do(`if such rows are not to be sent yet, say what NULL counts as, as in (column ?? "") != ""`),
			`not ready yet, and would be held: %s; but %d are ready though a column of ready is NULL, which is another value than ""`, ofNewest(held, all), nulls)
	case held == all:
		s.warn("ready", do("see whether the expression says what is meant: parkbridge preview --source "+s.Name+" shows what the columns hold"), "none of the newest %d rows is ready, and so none would be sent", all)
	case held > 0:
		s.ok("ready", "not ready yet, and would be held: %s", ofNewest(held, all))
	case unknown == 0:
		s.ok("ready", "all of the newest %d rows", all)
	}
}

// tellMapped tells how many rows map, how old the newest is, and each distinct
// problem once.
func (s *source) tellMapped(found problems, mapped, all int, newest time.Time) {
	text := fmt.Sprintf("%s map", ofNewest(mapped, all))
	if all < len(s.sample.Rows) {
		text = fmt.Sprintf("of %d rows that are ready %d map", all, mapped)
	}
	since := s.c.Now().Sub(newest)
	if mapped > 0 {
		text += "; the newest release is of " + newest.In(s.Location).Format("2006-01-02 15:04") + " by the lot's clock, " + age(since)
	}
	switch {
	case mapped == 0:
		s.fail("mapping", Config, do("mend the rules named below, or the table is another than was meant"), "none of the newest %d rows maps", all)
	case mapped < all:
		s.warn("mapping", do("mend the rules named below; rows that do not map are kept as invalid, and hold nothing up"), "%s", text)
	case -since > ahead:
		s.warn("mapping", do("see whether timezone, or the rule's, is the zone of the lot's clocks; else one of those clocks is wrong"), "%s", text)
	default:
		s.ok("mapping", "%s", text)
	}
	list := found.list()
	for i, p := range list {
		if i == problemsTold {
			s.warn("mapping", do("mend those above first"), "%d more problems of other kinds", len(list)-problemsTold)
			return
		}
		s.warn("mapping", do("parkbridge preview --source "+s.Name+" --key "+quoted(p.key)+" shows the row"), "%s", p.String())
	}
}

// quoted makes one word of a key for a command line.
func quoted(key string) string {
	if strings.ContainsAny(key, " \"'[]$&|<>;*?") {
		return "'" + strings.ReplaceAll(key, "'", `'\''`) + "'"
	}
	return key
}

// age says how long ago a moment was.
func age(d time.Duration) string {
	word := "ago"
	if d < 0 {
		d, word = -d, "ahead of this PC's clock"
	}
	switch {
	case d >= 48*time.Hour:
		return days(d) + " " + word
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours %s", int(d.Hours()), word)
	}
	if n := int(d.Minutes()); n != 1 {
		return fmt.Sprintf("%d minutes %s", n, word)
	}
	return "1 minute " + word
}

// tellSerials finds parking serials that stand for no parking.
func (s *source) tellSerials(serials map[string]int, mapped int) {
	var shared []string
	for serial, n := range serials {
		if n >= serialRows && n*serialShare > mapped && !slices.Contains(s.c.Config.Sink.UnorderedSerials, serial) {
			shared = append(shared, serial)
		}
	}
	if shared == nil {
		if mapped > 0 {
			s.ok("parking_serial", "none is shared by many rows")
		}
		return
	}
	slices.SortFunc(shared, func(a, b string) int { return cmp.Or(cmp.Compare(serials[b], serials[a]), cmp.Compare(a, b)) })
	var names, counts []string
	for _, serial := range shared[:min(len(shared), 5)] {
		names, counts = append(names, fmt.Sprintf("%q", serial)), append(counts, fmt.Sprintf("%q is that of %d", serial, serials[serial]))
	}
	more := ""
	if len(shared) > 5 {
		more = fmt.Sprintf(" and %d more are those of many", len(shared)-5)
	}
	s.warn("parking_serial", do("if it stands for no parking, say sink.unordered_serials: ["+strings.Join(names, ", ")+"]; records of one serial go one after another, and thousands of one go slowly"),
		"of %d rows, %s%s", mapped, strings.Join(counts, ", "), more)
}

// problem is one kind of problem of one field.
type problem struct {
	mapping.FieldError
	rows   int
	key    string   // of the first row that has it
	values []string // the values that it was about, each once
}

// problems gathers them by field and kind.
type problems map[string]*problem

var inQuotes = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// ofRow is what else a message says of one row alone: the times that a value
// stands for, and stored bytes with their place.
var ofRow = regexp.MustCompile(` at byte \d+: [^;]*| is \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?`)

func (p problems) add(e mapping.FieldError, key string) {
	form := e.Field + ": " + ofRow.ReplaceAllString(inQuotes.ReplaceAllString(e.Problem, `""`), "")
	one, ok := p[form]
	if !ok {
		one = &problem{FieldError: e, key: key}
		p[form] = one
	}
	one.rows++
	if value := inQuotes.FindString(e.Problem); value != "" && len(one.values) < 6 && !slices.Contains(one.values, value) {
		one.values = append(one.values, value)
	}
}

// list gives the most frequent first.
func (p problems) list() []*problem {
	list := slices.Collect(maps.Values(p))
	slices.SortFunc(list, func(a, b *problem) int {
		return cmp.Or(cmp.Compare(b.rows, a.rows), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Problem, b.Problem))
	})
	return list
}

// personal are the fields whose values are no one else's business.
var personal = []string{sink.FieldPlate, "operator", mapping.FieldReady}

func (p *problem) String() string {
	text := p.Problem
	if slices.Contains(personal, p.Field) {
		text = ofRow.ReplaceAllString(inQuotes.ReplaceAllString(text, "a value"), "")
		return fmt.Sprintf("%s: %s; in %s, such as key %s", p.Field, text, count(p.rows), p.key)
	}
	text = fmt.Sprintf("%s: %s; in %s, such as key %s", p.Field, text, count(p.rows), p.key)
	if len(p.values) > 1 {
		text += "; also " + strings.Join(p.values[1:min(len(p.values), 5)], ", ")
		if len(p.values) > 5 {
			text += " and others"
		}
	}
	return text
}

func count(rows int) string {
	if rows == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", rows)
}
