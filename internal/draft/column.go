package draft

import (
	"strconv"
	"strings"

	"golang.org/x/text/encoding/charmap"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// column is a column of a candidate with what its sampled values show.
type column struct {
	sources.TableColumn
	name, comment label

	sampled bool            // values were read
	values  []sources.Value // without NULL
	texts   []string        // those that are text or numbers, decoded, trimmed and not empty
	empty   int             // how many values are NULL or empty
	rows    int             // how many rows were sampled

	times        times
	plates       int      // texts that are plates
	noPlates     int      // texts that say there is none
	transform    []string // that the plates need
	clock        bool     // all texts are times of day without a date
	clockSeconds bool
}

func newColumn(c sources.TableColumn) *column {
	return &column{TableColumn: c, name: newLabel(c.Name), comment: commentLabel(mended(c.Comment))}
}

// mended undoes what became of a Chinese comment that was sent as GBK over a
// connection declared latin1: each of its bytes is a character then.
func mended(comment string) string {
	b, err := charmap.Windows1252.NewEncoder().String(comment)
	if err != nil || !strings.ContainsFunc(comment, func(r rune) bool { return r >= 0x80 }) {
		return comment
	}
	v := []sources.Value{{Kind: sources.Bytes, Text: b}}
	if charset, _, ok := charsetOf(v); ok {
		if s, ok := newProbe(mapping.KindText, mapping.Rule{Charset: charset}).text(v[0]); ok {
			return s
		}
	}
	return comment
}

// Types whose values are never looked at, in any engine: pictures and other
// things that are no field of a release, or may be very long.
var heavyType = pattern(`(?i)blob|bytea|image|binary|clob|long|mediumtext|json|xml|geom|point|polygon|vector|oid|\[\]|hstore|rowversion|variant|geography|hierarchyid`)

var sized = pattern(`(?i)^[a-z ]*(binary|char)[a-z ]*\((\d+)\)`)

// heavy reports whether a column is left alone, in the sample and in the draft:
// by its type or, for texts that may be long, by its name.
func heavy(c sources.TableColumn) bool {
	if m := sized().FindStringSubmatch(c.Type); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil && n <= 64 {
			return false // short enough for anything; bytes may be text
		}
	}
	if c.Type == "" || heavyType().MatchString(c.Type) {
		return true
	}
	named, _ := newLabel(c.Name).says(pictureWords, "picture")
	commented, _ := commentLabel(c.Comment).says(pictureWords, "picture")
	col := column{TableColumn: c}
	return col.textual() && max(named, commented) >= .4
}

// temporal reports whether the type is one of date-times.
func (c *column) temporal() bool {
	t := strings.ToLower(c.Type)
	return (strings.Contains(t, "date") || strings.Contains(t, "time")) && !strings.HasPrefix(t, "time(") && t != "time" && !strings.HasPrefix(t, "time without") && !strings.Contains(t, "interval")
}

var integerType = pattern(`(?i)^(?:u?(?:tiny|small|medium|big)?int(?:eger)?\d*|(?:big|small)?serial|number)\b`)

func (c *column) integer() bool { return integerType().MatchString(c.Type) }

var wholeDecimal = pattern(`(?i)^(?:numeric|decimal)\((\d+), ?0\)$`)

// numbers reports whether the column can number rows, as the engine's source
// takes it: SQL Server counts in decimals too.
func (c *column) numbers(driver string) bool {
	return c.integer() || driver == "sqlserver" && wholeDecimal().MatchString(c.Type)
}

func (c *column) textual() bool {
	t := strings.ToLower(c.Type)
	return strings.Contains(t, "char") || strings.Contains(t, "text") || strings.HasPrefix(t, "enum") || strings.HasPrefix(t, "set(") || strings.Contains(t, "binary")
}

// look fills in what the values show. charset is that of bytes.
func (c *column) look(values []sources.Value, charset string) {
	c.sampled, c.rows = true, len(values)
	text := newProbe(mapping.KindText, mapping.Rule{Charset: charset})
	for _, v := range values {
		if v.IsNull() {
			c.empty++
			continue
		}
		s, ok := text.text(v)
		if ok && s == "" {
			c.empty++
			continue
		}
		c.values = append(c.values, v)
		if ok && v.Kind < sources.Local {
			c.texts = append(c.texts, s)
		}
	}
	c.plates, c.noPlates, c.transform = plates(c.texts)
	c.clock, c.clockSeconds = clocks(c.texts)
	if !c.clock {
		c.times = readTimes(c.values)
	}
}

// distinct reports whether no value was seen twice, and none was missing.
func (c *column) distinct() bool {
	seen := map[string]bool{}
	for _, v := range c.values {
		if seen[v.Text] {
			return false
		}
		seen[v.Text] = true
	}
	return c.sampled && c.empty == 0 && len(c.values) > 0
}
