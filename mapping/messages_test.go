package mapping_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/mapping"
	"parkbridge/sources"
)

var update = flag.Bool("update", false, "write testdata/messages.txt anew")

// Every message about a text or a time, word for word, so that a change of one
// is seen. `go test ./mapping -update` writes the file anew.
func TestMessages(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range rowMistakes {
		p := mapping.Compile(mapping.Rules{c.field: c.rule}, fieldOf(c.field), mapping.Settings{Location: zone(t, "Asia/Shanghai"), MaxFuture: 24 * time.Hour},
			func(path, problem string) { t.Fatal(c.name, path, problem) })
		values := make([]sources.Value, len(p.Columns()))
		for i := range values {
			values[i] = c.in
		}
		_, errs := mapRow(p, values, mapping.Origin{Now: now})
		require.Len(t, errs, 1, c.name)
		fmt.Fprintf(&out, "%s\n    %s\n", c.name, errs[0])
	}
	out.WriteString("\nrules\n\n")
	for _, c := range ruleMistakes {
		var problems []string
		mapping.Compile(mapping.Rules{c.field: c.rule}, fieldOf(c.field), mapping.Settings{Location: time.UTC},
			func(path, problem string) { problems = append(problems, path+" "+problem) })
		require.Len(t, problems, 1, c.name)
		fmt.Fprintf(&out, "%s\n    %s\n", c.name, problems[0])
	}
	mapping.Compile(mapping.Rules{"plates": {Column: "c"}}, contract[:2], mapping.Settings{}, func(path, problem string) {
		fmt.Fprintf(&out, "a field that is none, in the place of one that must be\n    %s\n", strings.TrimSpace(path+" "+problem))
	})
	out.WriteString("\nready\n\n")
	for _, c := range readyMistakes {
		fmt.Fprintf(&out, "%s\n    %s\n", c.condition, c.message(t))
	}
	const golden = "testdata/messages.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), out.String())
}

func fieldOf(name string) []mapping.Field {
	for _, f := range contract {
		if f.Name == name {
			f.Required = name == "op_must"
			return []mapping.Field{f}
		}
	}
	return nil
}

type mistake struct {
	name, field string
	rule        mapping.Rule
	in          sources.Value
}

func times(name string, in sources.Value, format ...string) mistake {
	return mistake{name, "op", mapping.Rule{Column: "c", Format: format}, in}
}

func must(name string, in sources.Value, format ...string) mistake {
	return mistake{name, "op_must", mapping.Rule{Column: "c", Format: format}, in}
}

func zoned(zone string, m mistake) mistake {
	m.rule.Timezone = zone
	return m
}

func expression(name, source string, in sources.Value) mistake {
	return mistake{name, "op_must", mapping.Rule{Expr: source}, in}
}

func texts(name, charset, bytes string) mistake {
	return mistake{name, "plate", mapping.Rule{Column: "c", Charset: charset}, v(sources.Bytes, bytes)}
}

var rowMistakes = []mistake{
	texts("GBK, no charset", "", "\xd4\xc1B12345"),
	texts("GBK cut in half", "gbk", "\xd4\xc1B1234\xd4"),
	texts("far in a long text", "gb18030", strings.Repeat("a", 100)+"\xff"+strings.Repeat("b", 100)),
	texts("UTF-8 taken for Big5", "big5", "粤"),
	texts("GBK taken for UTF-8", "utf-8", "\xd4\xc1"),
	{"bytes in an expression", "plate", mapping.Rule{Expr: `c + "!"`, Charset: "GBK"}, v(sources.Bytes, "\xff")},
	{"bytes before values", "plate", mapping.Rule{Column: "c", Values: map[string]string{"x": "y"}}, v(sources.Bytes, "\xff")},

	times("zero date", v(sources.Bad, "0000-00-00 00:00:00")),
	must("zero date, required", v(sources.Bad, "0000-00-00 00:00:00")),
	{"zero date in a text field", "plate", mapping.Rule{Column: "c"}, v(sources.Bad, "0000-00-00")},
	times("placeholder of 1900", v(sources.Local, "1900-01-01 00:00:00")),
	must("placeholder of 1900, required", v(sources.Local, "1900-01-01")),
	times("placeholder of 9999", v(sources.Local, "9999-12-31 23:59:59")),
	times("placeholder with a zone", v(sources.Time, "1970-01-01 00:00:00+00")),
	times("placeholder as text", v(sources.Text, "1899-12-30 00:00:00")),
	times("placeholder as ISO text with a zone", v(sources.Text, "1970-01-01T00:00:00Z")),
	times("placeholder by a pattern", v(sources.Text, "19991231"), "yyyyMMdd"),
	times("unix 0", v(sources.Int, "0"), "unix"),
	times("unix, negative", v(sources.Decimal, "-1.5"), "unix"),
	times("unix of milliseconds", v(sources.Int, "1793498400020"), "unix"),
	times("unix beyond all years", v(sources.Int, "9223372036854775807"), "unix"),
	times("unix_ms of seconds", v(sources.Int, "1793498400"), "unix_ms"),
	times("dotnet_ticks 0", v(sources.Int, "0"), "dotnet_ticks"),
	times("dotnet_ticks, negative", v(sources.Int, "-9223372036854775808"), "dotnet_ticks"),
	times("ole 0", v(sources.Float, "0"), "ole"),
	times("ole, negative", v(sources.Float, "-1.25"), "ole"),
	times("ole beyond all years", v(sources.Float, "1e+18"), "ole"),
	times("excel 1", v(sources.Int, "1"), "excel"),
	times("excel 61", v(sources.Int, "61"), "excel"),
	times("julian 0", v(sources.Float, "0"), "julian"),
	times("NaN", v(sources.Float, "NaN"), "ole"),
	times("infinity", v(sources.Float, "+Inf"), "unix"),
	times("text where a number should be", v(sources.Text, "yesterday"), "unix"),
	times("exponent in a text", v(sources.Text, "1.79e9"), "unix"),
	times("number without a format", v(sources.Int, "1793498400")),
	times("text of another form", v(sources.Text, "01.11.2026")),
	times("text that does not fit the pattern", v(sources.Text, "20261101"), "yyyy-MM-dd HH:mm:ss"),
	must("text that fits none, required", v(sources.Text, "x"), "unix", "yyyy-MM-dd", "yyyyMMdd"),
	times("30 February", v(sources.Text, "2026-02-30 10:00:00"), "yyyy-MM-dd HH:mm:ss"),
	times("13 PM", v(sources.Text, "2026-02-03 13:00 PM"), "yyyy-MM-dd hh:mm a"),
	zoned("America/New_York", times("gap, native", v(sources.Local, "2026-03-08 02:30:00"))),
	zoned("America/New_York", times("gap, ISO text", v(sources.Text, "2026-03-08T02:30:00"))),
	zoned("America/New_York", times("gap, pattern", v(sources.Text, "20260308023000"), "yyyyMMddHHmmss")),
	zoned("America/New_York", times("gap, ole", float(46089.104166666664), "ole")),
	zoned("America/New_York", must("gap, dotnet_ticks, required", ticks(time.Date(2026, 3, 8, 2, 30, 0, 0, time.UTC)), "dotnet_ticks")),
	times("future, native", v(sources.Local, "2026-11-25 08:00:01")),
	must("future, pattern, required", v(sources.Text, "20361101"), "yyyyMMdd"),
	times("future, unix", v(sources.Int, "2109117600"), "unix"),
	times("future, with a zone", v(sources.Time, "2036-11-01 02:00:00+00")),

	expression("expression on a zero date", `c`, v(sources.Bad, "0000-00-00")),
	expression("expression that ends in 1899", `c`, v(sources.Local, "1899-12-30 10:00:00")),
	zoned("America/New_York", expression("expression on a gap hour", `string(c)`, v(sources.Local, "2026-03-08 02:30:00"))),
	expression("a pattern for NULL", `string(c, "HH:mm:ss")`, sources.Value{}),
	expression("a pattern for text", `string(c, "HH:mm:ss")`, v(sources.Local, "2026-11-01")),
	expression("a pattern that is none", `string(c, 5)`, v(sources.Local, "2026-11-01 10:00:00")),
	expression("a pattern made by an expression", `string(c, "Q" + table)`, v(sources.Local, "2026-11-01 10:00:00")),
	expression("text of nothing", `string()`, sources.Value{}),
	expression("date and nothing", `c + " " + c`, sources.Value{}),
	expression("two date-times", `c + " " + c`, v(sources.Local, "2026-11-01 10:00:00")),
	expression("text and a number", `"EX" + c`, v(sources.Int, "1")),
	expression("an expression's own mistake", `int("x" + c)`, v(sources.Text, "y")),
	expression("text of NULL", `string(c)`, sources.Value{}),
	expression("a list", `[c]`, v(sources.Text, "y")),

	{"an unknown word", "plate", mapping.Rule{Column: "c", Values: map[string]string{"x": "y"}}, v(sources.Text, "z")},
	{"a word that the gate does not take", "color", mapping.Rule{Column: "c"}, v(sources.Text, "蓝")},
	{"an empty column", "op_must", mapping.Rule{Column: "c"}, v(sources.Text, "   ")},
	{"an empty const", "op_must", mapping.Rule{Const: new("")}, sources.Value{}},
	{"an expression that gives nothing", "op_must", mapping.Rule{Expr: "c"}, sources.Value{}},
}

func pattern(text string) mistake {
	return mistake{name: text, field: "op", rule: mapping.Rule{Column: "c", Format: []string{text}}}
}

var ruleMistakes = []mistake{
	{name: "charset", field: "plate", rule: mapping.Rule{Column: "c", Charset: "cp936"}},
	pattern("YYYY-MM-dd"),
	pattern("yyyy-mm-dd"),
	pattern("yyyy-MMM-dd"),
	pattern("yyy-MM-dd"),
	pattern("yyyy-MM-dd HH:MM:ss"),
	pattern("yyyy-MM-dd hh:mm:ss"),
	pattern("yyyy-MM-dd HH:mm a"),
	pattern("yyyy-MM-dd HH hh a"),
	pattern("yyyy-MM-dd'T"),
	pattern("yyyy-MM-dd E"),
	pattern("HH:mm:ss"),
	pattern("yyyyMd"),
	pattern("Unix"),
	pattern(""),
	{name: "a pattern in an expression", field: "op", rule: mapping.Rule{Expr: `string(c, "HH:MI")`}},
	{name: "an expression that is none", field: "op", rule: mapping.Rule{Expr: `c +`}},
	{name: "a function that is none", field: "op", rule: mapping.Rule{Expr: `now()`}},
	{name: "a column's name that is made", field: "op", rule: mapping.Rule{Expr: `$env["c" + table]`}},
	{name: "nothing", field: "op"},
	{name: "two ways", field: "op", rule: mapping.Rule{Column: "c", Const: new("x")}},
	{name: "zone", field: "op", rule: mapping.Rule{Column: "c", Timezone: "Beijing"}},
	{name: "transform", field: "plate", rule: mapping.Rule{Column: "c", Transform: []string{"uppercase"}}},
	{name: "format of a text", field: "plate", rule: mapping.Rule{Column: "c", Format: []string{"unix"}}},
	{name: "invalid", field: "op", rule: mapping.Rule{Column: "c", Invalid: "drop"}},
	{name: "omit a field that must be", field: "op_must", rule: mapping.Rule{Column: "c", Invalid: "omit"}},
	{name: "omit a text", field: "plate", rule: mapping.Rule{Column: "c", Invalid: "omit"}},
	{name: "otherwise alone", field: "plate", rule: mapping.Rule{Column: "c", Otherwise: new("x")}},
	{name: "a constant that the gate does not take", field: "color", rule: mapping.Rule{Const: new("3")}},
	{name: "a value that the gate does not take", field: "color", rule: mapping.Rule{Column: "c", Values: map[string]string{"紫": "9"}}},
	{name: "a default that is no time", field: "op", rule: mapping.Rule{Column: "c", Default: new("never")}},
}
