package sqlserver_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
	"parkbridge/sources/sqlserver"
)

// What the driver decodes comes out without loss, and goes back into a position
// and a parameter that mean the same.
func TestValues(t *testing.T) {
	t.Parallel()
	f64 := func(f float64) cell {
		return byteLen([]byte{0x6d, 8}, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))...)
	}
	f32 := func(f float32) cell {
		return byteLen([]byte{0x6d, 4}, binary.LittleEndian.AppendUint32(nil, math.Float32bits(f))...)
	}
	money := func(n int64) cell {
		b := binary.LittleEndian.AppendUint32(nil, uint32(n>>32))
		return byteLen([]byte{0x6e, 8}, binary.LittleEndian.AppendUint32(b, uint32(n))...)
	}
	numeric := func(precision, scale byte, n uint64) cell {
		return byteLen([]byte{0x6c, 9, precision, scale}, binary.LittleEndian.AppendUint64([]byte{1}, n)...)
	}
	datetime2 := func(scale byte, units uint64, day uint32) cell {
		width := map[byte]int{0: 3, 3: 4, 7: 5}[scale]
		b := append(binary.LittleEndian.AppendUint64(nil, units)[:width:width], binary.LittleEndian.AppendUint32(nil, day)[:3]...)
		return byteLen([]byte{0x2a, scale}, b...)
	}
	offset := datetime2(7, 2*36000000000+1, 739920)
	offset.info[0] = 0x2b
	offset.data = append(append([]byte{10}, offset.data[1:]...), 0xe0, 0x01) // +08:00, the time is that of UTC
	day := cell{[]byte{0x28}, append([]byte{3}, binary.LittleEndian.AppendUint32(nil, 739920)[:3]...)}
	guid, err := hex.DecodeString("52ccf049c7e8e341b54daf666b8cc11a")
	require.NoError(t, err)
	long := func(kind byte, collation, b []byte) cell { // text, ntext, image
		info := append([]byte{kind, 0xff, 0xff, 0xff, 0x7f}, collation...)
		info = append(info, 1, 1, 0, 't', 0)
		data := append(append([]byte{16}, make([]byte, 24)...), binary.LittleEndian.AppendUint32(nil, uint32(len(b)))...)
		return cell{info, append(data, b...)}
	}
	gbk := []byte("\xd4\xc1B12345") // 粤B12345
	v := func(k sources.Kind, text string) sources.Value { return sources.Value{Kind: k, Text: text} }
	const cjk = "Chinese_PRC_CI_AS"
	for name, c := range map[string]struct {
		column []cell
		raw    bool
		cell   cell
		want   sources.Value
		native string // "": it cannot be a key or cursor
		param  string // what it is bound to
		sel    string // how it is selected; "": by its name
	}{
		"bit":          {catalogRow("c", "bit", 1, 1, 0, "", 0), false, bit(true), v(sources.Bool, "true"), "true", "CAST(@p1 AS bit)", ""},
		"tinyint":      {catalogRow("c", "tinyint", 1, 3, 0, "", 0), false, byteLen([]byte{0x26, 1}, 255), v(sources.Int, "255"), "255", "CAST(@p1 AS tinyint)", ""},
		"bigint":       {catalogRow("c", "bigint", 8, 19, 0, "", 0), false, bigint(math.MinInt64), v(sources.Int, "-9223372036854775808"), "-9223372036854775808", "CAST(@p1 AS bigint)", ""},
		"numeric":      {catalogRow("c", "numeric", 9, 18, 0, "", 0), false, numeric(18, 0, 900719925474099267), v(sources.Decimal, "900719925474099267"), "900719925474099267", "CAST(@p1 AS numeric(18,0))", ""},
		"decimal":      {catalogRow("c", "decimal", 9, 18, 4, "", 0), false, numeric(18, 4, 123456789012345000), v(sources.Decimal, "12345678901234.5000"), "12345678901234.5000", "CAST(@p1 AS decimal(18,4))", ""},
		"money":        {catalogRow("c", "money", 8, 19, 4, "", 0), false, money(-1), v(sources.Decimal, "-0.0001"), "-0.0001", "CAST(@p1 AS money)", ""},
		"money, large": {catalogRow("c", "money", 8, 19, 4, "", 0), false, money(math.MaxInt64), v(sources.Decimal, "922337203685477.5807"), "922337203685477.5807", "CAST(@p1 AS money)", ""},
		"float":        {catalogRow("c", "float", 8, 53, 0, "", 0), false, f64(0.1), v(sources.Float, "0.1"), "0.1", "CAST(@p1 AS float)", ""},
		"float, 17":    {catalogRow("c", "float", 8, 53, 0, "", 0), false, f64(math.Nextafter(0.3, 1)), v(sources.Float, "0.30000000000000004"), "0.30000000000000004", "CAST(@p1 AS float)", ""},
		"real":         {catalogRow("c", "real", 4, 24, 0, "", 0), false, f32(0.1), v(sources.Float, "0.1"), "0.1", "CAST(@p1 AS real)", ""},
		"datetime":     {catalogRow("c", "datetime", 8, 23, 3, "", 0), false, datetime(46325, 300*36000+2), v(sources.Local, "2026-11-01 10:00:00.007"), "2026-11-01 10:00:00.007", "CAST(@p1 AS datetime)", ""},
		"datetime, whole": {
			catalogRow("c", "datetime", 8, 23, 3, "", 0), false, datetime(46325, 300*36000), v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", "CAST(@p1 AS datetime)", "",
		},
		"smalldatetime": {
			catalogRow("c", "smalldatetime", 4, 16, 0, "", 0), false, byteLen([]byte{0x6f, 4}, 0xf5, 0xb4, 0x58, 0x02),
			v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", "CAST(@p1 AS smalldatetime)", "",
		},
		"datetime2(7)": {
			catalogRow("c", "datetime2", 8, 27, 7, "", 0), false, datetime2(7, 10*36000000000+1234567, 739920),
			v(sources.Local, "2026-11-01 10:00:00.1234567"), "2026-11-01 10:00:00.1234567", "CAST(@p1 AS datetime2(7))", "",
		},
		"datetime2(0)": {
			catalogRow("c", "datetime2", 6, 19, 0, "", 0), false, datetime2(0, 36000, 739920), v(sources.Local, "2026-11-01 10:00:00"), "2026-11-01 10:00:00", "CAST(@p1 AS datetime2(0))", "",
		},
		"datetimeoffset": {
			catalogRow("c", "datetimeoffset", 10, 34, 7, "", 0), false, offset, v(sources.Time, "2026-11-01 10:00:00.0000001+08:00"), "2026-11-01 10:00:00.0000001+08:00", "CAST(@p1 AS datetimeoffset(7))", "",
		},
		"date":             {catalogRow("c", "date", 3, 10, 0, "", 0), false, day, v(sources.Local, "2026-11-01"), "2026-11-01", "CAST(@p1 AS date)", ""},
		"time":             {catalogRow("c", "time", 4, 12, 3, "", 0), false, byteLen([]byte{0x29, 3}, 0x02, 0x51, 0x25, 0x02), v(sources.Text, "10:00:00.002"), "10:00:00.002", "CAST(@p1 AS time(3))", ""},
		"uniqueidentifier": {catalogRow("c", "uniqueidentifier", 16, 0, 0, "", 0), false, byteLen([]byte{0x24, 16}, guid...), v(sources.Text, "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A"), "49F0CC52-E8C7-41E3-B54D-AF666B8CC11A", "CAST(@p1 AS uniqueidentifier)", ""},
		"rowversion":       {catalogRow("c", "timestamp", 8, 0, 0, "", 0), false, shortLen([]byte{0xad, 8, 0}, []byte{0, 0, 0, 0, 0, 0, 7, 0xe3}), v(sources.Bytes, "\x00\x00\x00\x00\x00\x00\x07\xe3"), "0x00000000000007e3", "CAST(@p1 AS binary(8))", ""},
		"varbinary":        {catalogRow("c", "varbinary", 20, 0, 0, "", 0), false, varbinary([]byte{0, 0xff}), v(sources.Bytes, "\x00\xff"), "0x00ff", "CAST(@p1 AS varbinary(8000))", ""},
		"char, padded":     {catalogRow("c", "char", 6, 0, 0, cjk, 936), false, shortLen(append([]byte{0xaf, 6, 0}, prc...), []byte("ab    ")), v(sources.Text, "ab    "), "ab    ", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", ""},
		"varchar, GBK":     {catalogRow("c", "varchar", 20, 0, 0, cjk, 936), false, varchar(prc, gbk), v(sources.Text, "粤B12345"), "粤B12345", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", ""},
		"varchar, Big5":    {catalogRow("c", "varchar", 20, 0, 0, "Chinese_Taiwan_Stroke_CI_AS", 950), false, varchar(taiwan, []byte("\xb8\x54")), v(sources.Text, "禁"), "禁", "CAST(@p1 COLLATE Chinese_Taiwan_Stroke_CI_AS AS varchar(8000))", ""},
		"varchar, Latin":   {catalogRow("c", "varchar", 20, 0, 0, "SQL_Latin1_General_CP1_CI_AS", 1252), false, varchar(latin1, []byte("caf\xe9")), v(sources.Text, "café"), "café", "CAST(@p1 COLLATE SQL_Latin1_General_CP1_CI_AS AS varchar(8000))", ""},
		"varchar, cut in a character": {
			catalogRow("c", "varchar", 20, 0, 0, cjk, 936), false, varchar(prc, []byte("ab\xd4")), v(sources.Bad, "ab\ufffd"), "", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", "",
		},
		"varchar, raw, declared as what it is": {
			catalogRow("c", "varchar", 20, 0, 0, cjk, 936), true, varchar(prc, gbk), v(sources.Text, "粤B12345"), "粤B12345", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS varchar(8000))", "",
		},
		"varchar, raw, GBK in Latin": {
			catalogRow("c", "varchar", 20, 0, 0, "SQL_Latin1_General_CP1_CI_AS", 1252), true, varbinary(gbk), v(sources.Bytes, string(gbk)), "",
			"CAST(@p1 COLLATE SQL_Latin1_General_CP1_CI_AS AS varchar(8000))", "CAST([c] AS varbinary(max))",
		},
		"varchar of UTF-8": {
			catalogRow("c", "varchar", 20, 0, 0, "Latin1_General_100_CI_AS_SC_UTF8", 65001), false, nvarchar("粤B12345"), v(sources.Text, "粤B12345"), "粤B12345",
			"CAST(@p1 COLLATE Latin1_General_100_CI_AS_SC_UTF8 AS varchar(8000))", "CAST([c] AS nvarchar(max))",
		},
		"nvarchar": {catalogRow("c", "nvarchar", 40, 0, 0, cjk, 936), true, nvarchar("粤B12345🚗"), v(sources.Text, "粤B12345🚗"), "粤B12345🚗", "CAST(@p1 AS nvarchar(4000))", ""},
		"text":     {catalogRow("c", "text", 16, 0, 0, cjk, 936), false, long(0x23, prc, gbk), v(sources.Text, "粤B12345"), "", "CAST(@p1 COLLATE Chinese_PRC_CI_AS AS text)", ""},
		"text, raw": {
			catalogRow("c", "text", 16, 0, 0, "SQL_Latin1_General_CP1_CI_AS", 1252), true, varbinary(gbk), v(sources.Bytes, string(gbk)), "",
			"CAST(@p1 COLLATE SQL_Latin1_General_CP1_CI_AS AS text)", "CAST(CAST([c] AS varchar(max)) AS varbinary(max))",
		},
		"ntext":       {catalogRow("c", "ntext", 16, 0, 0, cjk, 936), false, long(0x63, prc, ucs2("粤B")), v(sources.Text, "粤B"), "", "CAST(@p1 AS ntext)", ""},
		"image":       {catalogRow("c", "image", 16, 0, 0, "", 0), false, long(0x22, nil, []byte{0xff, 0xd8}), v(sources.Bytes, "\xff\xd8"), "", "CAST(@p1 AS image)", ""},
		"sql_variant": {catalogRow("c", "sql_variant", 8016, 0, 0, "", 0), false, nvarchar("17"), v(sources.Text, "17"), "", "CAST(@p1 AS sql_variant)", "CAST([c] AS nvarchar(4000))"},
		"NULL":        {catalogRow("c", "datetime", 8, 23, 3, "", 0), false, byteLen([]byte{0x6f, 8}), sources.Value{}, "", "CAST(@p1 AS datetime)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lot{
				columns: [][]cell{catalogRow("id", "bigint", 8, 19, 0, "", 0), c.column},
				sample:  []cell{bigint(1), c.cell}, rows: [][]cell{{bigint(1), c.cell}},
			}
			s, r := openLot(t, l, nil, sources.Need{Column: "c", Raw: c.raw})
			require.NoError(t, inSession(t, r, func(s *sources.Session) error {
				page, err := s.Page(t.Context(), sources.Range{}, 10)
				require.NoError(t, err)
				require.Equal(t, []sources.Value{c.want}, page.Rows[0].Values)
				return err
			}))
			sel := c.sel
			if sel == "" {
				sel = "[c]"
			}
			require.Contains(t, s.statements()[0].sql, "SELECT TOP (@p1) [id], "+sel+" FROM ")

			db, dialect, err := sqlserver.Driver().Open(t.Context(), config(s, ""))
			require.NoError(t, err)
			defer db.Close()
			columns, err := db.Columns(t.Context(), "*", "[dbo].[pass]")
			require.NoError(t, err)
			require.Equal(t, c.param, dialect.Param(1, columns[1]))
			if c.want.IsNull() {
				return
			}
			native, err := dialect.Native(columns[1], c.want)
			if c.native == "" {
				require.ErrorContains(t, err, "cannot be a key or cursor")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.native, native)
			_, err = dialect.Arg(columns[1], native)
			require.NoError(t, err)
		})
	}
}

// Each 1/300 s of a datetime has a text that gives it back: SQL Server rounds a
// text to the nearest 1/300 s.
func TestDatetimeSteps(t *testing.T) {
	t.Parallel()
	l := passLot()
	for tick := range 300 {
		l.rows = append(l.rows, []cell{datetime(46325, uint32(300*86399+tick)), bigint(int64(tick))})
	}
	s, r := openLot(t, l, func(c *sources.Config) { c.Cursor = "op" }, sources.Need{Column: "op"})
	require.NoError(t, inSession(t, r, func(session *sources.Session) error {
		page, err := session.Page(t.Context(), sources.Range{}, 300)
		require.NoError(t, err)
		require.Equal(t, "2026-11-01 23:59:59.997", page.Rows[299].Values[0].Text)
		s.statements()
		seen := map[string]bool{}
		for tick, row := range page.Rows {
			_, err := session.Page(t.Context(), sources.Range{After: row.Position}, 1)
			require.NoError(t, err)
			bound, ok := s.statements()[0].args[0].(string)
			require.True(t, ok)
			var ms int
			_, err = fmt.Sscanf(bound, "2026-11-01T23:59:59.%03d", &ms)
			require.NoError(t, err)
			require.Equal(t, tick, int(math.Round(float64(ms)*0.3)), bound)
			require.False(t, seen[bound])
			seen[bound] = true
		}
		return nil
	}))
}

// What is typed or stored as a position goes to the server in one form only.
func TestArguments(t *testing.T) {
	t.Parallel()
	db, dialect, err := sqlserver.Driver().Open(t.Context(), config(newStub(t, passLot().reply), ""))
	require.NoError(t, err)
	defer db.Close()
	for _, c := range []struct{ typ, native, want string }{
		{"datetime", "2026-11-01", "2026-11-01T00:00:00.000"},
		{"datetime", "2026-11-01 10:00", "2026-11-01T10:00:00.000"},
		{"datetime", "2026-11-01 10:00:00.1", "2026-11-01T10:00:00.100"},
		{"datetime", "2026-11-01T10:00:00.123456", "2026-11-01T10:00:00.123"},
		{"smalldatetime", "2026-11-01 10:00:00.5", "2026-11-01T10:00:00"},
		{"datetime2(7)", "2026-11-01 10:00:00.1234567", "2026-11-01T10:00:00.1234567"},
		{"datetimeoffset(3)", "2026-11-01 10:00:00Z", "2026-11-01T10:00:00.000+00:00"},
		{"datetimeoffset(3)", "2026-11-01 10:00:00.25 +08:00", "2026-11-01T10:00:00.250+08:00"},
		{"date", "2026-11-01 10:00:00", "2026-11-01"},
		{"money", "1.5", "1.5"},
		{"numeric(18,0)", "17", "17"},
	} {
		got, err := dialect.Arg(sources.Column{Type: c.typ}, c.native)
		require.NoError(t, err, c)
		require.Equal(t, c.want, got, c)
	}
	for _, c := range []struct{ typ, native, want string }{
		{"datetime", "01/11/2026", "is not a date-time such as 2026-11-01 10:00:00"},
		{"datetime", "2026-11-01 10:00:00+08:00", "has a zone, which the column has not"},
		{"int", "1.5", "is not an integer"},
		{"float", "x", "is not a number"},
		{"timestamp", "17", "is not of the form 0x…, which a binary column needs"},
		{"timestamp", "0xg0", "is not of the form 0x…, which a binary column needs"},
	} {
		_, err := dialect.Arg(sources.Column{Type: c.typ, Binary: c.typ == "timestamp"}, c.native)
		require.EqualError(t, err, c.want, c)
	}
}

// A query is described by what the protocol tells; so is a synonym, of which the
// catalog has no columns.
func TestColumnsOfAQuery(t *testing.T) {
	t.Parallel()
	l := passLot()
	columns := l.columns
	l.columns = columns[:0:0]
	sample := []cell{bigint(1), datetime(1, 1), varchar(prc, []byte("A")), nvarchar("x"), byteLen([]byte{0x6a, 9, 18, 2}), byteLen([]byte{0x2a, 3}), {[]byte{0xe7, 0xff, 0xff, 4, 8, 0, 0, 0}, nil}}
	l.answer = func(q statement) []byte {
		if strings.Contains(q.sql, "sys.all_columns") {
			return table(make([]string, 7), true, columns[0])
		}
		return table([]string{"id", "op", "lane", "plate", "fee", "at", "memo"}, true, sample)
	}
	s := newStub(t, l.reply)
	db, dialect, err := sqlserver.Driver().Open(t.Context(), config(s, ""))
	require.NoError(t, err)
	defer db.Close()
	for _, from := range []string{"(SELECT * FROM pass\n) AS [source_query]", "[other].[dbo].[synonym]"} {
		s.statements()
		got, err := db.Columns(t.Context(), "*", from)
		require.NoError(t, err)
		require.Equal(t, []sources.Column{
			{Name: "id", Type: "bigint", Integer: true},
			{Name: "op", Type: "datetime"},
			{Name: "lane", Type: "varchar(8000)", IsText: true},
			{Name: "plate", Type: "nvarchar(4000)", IsText: true},
			{Name: "fee", Type: "decimal(18,2)"},
			{Name: "at", Type: "datetime2(3)"},
			{Name: "memo", Type: "nvarchar(max)", IsText: true},
		}, got)
		require.Equal(t, "CAST([lane] AS varbinary(max))", dialect.Select(sources.Field{Column: got[2], Raw: true}), "its code page is not known")
	}
	require.Contains(t, s.statements()[0].sql, "FROM [other].sys.all_columns c WHERE c.object_id = OBJECT_ID(@p1)")
}

// Whatever a position's text is, what is bound for it is ISO 8601 or an error.
func FuzzTimeArgument(f *testing.F) {
	for _, text := range []string{"2026-11-01", "2026-11-01 10:00:00.007", "2026-11-01T10:00Z", "0000-00-00 00:00:00.123456789 +08:00", "粤"} {
		f.Add(text)
	}
	form := regexp.MustCompile(`^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{3,7})?([+-]\d\d:\d\d)?)?$`)
	s := newStub(f, passLot().reply)
	db, dialect, err := sqlserver.Driver().Open(f.Context(), config(s, ""))
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, db.Close()) })
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range []string{"datetime", "smalldatetime", "datetime2(7)", "datetimeoffset(7)", "date"} {
			if got, err := dialect.Arg(sources.Column{Type: typ}, text); err == nil {
				require.Regexp(t, form, got)
			}
		}
	})
}
