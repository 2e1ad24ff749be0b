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

// Answers of a source that is lost are dropped, and the batch that they were in
// can be tried again.
func TestSettlingWithALostLease(t *testing.T) {
	t.Parallel()
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(t.TempDir(), "l.db"))}, time.Now, true)
	require.NoError(t, err)
	defer l.Close()
	b := &Bridge{Ledger: l, Log: slog.New(slog.DiscardHandler), Now: time.Now, Settings: Settings{Concurrency: 4}}
	d := b.newDelivery(0)
	require.NoError(t, d.take(t.Context(), "north"))
	s := &settler{ctx: t.Context(), d: d}
	batch := []ledger.Settlement{
		{Due: &ledger.Due{ID: 1, Source: "lost", Hash: "x"}, State: ledger.Pending},
		{Due: &ledger.Due{ID: 2, Source: "north", Hash: "x"}, State: ledger.Pending},
	}
	for range 2 {
		require.NoError(t, s.settle(batch, &ledger.SinkState{State: ledger.SinkOK}))
		require.NotNil(t, batch[1].Due)
	}
	require.NoError(t, d.giveBack(t.Context(), "north"))
}
