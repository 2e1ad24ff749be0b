package sources

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// cursorClock reads and writes the cursor values of a source as times.
type cursorClock struct {
	column Column
	loc    *time.Location
	layout string // the config's own; "" finds it in the value
}

// Layouts of date-times that a cursor column may hold, as the databases print
// them and as legacy systems write them.
var cursorLayouts = []string{
	"2006-01-02 15:04:05", "2006-01-02T15:04:05", time.DateOnly,
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02T15:04:05Z07:00",
	"2006/01/02 15:04:05", "20060102150405",
}

// Cursor layouts that are no pattern of text.
const (
	CursorUnix   = "unix"    // seconds since 1970 UTC
	CursorUnixMS = "unix_ms" // milliseconds since 1970 UTC
)

// newCursorClock gives the clock of a cursor column; nil where its values can
// be no times. Whether one is a time, only the value can tell.
func newCursorClock(cfg Config, c Column) *cursorClock {
	if cfg.CursorLayout == "" && (c.Integer || c.Binary) {
		return nil
	}
	clock := &cursorClock{column: c, loc: cfg.Location, layout: cfg.CursorLayout}
	if clock.loc == nil {
		clock.loc = time.UTC
	}
	return clock
}

// layoutOf finds the layout of a cursor's text. zoned tells that it names an
// instant by itself; ok is false where it is no time.
func (c *cursorClock) layoutOf(text string) (layout string, zoned, ok bool) {
	layouts := cursorLayouts
	if c.layout != "" {
		layouts = []string{c.layout}
	}
	for _, l := range layouts {
		if l == "20060102150405" && len(text) == 17 {
			text = text[:14] // yyyyMMddHHmmssSSS
		}
		if _, err := time.Parse(l, text); err == nil {
			return l, strings.Contains(l, "Z07") || c.column.Instant, true
		}
	}
	return "", false, false
}

// TimeOf is the time that a position's cursor shows: an instant, or for values
// without a zone the wall clock of the source's zone (in UTC, see
// [Value.Wall]). ok is false where it is no time.
func (r *Reader) TimeOf(p Position) (t time.Time, ok bool) {
	if r.clock == nil || p.IsZero() {
		return t, false
	}
	text := plainText(p.Values[0])
	switch r.clock.layout {
	case CursorUnix, CursorUnixMS:
		var n int64
		if _, err := fmt.Sscan(text, &n); err != nil {
			return t, false
		}
		if r.clock.layout == CursorUnix {
			return time.Unix(n, 0).UTC(), true
		}
		return time.UnixMilli(n).UTC(), true
	}
	layout, _, ok := r.clock.layoutOf(text)
	if !ok {
		return t, false
	}
	if layout == "20060102150405" && len(text) == 17 {
		text = text[:14]
	}
	t, err := time.Parse(layout, text)
	return t, err == nil
}

// CheckValue says what is wrong with a value of the cursor that a person typed,
// as a [*ConfigError] of a config key; nil where nothing is. like shows how the
// cursor is written; zero where there is no row.
func (r *Reader) CheckValue(key, value string, like Position) error {
	c := r.order[0]
	wrong := func(problem string, args ...any) error {
		return &ConfigError{Source: r.cfg.Name, Key: key, Problem: fmt.Sprintf("%q is no value of the cursor %s: ", value, c.Name) + fmt.Sprintf(problem, args...)}
	}
	if c.Integer && !isInteger(value) {
		return wrong("it is not an integer")
	}
	want, timed := r.TimeOf(like)
	if !timed {
		return nil
	}
	if _, ok := r.TimeOf(Position{Values: []string{value}}); !ok {
		return wrong("that is a time, written such as %s", plainText(like.Values[0]))
	}
	if (c.IsText || c.TextTimes) && r.clock.layout == "" {
		is, _, _ := r.clock.layoutOf(value)
		written, _, _ := r.clock.layoutOf(plainText(like.Values[0]))
		if day := is == time.DateOnly && strings.HasPrefix(written, time.DateOnly); is != written && !day {
			return wrong("it would not sort among values such as %s; write it as they are, %s", plainText(like.Values[0]), want.Format(written))
		}
	}
	return nil
}

// Zoneless reports whether the times of a cursor carry no zone, so that an hour
// of them happens twice a year where clocks are put back.
func (r *Reader) Zoneless(like Position) bool {
	if r.clock == nil || like.IsZero() || r.clock.layout == CursorUnix || r.clock.layout == CursorUnixMS {
		return false
	}
	_, zoned, ok := r.clock.layoutOf(plainText(like.Values[0]))
	return ok && !zoned
}

// Shift is the position a duration away from another, in units of the cursor,
// written the same way. ok is false where the cursor is no time.
func (r *Reader) Shift(p Position, by time.Duration) (Position, bool) {
	t, ok := r.TimeOf(p)
	if !ok {
		return Position{}, false
	}
	return r.written(t.Add(by).Truncate(time.Second), p)
}

// At is the position that a clock in the source's zone shows at an instant,
// written as like is. Rows at that very moment are at it, whatever their key.
// ok is false where the cursor is no time.
func (r *Reader) At(instant time.Time, like Position) (Position, bool) {
	if _, ok := r.TimeOf(like); !ok {
		return Position{}, false
	}
	t := instant.UTC()
	if r.Zoneless(like) {
		_, offset := instant.In(r.clock.loc).Zone()
		t = t.Add(time.Duration(offset) * time.Second) // the wall clock, in UTC
	}
	return r.written(t, like)
}

// written writes a time as the cursor of like is written.
func (r *Reader) written(t time.Time, like Position) (Position, bool) {
	text := plainText(like.Values[0])
	var out string
	switch r.clock.layout {
	case CursorUnix:
		out = fmt.Sprint(t.Unix())
	case CursorUnixMS:
		out = fmt.Sprint(t.UnixMilli())
	default:
		layout, _, ok := r.clock.layoutOf(text)
		if !ok {
			return Position{}, false
		}
		if strings.Contains(layout, "Z07") {
			if at, err := time.Parse(layout, text); err == nil {
				t = t.In(at.Location())
			}
		}
		if t.Nanosecond() != 0 {
			layout = strings.Replace(layout, ":05", ":05.000000", 1)
		}
		out = t.Format(layout)
		if layout == "20060102150405" && len(text) == 17 {
			out += fmt.Sprintf("%03d", t.Nanosecond()/1e6)
		}
	}
	kind := Text
	if _, err := strconv.ParseFloat(like.Values[0], 64); err == nil && !r.clock.column.IsText {
		kind = Int // a number without quotes
	}
	native, err := r.dialect.Native(r.order[0], Value{Kind: kind, Text: out})
	return Position{Values: []string{native}}, err == nil
}

// plainText takes the quotes off a position's text (see the SQLite dialect).
func plainText(native string) string {
	if n := len(native); n >= 2 && native[0] == '\'' && native[n-1] == '\'' {
		return native[1 : n-1]
	}
	return native
}
