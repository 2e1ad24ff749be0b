package draft

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/config"
	"parkbridge/sources"
)

// load reads a draft as the program does.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	text = strings.NewReplacer("${PARKBRIDGE_APP_ID}", "a", "${PARKBRIDGE_APP_SECRET}", "b", "${PARKBRIDGE_PARK_UUID}", "c").Replace(text)
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path, sources.NewRegistry(sources.Driver{Name: "sqlite"}))
	require.NoError(t, err, text)
	return cfg
}

var options = Options{Driver: "sqlite", DSN: "lot.db", URL: "http://127.0.0.1/", ParkUUID: "u", Start: "earliest"}

// lines gives the config's lines that begin so, without their comments.
func lines(text string, beginnings ...string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
		for _, b := range beginnings {
			if strings.HasPrefix(line, b) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}

func rowsOf(n int, row func(i int) []sources.Value) [][]sources.Value {
	var out [][]sources.Value
	for i := range n {
		out = append(out, row(i))
	}
	return out
}

// The key, and the cursor that goes with it.
func TestKeyAndCursor(t *testing.T) {
	t.Parallel()
	primary := func(columns ...string) sources.Index {
		return sources.Index{Columns: columns, Unique: true, Primary: true}
	}
	index := func(columns ...string) sources.Index { return sources.Index{Columns: columns} }
	unique := func(columns ...string) sources.Index { return sources.Index{Columns: columns, Unique: true} }
	at := func(s string) sources.Value { return sources.Value{Kind: sources.Local, Text: s} }
	times := texts("2026-11-20 10:00:00", "2026-11-20 10:00:01", "2026-11-20 10:00:02")
	native := []sources.Value{at("2026-11-20 10:00:00"), at("2026-11-20 10:00:01"), at("2026-11-20 10:00:02")}
	numbers := func(s ...string) (out []sources.Value) {
		for _, x := range s {
			out = append(out, whole(x))
		}
		return out
	}
	for name, c := range map[string]struct {
		indexes []sources.Index
		not     string // why the server does not assign the key
		times   []sources.Value
		want    []string
		decide  []string
	}{
		"assigned":                      {[]sources.Index{primary("id")}, "", times, []string{"key: id"}, nil},
		"not assigned, an indexed time": {[]sources.Index{primary("id"), index("op_time")}, "id is no identity", native, []string{"key: id", "cursor: op_time"}, nil},
		"not assigned, nothing else":    {[]sources.Index{primary("id")}, "id is no identity", times, []string{"key: id", "cursor: id"}, []string{"do new rows always get a higher id? It is the cursor, and id is no identity."}},
		"text key, indexed text time":   {[]sources.Index{primary("guid"), index("op_time", "guid")}, "", times, []string{"key: guid", "cursor: op_time"}, nil},
		"text key, no index":            {[]sources.Index{primary("guid")}, "", times, []string{"key: guid", "cursor: op_time"}, []string{"no index begins with op_time"}},
		"text time that does not sort":  {[]sources.Index{primary("guid"), index("op_time")}, "", texts("2026/3/1 9:00:00", "2026/11/20 10:00:00", "2026/11/20 10:00:01"), []string{"key: guid", "cursor: guid"}, []string{"which column are new rows read in order of?"}},
		"a mixture does not sort":       {[]sources.Index{primary("guid"), index("op_time")}, "", append(texts("2026-11-20 10:00:00"), numbers("1793498400", "1793498401")...), []string{"key: guid", "cursor: guid"}, []string{"which column are new rows read in order of?"}},
		"digits in an integer":          {[]sources.Index{primary("guid"), index("op_time")}, "", numbers("20261120100000", "20261120100001", "20261120100002"), []string{"key: guid", "cursor: op_time", "cursor_format: yyyyMMddHHmmss"}, nil},
		"seconds since 1970":            {[]sources.Index{primary("guid"), index("op_time")}, "", numbers("1793498400", "1793498401", "1793498402"), []string{"key: guid", "cursor: op_time", "cursor_format: unix"}, nil},
		"ticks":                         {[]sources.Index{primary("guid"), index("op_time")}, "", numbers("639291240000000000", "639291240010000000", "639291240020000000"), []string{"key: guid", "cursor: op_time"}, nil},
		"minutes":                       {[]sources.Index{primary("guid"), index("op_time")}, "", texts("2026-11-20 10:00", "2026-11-20 10:01", "2026-11-20 10:02"), []string{"key: guid", "cursor: op_time", `cursor_format: "yyyy-MM-dd HH:mm"`}, nil},
		"two columns":                   {[]sources.Index{primary("guid", "id"), index("op_time")}, "", native, []string{"key: [guid, id]", "cursor: op_time"}, nil},
		"a unique index":                {[]sources.Index{index("op_time"), unique("plate_no", "op_time"), unique("guid")}, "", native, []string{"key: guid", "cursor: op_time"}, nil},
		"a name only":                   {[]sources.Index{index("op_time")}, "no key", native, []string{"key: id", "cursor: op_time"}, []string{"is id unique and never given again?"}},
	} {
		tb := table("abnormal", "id bigint", "guid char(36)", "plate_no", "op_time datetime", "op_name", "reason", "entry_id")
		if c.times[0].Kind != sources.Local {
			tb.Columns[3].Type = "varchar(19)"
		}
		if c.times[len(c.times)-1].Kind == sources.Int {
			tb.Columns[3].Type = "bigint"
		}
		tb.Indexes = c.indexes
		can := Candidates([]sources.Table{tb}, today)[0]
		can.Sampled([]string{"id", "guid", "plate_no", "op_time", "op_name", "reason", "entry_id"}, rowsOf(3, func(i int) []sources.Value {
			return []sources.Value{whole("12345" + string(rune('0'+i))), text("guid-" + string(rune('0'+i))), text("粤B12345"), c.times[i], text("x"), text("y"), text("e")}
		}), true)
		o := options
		o.Assigned.Not = c.not
		config, decisions := can.Config(o)
		require.Equal(t, c.want, lines(config, "key:", "cursor:", "cursor_format:"), "%s\n%s", name, config)
		require.Len(t, decisions, len(c.decide), "%s: %v", name, decisions)
		for i, d := range decisions {
			require.Contains(t, d.Text, c.decide[i], name)
			require.Contains(t, strings.Split(config, "\n")[d.Line-1], "# DECIDE: ", name)
		}
		load(t, config)
	}

	// SQL Server counts in decimals, too.
	for driver, want := range map[string][]string{"sqlserver": {"key: id"}, "postgres": {"key: id", "cursor: op_time"}} {
		tb := table("abnormal", "id numeric(18,0)", "plate_no", "op_time datetime")
		tb.Indexes = []sources.Index{primary("id"), index("op_time")}
		o := options
		o.Driver = driver
		config, _ := Candidates([]sources.Table{tb}, today)[0].Config(o)
		require.Equal(t, want, lines(config, "key:", "cursor:"), driver)
	}

	c := Candidates([]sources.Table{table("v", "plate_no", "op_time datetime")}, today)[0]
	require.Nil(t, c.Key())
	config, decisions := c.Config(options)
	require.Equal(t, []string{"key: KEY", "cursor: op_time"}, lines(config, "key:", "cursor:"))
	require.Contains(t, decisions[1].Text, "which column, or list of columns, identifies a row for good?")
	load(t, config)
}

// Rules for each field, by what its column holds.
func TestRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		column string // name and type
		values []sources.Value
		want   string // the line of the mapping
		decide string // a part of what is to be decided about it
	}{
		"plate as it is":            {"plate_no", texts("粤B12345", "粤B12346"), "plate:          plate_no", ""},
		"plate to tidy":             {"plate_no", texts("粤b12345", "粤 B12346"), "plate:          { column: plate_no, transform: [nospace, upper] }", ""},
		"plate missing":             {"plate_no", []sources.Value{text("粤B12345"), {}}, "plate:          plate_no", "1 of 2 sampled rows have no plate_no"},
		"no plates in it":           {"plate_no", texts("a", "b"), "plate:          plate_no", "is plate_no the plate? That is a guess, by its name."},
		"colours":                   {"color", texts("蓝", "黄", "蓝", "黄"), "plate_color:    { column: color, values: { 蓝: 1, 黄: 2 }, otherwise: -1 }", ""},
		"unknown colour":            {"color", texts("蓝", "蓝", "紫", "紫"), "plate_color:    { column: color, values: { 蓝: 1 }, otherwise: -1 }", "what does color mean by 紫? For now -1 is sent, which is unknown."},
		"a stray word is not shown": {"color", texts("蓝", "蓝", "黄", "张三"), "plate_color:    { column: color, values: { 蓝: 1, 黄: 2 }, otherwise: -1 }", ""},
		"colour codes":              {"color int", []sources.Value{whole("1"), whole("2")}, "plate_color:    { column: color, values: { 1: -1, 2: -1 }, otherwise: -1 }", "what does color mean by 1, 2?"},
		"no colour seen":            {"plate_color", []sources.Value{{}, {}}, "plate_color:    { column: plate_color, values: { 蓝: 1, 黄: 2, 白: 3, 黑: 4, 绿: 5 }, otherwise: -1 }", "which words does plate_color hold"},
		"types":                     {"car_type", texts("临时卡", "月卡", "月卡", "VIP"), "car_type:       { column: car_type, values: { 临时卡: 1, 月卡: 2, VIP: 3 }, otherwise: 0 }", ""},
		"native time":               {"op_time datetime", []sources.Value{{Kind: sources.Local, Text: "2026-11-20 10:00:00"}}, "operate_time:   op_time", ""},
		"text time":                 {"op_time", texts("2026-11-20 10:00:00"), "operate_time:   op_time", ""},
		"slashes":                   {"op_time", texts("2026/11/20 10:00:00"), `operate_time:   { column: op_time, format: "yyyy/MM/dd HH:mm:ss" }`, ""},
		"digits":                    {"op_time bigint", []sources.Value{whole("20261120100000")}, "operate_time:   { column: op_time, format: yyyyMMddHHmmss }", ""},
		"mixture":                   {"op_time", append(texts("2026-11-20 10:00:00", "2026-11-20 10:00:00"), whole("1793498400"), whole("1793498400")), `operate_time:   { column: op_time, format: ["yyyy-MM-dd HH:mm:ss", unix] }`, ""},
		"time missing":              {"op_time", []sources.Value{text("2026-11-20 10:00:00"), {}}, "operate_time:   op_time", "1 of 2 sampled rows have no op_time"},
		"time not seen":             {"op_time", []sources.Value{{}}, `operate_time:   { column: op_time, format: "yyyy-MM-dd HH:mm:ss" }`, "how is the time written in op_time?"},
		"broken times":              {"in_time", texts("2026-11-20 10:00:00", "2026-11-20 10:00:00", "0000-00-00 00:00:00"), "enter_time:     { column: in_time, invalid: omit }", "no column looks like the time of the operation"},
		"leave alone":               {"out_time", texts("2026-11-20 10:00:00"), "operate_time:   out_time", "no column looks like the time of the operation; out_time is another one."},
		"operator":                  {"czy", texts("x"), "operator:       { column: czy, default: 未知 }", ""},
		"number":                    {"operator_id int", []sources.Value{whole("7"), whole("8")}, "operator:       { column: operator_id, default: 未知 }", "operator_id holds numbers."},
		"reason":                    {"bz", texts("x"), "reason:         { column: bz, default: 未填写 }", ""},
		"serial":                    {"entry_id", texts("a", "b"), "parking_serial: entry_id", ""},
		"serial missing":            {"entry_id", []sources.Value{text("a"), {}}, "parking_serial: entry_id", "1 of 2 sampled rows have no entry_id"},
		"awkward name":              {"操作员: 'A', #1", texts("x"), "operator:       { column: '操作员: ''A'', #1', default: 未知 }", "That is a guess, by its name."},
	} {
		column, typ := c.column, "varchar(50)"
		for _, t := range []string{"int", "bigint", "datetime"} {
			if before, ok := strings.CutSuffix(c.column, " "+t); ok {
				column, typ = before, t
			}
		}
		tb := sources.Table{
			Name: []string{"abnormal"}, Columns: []sources.TableColumn{{Name: "id", Type: "bigint"}, {Name: column, Type: typ}},
			Indexes: []sources.Index{{Columns: []string{"id"}, Unique: true, Primary: true}},
		}
		can := Candidates([]sources.Table{tb}, today)[0]
		can.Sampled([]string{column}, rowsOf(len(c.values), func(i int) []sources.Value { return []sources.Value{c.values[i]} }), true)
		text, decisions := can.Config(options)
		field, _, _ := strings.Cut(c.want, ":")
		require.Equal(t, []string{c.want}, lines(text, field+":"), "%s\n%s", name, text)
		var about []string
		for _, d := range decisions {
			if strings.Contains(d.Text, column) {
				about = append(about, d.Text)
			}
		}
		if c.decide == "" {
			require.Empty(t, about, name)
		} else {
			require.Contains(t, strings.Join(about, "\n"), c.decide, name)
		}
		load(t, text)
	}
}

// A time in two columns becomes one, in an optional field only if both are there.
func TestTimeInTwoColumns(t *testing.T) {
	t.Parallel()
	tb := table("abnormal", "id bigint", "in_date", "in_time", "op_date", "op_time", "plate_no")
	c := Candidates([]sources.Table{tb}, today)[0]
	c.Sampled([]string{"id", "in_date", "in_time", "op_date", "op_time", "plate_no"}, rowsOf(3, func(i int) []sources.Value {
		in := text("2026-11-20")
		if i == 2 {
			in = sources.Value{}
		}
		return []sources.Value{whole(string(rune('1' + i))), in, text("08:00"), text("20261120"), text("10:00:00"), text("粤B12345")}
	}), true)
	config, _ := c.Config(options)
	require.Equal(t, []string{
		`enter_time:     { expr: 'in_date != nil && in_time != nil ? in_date + " " + in_time : nil', format: "yyyy-MM-dd HH:mm" }`,
		`operate_time:   { expr: 'op_date + " " + op_time', format: "yyyyMMdd HH:mm:ss" }`,
	}, lines(config, "enter_time:", "operate_time:"))
	load(t, config)
}

// What the bytes are, and what is said where nobody can know.
func TestCharsetLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ, bytes, want, decide string
	}{
		"GBK":             {"varchar(20)", "\xd4\xc1B12345", "charset: gbk", ""},
		"UTF-8 in latin1": {"varchar(20)", "粤B12345", "charset: utf-8", ""},
		"ASCII":           {"varchar(20)", "A1", "", ""},
		"one is broken":   {"varchar(20)", strings.Repeat("\xd4\xc1B12345|", 12) + "\xd4", "charset: gbk", ""},
		"nobody knows":    {"varchar(20)", "\xff\xff\xff", "charset: utf-8", "some texts are neither UTF-8 nor GBK nor GB18030."},
	} {
		tb := table("abnormal", "id bigint", "plate_no "+c.typ)
		can := Candidates([]sources.Table{tb}, today)[0]
		var rows [][]sources.Value
		for b := range strings.SplitSeq(c.bytes, "|") {
			rows = append(rows, []sources.Value{{Kind: sources.Bytes, Text: b}})
		}
		can.Sampled([]string{"plate_no"}, rows, true)
		text, decisions := can.Config(options)
		require.Equal(t, name == "one is broken", strings.Contains(text, "# Not all sampled texts are GBK (1 are not), as where a column was too short for them;"), name)
		require.Equal(t, c.want, strings.Join(lines(text, "charset:"), ""), name)
		var all string
		for _, d := range decisions {
			all += d.Text + "\n"
		}
		require.Contains(t, all, c.decide, name)
		load(t, text)
	}
}

// Whatever a database calls its columns and holds in them, the draft is a config
// that loads, names the column as it is, and shows no value but words.
func FuzzDraft(f *testing.F) {
	f.Add("plate_no", "车牌", "粤B12345", "2026-11-20 10:00:00")
	f.Add("a: b # c", "'\"\\", "${X}", "x\ny")
	f.Add("null", "~", "- x", "{")
	f.Add("出场 时间", "\x00", "\xd4\xc1", "1793498400")
	f.Fuzz(func(t *testing.T, name, comment, value, other string) {
		if name == "" || !utf8.ValidString(name) || strings.Contains(name, "${") || strings.ContainsAny(name, "\x00\u0085\u2028\u2029") || strings.TrimSpace(name) != name {
			t.Skip("no database takes it, or no config does")
		}
		tb := sources.Table{Name: []string{name}, Comment: comment, Columns: []sources.TableColumn{{Name: name, Type: "varchar(50)", Comment: comment}, {Name: name + "2", Type: "varchar(50)"}}}
		c := Candidates([]sources.Table{tb}, today)[0]
		values := []sources.Value{sources.TextOrBytes(value, false), sources.TextOrBytes(other, false)}
		c.Sampled([]string{name, name + "2"}, [][]sources.Value{values, values}, true)
		Rank([]*Candidate{c})
		text, _ := c.Config(options)
		cfg := load(t, text)
		if table := cfg.Sources[0].Table; !strings.Contains(name, ".") && !strings.ContainsAny(name, "\"`[") && !strings.Contains(c.Name, "{") {
			require.Equal(t, name, table)
		}
		for _, column := range cfg.Sources[0].Program.Columns() {
			if column != "KEY" && column != "TIME" {
				require.Contains(t, []string{name, name + "2"}, column)
			}
		}
	})
}
