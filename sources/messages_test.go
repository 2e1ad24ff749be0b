package sources_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sources"
)

var update = flag.Bool("update", false, "write testdata/messages.txt anew")

// What is said of a table, a key or a cursor that will not do, word for word: `go
// test ./sources -run TestMessages -update` writes the file anew.
func TestMessages(t *testing.T) {
	t.Parallel()
	lot := testdb.New(t, "sqlite")
	lot.Exec(t, "CREATE TABLE pass (id INTEGER PRIMARY KEY, lane TEXT, no INTEGER, op DATETIME, mixed DATETIME)")
	lot.Exec(t, "INSERT INTO pass VALUES (1, 'A', 1, '2026-11-01 10:00:00', '2026-11-01 10:00:00'), (2, NULL, 2, '2026-11-01 10:00:01', 1793498400), (3, 'A', 3, '2026-11-01 10:00:02', 2461345.5), (4, 'A', 4, '2026-11-01 10:00:03', x'00')")
	var out strings.Builder
	for _, c := range []struct {
		what   string
		change func(*sources.Config)
	}{
		{"an engine that is none", func(c *sources.Config) { c.Driver = "oracle" }},
		{"a folder", func(c *sources.Config) { c.DSN = sources.Secret(filepath.Dir(string(c.DSN))) }},
		{"no table", func(c *sources.Config) { c.Table = "gone" }},
		{"no key column", func(c *sources.Config) { c.Key, c.Cursor = []string{"no", "lain"}, "no" }},
		{"no cursor column", func(c *sources.Config) { c.Cursor = "time" }},
		{"no mapped column", func(c *sources.Config) { c.Where = "plate" }},
		{"a text as key and cursor", func(c *sources.Config) { c.Key, c.Cursor = []string{"lane"}, "lane" }},
		{"a start that no integer is", func(c *sources.Config) { c.Start = "2026-11-01" }},
		{"a where that is none", func(c *sources.Config) { c.Where = "id >" }},
		{"a key that is NULL", func(c *sources.Config) { c.Key, c.Cursor = []string{"lane", "no"}, "op" }},
		{"a cursor of several types", func(c *sources.Config) { c.Cursor = "mixed" }},
	} {
		cfg := config(lot, "pass", "id")
		c.change(&cfg)
		cfg.Defaults()
		var needs []sources.Need
		if cfg.Where == "plate" {
			cfg.Where, needs = "", []sources.Need{{Column: "plate"}}
		}
		r, err := sources.Open(t.Context(), drivers, cfg, needs)
		if err == nil {
			err = r.CheckTypes(t.Context())
		}
		if err == nil {
			_, err = pageOf(t, r, sources.Range{}, 10)
		}
		if r != nil {
			require.NoError(t, r.Close())
		}
		require.Error(t, err, c.what)
		fmt.Fprintf(&out, "%s\n    %v\n", c.what, err)
	}

	e := explore(t, lot)
	gone := &sources.Table{Name: []string{"gone"}}
	_, err := e.Count(t.Context(), gone, 5)
	fmt.Fprintf(&out, "counting a table that is gone\n    %v\n", err)
	_, err = e.Newest(t.Context(), gone, []string{"id"}, nil, 5)
	fmt.Fprintf(&out, "sampling a table that is gone\n    %v\n", err)
	_, err = open(t, config(lot, "pass", "id")).Plan(t.Context(), sources.Range{After: sources.Position{Values: []string{"1", "2"}}}, 5)
	fmt.Fprintf(&out, "a position of another reading order\n    %v\n", err)
	keys := config(lot, "pass", "id")
	keys.Key, keys.Cursor = []string{"lane", "no"}, "op"
	for _, key := range []string{"A", `["A","x"]`} {
		_, _, err = open(t, keys).ByKey(t.Context(), key)
		fmt.Fprintf(&out, "the key %s\n    %v\n", key, err)
	}

	got := strings.ReplaceAll(out.String(), filepath.Dir(lot.DSN), "DIR")
	const path = "testdata/messages.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got, "see the change, and write it with -update")
}
