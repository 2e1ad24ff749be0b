package check

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"parkbridge/sink"
	"parkbridge/sources"
)

// newestLooked is how many of the newest tables of a series are looked at for one
// that has rows.
const newestLooked = 3

// series looks which tables of a series there are, and lets every other check look
// at the newest one with rows. It reports whether there is one.
func (s *source) series(ctx context.Context) bool {
	tables, err := sources.OpenTables(ctx, s.c.Drivers, s.Config, s.Program.Needs())
	if err != nil {
		s.connectionFailed(err)
		return false
	}
	defer func() {
		if err := tables.Close(); err != nil {
			s.warn("connection", do("nothing need be done"), "closing it: %v", err)
		}
	}()
	listing, err := tables.List(ctx)
	if mistake, ok := errors.AsType[*sources.ConfigError](err); ok {
		s.fail("tables", Config, do("correct the name in the configuration, or have the account see the tables"), "%v", s.place(mistake))
		return false
	}
	if err != nil {
		s.fail("tables", Database, do("see what the message says: the server answers, but its tables cannot be listed"), "%v", err)
		return false
	}
	all := s.Series.Members(listing.Names, s.c.Now(), s.Location)
	current := s.Series.At(s.c.Now(), s.Location)
	members := sources.Upto(all, current)
	switch {
	case len(members) == 0:
		s.warn("tables", do("nothing need be done if the first of them is to be filled yet"), "those that fit %s are all for a time to come: %s", s.Table, tableNames(all))
		members = all
	case members[len(members)-1].Period != current:
		s.warn("tables", do("if it is there, let a DBA grant the account SELECT on all tables of the database, so that it sees each new one; if not, the parking system makes it with the first car, and it is waited for"),
			"%s; that of now, %s, is not", thereAre(members), s.Series.Table(current))
	default:
		s.ok("tables", "%s", thereAre(members))
	}
	chosen := s.withRows(ctx, tables, members)
	s.compareColumns(ctx, tables, members, chosen)
	s.checkNumbers(ctx, tables, chosen)
	one := *s.Source
	one.Table, one.Wrap, one.Start = chosen.Table, "", sources.StartEarliest
	s.Source, s.period = &one, chosen.Period
	return true
}

func thereAre(members []sources.Member) string {
	if len(members) == 1 {
		return "there is " + members[0].Table
	}
	return fmt.Sprintf("there are %d, from %s to %s", len(members), members[0].Table, members[len(members)-1].Table)
}

func tableNames(members []sources.Member) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.Table
	}
	return strings.Join(list, ", ")
}

// withRows is the newest of the tables that has rows; where none of the newest few
// has, the newest.
func (s *source) withRows(ctx context.Context, tables *sources.Tables, members []sources.Member) sources.Member {
	newest := members[len(members)-1]
	for i := len(members) - 1; i >= 0 && i >= len(members)-newestLooked; i-- {
		r, err := tables.Open(ctx, members[i].Table)
		if err != nil {
			return newest
		}
		last, err := inSession(ctx, r, func(sess *sources.Session) (sources.Position, error) { return sess.Highest(ctx, sources.Range{}) })
		if err != nil {
			return newest
		}
		if !last.IsZero() {
			return members[i]
		}
	}
	return newest
}

// compareColumns tells of tables whose columns are others than those of the one
// that is looked at.
func (s *source) compareColumns(ctx context.Context, tables *sources.Tables, members []sources.Member, chosen sources.Member) {
	like, err := tables.Open(ctx, chosen.Table)
	if err != nil {
		return // which is told of that table
	}
	for _, m := range members {
		if m == chosen {
			continue
		}
		r, err := tables.Open(ctx, m.Table)
		if err != nil {
			s.warn("tables", do("its rows cannot be read as they are; where they are to be sent, let a view give it the column, else begin later (start)"), "table %s is another: %v", m.Table, err)
			continue
		}
		for i, c := range append(r.Order(), r.Mapped()...) {
			if was := append(like.Order(), like.Mapped()...)[i]; c.Type != was.Type {
				s.warn("tables", do("see that the rules fit both; rows that do not map are kept as invalid"),
					"table %s has %s as %s, %s has it as %s", m.Table, c.Name, strings.ToLower(c.Type), chosen.Table, strings.ToLower(was.Type))
			}
		}
	}
}

// checkNumbers holds flow_no against numbers that begin again in each table.
func (s *source) checkNumbers(ctx context.Context, tables *sources.Tables, chosen sources.Member) {
	if s.Program.UsesOrigin(sink.FieldFlowNo) {
		return
	}
	r, err := tables.Open(ctx, chosen.Table)
	if err != nil {
		return // which is told of that table
	}
	for _, c := range r.KeyColumns() {
		if !c.Integer {
			return
		}
	}
	s.warn("flow_no", do(`let the rule tell the tables apart, such as { expr: '"EX" + period + "-" + string(id)' }; the platform ignores the second of two, and parkbridge keeps it as invalid`),
		"its rule has neither period nor table, and numbers begin again in each table")
}
