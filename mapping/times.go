package mapping

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata"

	"parkbridge/sources"
	// booth PCs, Windows above all, have no zone database.
)

// Numeric and vendor formats of times, beside patterns.
const (
	formatUnix   = "unix"    // seconds since 1970 UTC
	formatUnixMS = "unix_ms" // milliseconds since 1970 UTC
	formatOLE    = "ole"     // days since 1899-12-30, wall time: Access, Excel, Delphi
	formatJulian = "julian"  // Julian day, UTC: SQLite's julianday()
	formatTicks  = "ticks"   // 100 ns since 0001-01-01, wall time: .NET
)

var numericFormats = []string{formatUnix, formatUnixMS, formatOLE, formatJulian, formatTicks}

// Times outside these years are placeholders, not times: 1900 and 1970 mean
// "none" in one system or another, 9999 "not yet".
const firstYear, lastYear = 1980, 2099

// resolve gives the instant at which clocks in loc show the wall time. In an
// overlap hour it is the earlier one; in a gap there is none.
func resolve(wall time.Time, loc *time.Location) (time.Time, error) {
	var found time.Time
	for _, d := range []time.Duration{-25 * time.Hour, 25 * time.Hour} {
		_, offset := wall.Add(d).In(loc).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		if sameWall(t, wall) && (found.IsZero() || t.Before(found)) {
			found = t
		}
	}
	if found.IsZero() {
		return found, fmt.Errorf("%s did not exist in %s: clocks were put forward over it", wallText(wall), loc)
	}
	return found, nil
}

func sameWall(a, b time.Time) bool {
	_, ao := a.Zone()
	_, bo := b.Zone()
	return a.Add(time.Duration(ao) * time.Second).UTC().Equal(b.Add(time.Duration(bo) * time.Second).UTC())
}

// wallText shows a time as the clock on the wall does, with milliseconds only
// where it has a fraction.
func wallText(t time.Time) string { return t.Format("2006-01-02 15:04:05.999") }

// gateText is the gate's form: UTC, whole seconds where the source has whole
// seconds, milliseconds (cut, not rounded) where it has more.
func gateText(t time.Time) string {
	if t.Nanosecond() == 0 {
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func plausible(t time.Time) error {
	if y := t.Year(); y < firstYear || y > lastYear {
		return fmt.Errorf("%s is a placeholder, not a time", wallText(t))
	}
	return nil
}

// instant reads a date-time of the database.
func (r *rule) instant(v sources.Value) (time.Time, error) {
	var t time.Time
	var err error
	switch v.Kind {
	case sources.Time:
		t, err = v.Instant()
	case sources.Local:
		if t, err = v.Wall(); err == nil {
			if err = plausible(t); err == nil {
				t, err = resolve(t, r.loc)
			}
		}
	default:
		err = fmt.Errorf("%q is not a date", v.Text)
	}
	if err != nil {
		return t, err
	}
	return t.In(r.loc), plausible(t)
}

// parseTime reads a time from text by the rule's formats, the first that fits.
func (r *rule) parseTime(s string, number bool) (time.Time, error) {
	if len(r.formats) == 0 {
		if number {
			return time.Time{}, fmt.Errorf("%q is a number; give the rule a format: %s", s, strings.Join(numericFormats, ", "))
		}
		if t, err := r.iso(s); !errors.Is(err, errNoMatch) {
			return t, err
		}
		return time.Time{}, fmt.Errorf("%q is not yyyy-MM-dd HH:mm:ss; give the rule the format it has", s)
	}
	var first error
	for _, f := range r.formats {
		t, err := f.parse(s, r.loc)
		if err == nil {
			err = plausible(t)
		}
		if err == nil {
			return t, nil
		}
		if first == nil || errors.Is(first, errNoMatch) {
			first = err
		}
	}
	if errors.Is(first, errNoMatch) {
		var names []string
		for _, f := range r.formats {
			names = append(names, f.name)
		}
		return time.Time{}, fmt.Errorf("%q does not have the format %s", s, strings.Join(names, " or "))
	}
	return time.Time{}, first
}

// iso reads yyyy-MM-dd HH:mm:ss, with T or a space, with or without a fraction
// and a zone.
func (r *rule) iso(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, plausible(t)
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if wall, err := time.Parse(layout, s); err == nil {
			if err := plausible(wall); err != nil {
				return wall, err
			}
			return resolve(wall, r.loc)
		}
	}
	return time.Time{}, errNoMatch
}

var errNoMatch = errors.New("does not have the format")

// timeFormat is one compiled entry of `format`.
type timeFormat struct {
	name   string
	tokens []token // nil for a numeric format
}

// token is a run of one pattern letter, or literal text where letter is 0.
type token struct {
	letter rune
	width  int
	text   string
}

const patternLetters = "yMdHhmsSaX"

// compileFormat reads a pattern in the letters of the platform's document
// (Java's): yyyy-MM-dd HH:mm:ss, SSS for a fraction, 'T' for literal text,
// X for a zone such as Z or +08:00.
func compileFormat(pattern string) (timeFormat, error) {
	f := timeFormat{name: pattern}
	if slices.Contains(numericFormats, pattern) {
		return f, nil
	}
	runes := []rune(pattern)
	for i := 0; i < len(runes); {
		c := runes[i]
		switch {
		case c == '\'':
			end := slices.Index(runes[i+1:], '\'')
			if end < 0 {
				return f, fmt.Errorf("pattern %q opens a quote and does not close it", pattern)
			}
			text := string(runes[i+1 : i+1+end])
			if text == "" {
				text = "'"
			}
			f.tokens = append(f.tokens, token{text: text})
			i += end + 2
		case strings.ContainsRune(patternLetters, c):
			n := 1
			for i+n < len(runes) && runes[i+n] == c {
				n++
			}
			f.tokens = append(f.tokens, token{letter: c, width: n})
			i += n
		case c < 128 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && c != 'T' && c != 'Z':
			return f, fmt.Errorf("pattern %q: the letter %q means nothing; known are yyyy MM dd HH mm ss SSS, hh with a, X for a zone, and '…' for text, or one of %s",
				pattern, c, strings.Join(numericFormats, ", "))
		default:
			f.tokens = append(f.tokens, token{text: string(c)})
			i++
		}
	}
	for _, need := range "yMd" {
		if !slices.ContainsFunc(f.tokens, func(t token) bool { return t.letter == need }) {
			return f, fmt.Errorf("pattern %q has no %c, so it makes no date", pattern, need)
		}
	}
	return f, nil
}

func (f timeFormat) parse(s string, loc *time.Location) (time.Time, error) {
	if f.tokens == nil {
		return f.parseNumber(s, loc)
	}
	part := map[rune]int{'y': -1, 'a': -1}
	zone := loc
	rest := s
	for i, tok := range f.tokens {
		switch tok.letter {
		case 0:
			if !strings.HasPrefix(rest, tok.text) {
				return time.Time{}, errNoMatch
			}
			rest = rest[len(tok.text):]
		case 'a':
			switch mark := strings.ToUpper(clip(rest, 2)); {
			case mark == "AM" || mark == "PM":
				part['a'] = int(mark[0]/'P') * 12
				rest = rest[2:]
			case strings.HasPrefix(rest, "上午"), strings.HasPrefix(rest, "下午"):
				part['a'] = strings.Count(rest[:6], "下") * 12
				rest = rest[6:]
			default:
				return time.Time{}, errNoMatch
			}
		case 'X':
			t, err := time.Parse("Z07:00", rest)
			if err != nil {
				if t, err = time.Parse("Z0700", rest); err != nil {
					return time.Time{}, errNoMatch
				}
			}
			zone, rest = t.Location(), ""
			if _, off := t.Zone(); off == 0 {
				zone = time.UTC
			}
		default:
			limit := tok.width
			adjacent := i+1 < len(f.tokens) && f.tokens[i+1].letter != 0 && f.tokens[i+1].letter != 'a' && f.tokens[i+1].letter != 'X'
			if !adjacent {
				limit = max(limit, map[bool]int{true: 9, false: 2}[tok.letter == 'S'])
			}
			n := 0
			for n < len(rest) && n < limit && rest[n] >= '0' && rest[n] <= '9' {
				n++
			}
			if n == 0 || (adjacent && n < tok.width) || (tok.letter == 'y' && n != tok.width) {
				return time.Time{}, errNoMatch
			}
			num, err := strconv.Atoi(rest[:n])
			if err != nil {
				return time.Time{}, errNoMatch
			}
			if tok.letter == 'S' {
				num *= int(math.Pow10(9 - n))
			}
			part[tok.letter], rest = num, rest[n:]
			if tok.letter == 's' && i == len(f.tokens)-1 && len(rest) > 1 && rest[0] == '.' {
				// A fraction the pattern does not mention is kept, not refused.
				frac := rest[1:]
				if len(frac) > 9 || strings.Trim(frac, "0123456789") != "" {
					return time.Time{}, errNoMatch
				}
				num, _ := strconv.Atoi(frac)
				part['S'], rest = num*int(math.Pow10(9-len(frac))), ""
			}
		}
	}
	if rest != "" {
		return time.Time{}, errNoMatch
	}
	return assemble(part, zone, s)
}

func assemble(part map[rune]int, zone *time.Location, s string) (time.Time, error) {
	year, hour := part['y'], part['H']
	if year < 100 {
		year += 2000
	}
	if part['a'] >= 0 {
		hour = part['h']%12 + part['a']
	} else if h, ok := part['h']; ok {
		hour = h
	}
	wall := time.Date(year, time.Month(part['M']), part['d'], hour, part['m'], part['s'], part['S'], time.UTC)
	if int(wall.Month()) != part['M'] || wall.Day() != part['d'] || wall.Hour() != hour || wall.Minute() != part['m'] || wall.Second() != part['s'] {
		return time.Time{}, fmt.Errorf("%q is not a time any clock shows", s)
	}
	if err := plausible(wall); err != nil {
		return time.Time{}, err
	}
	return resolve(wall, zone)
}

func (f timeFormat) parseNumber(s string, loc *time.Location) (time.Time, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > 1e19 {
		return time.Time{}, errNoMatch
	}
	whole, fraction, _ := strings.Cut(s, ".")
	i, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, errNoMatch
	}
	switch f.name {
	case formatUnix:
		nanos, _ := strconv.ParseInt(clip(fraction+"000000000", 9), 10, 64)
		return time.Unix(i, nanos), nil
	case formatUnixMS:
		return time.UnixMilli(i), nil
	case formatJulian:
		// A double holds a Julian day to about 40 µs.
		return time.UnixMilli(int64(math.Round((n - 2440587.5) * 86400e3))), nil
	case formatOLE:
		wall := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(i))
		return resolveNear(wall.Add(time.Duration(math.Round((n-float64(i))*86400e3))*time.Millisecond), loc)
	default: // formatTicks
		const epoch = 62135596800 // seconds from 0001-01-01 to 1970-01-01
		return resolveNear(time.Unix(i/1e7-epoch, i%1e7*100).UTC(), loc)
	}
}

func resolveNear(wall time.Time, loc *time.Location) (time.Time, error) {
	if err := plausible(wall); err != nil {
		return wall, err
	}
	return resolve(wall, loc)
}
