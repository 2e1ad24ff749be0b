package draft

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// zoneName is that of the lots the platform serves.
const zoneName = "Asia/Shanghai"

var zone = sync.OnceValue(func() *time.Location {
	loc, err := time.LoadLocation(zoneName)
	if err != nil {
		panic(err) // package mapping compiles the zones in
	}
	return loc
})

// pattern is a regular expression that is compiled when it is first needed: most
// runs of the program draft nothing.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// probe runs one value through a rule of the mapping itself, so that what a
// draft promises is what a sync does.
type probe struct{ program *mapping.Program }

func newProbe(kind string, rule mapping.Rule) probe {
	rule.Column = "c"
	return probe{mapping.Compile(mapping.Rules{"f": rule}, []mapping.Field{{Name: "f", Kind: kind}},
		mapping.Settings{Location: zone()}, func(path, problem string) { panic(path + " " + problem) })} // a mistake of this program
}

// text is the field that the rule makes of a value; ok is false where it makes
// none.
func (p probe) text(v sources.Value) (string, bool) {
	fields, problems := p.program.Map([]sources.Value{v}, mapping.Origin{})
	return fields["f"], problems == nil
}

// charsets are those that bytes of unknown kind are tried with, in this order.
// Big5 is not among them: its bytes are GBK too, though nonsense.
var charsets = []string{"utf-8", "gbk", "gb18030"}

// charsetOf finds the charset that the most of some bytes decode in, and how many
// do not: a row or two may be broken. It is "" where they are all ASCII; ok is
// false where none fits.
func charsetOf(values []sources.Value) (charset string, misses int, ok bool) {
	values = slices.DeleteFunc(slices.Clone(values), func(v sources.Value) bool {
		return v.Kind != sources.Bytes || strings.IndexFunc(v.Text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	})
	if len(values) == 0 {
		return "", 0, true
	}
	misses = len(values)
	for _, c := range charsets {
		p := newProbe(mapping.KindText, mapping.Rule{Charset: c})
		n := 0
		for _, v := range values {
			if _, ok := p.text(v); !ok {
				n++
			}
		}
		if n < misses {
			charset, misses = c, n
		}
	}
	if misses*10 > len(values) {
		return "", misses, false
	}
	return charset, misses, true
}

// platePattern is a plate of the Chinese mainland after transforms: the
// province, the city's letter, five or six more, the last of which may be a
// character of its own; also the armed police, the army and the old embassies.
var platePattern = pattern(`^(?:[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使领][A-Z][A-Z0-9]{4,5}[A-Z0-9挂学警港澳领试超]|` +
	`WJ[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]?[0-9]{4,5}[0-9TDSHBXJ]|[军空海北沈兰济南广成][A-Z][A-Z0-9]{5})$`)

// Texts that stand where there is no plate, or none was read.
var noPlate = []string{"无牌", "无车牌", "未识别", "无牌车", "无", "未知", "无号牌", "临牌", "NULL", "NONE", "UNKNOWN", "-", "0"}

var tidyPlate = sync.OnceValue(func() probe {
	return newProbe(mapping.KindText, mapping.Rule{Transform: []string{"nospace", "halfwidth", "upper"}})
})

// plates counts those of some texts that are plates, those that say there is
// none, and the transforms that the plates need.
func plates(texts []string) (are, none int, transform []string) {
	space, wide, lower := false, false, false
	for _, s := range texts {
		tidy, _ := tidyPlate().text(sources.Value{Kind: sources.Text, Text: s})
		switch {
		case platePattern().MatchString(tidy):
			are++
			space = space || strings.ContainsAny(s, " \t　")
			wide = wide || strings.IndexFunc(s, func(r rune) bool { return r >= 0xff01 && r <= 0xff5e }) >= 0
			lower = lower || strings.ToUpper(s) != s
		case slices.Contains(noPlate, tidy):
			none++
		}
	}
	for _, t := range []struct {
		needed bool
		name   string
	}{{space, "nospace"}, {wide, "halfwidth"}, {lower, "upper"}} {
		if t.needed {
			transform = append(transform, t.name)
		}
	}
	return are, none, transform
}

// timeFormats are tried on times that are no date-times of the database, in
// this order; "" is what a rule without a format takes. Days, hours and the
// like of a pattern may have one digit or two.
var timeFormats = sync.OnceValue(func() []timeFormat {
	var out []timeFormat
	for _, name := range []string{
		"", "yyyy-MM-dd HH:mm:ss", "yyyyMMddHHmmss", "yyyyMMddHHmmssSSS", "yyyy/MM/dd HH:mm:ss", "yyyy.MM.dd HH:mm:ss", "yyyy-MM-dd HH:mm",
		"yyyy/MM/dd HH:mm", "yyyy年MM月dd日 HH:mm:ss", "yyyy年MM月dd日 HH时mm分ss秒", "yyyyMMdd HH:mm:ss", "M/d/yyyy h:mm:ss a", "yyyy-MM-dd", "yyyy/MM/dd", "yyyyMMdd",
		"unix", "unix_ms", "dotnet_ticks", "ole",
	} {
		rule := mapping.Rule{}
		if name != "" {
			rule.Format = []string{name}
		}
		out = append(out, timeFormat{name, newProbe(mapping.KindTime, rule)})
	}
	return out
})

type timeFormat struct {
	name string
	probe
}

// Years that a release can be of: the platform is younger than the first.
const firstYear, lastYear = 2000, 2099

// at reads a value; ok is false where it is no time of this format.
func (f timeFormat) at(v sources.Value) (t time.Time, ok bool) {
	if f.name == "ole" && v.Kind == sources.Int {
		return t, false // any small number would be one
	}
	text, ok := f.text(v)
	if !ok || text == "" {
		return t, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	t = t.In(zone())
	return t, err == nil && t.Year() >= firstYear && t.Year() <= lastYear
}

// times is what a column's values are as times.
type times struct {
	native  bool     // date-times of the database
	formats []string // what a rule needs; none where it needs none
	fit     float64  // the share of the values that these read
	misses  int      // how many they do not
	newest  time.Time
	day     bool // dates without a time of day
}

// readTimes finds the formats, at most two, in which the most values are times.
func readTimes(values []sources.Value) times {
	var best times
	rest := values
	for range 2 {
		var hit timeFormat
		most := 0
		for _, f := range timeFormats() {
			n := 0
			for _, v := range rest {
				if _, ok := f.at(v); ok {
					n++
				}
			}
			if n > most {
				hit, most = f, n
			}
		}
		// A second format is worth its words only if more than a stray row needs it.
		if most == 0 || len(rest) < len(values) && (most < 2 || most*50 < len(values)) {
			break
		}
		best.take(hit)
		rest = slices.DeleteFunc(slices.Clone(rest), func(v sources.Value) bool {
			t, ok := hit.at(v)
			if ok && t.After(best.newest) {
				best.newest = t
			}
			return ok
		})
		if len(rest) == 0 {
			break
		}
	}
	if len(values) > 0 {
		best.misses = len(rest)
		best.fit = float64(len(values)-len(rest)) / float64(len(values))
		best.native = !slices.ContainsFunc(values, func(v sources.Value) bool { return v.Kind < sources.Local })
	}
	return best
}

func (t *times) take(f timeFormat) {
	t.day = f.name == "yyyy-MM-dd" || f.name == "yyyy/MM/dd" || f.name == "yyyyMMdd"
	if len(t.formats) == 0 && f.name == "" {
		t.formats = []string{""}
		return
	}
	if len(t.formats) == 1 && t.formats[0] == "" {
		t.formats[0] = "yyyy-MM-dd HH:mm:ss" // beside another, it must be named
	}
	name := f.name
	if name == "" {
		name = "yyyy-MM-dd HH:mm:ss"
	}
	t.formats = append(t.formats, name)
}

// named gives the formats as a rule has them.
func (t *times) named() []string {
	if len(t.formats) == 1 && t.formats[0] == "" {
		return nil
	}
	return t.formats
}

var clockPattern = pattern(`^\d{1,2}:\d{2}(:\d{2})?$`)

// clocks reports whether texts are times of day without a date, and whether
// they have seconds.
func clocks(texts []string) (are, seconds bool) {
	if len(texts) == 0 {
		return false, false
	}
	for _, s := range texts {
		if !clockPattern().MatchString(s) {
			return false, false
		}
		seconds = seconds || strings.Count(s, ":") == 2
	}
	return true, seconds
}

// kinds of words whose meaning can be guessed: a part of the text, and the
// gate's value for it. The first that is found counts.
type meaning struct{ part, value string }

var colours = []meaning{
	{"绿", "5"}, {"green", "5"}, {"蓝", "1"}, {"blue", "1"}, {"黄", "2"}, {"yellow", "2"}, {"白", "3"}, {"white", "3"}, {"黑", "4"}, {"black", "4"},
}

var carTypes = []meaning{
	{"储值", "4"},
	{"stored", "4"},
	{"月", "2"},
	{"month", "2"},
	{"贵宾", "3"},
	{"免费", "3"},
	{"vip", "3"},
	{"free", "3"},
	{"临", "1"},
	{"时租", "1"},
	{"temp", "1"},
	{"访客", "1"},
	{"visitor", "1"},
}

// mean gives the gate's value for a word; "" where it cannot be guessed.
func mean(meanings []meaning, text string) string {
	text = strings.ToLower(text)
	for _, m := range meanings {
		if strings.Contains(text, m.part) {
			return m.value
		}
	}
	return ""
}

// enumeration lists the different values of a column, the most frequent first,
// where they are few and short; nil where they are not.
func enumeration(texts []string) []string {
	const most, longest = 12, 12
	count := map[string]int{}
	var out []string
	for _, s := range texts {
		if utf8.RuneCountInString(s) > longest {
			return nil
		}
		if count[s]++; count[s] == 1 {
			out = append(out, s)
		}
	}
	if len(out) > most || len(texts) >= 4 && len(out) > len(texts)/2+1 {
		return nil
	}
	slices.SortStableFunc(out, func(a, b string) int { return count[b] - count[a] })
	return out
}

var digits = pattern(`^-?\d+$`)

// codes reports whether texts are all small numbers, which say nothing by
// themselves.
func codes(texts []string) bool {
	return len(texts) > 0 && !slices.ContainsFunc(texts, func(s string) bool { return len(s) > 4 || !digits().MatchString(s) })
}
