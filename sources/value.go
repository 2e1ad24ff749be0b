package sources

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind tells what the database said a value is.
type Kind uint8

// The kinds of a [Value].
const (
	Null    Kind = iota // SQL NULL
	Bool                // "true" or "false"
	Int                 // an integer of any width, in decimal digits
	Float               // a binary floating-point number
	Decimal             // an exact decimal, with the scale the database gave it
	Text                // valid UTF-8
	Bytes               // raw bytes: a binary column, or text that is not UTF-8
	Local               // a date or date-time without a zone
	Time                // a date-time with a zone, or an instant
	Bad                 // a value the column's type allows and the calendar does not, such as 0000-00-00; or text that its character set does not have
)

var kindNames = [...]string{"null", "bool", "int", "float", "decimal", "text", "bytes", "local", "time", "bad"}

func (k Kind) String() string { return kindNames[k] }

// Value is one column of one row, in the text form the database would parse
// back without loss. Nothing is rounded and nothing is converted on the way in:
// integers beyond 2^53, exact decimals and microseconds survive.
// The zero Value is NULL.
type Value struct {
	Kind Kind
	Text string // for Bytes the raw bytes; empty for Null
}

// IsNull reports whether the value is SQL NULL.
func (v Value) IsNull() bool { return v.Kind == Null }

const localLayout = "2006-01-02 15:04:05"

// Wall parses a Local value. The result carries the wall clock in UTC and no
// claim about the zone. A date without a time is its midnight.
func (v Value) Wall() (time.Time, error) {
	layout := localLayout
	if len(v.Text) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	return time.Parse(layout, v.Text)
}

// Instant parses a Time value.
func (v Value) Instant() (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", time.RFC3339Nano} {
		if t, err := time.Parse(layout, v.Text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date-time with a zone", v.Text)
}

// Checked gives the value back or, where it is a date-time that no calendar
// holds (0000-00-00, infinity, a year BC), a Bad one with the same text.
func (v Value) Checked() Value {
	parse := v.Wall
	if v.Kind == Time {
		parse = v.Instant
	}
	if _, err := parse(); err != nil {
		v.Kind = Bad
	}
	return v
}

// TextOrBytes wraps text that came from a text column: Text where it is valid
// UTF-8, Bytes where it is not or where raw bytes were asked for.
func TextOrBytes(s string, raw bool) Value {
	if raw || !utf8.ValidString(s) {
		return Value{Bytes, s}
	}
	return Value{Text, s}
}

// MarshalJSON writes the form kept in the ledger. NULL, booleans, integers and
// text are their JSON selves; every other kind is an object of one key, the
// name of the kind. [Value.UnmarshalJSON] gives the same Value back.
func (v Value) MarshalJSON() ([]byte, error) { return v.appendJSON(nil), nil }

// AppendJSON appends a text as a JSON string.
func AppendJSON(dst []byte, s string) []byte {
	if plainJSON(s) {
		return append(append(append(dst, '"'), s...), '"')
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return append(dst, bytes.TrimRight(b.Bytes(), "\n")...)
}

// plainJSON reports that a text stands in JSON as it is.
func plainJSON(s string) bool {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == '"' || c == '\\':
			return false
		case c == 0xe2 && (strings.HasPrefix(s[i:], "\u2028") || strings.HasPrefix(s[i:], "\u2029")):
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(s)
}

// appendJSON appends the form of [Value.MarshalJSON].
func (v Value) appendJSON(dst []byte) []byte {
	switch v.Kind {
	case Null:
		return append(dst, "null"...)
	case Bool, Int:
		return append(dst, v.Text...)
	case Text:
		return AppendJSON(dst, v.Text)
	case Bytes:
		dst = append(dst, `{"bytes":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, []byte(v.Text))
		return append(dst, `"}`...)
	default:
		dst = append(append(append(dst, `{"`...), v.Kind.String()...), `":`...)
		return append(AppendJSON(dst, v.Text), '}')
	}
}

// UnmarshalJSON reads what [Value.MarshalJSON] wrote.
func (v *Value) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return fmt.Errorf("reading a stored value: nothing there")
	}
	switch b[0] {
	case 'n':
		*v = Value{}
	case 't', 'f':
		*v = Value{Bool, string(b)}
	case '"':
		v.Kind = Text
		return json.Unmarshal(b, &v.Text)
	case '{':
		var m map[string]string
		if err := json.Unmarshal(b, &m); err != nil {
			return err
		}
		for k := Float; k <= Bad; k++ {
			if s, ok := m[k.String()]; ok && len(m) == 1 {
				*v = Value{k, s}
				if k == Bytes {
					raw, err := base64.StdEncoding.DecodeString(s)
					if err != nil {
						return fmt.Errorf("reading stored bytes: %w", err)
					}
					v.Text = string(raw)
				}
				return nil
			}
		}
		return fmt.Errorf("reading a stored value: %s names no known kind", b)
	default:
		*v = Value{Int, string(b)}
	}
	return nil
}

// AppendRow appends columns as one JSON object in the order given; values
// beyond names are left out.
func AppendRow(b []byte, names []string, values []Value) []byte {
	b = append(b, '{')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = values[i].appendJSON(append(AppendJSON(b, n), ':'))
	}
	return append(b, '}')
}

// DecodeRow reads what [AppendRow] wrote, by column name.
func DecodeRow(b []byte) (map[string]Value, error) {
	var m map[string]Value
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("reading stored columns: %w", err)
	}
	return m, nil
}

// HashSize is the length of a content hash in bytes: hashColumns that stand for
// the list of columns, and the rest for the content.
const (
	HashSize    = 20
	hashColumns = 4
)

// Hasher makes the content hashes of rows with one list of columns. It is for
// one goroutine at a time.
type Hasher struct {
	columns [hashColumns]byte
	buf     []byte
}

// NewHasher makes a hasher for rows with these columns.
func NewHasher(names []string) *Hasher {
	var b []byte
	for _, name := range names {
		b = append(binary.LittleEndian.AppendUint64(b, uint64(len(name))), name...)
	}
	h := &Hasher{}
	sum := sha256.Sum256(b)
	copy(h.columns[:], sum[:])
	return h
}

// Hash is the content hash of a row: HashSize bytes. Two hashes may be compared
// only where their column lists agree (see [SameColumns]).
func (h *Hasher) Hash(values []Value) string {
	h.buf = h.buf[:0]
	for _, v := range values {
		h.buf = binary.LittleEndian.AppendUint64(h.buf, uint64(len(v.Text))<<8|uint64(v.Kind))
		h.buf = append(h.buf, v.Text...)
	}
	sum := sha256.Sum256(h.buf)
	var out [HashSize]byte
	copy(out[:], h.columns[:])
	copy(out[hashColumns:], sum[:])
	return string(out[:])
}

// Hash is the content hash of one row.
func Hash(names []string, values []Value) string { return NewHasher(names).Hash(values[:len(names)]) }

// SameColumns reports whether two content hashes cover the same column list.
func SameColumns(a, b string) bool {
	return len(a) == HashSize && len(b) == HashSize && a[:hashColumns] == b[:hashColumns]
}
