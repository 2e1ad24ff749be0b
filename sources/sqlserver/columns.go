package sqlserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	mssql "github.com/microsoft/go-mssqldb"

	"parkbridge/sources"
)

// Columns describes a table by the catalog, which knows what the protocol does
// not tell: rowversions, scales of times, collations. What only the protocol can
// describe (a query, a synonym, a table of another server) lacks that.
func (d *db) Columns(ctx context.Context, list, from string) ([]sources.Column, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	known, err := d.catalog(ctx, from)
	if err != nil {
		return nil, err
	}
	rows, err := d.pool.QueryContext(ctx, "SELECT TOP (0) "+list+" FROM "+from) //nolint:gosec // names are quoted, a query is the config's own
	switch number(err) {
	case errNoSuchObject, errNoSelect:
		return nil, fmt.Errorf("%w: %w", sources.ErrNoTable, lineError{err})
	}
	if err != nil {
		return nil, classed(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var columns []sources.Column
	for _, n := range names {
		i := slices.IndexFunc(known, func(c sources.Column) bool { return c.Name == n })
		if i < 0 { // a name comes back as the query spelled it
			i = slices.IndexFunc(known, func(c sources.Column) bool { return strings.EqualFold(c.Name, n) })
		}
		if i < 0 {
			return described(rows)
		}
		columns = append(columns, known[i])
	}
	return columns, classed(errors.Join(rows.Err(), rows.Close()))
}

// catalogSQL lists a table's columns; its verb is the database's name and a dot,
// or nothing. TYPE_NAME of an alias type is that of the type behind it.
const catalogSQL = `SELECT c.name, COALESCE(TYPE_NAME(c.system_type_id), TYPE_NAME(c.user_type_id), ''), c.max_length, c.precision, c.scale,
	COALESCE(c.collation_name, ''), COALESCE(CONVERT(int, COLLATIONPROPERTY(c.collation_name, 'CodePage')), 0)
FROM %ssys.all_columns c WHERE c.object_id = OBJECT_ID(@p1)`

// catalog describes the columns of a FROM item; none where it is not a table or a
// view of this server.
func (d *db) catalog(ctx context.Context, from string) (known []sources.Column, err error) {
	if strings.HasPrefix(from, "(") {
		return nil, nil
	}
	database := ""
	if parts := strings.SplitAfter(from, "]."); len(parts) > 2 {
		database = strings.Join(parts[:len(parts)-2], "")
	}
	var name, typ, collation string
	var length, precision, scale, page int64
	dest := []any{&name, &typ, &length, &precision, &scale, &collation, &page}
	err = d.each(ctx, fmt.Sprintf(catalogSQL, database), dest, func() {
		c := catalogColumn(name, typ, length, precision, scale)
		if page != 0 && (typ == "char" || typ == "varchar" || typ == "text") {
			c.Collation, c.Charset = collation, "cp"+strconv.FormatInt(page, 10)
		}
		known = append(known, c)
	}, from)
	return known, err
}

// catalogColumn makes a column of what the catalog says of its type. There a
// length is one of bytes, two a character of a national type.
func catalogColumn(name, typ string, length, precision, scale int64) sources.Column {
	if strings.HasPrefix(typ, "n") && length > 0 {
		length /= 2
	}
	return column(name, typ, length, precision, scale)
}

// described goes by what the protocol tells. The library panics on types that it
// does not know.
func described(rows *sql.Rows) (columns []sources.Column, err error) {
	defer func() {
		if p := recover(); p != nil {
			columns, err = nil, fmt.Errorf("the driver cannot describe a column: %v; name only columns of other types in a query", p)
		}
	}()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		length, _ := t.Length()
		if length > 8000 {
			length = -1
		}
		precision, scale, ok := t.DecimalSize()
		if !ok {
			scale = 7
		}
		columns = append(columns, column(t.Name(), strings.ToLower(t.DatabaseTypeName()), length, precision, scale))
	}
	return columns, classed(rows.Err())
}

// column makes a column of what is known of its type; a length of -1 is (max).
func column(name, typ string, length, precision, scale int64) sources.Column {
	c := sources.Column{Name: name, Type: typ}
	sized := func() {
		if c.Type = fmt.Sprintf("%s(%d)", typ, length); length < 0 {
			c.Type = typ + "(max)"
		}
	}
	switch typ {
	case "tinyint", "smallint", "int", "bigint":
		c.Integer = true
	case "decimal", "numeric":
		c.Type = fmt.Sprintf("%s(%d,%d)", typ, precision, scale)
		c.Integer = scale == 0 && precision <= 19 // as old systems number their rows
	case "char", "varchar", "nchar", "nvarchar":
		c.IsText = true
		sized()
	case "text", "ntext":
		c.IsText = true
	case "binary", "varbinary":
		c.Binary = true
		sized()
	case "image":
		c.Binary = true
	case "timestamp": // the catalog's name of rowversion
		c.Binary, c.Version = true, true
	case "time", "datetime2", "datetimeoffset":
		c.Type = fmt.Sprintf("%s(%d)", typ, scale)
	}
	return c
}

const dateTime = "2006-01-02 15:04:05.9999999"

// value takes what the driver decoded, none of which loses anything: a datetime
// has a whole number of milliseconds for each of its 1/300 s, decimals and money
// come as digits.
func value(cell any, f sources.Field) (sources.Value, error) {
	typ := base(f.Column.Type)
	switch v := cell.(type) {
	case nil:
		return sources.Value{}, nil
	case bool:
		return sources.Value{Kind: sources.Bool, Text: strconv.FormatBool(v)}, nil
	case int64:
		return sources.Value{Kind: sources.Int, Text: strconv.FormatInt(v, 10)}, nil
	case float64:
		return sources.Value{Kind: sources.Float, Text: floatText(v, typ)}, nil
	case time.Time:
		return timeValue(v, typ), nil
	case string:
		// The driver puts this character where its table of the code page has none.
		if (typ == "char" || typ == "varchar" || typ == "text") && strings.ContainsRune(v, utf8.RuneError) {
			return sources.Value{Kind: sources.Bad, Text: v}, nil
		}
		return sources.TextOrBytes(v, false), nil
	case []byte:
		switch typ {
		case "decimal", "numeric", "money", "smallmoney":
			return sources.Value{Kind: sources.Decimal, Text: string(v)}, nil
		case "uniqueidentifier":
			var id mssql.UniqueIdentifier
			err := id.Scan(v)
			return sources.Value{Kind: sources.Text, Text: id.String()}, err
		}
		return sources.Value{Kind: sources.Bytes, Text: string(v)}, nil
	}
	return sources.Value{}, fmt.Errorf("the SQL Server driver gave a %T for column %s", cell, f.Column.Name)
}

func floatText(f float64, typ string) string {
	bits := 64
	if typ == "real" && math.Abs(f) <= math.MaxFloat32 {
		bits = 32
	}
	return strconv.FormatFloat(f, 'g', -1, bits)
}

func timeValue(t time.Time, typ string) sources.Value {
	switch typ {
	case "date":
		return sources.Value{Kind: sources.Local, Text: t.Format(time.DateOnly)}
	case "time":
		return sources.Value{Kind: sources.Text, Text: t.Format("15:04:05.9999999")}
	case "datetimeoffset":
		return sources.Value{Kind: sources.Time, Text: t.Format(dateTime + "-07:00")}
	}
	return sources.Value{Kind: sources.Local, Text: t.Format(dateTime)}
}
