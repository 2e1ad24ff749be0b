package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sources"
)

// Remap maps a record again from its stored columns and takes it back to
// pending, or leaves it invalid with the problems it now has. Columns that a
// mended mapping needs and the ledger does not hold are read from the source.
func (b *Bridge) Remap(ctx context.Context, s *Source, r ledger.Record) (state string, problems []ledger.Problem, err error) {
	m, err := b.remap(ctx, s, r)
	if err != nil {
		return "", nil, fmt.Errorf("retrying record %d: %w", r.ID, err)
	}
	return b.Ledger.Reopen(ctx, r, m)
}

func (b *Bridge) remap(ctx context.Context, s *Source, r ledger.Record) (m ledger.Content, err error) {
	// The row was read before now: a time that was too far ahead then may have come.
	origin := mapping.Origin{Revision: r.Revision, Table: r.Table, Now: b.Now()}
	if origin.Period, err = b.periodOfRecord(ctx, s, r); err != nil {
		return m, err
	}
	mapper := s.mapper(s.Program.Columns())
	values, missing := s.Program.Stored(r.Columns)
	if missing == nil {
		_, m = mapper.mapped(values, origin)
		return m, nil
	}
	page, ok, err := s.again(ctx, r)
	if err != nil {
		return m, fmt.Errorf("the mapping now needs %s, which was not stored, so the row must be read again: %w", strings.Join(missing, ", "), err)
	}
	if !ok {
		return ledger.Content{Mapped: ledger.Mapped{Problems: []ledger.Problem{{
			Field:   strings.Join(missing, ", "),
			Problem: "the mapping now needs this column, which was not stored when the row was read, and the row is no longer in the source",
		}}}}, nil
	}
	_, m = mapper.content(page.Rows[0].Values, origin)
	return m, nil
}

// again reads a record's row again; ok is false where it is gone, with its table or
// because the table was emptied and another row has its key.
func (s *Source) again(ctx context.Context, r ledger.Record) (page sources.Page, ok bool, err error) {
	if s.Series == nil {
		reader, _, err := s.connected(ctx)
		if err != nil {
			return page, false, err
		}
		return reader.ByKey(ctx, r.Key)
	}
	tables, _, err := s.Series.connected(ctx)
	if err != nil {
		return page, false, err
	}
	listing, err := tables.List(ctx)
	there := s.Series.Pattern.Members(listing.Names, listing.Now, s.zone())
	if err != nil || !slices.ContainsFunc(there, func(m sources.Member) bool { return m.Table == r.Table }) {
		return page, false, err
	}
	reader, err := tables.Open(ctx, r.Table)
	if err != nil {
		return page, false, err
	}
	defer reader.Close() // it ends no connection
	if page, ok, err = reader.ByKey(ctx, r.Key); err != nil || !ok {
		return page, false, err
	}
	for i, name := range page.Columns {
		if was, stored := r.Columns[name]; stored && was != page.Rows[0].Values[i] && s.Series.Pattern.Wraps {
			return page, false, nil
		}
	}
	return page, true, nil
}
