package ledger

import (
	"context"
	"database/sql"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

// Whenever a transaction is cancelled, the next one can begin: the driver may say
// of a BEGIN that worked that it was cancelled.
func TestCancelledTransaction(t *testing.T) {
	t.Parallel()
	l, err := Open(t.Context(), Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(t.TempDir(), "l.db"))}, time.Now, true)
	require.NoError(t, err)
	defer l.Close()
	for i := range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range i % 200 {
				runtime.Gosched()
			}
			cancel()
		}()
		_ = l.tx(ctx, func(*sql.Conn) error { return nil }) // whether it was in time is chance
		cancel()
		require.NoError(t, l.tx(t.Context(), func(*sql.Conn) error { return nil }), "attempt %d", i)
	}
}
