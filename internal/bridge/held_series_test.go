package bridge_test

import (
	"context"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"

	"parkbridge/internal/bridge"
	"parkbridge/internal/ledger"
	"parkbridge/internal/testdb"
)

// reasons makes tables of a series whose rows wait for their reason.
func (b *booth) reasons(tables ...string) {
	b.t.Helper()
	b.make(tables...)
	for _, table := range tables {
		b.lot.Exec(b.t, "ALTER TABLE "+table+" ADD reason VARCHAR(40)")
	}
}

func waiting(wait time.Duration) func(*booth) {
	return func(b *booth) { b.ready, b.wait = filledIn, wait }
}

func (b *booth) states() map[string]int {
	b.t.Helper()
	status, err := b.ledger.Status(b.t.Context(), "north")
	require.NoError(b.t, err)
	return status.Counts
}

// What is held of a table of a series comes to an end as anywhere: in its time,
// with its table, and also where that had been closed.
func TestHeldInASeries(t *testing.T) {
	t.Parallel()
	t.Run("not in time", func(t *testing.T) {
		t.Parallel()
		for wait, after := range map[time.Duration]time.Duration{time.Hour: 2 * time.Hour, 720 * time.Hour: 721 * time.Hour} {
			b := monthly(t, testdb.New(t, "sqlite"), "2027-11-01 12:00:00", waiting(wait))
			b.reasons("out_202711")
			b.put("out_202711", "2027-11-01 11:00:00")
			b.sync()
			b.pass(wait - time.Minute)
			b.sync()
			require.Equal(t, map[string]int{ledger.Held: 1}, b.states())
			b.pass(after - wait + time.Minute)
			b.sync()
			require.Equal(t, map[string]int{ledger.Invalid: 1}, b.states())
		}
	})
	t.Run("gone with its table", func(t *testing.T) {
		t.Parallel()
		b := monthly(t, testdb.New(t, "sqlite"), "2027-12-02 12:00:00", waiting(0))
		b.reasons("out_202711", "out_202712")
		b.put("out_202711", "2027-11-30 23:00:00")
		b.sync()
		require.Equal(t, map[string]int{ledger.Held: 1}, b.states())
		b.lot.Exec(t, "DROP TABLE out_202711")
		b.pass(2 * time.Hour) // the tables are listed again
		b.sync()
		require.Equal(t, map[string]int{ledger.Invalid: 1}, b.states())
	})
	t.Run("late in a closed table", func(t *testing.T) {
		t.Parallel()
		b := monthly(t, testdb.New(t, "sqlite"), "2027-12-05 12:00:00", waiting(0))
		b.reasons("out_202711", "out_202712")
		b.put("out_202711", "2027-11-30 12:00:00")
		b.put("out_202712", "2027-12-05 11:00:00")
		b.lot.Exec(t, "UPDATE out_202711 SET reason = 'x'")
		b.lot.Exec(t, "UPDATE out_202712 SET reason = 'x'")
		b.sync()
		b.settle()
		require.NotZero(t, b.marks()["out_202711"].ClosedAt)
		late := b.put("out_202711", "2027-11-30 13:00:00")
		b.pass(2 * time.Hour)
		_, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, false)
		require.NoError(t, err)
		require.Equal(t, map[string]int{ledger.Delivered: 2, ledger.Held: 1}, b.states())
		b.lot.Exec(t, "UPDATE out_202711 SET reason = 'y'")
		b.pass(2 * time.Minute)
		b.sync()
		require.True(t, b.taken(late))
	})
	t.Run("retried in a table that wraps", func(t *testing.T) {
		t.Parallel()
		b := yearly(t, testdb.New(t, "sqlite"), "2027-01-05 12:00:00", waiting(0))
		b.reasons(january)
		b.put(january, "2027-01-05 11:00:00")
		b.sync()
		b.pass(170 * time.Hour)
		b.sync()
		late := b.only(ledger.Invalid)
		b.lot.Exec(t, "UPDATE "+january+" SET reason = 'ok'")
		state, problems, err := b.bridge.Remap(t.Context(), b.bridge.Sources[0], late)
		require.NoError(t, err)
		require.Empty(t, problems)
		require.Equal(t, ledger.Pending, state)
	})
}

// Where no row was there yet, the beginning may still be corrected, however often
// the daemon has looked.
func TestBeginningIsNotStoredByADaemon(t *testing.T) {
	t.Parallel()
	b := setUp(t, testdb.New(t, "sqlite"), func(b *booth) { b.cfg.Start = "1000" })
	for range 3 {
		b.insert("2026-11-01 10:00:00")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticks := 0
	schedule := scheduled(func(last time.Time) time.Time {
		if ticks++; ticks > 4 {
			cancel()
		}
		return last.Add(time.Millisecond)
	})
	require.NoError(t, b.bridge.Serve(ctx, map[string]cron.Schedule{"north": schedule}))
	mark, err := b.ledger.Mark(t.Context(), "north")
	require.NoError(t, err)
	require.False(t, mark.Started)
	b.cfg.Start = "earliest"
	b.reopen()
	b.sync()
	require.Equal(t, 3, b.gate.Stats().Taken)
}

type scheduled func(last time.Time) time.Time

func (s scheduled) Next(last time.Time) time.Time { return s(last) }
