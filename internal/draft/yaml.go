package draft

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	prettytext "github.com/jedib0t/go-pretty/v6/text"
)

// width is how wide comments may be.
const width = 100

// Decision is a line of the config that a person must decide.
type Decision struct {
	Line int    `json:"line"` // from 1
	Text string `json:"text"`
}

// page is a config as it is written.
type page struct {
	b         strings.Builder
	lines     int
	decisions []Decision
}

// add writes a line, with a comment behind it where note is not empty.
func (p *page) add(text, note string) {
	if note != "" {
		text = prettytext.Pad(text, 40, ' ') + " # " + note
	}
	p.b.WriteString(text + "\n")
	p.lines++
}

// remark writes a comment of its own lines.
func (p *page) remark(indent int, text string) {
	for i, line := range wrapped(text, width-indent-4) {
		lead := "# "
		if i > 0 {
			lead = "#   "
		}
		p.add(strings.Repeat(" ", indent)+lead+line, "")
	}
}

// decide writes what a person must decide about the next line.
func (p *page) decide(indent int, text string, args ...any) {
	text = fmt.Sprintf(text, args...)
	p.decisions = append(p.decisions, Decision{p.lines + 1, text})
	p.remark(indent, "DECIDE: "+text)
}

func wrapped(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && prettytext.StringWidth(line+" "+word) > width {
			lines, line = append(lines, line), word
			continue
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

var plainScalar = pattern(`^[\p{L}\p{N}_]([\p{L}\p{N}_ ./-]*[\p{L}\p{N}_])?$`)

// scalar writes a text as one YAML scalar, inside brackets too. Nothing but a
// null means anything to a config unless it is text.
func scalar(s string) string {
	if plainScalar().MatchString(s) && !slices.Contains([]string{"null", "~"}, strings.ToLower(s)) {
		return s
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s) // the escapes of Go are YAML's too
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// list writes a YAML list, one item without brackets.
func list(items []string, write func(string) string) string {
	if len(items) == 1 {
		return write(items[0])
	}
	out := make([]string, len(items))
	for i, s := range items {
		out[i] = write(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// quoted writes a pattern of times.
func quoted(s string) string {
	if plainScalar().MatchString(s) && !strings.Contains(s, " ") {
		return s
	}
	return `"` + s + `"`
}

// rule is a rule of the mapping in the making.
type rule struct {
	column string
	parts  []string // what stands beside the column, as written
}

func (r *rule) with(key, value string) { r.parts = append(r.parts, key+": "+value) }

func (r *rule) String() string {
	if len(r.parts) == 0 {
		return scalar(r.column)
	}
	parts := r.parts
	if r.column != "" {
		parts = append([]string{"column: " + scalar(r.column)}, parts...)
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}
