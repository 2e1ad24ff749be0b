package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// timeFormat is one compiled entry of `format`.
type timeFormat struct {
	name   string
	tokens []token // nil for a numeric format
	// utc tells that the text ends in a literal Z, which says UTC where the rule
	// does not name a zone.
	utc bool
}

// described names the format in messages.
func (f timeFormat) described() string {
	if f.tokens == nil {
		return f.name + " (a number)"
	}
	return f.name
}

// token is a run of one pattern letter, or literal text where letter is 0.
type token struct {
	letter rune
	width  int
	text   string
}

// The letters of the platform's document, which are Java's, with the widths
// that each may have.
var patternLetters = map[rune][]int{
	'y': {4, 2, 1}, 'M': {2, 1}, 'd': {2, 1}, 'H': {2, 1}, 'h': {2, 1}, 'm': {2, 1}, 's': {2, 1},
	'S': {1, 2, 3, 4, 5, 6, 7, 8, 9}, 'a': {1}, 'X': {1, 2, 3}, 'Z': {1},
}

// compileFormat reads one entry of `format`: the name of a numeric form, or a
// pattern that makes a date.
func compileFormat(pattern string) (timeFormat, error) {
	f := timeFormat{name: pattern}
	if slices.Contains(numericFormats, pattern) {
		return f, nil
	}
	var err error
	if f.tokens, err = tokenize(pattern); err != nil && !strings.ContainsAny(pattern, "yY") {
		return f, fmt.Errorf("%q is not known; it is one of %s, or a pattern such as yyyy-MM-dd HH:mm:ss", pattern, strings.Join(numericFormats, ", "))
	} else if err != nil {
		return f, err
	}
	has := func(letter rune) bool {
		return slices.ContainsFunc(f.tokens, func(t token) bool { return t.letter == letter })
	}
	for _, need := range "yMd" {
		if !has(need) {
			return f, fmt.Errorf("pattern %q has no %c, so it makes no date", pattern, need)
		}
	}
	switch {
	case has('h') != has('a'):
		return f, fmt.Errorf("pattern %q: hh counts to 12 and goes with a (AM, PM, 上午, 下午); a clock of 24 hours is HH", pattern)
	case has('h') && has('H'):
		return f, fmt.Errorf("pattern %q has both HH and hh", pattern)
	}
	for i, t := range f.tokens {
		if t.width == 1 && strings.ContainsRune("MdHhms", t.letter) && f.adjacent(i) {
			return f, fmt.Errorf("pattern %q: %c takes one digit or two, so other digits cannot follow at once; write %c%c", pattern, t.letter, t.letter, t.letter)
		}
	}
	last := f.tokens[len(f.tokens)-1]
	f.utc = last.letter == 0 && strings.HasSuffix(last.text, "Z")
	return f, nil
}

// tokenize reads a pattern: yyyy-MM-dd HH:mm:ss, SSS for a fraction, hh with a
// for a clock of twelve hours, X or Z for a zone such as +08:00, and 'T' for
// literal text.
func tokenize(pattern string) ([]token, error) {
	var tokens []token
	runes := []rune(pattern)
	for i := 0; i < len(runes); {
		c := runes[i]
		widths, known := patternLetters[c]
		switch {
		case c == '\'':
			end := slices.Index(runes[i+1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("pattern %q opens a quote and does not close it", pattern)
			}
			text := string(runes[i+1 : i+1+end])
			if text == "" {
				text = "'"
			}
			tokens = append(tokens, token{text: text})
			i += end + 2
		case known:
			n := 1
			for i+n < len(runes) && runes[i+n] == c {
				n++
			}
			word := string(runes[i : i+n])
			if !slices.Contains(widths, n) {
				return nil, fmt.Errorf("pattern %q: %s means nothing; known is %s", pattern, word, strings.Repeat(string(c), widths[0]))
			}
			if slices.ContainsFunc(tokens, func(t token) bool { return t.letter == c }) {
				return nil, fmt.Errorf("pattern %q has %s twice; M is the month, m the minute, d the day", pattern, word)
			}
			tokens = append(tokens, token{letter: c, width: n})
			i += n
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' && c != 'T':
			return nil, fmt.Errorf("pattern %q: the letter %q means nothing; known are yyyy MM dd HH mm ss SSS, hh with a, X for a zone, and '…' for text", pattern, c)
		default:
			tokens = append(tokens, token{text: string(c)})
			i++
		}
	}
	return tokens, nil
}

// parse reads s as the format says; [errNoMatch] where it does not have it. A
// time without a zone is in loc.
func (f timeFormat) parse(s string, number bool, loc *time.Location) (time.Time, error) {
	if f.tokens == nil {
		return f.parseSerial(s, loc)
	}
	rest := s
	if whole, zeros, found := strings.Cut(s, "."); number && found && strings.Trim(zeros, "0") == "" {
		rest = whole // 20261101.0 of a float or a decimal column
	}
	p := parts{zone: loc, hour12: -1}
	for i, tok := range f.tokens {
		var ok bool
		if rest, ok = p.take(tok, rest, f.adjacent(i)); !ok {
			return time.Time{}, errNoMatch
		}
		if tok.letter == 's' && i == len(f.tokens)-1 && strings.HasPrefix(rest, ".") {
			// A fraction the pattern does not mention is kept, not refused.
			if rest, ok = p.take(token{letter: 'S', width: 1}, rest[1:], false); !ok {
				return time.Time{}, errNoMatch
			}
		}
	}
	if rest != "" {
		return time.Time{}, errNoMatch
	}
	return p.assemble(f, s)
}

// adjacent reports that the digits of another token follow the i-th without
// anything between.
func (f timeFormat) adjacent(i int) bool {
	return i+1 < len(f.tokens) && strings.ContainsRune("yMdHhmsS", f.tokens[i+1].letter)
}

// parts is what of a time has been read.
type parts struct {
	zone   *time.Location
	hour12 int      // 0 before noon, 12 after it, -1 for a clock of 24 hours
	digits [128]int // by letter
}

// take reads one token from the front of s and gives the rest. adjacent is as
// in [timeFormat.adjacent].
func (p *parts) take(tok token, s string, adjacent bool) (rest string, ok bool) {
	switch tok.letter {
	case 0:
		return strings.CutPrefix(s, tok.text)
	case 'a':
		for _, mark := range []struct {
			text string
			hour int
		}{{"AM", 0}, {"PM", 12}, {"上午", 0}, {"下午", 12}} {
			if n := len(mark.text); len(s) >= n && strings.EqualFold(s[:n], mark.text) {
				p.hour12 = mark.hour
				return s[n:], true
			}
		}
		return s, false
	case 'X', 'Z':
		return p.takeZone(s)
	}
	limit := tok.width
	switch {
	case tok.letter == 'y' && limit == 1:
		limit = 4
	case adjacent || tok.letter == 'y':
	case tok.letter == 'S':
		limit = 9
	default:
		limit = max(limit, 2)
	}
	n := 0
	for n < len(s) && n < limit && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n == 0 || (adjacent && n < tok.width) || (tok.letter == 'y' && n != limit) {
		return s, false
	}
	number, err := strconv.Atoi(s[:n])
	if tok.letter == 'S' { // the fraction of a second, in nanoseconds
		number, err = strconv.Atoi(clip(s[:n]+"00000000", 9))
	}
	p.digits[tok.letter] = number
	return s[n:], err == nil
}

// takeZone reads Z, +08, +0800 or +08:00.
func (p *parts) takeZone(s string) (rest string, ok bool) {
	if after, ok := strings.CutPrefix(s, "Z"); ok {
		p.zone = time.UTC
		return after, true
	}
	for _, layout := range []string{"-07:00", "-0700", "-07"} {
		if n := len(layout); len(s) >= n {
			if t, err := time.Parse(layout, s[:n]); err == nil {
				_, offset := t.Zone()
				p.zone = time.FixedZone("", offset)
				return s[n:], true
			}
		}
	}
	return s, false
}

// assemble makes a time of the parts of s.
func (p *parts) assemble(f timeFormat, s string) (time.Time, error) {
	year, month, day, hour := p.digits['y'], p.digits['M'], p.digits['d'], p.digits['H']
	minute, second := p.digits['m'], p.digits['s']
	if slices.ContainsFunc(f.tokens, func(t token) bool { return t.letter == 'y' && t.width == 2 }) {
		year += 2000
	}
	if p.hour12 >= 0 {
		hour = p.digits['h']%12 + p.hour12
	}
	wall := time.Date(year, time.Month(month), day, hour, minute, second, p.digits['S'], time.UTC)
	if int(wall.Month()) != month || wall.Day() != day || wall.Hour() != hour || wall.Minute() != minute || wall.Second() != second || p.digits['h'] > 12 {
		return time.Time{}, fmt.Errorf("%s by %s is not a time any clock shows", quoted(s), f.name)
	}
	return reading(wall, p.zone, s, f.name)
}

// write is the text that tokens make of a time, by the clock of its own zone.
func write(tokens []token, t time.Time) string {
	var b strings.Builder
	for _, tok := range tokens {
		number := 0
		switch tok.letter {
		case 0:
			b.WriteString(tok.text)
			continue
		case 'a':
			b.WriteString(t.Format("PM"))
			continue
		case 'X', 'Z':
			b.WriteString(t.Format("Z07:00"))
			continue
		case 'S':
			b.WriteString(clip(fmt.Sprintf("%09d", t.Nanosecond()), tok.width))
			continue
		case 'y':
			number = t.Year()
			if tok.width == 2 {
				number %= 100
			}
		case 'M':
			number = int(t.Month())
		case 'd':
			number = t.Day()
		case 'H':
			number = t.Hour()
		case 'h':
			number = (t.Hour()+11)%12 + 1
		case 'm':
			number = t.Minute()
		case 's':
			number = t.Second()
		}
		fmt.Fprintf(&b, "%0*d", tok.width, number)
	}
	return b.String()
}

// clip cuts a text at n bytes, or before the character that reaches over them.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
