package sources

import (
	"database/sql"
	"errors"
)

// ScanRows takes all rows of a result and closes it, for engines whose driver
// hands each cell over as what it is. value makes a value of a cell. An error of
// the driver comes as it is.
func ScanRows(rows *sql.Rows, fields []Field, value func(cell any, f Field) (Value, error)) (out [][]Value, err error) {
	cells, dest := make([]any, len(fields)), make([]any, len(fields))
	for i := range cells {
		dest[i] = &cells[i]
	}
	err = EachRow(rows, dest, func() error {
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

// EachRow runs f on each row of a result, scanned into dest, and closes it.
func EachRow(rows *sql.Rows, dest []any, f func() error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}
