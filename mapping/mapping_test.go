package mapping_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/mapping"
	"parkbridge/sources"
)

var contract = []mapping.Field{
	{Name: "flow_no", Required: true, Kind: mapping.KindText},
	{Name: "plate", Kind: mapping.KindText},
	{Name: "color", Kind: mapping.KindEnum, Enum: []string{"1", "2", "-1"}},
	{Name: "op", Kind: mapping.KindTime},
	{Name: "op_must", Kind: mapping.KindTime},
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	require.NoError(t, err)
	return loc
}

func compile(t *testing.T, rules mapping.Rules, charset string) (*mapping.Program, []string) {
	t.Helper()
	var problems []string
	p := mapping.Compile(rules, contract, mapping.Settings{Location: zone(t, "Asia/Shanghai"), Charset: charset}, func(path, problem string) {
		problems = append(problems, path+": "+problem)
	})
	return p, problems
}

// mapOne maps a row of the column c through one rule for a field.
//
//go:fix inline
func mapOne(t *testing.T, field string, r mapping.Rule, v sources.Value) (string, string) {
	t.Helper()
	if r.Column == "" && r.Const == nil && r.Expr == "" {
		r.Column = "c"
	}
	p, problems := compile(t, mapping.Rules{"flow_no": {Const: new("F")}, field: r}, "")
	require.Empty(t, problems)
	values := make([]sources.Value, len(p.Needs()))
	for i := range values {
		values[i] = v
	}
	fields, errs := mapRow(p, values, mapping.Origin{Table: "pass"})
	if errs != nil {
		require.Len(t, errs, 1)
		require.Equal(t, field, errs[0].Field)
		require.Nil(t, fields)
		return "", errs[0].Problem
	}
	return fields[field], ""
}

// mapRow applies a program to one row.
func mapRow(p *mapping.Program, values []sources.Value, origin mapping.Origin) (map[string]string, []mapping.FieldError) {
	return p.Map(values, origin)
}

func float(f float64) sources.Value {
	return sources.Value{Kind: sources.Float, Text: strconv.FormatFloat(f, 'g', -1, 64)}
}

// ticks is .NET's count of a wall time.
func ticks(wall time.Time) sources.Value {
	return sources.Value{Kind: sources.Int, Text: strconv.FormatInt((wall.Unix()+62135596800)*1e7, 10)}
}

func v(k sources.Kind, s string) sources.Value { return sources.Value{Kind: k, Text: s} }

func TestText(t *testing.T) {
	t.Parallel()
	no := false
	for name, c := range map[string]struct {
		rule mapping.Rule
		in   sources.Value
		want string
		err  string
	}{
		"as it is":                      {mapping.Rule{}, v(sources.Text, "粤B12345"), "粤B12345", ""},
		"trailing spaces and NULs go":   {mapping.Rule{}, v(sources.Text, " a b \x00 \x00"), " a b", ""},
		"trim false keeps them":         {mapping.Rule{Trim: &no}, v(sources.Text, "a "), "a ", ""},
		"integers are digits":           {mapping.Rule{}, v(sources.Int, "9007199254740993"), "9007199254740993", ""},
		"decimals keep their scale":     {mapping.Rule{}, v(sources.Decimal, "1.50"), "1.50", ""},
		"floats print no exponent":      {mapping.Rule{}, v(sources.Float, "1e+21"), "1000000000000000000000", ""},
		"small floats too":              {mapping.Rule{}, v(sources.Float, "1e-07"), "0.0000001", ""},
		"booleans are words":            {mapping.Rule{Values: map[string]string{"true": "yes"}}, v(sources.Bool, "true"), "yes", ""},
		"GBK":                           {mapping.Rule{Charset: "gbk"}, v(sources.Bytes, "\xd4\xc1B12345"), "粤B12345", ""},
		"GB18030, four bytes":           {mapping.Rule{Charset: "GB18030"}, v(sources.Bytes, "\x95\x32\x82\x36"), "𠀀", ""},
		"Big5":                          {mapping.Rule{Charset: "big5"}, v(sources.Bytes, "\xa4\xa4"), "中", ""},
		"Latin-1":                       {mapping.Rule{Charset: "latin-1"}, v(sources.Bytes, "\xe9"), "é", ""},
		"UTF-8 from a binary column":    {mapping.Rule{}, v(sources.Bytes, "粤"), "粤", ""},
		"bytes that are no text":        {mapping.Rule{}, v(sources.Bytes, "\xd4\xc1"), "", "not utf-8 text"},
		"a GBK character cut in half":   {mapping.Rule{Charset: "gbk"}, v(sources.Bytes, "\xd4"), "", "not gbk text"},
		"text is not decoded twice":     {mapping.Rule{Charset: "gbk"}, v(sources.Text, "粤"), "粤", ""},
		"transforms in their order":     {mapping.Rule{Transform: []string{"nospace", "halfwidth", "upper"}}, v(sources.Text, " 粤ｂ １23\t"), "粤B123", ""},
		"digits":                        {mapping.Rule{Transform: []string{"digits"}}, v(sources.Text, "No. 12-3"), "123", ""},
		"values":                        {mapping.Rule{Values: map[string]string{"临时卡": "01"}}, v(sources.Text, "临时卡 "), "01", ""},
		"values of a number":            {mapping.Rule{Values: map[string]string{"2": "b"}}, v(sources.Int, "2"), "b", ""},
		"otherwise":                     {mapping.Rule{Values: map[string]string{"a": "b"}, Otherwise: new("z")}, v(sources.Text, "x"), "z", ""},
		"no otherwise":                  {mapping.Rule{Values: map[string]string{"a": "b"}}, v(sources.Text, "x"), "", `"x" is in no entry of values`},
		"NULL skips values":             {mapping.Rule{Values: map[string]string{"a": "b"}, Default: new("d")}, sources.Value{}, "d", ""},
		"empty goes to default":         {mapping.Rule{Default: new("未知")}, v(sources.Text, "  "), "未知", ""},
		"optional and empty: left out":  {mapping.Rule{}, v(sources.Text, ""), "", ""},
		"const":                         {mapping.Rule{Const: new("01")}, sources.Value{}, "01", ""},
		"text cut in a character":       {mapping.Rule{}, v(sources.Bad, "ab\ufffd"), "", "\"ab\ufffd\" holds bytes that are no text in the column's own character set"},
		"a date in a text field":        {mapping.Rule{}, v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", ""},
		"expr on an integer":            {mapping.Rule{Expr: `"EX" + string(c + 1)`}, v(sources.Int, "7"), "EX8", ""},
		"expr on text":                  {mapping.Rule{Expr: `upper(c) + "!"`}, v(sources.Text, "ab "), "AB!", ""},
		"expr on a decimal is exact":    {mapping.Rule{Expr: `c + ""`}, v(sources.Decimal, "1.50"), "1.50", ""},
		"expr on a float":               {mapping.Rule{Expr: `string(c)`}, v(sources.Float, "1e+21"), "1000000000000000000000", ""},
		"expr on NULL":                  {mapping.Rule{Expr: `"EX" + string(c)`}, sources.Value{}, "", "NULL has no text"},
		"expr joining NULL":             {mapping.Rule{Expr: `"EX" + c`}, sources.Value{}, "", "expr failed"},
		"expr with another value":       {mapping.Rule{Expr: `"EX" + string(c ?? 0)`}, sources.Value{}, "EX0", ""},
		"expr that is NULL":             {mapping.Rule{Expr: `c`, Default: new("d")}, sources.Value{}, "d", ""},
		"expr on a column with a space": {mapping.Rule{Expr: `$env["出场 时间"]`}, v(sources.Text, "x"), "x", ""},
		"expr on a Chinese name":        {mapping.Rule{Expr: `车牌 + "!"`}, v(sources.Text, "x"), "x!", ""},
		"expr knows revision and table": {mapping.Rule{Expr: `table + string(revision)`}, sources.Value{}, "pass0", ""},
		"expr on a time":                {mapping.Rule{Expr: `string(c.Hour()) + "h"`}, v(sources.Time, "2026-11-01 02:00:00Z"), "10h", ""},
		"expr with a variable":          {mapping.Rule{Expr: `let n = c; n + n`}, v(sources.Text, "a"), "aa", ""},
		"expr that is a list":           {mapping.Rule{Expr: `[c]`}, v(sources.Text, "a"), "", "must give a text, a number or a time"},
		"expr beyond 64 bits":           {mapping.Rule{Expr: `string(c)`}, v(sources.Int, "18446744073709551615"), "18446744073709551615", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, problem := mapOne(t, "plate", c.rule, c.in)
			require.Equal(t, c.want, got, problem)
			if c.err == "" {
				require.Empty(t, problem)
			} else {
				require.Contains(t, problem, c.err)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	pattern := []string{"yyyy-MM-dd HH:mm:ss"}
	for name, c := range map[string]struct {
		rule mapping.Rule
		in   sources.Value
		want string
		err  string
	}{
		"without a zone, the source's":      {mapping.Rule{}, v(sources.Local, "2022-09-01 08:00:00"), "2022-09-01T00:00:00Z", ""},
		"milliseconds where there are":      {mapping.Rule{}, v(sources.Local, "2021-09-02 17:36:46.02"), "2021-09-02T09:36:46.020Z", ""},
		"microseconds are cut, not rounded": {mapping.Rule{}, v(sources.Local, "2021-09-02 17:36:46.999999"), "2021-09-02T09:36:46.999Z", ""},
		"with a zone, its own":              {mapping.Rule{}, v(sources.Time, "2026-11-01 02:00:00+00"), "2026-11-01T02:00:00Z", ""},
		"a rule's zone":                     {mapping.Rule{Timezone: "UTC"}, v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01T10:00:00Z", ""},
		"a date is its midnight":            {mapping.Rule{}, v(sources.Local, "2026-11-01"), "2026-10-31T16:00:00Z", ""},
		"pattern":                           {mapping.Rule{Format: pattern}, v(sources.Text, "2026-11-01 10:00:00"), "2026-11-01T02:00:00Z", ""},
		"pattern, fraction unasked":         {mapping.Rule{Format: pattern}, v(sources.Text, "2026-11-01 10:00:00.5"), "2026-11-01T02:00:00.500Z", ""},
		"pattern without separators":        {mapping.Rule{Format: []string{"yyyyMMddHHmmss"}}, v(sources.Text, "20261101100000"), "2026-11-01T02:00:00Z", ""},
		"seventeen digits":                  {mapping.Rule{Format: []string{"yyyyMMddHHmmssSSS"}}, v(sources.Int, "20261101100000123"), "2026-11-01T02:00:00.123Z", ""},
		"single digits":                     {mapping.Rule{Format: []string{"yyyy/M/d H:mm"}}, v(sources.Text, "2026/3/1 9:05"), "2026-03-01T01:05:00Z", ""},
		"afternoon":                         {mapping.Rule{Format: []string{"M/d/yyyy h:mm:ss a"}}, v(sources.Text, "11/1/2026 12:30:00 PM"), "2026-11-01T04:30:00Z", ""},
		"midnight":                          {mapping.Rule{Format: []string{"M/d/yyyy h:mm:ss a"}}, v(sources.Text, "11/1/2026 12:30:00 AM"), "2026-10-31T16:30:00Z", ""},
		"Chinese letters":                   {mapping.Rule{Format: []string{"yyyy年MM月dd日 a h:mm"}}, v(sources.Text, "2026年11月01日 下午 1:00"), "2026-11-01T05:00:00Z", ""},
		"quoted T and zone":                 {mapping.Rule{Format: []string{"yyyy-MM-dd'T'HH:mm:ssX"}}, v(sources.Text, "2026-11-01T10:00:00+08:00"), "2026-11-01T02:00:00Z", ""},
		"ISO needs no pattern":              {mapping.Rule{}, v(sources.Text, "2026-11-01T10:00:00"), "2026-11-01T02:00:00Z", ""},
		"ISO with a zone":                   {mapping.Rule{}, v(sources.Text, "2026-11-01T10:00:00Z"), "2026-11-01T10:00:00Z", ""},
		"other text needs one":              {mapping.Rule{}, v(sources.Text, "01.11.2026"), "", "give the rule the format it has"},
		"a number needs one":                {mapping.Rule{}, v(sources.Int, "1793498400"), "", "give the rule a format"},
		"unix":                              {mapping.Rule{Format: []string{"unix"}}, v(sources.Int, "1793498400"), "2026-11-01T02:00:00Z", ""},
		"unix with a fraction":              {mapping.Rule{Format: []string{"unix"}}, v(sources.Decimal, "1793498400.25"), "2026-11-01T02:00:00.250Z", ""},
		"unix_ms":                           {mapping.Rule{Format: []string{"unix_ms"}}, v(sources.Int, "1793498400020"), "2026-11-01T02:00:00.020Z", ""},
		"ole":                               {mapping.Rule{Format: []string{"ole"}}, v(sources.Float, "46327.5"), "2026-11-01T04:00:00Z", ""},
		"julian":                            {mapping.Rule{Format: []string{"julian"}}, v(sources.Float, "2461345.5"), "2026-11-01T00:00:00Z", ""},
		"dotnet_ticks":                      {mapping.Rule{Format: []string{"dotnet_ticks"}}, v(sources.Int, "639291240000000000"), "2026-11-01T02:00:00Z", ""},
		"a mixture, number":                 {mapping.Rule{Format: []string{"unix", "yyyy-MM-dd HH:mm:ss"}}, v(sources.Int, "1793498400"), "2026-11-01T02:00:00Z", ""},
		"a mixture, text":                   {mapping.Rule{Format: []string{"unix", "yyyy-MM-dd HH:mm:ss"}}, v(sources.Text, "2026-11-01 10:00:00"), "2026-11-01T02:00:00Z", ""},
		"a mixture, milliseconds":           {mapping.Rule{Format: []string{"unix", "unix_ms"}}, v(sources.Int, "1793498400020"), "2026-11-01T02:00:00.020Z", ""},
		"does not fit the pattern":          {mapping.Rule{Format: pattern}, v(sources.Text, "20261101"), "", "does not have the format"},
		"text after the pattern":            {mapping.Rule{Format: pattern}, v(sources.Text, "2026-11-01 10:00:00 x"), "", "does not have the format"},
		"30 February":                       {mapping.Rule{Format: pattern}, v(sources.Text, "2026-02-30 10:00:00"), "", "not a time any clock shows"},
		"zero date as text":                 {mapping.Rule{Format: pattern}, v(sources.Text, "0000-00-00 00:00:00"), "", "not a time any clock shows"},
		"zero date of the database":         {mapping.Rule{}, v(sources.Bad, "0000-00-00 00:00:00"), "", `"0000-00-00 00:00:00" is not a date`},
		"1900":                              {mapping.Rule{}, v(sources.Local, "1900-01-01 00:00:00"), "", "placeholder"},
		"epoch":                             {mapping.Rule{Format: []string{"unix"}}, v(sources.Int, "0"), "", "placeholder"},
		"9999":                              {mapping.Rule{}, v(sources.Local, "9999-12-31 23:59:59"), "", "placeholder"},
		"impossible and omitted":            {mapping.Rule{Invalid: "omit"}, v(sources.Bad, "0000-00-00 00:00:00"), "", ""},
		"gap hour":                          {mapping.Rule{Timezone: "America/New_York"}, v(sources.Local, "2026-03-08 02:30:00"), "", "did not exist in America/New_York"},
		"overlap hour takes the earlier":    {mapping.Rule{Timezone: "America/New_York"}, v(sources.Local, "2026-11-01 01:30:00"), "2026-11-01T05:30:00Z", ""},
		"before 2000":                       {mapping.Rule{}, v(sources.Local, "1999-12-31 23:59:59"), "", "before the year 2000"},
		"2000 begins by the rule's clock":   {mapping.Rule{}, v(sources.Local, "2000-01-01 00:00:00"), "1999-12-31T16:00:00Z", ""},
		"half-hour overlap":                 {mapping.Rule{Timezone: "Australia/Lord_Howe"}, v(sources.Local, "2026-04-05 01:45:00"), "2026-04-04T14:45:00Z", ""},
		"default is in the source's zone":   {mapping.Rule{Default: new("2026-11-01 10:00:00")}, sources.Value{}, "2026-11-01T02:00:00Z", ""},
		"expr that joins date and clock":    {mapping.Rule{Expr: `c + " 10:00:00"`, Format: pattern}, v(sources.Text, "2026-11-01"), "2026-11-01T02:00:00Z", ""},
		"expr that gives a time":            {mapping.Rule{Expr: `c`}, v(sources.Local, "2026-11-01 10:00:00.5"), "2026-11-01T02:00:00.500Z", ""},
		"expr on an impossible time":        {mapping.Rule{Expr: `c`}, v(sources.Bad, "0000-00-00"), "", "column c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, problem := mapOne(t, "op", c.rule, c.in)
			require.Equal(t, c.want, got, problem)
			if c.err == "" {
				require.Empty(t, problem)
			} else {
				require.Contains(t, problem, c.err)
			}
		})
	}
}

func TestEveryProblemOfARowAtOnce(t *testing.T) {
	t.Parallel()
	p, problems := compile(t, mapping.Rules{
		"flow_no": {Column: "no"}, "plate": {Column: "plate"}, "color": {Column: "color"}, "op": {Column: "op"},
	}, "")
	require.Empty(t, problems)
	require.Equal(t, []string{"no", "plate", "color", "op"}, p.Columns())
	fields, errs := mapRow(p, []sources.Value{{}, v(sources.Bytes, "\xff"), v(sources.Int, "9"), v(sources.Bad, "0000-00-00")}, mapping.Origin{})
	require.Nil(t, fields)
	var names []string
	for _, e := range errs {
		names = append(names, e.Field)
	}
	require.Equal(t, []string{"flow_no", "plate", "color", "op"}, names)
	require.Contains(t, errs[0].Problem, "column no")
}

func TestMistakesInRules(t *testing.T) {
	t.Parallel()
	for want, rules := range map[string]mapping.Rules{
		": has no rule for flow_no, which the gate requires":   {},
		"plat: is not a field of the gate":                     {"plat": {Column: "p"}},
		"plate: must have exactly one of column, const":        {"plate": {Column: "p", Const: new("x")}},
		"color: must have exactly one of column, const":        {"color": {}},
		"plate.charset: \"gbkk\" is not known":                 {"plate": {Column: "p", Charset: "gbkk"}},
		"plate.transform: \"uper\" is not known; it is one of": {"plate": {Column: "p", Transform: []string{"uper"}}},
		"plate.format: is for time fields":                     {"plate": {Column: "p", Format: []string{"unix"}}},
		"op.format: pattern \"yyyy-mm-dd\" has no M":           {"op": {Column: "p", Format: []string{"yyyy-mm-dd"}}},
		"op.format: pattern \"YYYY-MM-dd\": the letter 'Y'":    {"op": {Column: "p", Format: []string{"YYYY-MM-dd"}}},
		"op.timezone: \"Shanghai\" is not a zone":              {"op": {Column: "p", Timezone: "Shanghai"}},
		"op.default: must be a time":                           {"op": {Column: "p", Default: new("now")}},
		"op.invalid: must be error or omit":                    {"op": {Column: "p", Invalid: "skip"}},
		"flow_no.invalid: cannot be omit":                      {"flow_no": {Column: "p", Invalid: "omit"}},
		"plate.otherwise: goes with values":                    {"plate": {Column: "p", Otherwise: new("x")}},
		"color.values.蓝: \"9\" is not a value of color":        {"color": {Column: "p", Values: map[string]string{"蓝": "9"}}},
		"color.otherwise: \"0\" is not a value":                {"color": {Column: "p", Values: map[string]string{"蓝": "1"}, Otherwise: new("0")}},
		"color.default: \"x\" is not a value":                  {"color": {Column: "p", Default: new("x")}},
		"color.const: \"x\" is not a value":                    {"color": {Const: new("x")}},
		"plate.expr: unexpected token":                         {"plate": {Expr: `"a" +`}},
		"plate.expr: now is not a function":                    {"plate": {Expr: `string(now())`}},
		"plate.expr: fn is not a function":                     {"plate": {Expr: `fn(c)`}},
	} {
		_, problems := compile(t, rules, "")
		require.Contains(t, strings.Join(problems, "\n"), want)
	}
}

func TestStoredColumns(t *testing.T) {
	t.Parallel()
	p, problems := compile(t, mapping.Rules{"flow_no": {Column: "no"}, "plate": {Expr: "a + b"}}, "gbk")
	require.Empty(t, problems)
	require.Equal(t, []sources.Need{{Column: "no", Raw: true}, {Column: "a", Raw: true}, {Column: "b", Raw: true}}, p.Needs())
	values, missing := p.Stored(map[string]sources.Value{"no": v(sources.Int, "1"), "a": v(sources.Text, "x"), "b": v(sources.Text, "y")})
	require.Empty(t, missing)
	fields, errs := p.Map(values, mapping.Origin{})
	require.Empty(t, errs)
	require.Equal(t, map[string]string{"flow_no": "1", "plate": "xy"}, fields)
	_, missing = p.Stored(map[string]sources.Value{"no": v(sources.Int, "1"), "old": {}})
	require.Equal(t, []string{"a", "b"}, missing)
}

// A person is shown bytes as the text that they are, and in hex where they are
// none.
func TestShown(t *testing.T) {
	t.Parallel()
	big5 := "big5"
	p, problems := compile(t, mapping.Rules{
		"flow_no": {Column: "id"}, "plate": {Expr: `a + b`}, "op": {Column: "c", Charset: big5},
	}, "gbk")
	require.Empty(t, problems)
	for _, c := range []struct {
		column string
		in     sources.Value
		want   string
	}{
		{"id", v(sources.Int, "17"), "17"},
		{"a", sources.Value{}, "NULL"},
		{"a", v(sources.Bytes, "\xd4\xc1B12345   "), "粤B12345"},
		{"b", v(sources.Bytes, "\xd4\xc1B1234\xb9"), "d4 c1 42 31 32 33 34 b9"},
		{"b", v(sources.Bytes, "\x01\x02"), "01 02"},
		{"c", v(sources.Bytes, "\xb8\x54"), "禁"},
		{"gone", v(sources.Bytes, "AB"), "41 42"},
		{"gone", v(sources.Text, "AB"), "AB"},
		{"gone", v(sources.Bytes, strings.Repeat("\xff", 60)), strings.Repeat("ff ", 48) + "…"},
	} {
		require.Equal(t, c.want, p.Shown(c.column, c.in), c.in)
	}
}
