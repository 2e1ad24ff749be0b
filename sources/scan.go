package sources

import (
	"context"
	"database/sql"
	"errors"
)

// Querier runs a SELECT: a pool of package sql, or one connection of it.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ScanRows fetches all rows of a SELECT of some fields, for engines whose driver
// hands each cell over as what it is. value makes a value of a cell. An error of
// the driver comes as it is.
func ScanRows(ctx context.Context, q Querier, query string, args []any, fields []Field, value func(cell any, f Field) (Value, error)) (out [][]Value, err error) {
	cells, dest := make([]any, len(fields)), make([]any, len(fields))
	for i := range cells {
		dest[i] = &cells[i]
	}
	err = EachRow(ctx, q, query, args, dest, func() error {
		row := make([]Value, len(cells))
		for i, c := range cells {
			if row[i], err = value(c, fields[i]); err != nil {
				return err
			}
		}
		out = append(out, row)
		return nil
	})
	return out, err
}

// EachRow runs f on each row of a SELECT, scanned into dest.
func EachRow(ctx context.Context, q Querier, query string, args, dest []any, f func() error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
