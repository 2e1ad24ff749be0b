package sqlserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"parkbridge/sources"
)

type dialect struct{}

func (dialect) Quote(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }

// Limit writes TOP, which every version has.
func (dialect) Limit(sql string, n int) string {
	return fmt.Sprintf("SELECT TOP (@p%d) ", n) + strings.TrimPrefix(sql, "SELECT ")
}

// SkipLocked is used only where a read without it has met a lock.
func (dialect) SkipLocked(table string) string { return table + " WITH (READPAST)" }

// base is a type's name without its length, precision or scale.
func base(typ string) string {
	name, _, _ := strings.Cut(typ, "(")
	return name
}

// Select reads the stored bytes where the mapping asks for them and the column's
// own code page need not be theirs: one of a single byte a character, or one of
// a query, whose code page cannot be known. UTF-8 collations are converted by
// the server, because the driver does not know them.
func (d dialect) Select(f sources.Field) string {
	name, typ := d.Quote(f.Column.Name), base(f.Column.Type)
	switch {
	case typ == "sql_variant":
		return "CAST(" + name + " AS nvarchar(4000))"
	case f.Column.Charset == utf8CodePage:
		return "CAST(" + name + " AS nvarchar(max))"
	case f.Raw && typ == "text" && !doubleByte[f.Column.Charset]:
		return "CAST(CAST(" + name + " AS varchar(max)) AS varbinary(max))"
	case f.Raw && (typ == "char" || typ == "varchar") && !doubleByte[f.Column.Charset]:
		return "CAST(" + name + " AS varbinary(max))"
	}
	return name
}

const utf8CodePage = "cp65001"

// doubleByte are the code pages in which text of East Asia is declared as what
// it is.
var doubleByte = map[string]bool{"cp932": true, "cp936": true, "cp949": true, "cp950": true}

// Param casts to the column's own type: SQL Server compares a datetime with
// anything finer by more digits than it has, so that its row never equals itself.
// Text gets the column's own collation first, or it would go through the code
// page of the database; its length stays open, for a cast cuts off in silence.
func (dialect) Param(n int, c sources.Column) string {
	param, typ := fmt.Sprintf("@p%d", n), c.Type
	switch base(typ) {
	case "char", "varchar":
		typ = "varchar(8000)"
	case "nchar", "nvarchar":
		typ = "nvarchar(4000)"
	case "varbinary":
		typ = "varbinary(8000)"
	case "timestamp":
		typ = "binary(8)"
	}
	if c.Collation != "" {
		param += " COLLATE " + c.Collation
	}
	return "CAST(" + param + " AS " + typ + ")"
}

// Compare is spelled out, for there are no row values. The condition on the first
// column alone, which the rest implies, is what makes it a seek: SQL Server scans
// the index on an OR of ranges.
func (dialect) Compare(columns []string, op string, param func(int) string) string {
	if len(columns) == 1 {
		return sources.CompareSpelled(columns, op, param)
	}
	return "(" + columns[0] + " " + op[:1] + "= " + param(0) + " AND " + sources.CompareSpelled(columns, op, param) + ")"
}

func (dialect) Native(c sources.Column, v sources.Value) (string, error) {
	switch base(c.Type) {
	case "sql_variant", "xml", "text", "ntext", "image":
		return "", fmt.Errorf("is of type %s, which cannot be a key or cursor", c.Type)
	}
	switch {
	case v.Kind == sources.Bad:
		return "", errors.New("holds text that is not in its character set, which cannot be a key or cursor")
	case c.Binary:
		return "0x" + hex.EncodeToString([]byte(v.Text)), nil
	case v.Kind == sources.Bytes:
		return "", fmt.Errorf("is of type %s, which cannot be a key or cursor", c.Type)
	}
	return v.Text, nil
}

// Arg binds what loses nothing on its way: numbers and bytes as such, date-times
// in the one form that no setting of the server reads otherwise, the rest as text.
func (dialect) Arg(c sources.Column, native string) (any, error) {
	switch typ := base(c.Type); typ {
	case "tinyint", "smallint", "int", "bigint":
		n, err := strconv.ParseInt(native, 10, 64)
		if err != nil {
			return nil, errors.New("is not an integer")
		}
		return n, nil
	case "real", "float":
		f, err := strconv.ParseFloat(native, 64)
		if err != nil {
			return nil, errors.New("is not a number")
		}
		return f, nil
	case "datetime", "smalldatetime", "datetime2", "datetimeoffset", "date":
		return isoTime(typ, native)
	}
	if c.Binary {
		b, err := hex.DecodeString(strings.TrimPrefix(native, "0x"))
		if err != nil || !strings.HasPrefix(native, "0x") {
			return nil, errors.New("is not of the form 0x…, which a binary column needs")
		}
		return b, nil
	}
	return native, nil
}

var timeForm = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?)? ?(Z|[+-]\d\d:\d\d)?$`)

// isoTime writes a date-time as ISO 8601 with a T, which SQL Server reads the same
// under every language and date format. A datetime takes three digits of a second
// and no more; those that it shows are enough to give its 1/300 s back.
func isoTime(typ, native string) (string, error) {
	m := timeForm.FindStringSubmatch(native)
	if m == nil {
		return "", errors.New("is not a date-time such as 2026-11-01 10:00:00")
	}
	day, minute, second, fraction, zone := m[1], m[2], m[3], m[4], m[5]
	if typ == "date" {
		return day, nil
	}
	if minute == "" {
		minute = "00:00"
	}
	if second == "" {
		second = ":00"
	}
	digits := map[string]int{"datetime": 3, "datetime2": 7, "datetimeoffset": 7}[typ] // smalldatetime: none
	if fraction = (fraction + "000")[:min(max(len(fraction), 3), digits)]; fraction != "" {
		fraction = "." + fraction
	}
	if zone == "Z" {
		zone = "+00:00"
	}
	if typ != "datetimeoffset" && zone != "" {
		return "", errors.New("has a zone, which the column has not")
	}
	return day + "T" + minute + second + fraction + zone, nil
}
