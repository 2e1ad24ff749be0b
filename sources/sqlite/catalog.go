package sqlite

import (
	"context"
	"fmt"

	"parkbridge/sources"
)

const tablesSQL = `SELECT m.name, l.type = 'view', l.type = 'table' AND NOT l.wr
FROM sqlite_master AS m JOIN pragma_table_list AS l ON l.name = m.name AND l.schema = 'main'
WHERE l.type IN ('table', 'view', 'virtual') AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name`

const columnsSQL = `SELECT c.name, c.type, c."notnull" = 0 AND c.pk = 0 FROM pragma_table_info(?, 'main') AS c ORDER BY c.cid`

// A table's INTEGER PRIMARY KEY is the rowid and has no index; indexes over
// expressions or some rows only are left out.
const indexesSQL = `SELECT l.name, i.name, l."unique", l.origin = 'pk'
FROM pragma_index_list(?1, 'main') AS l JOIN pragma_index_info(l.name, 'main') AS i
WHERE NOT l.partial AND NOT EXISTS (SELECT 1 FROM pragma_index_info(l.name, 'main') AS e WHERE e.name IS NULL)
ORDER BY l.origin = 'pk' DESC, l.name, i.seqno`

// Tables implements [sources.Catalog]. SQLite keeps no comments, and its
// estimate of rows is how far the rowids reach.
func (d *db) Tables(ctx context.Context) ([]sources.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var tables []sources.Table
	var rowids []bool
	var name string
	var view, rowid bool
	err := d.each(ctx, tablesSQL, nil, []any{&name, &view, &rowid}, func() {
		tables, rowids = append(tables, sources.Table{Name: []string{name}, View: view, Rows: -1}), append(rowids, rowid)
	})
	if err != nil {
		return nil, err
	}
	for i := range tables {
		t := &tables[i]
		if err := d.describe(ctx, t); err != nil {
			return nil, fmt.Errorf("table %s: %w", t, err)
		}
		if rowids[i] {
			if t.Rows, err = d.span(ctx, t); err != nil {
				return nil, fmt.Errorf("table %s: %w", t, err)
			}
		}
	}
	return tables, nil
}

func (d *db) describe(ctx context.Context, t *sources.Table) error {
	name := []any{t.Name[0]}
	var c sources.TableColumn
	err := d.each(ctx, columnsSQL, name, []any{&c.Name, &c.Type, &c.Nullable}, func() { t.Columns = append(t.Columns, c) })
	if err != nil {
		return err
	}
	var index, last, column string
	var unique, primary bool
	err = d.each(ctx, indexesSQL, name, []any{&index, &column, &unique, &primary}, func() {
		if index != last {
			t.Indexes, last = append(t.Indexes, sources.Index{Unique: unique, Primary: primary}), index
		}
		i := &t.Indexes[len(t.Indexes)-1]
		i.Columns = append(i.Columns, column)
	})
	if err != nil || len(t.Indexes) > 0 && t.Indexes[0].Primary {
		return err
	}
	var keys []string
	err = d.each(ctx, `SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk`, name, []any{&column}, func() { keys = append(keys, column) })
	if keys != nil {
		t.Indexes = append([]sources.Index{{Columns: keys, Unique: true, Primary: true}}, t.Indexes...)
	}
	return err
}

// span is the distance from the lowest rowid to the highest: two seeks.
func (d *db) span(ctx context.Context, t *sources.Table) (n int64, err error) {
	from := dialect{}.Quote(t.Name[0])
	query := "SELECT COALESCE((SELECT MAX(rowid) FROM " + from + ") - (SELECT MIN(rowid) FROM " + from + ") + 1, 0)"
	err = d.each(ctx, query, nil, []any{&n}, func() {})
	return n, err
}

// each runs f on each row of a query, scanned into dest.
func (d *db) each(ctx context.Context, query string, args, dest []any, f func()) error {
	return classed(sources.EachRow(ctx, d.pool, query, args, dest, func() error { f(); return nil }))
}

// TableNames implements [sources.Lister]; the only schema is main.
func (d *db) TableNames(ctx context.Context, _, prefix string) (names []string, err error) {
	var name string
	err = d.each(ctx, `SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND lower(substr(name, 1, length(?1))) = lower(?1) ORDER BY name`,
		[]any{prefix}, []any{&name}, func() { names = append(names, name) })
	return names, err
}

var (
	_ sources.Catalog = (*db)(nil)
	_ sources.Lister  = (*db)(nil)
)
