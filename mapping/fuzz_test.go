package mapping_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// Whatever text or number stands in a column, and whatever its format: a time
// comes out that lies within its bounds, or one short message.
func FuzzTime(f *testing.F) {
	for _, seed := range [][2]string{
		{"yyyy-MM-dd HH:mm:ss", "2026-11-01 10:00:00"},
		{"M/d/yyyy h:mm a", "1/2/2026 3:04 PM"},
		{"yyyyMMddHHmmssSSS", "20261101100000123"},
		{"yyyy年M月d日 a h:m", "2026年1月2日 下午 1:02"},
		{"yyyy-MM-dd'T'HH:mm:ssX", "2026-11-01T10:00:00+08:00"},
		{"yyyy-MM-dd'T'HH:mm:ss'Z'", "2026-11-01T10:00:00Z"},
		{"dotnet_ticks", "-9223372036854775808"},
		{"ole", "46327.416666666664"},
		{"excel", "60.5"},
		{"julian", "2461345.5833333335"},
		{"unix", "1793498400.9999999999"},
		{"unix_ms", "-0.5"},
		{"", "NaN"},
	} {
		f.Add(seed[0], seed[1], uint8(sources.Text))
		f.Add(seed[0], seed[1], uint8(sources.Float))
	}
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, pattern, text string, kind uint8) {
		var formats []string
		if pattern != "" {
			formats = []string{pattern}
		}
		problems := 0
		now := time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
		p := mapping.Compile(mapping.Rules{"op": {Column: "c", Format: formats}}, contract[3:4],
			mapping.Settings{Location: shanghai, MaxFuture: 24 * time.Hour}, func(string, string) { problems++ })
		if problems > 0 {
			return
		}
		fields, errs := mapRow(p, []sources.Value{v(sources.Kind(kind%uint8(sources.Bad+1)), text)}, mapping.Origin{Now: now})
		for _, e := range errs {
			if len(e.Problem) > 1000+len(pattern) {
				t.Fatalf("%q by %q: a message of %d bytes", text, pattern, len(e.Problem))
			}
		}
		got := fields["op"]
		if got == "" {
			return
		}
		at, err := time.Parse(time.RFC3339, got)
		if err != nil || at.Year() < 1999 || at.After(now.Add(24*time.Hour)) {
			t.Fatalf("%q by %q gave %q", text, pattern, got)
		}
	})
}

// A time that string writes by a pattern is read back by it as the same one.
func FuzzPattern(f *testing.F) {
	f.Add("yyyy-MM-dd HH:mm:ss", int64(1793498400))
	f.Add("yyyyMMddhhmmssSSSa", int64(1793498400))
	f.Add("d.M.yy a h 'Uhr' m s S X", int64(1793498400))
	f.Add("''yyyyMMdd'T'HHmmssZ", int64(1793498400))
	f.Fuzz(func(t *testing.T, pattern string, unix int64) {
		problems := 0
		p := mapping.Compile(mapping.Rules{"op": {Expr: `string(c, p)`, Format: []string{pattern}, Trim: new(false)}}, contract[3:4],
			mapping.Settings{Location: time.UTC}, func(string, string) { problems++ })
		for _, letters := range []string{"y", "M", "d", "Hh", "m", "s"} { // or something is lost in writing
			if !strings.ContainsAny(pattern, letters) {
				return
			}
		}
		if problems > 0 || !utf8.ValidString(pattern) || strings.ContainsAny(pattern, "'0123456789") {
			return
		}
		at := time.Unix(946684800+(unix%3155760000+3155760000)%3155760000, 0).UTC() // of 2000 to 2099
		values := []sources.Value{v(sources.Time, at.Format(time.RFC3339)), v(sources.Text, pattern)}
		if p.Columns()[0] == "p" {
			values[0], values[1] = values[1], values[0]
		}
		fields, errs := mapRow(p, values, mapping.Origin{})
		if want := at.Format("2006-01-02T15:04:05Z"); errs != nil || fields["op"] != want {
			t.Fatalf("%q: %s came back as %q, %v", pattern, want, fields["op"], errs)
		}
	})
}

// Bytes of any charset become text without a trace of damage, or one short
// message that shows them.
func FuzzCharset(f *testing.F) {
	f.Add("gbk", "\xd4\xc1B12345")
	f.Add("gb18030", "\x95\x32\x82\x36\x84\x31\xa4\x37")
	f.Add("big5", "\xb8\x66\x88\x62")
	f.Add("latin-1", "\x80\x81")
	f.Add("", "\xef\xbf\xbd\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, charset, bytes string) {
		if !mapping.ValidCharset(charset) {
			return
		}
		p := mapping.Compile(mapping.Rules{"plate": {Column: "c", Charset: charset}}, contract[1:2], mapping.Settings{Location: time.UTC},
			func(_, problem string) { t.Fatal(problem) })
		fields, errs := mapRow(p, []sources.Value{v(sources.Bytes, bytes)}, mapping.Origin{})
		for _, e := range errs {
			if !strings.Contains(e.Problem, "[") || len(e.Problem) > 250 {
				t.Fatalf("%q: %s", bytes, e.Problem)
			}
		}
		got := fields["plate"]
		if !utf8.ValidString(got) || (strings.ContainsRune(got, utf8.RuneError) && !strings.ContainsRune(bytes, utf8.RuneError)) {
			t.Fatalf("%q became %q", bytes, got)
		}
	})
}
