package mapping_test

import (
	"testing"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// BenchmarkApply maps one row of a usual lot.
func BenchmarkApply(b *testing.B) {
	loc := zone(b, "Asia/Shanghai")
	p := mapping.Compile(mapping.Rules{
		"flow_no": {Expr: `"EX" + string(id)`},
		"plate":   {Column: "plate_no", Transform: []string{"upper"}},
		"color":   {Column: "color", Values: map[string]string{"蓝": "1", "黄": "2"}, Otherwise: new("-1")},
		"op":      {Column: "op_time"},
		"op_must": {Column: "in_time", Format: []string{"yyyy-MM-dd HH:mm:ss"}},
	}, contract, mapping.Settings{Location: loc}, func(path, problem string) { b.Fatal(path, problem) })
	byName := map[string]sources.Value{
		"id": v(sources.Int, "4711"), "plate_no": v(sources.Text, "粤b12345"), "color": v(sources.Text, "蓝"),
		"op_time": v(sources.Local, "2026-11-01 10:00:00"), "in_time": v(sources.Text, "2026-11-01 08:30:00"),
	}
	values, _ := p.Stored(byName)
	var texts []string
	b.ReportAllocs()
	for b.Loop() {
		var problems []mapping.FieldError
		if texts, problems = p.Apply(texts[:0], values, mapping.Origin{Table: "pass"}); problems != nil {
			b.Fatal(problems)
		}
	}
}
