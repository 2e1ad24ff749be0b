package ledger_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"parkbridge/internal/ledger"
	"parkbridge/migrations"
	"parkbridge/sources"
)

// A ledger of an earlier version keeps every record as it is, there and back.
func TestMigrationKeepsRecords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	db, err := sql.Open("sqlite", sources.FileURI(path))
	require.NoError(t, err)
	defer db.Close()
	files, err := migrations.For("sqlite")
	require.NoError(t, err)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	require.NoError(t, err)
	_, err = p.UpTo(t.Context(), 2)
	require.NoError(t, err)
	const hash = "00112233:445566778899aabbccddeeff00112233"
	insert := `INSERT INTO sync_status (id, source, table_name, row_key, content_hash, identity_hash, seen_hash, day, park_uuid, flow_no, parking_serial, state,
		next_attempt_at, last_attempt_at, code, seqno, first_seen_at, delivered_at, columns, fields, errors) VALUES `
	const first, later = "'2026-11-01T00:00:00.000Z'", "'2026-11-01T00:00:05.000Z'"
	for _, row := range []string{
		"(1, 'gate', 'pass', '7', '" + hash + "', '" + hash + "', NULL, '2026-11-01', 'P', 'F1', 'S1', 'delivered', " + first + ", " + later + ", '1001', 'q', " + first + ", " + later + `, '{"id":7}', '{"flow_no":"F1"}', NULL)`,
		"(2, 'gate', 'pass', '8', '" + hash + "', NULL, '" + hash + "', NULL, 'P', 'F2', 'S2', 'delivered', " + first + ", " + later + ", '1001', NULL, " + first + ", " + later + ", NULL, NULL, NULL)",
		"(3, 'other', 'pass', '7', '" + hash + "', NULL, NULL, NULL, NULL, NULL, NULL, 'invalid', " + first + ", NULL, NULL, NULL, " + first + `, NULL, '{"id":7}', NULL, '[{"field":"plate","problem":"is NULL"}]')`,
		"(9, 'gate', 'pass', '9', '" + hash + "', NULL, NULL, NULL, 'P', 'F9', 'S9', 'pending', " + later + ", " + first + ", '503', NULL, " + first + `, NULL, '{"id":9}', '{"flow_no":"F9"}', NULL)`,
	} {
		_, err := db.ExecContext(t.Context(), insert+row)
		require.NoError(t, err)
	}
	for range 2 {
		l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, false)
		require.NoError(t, err)
		records, err := l.Records(t.Context(), ledger.Filter{Oldest: true})
		require.NoError(t, err)
		require.Len(t, records, 4)
		at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		require.Equal(t, "F1", records[0].Fields["flow_no"])
		require.Equal(t, "7", records[0].Columns["id"].Text)
		require.Equal(t, at.Add(5*time.Second), records[0].LastAttemptAt)
		require.Equal(t, at.Add(5*time.Second), records[0].DeliveredAt)
		require.True(t, records[1].Wiped())
		require.Equal(t, "is NULL", records[2].Problems[0].Problem)
		require.Equal(t, at.Add(5*time.Second), records[3].NextAttemptAt)
		require.Equal(t, at, records[3].LastAttemptAt)
		known, err := l.Known(t.Context(), "gate", "pass", []string{"7", "8", "9"})
		require.NoError(t, err)
		require.Len(t, known, 3)
		want := "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x00\x11\x22\x33"
		require.Equal(t, ledger.Known{ID: 1, Hash: want, Identity: want, State: ledger.Delivered, Day: "2026-11-01", Generation: 1}, known["7"])
		require.Equal(t, want, known["8"].Seen)
		status, err := l.Status(t.Context(), "gate")
		require.NoError(t, err)
		require.Equal(t, map[string]int{ledger.Delivered: 2, ledger.Pending: 1}, status.Counts)
		require.Equal(t, 1, status.Changed)
		require.NoError(t, l.Close())
		_, err = p.DownTo(t.Context(), 2)
		require.NoError(t, err)
	}
}

// Runs that find nothing are one row, until one finds something.
func TestEmptyRunsFold(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, err := f.FinishRun(t.Context(), f.run, 0, nil)
	require.NoError(t, err)
	note := func(runs, read int) {
		f.clock.add(time.Minute)
		require.NoError(t, f.NoteEmptyRuns(t.Context(), ledger.Run{Source: "gate", Runs: runs, Read: read, StartedAt: f.clock.Now(), FinishedAt: f.clock.Now()}))
	}
	began := f.clock.Now()
	note(1, 0)
	note(6, 12)
	runs, err := f.Runs(t.Context(), "gate", 10)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	require.Equal(t, [2]int{8, 12}, [2]int{runs[0].Runs, runs[0].Read})
	require.Equal(t, began, runs[0].FirstStartedAt)
	require.Equal(t, f.clock.Now(), runs[0].FinishedAt)
	f.run, err = f.BeginRun(t.Context(), "gate", f.clock.Now())
	require.NoError(t, err)
	f.land(t, "1", row("1", "F1"))
	_, err = f.FinishRun(t.Context(), f.run, 0, nil)
	require.NoError(t, err)
	note(1, 0)
	runs, err = f.Runs(t.Context(), "gate", 10)
	require.NoError(t, err)
	require.Len(t, runs, 3, "a run that landed rows is a row of its own")
}
