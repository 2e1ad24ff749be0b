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

// The marks of tables of a series come and go with their migration; everything
// else stays.
func TestMigrationOfSeries(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	for range 2 {
		l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, true)
		require.NoError(t, err)
		lease, err := l.Acquire(t.Context(), "gate")
		require.NoError(t, err)
		tables, err := l.Tables(t.Context(), "gate")
		require.NoError(t, err)
		require.Empty(t, tables)
		mark, err := l.Mark(t.Context(), "gate")
		require.NoError(t, err)
		_, err = l.BeginSeries(t.Context(), ledger.Landing{Lease: lease, From: mark, To: ledger.State{Journal: "{}"}}, nil)
		require.NoError(t, err)
		added, err := l.AddTable(t.Context(), lease, ledger.TableMark{Table: "out_202611", Period: "202611"})
		require.NoError(t, err)
		require.Equal(t, 1, added.Generation)
		require.NoError(t, lease.Release(t.Context()))
		require.NoError(t, l.Close())
		db, err := sql.Open("sqlite", sources.FileURI(path))
		require.NoError(t, err)
		files, err := migrations.For("sqlite")
		require.NoError(t, err)
		p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
		require.NoError(t, err)
		_, err = p.DownTo(t.Context(), 4)
		require.NoError(t, err)
		var began int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM high_water_mark WHERE source = 'gate' AND journal = '{}'").Scan(&began))
		require.Equal(t, 1, began)
		require.NoError(t, db.Close())
	}
}

// A table's own mark moves as a source's does: from what was read, under the lease,
// and each filling's by itself.
func TestTableMarks(t *testing.T) {
	t.Parallel()
	f := open(t)
	add := func(in ledger.TableMark) ledger.TableMark {
		out, err := f.AddTable(t.Context(), f.lease, in)
		require.NoError(t, err)
		return out
	}
	list := func() []ledger.TableMark {
		tables, err := f.Tables(t.Context(), "gate")
		require.NoError(t, err)
		return tables
	}
	first := add(ledger.TableMark{Table: "OutList01", Period: "202601"})
	require.False(t, list()[0].Started)
	land := func(from ledger.Mark, generation int, mark string, rows ...ledger.New) (ledger.Landed, error) {
		for i := range rows {
			rows[i].Generation = generation
		}
		return f.Land(t.Context(), ledger.Landing{Lease: f.lease, From: from, To: ledger.State{Mark: sources.Position{Values: []string{mark}}}, Table: "OutList01", Rows: rows})
	}
	landed, err := land(list()[0].Mark, 1, "7", row("7", "F1"))
	require.NoError(t, err)
	_, err = land(list()[0].Mark, 1, "8")
	require.NoError(t, err)
	_, err = land(landed.Mark, 1, "9")
	require.ErrorIs(t, err, ledger.ErrMarkMoved)
	second := add(ledger.TableMark{Table: "OutList01", Period: "202701", OldRows: sources.Position{Values: []string{"8"}}})
	require.Equal(t, []int{1, 2}, []int{first.Generation, second.Generation})
	_, err = land(second.Mark, 2, "1", row("1", "F2"), row("7", "F3"))
	require.NoError(t, err, "a key of another generation is another record's")
	tables := list()
	require.Equal(t, []string{"8", "1"}, []string{tables[0].Mark.Mark.String(), tables[1].Mark.Mark.String()})
	require.Equal(t, "8", tables[1].OldRows.String())
	known, err := f.Known(t.Context(), "gate", "OutList01", []string{"7"})
	require.NoError(t, err)
	require.Equal(t, 2, known["7"].Generation)
	keys, err := f.NewestKeys(t.Context(), "gate", "OutList01", 2, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"7", "1"}, keys)
	tables[1].ClosedAt = f.clock.Now()
	require.NoError(t, f.NoteTable(t.Context(), f.lease, tables[1]))
	require.Equal(t, f.clock.Now(), list()[1].ClosedAt.UTC())
	// A reset clears the marks, and keeps which filling is of which year.
	mark, err := f.Mark(t.Context(), "gate")
	require.NoError(t, err)
	_, err = f.BeginSeries(t.Context(), ledger.Landing{Lease: f.lease, From: mark}, nil)
	require.NoError(t, err)
	for i, period := range []string{"202601", "202701"} {
		require.Equal(t, period, list()[i].Period)
		require.False(t, list()[i].Started)
		require.Zero(t, list()[i].ClosedAt)
	}
	require.NoError(t, f.lease.Release(t.Context()))
	other, err := f.Acquire(t.Context(), "gate")
	require.NoError(t, err)
	_, err = land(list()[1].Mark, 2, "2")
	require.ErrorIs(t, err, ledger.ErrLeaseLost)
	_, err = f.AddTable(t.Context(), f.lease, first)
	require.ErrorIs(t, err, ledger.ErrLeaseLost)
	require.NoError(t, other.Release(t.Context()))
}
