package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/width"

	"parkbridge/sources"
)

// charsets maps the names of config to encodings; nil stands for UTF-8.
var charsets = map[string]encoding.Encoding{
	"":           nil,
	"utf-8":      nil,
	"utf8":       nil,
	"gbk":        simplifiedchinese.GBK,
	"gb2312":     simplifiedchinese.GBK, // its superset
	"gb18030":    simplifiedchinese.GB18030,
	"big5":       traditionalchinese.Big5,
	"latin-1":    charmap.Windows1252, // its superset, and what MySQL calls latin1
	"latin1":     charmap.Windows1252,
	"iso-8859-1": charmap.Windows1252,
}

// ValidCharset reports whether name is a charset a rule or a source may have.
func ValidCharset(name string) bool {
	_, ok := charsets[strings.ToLower(name)]
	return ok
}

func charsetNames() string { return "utf-8, gbk, gb18030, gb2312, big5, latin-1" }

// decode turns bytes of a charset into UTF-8. What cannot be decoded is an
// error that shows where, never a question mark.
func decode(b, charset string) (string, error) {
	s, bad := b, len(b)
	if enc := charsets[strings.ToLower(charset)]; enc != nil {
		var err error
		if s, err = enc.NewDecoder().String(b); err != nil || strings.ContainsRune(s, utf8.RuneError) {
			bad = badAt(enc, b)
		}
	} else if !utf8.ValidString(b) {
		for bad = 0; ; {
			r, n := utf8.DecodeRuneInString(b[bad:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			bad += n
		}
	}
	if bad == len(b) {
		return s, nil
	}
	if charset == "" {
		charset = "utf-8"
	}
	return "", fmt.Errorf("the stored bytes are not %s text at byte %d: %s; give the rule or the source the right charset (%s)",
		charset, bad+1, hexAround(b, bad), charsetNames())
}

// badAt is the first byte that a charset does not know.
func badAt(enc encoding.Encoding, b string) int {
	src, decoder := []byte(b), enc.NewDecoder()
	var char [utf8.UTFMax]byte // so that one character is decoded at a time, or a few of ASCII
	for at := 0; at < len(src); {
		n, used, _ := decoder.Transform(char[:], src[at:], true) // that there is more is no error here
		if i := strings.IndexRune(string(char[:n]), utf8.RuneError); i >= 0 {
			return at + i // what stands before it is ASCII, a byte each
		}
		if used == 0 {
			return at
		}
		at += used
	}
	return 0 // known to be there
}

// hexAround shows the bytes about a place, with that one in brackets.
func hexAround(b string, at int) string {
	from, to := max(at-8, 0), min(at+8, len(b))
	var out strings.Builder
	if from > 0 {
		out.WriteString("… ")
	}
	for i := from; i < to; i++ {
		if i > from {
			out.WriteByte(' ')
		}
		if i == at {
			fmt.Fprintf(&out, "[%02x]", b[i])
		} else {
			fmt.Fprintf(&out, "%02x", b[i])
		}
	}
	if to < len(b) {
		out.WriteString(" …")
	}
	return out.String()
}

var transforms = map[string]func(string) string{
	"trim":      strings.TrimSpace,
	"upper":     strings.ToUpper,
	"lower":     strings.ToLower,
	"halfwidth": func(s string) string { return width.Narrow.String(s) },
	"nospace": func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return -1
			}
			return r
		}, s)
	},
	"digits": func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, s)
	},
}

func transformNames() string {
	var names []string
	for n := range transforms {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// floatText prints a float without an exponent.
func floatText(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// asText makes text of a value that is not a time.
func (r *rule) asText(v sources.Value) (string, error) {
	s := v.Text
	switch v.Kind {
	case sources.Float:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return floatText(f), nil
		}
		return s, nil
	case sources.Bytes:
		var err error
		if s, err = decode(s, r.charset); err != nil {
			return "", err
		}
	case sources.Text:
	case sources.Bad:
		if strings.ContainsRune(v.Text, utf8.RuneError) {
			return "", fmt.Errorf("%s holds bytes that are no text in the column's own character set", quoted(v.Text))
		}
		return "", fmt.Errorf("%s is not a date; mend the row", quoted(v.Text))
	case sources.Local, sources.Time:
		t, err := r.instant(v)
		if err != nil {
			return "", err
		}
		return wallText(t), nil
	default:
		return s, nil
	}
	if r.trim {
		s = strings.TrimRight(s, " \x00")
	}
	return s, nil
}

// Shown is a value of a column as a person may read it: bytes as the text that
// the column's rules take them for, or in hex where they are none. NULL is said.
func (p *Program) Shown(column string, v sources.Value) string {
	switch v.Kind {
	case sources.Null:
		return "NULL"
	case sources.Bytes:
	default:
		return v.Text
	}
	at := slices.IndexFunc(p.needs, func(n sources.Need) bool { return n.Column == column })
	for _, r := range p.rules {
		if !slices.Contains(r.columns, at) {
			continue
		}
		text, err := decode(v.Text, r.charset)
		text = strings.TrimRight(text, " \x00")
		if err == nil && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return text
		}
	}
	const most = 48
	if len(v.Text) > most {
		return fmt.Sprintf("% x …", v.Text[:most])
	}
	return fmt.Sprintf("% x", v.Text)
}
