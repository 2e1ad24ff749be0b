package sources

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Position is a place in the reading order of a source: the values of the
// cursor and the key, in the database's own lossless text. Only the database
// compares positions; Go stores them and hands them back.
//
// Values may be a prefix of the order's columns. The zero Position is the
// place before the first row.
type Position struct {
	Values []string
	// Inclusive asks for rows at the position too: a value in `start`, which
	// is a cursor value without a key, means "from here on".
	Inclusive bool
}

// IsZero reports whether the position is the place before the first row.
func (p Position) IsZero() bool { return len(p.Values) == 0 }

// String shows the position to a person: its values, cursor first.
func (p Position) String() string { return strings.Join(p.Values, " / ") }

// Encode gives the form kept in the ledger: a JSON list of strings, or
// {"from": list} for an inclusive position, or "" for the zero Position.
func (p Position) Encode() string {
	if p.IsZero() {
		return ""
	}
	var b []byte
	b = append(b, '[')
	for i, v := range p.Values {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSON(b, v)
	}
	b = append(b, ']')
	if p.Inclusive {
		return `{"from":` + string(b) + `}`
	}
	return string(b)
}

// DecodePosition reads what [Position.Encode] wrote.
func DecodePosition(s string) (Position, error) {
	var p Position
	switch {
	case s == "":
		return p, nil
	case strings.HasPrefix(s, "{"):
		var from struct {
			From []string `json:"from"`
		}
		dec := json.NewDecoder(bytes.NewReader([]byte(s)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&from); err != nil {
			return p, fmt.Errorf("reading the stored position %s: %w", s, err)
		}
		return Position{Values: from.From, Inclusive: true}, nil
	default:
		if err := json.Unmarshal([]byte(s), &p.Values); err != nil {
			return p, fmt.Errorf("reading the stored position %s: %w", s, err)
		}
		return p, nil
	}
}

// EncodeKey gives a row's key as the ledger names it: the value itself for a
// key of one column, a JSON list for several.
func EncodeKey(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return Position{Values: values}.Encode()
}

// DecodeKey splits a key that [EncodeKey] made into the values of n columns.
func DecodeKey(key string, n int) ([]string, error) {
	if n == 1 {
		return []string{key}, nil
	}
	var values []string
	if err := json.Unmarshal([]byte(key), &values); err != nil || len(values) != n {
		return nil, fmt.Errorf("key %q is not a JSON list of %d strings, such as [\"A\",\"17\"]", key, n)
	}
	return values, nil
}

// MarshalJSON writes the position as a JSON string that holds its encoded form.
func (p Position) MarshalJSON() ([]byte, error) { return json.Marshal(p.Encode()) }

// UnmarshalJSON reads what [Position.MarshalJSON] wrote.
func (p *Position) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var err error
	*p, err = DecodePosition(s)
	return err
}
