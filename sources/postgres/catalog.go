package postgres

import (
	"context"

	"parkbridge/sources"

	"github.com/jackc/pgx/v5"
)

// Partitions are left out: their parent has their rows.
const tablesSQL = `SELECT c.oid, n.nspname, c.relname, pg_table_is_visible(c.oid), c.relkind IN ('v', 'm', 'f'), c.reltuples::bigint,
	COALESCE(obj_description(c.oid, 'pg_class'), '')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
	AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname`

const columnsSQL = `SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, COALESCE(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute AS a
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
ORDER BY a.attrelid, a.attnum`

// Columns that an index only INCLUDEs are no part of its order; servers before
// 11 have none, nor the column that counts the others.
const indexesSQL = `SELECT i.indrelid, i.indisunique, i.indisprimary,
	(SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
		JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE k.n <= COALESCE((to_jsonb(i)->>'indnkeyatts')::int, i.indnatts))
FROM pg_index AS i
WHERE i.indrelid = ANY($1) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid`

// Tables implements [sources.Catalog].
func (d *db) Tables(ctx context.Context) ([]sources.Table, error) {
	var tables []sources.Table
	err := d.read(ctx, func(c *pgx.Conn) error {
		var oids []uint32
		var oid uint32
		at := map[uint32]int{}
		var t sources.Table
		var schema, name string
		var visible bool
		rows, err := c.Query(ctx, tablesSQL)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &visible, &t.View, &t.Rows, &t.Comment}, func() error {
			t.Name = []string{name}
			if !visible {
				t.Name = []string{schema, name}
			}
			if t.View || t.Rows == 0 { // before 14, zero means not known too
				t.Rows = -1
			}
			at[oid], oids, tables = len(tables), append(oids, oid), append(tables, t)
			return nil
		})
		if err != nil {
			return err
		}
		var column sources.TableColumn
		if rows, err = c.Query(ctx, columnsSQL, oids); err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&oid, &column.Name, &column.Type, &column.Nullable, &column.Comment}, func() error {
			tables[at[oid]].Columns = append(tables[at[oid]].Columns, column)
			return nil
		})
		if err != nil {
			return err
		}
		var index sources.Index
		if rows, err = c.Query(ctx, indexesSQL, oids); err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&oid, &index.Unique, &index.Primary, &index.Columns}, func() error {
			tables[at[oid]].Indexes = append(tables[at[oid]].Indexes, index)
			index.Columns = nil
			return nil
		})
		return err
	})
	return tables, err
}

// TableNames implements [sources.Lister]. Tables that the account may not read are
// listed too: reading such a one fails, where waiting for it would not.
func (d *db) TableNames(ctx context.Context, schema, prefix string) (names []string, err error) {
	err = d.read(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, `SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND CASE WHEN $1::text = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1::text END
				AND lower(left(c.relname::text, length($2::text))) = lower($2::text) ORDER BY c.relname`, schema, prefix)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return names, err
}

var (
	_ sources.Catalog = (*db)(nil)
	_ sources.Lister  = (*db)(nil)
	_ sources.Sharer  = (*db)(nil)
)
