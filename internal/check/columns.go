package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

// kind is what a column's declared type holds.
type kind uint8

const (
	unknown kind = iota
	aNumber
	aFloat
	aText
	aTime // a date, with or without a time of day
	aClock
	aBool
	bytes
)

var kindNames = [...]string{"", "a number", "a floating-point number", "a text", "a date-time", "a time of day without a date", "a yes or no", "binary"}

// kindOf reads a declared type. It is unknown where types bind nothing (SQLite),
// or where the engine's name for it is not among these.
func kindOf(c sources.Column) kind {
	typ := strings.TrimPrefix(strings.ToLower(c.Type), "unsigned ")
	typ, _, _ = strings.Cut(typ, "(")
	typ = strings.TrimSpace(typ)
	switch {
	case c.Loose:
		return unknown
	case c.Integer:
		return aNumber
	case c.IsText:
		return aText
	case c.Binary:
		return bytes
	case strings.HasPrefix(typ, "timestamp"), strings.HasPrefix(typ, "datetime"), typ == "date", typ == "smalldatetime":
		return aTime
	case strings.HasPrefix(typ, "time"):
		return aClock
	case slices.Contains([]string{"float", "double", "double precision", "real"}, typ):
		return aFloat
	case slices.Contains([]string{"numeric", "decimal", "money", "smallmoney", "year"}, typ):
		return aNumber
	case typ == "boolean", typ == "bit":
		return aBool
	}
	return unknown
}

// columns holds the types of columns against what their rules make of them.
func (s *source) columns() {
	types := map[string]sources.Column{}
	for i, need := range s.needs {
		types[need.Column] = s.reader.Mapped()[i]
	}
	contract := map[string]sink.Field{}
	for _, f := range sink.Contract() {
		contract[f.Name] = f
	}
	found := false
	for _, name := range slices.Sorted(maps.Keys(s.Mapping)) {
		rule := s.Mapping[name]
		column, read := types[rule.Column]
		if !read {
			continue // const, expr, or not there
		}
		level, problem, what := unfit(rule, contract[name], column, s.Charset)
		if level == OK {
			continue
		}
		found = true
		err := s.place(&sources.ConfigError{Source: s.Name, Key: "mapping." + name, Problem: fmt.Sprintf("reads the column %s, which is %s (%s); %s", rule.Column, kindNames[kindOf(column)], strings.ToLower(column.Type), problem)})
		r := Result{Source: s.Name, Check: "columns", Level: level, Found: err.Error(), Do: do(what)}
		if level == Fail {
			r.Fault = Config
		}
		s.tell(r)
	}
	if !found && !s.missing {
		s.ok("columns", "all %d are there%s", len(types), map[bool]string{true: ", and their types fit the rules"}[s.typed()])
	}
}

// typed reports whether types say anything: in SQLite they bind nothing.
func (s *source) typed() bool {
	return !slices.ContainsFunc(s.reader.Order(), func(c sources.Column) bool { return c.Loose })
}

// unfit says what is wrong with a column for a rule, and what to do; OK where
// nothing is that the type could tell.
func unfit(rule mapping.Rule, field sink.Field, column sources.Column, charset string) (level Level, problem, what string) {
	k := kindOf(column)
	switch {
	case field.Kind == sink.KindTime && rule.Values == nil:
		switch {
		case (k == aNumber || k == aFloat) && len(rule.Format) == 0:
			return Fail, "a time needs to know how it is counted", "give the rule its format, such as unix, unix_ms, ole or yyyyMMddHHmmss"
		case k == aClock:
			return Fail, "a time needs a date too", "join it with the column of its date in an expr; Mapping by example in the README has how"
		case k == aBool, k == bytes:
			return Fail, "that is no time", "name the column that holds the time"
		}
	case field.Kind == sink.KindEnum && rule.Values == nil && (k == aTime || k == bytes):
		return Fail, "the gate takes " + strings.Join(field.Enum, ", "), "name another column, or translate its values with values"
	case k == bytes && rule.Charset == "" && charset == "":
		return Warn, "its bytes are read as UTF-8", "give the rule the charset that the text is in, such as gbk, or name another column"
	case k == aFloat && (field.Name == sink.FieldFlowNo || field.Name == sink.FieldParkingSerial):
		return Warn, "digits beyond the 15th are lost", "name a column of whole numbers or of text"
	}
	return OK, "", ""
}
