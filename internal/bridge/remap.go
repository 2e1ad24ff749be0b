package bridge

import (
	"context"
	"fmt"
	"strings"

	"parkbridge/internal/ledger"
	"parkbridge/mapping"
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
	mapper := s.mapper(s.Program.Columns())
	values, missing := s.Program.Stored(r.Columns)
	if missing == nil {
		_, m = mapper.mapped(values, origin)
		return m, nil
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
	_, m = mapper.content(page.Rows[0].Values, origin)
	return m, nil
}
