package bridge

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// Where acceptances cannot be noted beside the ledger, that is told once, and they
// are settled all the same.
func TestNotingFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "l.db")
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, true)
	require.NoError(t, err)
	defer l.Close()
	var log bytes.Buffer
	b := &Bridge{Ledger: l, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now, Settings: Settings{Concurrency: 4}}
	d := b.newDelivery(0)
	require.NoError(t, d.take(t.Context(), "north"))
	require.NoError(t, os.Mkdir(path+".north.accepted", 0o700))
	s := newSettler(t.Context(), d, nil)
	for id := range int64(3) {
		rows := []ledger.New{{Key: strconv.FormatInt(id, 10), Content: ledger.Content{Hash: "x", Columns: "{}", Mapped: ledger.Mapped{Fields: "{}"}}}}
		mark, err := l.Mark(t.Context(), "north")
		require.NoError(t, err)
		_, err = l.Land(t.Context(), ledger.Landing{Lease: d.leaseOf("north"), From: mark, Table: "pass", Rows: rows})
		require.NoError(t, err)
		s.add([]ledger.Settlement{{Due: &ledger.Due{ID: rows[0].ID, Source: "north", Hash: "x"}, State: ledger.Delivered}}, ledger.SinkState{State: ledger.SinkOK})
		s.note()
		require.True(t, s.room())
	}
	require.True(t, s.flush())
	require.NoError(t, s.close())
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
	require.Contains(t, log.String(), "go out again")
	require.NoError(t, d.giveBack(t.Context(), "north"))
}

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
