package ledger_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// A look reads beside the program that holds the ledger, makes nothing where
// there is none, and leaves the schema as it is.
func TestLook(t *testing.T) {
	t.Parallel()
	look := func(path string) (*ledger.Ledger, error) {
		return ledger.Look(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now)
	}
	empty := t.TempDir()
	_, err := look(filepath.Join(empty, "none.db"))
	require.ErrorIs(t, err, ledger.ErrNone)
	entries, err := os.ReadDir(empty)
	require.NoError(t, err)
	require.Empty(t, entries)

	f := open(t) // and stays open, with its lease
	l, err := look(f.path)
	require.NoError(t, err)
	records, err := l.Records(t.Context(), ledger.Filter{})
	require.NoError(t, err)
	require.Empty(t, records)
	mark, err := l.Mark(t.Context(), "gate")
	require.NoError(t, err)
	require.False(t, mark.Started)
	require.NoError(t, l.Close())

	db, err := sql.Open("sqlite", sources.FileURI(f.path, "_pragma=busy_timeout(5000)"))
	require.NoError(t, err)
	defer db.Close()
	exec := func(stmt string) {
		_, err := db.ExecContext(t.Context(), stmt)
		require.NoError(t, err)
	}
	exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)")
	_, err = look(f.path)
	require.ErrorIs(t, err, ledger.ErrNewer)
	exec("DELETE FROM goose_db_version WHERE version_id > 1")
	_, err = look(f.path)
	require.ErrorIs(t, err, ledger.ErrOlder)
	var version int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT MAX(version_id) FROM goose_db_version").Scan(&version))
	require.Equal(t, 1, version, "it is not brought up to date")
	require.NoError(t, os.WriteFile(filepath.Join(empty, "text.db"), make([]byte, 200), 0o600))
	_, err = look(filepath.Join(empty, "text.db"))
	require.ErrorIs(t, err, ledger.ErrCorrupt)
}
