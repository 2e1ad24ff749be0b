package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every mistake in naming a series of tables, word for word and with its place.
// `go test ./internal/config -run TestSeriesMistakes -update` writes the file anew.
func TestSeriesMistakes(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, table := range []string{
		"table: out_{yyyyMM}\n    wrap: year",
		"table: out_{MM}",
		"table: OutList{M}",
		"table: out_{MM}\n    wrap: month",
		"table: out\n    wrap: year",
		"query: SELECT 1\n    cursor: id\n    wrap: year",
		"table: out_{yy}",
		"table: out_{yyyyMM",
		"table: out_{yyyy}_{yyyyMM}",
		"table: out_{MM}_{M}\n    wrap: year",
		"table: lot_{yyyy}.out",
		"table: other.dbo.out_{yyyyMM}",
	} {
		text := strings.Replace(good, "table: abnormal_pass", table, 1)
		_, err := load(t, text)
		require.Error(t, err, table)
		require.Len(t, lines(err), 1, table)
		fmt.Fprintf(&out, "%s\n    %s\n", strings.ReplaceAll(table, "\n    ", ", "), lines(err)[0])
	}
	_, err := load(t, strings.Replace(good, `'"EX" + string(id)'`, `'"EX" + period + string(id)'`, 1))
	fmt.Fprintf(&out, "period where there is none\n    %s\n", strings.Join(lines(err), "\n    "))
	const golden = "testdata/series.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), out.String())
}

func TestSeriesLoad(t *testing.T) {
	t.Parallel()
	for table, wraps := range map[string]bool{
		"out_{yyyyMM}": false, "out{yyyy}": false, "out_{yyyy}_{MM}": false, "dbo.out{yyyy}-{M}": false, "'{yyyyMM}'": false,
		"OutList{MM}\n    wrap: year": true, "出场{M}月\n    wrap: year": true,
	} {
		text := strings.NewReplacer("table: abnormal_pass", "table: "+table, `'"EX" + string(id)'`, `'"EX" + table + period + string(id)'`).Replace(good)
		c, err := load(t, text)
		require.NoError(t, err, table)
		require.NotNil(t, c.Sources[0].Series)
		require.Equal(t, wraps, c.Sources[0].Series.Wraps)
	}
	c, err := load(t, good)
	require.NoError(t, err)
	require.Nil(t, c.Sources[0].Series)
}
