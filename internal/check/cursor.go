package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"parkbridge/internal/capture"
	"parkbridge/sources"
)

// fewRows is a table small enough that a server may rather scan it than use an
// index, and that to scan it costs nobody anything.
const fewRows = 10000

// rows is about how many there are; -1 where nobody knows.
func (s *source) rows() int64 {
	switch {
	case s.sampled && !s.sample.Full:
		return int64(len(s.sample.Rows)) // that was all, but for those without a cursor
	case s.listed && s.table.Rows >= 0:
		return s.table.Rows
	case s.planned && !s.plan.Seek:
		return s.plan.Rows // it would read all
	}
	return -1
}

// indexed reports that an index serves the reading order, by the plan or by the
// catalogue.
func (s *source) indexed() bool { return s.planned && s.plan.Seek || s.served() }

// served reports that the catalogue has an index that begins with the cursor.
func (s *source) served() bool {
	return slices.ContainsFunc(s.table.Indexes, func(index sources.Index) bool {
		return len(index.Columns) > 0 && strings.EqualFold(index.Columns[0], s.reader.Order()[0].Name)
	})
}

// checkIndex looks whether a poll is a seek, by the engine's own plan of it. Of a
// small table a server may rather read all; there the catalogue counts.
func (s *source) checkIndex() {
	cursor := s.reader.Order()[0].Name
	about := ""
	if n := s.rows(); n >= 0 {
		about = fmt.Sprintf(" (about %d rows)", n)
	}
	small := s.rows() >= 0 && s.rows() <= fewRows
	touches := ""
	if s.planned && s.plan.Rows >= 0 {
		touches = fmt.Sprintf("; it would touch about %d rows", s.plan.Rows)
	}
	switch {
	case s.planned && s.plan.Seek && s.plan.Sorts && s.rows() > fewRows:
		s.warn("index", s.indexDo(), "a poll is an index seek, but what it finds must be sorted%s: %s%s; while history is read, that is all that is left of it, for each page", about, s.plan.Steps, touches)
	case s.planned && s.plan.Seek:
		s.ok("index", "a poll is one index seek: %s%s", s.plan.Steps, touches)
	case s.served() && !s.planned:
		s.ok("index", "an index begins with %s%s", cursor, s.unplanned)
	case s.served() && small:
		s.ok("index", "an index begins with %s; of a table as small as this%s the server rather reads all: %s", cursor, about, s.plan.Steps)
	case s.served():
		s.warn("index", do("have the server count the table anew (ANALYZE); a where that no index helps with can be the reason too"),
			"an index begins with %s, but the server does not use it for a poll: %s%s", cursor, s.plan.Steps, touches)
	case !s.planned && s.behind():
		s.warn("index", do("see that an index begins with "+cursor+", or each poll reads and sorts the whole table"), "whether an index serves %s cannot be told", cursor)
	case s.planned && s.behind():
		s.warn("index", s.indexDo(), "a poll is no index seek, so each reads and sorts all there is: %s%s", s.plan.Steps, touches)
	case s.planned:
		s.warn("index", s.indexDo(), "no index begins with %s, so each poll reads and sorts the whole table%s: %s", cursor, about, s.plan.Steps)
	default:
		s.warn("index", s.indexDo(), "no index begins with %s, so each poll reads and sorts the whole table%s", cursor, about)
	}
}

// behind reports that the table that is read in the end is another one: that of a
// query or a view, or one of which the catalogue says nothing.
func (s *source) behind() bool { return s.reader.From() == "" || !s.listed || s.table.View }

// indexDo is how to come by an index, and what it costs to have none.
func (s *source) indexDo() []string {
	if s.behind() {
		return do("have a DBA make an index over (" + columnList(s.reader.Order()) + ") on the table behind it, or poll seldom (schedule)")
	}
	lines := do("A DBA may run this; the parking system need not know:", s.reader.IndexSQL(s.about.Index, false, s.reader.Order()))
	if s.indexed() {
		return lines
	}
	return append(lines, "Without it, poll a large table seldom (schedule), for each poll costs the server a full read.")
}

// checkCursor says by which rule late rows are found, and why.
func (s *source) checkCursor(ctx context.Context) {
	class, name := s.reader.Class(), s.reader.Order()[0].Name
	head := fmt.Sprintf("%s is of class %s (%s)", name, class, class.Why)
	switch {
	case !class.Server:
		s.ok("cursor", "%s; rule lookback: the last %s below the mark are read again once a minute, and reconcile compares %s", head, sources.ShortDuration(s.Capture.Lookback), sources.ShortDuration(s.Capture.Reconcile.Window))
		s.checkForms()
		return
	case class.Serial:
		s.ok("cursor", "%s; rule snapshot: there is one writer at a time", head)
		return
	}
	evidence, err := s.evidence(ctx)
	switch {
	case err != nil:
		s.fail("cursor", Database, do("see what the message says"), "%v", err)
	case evidence.None != "":
		s.warn("cursor", s.evidenceDo(evidence.None), "%s; rule settle: a row may take %s from its insert to its commit, because %s", head, sources.ShortDuration(s.Capture.Settle), evidence.None)
	default:
		s.ok("cursor", "%s; rule transactions: what an open one may still insert is read again until it has ended", head)
	}
}

func (s *source) evidence(ctx context.Context) (e sources.Evidence, err error) {
	sess, err := s.reader.Session(ctx, true)
	if err != nil {
		return e, err
	}
	e, err = sess.Evidence(ctx)
	return e, errors.Join(err, sess.Close())
}

// evidenceDo says how a server can be made to show its transactions.
func (s *source) evidenceDo(why string) []string {
	for _, right := range []string{"VIEW SERVER PERFORMANCE STATE", "VIEW SERVER STATE"} { // SQL Server's
		if strings.Contains(why, right) && s.about.Account != "" {
			return do("Have a DBA let the account see open transactions (it then sees the other sessions' statements, too):", "USE master;", "GRANT "+right+" TO "+s.about.Account+";")
		}
	}
	if strings.Contains(why, "PROCESS") && s.about.Account != "" {
		return do("Have a DBA let the account see open transactions (it then sees the other sessions' statements, too):", "GRANT PROCESS ON *.* TO "+s.about.Account+";")
	}
	return do("read from the server that the parking system writes to, if that may be; else set settle to the longest that a transaction of it can take")
}

// checkForms looks whether a cursor that holds times holds nothing else: what is
// none sorts where no time is looked for.
func (s *source) checkForms() {
	if !s.reader.Class().Times {
		return
	}
	timed, odd := 0, 0
	for _, row := range s.sample.Rows {
		if _, ok := s.reader.TimeOf(row.Position); ok {
			timed++
		} else {
			odd++
		}
	}
	if timed > 0 && odd > 0 {
		s.warn("cursor", do("give where a condition that leaves them out, or name a cursor that every row has in one form; cursor_format names a form of its own"),
			"%s is no time in %s, and a time in the others", s.reader.Order()[0].Name, ofNewest(odd, timed+odd))
	}
}

// checkNulls counts rows without a cursor, where there can be any.
func (s *source) checkNulls(ctx context.Context) {
	cursor := s.reader.Order()[:1]
	if !s.reader.CursorMayBeNull() {
		return
	}
	name := cursor[0].Name
	if s.nullableOf(cursor) == "" {
		s.ok("null cursor", "%s is never NULL, by the catalogue", name)
		return
	}
	if !s.indexed() && s.rows() > fewRows {
		s.warn("null cursor", do("see to the index first"), "%s may be NULL; without an index such rows were not counted", name)
		return
	}
	n, err := inSession(ctx, s.reader, func(sess *sources.Session) (int, error) { return sess.CountNulls(ctx, capture.NullsMost) })
	more := ""
	if n >= capture.NullsMost {
		more = " or more"
	}
	switch {
	case err != nil:
		s.fail("null cursor", Database, do("see what the message says"), "%v", err)
	case n == 0:
		s.ok("null cursor", "%s may be NULL, and is in no row", name)
	case s.Capture.NullCursor == capture.NullInclude:
		s.ok("null cursor", "%s is NULL in %d%s rows, which are sent too (null_cursor: include)", name, n, more)
	default:
		s.warn("null cursor", do("if such rows are releases, say null_cursor: include, or name a cursor that every row has from the beginning"),
			"%s is NULL in %d%s rows, which wait until they have one", name, n, more)
	}
}

// checkTypes refuses a cursor whose values are of several types.
func (s *source) checkTypes(ctx context.Context) {
	if s.reader.OneType() {
		return
	}
	name := s.reader.Order()[0].Name
	if !s.indexed() && s.rows() > fewRows { // to count means to sort the whole table many times
		s.tellTypes(s.reader.CheckTypes(ctx), "the first and the last value of %s are stored as one type; without an index they were not counted", name)
		return
	}
	types, err := s.reader.StoredTypes(ctx)
	if types.String() == "" {
		s.tellTypes(err, "there is no value of %s yet", name)
		return
	}
	s.tellTypes(err, "the values of %s sort with one another: %s", name, types.String())
}

// tellTypes tells what looking at stored types came to.
func (s *source) tellTypes(err error, ok string, args ...any) {
	if mistake, mixed := errors.AsType[*sources.ConfigError](err); mixed {
		s.fail("stored types", Config, do("name another cursor, or have the odd values mended at their source; sync refuses to read by this one"), "%v", s.place(mistake))
		return
	}
	if err != nil {
		s.fail("stored types", Database, do("see what the message says"), "%v", err)
		return
	}
	s.ok("stored types", ok, args...)
}
