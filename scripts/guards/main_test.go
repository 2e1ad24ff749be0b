package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page that explains the guards names each of them, with its line and the
// test that fails without it, and each line is there once.
func TestTableIsTheDocuments(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/correctness.md")
	require.NoError(t, err)
	for _, g := range guards {
		require.Contains(t, string(doc), "| `"+g.name+"` | "+g.file+" | ", g.name)
		require.Contains(t, string(doc), strings.ReplaceAll(g.test, "|", `\|`), g.name)
		source, err := os.ReadFile(filepath.Join("../..", g.file))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), g.line), "%s: %s", g.name, g.line)
	}
}
