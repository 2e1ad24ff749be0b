package draft

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

var update = flag.Bool("update", false, "write testdata/decisions.txt anew")

// Everything that a draft may ask of a person, word for word: `go test
// ./internal/draft -update` writes the file anew.
func TestDecisions(t *testing.T) {
	t.Parallel()
	primary := []sources.Index{{Columns: []string{"id"}, Unique: true, Primary: true}}
	null := sources.Value{}
	var out strings.Builder
	for _, c := range []struct {
		name    string
		table   sources.Table
		indexes []sources.Index
		rows    [][]sources.Value // none: no row was seen
		options Options
	}{
		{"nothing that says anything", table("t", "x", "y int"), nil, nil, Options{Driver: "sqlite", DSN: "lot.db"}},
		{
			"guesses", table("abnormal", "no", "car", "op_user_type", "end_time", "user_id", "memo", "card_id"), nil,
			rowsOf(3, func(i int) []sources.Value {
				return []sources.Value{whole(fmt.Sprint(i)), text("a"), text("b"), text("2026-11-20 10:00:00"), whole("7"), null, text("c")}
			}), options,
		},
		{
			"gaps and words", table("abnormal", "id bigint", "plate_no", "color", "car_type", "op_time", "operator", "reason", "entry_id"), primary,
			rowsOf(4, func(i int) []sources.Value {
				if i == 0 {
					return []sources.Value{whole("1"), null, text("紫"), text("A"), null, null, null, null}
				}
				return []sources.Value{whole(fmt.Sprint(i + 1)), text("粤B12345"), text("紫"), text(fmt.Sprint("type", i)), text("2026-11-20 10:00:00"), text("x"), text("y"), text("e")}
			}),
			Options{Driver: "sqlite", DSN: "lot.db", Assigned: sources.Assigned{Not: "id is not the table's INTEGER PRIMARY KEY"}},
		},
		{
			"all exits, codes, no row", table("out_record", "id bigint", "plate_no", "out_time int", "operator_id int", "reason int", "color int", "open_type int"), primary,
			nil, options,
		},
		{
			"bytes of nobody knows what, no index", table("abnormal", "guid char(36)", "plate_no", "op_time datetime"),
			[]sources.Index{{Columns: []string{"guid"}, Unique: true, Primary: true}},
			rowsOf(2, func(int) []sources.Value {
				return []sources.Value{text("g"), {Kind: sources.Bytes, Text: "\xff\xff\xff"}, {Kind: sources.Local, Text: "2026-11-20 10:00:00"}}
			}), options,
		},
	} {
		c.table.Indexes = c.indexes
		can := Candidates([]sources.Table{c.table}, today)[0]
		var names []string
		for _, col := range c.table.Columns {
			names = append(names, col.Name)
		}
		if c.rows != nil {
			can.Sampled(names, c.rows, true)
		}
		Rank([]*Candidate{can})
		_, decisions := can.Config(c.options)
		fmt.Fprintf(&out, "%s\n", c.name)
		for _, d := range decisions {
			fmt.Fprintf(&out, "    %s\n", d.Text)
		}
	}
	const path = "testdata/decisions.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(out.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), out.String(), "see the change, and write it with -update")
}
