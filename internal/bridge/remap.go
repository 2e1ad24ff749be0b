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
// pending, or leaves it invalid with the problems it now has, or held where its
// row is not ready. Columns that a mended mapping needs and the ledger does not
// hold are read from the source, and so is a row that was not ready.
func (b *Bridge) Remap(ctx context.Context, s *Source, r ledger.Record) (state string, problems []ledger.Problem, err error) {
	return b.reopen(ctx, s, r, false)
}

// Force is [Bridge.Remap] for a row that is sent as it is, ready or not.
func (b *Bridge) Force(ctx context.Context, s *Source, r ledger.Record) (state string, problems []ledger.Problem, err error) {
	return b.reopen(ctx, s, r, true)
}

func (b *Bridge) reopen(ctx context.Context, s *Source, r ledger.Record, force bool) (state string, problems []ledger.Problem, err error) {
	m, err := b.remap(ctx, s, r, force)
	if err != nil {
		return "", nil, fmt.Errorf("retrying record %d: %w", r.ID, err)
	}
	return b.Ledger.Reopen(ctx, r, m)
}

func (b *Bridge) remap(ctx context.Context, s *Source, r ledger.Record, force bool) (m ledger.Content, err error) {
	// The row was read before now: a time that was too far ahead then may have come.
	origin := mapping.Origin{Revision: r.Revision, Table: r.Table, Now: b.Now()}
	if origin.Period, err = b.periodOfRecord(ctx, s, r); err != nil {
		return m, err
	}
	mapper := s.mapper(s.Program.Columns())
	values, missing := s.Program.Stored(r.Columns)
	unready := wasNotReady(r)
	if missing != nil || unready {
		page, there, err := b.readAgain(ctx, s, r, missing)
		switch {
		case err != nil:
			return m, err
		case there:
			values = page.Rows[0].Values
			_, m = mapper.content(values, origin)
		case len(r.Columns) == 0:
			return ledger.Content{Mapped: gone()}, nil
		case missing != nil:
			return ledger.Content{Mapped: ledger.Mapped{Problems: []ledger.Problem{{
				Field:   strings.Join(missing, ", "),
				Problem: "the mapping now needs this column, which was not stored when the row was read, and the row is no longer in the source",
			}}}}, nil
		case !force:
			return ledger.Content{Mapped: gone()}, nil // its columns stay, for force
		}
	}
	if m.Hash == "" { // from what is stored
		_, m = mapper.mapped(values, origin)
	}
	if force || !unready {
		return m, nil // what was ready once is so for good
	}
	_, waiting := s.awaited(values, origin, nil, m)
	if waiting.Held && s.expired(r.FirstSeenAt, b.Now()) {
		m.Mapped = s.tooLate()
		return m, nil
	}
	return waiting, nil
}

// wasNotReady reports that a record's row was not ready when it was read: nothing
// is stored of it, or what was so before.
func wasNotReady(r ledger.Record) bool {
	return len(r.Columns) == 0 || slices.ContainsFunc(r.Problems, func(p ledger.Problem) bool { return p.Field == mapping.FieldReady })
}

func (b *Bridge) readAgain(ctx context.Context, s *Source, r ledger.Record, missing []string) (page sources.Page, there bool, err error) {
	if s.Series != nil && wasNotReady(r) {
		tables, err := b.Ledger.Tables(ctx, s.Name)
		if err != nil || slices.ContainsFunc(tables, func(t ledger.TableMark) bool { return t.Table == r.Table && t.Generation > r.Generation }) {
			return page, false, err // the table was filled anew, and its keys are given to others
		}
	}
	page, there, err = s.again(ctx, r, !wasNotReady(r))
	if err != nil && len(r.Columns) > 0 && missing != nil {
		return page, false, fmt.Errorf("the mapping now needs %s, which was not stored, so the row must be read again: %w", strings.Join(missing, ", "), err)
	}
	if err != nil {
		return page, false, fmt.Errorf("the row was not ready, so it must be read again: %w", err)
	}
	return page, there, nil
}

// again reads a record's row again; ok is false where it is gone, with its table or
// because the table was emptied and another row has its key. unchanged says that
// what is stored of the row tells.
func (s *Source) again(ctx context.Context, r ledger.Record, unchanged bool) (page sources.Page, ok bool, err error) {
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
		if was, stored := r.Columns[name]; unchanged && stored && was != page.Rows[0].Values[i] && s.Series.Pattern.Wraps {
			return page, false, nil
		}
	}
	return page, true, nil
}
