package soak_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/bridge"
	"parkbridge/internal/ledger"
)

// found is a row that the table holds at the end.
type found struct {
	id                int64
	serial, plate, op string
	noTime            bool
}

func (tab *table) rows(t *testing.T) []found {
	t.Helper()
	rows, err := tab.w.lot.DB.QueryContext(t.Context(), "SELECT id, serial, COALESCE(plate, ''), op IS NULL, COALESCE(CAST(op AS CHAR(30)), '') FROM "+tab.name+" WHERE st = 3")
	require.NoError(t, err)
	defer rows.Close()
	var out []found
	for rows.Next() {
		var f found
		require.NoError(t, rows.Scan(&f.id, &f.serial, &f.plate, &f.noTime, &f.op))
		out = append(out, f)
	}
	require.NoError(t, rows.Err())
	return out
}

// state is where reading stands, for a message.
func (tab *table) state(t *testing.T) string {
	t.Helper()
	mark, err := tab.w.ledger.Mark(t.Context(), tab.name)
	require.NoError(t, err)
	return fmt.Sprintf("mark %s, floor %s, %s, %s", mark.Mark, mark.Floor, mark.Journal, mark.Seen)
}

// check holds what the gate and the ledger have against the tables.
func (w *world) check(t *testing.T) {
	t.Helper()
	for _, tab := range w.tables {
		tab.check(t, false)
	}
	for _, s := range w.bridge.Sources {
		result, err := w.bridge.Reconcile(t.Context(), s, bridge.Window{From: time.Now().Add(-100 * time.Hour)}, false)
		require.NoError(t, err)
		missing := 0
		for _, d := range result.Days {
			missing += d.Missing
		}
		t.Logf("%s: reconcile found %d rows that polling could not see", s.Name, missing)
		if s.Name == "pass" {
			require.Zero(t, missing, "class server is polling's own")
		}
	}
	w.sync(t)
	total := 0
	for _, tab := range w.tables {
		tab.check(t, true)
		total += len(tab.rows(t))
	}
	stats := w.gate.Stats()
	t.Logf("%d rows in the tables, %d delivered in %d calls, %d of them repeats", total, stats.Taken, stats.Calls, stats.Repeats)
	w.nothingElseWasSent(t)
}

func (tab *table) check(t *testing.T, reconciled bool) {
	t.Helper()
	w := tab.w
	taken := map[string]string{} // flow_no by serial
	for _, r := range w.gate.Records() {
		_, twice := taken[r["parking_serial"]]
		require.False(t, twice, "serial %s was delivered under two numbers", r["parking_serial"])
		taken[r["parking_serial"]] = r["flow_no"]
	}
	records, err := w.ledger.Records(t.Context(), ledger.Filter{Source: tab.name})
	require.NoError(t, err)
	invalid := map[string]string{} // the first problem's field by serial
	for _, r := range records {
		if r.State == ledger.Invalid {
			invalid[r.Columns["serial"].Text] = r.Problems[0].Field
		} else {
			require.Equal(t, ledger.Delivered, r.State, "record %d of %s", r.ID, tab.name)
		}
	}
	lost := 0
	for _, row := range tab.rows(t) {
		e := tab.expect[row.serial]
		flow, delivered := taken[row.serial]
		field, isInvalid := invalid[row.serial]
		switch {
		case delivered:
			require.Equal(t, fmt.Sprintf("%s-%d", tab.name, row.id), flow)
		case isInvalid && e.invalid == "key" && field == "flow_no": // it was changed after that
		case isInvalid:
			require.Equal(t, e.invalid, field, "row %d of %s is invalid for another reason than it should be", row.id, tab.name)
		case row.noTime: // it has no place in the reading order yet
		case e.byReconcile && !reconciled:
		default:
			lost++
			t.Errorf("row %d of %s (serial %s, %s) is lost; the state is %s", row.id, tab.name, row.serial, row.op, tab.state(t))
			if lost > 20 {
				t.FailNow()
			}
		}
	}
}

// nothingElseWasSent: every record at the gate was committed once.
func (w *world) nothingElseWasSent(t *testing.T) {
	t.Helper()
	for _, r := range w.gate.Records() {
		var tab *table
		for _, x := range w.tables {
			if len(r["flow_no"]) > len(x.name) && r["flow_no"][:len(x.name)] == x.name {
				tab = x
			}
		}
		require.NotNil(t, tab, r["flow_no"])
		_, committed := tab.expect[r["parking_serial"]]
		require.True(t, committed, "serial %s was never committed", r["parking_serial"])
		if w.engine == "sqlite" {
			continue // a row may be gone: its rowid was given to another
		}
		var id int64
		err := w.lot.DB.QueryRowContext(t.Context(), "SELECT id FROM "+tab.name+" WHERE serial = '"+r["parking_serial"]+"'").Scan(&id)
		require.NotErrorIs(t, err, sql.ErrNoRows, "serial %s was rolled back", r["parking_serial"])
		require.NoError(t, err)
	}
}
