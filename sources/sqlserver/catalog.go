package sqlserver

import (
	"context"

	"parkbridge/sources"
)

// The views below show what the account has any right to. A name is given
// without its schema where it leads to the same table so. Rows are those that
// the partitions of the table itself are said to hold. The comments are those
// that SQL Server's own tools write.
const (
	tablesSQL = `SELECT o.object_id, SCHEMA_NAME(o.schema_id), o.name, CASE WHEN OBJECT_ID(QUOTENAME(o.name)) = o.object_id THEN 1 ELSE 0 END,
	CASE WHEN o.type = 'V' THEN 1 ELSE 0 END, COALESCE(p.rows, -1), COALESCE(CONVERT(nvarchar(4000), e.value), '')
FROM sys.objects o
LEFT JOIN (SELECT object_id, SUM(rows) AS rows FROM sys.partitions WHERE index_id IN (0, 1) GROUP BY object_id) p ON p.object_id = o.object_id AND o.type = 'U'
LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0 AND e.name = 'MS_Description'
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0
ORDER BY SCHEMA_NAME(o.schema_id), o.name`

	tableColumnsSQL = `SELECT c.object_id, c.name, COALESCE(TYPE_NAME(c.system_type_id), TYPE_NAME(c.user_type_id), ''), c.max_length, c.precision, c.scale, c.is_nullable,
	COALESCE(CONVERT(nvarchar(4000), e.value), '')
FROM sys.columns c JOIN sys.objects o ON o.object_id = c.object_id
LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = c.object_id AND e.minor_id = c.column_id AND e.name = 'MS_Description'
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0
	AND HAS_PERMS_BY_NAME(QUOTENAME(SCHEMA_NAME(o.schema_id)) + '.' + QUOTENAME(o.name), 'OBJECT', 'SELECT', c.name, 'COLUMN') = 1
ORDER BY c.object_id, c.column_id`

	// Rowstore indexes alone have an order; a filtered one lacks rows.
	indexesSQL = `SELECT i.object_id, i.index_id, i.is_unique, i.is_primary_key, c.name
FROM sys.indexes i JOIN sys.objects o ON o.object_id = i.object_id
JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal > 0
JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND i.type IN (1, 2) AND i.has_filter = 0 AND i.is_disabled = 0 AND i.is_hypothetical = 0
ORDER BY i.object_id, i.is_primary_key DESC, i.index_id, k.key_ordinal`
)

// Tables implements [sources.Catalog].
func (d *db) Tables(ctx context.Context) ([]sources.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var all []sources.Table
	at := map[int64]int{}
	var id int64
	var t sources.Table
	var schema, name string
	var visible bool
	err := d.each(ctx, tablesSQL, []any{&id, &schema, &name, &visible, &t.View, &t.Rows, &t.Comment}, func() {
		t.Name = []string{schema, name}
		if visible {
			t.Name = t.Name[1:]
		}
		at[id], all = len(all), append(all, t)
	})
	if err != nil {
		return nil, err
	}
	of := func() *sources.Table {
		if i, ok := at[id]; ok {
			return &all[i]
		}
		return &sources.Table{} // one that was made in between
	}
	var typ string
	var length, precision, scale int64
	var c sources.TableColumn
	err = d.each(ctx, tableColumnsSQL, []any{&id, &c.Name, &typ, &length, &precision, &scale, &c.Nullable, &c.Comment}, func() {
		if c.Type = catalogColumn(c.Name, typ, length, precision, scale).Type; c.Type == "timestamp" {
			c.Type = "rowversion" // which is no time
		}
		of().Columns = append(of().Columns, c)
	})
	if err != nil {
		return nil, err
	}
	var ordinal, last int64
	var index sources.Index
	var column string
	err = d.each(ctx, indexesSQL, []any{&id, &ordinal, &index.Unique, &index.Primary, &column}, func() {
		t := of()
		if len(t.Indexes) == 0 || ordinal != last {
			t.Indexes, last = append(t.Indexes, index), ordinal
		}
		i := &t.Indexes[len(t.Indexes)-1]
		i.Columns = append(i.Columns, column)
	})
	if err != nil {
		return nil, err
	}
	readable := all[:0]
	for _, t := range all {
		if len(t.Columns) > 0 {
			readable = append(readable, t)
		}
	}
	return readable, nil
}

// each runs f on each row of a query, scanned into dest.
func (d *db) each(ctx context.Context, query string, dest []any, f func(), args ...any) error {
	return classed(sources.EachRow(ctx, d.pool, query, args, dest, func() error { f(); return nil }))
}

var _ sources.Catalog = (*db)(nil)
