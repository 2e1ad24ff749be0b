package main

const (
	capturePkg = "./internal/capture"
	bridgePkg  = "./internal/bridge"
	ledgerPkg  = "./internal/ledger"
	sourcesPkg = "./sources"
	serverPkg  = "./sources/sqlserver"
	soakPkg    = "./internal/soak"
)

var guards = []guard{
	{
		"late-list", "internal/capture/journal.go", "margin = 2 * time.Second", "margin = 0 * time.Second",
		capturePkg, "TestListIsTakenLate",
	},
	{
		"late-list-by-load", "internal/capture/journal.go", "margin = 2 * time.Second", "margin = 0 * time.Second",
		soakPkg, "TestSoak/(postgres|mysql)",
	},
	{
		"ended-list", "internal/capture/journal.go", "_, held := l.holder(e)", "held := false",
		capturePkg, "TestLateCommit",
	},
	{
		"complete-read", "internal/capture/server.go", "sources.Range{After: st.Floor, UpTo: to}, floor: true}", "sources.Range{After: to, UpTo: to}, floor: true}",
		capturePkg, "TestFloorMovesWithACompleteRead",
	},
	{
		"floor-apart-from-mark", "internal/capture/server.go", "z := zone{Range: sources.Range{After: st.Mark}, mark: true}", "z := zone{Range: sources.Range{After: st.Mark}, mark: true, floor: true}",
		capturePkg, "TestLateCommit",
	},
	{
		"two-clocks", "internal/capture/clock.go", "return min(boot, m.DB.Sub(earlier.DB))", "return m.DB.Sub(earlier.DB)",
		capturePkg, "TestClockSteps",
	},
	{
		"in-doubt", "internal/capture/journal.go", "if len(l.InDoubt) > 0 {", "if false {",
		capturePkg, "TestPreparedTransactionsHold",
	},
	{
		"own-transaction-in-list", "sources/mysql/evidence.go", "case !found:", "case false:",
		capturePkg, "TestStaleEvidence",
	},
	{
		"sequence-locks", "sources/postgres/evidence.go", "(c.relkind = 'S' OR l.relation = $1::int8::oid)", "(l.relation = $1::int8::oid)",
		capturePkg, "TestValueTakenLongBeforeTheInsert",
	},
	{
		"settled", "internal/capture/journal.go", "return l.at.since(e.Read) >= l.settle", "return true",
		capturePkg, "TestSettle",
	},
	{
		"evidence-just-lost", "internal/capture/poll.go", `if e.None != "" && p.st.Seen.Rule == RuleTransactions {`, "if false {",
		bridgePkg, "TestKnownWays/evidence_lost",
	},
	{
		"locked-rows-hold", "internal/capture/poll.go", "z.floor = z.floor && !held", "z.floor = z.floor && true",
		capturePkg, "TestLockedRowsHoldTheFloor",
	},
	{
		"locked-rows-of-history", "internal/capture/poll.go", "return rows, !whole || !held, nil", "return rows, true, nil",
		capturePkg, "TestLockedRowsOfHistory",
	},
	{
		"locked-rows-are-not-gone", "internal/capture/lookup.go", "if errors.Is(err, sources.ErrLocked) {", "if false {",
		capturePkg, "TestLockedRowsAreNotGone",
	},
	{
		"lowest-value-in-use", "internal/capture/journal.go", "return l.Clear(e.Mark)", "return true",
		capturePkg, "TestClearMovesTheFloor",
	},
	{
		"below-the-lowest", "sources/sqlserver/evidence.go", "p.Values[0] < bound", "p.Values[0] <= bound",
		serverPkg, "TestLowestVersion",
	},
	{
		"parked-last-read", "internal/capture/server.go", "	if j.Parked.Last = p.look.at; last {", "	if j.Parked.Last = p.look.at; false {",
		capturePkg, "TestParking",
	},
	{
		"parked-hourly-read", "internal/capture/server.go", "const parkedEvery = time.Hour", "const parkedEvery = 1000 * time.Hour",
		capturePkg, "TestParking",
	},
	{
		"uncommitted-rows-hold", "internal/capture/server.go", "	return key == \"\", err", "	return true, err",
		capturePkg, "TestUncommittedRowsHold",
	},
	{
		"server-class", "sources/class.go", `case r.cfg.Where != "":`, "case false:",
		bridgePkg, "TestKnownWays/row_enters_the_set_late",
	},
	{
		"sequence-order", "sources/postgres/evidence.go", "case len(increment) != 1 || increment[0] != 1 || cache[0] != 1 || cycle:", "case len(increment) != 1:",
		sourcesPkg, "TestConformance/postgres/class",
	},
	{
		"never-past-now", "internal/capture/client.go", "sources.Range{After: st.Mark, UpTo: bound}, mark: true}", "sources.Range{After: st.Mark}, mark: true}",
		bridgePkg, "TestKnownWays/future_row",
	},
	{
		"future-rows-land", "internal/capture/client.go", "	if timed {", "	if timed && false {",
		bridgePkg, "TestKnownWays/future_row",
	},
	{
		"look-back", "internal/capture/client.go", "if from.IsZero() || from.Inclusive {", "if true {",
		bridgePkg, "TestKnownWays/(backdated|lane_clocks)",
	},
	{
		"overlap-hour", "internal/capture/client.go", "		by += overlap", "		by += 0 * overlap",
		bridgePkg, "TestKnownWays/time_zone",
	},
	{
		"not-before-start", "internal/capture/client.go", "sources.Range{After: low, Since: p.st.Journal.Start, UpTo: from, Newest: true}", "sources.Range{After: low, UpTo: from, Newest: true}",
		bridgePkg, "TestKnownWays/what_lies_before_start",
	},
	{
		"sample-is-a-time", "internal/capture/begin.go", "if _, timed := r.TimeOf(row.Position); timed {", "if true {",
		bridgePkg, "TestKnownWays/a_cursor_that_is_no_time",
	},
	{
		"rowids-given-again", "internal/capture/server.go", "if class.Reused && !st.Mark.IsZero() {", "if false {",
		bridgePkg, "TestKnownWays/key_re-used",
	},
	{
		"key-of-another-row", "internal/bridge/landing.go", "case (k.State != ledger.Invalid || k.Generation > l.generation) && otherRow(k, c.identity):", "case false:",
		bridgePkg, "TestKnownWays/key_re-used",
	},
	{
		"hash-of-the-same-columns", "internal/bridge/landing.go", "case !sources.SameColumns(k.Hash, c.hash) && (k.State == ledger.Delivered || k.State == ledger.Dismissed):", "case false:",
		bridgePkg, "TestKnownWays/a_new_mapping_rule",
	},
	{
		"change-seen-once", "internal/bridge/landing.go", "		if k.Seen == c.hash {", "		if c.row.Key == k.Seen {",
		bridgePkg, "TestChangedRowIsToldOnce",
	},
	{
		"mark-above-everything", "internal/capture/lookup.go", "	if restored {", "	if restored && false {",
		bridgePkg, "TestKnownWays/source_restored",
	},
	{
		"restored-stays-restored", "internal/capture/lookup.go", "	case st.Journal.Restored != nil:", "	case false:",
		bridgePkg, "TestKnownWays/source_restored,_unseen/mysql",
	},
	{
		"row-at-the-mark", "internal/capture/lookup.go", "	case len(page.Rows) > 0:", "	case false:",
		bridgePkg, "TestKnownWays/source_restored,_unseen",
	},
	{
		"another-server", "internal/bridge/bridge.go", `if mark.Started && mark.Server != "" && mark.Server != server {`, "if false {",
		bridgePkg, "TestKnownWays/source_repointed",
	},
	{
		"another-config", "internal/bridge/bridge.go", `	if key == "" {
		return nil`, `	if true {
		return nil`,
		bridgePkg, "TestConfigChangedUnderAnOldMark",
	},
	{
		"reset-keeps-the-floor", "internal/capture/begin.go", "if st.Floor = last; last.IsZero() {", "if st.Floor = to; last.IsZero() && false {",
		bridgePkg, "TestKnownWays/reset_forgets",
	},
	{
		"fencing", "internal/ledger/mark.go", "	if token != s.token {", "	if false {",
		bridgePkg, "TestKnownWays/lost_lease",
	},
	{
		"compare-and-swap", "internal/ledger/mark.go", "WHERE source = ? AND version = ?`,", "WHERE source = ? AND version <= ? + 1000`,",
		ledgerPkg, "TestMarkMovesFromWhatWasRead",
	},
	{
		"number-taken", "internal/ledger/landing.go", "if first, ok := taken[n]; ok && (m.id == 0 || m.id != first.id) {", "if first, ok := taken[n]; ok && false {",
		bridgePkg, "TestKnownWays/flow_no_collision",
	},
	{
		"answer-to-what-was-sent", "internal/ledger/settling.go", "		WHERE content_hash = excluded.content_hash`", "		WHERE true`",
		ledgerPkg, "TestAnswerToAReplacedContent",
	},
	{
		"noted-is-settled", "internal/ledger/mark.go", "lease.Recovered, err = lease.settleNoted(ctx, tx, last)", "_ = last",
		ledgerPkg, "TestNotedAcceptancesSurvive",
	},
	{
		"noted-in-this-ledger", "internal/ledger/mark.go", "token: 1 + rand.Int64N(math.MaxInt64), lock", "token: 1 + rand.Int64N(math.MaxInt64)%1, lock",
		ledgerPkg, "TestNotedInAnotherLedger",
	},
	{
		"noted-once", "internal/ledger/journal.go", "(delivered_at IS NULL OR delivered_at < ?)", "(true OR delivered_at < ?)",
		ledgerPkg, "TestNotedAcceptancesThatFitNoMore",
	},
	{
		"held-is-not-sent", "internal/bridge/handed.go", "len(n.Problems) == 0 && !n.Held {", "len(n.Problems) == 0 {",
		bridgePkg, "TestHeld/filled_in_later",
	},
	{
		"held-is-read-again", "internal/bridge/bridge.go", "if err := l.readHeld(ctx, r, &state); err != nil {", "if false {",
		bridgePkg, "TestHeld/filled_in_later",
	},
	{
		"held-in-turns", "internal/bridge/held.go", "state.Journal.HeldAfter = last", "state.Journal.HeldAfter = 0",
		bridgePkg, "TestHeld/many",
	},
	{
		"held-and-locked", "internal/bridge/held.go", "unread[keys[0]] = true", "_ = keys",
		bridgePkg, "TestHeldAndLocked",
	},
	{
		"released-at-once", "internal/bridge/held.go", "if len(ids) == 0 || d.limited()", "if true || d.limited()",
		bridgePkg, "TestHeld/the_mark_is_not_stalled",
	},
	{
		"ready-in-time", "internal/bridge/held.go", "return !now.Before(seen.Add(s.readyTimeout()))", "return false",
		bridgePkg, "TestHeld/not_in_time",
	},
	{
		"ready-once", "internal/bridge/landing.go", "return nil, nil, nil // a row that was ready once", "change.Key += \"\" // a row that was ready once",
		bridgePkg, "TestHeld/stays_as_it_was_ready",
	},
	{
		"not-half-edited", "internal/bridge/landing.go", "return nil, nil, nil // until it is ready", "row = nil // until it is ready",
		bridgePkg, "TestHeld/sent_again",
	},
	{
		"held-until-a-person", "internal/ledger/held.go", "AND content_hash = ? AND state = 'held'`,", "AND content_hash = ?`,",
		bridgePkg, "TestHeld/by_a_person",
	},
	{
		"late-in-last-months-table", "internal/bridge/series.go", "if began.Before(m.period.End(r.s.zone()).Add(late)) ||", "if began.Before(m.period.End(r.s.zone()).Add(0*late)) ||",
		bridgePkg, "TestSeries/a_month_ends",
	},
	{
		"open-transaction-in-last-months-table", "internal/bridge/series.go", "if reader.Class().Server && !state.Settled() {", "if false {",
		bridgePkg, "TestSeries/late_commit",
	},
	{
		"clock-ends-no-table", "internal/bridge/series.go", "|| !r.laterFilled(m.mark.Period) {", "{",
		bridgePkg, "TestSeries/a_clock_that_is_ahead",
	},
	{
		"series-begun", "internal/bridge/series_begin.go", "r.state.First = r.first.String()", `r.state.First = ""`,
		bridgePkg, "TestSeries/start_latest,_no_table_yet",
	},
	{
		"key-of-an-earlier-filling", "internal/bridge/landing.go", "if !found || l.refilled(c, k) {", "if !found {",
		bridgePkg, "TestTablesThatWrap",
	},
	{
		"fillings-told-apart", "internal/bridge/landing.go", "l.tally == nil && l.generation == 1", "l.tally == nil",
		bridgePkg, "TestTablesThatWrap",
	},
	{
		"old-rows-gone", "internal/bridge/series.go", "if !m.mark.OldRows.IsZero() {", "if false {",
		bridgePkg, "TestTablesThatWrap",
	},
	{
		"whose-year", "internal/bridge/refill.go", "is := r.ageOf(content.Day, at.Period); is != none {", "is := r.ageOf(content.Day, at.Period); is > old {",
		bridgePkg, "TestWrapLatest",
	},
	{
		"still-last-years", "internal/bridge/refill.go", "if row == old && !at.Period.YearBefore().Before(r.first) {", "if false {",
		bridgePkg, "TestWrapFirstRunLate",
	},
	{
		"not-asked-for", "internal/bridge/series_begin.go", "asked = !r.s.Series.Pattern.Wraps", "asked = true",
		bridgePkg, "TestWrapLatest",
	},
	{
		"emptied-again", "internal/bridge/series.go", "restored && r.s.Series.Pattern.Wraps {", "restored && false {",
		bridgePkg, "TestWrapEmptiedAgain",
	},
	{
		"one-type", "sources/types.go", "return kinds > 1 || apart", "return kinds > 9 && apart",
		sourcesPkg, "TestInspect/sqlite/stored_types",
	},
}
