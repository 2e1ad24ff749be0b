package mysql

import (
	"context"

	"parkbridge/sources"
)

const tablesSQL = `SELECT table_name, table_type = 'VIEW', COALESCE(table_rows, -1), CASE WHEN table_type = 'VIEW' THEN '' ELSE table_comment END
FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW') ORDER BY table_name`

const columnsSQL = `SELECT table_name, column_name, column_type, column_comment, is_nullable = 'YES'
FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position`

// A column an index has only the beginning of (sub_part) is none that it sorts by.
const indexesSQL = `SELECT table_name, index_name, column_name, non_unique = 0, index_name = 'PRIMARY'
FROM information_schema.statistics AS s WHERE table_schema = DATABASE() AND index_type = 'BTREE' AND NOT EXISTS (
	SELECT 1 FROM information_schema.statistics AS p WHERE p.table_schema = s.table_schema AND p.table_name = s.table_name
		AND p.index_name = s.index_name AND (p.sub_part IS NOT NULL OR p.column_name IS NULL))
ORDER BY table_name, index_name = 'PRIMARY' DESC, index_name, seq_in_index`

// Tables implements [sources.Catalog].
func (d *db) Tables(ctx context.Context) ([]sources.Table, error) {
	var tables []sources.Table
	at := map[string]int{}
	var name string
	var t sources.Table
	err := d.each(ctx, tablesSQL, []any{&name, &t.View, &t.Rows, &t.Comment}, func() {
		t.Name = []string{name}
		at[name], tables = len(tables), append(tables, t)
	})
	if err != nil {
		return nil, err
	}
	of := func(name string) *sources.Table {
		if i, ok := at[name]; ok {
			return &tables[i]
		}
		return &sources.Table{} // one that was made in between
	}
	var c sources.TableColumn
	err = d.each(ctx, columnsSQL, []any{&name, &c.Name, &c.Type, &c.Comment, &c.Nullable}, func() {
		t := of(name)
		t.Columns = append(t.Columns, c)
	})
	if err != nil {
		return nil, err
	}
	var index, last string
	var column string
	var unique, primary bool
	err = d.each(ctx, indexesSQL, []any{&name, &index, &column, &unique, &primary}, func() {
		t := of(name)
		if last != name+"\x00"+index || len(t.Indexes) == 0 {
			t.Indexes = append(t.Indexes, sources.Index{Unique: unique, Primary: primary})
			last = name + "\x00" + index
		}
		i := &t.Indexes[len(t.Indexes)-1]
		i.Columns = append(i.Columns, column)
	})
	return tables, err
}

// each runs f on each row of a query, scanned into dest.
func (d *db) each(ctx context.Context, query string, dest []any, f func()) error {
	return sources.EachRow(ctx, d.pool, query, nil, dest, func() error { f(); return nil })
}

// TableNames implements [sources.Lister]. The server shows an account the tables
// that it has a right to.
func (d *db) TableNames(ctx context.Context, schema, prefix string) (names []string, err error) {
	var name string
	err = sources.EachRow(ctx, d.pool, `SELECT table_name FROM information_schema.tables
		WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND LOWER(LEFT(table_name, CHAR_LENGTH(?))) = LOWER(?) ORDER BY table_name`,
		[]any{schema, prefix, prefix}, []any{&name}, func() error { names = append(names, name); return nil })
	return names, err
}

var (
	_ sources.Catalog = (*db)(nil)
	_ sources.Lister  = (*db)(nil)
)
