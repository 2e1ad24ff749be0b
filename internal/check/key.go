package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"parkbridge/sources"
)

// keysLooked is how many of the newest rows are looked at where nothing in the
// database keeps a key unique.
const keysLooked = 1000

// checkKey holds the key against what the catalogue guarantees, or else against
// the newest rows.
func (s *source) checkKey(ctx context.Context) {
	key := s.reader.KeyColumns()
	text := columnList(key)
	nullable := s.nullableOf(key)
	by, unique := s.uniqueBy(key)
	if unique && nullable == "" {
		s.ok("key", "%s is unique and never NULL, by %s", text, by)
		return
	}
	if !s.indexed() && s.rows() > fewRows {
		s.warn("key", s.uniqueDo(key), "nothing in the database keeps %s unique and not NULL, and without an index to read by no rows were looked at", text)
		return
	}
	places, err := inSession(ctx, s.reader, func(sess *sources.Session) ([][]sources.Value, error) {
		return sess.Places(ctx, sources.Range{Newest: true}, max(keysLooked, s.c.Rows))
	})
	if err != nil {
		s.fail("key", Database, do("see what the message says"), "%v", err)
		return
	}
	twice, example, nulls := s.countKeys(places)
	switch {
	case nulls > 0:
		s.fail("key", Config, do("name a key that every row has: a row without one stops the reading of its page"), "%s is NULL in %s", text, ofNewest(nulls, len(places)))
	case twice > 0:
		s.fail("key", Config, s.uniqueDo(nil), "%s does not identify a row: %s share their key with another, such as %s", text, ofNewest(twice, len(places)), example)
	case s.reader.From() == "" || s.listed && s.table.View:
		s.ok("key", "%s is unique among the newest %d rows; what the database keeps unique cannot be told of a query or view", text, len(places))
	case !unique:
		s.warn("key", s.uniqueDo(key), "nothing in the database keeps %s unique; among the newest %d rows it is", text, len(places))
	default:
		s.warn("key", do("if a row may ever lack it, leave such rows out (where: "+nullable+" IS NOT NULL), for one would stop the reading of its page; a DBA may declare it NOT NULL"),
			"%s is unique, by %s, but %s may be NULL", text, by, nullable)
	}
}

// uniqueDo says what to do about a key that nothing keeps unique; nil where it is
// not unique already.
func (s *source) uniqueDo(key []sources.Column) []string {
	for _, index := range s.table.Indexes {
		if index.Primary {
			return do("name the table's own primary key as key: [" + strings.Join(index.Columns, ", ") + "], with the cursor beside it")
		}
	}
	if s.reader.From() == "" || s.table.View {
		return do("name as key what makes a row the only one of its kind; a JOIN that finds two rows for one gives both the same key")
	}
	if key == nil {
		return do("name as key what makes a row the only one of its kind, of several columns if need be")
	}
	return do("name as key what makes a row the only one of its kind, or have a DBA see to it:", s.reader.IndexSQL(s.about.Index, true, key))
}

// uniqueBy finds what keeps a key unique.
func (s *source) uniqueBy(key []sources.Column) (by string, ok bool) {
	for _, index := range s.table.Indexes {
		if index.Unique && !slices.ContainsFunc(index.Columns, func(name string) bool { return !named(key, name) }) {
			if index.Primary {
				return "the primary key", true
			}
			return "a unique index", true
		}
	}
	return "", false
}

// nullableOf names the first column that may be NULL by the catalogue, or of
// which the catalogue says nothing.
func (s *source) nullableOf(columns []sources.Column) string {
	for _, c := range columns {
		if col, ok := s.table.Column(c.Name); !ok || col.Nullable {
			return c.Name
		}
	}
	return ""
}

func named(columns []sources.Column, name string) bool {
	return slices.ContainsFunc(columns, func(c sources.Column) bool { return strings.EqualFold(c.Name, name) })
}

// countKeys counts rows whose key another row has, and rows without one.
func (s *source) countKeys(places [][]sources.Value) (twice int, example string, nulls int) {
	order := s.reader.Order()
	seen := map[string]int{}
	for _, place := range places {
		var key []string
		null := false
		for _, c := range s.reader.KeyColumns() {
			v := place[slices.IndexFunc(order, func(o sources.Column) bool { return o.Name == c.Name })]
			null = null || v.IsNull()
			key = append(key, v.Text)
		}
		if null {
			nulls++
			continue
		}
		text := sources.EncodeKey(key)
		if seen[text]++; seen[text] > 1 {
			example = text
			if twice++; seen[text] == 2 {
				twice++
			}
		}
	}
	return twice, example, nulls
}

// ofNewest counts some of the newest rows.
func ofNewest(n, all int) string { return fmt.Sprintf("%d of the newest %d rows", n, all) }

func columnList(columns []sources.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}
