package mapping_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// wallForm writes a wall time, in whole seconds, in one of the forms that carry
// no zone.
type wallForm struct {
	rule  mapping.Rule
	value func(wall time.Time) sources.Value
}

func wallForms() map[string]wallForm {
	text := func(layout string) func(time.Time) sources.Value {
		return func(wall time.Time) sources.Value { return v(sources.Text, wall.Format(layout)) }
	}
	days := func(wall time.Time) sources.Value {
		return float(wall.Sub(time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)).Hours() / 24)
	}
	digits := func(wall time.Time) sources.Value { return v(sources.Int, wall.Format("20060102150405")) }
	return map[string]wallForm{
		"native":             {mapping.Rule{}, func(wall time.Time) sources.Value { return v(sources.Local, wall.Format("2006-01-02 15:04:05")) }},
		"ISO":                {mapping.Rule{}, text("2006-01-02T15:04:05")},
		"pattern":            {mapping.Rule{Format: []string{"dd.MM.yyyy HH:mm:ss"}}, text("02.01.2006 15:04:05")},
		"twelve hours":       {mapping.Rule{Format: []string{"M/d/yyyy h:mm:ss a"}}, text("1/2/2006 3:04:05 PM")},
		"fourteen digits":    {mapping.Rule{Format: []string{"yyyyMMddHHmmss"}}, digits},
		"ole":                {mapping.Rule{Format: []string{"ole"}}, days},
		"excel":              {mapping.Rule{Format: []string{"excel"}}, days},
		"dotnet_ticks":       {mapping.Rule{Format: []string{"dotnet_ticks"}}, ticks},
		"expr of two":        {mapping.Rule{Expr: `c[:10] + " " + c[11:]`}, text("2006-01-02T15:04:05")},
		"expr of the native": {mapping.Rule{Expr: `c`}, func(wall time.Time) sources.Value { return v(sources.Local, wall.Format("2006-01-02 15:04:05")) }},
	}
}

// An hour that clocks skip is a field error and one that they show twice is the
// first of the two, whatever form the time is kept in.
func TestSummerTimeInEveryForm(t *testing.T) {
	t.Parallel()
	for name, form := range wallForms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct{ zone, wall, want string }{
				{"America/New_York", "2026-03-08 01:59:59", "2026-03-08T06:59:59Z"},
				{"America/New_York", "2026-03-08 02:00:00", ""},
				{"America/New_York", "2026-03-08 02:59:59", ""},
				{"America/New_York", "2026-03-08 03:00:00", "2026-03-08T07:00:00Z"},
				{"America/New_York", "2026-11-01 00:59:59", "2026-11-01T04:59:59Z"},
				{"America/New_York", "2026-11-01 01:00:00", "2026-11-01T05:00:00Z"},
				{"America/New_York", "2026-11-01 01:59:59", "2026-11-01T05:59:59Z"},
				{"America/New_York", "2026-11-01 02:00:00", "2026-11-01T07:00:00Z"},
				{"Australia/Lord_Howe", "2026-04-05 01:45:00", "2026-04-04T14:45:00Z"},
				{"Australia/Lord_Howe", "2026-10-04 02:15:00", ""},
				{"Asia/Shanghai", "2026-03-08 02:30:00", "2026-03-07T18:30:00Z"},
			} {
				wall, err := time.Parse("2006-01-02 15:04:05", c.wall)
				require.NoError(t, err)
				form.rule.Timezone = c.zone
				got, problem := mapOne(t, "op", form.rule, form.value(wall))
				require.Equal(t, c.want, got, "%s in %s: %s", c.wall, c.zone, problem)
				if c.want == "" {
					require.Contains(t, problem, "did not exist in "+c.zone)
				}
			}
		})
	}
}

// Forms that name an instant have no such hours.
func TestInstantsKnowNoSummerTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule mapping.Rule
		in   sources.Value
	}{
		"with a zone":     {mapping.Rule{}, v(sources.Time, "2026-11-01 06:30:00+00")},
		"unix":            {mapping.Rule{Format: []string{"unix"}}, v(sources.Int, "1793514600")},
		"unix_ms":         {mapping.Rule{Format: []string{"unix_ms"}}, v(sources.Int, "1793514600000")},
		"julian":          {mapping.Rule{Format: []string{"julian"}}, v(sources.Float, "2461345.7708333335")},
		"pattern, X":      {mapping.Rule{Format: []string{"yyyy-MM-dd HH:mm:ssX"}}, v(sources.Text, "2026-11-01 01:30:00-05:00")},
		"pattern, Z":      {mapping.Rule{Format: []string{"yyyy-MM-dd HH:mm:ss Z"}}, v(sources.Text, "2026-11-01 01:30:00 -0500")},
		"pattern, X, +hh": {mapping.Rule{Format: []string{"X yyyy-MM-dd HH:mm:ss"}}, v(sources.Text, "-05 2026-11-01 01:30:00")},
	} {
		c.rule.Timezone = "America/New_York"
		got, problem := mapOne(t, "op", c.rule, c.in)
		require.Equal(t, "2026-11-01T06:30:00Z", got, "%s: %s", name, problem)
	}
}

// The platform's document writes its UTC times with a literal 'Z'. So do those
// who copied the pattern; a rule that names a zone knows better.
func TestLiteralZ(t *testing.T) {
	t.Parallel()
	rule := mapping.Rule{Format: []string{"yyyy-MM-dd'T'HH:mm:ss'Z'"}}
	got, problem := mapOne(t, "op", rule, v(sources.Text, "2026-11-01T10:00:00Z"))
	require.Equal(t, "2026-11-01T10:00:00Z", got, problem)
	rule.Timezone = "Asia/Shanghai"
	got, problem = mapOne(t, "op", rule, v(sources.Text, "2026-11-01T10:00:00Z"))
	require.Equal(t, "2026-11-01T02:00:00Z", got, problem)
}

func TestNumbersAsTimes(t *testing.T) {
	t.Parallel()
	const at = "2026-11-01T02:00:00Z" // 10:00:00 in Shanghai
	for name, c := range map[string]struct {
		format string
		in     sources.Value
		want   string
	}{
		"unix in a float":                      {"unix", v(sources.Float, "1.7934984e+09"), at},
		"unix in a text column":                {"unix", v(sources.Text, "1793498400"), at},
		"unix in a decimal with a scale":       {"unix", v(sources.Decimal, "1793498400.000"), at},
		"unix, nanoseconds are cut":            {"unix", v(sources.Decimal, "1793498400.9999999999"), "2026-11-01T02:00:00.999Z"},
		"unix_ms, a fraction is cut":           {"unix_ms", v(sources.Decimal, "1793498400020.9"), "2026-11-01T02:00:00.020Z"},
		"ole, whole seconds stay whole":        {"ole", v(sources.Float, "46327.416666666664"), at},
		"ole, a third of a day":                {"ole", v(sources.Float, "46327.333333333336"), "2026-11-01T00:00:00Z"},
		"ole, half a second":                   {"ole", v(sources.Float, "46327.41667245370"), "2026-11-01T02:00:00.500Z"},
		"ole, rounded to the millisecond":      {"ole", v(sources.Decimal, "46327.41666666"), "2026-11-01T01:59:59.999Z"},
		"ole, rounded up over midnight":        {"ole", v(sources.Float, "46327.999999999996"), "2026-11-01T16:00:00Z"},
		"ole in text":                          {"ole", v(sources.Text, "46327.4166666667"), at},
		"ole, a date alone":                    {"ole", v(sources.Int, "46327"), "2026-10-31T16:00:00Z"},
		"excel":                                {"excel", v(sources.Float, "46327.4166666667"), at},
		"julian, whole seconds stay whole":     {"julian", v(sources.Float, "2461345.5833333335"), at},
		"dotnet_ticks, the last digits go":     {"dotnet_ticks", v(sources.Int, "639291240005009999"), "2026-11-01T02:00:00.500Z"},
		"eight digits":                         {"yyyyMMdd", v(sources.Int, "20261101"), "2026-10-31T16:00:00Z"},
		"eight digits in a float":              {"yyyyMMdd", v(sources.Float, "2.0261101e+07"), "2026-10-31T16:00:00Z"},
		"fourteen digits in a decimal":         {"yyyyMMddHHmmss", v(sources.Decimal, "20261101100000.00"), at},
		"fourteen digits with a fraction":      {"yyyyMMddHHmmss", v(sources.Decimal, "20261101100000.25"), "2026-11-01T02:00:00.250Z"},
		"fourteen digits in a float":           {"yyyyMMddHHmmss", v(sources.Float, "2.02611011e+13"), at},
		"seventeen digits in a decimal":        {"yyyyMMddHHmmssSSS", v(sources.Decimal, "20261101100000020"), "2026-11-01T02:00:00.020Z"},
		"twelve digits":                        {"yyMMddHHmmss", v(sources.Int, "261101100000"), at},
		"digits with seconds of six decimals":  {"yyyyMMddHHmmssSSSSSS", v(sources.Text, "20261101100000123456"), "2026-11-01T02:00:00.123Z"},
		"one letter takes one digit or two":    {"y-M-d H:m:s", v(sources.Text, "2026-11-1 10:0:0"), at},
		"two letters take one digit also":      {"yyyy-MM-dd HH:mm:ss", v(sources.Text, "2026-11-1 10:0:00"), at},
		"a quote in a pattern":                 {"yyyy-MM-dd HH''mm", v(sources.Text, "2026-11-01 10'00"), at},
		"SQL Server's time(7) after a date":    {"yyyy-MM-dd HH:mm:ss", v(sources.Text, "2026-11-01 10:00:00.0000000"), at},
		"microseconds that the pattern counts": {"yyyy-MM-dd HH:mm:ss.SSS", v(sources.Text, "2026-11-01 10:00:00.020000"), "2026-11-01T02:00:00.020Z"},
	} {
		got, problem := mapOne(t, "op", mapping.Rule{Format: []string{c.format}}, c.in)
		require.Equal(t, c.want, got, "%s: %s", name, problem)
	}
}

// Date and time in two columns, as the engines give them: a date is text, and
// so is a clock time; where both are date-times, a pattern takes what counts.
func TestDateAndTimeInTwoColumns(t *testing.T) {
	t.Parallel()
	const at = "2026-11-01T02:00:01Z"
	for name, c := range map[string]struct {
		expr         string
		format       []string
		date, time   sources.Value
		want, reason string
	}{
		"native": {`d + " " + t`, nil, v(sources.Local, "2026-11-01"), v(sources.Text, "10:00:01"), at, ""},
		"native, with a pattern": {
			`d + " " + t`,
			[]string{"yyyy-MM-dd HH:mm:ss"},
			v(sources.Local, "2026-11-01"), v(sources.Text, "10:00:01.0000000"), at, "",
		},
		"clock time with a zone": {
			`d + " " + t`,
			[]string{"yyyy-MM-dd HH:mm:ssX"},
			v(sources.Local, "2026-11-01"), v(sources.Text, "10:00:01+08"), at, "",
		},
		"text": {`d + t`, []string{"yyyyMMddHHmmss"}, v(sources.Text, "20261101"), v(sources.Text, "100001"), at, ""},
		"two date-times": {
			`string(d, "yyyy-MM-dd") + " " + string(t, "HH:mm:ss")`, nil,
			v(sources.Local, "2026-11-01 00:00:00"), v(sources.Local, "1899-12-30 10:00:01"), at, "",
		},
		"two date-times, a base of 1900": {
			`string(d, "yyyyMMdd") + string(t, "HHmmssSSS")`,
			[]string{"yyyyMMddHHmmssSSS"},
			v(sources.Local, "2026-11-01 00:00:00"), v(sources.Local, "1900-01-01 10:00:01.5"), "2026-11-01T02:00:01.500Z", "",
		},
		"integers, the hour without its zero": {
			`string(d) + ("000000" + string(t))[-6:]`,
			[]string{"yyyyMMddHHmmss"},
			v(sources.Int, "20261101"), v(sources.Int, "90001"), "2026-11-01T01:00:01Z", "",
		},
		"OLE, day and fraction": {`d + t`, []string{"ole"}, v(sources.Float, "46327"), v(sources.Float, "0.41667824074074073"), at, ""},
		"a time left NULL":      {`t == nil ? nil : d + " " + t`, nil, v(sources.Local, "2026-11-01"), sources.Value{}, "", ""},
		"an hour that is none":  {`d + " " + t`, nil, v(sources.Local, "2026-11-01"), v(sources.Text, "25:00:00"), "", "yyyy-MM-dd HH:mm:ss"},
	} {
		p, problems := compile(t, mapping.Rules{"flow_no": {Const: new("F")}, "op": {Expr: c.expr, Format: c.format}}, "")
		require.Empty(t, problems, name)
		values := []sources.Value{c.date, c.time}
		if p.Columns()[0] == "t" {
			values = []sources.Value{c.time, c.date}
		}
		fields, errs := mapRow(p, values, mapping.Origin{})
		require.Equal(t, c.want, fields["op"], "%s: %v", name, errs)
		if c.reason != "" {
			require.Len(t, errs, 1)
			require.Contains(t, errs[0].Problem, c.reason)
		} else {
			require.Empty(t, errs, name)
		}
	}
}

// What string makes of a time by a pattern.
func TestTimesAsText(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		`string(c)`:                                "2026-01-02 15:04:05.06",
		`string(c, "yyyyMMddHHmmssSSS")`:           "20260102150405060",
		`string(c, "yy-M-d")`:                      "26-1-2",
		`string(c, "hh:mm a")`:                     "03:04 PM",
		`string(c, "yyyy年M月d日 'at' H''mm")`:        "2026年1月2日 at 15'04",
		`string(c, "yyyy-MM-dd'T'HH:mm:ssX")`:      "2026-01-02T15:04:05+08:00",
		`string(c.Hour())`:                         "15",
		`"EX" + string(c, "yyyyMM") + "-" + table`: "EX202601-pass",
	} {
		got, problem := mapOne(t, "plate", mapping.Rule{Expr: expr}, v(sources.Local, "2026-01-02 15:04:05.06"))
		require.Equal(t, want, got, "%s: %s", expr, problem)
	}
}

// How far ahead a time may lie is counted from when its row was read.
func TestMaxFuture(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC) // 08:00 in Shanghai
	try := func(in sources.Value, rule mapping.Rule, now time.Time, most time.Duration) (string, []mapping.FieldError) {
		rule.Column = "c"
		p := mapping.Compile(mapping.Rules{"op": rule}, contract[3:4], mapping.Settings{Location: zone(t, "Asia/Shanghai"), MaxFuture: most},
			func(path, problem string) { t.Fatal(path, problem) })
		fields, errs := mapRow(p, []sources.Value{in}, mapping.Origin{Now: now})
		return fields["op"], errs
	}
	day := 24 * time.Hour
	for in, fits := range map[string]bool{"2026-11-25 08:00:00": true, "2026-11-25 08:00:01": false, "2098-01-01 00:00:00": false} {
		got, errs := try(v(sources.Local, in), mapping.Rule{}, now, day)
		require.Equal(t, fits, errs == nil, in)
		require.Equal(t, fits, got != "", in)
		got, errs = try(v(sources.Text, in), mapping.Rule{Format: []string{"yyyy-MM-dd HH:mm:ss"}}, now, day)
		require.Equal(t, fits, errs == nil, in)
		require.Equal(t, fits, got != "", in)
	}
	late := v(sources.Local, "2026-11-25 08:00:01")
	got, errs := try(late, mapping.Rule{Invalid: "omit"}, now, day)
	require.Empty(t, errs)
	require.Empty(t, got, "left out")
	for _, c := range []struct {
		now  time.Time
		most time.Duration
	}{{now.Add(time.Second), day}, {now, 25 * time.Hour}, {now, 0}, {time.Time{}, day}} {
		got, errs = try(late, mapping.Rule{}, c.now, c.most)
		require.Empty(t, errs, c)
		require.Equal(t, "2026-11-25T00:00:01Z", got)
	}
}

func TestCharsets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ charset, bytes, want string }{
		"GBK":                              {"gbk", "\xd4\xc1B12345", "粤B12345"},
		"GB2312, as its superset":          {"GB2312", "\xd4\xc1\x87\xd1", "粤囇"},
		"GB18030, four bytes":              {"gb18030", "\xd4\xc1\x95\x32\x82\x36", "粤𠀀"},
		"Big5":                             {"big5", "\xb8\x66\xb2\x66", "粵淬"},
		"Latin-1":                          {"latin-1", "caf\xe9", "café"},
		"Latin-1 as MySQL means it":        {"latin1", "\x80", "€"},
		"UTF-8":                            {"utf-8", "粤B", "粤B"},
		"GBK that is UTF-8 by accident":    {"gbk", "\xc1\xaa\xcd\xa8", "联通"},
		"fixed width: the padding goes":    {"gbk", "\xd4\xc1B12345   \x00", "粤B12345"},
		"ASCII is the same in all of them": {"big5", "B12345", "B12345"},
	} {
		p, problems := compile(t, mapping.Rules{"flow_no": {Const: new("F")}, "plate": {Column: "c"}}, c.charset)
		require.Empty(t, problems)
		fields, errs := mapRow(p, []sources.Value{v(sources.Bytes, c.bytes)}, mapping.Origin{})
		require.Empty(t, errs, name)
		require.Equal(t, c.want, fields["plate"], "%s, by source", name)
		got, problem := mapOne(t, "plate", mapping.Rule{Charset: c.charset}, v(sources.Bytes, c.bytes))
		require.Equal(t, c.want, got, "%s, by rule: %s", name, problem)
		got, problem = mapOne(t, "plate", mapping.Rule{Charset: c.charset, Expr: `c + "!"`}, v(sources.Bytes, c.bytes))
		require.Equal(t, c.want+"!", got, "%s, in an expression: %s", name, problem)
		got, problem = mapOne(t, "plate", mapping.Rule{Charset: c.charset, Values: map[string]string{c.want: "hit"}}, v(sources.Bytes, c.bytes))
		require.Equal(t, "hit", got, "%s, as a key of values: %s", name, problem)
	}
}

// A rule's charset goes before the source's, and what the rules say together
// tells how a column is read.
func TestCharsetOfRuleAndSource(t *testing.T) {
	t.Parallel()
	p, problems := compile(t, mapping.Rules{
		"flow_no": {Column: "no", Charset: "utf-8"}, "plate": {Column: "p"}, "op": {Expr: `string(no) + p`, Charset: "big5"},
	}, "gbk")
	require.Empty(t, problems)
	require.Equal(t, []sources.Need{{Column: "no", Raw: true, UTF8: true}, {Column: "p", Raw: true}}, p.Needs())
	p, _ = compile(t, mapping.Rules{"flow_no": {Column: "no"}, "plate": {Column: "p", Charset: "UTF8"}}, "")
	require.Equal(t, []sources.Need{{Column: "no"}, {Column: "p", UTF8: true}}, p.Needs(), "only what is said is asked for")
	fields, errs := mapRow(p, []sources.Value{v(sources.Text, "1"), v(sources.Bytes, "粤")}, mapping.Origin{})
	require.Empty(t, errs)
	require.Equal(t, "粤", fields["plate"])
}

func TestMessageOfBytesIsShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 100000)
	for at, in := range map[string]string{"byte 100001": long + "\xff" + long, "byte 1:": "\xff", "byte 3:": "\xd4\xc1\xff"} {
		_, problem := mapOne(t, "plate", mapping.Rule{Charset: "gbk"}, v(sources.Bytes, in))
		require.Contains(t, problem, at)
		require.Contains(t, problem, "[ff]")
		require.Less(t, len(problem), 250)
	}
	_, problem := mapOne(t, "op", mapping.Rule{Format: []string{"unix"}}, v(sources.Text, long))
	require.Less(t, len(problem), 250)
}
