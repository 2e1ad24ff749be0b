// Package mapping turns the rows of a source into the fields of the gate's
// API. A set of rules is compiled once into a [Program]; applying it is pure:
// no clock, no I/O, the same fields from the same row for ever.
package mapping

// Rules holds one rule for each field of the gate, by the field's name.
type Rules map[string]Rule

// Rule says where a field's value comes from and what is done to it, in the
// order of the struct. Exactly one of Column, Const and Expr is set.
// All scalars are the text as written in the config: 01 stays 01.
type Rule struct {
	// Column is a column of the table or query. A rule that is a bare string
	// is short for it.
	Column string `yaml:"column,short"`
	// Const is the same text for every row.
	Const *string `yaml:"const"`
	// Expr is an expression of expr-lang over the row's columns, plus
	// revision, table and period.
	Expr string `yaml:"expr"`
	// Charset is what the stored bytes of a text are in; empty means the
	// source's charset.
	Charset string `yaml:"charset"`
	// Trim says whether trailing spaces and NULs are taken off; nil means true.
	Trim *bool `yaml:"trim"`
	// Transform is a list of trim, upper, lower, halfwidth, nospace, digits.
	Transform []string `yaml:"transform"`
	// Values replaces a value by another.
	Values map[string]string `yaml:"values"`
	// Otherwise is what a value becomes that Values does not list; nil makes it
	// a field error.
	Otherwise *string `yaml:"otherwise"`
	// Format is how a time is kept as text or as a number: a pattern such as
	// yyyy-MM-dd HH:mm:ss, or unix, unix_ms, dotnet_ticks, ole, excel or julian.
	// Several are tried in turn, for columns that hold a mixture. Only for time
	// fields; empty takes date-times of the database and ISO text.
	Format []string `yaml:"format"`
	// Timezone is the zone of times that carry none; empty means the source's.
	Timezone string `yaml:"timezone"`
	// Invalid says what to do with a time that cannot be: "error" (also what
	// empty means) or, in an optional field, "omit".
	Invalid string `yaml:"invalid"`
	// Default is the value for NULL and empty; nil leaves an optional field
	// out and makes a required one a field error.
	Default *string `yaml:"default"`
}

// Field is one field of the gate's contract.
type Field struct {
	Name     string
	Required bool
	// Kind is one of the Kind constants.
	Kind string
	// Enum lists the values of a [KindEnum] field.
	Enum []string
}

// Kinds of a [Field].
const (
	KindText = "text"
	KindTime = "time"
	KindEnum = "enum"
)

// FieldError is one problem of one row.
type FieldError struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

func (e FieldError) Error() string { return e.Field + ": " + e.Problem }
