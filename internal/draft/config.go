package draft

import (
	"fmt"
	"slices"
	"strings"

	"parkbridge/mapping"
	"parkbridge/sources"
)

// Platform is the address of the platform's gate.
const Platform = "https://api.4pyun.com/gate/1.0/parking/internal/update"

// Options are what a draft does not take from the table.
type Options struct {
	Driver string
	// DSN is the value of the key dsn: a path, or ${NAME}, but no password.
	DSN string
	// URL, ParkUUID and Start are decided already; what is empty is left for a
	// person to decide.
	URL, ParkUUID, Start string
	// Assigned tells how the values of [Candidate.Key] come about, where that is
	// one column.
	Assigned sources.Assigned
}

// Config writes the config for a candidate, and lists its lines that a person
// must decide. No value of a row is in it but the words of enumerations.
func (c *Candidate) Config(o Options) (string, []Decision) {
	p := &page{}
	p.remark(0, fmt.Sprintf("Drafted by parkbridge init from %s. Nothing has been sent. Each DECIDE is for a person to settle; the README explains every key.", c.Name))
	p.add("ledger:", "")
	p.add("  dsn: parkbridge.db", "what became of every release; on this machine's own disk")
	c.writeSink(p, o)
	p.add("sources:", "")
	p.add("  - name: "+scalar(c.sourceName()), "as commands, the ledger and the log call it")
	p.add("    driver: "+o.Driver, "")
	p.add("    dsn: "+dsnScalar(o.DSN), "")
	p.add("    timezone: "+zoneName, "of date-times without a zone: what the lot's clocks show")
	c.writeCharset(p)
	c.writeTable(p)
	c.writeKey(p, o)
	c.writeStart(p, o)
	p.add(`    schedule: "*/1 * * * *"`, "for parkbridge run: once a minute")
	c.writeMapping(p)
	p.add("log:", "")
	p.add("  file: parkbridge.log", "rotates by size; a scheduler has no screen")
	return p.b.String(), p.decisions
}

func dsnScalar(dsn string) string {
	if strings.HasPrefix(dsn, "${") {
		return dsn
	}
	return scalar(dsn)
}

func (c *Candidate) writeSink(p *page, o Options) {
	p.add("sink:", "")
	if o.URL != "" {
		p.add("  url: "+o.URL, "")
	} else {
		p.add("  url: "+Platform, "")
	}
	p.add("  app_id: ${PARKBRIDGE_APP_ID}", "an environment variable; issued by the platform")
	p.add("  app_secret: ${PARKBRIDGE_APP_SECRET}", "or app_secret_file: secret.txt")
	if o.ParkUUID != "" {
		p.add("  park_uuid: "+scalar(o.ParkUUID), "the lot")
		return
	}
	p.decide(2, "the lot's id, which the platform issues. Write it in the place of the variable, or set the variable.")
	p.add("  park_uuid: ${PARKBRIDGE_PARK_UUID}", "")
}

var (
	notName = pattern(`[^\p{L}\p{N}]+`)
	letters = pattern(`\{[yM]+\}`) // of a series
)

// sourceName makes a source's name of the table's.
func (c *Candidate) sourceName() string {
	name := c.Name[strings.LastIndex(c.Name, ".")+1:]
	name = letters().ReplaceAllString(name, "")
	name = strings.Trim(notName().ReplaceAllString(strings.ToLower(name), "-"), "-")
	if r := []rune(name); len(r) > 64 {
		name = string(r[:64])
	}
	if name == "" {
		return "lot"
	}
	return name
}

func (c *Candidate) writeCharset(p *page) {
	switch {
	case c.garbled:
		p.decide(4, "some texts are neither UTF-8 nor GBK nor GB18030. What wrote them? Set charset, here or in the rule.")
		p.add("    charset: utf-8", "")
	case c.charset != "" && c.misfits > 0:
		p.remark(4, fmt.Sprintf("Not all sampled texts are %[2]s (%[1]d are not), as where a column was too short for them; such rows are kept as invalid.", c.misfits, strings.ToUpper(c.charset)))
		p.add("    charset: "+c.charset, "of the bytes that are stored, whatever the database says")
	case c.charset != "":
		p.add("    charset: "+c.charset, "of the bytes that are stored, whatever the database says")
	}
}

// plainSeries is a series' name that needs no quotes outside of brackets.
var plainSeries = pattern(`^[\p{L}_][\p{L}\p{N}_.-]*\{[\p{L}\p{N}_.{}-]*$`)

func (c *Candidate) writeTable(p *page) {
	switch {
	case c.Wraps:
		p.remark(4, fmt.Sprintf("One table a month, %d of them, emptied and filled again every year.", len(c.members)))
	case c.Name != c.Table().String():
		p.remark(4, fmt.Sprintf("One table a period; now there are %d.", len(c.members)))
	}
	if c.hint < .3 {
		p.decide(4, "is every row of it an exception release? If it holds ordinary passages too, say which rows to send: where, a condition in the database's SQL.%s", c.kinds())
	}
	name := scalar(c.Name)
	if plainSeries().MatchString(c.Name) {
		name = c.Name
	}
	p.add("    table: "+name, "")
	if c.Wraps {
		p.add("    wrap: year", "")
	}
}

// kinds names the columns that may tell passages apart, with their values.
func (c *Candidate) kinds() string {
	var b strings.Builder
	for _, col := range c.columns {
		name, _ := col.name.says(kindWords, "kind")
		comment, _ := col.comment.says(kindWords, "kind")
		words := enumeration(col.texts)
		if max(name, comment) < .6 || len(words) == 0 {
			continue
		}
		fmt.Fprintf(&b, " %s holds %s.", col.Name, strings.Join(words, ", "))
	}
	return b.String()
}

// Key lists the columns that identify a row: the primary key's, else those of
// a unique index without NULLs, else the one that looks like it; none where
// there is nothing.
func (c *Candidate) Key() []string {
	if key, sure := c.key(); sure || key[0] != noKey {
		return key
	}
	return nil
}

// noKey stands in a config where no key is known.
const noKey = "KEY"

// key is the key that the config names, and whether the database vouches for it.
func (c *Candidate) key() (key []string, sure bool) {
	if key := c.primary(); key != nil {
		return key, true
	}
	for _, i := range c.Table().Indexes {
		nullable := slices.ContainsFunc(i.Columns, func(n string) bool { return c.column(n).Nullable })
		if i.Unique && !nullable && (key == nil || len(i.Columns) < len(key)) {
			key = i.Columns
		}
	}
	if key != nil {
		return key, true
	}
	if col := c.likelyKey(); col != nil {
		return []string{col.Name}, false
	}
	return []string{noKey}, false
}

// likelyKey is a column that looks like a key where the database knows none;
// nil where none does.
func (c *Candidate) likelyKey() *column {
	var best *column
	most := .75
	for _, col := range c.columns {
		s, _ := col.name.says(flowWords, "flow_no")
		t, _ := col.comment.says(flowWords, "flow_no")
		if s = max(s, t); s > most && !heavy(col.TableColumn) && (col.distinct() || len(col.values) == 0) {
			best, most = col, s
		}
	}
	return best
}

func (c *Candidate) writeKey(p *page, o Options) {
	key, sure := c.key()
	note := "the primary key"
	switch {
	case !sure && key[0] == noKey:
		p.decide(4, "which column, or list of columns, identifies a row for good? The database knows no primary key and no unique index.")
		note = ""
	case !sure:
		p.decide(4, "is %s unique and never given again? The database knows no primary key and no unique index; its name is all there is.", key[0])
		note = ""
	case c.primary() == nil:
		note = "a unique index"
	}
	p.add("    key: "+list(key, scalar), note)
	single := len(key) == 1 && c.column(key[0]).numbers(o.Driver)
	if single && sure && o.Assigned.Not == "" {
		p.remark(4, "cursor: the key, because the server assigns it.")
		return
	}
	if col := c.indexedTime(); col != nil {
		if format, ok := col.cursorFormat(); ok {
			c.addCursor(p, col, format, "an index begins with it")
			return
		}
	}
	if single {
		p.decide(4, "do new rows always get a higher %s? It is the cursor, and %s. If not, name a time column that has an index.", key[0], o.Assigned.Not)
		p.add("    cursor: "+scalar(key[0]), "")
		return
	}
	if g := c.fields["operate_time"]; g != nil && g.clock == nil {
		if format, ok := g.column.cursorFormat(); ok {
			p.decide(4, "no index begins with %s, so that every poll reads the whole table. Have one made on (%s), or name another cursor.",
				g.column.Name, strings.Join(append([]string{g.column.Name}, key...), ", "))
			c.addCursor(p, g.column, format, "")
			return
		}
	}
	p.decide(4, "which column are new rows read in order of? It must grow from row to row and have an index.")
	p.add("    cursor: "+scalar(key[0]), "")
}

func (c *Candidate) addCursor(p *page, col *column, format, note string) {
	if col.Nullable && note != "" {
		note += "; rows without one wait, see null_cursor"
	}
	p.add("    cursor: "+scalar(col.Name), note)
	if format != "" {
		p.add("    cursor_format: "+quoted(format), "")
	}
}

// cursorFormat is the cursor_format that a column needs as a cursor; ok is
// false where its values do not sort as the times they are.
func (c *column) cursorFormat() (format string, ok bool) {
	if len(c.values) == 0 {
		return "", c.temporal()
	}
	if len(c.times.formats) != 1 || c.times.fit < .9 {
		return "", false
	}
	switch f := c.times.formats[0]; {
	case c.times.native, f == "", f == "yyyy-MM-dd HH:mm:ss", f == "yyyy/MM/dd HH:mm:ss":
		if unpadded(c.texts) {
			return "", false
		}
		return "", true
	case strings.HasPrefix(f, "yyyyMMddHHmmss"):
		if c.integer() {
			return f, true
		}
		return "", true
	case f == "unix", f == "unix_ms":
		return f, true
	case f == "ole", f == "dotnet_ticks": // a number, which sorts as what it means
		return "", true
	case strings.HasPrefix(f, "yyyy") && !unpadded(c.texts):
		return f, true
	}
	return "", false
}

// unpadded reports whether texts are of different lengths: 2026/3/1 does not
// sort before 2026/11/01.
func unpadded(texts []string) bool {
	for _, s := range texts {
		if !strings.Contains(s, ".") && len(s) != len(texts[0]) && !strings.Contains(texts[0], ".") {
			return true
		}
	}
	return false
}

func (c *Candidate) writeStart(p *page, o Options) {
	if o.Start != "" {
		p.add("    start: "+scalar(o.Start), "")
		return
	}
	p.decide(4, "where does the first push begin? latest sends only what comes from now on, earliest all history, a value of the cursor everything from it on. "+
		"What the platform once took cannot be taken back.")
	p.add("    start: latest", "")
}

// exprName is how an expression names a column.
func exprName(column string) string {
	plain := true
	p := mapping.Compile(mapping.Rules{"f": {Expr: column}}, []mapping.Field{{Name: "f", Kind: mapping.KindText}}, mapping.Settings{Location: zone()},
		func(string, string) { plain = false })
	if plain && slices.Equal(p.Columns(), []string{column}) {
		return column
	}
	return `$env["` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(column) + `"]`
}
