package bridge

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

// mapper makes the contents of records of a source's rows. It is for one
// goroutine at a time.
type mapper struct {
	s       *Source
	columns []string
	hasher  *sources.Hasher
	// ids are the columns that a key re-used for another row differs in.
	ids      []int
	identity *sources.Hasher // nil: there are none
	fields   []mappedField   // sorted by name
	texts    []string        // of the program's fields, for the row at hand
	some     []sources.Value // the values of ids
	buf      []byte
}

type mappedField struct {
	name string
	at   int // in texts
}

// mapper readies the mapping of rows with these columns.
func (s *Source) mapper(columns []string) *mapper {
	m := &mapper{s: s, columns: columns, hasher: sources.NewHasher(columns), ids: s.Program.Reads(sink.FieldOperateTime, sink.FieldParkingSerial)}
	if len(m.ids) > 0 {
		var names []string
		for _, at := range m.ids {
			names = append(names, columns[at])
		}
		m.identity = sources.NewHasher(names)
	}
	for at, name := range s.Program.Fields() {
		m.fields = append(m.fields, mappedField{name, at})
	}
	slices.SortFunc(m.fields, func(a, b mappedField) int { return strings.Compare(a.name, b.name) })
	return m
}

// hashes gives a row's content hash and that of its identity, "" where it has
// none.
func (m *mapper) hashes(values []sources.Value) (content, identity string) {
	return m.hasher.Hash(values), m.identityOf(values)
}

func (m *mapper) identityOf(values []sources.Value) string {
	if m.identity == nil {
		return ""
	}
	m.some = m.some[:0]
	for _, at := range m.ids {
		m.some = append(m.some, values[at])
	}
	return m.identity.Hash(m.some)
}

// mapped maps a row, and gives what is to be sent of it; nil where it does not
// map. Columns and hashes are left to the caller.
func (m *mapper) mapped(values []sources.Value, origin mapping.Origin) (sink.Fields, ledger.Content) {
	texts, problems := m.s.Program.Apply(m.texts[:0], values, origin)
	if problems != nil {
		c := ledger.Content{}
		for _, p := range problems {
			c.Problems = append(c.Problems, ledger.Problem(p))
		}
		return nil, c
	}
	m.texts = texts
	out := make(sink.Fields, 0, len(m.fields))
	for _, f := range m.fields {
		if texts[f.at] != "" {
			out = append(out, sink.Part{Name: f.name, Value: texts[f.at]})
		}
	}
	c := ledger.Content{Day: m.s.day(out.Get(sink.FieldOperateTime))}
	m.buf = appendFields(m.buf[:0], out)
	c.Fields = string(m.buf)
	c.ParkUUID, c.FlowNo, c.ParkingSerial = out.Get(sink.FieldParkUUID), out.Get(sink.FieldFlowNo), out.Get(sink.FieldParkingSerial)
	return out, c
}

// content maps a row and gives what its record holds.
func (m *mapper) content(values []sources.Value, origin mapping.Origin) (sink.Fields, ledger.Content) {
	fields, c := m.mapped(values, origin)
	c.Columns = m.row(values)
	c.Hash, c.Identity = m.hashes(values)
	return fields, c
}

// row is what the ledger keeps of a row as it was read.
func (m *mapper) row(values []sources.Value) string {
	m.buf = sources.AppendRow(m.buf[:0], m.columns, values)
	return string(m.buf)
}

// appendFields appends fields as a JSON object of texts.
func appendFields(b []byte, fields sink.Fields) []byte {
	b = append(b, '{')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = sources.AppendJSON(append(sources.AppendJSON(b, f.Name), ':'), f.Value)
	}
	return append(b, '}')
}

// decodeFields reads what appendFields writes, and any other JSON object of texts.
func decodeFields(s string) (sink.Fields, error) {
	if fields, ok := plainFields(s); ok {
		return fields, nil
	}
	var fields map[string]string
	if err := json.Unmarshal([]byte(s), &fields); err != nil {
		return nil, err
	}
	return sink.FieldsOf(fields), nil
}

// plainFields reads an object of sorted names and texts in which nothing is
// escaped; ok is false for any other.
func plainFields(s string) (fields sink.Fields, ok bool) {
	if !utf8.ValidString(s) || strings.ContainsRune(s, '\\') {
		return nil, false
	}
	fields = make(sink.Fields, 0, strings.Count(s, `":"`)+2)
	for first := true; ; first = false {
		open := `,"`
		if first {
			open = `{"`
		}
		name, rest, named := strings.Cut(strings.TrimPrefix(s, open), `":"`)
		value, after, ended := strings.Cut(rest, `"`)
		if !strings.HasPrefix(s, open) || !named || !ended || strings.Contains(name, `"`) || value == "" ||
			(!first && fields[len(fields)-1].Name >= name) || strings.ContainsFunc(name+value, unicode.IsControl) {
			return nil, false
		}
		fields = append(fields, sink.Part{Name: name, Value: value})
		if s = after; s == "}" {
			return fields, true
		}
	}
}

// day is the day of an operate_time in the source's zone; "" where it is none.
func (s *Source) day(operated string) string {
	t, err := time.Parse(time.RFC3339, operated)
	if err != nil {
		return ""
	}
	return t.In(s.zone()).Format(time.DateOnly)
}

func (s *Source) zone() *time.Location {
	if s.Location == nil {
		return time.UTC
	}
	return s.Location
}
