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
	"latin-1":    charmap.ISO8859_1,
	"latin1":     charmap.ISO8859_1,
	"iso-8859-1": charmap.ISO8859_1,
}

// ValidCharset reports whether name is a charset a rule or a source may have.
func ValidCharset(name string) bool {
	_, ok := charsets[strings.ToLower(name)]
	return ok
}

func charsetNames() string { return "utf-8, gbk, gb18030, gb2312, big5, latin-1" }

// decode turns bytes of a charset into UTF-8. What cannot be decoded is an
// error, never a question mark.
func decode(b, charset string) (string, error) {
	enc := charsets[strings.ToLower(charset)]
	s, err := b, error(nil)
	if enc != nil {
		s, err = enc.NewDecoder().String(b)
	}
	if err != nil || strings.ContainsRune(strings.ToValidUTF8(s, string(unicode.ReplacementChar)), unicode.ReplacementChar) {
		if charset == "" {
			charset = "utf-8"
		}
		return "", fmt.Errorf("the stored bytes % x are not %s text; give the rule or the source the right charset (%s)", clip(b, 16), charset, charsetNames())
	}
	return s, nil
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
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
		if strings.ContainsRune(s, utf8.RuneError) {
			return "", fmt.Errorf("%q holds bytes that are no text in the column's own character set", s)
		}
		return "", fmt.Errorf("%q is not a date", v.Text)
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
