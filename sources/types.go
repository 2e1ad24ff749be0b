package sources

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// StoredTypes counts the values of a cursor by the type that each is stored as.
type StoredTypes struct {
	Texts, Integers, Reals, Blobs int
	// All is false where a large table was counted at both ends of the reading
	// order only, [typesMost] rows each. The types sort apart from one another, so
	// the ends show them all.
	All bool

	integers, reals span
}

// typesMost and typesPage bound what counting reads, and what it reads at a time:
// while a reader of SQLite reads, no writer can finish.
const typesMost, typesPage = 100000, 5000

// span is how large numbers are, whatever their sign.
type span struct{ least, most float64 }

func (s *span) add(n float64, first bool) {
	n = math.Abs(n)
	if first {
		s.least, s.most = n, n
	}
	s.least, s.most = min(s.least, n), max(s.most, n)
}

func (t *StoredTypes) add(v Value) {
	n, _ := strconv.ParseFloat(v.Text, 64) // of a number only
	switch v.Kind {
	case Null:
	case Int:
		t.integers.add(n, t.Integers == 0)
		t.Integers++
	case Float:
		t.reals.add(n, t.Reals == 0)
		t.Reals++
	case Text:
		t.Texts++
	default:
		t.Blobs++
	}
}

// Mixed reports that the types do not sort as what they mean: numbers below
// texts, texts below blobs. Integers and reals of one size do: SQLite itself
// stores a real without a fraction as an integer in most columns. Of another
// size they are something else, such as Julian days beside seconds since 1970.
func (t *StoredTypes) Mixed() bool {
	kinds := 0
	for _, n := range []int{t.Texts, t.Integers + t.Reals, t.Blobs} {
		if n > 0 {
			kinds++
		}
	}
	apart := t.Integers > 0 && t.Reals > 0 && (t.integers.least < t.reals.least/10 || t.integers.most > t.reals.most*10)
	return kinds > 1 || apart
}

func (t *StoredTypes) String() string {
	var parts []string
	for _, c := range []struct {
		n    int
		name string
	}{{t.Texts, "text"}, {t.Integers, "integer"}, {t.Reals, "real"}, {t.Blobs, "blob"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", c.name, c.n))
		}
	}
	text := strings.Join(parts, ", ")
	if !t.All {
		text += fmt.Sprintf(" (of the first and the last %d rows)", typesMost)
	}
	return text
}

// OneType reports whether the values of the cursor are of one type by the
// engine's own rules, or need not be: the cursor is the key.
func (r *Reader) OneType() bool {
	return !r.order[0].Loose || r.class.Server || len(r.key) == 1 && r.key[0] == 0
}

// CheckTypes refuses, as a [*ConfigError], a cursor that holds values of several
// types (SQLite): those of one type would be read, and those that sort below the
// mark because they are of another would be missed. It looks at the first and
// the last row, and counts only where these differ.
func (r *Reader) CheckTypes(ctx context.Context) (err error) {
	if r.OneType() {
		return nil
	}
	s, err := r.Session(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ends := StoredTypes{}
	for _, in := range []Range{{}, {Newest: true}} {
		rows, err := s.Places(ctx, in, 1)
		if err != nil {
			return err
		}
		for _, row := range rows {
			ends.add(row[0])
		}
	}
	if !ends.Mixed() {
		return nil
	}
	all, err := s.storedTypes(ctx)
	if err != nil {
		return err
	}
	return r.mixed(all)
}

// StoredTypes counts the cursor's values by their types, whether they agree or
// not; where they do not, err is that of [Reader.CheckTypes].
func (r *Reader) StoredTypes(ctx context.Context) (t StoredTypes, err error) {
	s, err := r.Session(ctx, false)
	if err != nil {
		return t, err
	}
	t, err = s.storedTypes(ctx)
	if err == nil {
		err = r.mixed(t)
	}
	return t, errors.Join(err, s.Close())
}

// mixed is the refusal of a cursor; nil where its types agree.
func (r *Reader) mixed(t StoredTypes) error {
	if !t.Mixed() {
		return nil
	}
	return &ConfigError{Source: r.cfg.Name, Key: "cursor", Problem: fmt.Sprintf(
		"%s holds values of several types, which do not sort with one another, so rows would be missed: %s; name a cursor of one type, such as a number that the table gives each row",
		r.order[0].Name, t.String())}
}

func (s *Session) storedTypes(ctx context.Context) (StoredTypes, error) {
	var t StoredTypes
	low, all, err := s.countTypes(ctx, Range{}, &t)
	if err == nil && !all {
		_, all, err = s.countTypes(ctx, Range{After: low, Newest: true}, &t)
	}
	t.All = all
	return t, err
}

// countTypes counts the rows of a range, typesMost at the most. last is where it
// stopped; all tells that it came to the end.
func (s *Session) countTypes(ctx context.Context, in Range, t *StoredTypes) (last Position, all bool, err error) {
	for counted := 0; counted < typesMost; {
		rows, err := s.Places(ctx, in, typesPage)
		if err != nil {
			return last, false, err
		}
		for _, row := range rows {
			t.add(row[0])
		}
		if counted += len(rows); len(rows) < typesPage {
			return last, true, nil
		}
		if last, err = s.r.position(rows[len(rows)-1]); err != nil {
			return last, false, err
		}
		if in.Newest {
			in.UpTo, in.Below = last, true
		} else {
			in.After = last
		}
	}
	return last, false, nil
}

// position is the place of a row by the columns of the reading order.
func (r *Reader) position(values []Value) (Position, error) {
	out := make([]string, len(r.order))
	for i, c := range r.order {
		if values[i].IsNull() {
			return Position{}, errNullKey(c)
		}
		native, err := r.dialect.Native(c, values[i])
		if err != nil {
			return Position{}, fmt.Errorf("column %s: %w", c.Name, err)
		}
		out[i] = native
	}
	return Position{Values: out}, nil
}
