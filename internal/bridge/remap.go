package bridge

import (
	"context"
	"fmt"
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
	fields, problems, missing := s.Program.Remap(r.Columns, origin)
	if missing == nil {
		return ledger.Content{Day: s.day(fields), Mapped: mapped(fields, problems)}, nil
	}
	reader, _, err := s.connected(ctx)
	if err != nil {
		return m, fmt.Errorf("the mapping now needs %s, which was not stored, so the row must be read again: %w", strings.Join(missing, ", "), err)
	}
	page, ok, err := reader.ByKey(ctx, r.Key)
	if err != nil {
		return m, err
	}
	if !ok {
		return ledger.Content{Mapped: ledger.Mapped{Problems: []ledger.Problem{{
			Field:   strings.Join(missing, ", "),
			Problem: "the mapping now needs this column, which was not stored when the row was read, and the row is no longer in the source",
		}}}}, nil
	}
	values := page.Rows[0].Values
	if m, err = s.content(page.Columns, values, origin); err != nil {
		return m, err
	}
	m.Hash, m.Identity = sources.Hash(page.Columns, values), identity(s.identifying(), page.Columns, values)
	return m, nil
}
