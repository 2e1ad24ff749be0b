package bridge

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// Answers of a source that is lost are dropped, and those beside them written.
func TestSettlingWithALostLease(t *testing.T) {
	t.Parallel()
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(t.TempDir(), "l.db"))}, time.Now, true)
	require.NoError(t, err)
	defer l.Close()
	b := &Bridge{Ledger: l, Log: slog.New(slog.DiscardHandler), Now: time.Now, Settings: Settings{Concurrency: 4}}
	d := b.newDelivery(0)
	require.NoError(t, d.take(t.Context(), "north"))
	s := newSettler(t.Context(), d, 4)
	s.add([]ledger.Settlement{
		{Due: &ledger.Due{ID: 1, Source: "lost", Hash: "x"}, State: ledger.Pending},
		{Due: &ledger.Due{ID: 2, Source: "north", Hash: "x"}, State: ledger.Pending},
	}, ledger.SinkState{State: ledger.SinkOK})
	require.Equal(t, 2, s.unwritten())
	require.True(t, s.flush())
	require.Zero(t, s.unwritten())
	require.True(t, s.flush(), "with nothing to write")
	require.NoError(t, s.close())
	require.NoError(t, d.giveBack(t.Context(), "north"))
}
