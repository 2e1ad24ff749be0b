package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/bridge"
	"parkbridge/internal/ledger"
	"parkbridge/internal/testdb"
	"parkbridge/mapping"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
)

// watchedTables are the tables of a booth's series, with its clock.
type watchedTables struct {
	*sources.Tables
	b *booth
}

func (w watchedTables) List(ctx context.Context) (sources.Listing, error) {
	w.b.lists++
	l, err := w.Tables.List(ctx)
	l.Now = l.Now.Add(w.b.ahead)
	return l, err
}

func (w watchedTables) Open(ctx context.Context, table string) (bridge.Reader, error) {
	r, err := w.Tables.Open(ctx, table)
	if err != nil {
		return nil, err
	}
	return watched{bridge.Table(r), w.b}, nil
}

func (b *booth) series(cfg sources.Config, program *mapping.Program) *bridge.Series {
	b.t.Helper()
	pattern, err := sources.ParseSeries(cfg.Table, cfg.Wrap)
	require.NoError(b.t, err)
	return &bridge.Series{Pattern: pattern, Open: func(ctx context.Context) (bridge.Tables, error) {
		t, err := sources.OpenTables(ctx, sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver()), cfg, program.Needs())
		if err != nil {
			return nil, err
		}
		return watchedTables{t, b}, nil
	}}
}

// monthly readies a booth that reads out_{yyyyMM}, at a moment by the lot's clock.
func monthly(t *testing.T, lot *testdb.Lot, now string, change ...func(*booth)) *booth {
	t.Helper()
	return setUp(t, lot, append([]func(*booth){func(b *booth) {
		b.cfg.Table, b.flow = "out_{yyyyMM}", `"EX" + period + "-" + string(id)`
		b.at(now)
	}}, change...)...)
}

// at moves the clocks on to a moment by the lot's clock.
func (b *booth) at(wall string) {
	b.t.Helper()
	t, err := time.ParseInLocation(time.DateTime, wall, b.cfg.Location)
	require.NoError(b.t, err)
	b.ahead = time.Until(t)
}

// make creates tables, as the vendor does.
func (b *booth) make(tables ...string) {
	b.t.Helper()
	for _, table := range tables {
		b.lot.Exec(b.t, "CREATE TABLE "+table+" (id "+b.lot.Type("INTEGER PRIMARY KEY", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")+
			", serial VARCHAR(40), plate VARCHAR(20), op "+b.lot.Type("TEXT", "timestamp", "DATETIME(6)")+")")
		b.lot.Exec(b.t, "CREATE INDEX "+table+"_op ON "+table+" (op, id)")
		b.lot.Grant(b.t, table)
	}
}

// empty takes all rows of a table, and lets its numbers begin again.
func (b *booth) empty(table string) {
	b.t.Helper()
	b.lot.Exec(b.t, b.lot.Type("DELETE FROM "+table, "TRUNCATE "+table+" RESTART IDENTITY", "TRUNCATE TABLE "+table))
}

// put adds a release to a table and gives its serial.
func (b *booth) put(table, op string) string {
	b.t.Helper()
	b.serial++
	serial := fmt.Sprintf("%s-%d", table, b.serial)
	b.lot.Exec(b.t, "INSERT INTO "+table+" (serial, plate, op) VALUES ('"+serial+"', '粤B12345', '"+op+"')")
	b.puts = append(b.puts, serial)
	return serial
}

// arrived holds the gate to having every release that was put, each once, and
// nothing else; and the ledger to having none that is invalid.
func (b *booth) arrived() {
	b.t.Helper()
	times := map[string]int{}
	for _, r := range b.gate.Records() {
		times[r["parking_serial"]]++
	}
	want := map[string]int{}
	for _, serial := range b.puts {
		want[serial] = 1
	}
	require.Equal(b.t, want, times)
	require.Equal(b.t, len(want), b.gate.Stats().Calls, "nothing is sent twice")
	invalid, err := b.ledger.Records(b.t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(b.t, err)
	require.Empty(b.t, invalid)
}

// arriveOr is arrived or, where numbers begin again in the middle of a month,
// kept as invalid because the flow_no is taken, and never less.
func (b *booth) arriveOr(twice bool) {
	b.t.Helper()
	if !twice {
		b.arrived()
		return
	}
	invalid, err := b.ledger.Records(b.t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(b.t, err)
	kept := map[string]int{}
	for _, r := range b.gate.Records() {
		kept[r["parking_serial"]]++
	}
	for _, r := range invalid {
		require.Equal(b.t, "flow_no", r.Problems[0].Field)
		kept[r.Columns["serial"].Text]++
	}
	want := map[string]int{}
	for _, serial := range b.puts {
		want[serial] = 1
	}
	require.Equal(b.t, want, kept)
}

// marks gives what is stored of the tables, by name; of one that was emptied, the
// latest.
func (b *booth) marks() map[string]ledger.TableMark {
	b.t.Helper()
	tables, err := b.ledger.Tables(b.t.Context(), "north")
	require.NoError(b.t, err)
	out := map[string]ledger.TableMark{}
	for _, t := range tables {
		name := strings.ToLower(t.Table) // as PostgreSQL makes it
		if t.Generation >= out[name].Generation {
			out[name] = t
		}
	}
	return out
}

// settle lets polls go by until floors have followed.
func (b *booth) settle() {
	b.t.Helper()
	for i := 0; i < 4 || i < 20 && !b.settled(); i++ { // a busy MySQL does not show its transactions each time
		b.pass(90 * time.Second)
		b.sync()
	}
	b.pass(90 * time.Second)
	b.sync()
}

func (b *booth) settled() bool {
	for _, m := range b.marks() {
		state, err := bridge.StateOf(m.Mark)
		require.NoError(b.t, err)
		if state.Seen.Class == "server" && !state.Settled() {
			return false
		}
	}
	return true
}

func TestSeries(t *testing.T) {
	t.Parallel()
	all, side := testdb.Engines, []string{"postgres", "mysql"}
	for _, way := range []struct {
		name    string
		engines []string
		test    func(*testing.T, *testdb.Lot)
	}{
		{"a month ends", all, monthEnds},
		{"a month ends, by time", all, monthEndsByTime},
		{"late commit in last month's table", side, lateCommitLastMonth},
		{"three months away", all, threeMonthsAway},
		{"start latest", all, seriesLatest},
		{"start latest, no table yet", all, seriesLatestNone},
		{"start with a day", all, seriesFromDay},
		{"start with a time", all, seriesFromTime},
		{"start with a number", all, seriesFromNumber},
		{"years", all, seriesOfYears},
		{"no table at all", all, seriesNone},
		{"tables put away", all, tablesPutAway},
		{"a table of other columns", all, otherColumns},
		{"a table restored", all, tableRestored},
		{"reset", all, seriesReset},
		{"reconcile", all, seriesReconcile},
		{"few questions", all, fewQuestions},
		{"killed at any moment", []string{"sqlite"}, seriesKilled},
		{"a clock that is ahead", all, clockAhead},
	} {
		for _, engine := range way.engines {
			t.Run(way.name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				way.test(t, testdb.New(t, engine))
			})
		}
	}
}

func monthEnds(t *testing.T, lot *testdb.Lot) { monthEndsBy(t, lot, func(*booth) {}) }

func monthEndsByTime(t *testing.T, lot *testdb.Lot) { monthEndsBy(t, lot, byTime) }

func monthEndsBy(t *testing.T, lot *testdb.Lot, cursor func(*booth)) {
	b := monthly(t, lot, "2027-11-30 23:58:00", cursor)
	b.make("out_202710", "out_202711")
	b.put("out_202710", "2027-10-31 23:59:59")
	b.put("out_202711", "2027-11-01 00:00:01")
	b.put("out_202711", "2027-11-30 23:57:00")
	b.sync()
	b.arrived()
	b.at("2027-12-01 00:00:20")
	b.put("out_202711", "2027-11-30 23:59:59")
	b.sync() // the new table is not there yet, and that is no error
	b.arrived()
	b.pass(time.Second)
	b.put("out_202711", "2027-12-01 00:00:01") // just late: not waited for a minute
	b.sync()
	b.arrived()
	b.make("out_202712")
	b.put("out_202712", "2027-12-01 00:01:00")
	b.pass(70 * time.Second)
	b.sync()
	b.arrived()
	b.reopen()
	b.at("2027-12-03 20:00:00")
	b.put("out_202711", "2027-11-30 12:00:00") // uploaded days later
	b.put("out_202712", "2027-12-03 19:59:00")
	b.sync()
	b.settle()
	b.arrived()
	require.Zero(t, b.marks()["out_202711"].ClosedAt, "rows may still be late")
	b.at("2027-12-06 20:00:00")
	b.put("out_202712", "2027-12-06 19:59:00")
	b.sync()
	b.settle()
	b.arrived()
	marks := b.marks()
	require.NotZero(t, marks["out_202711"].ClosedAt, "nothing more is waited for")
	require.Zero(t, marks["out_202712"].ClosedAt)
	require.Equal(t, []string{"202710", "202711", "202712"}, []string{marks["out_202710"].Period, marks["out_202711"].Period, marks["out_202712"].Period})
	for _, r := range b.gate.Records() {
		require.Contains(t, r["parking_serial"], r["flow_no"][2:8], "the period is that of the row's table")
	}
}

func lateCommitLastMonth(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-11-30 23:59:00")
	b.make("out_202711", "out_202712")
	late := b.txn()
	late("INSERT INTO out_202711 (serial, plate, op) VALUES ('late', '粤B12345', '2027-11-30 23:58:00')")
	b.put("out_202711", "2027-11-30 23:58:30")
	b.sync()
	b.at("2027-12-01 00:00:30")
	b.put("out_202712", "2027-12-01 00:00:10")
	b.sync()
	b.pass(3 * time.Second)
	b.sync()
	b.reopen()
	b.at("2027-12-08 09:00:00") // longer than any late row is waited for by the clock
	b.put("out_202712", "2027-12-08 08:00:00")
	for range 5 {
		b.sync()
		b.pass(90 * time.Second)
	}
	require.Zero(t, b.marks()["out_202711"].ClosedAt, "a transaction can still insert into it")
	require.False(t, b.taken("late"))
	late("COMMIT")
	b.pass(90 * time.Second)
	b.sync()
	b.puts = append(b.puts, "late")
	b.arrived()
	b.settle()
	require.NotZero(t, b.marks()["out_202711"].ClosedAt)
}

func threeMonthsAway(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-09-20 12:00:00", func(b *booth) { b.cfg.PageSize = 3 })
	b.make("out_202709")
	b.put("out_202709", "2027-09-20 11:00:00")
	b.sync()
	for _, month := range []string{"09", "10", "11", "12"} {
		table := "out_2027" + month
		if month != "09" {
			b.make(table)
		}
		for i := range 10 {
			b.put(table, fmt.Sprintf("2027-%s-22 12:00:%02d", month, i))
		}
	}
	b.at("2027-12-23 08:00:00")
	b.reopen()
	b.sync()
	b.arrived()
	records, err := b.ledger.Records(t.Context(), ledger.Filter{Oldest: true})
	require.NoError(t, err)
	for i := 1; i < len(records); i++ {
		require.LessOrEqual(t, records[i-1].Table, records[i].Table, "in order of the months")
	}
	b.settle()
	b.arrived()
	for table, m := range b.marks() {
		require.Equal(t, table != "out_202712", !m.ClosedAt.IsZero(), table)
	}
}

func seriesLatest(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-11-20 12:00:00", func(b *booth) { b.cfg.Start = "latest" })
	b.make("out_202710", "out_202711")
	b.put("out_202710", "2027-10-20 12:00:00")
	b.put("out_202711", "2027-11-20 11:00:00")
	b.sync()
	b.puts = nil // history is not asked for
	b.arrived()
	b.reopen()
	b.put("out_202711", "2027-11-20 11:59:00")
	b.sync()
	b.arrived()
	b.put("out_202710", "2027-10-20 12:00:00")
	b.puts = b.puts[:1]
	b.at("2027-12-01 12:00:00")
	b.make("out_202712")
	b.put("out_202712", "2027-12-01 11:00:00")
	b.sync()
	b.settle()
	b.arrived()
}

// What comes to the table of the month when it is made is not history.
func seriesLatestNone(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-01 00:01:00", func(b *booth) { b.cfg.Start = "latest" })
	b.make("out_202711")
	b.put("out_202711", "2027-11-20 11:00:00")
	b.sync()
	b.puts = nil
	b.make("out_202712")
	b.put("out_202712", "2027-12-01 00:02:00")
	b.reopen()
	b.pass(2 * time.Minute)
	b.sync()
	b.arrived()
}

func seriesFromDay(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00", func(b *booth) { b.cfg.Start = "2027-11-15" })
	b.make("out_202710", "out_202711", "out_202712")
	b.put("out_202710", "2027-10-20 12:00:00")
	b.puts = nil
	b.put("out_202711", "2027-11-02 12:00:00") // numbers say no day: the month's table is read whole
	b.put("out_202712", "2027-12-02 12:00:00")
	b.sync()
	b.settle()
	b.arrived()
}

func seriesFromTime(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00", byTime, func(b *booth) { b.cfg.Start = "2027-11-15 00:00:00" })
	b.make("out_202710", "out_202711", "out_202712")
	b.put("out_202710", "2027-10-20 12:00:00")
	b.put("out_202711", "2027-11-14 23:59:59")
	b.puts = nil
	b.put("out_202711", "2027-11-15 00:00:00")
	b.put("out_202712", "2027-12-02 12:00:00")
	b.sync()
	b.settle()
	b.arrived()
}

func seriesFromNumber(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00", func(b *booth) { b.cfg.Start = "17" })
	b.make("out_202712")
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, `start: "17" does not say with which table of out_{yyyyMM} to begin`)
}

func seriesOfYears(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-31 23:59:00", func(b *booth) { b.cfg.Table = "out{yyyy}" })
	b.make("out2026", "out2027")
	b.put("out2026", "2026-05-05 10:00:00")
	b.put("out2027", "2027-05-05 10:00:00")
	b.sync()
	b.at("2028-01-01 00:00:10")
	b.make("out2028")
	b.put("out2027", "2027-12-31 23:59:59")
	b.put("out2028", "2028-01-01 00:00:01")
	b.sync()
	b.settle()
	b.arrived()
	require.Equal(t, "2028", b.marks()["out2028"].Period)
}

func seriesNone(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00")
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, "no table fits out_{yyyyMM}")
	b.make("out_202801") // made ahead of its time: nothing to read, and no mistake
	b.sync()
}

func tablesPutAway(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00")
	b.make("out_202710", "out_202711", "out_202712")
	b.put("out_202710", "2027-10-02 12:00:00")
	b.put("out_202711", "2027-11-02 12:00:00")
	b.put("out_202712", "2027-12-02 12:00:00")
	b.sync()
	b.settle()
	lot.Exec(t, "DROP TABLE out_202710")
	b.pass(2 * time.Hour)
	b.sync()
	gone := b.marks()["out_202710"].GoneAt
	require.NotZero(t, gone)
	require.NotZero(t, b.marks()["out_202710"].ClosedAt, "it had been read to its end")
	b.pass(2 * time.Hour)
	b.sync()
	require.Equal(t, gone, b.marks()["out_202710"].GoneAt, "told once")
	b.arrived()

	// One that is still read goes while a run is going on.
	b.at("2028-01-01 00:00:10")
	b.sync()
	b.hook = func(where string) error {
		if where == "page" {
			b.hook = nil
			lot.Exec(t, "DROP TABLE out_202712")
		}
		return nil
	}
	b.pass(time.Second)
	b.sync()
	require.NotZero(t, b.marks()["out_202712"].GoneAt)
	require.Zero(t, b.marks()["out_202712"].ClosedAt)

	// And comes back.
	b.make("out_202710", "out_202801")
	lot.Exec(t, "INSERT INTO out_202710 (serial, plate, op) VALUES ('"+b.puts[0]+"', '粤B12345', '2027-10-02 12:00:00')")
	b.put("out_202710", "2027-10-02 13:00:00")
	b.put("out_202801", "2028-01-01 00:00:01")
	b.reopen()
	b.sync()
	require.Zero(t, b.marks()["out_202710"].GoneAt)
	b.arrived()
}

// A table that lacks a column is a mistake to be told, and keeps no other from
// being read.
func otherColumns(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00")
	b.make("out_202712")
	lot.Exec(t, "CREATE TABLE out_202711 (id INTEGER PRIMARY KEY, serial VARCHAR(20), op VARCHAR(20))")
	lot.Grant(t, "out_202711")
	serial := b.put("out_202712", "2027-12-20 11:00:00")
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, `table out_202711: mapping: "plate" is not a column of table out_202711`)
	require.True(t, b.taken(serial))
}

// So is one whose numbers run backwards.
func tableRestored(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-01 12:00:00")
	b.make("out_202711", "out_202712")
	for i := range 30 {
		b.put("out_202711", fmt.Sprintf("2027-11-02 12:00:%02d", i))
	}
	b.put("out_202712", "2027-12-01 11:00:00")
	b.sync()
	lot.Exec(t, "DELETE FROM out_202711 WHERE id > 5")
	b.put("out_202712", "2027-12-01 12:00:00")
	b.reopen()
	b.pass(2 * time.Minute)
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, "table out_202711: the high-water mark is")
	require.ErrorContains(t, report.Sources[0].Err, "parkbridge reset --source north --to earliest|latest|VALUE")
	b.arrived()
}

func seriesReset(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00")
	b.make("out_202711", "out_202712")
	b.put("out_202711", "2027-11-02 12:00:00")
	b.put("out_202712", "2027-12-02 12:00:00")
	b.sync()
	reset := func(to string) {
		_, err := b.bridge.Reset(t.Context(), b.bridge.Sources[0], to)
		require.NoError(t, err)
	}
	reset("earliest")
	require.Zero(t, b.marks()["out_202712"].Mark.Mark)
	b.settle()
	b.arrived()
	b.put("out_202711", "2027-11-02 13:00:00")
	b.put("out_202712", "2027-12-02 13:00:00")
	b.puts = b.puts[:2]
	reset("latest")
	b.settle()
	b.arrived()
	b.put("out_202712", "2027-12-02 14:00:00")
	b.settle()
	b.arrived()
	reset("2027-12-01")
	b.puts = append(b.puts, "out_202712-4")
	b.settle()
	b.arrived()
	// The same source under another name of its tables.
	b.cfg.Table = "ou{yyyyMM}"
	b.reopen()
	b.make("ou202712")
	report := b.bridge.Sync(t.Context(), 0)
	require.ErrorContains(t, report.Sources[0].Err, `table: was "out_{yyyyMM}" when the mark`)
	reset("latest")
	b.sync()
}

func seriesReconcile(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-05 12:00:00")
	b.make("out_202710", "out_202711", "out_202712")
	b.put("out_202710", "2027-10-02 12:00:00")
	b.put("out_202711", "2027-11-30 12:00:00")
	b.put("out_202712", "2027-12-05 11:00:00")
	b.sync()
	b.settle()
	require.NotZero(t, b.marks()["out_202711"].ClosedAt)
	b.put("out_202711", "2027-11-30 13:00:00") // later than it was waited for
	b.pass(2 * time.Hour)
	b.sync()
	require.Len(t, b.gate.Records(), 3)
	dry, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, true)
	require.NoError(t, err)
	require.Equal(t, ledger.Day{Source: 3, Ledger: 2, Delivered: 2, Missing: 1}, dry.Total())
	result, err := b.bridge.Reconcile(t.Context(), b.bridge.Sources[0], bridge.Window{}, false)
	require.NoError(t, err)
	require.Equal(t, []ledger.Day{
		{Day: "2027-11-30", Source: 2, Ledger: 1, Delivered: 1, Missing: 1, Healed: 1}, {Day: "2027-12-05", Source: 1, Ledger: 1, Delivered: 1},
	}, result.Days)
	b.sync()
	b.arrived()
	last, err := b.ledger.LastReconcile(t.Context(), "north")
	require.NoError(t, err)
	require.Equal(t, result.Days, last.Days)
}

// A quiet poll asks the tables of months that are over nothing, and does not look
// for tables.
func fewQuestions(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-01 12:00:00")
	b.make("out_202711", "out_202712")
	b.put("out_202711", "2027-11-02 12:00:00")
	b.put("out_202712", "2027-12-01 11:00:00")
	b.sync()
	b.settle()
	pages, lists := 0, b.lists
	b.hook = func(where string) error {
		if where == "page" {
			pages++
		}
		return nil
	}
	b.pass(time.Second)
	b.sync()
	one := pages
	for range 10 {
		b.pass(time.Second)
		b.sync()
	}
	require.LessOrEqual(t, one, 3)
	require.LessOrEqual(t, pages, 11*one)
	require.Equal(t, lists, b.lists)
	b.pass(time.Minute)
	pages = 0
	b.sync()
	require.Greater(t, pages, one, "once a minute last month's is read too")
}

// Wherever it is killed: what is stored says enough.
func seriesKilled(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-10-20 12:00:00", func(b *booth) { b.cfg.PageSize = 2 })
	b.make("out_202710", "out_202711", "out_202712")
	for _, month := range []string{"10", "11", "12"} {
		for i := range 7 {
			b.put("out_2027"+month, fmt.Sprintf("2027-%s-01 12:00:%02d", month, i))
		}
	}
	b.at("2027-12-02 12:00:00")
	kills := 0
	for {
		steps := 0
		b.hook = func(string) error {
			if steps++; steps == 1+kills {
				return errors.New("power cut")
			}
			return nil
		}
		report := b.bridge.Sync(t.Context(), 0)
		b.hook = nil
		b.reopen()
		if report.Sources[0].Err == nil {
			break
		}
		require.ErrorContains(t, report.Sources[0].Err, "power cut")
		kills++
	}
	require.Greater(t, kills, 7)
	b.arrived()
}

// A clock that is ahead by weeks ends the reading of no table that is written to.
func clockAhead(t *testing.T, lot *testdb.Lot) {
	b := monthly(t, lot, "2027-12-20 12:00:00") // it is November
	b.make("out_202711")
	b.put("out_202711", "2027-11-02 12:00:00")
	b.sync()
	b.settle()
	for range 3 {
		b.put("out_202711", "2027-11-02 13:00:00")
		b.settle()
		b.arrived()
	}
}

// The tables of a year, emptied when the vendor has a mind to.
func TestTablesThatWrap(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]func(*booth){"by number": func(*booth) {}, "by time": byTime} {
		for _, when := range []string{"days before", "just before", "at midnight", "just after", "days after", "row by row", "from the top", "never"} {
			for _, engine := range testdb.Engines {
				if engine != "sqlite" && !slices.Contains([]string{"by number days before", "by number at midnight", "by number days after", "by number row by row", "by time days after"}, name+" "+when) {
					continue // what differs by engine shows in these
				}
				t.Run(strings.Join([]string{when, name, engine}, "/"), func(t *testing.T) {
					t.Parallel()
					yearWraps(t, testdb.New(t, engine), when, cursor)
				})
			}
		}
	}
}

func yearly(t *testing.T, lot *testdb.Lot, now string, change ...func(*booth)) *booth {
	t.Helper()
	b := monthly(t, lot, now, append([]func(*booth){func(b *booth) { b.cfg.Table, b.cfg.Wrap, b.cfg.PageSize = "OutList{MM}", "year", 2 }}, change...)...)
	return b
}

const january, december = "OutList01", "OutList12"

// yearWraps takes two Decembers to their Januaries.
func yearWraps(t *testing.T, lot *testdb.Lot, when string, cursor func(*booth)) {
	b := yearly(t, lot, "2027-01-05 12:00:00", cursor)
	b.make(january, december)
	if when == "never" && lot.Driver == "sqlite" {
		when = "row by row" // it gives the numbers of deleted last rows again
	}
	for i := range 6 {
		b.put(december, fmt.Sprintf("2026-12-20 12:00:%02d", i))
		b.put(january, fmt.Sprintf("2027-01-04 12:00:%02d", i))
	}
	b.sync()
	b.settle()
	b.arrived()
	years := map[string]int{"sqlite": 1}[lot.Driver] // the servers are slower
	for year := 2027; year < 2028+years; year++ {
		b.at(fmt.Sprintf("%d-12-20 10:00:00", year))
		b.empty(december)
		op := func(day, clock string) string {
			y := year
			if strings.HasPrefix(day, "01") {
				y++
			}
			return fmt.Sprintf("%d-%s %s", y, day, clock)
		}
		for i := range 3 {
			b.put(december, op("12-20", fmt.Sprintf("09:00:%02d", i)))
		}
		b.sync()
		b.settle()
		b.arrived()
		if when == "days before" {
			b.empty(january)
		}
		b.reopen()
		b.at(op("12-31", "23:58:00"))
		b.put(december, op("12-31", "23:57:00"))
		b.sync()
		b.at(op("12-31", "23:59:50"))
		if when == "just before" {
			b.empty(january)
			b.put(january, op("01-01", "00:00:00")) // by a clock that is ahead
		}
		b.put(december, op("12-31", "23:59:50"))
		b.sync()
		b.at(op("01-01", "00:00:05"))
		b.put(december, op("12-31", "23:59:59")) // late
		if when == "at midnight" {
			b.empty(january)
		}
		b.put(january, op("01-01", "00:00:03"))
		b.sync()
		b.arrived()
		b.pass(time.Second)
		if when == "just after" {
			b.empty(january)
		}
		b.put(january, op("01-01", "00:00:05"))
		b.put(january, op("01-01", "00:00:06"))
		b.sync()
		b.arrived()
		if when == "row by row" || when == "from the top" {
			order := map[string]string{"row by row": "MIN", "from the top": "MAX"}[when]
			for range 6 {
				b.lot.Exec(t, "DELETE FROM "+january+" WHERE id IN (SELECT id FROM (SELECT "+order+"(id) AS id FROM "+january+" WHERE op < '"+op("12-01", "00:00:00")+"') AS x)")
				b.put(january, op("01-01", b.wall(0)[11:]))
				b.pass(2 * time.Second)
				b.sync()
				b.arrived()
			}
		}
		b.reopen()
		b.at(op("01-03", "12:00:00"))
		b.put(december, op("12-31", "12:00:00")) // later still
		b.put(january, op("01-03", "11:00:00"))
		b.sync()
		b.settle()
		b.arrived()
		if when == "days after" {
			// With the rows that had come meanwhile.
			b.empty(january)
		}
		for i := range 9 {
			b.put(january, op("01-03", fmt.Sprintf("13:00:%02d", i)))
			b.pass(90 * time.Second)
			b.sync()
			b.arriveOr(strings.HasSuffix(when, "after"))
		}
		b.settle()
		b.arriveOr(strings.HasSuffix(when, "after"))
		if strings.HasSuffix(when, "after") {
			break // some are invalid from here on
		}
	}
	for _, r := range b.gate.Records() {
		at, err := time.Parse(time.RFC3339, r["operate_time"])
		require.NoError(t, err)
		require.Contains(t, r["flow_no"], "EX"+at.In(b.cfg.Location).Format("200601")+"-", "the period is the one that the row is of")
	}
}

// What the tables hold from before is not asked for, whenever it goes.
func TestWrapLatest(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]func(*booth){"by number": func(*booth) {}, "by time": byTime} {
		for _, engine := range testdb.Engines {
			if name == "by time" && engine != "sqlite" {
				continue // by time it is the same on all
			}
			for _, begin := range []string{"2027-06-10 12:00:00", "2028-01-01 08:00:00"} { // the latter with the month's table not emptied yet
				t.Run(strings.Join([]string{name, begin, engine}, "/"), func(t *testing.T) {
					t.Parallel()
					b := yearly(t, testdb.New(t, engine), begin, cursor, func(b *booth) { b.cfg.Start = "latest" })
					b.make(january, december, "OutList06")
					for i := range 6 {
						b.put(january, fmt.Sprintf("2027-01-04 12:00:%02d", i))
						b.put(december, fmt.Sprintf("2026-12-20 12:00:%02d", i))
						b.put("OutList06", fmt.Sprintf("2027-06-04 12:00:%02d", i))
					}
					b.sync()
					b.puts = nil
					b.arrived()
					b.at("2028-01-01 09:00:00")
					b.reopen()
					b.put(january, "2028-01-01 08:59:00") // above last year's
					b.sync()
					b.settle()
					b.arrived()
					b.empty(january)
					for i := range 4 {
						b.put(january, fmt.Sprintf("2028-01-01 09:00:%02d", i))
						b.pass(90 * time.Second)
						b.sync()
						b.arrived()
					}
				})
			}
		}
	}
}

// A first run meets a table that still holds last year's rows: they are last
// year's, and their numbers are free for this year's.
func TestWrapFirstRunLate(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := yearly(t, testdb.New(t, engine), "2028-01-02 12:00:00", func(b *booth) { b.cfg.PageSize = 2 })
			b.make(january, december)
			for i := range 6 {
				b.put(january, fmt.Sprintf("2027-01-04 12:00:%02d", i))
				b.put(december, fmt.Sprintf("2027-12-04 12:00:%02d", i))
			}
			for kills := 1; ; kills++ {
				steps := 0
				b.hook = func(string) error {
					if steps++; steps == kills {
						return errors.New("power cut")
					}
					return nil
				}
				report := b.bridge.Sync(t.Context(), 0)
				b.hook = nil
				b.reopen()
				if report.Sources[0].Err == nil {
					break
				}
				require.ErrorContains(t, report.Sources[0].Err, "power cut")
			}
			b.settle()
			b.arrived()
			b.empty(january)
			b.pass(time.Second)
			for i := range 8 {
				b.put(january, fmt.Sprintf("2028-01-02 12:30:%02d", i))
			}
			b.pass(90 * time.Second)
			b.sync()
			b.settle()
			b.arrived()
			flows := map[string]bool{}
			for _, r := range b.gate.Records() {
				flows[r["flow_no"]] = true
			}
			require.True(t, flows["EX202701-1"] && flows["EX202801-1"] && flows["EX202801-8"] && flows["EX202712-6"], flows)
		})
	}
}

// Away over the new year, while a table was emptied and filled with more rows than
// it had: the row at the old mark is another now.
func TestWrapAway(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]func(*booth){"by number": func(*booth) {}, "by time": byTime} {
		for _, engine := range testdb.Engines {
			t.Run(name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				b := yearly(t, testdb.New(t, engine), "2027-01-20 12:00:00", cursor)
				b.make(january, "OutList02", december)
				for i := range 5 {
					b.put(january, fmt.Sprintf("2027-01-04 12:00:%02d", i))
				}
				b.sync()
				b.at("2027-12-15 12:00:00")
				b.put(december, "2027-12-04 12:00:00")
				b.sync()
				b.put(december, "2027-12-31 12:00:00")
				b.empty(january)
				for i := range 9 {
					b.put(january, fmt.Sprintf("2028-01-04 12:00:%02d", i))
					b.put("OutList02", fmt.Sprintf("2028-02-04 12:00:%02d", i))
				}
				b.at("2028-02-20 12:00:00")
				b.sync()
				b.settle()
				b.arrived()
				require.Equal(t, "202801", b.marks()[strings.ToLower(january)].Period)
			})
		}
	}
}

// A table of one old row is emptied and has more rows than before, between any two
// steps of a poll.
func TestWrapBetweenAnyTwoSteps(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]func(*booth){"by number": func(*booth) {}, "by time": byTime} {
		for _, engine := range testdb.Engines {
			if name == "by time" && engine != "sqlite" {
				continue // by time it is the same on all
			}
			t.Run(name+"/"+engine, func(t *testing.T) {
				t.Parallel()
				b := yearly(t, testdb.New(t, engine), "2027-01-20 12:00:00", cursor)
				b.make(january, december)
				b.put(january, "2027-01-04 12:00:00")
				b.sync()
				for at := 1; at < 9; at++ {
					year := 2027 + at
					b.at(fmt.Sprintf("%d-12-31 23:59:00", year-1))
					b.put(december, fmt.Sprintf("%d-12-31 12:00:00", year-1))
					b.sync()
					b.at(fmt.Sprintf("%d-01-01 00:00:05", year))
					step := 0
					b.hook = func(where string) error {
						if where != "page" {
							return nil
						}
						if step++; step == at {
							b.empty(january)
							b.put(january, fmt.Sprintf("%d-01-01 00:00:01", year))
							b.put(january, fmt.Sprintf("%d-01-01 00:00:02", year))
						}
						return nil
					}
					for range 3 {
						b.sync()
						b.pass(time.Second)
					}
					b.hook = nil
					b.settle()
					b.arrived()
				}
			})
		}
	}
}

// A record keeps the period of its filling, whatever the table is for by then.
func TestWrapKeepsThePeriod(t *testing.T) {
	t.Parallel()
	b := yearly(t, testdb.New(t, "sqlite"), "2027-12-31 12:00:00")
	b.make(january, december)
	b.put(january, "2027-01-04 12:00:00")
	b.lot.Exec(t, "INSERT INTO "+january+" (serial, plate, op) VALUES ('bad', NULL, '2027-01-04 12:00:01')")
	b.sync()
	b.at("2028-01-01 12:00:00")
	b.empty(january)
	b.put(january, "2028-01-01 11:00:00")
	b.put(january, "2028-01-01 11:00:01")
	b.sync()
	invalid, err := b.ledger.Records(t.Context(), ledger.Filter{States: []string{ledger.Invalid}})
	require.NoError(t, err)
	require.Len(t, invalid, 1)
	require.Equal(t, "bad", invalid[0].Columns["serial"].Text)
	// Its row is gone, and another has its key: nothing of that one gets into it.
	b.flow = `"EX" + period + "-" + string(id) + plate`
	b.reopen()
	state, problems, err := b.bridge.Remap(t.Context(), b.bridge.Sources[0], invalid[0])
	require.NoError(t, err)
	require.Equal(t, ledger.Invalid, state)
	require.Len(t, problems, 2, problems)
	delete(invalid[0].Columns, "plate")
	_, problems, err = b.bridge.Remap(t.Context(), b.bridge.Sources[0], invalid[0])
	require.NoError(t, err)
	require.Contains(t, problems[0].Problem, "no longer in the source")
}

// A table that is emptied in the middle of its month stops nothing. (In SQLite,
// where numbers of deleted rows are given again anyway, a person has to look.)
func TestWrapEmptiedAgain(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"postgres", "mysql"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := yearly(t, testdb.New(t, engine), "2028-01-20 12:00:00", func(b *booth) { b.flow = `"EX" + serial` })
			b.make(january)
			for i := range 30 {
				b.put(january, fmt.Sprintf("2028-01-04 12:00:%02d", i))
			}
			b.sync()
			b.settle()
			b.empty(january)
			b.put(january, "2028-01-20 12:00:00")
			b.settle()
			b.arrived()
		})
	}
}
