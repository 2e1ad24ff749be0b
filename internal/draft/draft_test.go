package draft

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"

	"parkbridge/sources"
)

var today = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func text(s string) sources.Value  { return sources.Value{Kind: sources.Text, Text: s} }
func whole(s string) sources.Value { return sources.Value{Kind: sources.Int, Text: s} }

func texts(s ...string) []sources.Value {
	var out []sources.Value
	for _, x := range s {
		out = append(out, text(x))
	}
	return out
}

// What a column's name or comment alone says it is.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"plate": "plate", "PlateNo": "plate", "car_no": "plate", "CARNO": "plate", "carno": "plate", "cph": "plate", "f_cph": "plate",
		"chepai": "plate", "chepaihao": "plate", "车牌": "plate", "车牌号": "plate", "车牌号码": "plate", "hphm": "plate", "LicensePlate": "plate",
		"plate_color": "plate_color", "ys": "plate_color", "cpys": "plate_color", "车牌颜色": "plate_color", "Color": "plate_color",
		"card_kind": "car_type", "CarType": "car_type", "车型": "car_type", "卡类型": "car_type", "klx": "car_type",
		"in_time": "enter_time", "InTime": "enter_time", "rcsj": "enter_time", "jinchangshijian": "enter_time", "入场时间": "enter_time", "EntryTime": "enter_time",
		"out_time": "leave_time", "ccsj": "leave_time", "出场时间": "leave_time", "dtOutTime": "leave_time",
		"op_time": "operate_time", "OperateTime": "operate_time", "rgsj": "operate_time", "czsj": "operate_time", "kzsj": "operate_time",
		"操作时间": "operate_time", "放行时间": "operate_time", "OpenTime": "operate_time", "create_time": "operate_time",
		"operator": "operator", "czy": "operator", "caozuoyuan": "operator", "操作员": "operator", "收费员": "operator", "OperatorName": "operator", "op_name": "operator",
		"reason": "reason", "yy": "reason", "yuanyin": "reason", "原因": "reason", "备注": "reason", "remark": "reason", "放行原因": "reason",
		"entry_id": "parking_serial", "ParkingSerial": "parking_serial", "入场记录号": "parking_serial", "rcjlid": "parking_serial", "rcjlh": "parking_serial", "ysmc": "plate_color", "流水号": "parking_serial",
		"fee": "", "picture": "", "phone": "", "金额": "", "gate_id": "", "x": "",
	} {
		for _, as := range []string{"name", "comment"} {
			if as == "comment" && !strings.ContainsFunc(name, isHan) {
				continue
			}
			l := newLabel(name)
			if as == "comment" {
				l = commentLabel(name + "（必填）")
			}
			best, most := "", leastScore
			for _, field := range guessed {
				if s, _ := l.says(fieldWords, field); s > most {
					best, most = field, s
				}
			}
			require.Equal(t, want, best, "%s as %s", name, as)
		}
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"plate_no": {"plate", "no"}, "PlateNo": {"plate", "no"}, "CARNO": {"carno"}, "carNO2": {"car", "no", "2"}, "OPTime": {"op", "time"},
		"入场time": {"入场", "time"}, "出场 时间": {"出场", "时间"}, "": nil, "__": nil, "out202611": {"out", "202611"},
	} {
		require.Equal(t, want, newLabel(name).tokens, name)
	}
}

func TestPlates(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"粤B12345": true, "粤BD12345": true, "粤BF1234学": true, "京A1234警": true, "粤Z1234港": true, "沪a88k99": true, " 川 A8K2P6 ": true, "粤Ｂ１２３４５": true,
		"WJ粤1234X": true, "粤B1234": false, "粤B1234567": false, "B12345": false, "粤112345": false, "张三": false, "": false, "粤B12345;": false,
	} {
		are, _, _ := plates([]string{s})
		require.Equal(t, want, are == 1, s)
	}
	are, none, transform := plates([]string{"粤B12345", "粤b12345", "粤 B12345", "粤Ｂ12345", "无牌车", "0", "abc"})
	require.Equal(t, 4, are)
	require.Equal(t, 2, none)
	require.Equal(t, []string{"nospace", "halfwidth", "upper"}, transform)
	_, _, transform = plates([]string{"粤B12345"})
	require.Empty(t, transform)
}

func TestTimes(t *testing.T) {
	t.Parallel()
	local := sources.Value{Kind: sources.Local, Text: "2026-11-01 10:00:00"}
	for name, c := range map[string]struct {
		values  []sources.Value
		formats []string
		fit     float64
		newest  string
	}{
		"native":              {[]sources.Value{local}, nil, 1, "2026-11-01 10:00:00"},
		"native with a zone":  {[]sources.Value{{Kind: sources.Time, Text: "2026-11-01 10:00:00+00"}}, nil, 1, "2026-11-01 18:00:00"},
		"ISO":                 {texts("2026-11-01 10:00:00", "2026-11-01T10:00:01.5"), nil, 1, "2026-11-01 10:00:01"},
		"slashes":             {texts("2026/11/1 9:00:00", "2026/3/12 10:00:00"), []string{"yyyy/MM/dd HH:mm:ss"}, 1, "2026-11-01 09:00:00"},
		"single digits":       {texts("2026-3-1 9:05:07"), []string{"yyyy-MM-dd HH:mm:ss"}, 1, "2026-03-01 09:05:07"},
		"without seconds":     {texts("2026-11-01 10:00"), []string{"yyyy-MM-dd HH:mm"}, 1, "2026-11-01 10:00:00"},
		"14 digits":           {texts("20261101100000"), []string{"yyyyMMddHHmmss"}, 1, "2026-11-01 10:00:00"},
		"14 digits, integer":  {[]sources.Value{whole("20261101100000")}, []string{"yyyyMMddHHmmss"}, 1, "2026-11-01 10:00:00"},
		"17 digits":           {texts("20261101100000123"), []string{"yyyyMMddHHmmssSSS"}, 1, "2026-11-01 10:00:00"},
		"Chinese":             {texts("2026年11月01日 10:00:00"), []string{"yyyy年MM月dd日 HH:mm:ss"}, 1, "2026-11-01 10:00:00"},
		"unix":                {[]sources.Value{whole("1793498400")}, []string{"unix"}, 1, "2026-11-01 10:00:00"},
		"unix_ms":             {[]sources.Value{whole("1793498400000")}, []string{"unix_ms"}, 1, "2026-11-01 10:00:00"},
		".NET ticks":          {[]sources.Value{whole("639291240000000000")}, []string{"dotnet_ticks"}, 1, "2026-11-01 10:00:00"},
		"ole":                 {[]sources.Value{{Kind: sources.Float, Text: "46327.5"}}, []string{"ole"}, 1, "2026-11-01 12:00:00"},
		"a day":               {texts("2026-11-01"), []string{"yyyy-MM-dd"}, 1, "2026-11-01 00:00:00"},
		"a mixture":           {append(texts("2026-11-01 10:00:00", "2026-11-01 10:00:01", "2026-11-01 10:00:02"), whole("1793498400"), whole("1793498401")), []string{"yyyy-MM-dd HH:mm:ss", "unix"}, 1, "2026-11-01 10:00:02"},
		"some broken":         {append(texts("2026-11-01 10:00:00", "2026-11-01 10:00:01", "2026-11-01 10:00:02"), text("0000-00-00 00:00:00")), nil, .75, "2026-11-01 10:00:02"},
		"a native zero":       {[]sources.Value{local, {Kind: sources.Bad, Text: "0000-00-00 00:00:00"}}, nil, .5, "2026-11-01 10:00:00"},
		"ids are no times":    {[]sources.Value{whole("17"), whole("46327"), whole("4294967296")}, nil, 0, ""},
		"names are no times":  {texts("张三", "粤B12345"), nil, 0, ""},
		"an old one is none":  {texts("1900-01-01 00:00:00"), nil, 0, ""},
		"nothing is no time":  {nil, nil, 0, ""},
		"a clock is no time":  {texts("10:00:00"), nil, 0, ""},
		"a stray second form": {append(texts(strings.Split(strings.Repeat("2026-11-01 10:00:00,", 60)+"20261101100000", ",")...)[:61:61], text("x")), nil, .967, "2026-11-01 10:00:00"},
	} {
		got := readTimes(c.values)
		require.Equal(t, c.formats, got.named(), name)
		require.InDelta(t, c.fit, got.fit, .001, name)
		newest := ""
		if !got.newest.IsZero() {
			newest = got.newest.Format(time.DateTime)
		}
		require.Equal(t, c.newest, newest, name)
	}
}

func TestCharsets(t *testing.T) {
	t.Parallel()
	raw := func(s string, err error) sources.Value {
		require.NoError(t, err)
		return sources.Value{Kind: sources.Bytes, Text: s}
	}
	gbk := raw(simplifiedchinese.GBK.NewEncoder().String("粤B12345"))
	cut := raw(gbk.Text+"\xd4", nil)
	for name, c := range map[string]struct {
		values []sources.Value
		want   string
		ok     bool
		misses int
	}{
		"ASCII":           {[]sources.Value{{Kind: sources.Bytes, Text: "abc"}}, "", true, 0},
		"decoded already": {texts("粤B12345"), "", true, 0},
		"GBK":             {[]sources.Value{gbk, {Kind: sources.Bytes, Text: "abc"}, text("粤")}, "gbk", true, 0},
		"UTF-8":           {[]sources.Value{{Kind: sources.Bytes, Text: "粤B12345"}}, "utf-8", true, 0},
		"GB18030":         {[]sources.Value{gbk, raw(simplifiedchinese.GB18030.NewEncoder().String("㐂"))}, "gb18030", true, 0},
		"nothing":         {[]sources.Value{gbk, {Kind: sources.Bytes, Text: "\xff\xfe\xff"}}, "", false, 1},
		"some broken":     {append(slices.Repeat([]sources.Value{gbk}, 18), cut, cut), "gbk", true, 2},
		"many broken":     {append(slices.Repeat([]sources.Value{gbk}, 17), cut, cut), "", false, 2},
	} {
		charset, misses, ok := charsetOf(c.values)
		require.Equal(t, c.misses, misses, name)
		require.Equal(t, c.want, charset, name)
		require.Equal(t, c.ok, ok, name)
	}
}

// A comment that went through a latin1 connection as GBK is read all the same.
func TestMended(t *testing.T) {
	t.Parallel()
	gbk, err := simplifiedchinese.GBK.NewEncoder().String("车牌号")
	require.NoError(t, err)
	spoilt, err := charmap.Windows1252.NewDecoder().String(gbk)
	require.NoError(t, err)
	require.Equal(t, "车牌号", mended(spoilt))
	for _, s := range []string{"", "plate", "车牌号", "café à Paris"} {
		if got := mended(s); s != "café à Paris" {
			require.Equal(t, s, got)
		}
	}
}

func TestEnumerations(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"b", "a"}, enumeration([]string{"a", "b", "b", "a", "b"}))
	require.Nil(t, enumeration([]string{"a", "b", "c", "d", "e", "f"}), "names, not words")
	require.Nil(t, enumeration([]string{"a text that is long", "x", "x", "x"}))
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprint(i%13))
	}
	require.Nil(t, enumeration(many))
	for word, want := range map[string]string{"蓝": "1", "黄色": "2", "新能源绿牌": "5", "黄绿双拼": "5", "BLUE": "1", "紫": "", "3": ""} {
		require.Equal(t, want, mean(colours, word), word)
	}
	for word, want := range map[string]string{"临时卡": "1", "临停": "1", "月卡A": "2", "包月车": "2", "贵宾卡": "3", "免费车": "3", "储值卡": "4", "Temp": "1", "VIP": "3", "内部": ""} {
		require.Equal(t, want, mean(carTypes, word), word)
	}
	require.True(t, codes([]string{"0", "1", "-1"}))
	require.False(t, codes([]string{"0", "a"}))
	require.False(t, codes(nil))
}

func table(name string, columns ...string) sources.Table {
	t := sources.Table{Name: []string{name}, Rows: -1}
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		if typ == "" {
			typ = "varchar(20)"
		}
		t.Columns = append(t.Columns, sources.TableColumn{Name: name, Type: typ})
	}
	return t
}

func candidateNames(all []*Candidate) []string {
	var out []string
	for _, c := range all {
		out = append(out, c.Name)
	}
	return out
}

// Tables of one shape whose names hold a month or a year are one series; the
// newest that is not ahead of its time stands for it.
func TestSeries(t *testing.T) {
	t.Parallel()
	months := func(format string, from, to int) (out []sources.Table) {
		for i := from; i <= to; i++ {
			out = append(out, table(fmt.Sprintf(format, i), "a", "b"))
		}
		return out
	}
	for name, c := range map[string]struct {
		tables []sources.Table
		want   []string
		uses   string
		wraps  bool
	}{
		"by month":             {months("out_%d", 202609, 202612), []string{"out_{yyyyMM}"}, "out_202611", false},
		"with a dash":          {months("out_2026-%02d", 9, 12), []string{"out_{yyyy}-{MM}"}, "out_2026-11", false},
		"one is enough":        {months("out%d", 202611, 202611), []string{"out{yyyyMM}"}, "out202611", false},
		"by year":              {months("record_%d", 2024, 2027), []string{"record_{yyyy}"}, "record_2026", false},
		"with an end":          {months("r%d_exit", 202610, 202611), []string{"r{yyyyMM}_exit"}, "r202611_exit", false},
		"twelve that wrap":     {months("OutList%02d", 1, 12), []string{"OutList{MM}"}, "OutList11", true},
		"twelve without zeros": {months("OutList%d", 1, 12), []string{"OutList{M}"}, "OutList11", true},
		"eleven do not":        {months("t%d", 1, 2), []string{"t1", "t2"}, "t1", false},
		"a day is no month":    {months("backup_%d", 20261101, 20261101), []string{"backup_20261101"}, "backup_20261101", false},
		"of other columns": {
			append(months("out_%d", 202610, 202610), table("out_202611", "x")), []string{"out_{yyyyMM}", "out_{yyyyMM}"}, "", false,
		},
	} {
		all := Candidates(c.tables, today)
		require.ElementsMatch(t, c.want, candidateNames(all), name)
		if c.uses != "" {
			require.Equal(t, c.uses, all[0].Table().String(), name)
			require.Equal(t, c.wraps, all[0].Wraps, name)
		}
	}
	all := Candidates(months("out_%d", 202609, 202612), today)
	require.True(t, all[0].Older())
	require.Equal(t, "out_202610", all[0].Table().String())
	require.True(t, all[0].Older())
	require.True(t, all[0].Older())
	require.Equal(t, "out_202612", all[0].Table().String(), "made ahead of its time")
	require.False(t, all[0].Older())
	for name, want := range map[string]bool{"out_202610": true, "OUT_{yyyyMM}": true, `"out_202610"`: true, "out": false} {
		require.Equal(t, want, all[0].Has(name), name)
	}
	qualified := sources.Table{Name: []string{"parking", "out_202611"}}
	require.Equal(t, "parking.out_{yyyyMM}", Candidates([]sources.Table{qualified}, today)[0].Name)
}

// Pictures and what else is heavy is never asked for, whatever it is called or
// typed.
func TestWantedIsLight(t *testing.T) {
	t.Parallel()
	c := Candidates([]sources.Table{table("abnormal",
		"id bigint", "plate", "tp text", "capture_path text", "capture_time datetime", "pic_id int", "b blob", "b2 longblob", "b3 bytea", "b4 varbinary(8000)", "b5 varbinary(max)", "b6 image", "b7 longtext",
		"b8 json", "b9 xml", "b10 bytea[]", "抓拍图片 varchar(255)", "c national character varying(4000)", "ok varbinary(20)", "untyped ", "clob CLOB", "rid oid", "rv rowversion", "any sql_variant",
	)}, today)[0]
	c.columns[19].Type = ""
	columns, by := c.Wanted()
	require.Equal(t, []string{"id", "plate", "capture_time", "pic_id", "c", "ok"}, columns)
	require.Empty(t, by)
}

// The newest rows are asked for along an index, or not at all.
func TestWantedOrder(t *testing.T) {
	t.Parallel()
	index := func(columns ...string) sources.Index { return sources.Index{Columns: columns} }
	primary := func(columns ...string) sources.Index {
		return sources.Index{Columns: columns, Unique: true, Primary: true}
	}
	for name, c := range map[string]struct {
		indexes []sources.Index
		view    bool
		want    []string
	}{
		"an integer key":            {[]sources.Index{primary("id"), index("op_time")}, false, []string{"id"}},
		"a text key, a time":        {[]sources.Index{primary("guid"), index("plate"), index("op_time", "id")}, false, []string{"op_time"}},
		"the likelier of two times": {[]sources.Index{primary("guid"), index("in_time"), index("op_time")}, false, []string{"op_time"}},
		"a text key alone":          {[]sources.Index{primary("guid")}, false, []string{"guid"}},
		"two columns":               {[]sources.Index{primary("guid", "id")}, false, []string{"guid", "id"}},
		"nothing":                   {[]sources.Index{index("plate")}, false, nil},
		"a view":                    {nil, true, nil},
	} {
		tb := table("abnormal", "id bigint", "guid", "plate", "op_time datetime", "in_time datetime")
		tb.Indexes, tb.View = c.indexes, c.view
		_, by := Candidates([]sources.Table{tb}, today)[0].Wanted()
		require.Equal(t, c.want, by, name)
	}
}

// The table of exception releases stands out among those that a parking system
// has besides; where it does not, nobody guesses.
func TestRanking(t *testing.T) {
	t.Parallel()
	others := []sources.Table{
		table("car_in_record", "id bigint", "car_no", "in_time datetime", "in_gate"),
		table("car_out_record", "id bigint", "car_no", "in_time datetime", "out_time datetime", "fee decimal(10,2)", "operator"),
		table("month_card", "id bigint", "car_no", "start_time datetime", "end_time datetime", "user_name"),
		table("sys_user", "id bigint", "user_name", "password"),
		table("op_log", "id bigint", "op_time datetime", "op_name", "remark"),
		table("white_list", "id bigint", "plate_no", "remark"),
	}
	release := []string{"id bigint", "plate_no", "op_time datetime", "op_name", "reason"}
	for name, c := range map[string]struct {
		more  []sources.Table
		clear bool
		first string
	}{
		"abnormal":          {[]sources.Table{table("abnormal_pass", release...)}, true, "abnormal_pass"},
		"pinyin":            {[]sources.Table{table("t_yichang", "id int", "cph", "czsj", "czy", "yy")}, true, "t_yichang"},
		"initials":          {[]sources.Table{table("tb_sdkz", "id int", "cph", "kzsj", "czy", "bz")}, true, "tb_sdkz"},
		"Chinese":           {[]sources.Table{table("手动开闸", "编号 int", "车牌", "操作时间", "操作员", "原因")}, true, "手动开闸"},
		"none":              {nil, false, "car_out_record"},
		"two":               {[]sources.Table{table("abnormal_a", release...), table("abnormal_b", release...)}, false, "abnormal_a"},
		"one and its copy":  {[]sources.Table{table("abnormal_pass", release...), table("abnormal_pass_bak", release...)}, true, "abnormal_pass"},
		"one and its empty": {[]sources.Table{table("open_gate", release...), table("release_log")}, true, "open_gate"},
	} {
		all := Candidates(append(c.more, others...), today)
		require.Equal(t, c.first, all[0].Name, name)
		require.Equal(t, c.clear, Clear(all), "%s: %d, then %s %d", name, all[0].Score, all[1].Name, all[1].Score)
	}
	require.False(t, Clear(nil))
}

// Rows decide where names say nothing, and a view is the second choice.
func TestSampleDecides(t *testing.T) {
	t.Parallel()
	a, b := table("t01", "f1 int", "f2", "f3", "f4"), table("t02", "f1 int", "f2", "f3", "f4")
	all := Candidates([]sources.Table{a, b}, today)
	row := func(i int, plate string) []sources.Value {
		return []sources.Value{whole(fmt.Sprint(i)), text(plate), text(fmt.Sprintf("2026-11-20 10:00:%02d", i)), text("x")}
	}
	for _, c := range all {
		var rows [][]sources.Value
		for i := range 5 {
			rows = append(rows, row(i, map[string]string{"t01": "x", "t02": "粤B12345"}[c.Name]))
		}
		c.Counted(5, 100)
		c.Sampled([]string{"f1", "f2", "f3", "f4"}, rows, true)
	}
	Rank(all)
	require.Equal(t, "t02", all[0].Name)
	require.Contains(t, all[0].Why, "f2 holds plates")
	require.Equal(t, "f2", all[0].fields["plate"].column.Name)
	require.Equal(t, "f3", all[0].fields["operate_time"].column.Name)
	require.Equal(t, "2026-11-20 10:00:04", all[0].Newest.Format(time.DateTime))
	require.False(t, Clear(all), "plates and a time are in every table of passages")

	view := table("v_abnormal", "id bigint", "plate_no", "op_time datetime", "op_name", "reason")
	view.View = true
	all = Candidates([]sources.Table{view, table("abnormal", "id bigint", "plate_no", "op_time datetime", "op_name", "reason")}, today)
	require.Equal(t, "abnormal", all[0].Name)
	require.True(t, Clear(all))
}

// Quiet tables lose against lively ones, empty ones too, and what could not be
// read is said.
func TestWhyNot(t *testing.T) {
	t.Parallel()
	columns := []string{"id bigint", "plate_no", "op_time datetime"}
	all := Candidates([]sources.Table{table("abnormal_old_system", columns...), table("abnormal_now", columns...), table("abnormal_none", columns...), table("abnormal_shut", columns...)}, today)
	for _, c := range all {
		at := map[string]string{"abnormal_old_system": "2024-05-01 10:00:00", "abnormal_now": "2026-11-20 10:00:00"}[c.Name]
		switch {
		case c.Name == "abnormal_shut":
			c.Unread(errors.New("permission denied"))
		case at == "":
			c.Counted(0, 100)
			c.Sampled([]string{"id", "plate_no", "op_time"}, nil, true)
		default:
			c.Counted(100, 100)
			c.Sampled([]string{"id", "plate_no", "op_time"}, [][]sources.Value{{whole("1"), text("粤B12345"), {Kind: sources.Local, Text: at}}}, true)
		}
		require.True(t, c.Looked())
	}
	Rank(all)
	require.Equal(t, "abnormal_now", all[0].Name)
	require.Equal(t, "over 99", all[0].Rows.String())
	why := map[string]string{}
	for _, c := range all {
		why[c.Name] = strings.Join(c.Why, "; ")
	}
	require.Contains(t, why["abnormal_old_system"], "quiet since 2024-05")
	require.Contains(t, why["abnormal_none"], "no rows")
	require.Contains(t, why["abnormal_shut"], "not sampled: permission denied")
}

func TestRows(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Rows{
		"0": {0, RowsExact}, "400": {400, RowsExact}, "about 1,234,567": {1234567, RowsEstimate}, "over 1,000": {1000, RowsAtLeast}, "?": {Is: RowsUnknown},
	} {
		require.Equal(t, want, r.String())
	}
	tb := table("abnormal", "id bigint")
	tb.Rows = 12000000
	require.Equal(t, "about 12,000,000", Candidates([]sources.Table{tb}, today)[0].Rows.String())
}
