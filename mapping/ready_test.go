package mapping_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// waiting compiles a program with a condition over the columns c and d.
func waiting(t *testing.T, condition string) (*mapping.Program, error) {
	t.Helper()
	set := mapping.Settings{Location: zone(t, "Asia/Shanghai"), Charset: "gbk"}
	p := mapping.Compile(mapping.Rules{"plate": {Column: "c"}}, fieldOf("plate"), set, func(path, problem string) { t.Fatal(path, problem) })
	return p, p.Await(condition, set)
}

type readyMistake struct {
	condition string
	in        sources.Value // of every column
}

// message is what is said of the condition or, where that compiles, of the row.
func (m readyMistake) message(t *testing.T) string {
	t.Helper()
	p, err := waiting(t, m.condition)
	if err != nil {
		return "ready " + err.Error()
	}
	values := make([]sources.Value, len(p.Columns()))
	for i := range values {
		values[i] = m.in
	}
	_, problem := p.Ready(values, mapping.Origin{})
	require.NotNil(t, problem, m.condition)
	return problem.Error()
}

var readyMistakes = []readyMistake{
	{condition: `"yes"`},
	{condition: `1 + 1`},
	{condition: `0.5`},
	{condition: `[true]`},
	{condition: `{"a": true}`},
	{condition: `nil`},
	{condition: `string(c)`},
	{condition: `c !=`},
	{condition: `now() > c`},
	{condition: `lower(c)`},
	{condition: `ready(c)`},
	{`c`, v(sources.Int, "1")},
	{`c`, v(sources.Text, "是")},
	{`c`, sources.Value{}},
	{`d > 3`, sources.Value{}},
	{`d > 3`, v(sources.Text, "4")},
	{`d != ""`, v(sources.Bytes, "\xff")},
	{`d > c`, v(sources.Bad, "0000-00-00 00:00:00")},
}

func TestReady(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		condition string
		in        sources.Value
		ready     bool
	}{
		{`(d ?? "") != ""`, v(sources.Text, "已放行"), true},
		{`(d ?? "") != ""`, v(sources.Text, "   "), false},
		{`(d ?? "") != ""`, sources.Value{}, false},
		{`(d ?? "") != ""`, v(sources.Bytes, "\xd4\xc1"), true},
		{`d == "粤"`, v(sources.Bytes, "\xd4\xc1"), true},
		{`d`, v(sources.Bool, "true"), true},
		{`d`, v(sources.Bool, "false"), false},
		{`d == 3 && revision == 0 && table == "pass"`, v(sources.Int, "3"), true},
		{`d != nil`, v(sources.Local, "2026-11-24 10:00:00"), true},
		{`d > date("2026-11-24T02:00:00Z")`, v(sources.Local, "2026-11-24 10:00:01"), true},
		{`d > date("2026-11-24T02:00:00Z")`, v(sources.Local, "2026-11-24 09:59:59"), false},
		{`true`, sources.Value{}, true},
		{`$env["d"] != nil`, sources.Value{}, false},
	} {
		p, err := waiting(t, c.condition)
		require.NoError(t, err, c.condition)
		require.Equal(t, c.condition, p.Condition())
		values := make([]sources.Value, len(p.Columns()))
		for i := range values {
			values[i] = c.in
		}
		ready, problem := p.Ready(values, mapping.Origin{Table: "pass", Now: time.Now()})
		require.Nil(t, problem, c.condition)
		require.Equal(t, c.ready, ready, "%s of %v", c.condition, c.in)
	}
	// The columns of the condition are read too, each once, and its own alone.
	p, err := waiting(t, `c != "" && d != ""`)
	require.NoError(t, err)
	require.Equal(t, []string{"c", "d"}, p.Columns())
	require.Equal(t, []string{"plate"}, p.Fields())
	plain := mapping.Compile(mapping.Rules{"plate": {Column: "c"}}, fieldOf("plate"), mapping.Settings{}, func(path, problem string) { t.Fatal(path, problem) })
	require.Empty(t, plain.Condition())
	ready, problem := plain.Ready([]sources.Value{{}}, mapping.Origin{})
	require.True(t, ready)
	require.Nil(t, problem)
}
