package capture

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"parkbridge/sources"
)

// State is how far the reading of a source has come. A landing stores it in the
// transaction that stores the rows.
type State struct {
	// Mark is the position of the last row read; zero: before the first one.
	Mark sources.Position
	// Floor is the position below which no row can still turn up, as far as the
	// source's rule can tell. A poll of class server starts reading just above it.
	Floor sources.Position
	// Started is false for a source that was never read.
	Started bool
	Journal Journal
	// Seen is what the last poll saw of the source beside its rows.
	Seen Seen
}

// Journal is what moving the floor needs to know of earlier polls.
type Journal struct {
	// Start is where the very first run began: what lies before it was not asked
	// for, and no look back, no reconcile reads it.
	Start sources.Position `json:"start"`
	// Entries are marks above the floor, lowest first.
	Entries []Entry `json:"entries,omitempty"`
	// Ahead is the highest row at a moment when the mark had not come there yet.
	Ahead *Entry `json:"ahead,omitempty"`
	// Parked is a range below the floor in which rows can still turn up.
	Parked *Parked `json:"parked,omitempty"`
	// Restored is set while the table is known to be an older copy, or another one,
	// under the mark: nothing is read until a person has said where to go on.
	Restored *RestoredError `json:"restored,omitempty"`
	// HeldAfter is the last held record that was read again, where there are more
	// than one run reads; 0: the next run begins at the first.
	HeldAfter int64 `json:"held_after,omitempty"`
	// Hours holds one mark an hour, oldest first, so that a length of time means
	// something for cursors that are no times.
	Hours []Hour `json:"hours,omitempty"`
}

// Entry is a mark, and the transactions that were open when every value up to
// it had been taken for certain.
type Entry struct {
	Mark sources.Position `json:"mark"`
	// Read is when the read that saw the mark had ended.
	Read Moment `json:"read"`
	// Listed tells that List was taken, late enough after Read.
	Listed   bool          `json:"listed,omitempty"`
	ListedAt time.Time     `json:"listed_at,omitzero"`
	List     []sources.Txn `json:"list,omitempty"`
	// Parked tells that the range up to the mark is parked: the floor may pass.
	Parked bool `json:"parked,omitempty"`
}

// Parked is a range that is read again once an hour, and a last time when its
// entry's transactions have ended.
type Parked struct {
	From  sources.Position `json:"from"`
	Entry Entry            `json:"entry"` // its mark is the range's end
	Since time.Time        `json:"since"`
	Last  Moment           `json:"last"` // when it was last read
}

// Hour is where the mark stood at a time.
type Hour struct {
	At   time.Time        `json:"at"` // by the database's clock
	Mark sources.Position `json:"mark"`
}

// Seen is what a poll saw of a source, for people.
type Seen struct {
	Class string `json:"class"` // server or client
	Why   string `json:"why"`   // what makes the class
	Rule  string `json:"rule"`  // see the Rule constants
	// RuleWhy says why there is no better rule; "" where there is none.
	RuleWhy string `json:"rule_why,omitempty"`
	// HeldBy says what holds the floor below the mark; "" where nothing does.
	HeldBy    string    `json:"held_by,omitempty"`
	HeldSince time.Time `json:"held_since,omitzero"`
	Future    int       `json:"future,omitempty"` // rows dated later than the database's now
	Nulls     int       `json:"nulls,omitempty"`  // rows without a cursor, NullsMost at the most
}

// Rules by which the floor of a source moves.
const (
	// RuleSnapshot: there is one writer at a time, so the floor is the mark.
	RuleSnapshot = "snapshot"
	// RuleTransactions: the floor follows when the transactions have ended that
	// could still insert below it.
	RuleTransactions = "transactions"
	// RuleSettle: there is no evidence of transactions; the floor follows after a
	// time.
	RuleSettle = "settle"
	// RuleLookback: values are not the server's to assign; a stretch below the
	// mark is read again and again.
	RuleLookback = "lookback"
)

const (
	// margin is how long after the end of a read a list of transactions counts
	// for its mark: one that took a value just before shows by then.
	margin = 2 * time.Second
	// Entries beyond these say nothing new; they are thinned out.
	listedMost, unlistedMost = 8, 2
)

// each visits every entry there is.
func (j *Journal) each(visit func(*Entry)) {
	for i := range j.Entries {
		visit(&j.Entries[i])
	}
	if j.Ahead != nil {
		visit(j.Ahead)
	}
	if j.Parked != nil {
		visit(&j.Parked.Entry)
	}
}

// list gives every entry its list for which this look is late enough.
func (j *Journal) list(e sources.Evidence, at Moment) {
	j.each(func(entry *Entry) {
		if at.DB.Before(entry.Read.DB) {
			entry.Read = at // the database's clock was put back; its age counts from here
		}
		if e.None == "" && e.Stale == "" && !entry.Listed && at.since(entry.Read) >= margin {
			entry.Listed, entry.ListedAt = true, e.Now
			entry.List = slices.Concat(e.Open, e.InDoubt)
		}
	})
}

// distrust begins the age of every entry anew, where evidence has just been
// lost: what its list still held may be open.
func (j *Journal) distrust(at Moment) {
	j.each(func(entry *Entry) {
		entry.Read, entry.Listed, entry.List = at, false, nil
	})
}

// look is one look at the source's transactions, and when it was.
type look struct {
	sources.Evidence
	at     Moment
	settle time.Duration
}

// ended reports that no row up to the entry's mark can turn up any more which a
// read begun now would not see.
func (l *look) ended(e *Entry) bool {
	switch {
	case l.None != "":
		return l.at.since(e.Read) >= l.settle
	case l.Clear != nil:
		return l.Clear(e.Mark)
	case !e.Listed || l.Stale != "":
		return false
	}
	_, held := l.holder(e)
	return !held
}

// holder gives the transaction that holds an entry.
func (l *look) holder(e *Entry) (sources.Txn, bool) {
	if len(l.InDoubt) > 0 {
		return l.InDoubt[0], true
	}
	if l.Clear != nil {
		if len(l.Open) == 0 || l.Clear(e.Mark) {
			return sources.Txn{}, false
		}
		return l.Open[0], true
	}
	var holders []sources.Txn
	for _, t := range l.Open {
		if slices.ContainsFunc(e.List, func(was sources.Txn) bool { return was.ID == t.ID }) {
			holders = append(holders, t)
		}
	}
	if len(holders) == 0 {
		return sources.Txn{}, false
	}
	// Of several the same one each time, or every poll would have news of it.
	return slices.MinFunc(holders, func(a, b sources.Txn) int { return strings.Compare(a.ID, b.ID) }), true
}

// add notes a mark above the floor.
func (j *Journal) add(mark sources.Position, at Moment) {
	var listed, unlisted []Entry
	for _, e := range j.Entries {
		if e.Listed {
			listed = append(listed, e)
		} else {
			unlisted = append(unlisted, e)
		}
	}
	// The oldest gets its list first, and the newest reaches highest.
	if len(unlisted) >= unlistedMost {
		unlisted = unlisted[:unlistedMost-1]
	}
	if len(listed) > listedMost {
		listed = slices.Delete(listed, 1, len(listed)-listedMost+1)
	}
	j.Entries = append(append(listed, unlisted...), Entry{Mark: mark, Read: at})
}

// covers reports that a mark is journalled, so that the floor can reach it.
func (j *Journal) covers(mark sources.Position) bool {
	n := len(j.Entries)
	return n > 0 && same(j.Entries[n-1].Mark, mark)
}

// hour notes the mark where an hour has passed since the last note, and forgets
// what lies further back than any window.
func (j *Journal) hour(mark sources.Position, now time.Time, window time.Duration) {
	// Notes of a clock that has been put back since say nothing.
	j.Hours = slices.DeleteFunc(j.Hours, func(h Hour) bool { return h.At.After(now) })
	n := len(j.Hours)
	if n > 0 && (same(j.Hours[n-1].Mark, mark) || now.Sub(j.Hours[n-1].At) < time.Hour) {
		return
	}
	j.Hours = append(j.Hours, Hour{now, mark})
	for len(j.Hours) > 1 && now.Sub(j.Hours[1].At) > window+time.Hour {
		j.Hours = j.Hours[1:]
	}
}

// markAt is where the mark stood at a time: the last note before it, else the
// beginning of the journal.
func (j *Journal) markAt(t time.Time) sources.Position {
	at := j.Start
	for _, h := range j.Hours {
		if h.At.After(t) {
			break
		}
		at = h.Mark
	}
	return at
}

// same reports that two positions are the same one. Which of two others comes
// first, only the database could say.
func same(a, b sources.Position) bool { return a.Encode() == b.Encode() }

// Encode gives the journal's form in the ledger; [DecodeJournal] reads it.
func (j Journal) Encode() string {
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // a struct of strings and times always encodes
	}
	return string(b)
}

// DecodeJournal reads what [Journal.Encode] wrote. An empty text is the journal
// of a source that was read before journals were kept: from mark on.
func DecodeJournal(s string, mark sources.Position) (Journal, error) {
	var j Journal
	if s == "" {
		j.Start = mark
		return j, nil
	}
	if err := json.Unmarshal([]byte(s), &j); err != nil {
		return j, fmt.Errorf("reading the stored journal: %w", err)
	}
	return j, nil
}

// Settled reports that nothing is waited for: no row can turn up any more at or
// below the mark.
func (s *State) Settled() bool {
	j := &s.Journal
	return same(s.Mark, s.Floor) && len(j.Entries) == 0 && j.Ahead == nil && j.Parked == nil && j.Restored == nil
}
