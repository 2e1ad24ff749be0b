// Package draft guesses which table of a database holds a lot's exception
// releases, and writes a config for it that says what it guessed and what a
// person must decide. It is pure: what the catalogue says and a few rows of
// each table come in, text goes out.
package draft

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"parkbridge/sources"
)

// Rows is a number of rows.
type Rows struct {
	N  int64
	Is RowsAre
}

// RowsAre says what a number of rows is worth.
type RowsAre string

// What a number of rows may be.
const (
	RowsUnknown  RowsAre = "unknown"
	RowsExact    RowsAre = "exact"
	RowsEstimate RowsAre = "estimate" // the catalogue's
	RowsAtLeast  RowsAre = "at least"
)

func (r Rows) String() string {
	digits := strconv.FormatInt(r.N, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	switch r.Is {
	case RowsExact:
		return digits
	case RowsEstimate:
		return "about " + digits
	case RowsAtLeast:
		return "over " + digits
	default:
		return "?"
	}
}

// Candidate is a table, or a series of tables, that may hold the releases.
type Candidate struct {
	// Name is the table's, or the pattern of a series, as `table:` takes it.
	Name string
	// Wraps tells that the tables of the series are filled anew every year.
	Wraps bool
	Rows  Rows
	// Score is how likely the candidate is, 0 to 100; Why says what made it.
	Score int
	Why   []string
	// Newest is the latest time seen; zero where none was.
	Newest time.Time

	members []member // newest first
	at      int      // the member that is looked at
	columns []*column
	sampled int  // rows
	ordered bool // they are the newest ones
	charset string
	misfits int // sampled texts that are not in it
	// garbled tells that bytes were found that are no text of a known charset.
	garbled bool
	looked  bool
	unread  string // why no rows were sampled
	fields  map[string]*guess
	hint    float64 // how strongly the name says exception
}

// Candidates makes candidates of the tables there are, the likeliest first, by
// what their catalogue says. today is the date of the lot.
func Candidates(tables []sources.Table, today time.Time) []*Candidate {
	out := grouped(tables, today)
	Rank(out)
	return out
}

// use takes one of the members for what stands for them all.
func (c *Candidate) use(i int) {
	c.at, c.columns, c.sampled, c.charset, c.misfits, c.garbled = i, nil, 0, "", 0, false
	t := c.Table()
	c.Rows = Rows{t.Rows, RowsEstimate}
	if t.Rows < 0 {
		c.Rows = Rows{Is: RowsUnknown}
	}
	for _, col := range t.Columns {
		c.columns = append(c.columns, newColumn(col))
	}
	c.fields = guessFields(c.columns)
}

// Table is the table that stands for the candidate: of a series, the newest
// one with rows.
func (c *Candidate) Table() *sources.Table { return &c.members[c.at].table }

// Members is how many tables the candidate has.
func (c *Candidate) Members() int { return len(c.members) }

// Has reports whether a table of this name is one of the candidate's, or is its
// name, without regard to case.
func (c *Candidate) Has(name string) bool {
	plain := func(s string) string { return strings.NewReplacer(`"`, "", "`", "", "[", "", "]", "").Replace(s) }
	same := func(s string) bool { return strings.EqualFold(plain(s), plain(name)) }
	return same(c.Name) || slices.ContainsFunc(c.members, func(m member) bool { return same(m.table.String()) })
}

// Older goes on to the next older table of a series; false where there is none.
func (c *Candidate) Older() bool {
	if c.at+1 >= len(c.members) {
		return false
	}
	c.use(c.at + 1)
	return true
}

// Wanted says what to read a few rows of: columns, never those of pictures, and
// the columns by which the newest rows stand at the end of an index, none where
// there is no such index.
func (c *Candidate) Wanted() (columns, by []string) {
	for _, col := range c.columns {
		if !heavy(col.TableColumn) {
			columns = append(columns, col.Name)
		}
	}
	if c.Table().View {
		return columns, nil
	}
	key := c.primary()
	if len(key) == 1 && c.column(key[0]).integer() {
		return columns, key
	}
	if col := c.indexedTime(); col != nil {
		return columns, []string{col.Name}
	}
	return columns, key
}

// Sampled takes the values of the columns that Wanted named, in rows; ordered
// tells that they are the newest ones.
func (c *Candidate) Sampled(columns []string, rows [][]sources.Value, ordered bool) {
	c.looked, c.sampled, c.ordered = true, len(rows), ordered
	values := map[string][]sources.Value{}
	var all []sources.Value
	for i, name := range columns {
		for _, row := range rows {
			values[name] = append(values[name], row[i])
			all = append(all, row[i])
		}
	}
	var ok bool
	c.charset, c.misfits, ok = charsetOf(all)
	c.garbled = !ok
	for _, col := range c.columns {
		if v, ok := values[col.Name]; ok {
			col.look(v, c.charset)
		}
	}
	c.fields = guessFields(c.columns)
	c.Newest = time.Time{}
	if g := c.fields["operate_time"]; g != nil {
		c.Newest = g.column.times.newest
	}
}

func (c *Candidate) column(name string) *column {
	i := slices.IndexFunc(c.columns, func(col *column) bool { return col.Name == name })
	if i < 0 {
		return newColumn(sources.TableColumn{Name: name}) // one the account may not read
	}
	return c.columns[i]
}

// primary lists the columns of the primary key; none where there is none.
func (c *Candidate) primary() []string {
	for _, i := range c.Table().Indexes {
		if i.Primary && !slices.ContainsFunc(i.Columns, func(n string) bool { _, ok := c.Table().Column(n); return !ok }) {
			return i.Columns
		}
	}
	return nil
}

// indexedTime is the likeliest column of times that an index begins with; nil
// where there is none.
func (c *Candidate) indexedTime() *column {
	var best *column
	most := 0.0
	for _, i := range c.Table().Indexes {
		col := c.column(i.Columns[0])
		for n, field := range []string{"operate_time", "leave_time", "enter_time"} {
			if s := fit(field, col) - .1*float64(n); s > most && !col.clock {
				best, most = col, s
			}
		}
	}
	return best
}

// Rank scores candidates anew and puts the likeliest first.
func Rank(all []*Candidate) {
	var latest time.Time
	for _, c := range all {
		if c.Newest.After(latest) {
			latest = c.Newest
		}
	}
	for _, c := range all {
		c.score(latest)
	}
	slices.SortStableFunc(all, func(a, b *Candidate) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), strings.Compare(a.Name, b.Name))
	})
}

// Clear reports whether the first of ranked candidates stands out enough to be
// taken without asking.
func Clear(ranked []*Candidate) bool {
	const least, ahead = 50, 10
	if len(ranked) == 0 || ranked[0].Score < least {
		return false
	}
	return len(ranked) == 1 || ranked[0].Score-ranked[1].Score >= ahead
}

// Shares of a score.
const (
	shareTable, sharePlate, shareTime, shareReason, shareOperator, shareOther = 30, 28, 14, 10, 8, 2.5
	withoutPlate                                                              = 30
)

// stale is how long a table may be quiet, compared with the liveliest one.
const stale = 60 * 24 * time.Hour

func (c *Candidate) score(latest time.Time) {
	c.Why = nil
	why := func(text string, args ...any) { c.Why = append(c.Why, fmt.Sprintf(text, args...)) }
	total := c.scoreName(why)
	share := map[string]float64{"plate": sharePlate, "operate_time": shareTime, "reason": shareReason, "operator": shareOperator}
	var fits []string
	more := 0
	for _, field := range guessed {
		g := c.fields[field]
		if g == nil || g.borrowed { // a borrowed one counts where it belongs
			continue
		}
		total += cmp.Or(share[field], shareOther) * g.score
		if field == "plate" && g.column.plates > 0 {
			why("%s holds plates", g.column.Name)
			continue
		}
		if share[field] == 0 {
			more++
			continue
		}
		fits = append(fits, g.column.Name)
	}
	if more > 0 {
		fits = append(fits, fmt.Sprintf("%d more", more))
	}
	if len(fits) > 0 {
		why("%s fit by name and kind", strings.Join(fits, ", "))
	}
	if c.fields["plate"] == nil {
		total = min(total, withoutPlate)
		why("no column of plates")
	}
	if c.Table().View {
		total -= 10
		why("a view")
	}
	if c.unread != "" {
		why("not sampled: %s", c.unread)
	}
	if c.Rows.Is == RowsExact && c.Rows.N == 0 {
		total -= 20
		why("no rows")
	}
	if !c.Newest.IsZero() && latest.Sub(c.Newest) > stale {
		total -= 15
		why("quiet since %s", c.Newest.Format("2006-01"))
	}
	c.Score = int(math.Round(max(0, min(100, total))))
}

// scoreName judges a candidate by its name and comment.
func (c *Candidate) scoreName(why func(string, ...any)) float64 {
	t := c.Table()
	name, comment := newLabel(t.Name[len(t.Name)-1]), commentLabel(mended(t.Comment))
	c.hint = 0
	total, said := 0.0, ""
	for _, l := range []struct {
		where string
		label label
	}{{"name", name}, {"comment", comment}} {
		s, by := l.label.says(tableWords, "exception")
		if s > c.hint {
			c.hint, said = s, fmt.Sprintf("its %s says %s", l.where, by)
		}
	}
	exit, by := name.says(tableWords, "exit")
	switch s, _ := comment.says(tableWords, "exit"); {
	case c.hint > 0:
		total += shareTable * (.6 + .4*c.hint)
		why("%s", said)
	case exit > 0 || s > 0:
		total += 8
		if by != "" {
			why("its name says %s", by)
		}
	}
	if s, by := name.says(tableWords, "other"); s > .5 {
		total -= 30
		why("its name says %s", by)
	}
	if len(c.members) > 1 {
		why("%d tables of one shape", len(c.members))
	}
	return total
}

// Counted takes the number of rows of [Candidate.Table], counted up to most.
func (c *Candidate) Counted(n, most int) {
	c.Rows = Rows{int64(n), RowsExact}
	if n >= most {
		c.Rows = Rows{int64(most - 1), RowsAtLeast}
	}
}

// Unread notes that no rows could be sampled.
func (c *Candidate) Unread(err error) { c.looked, c.unread = true, err.Error() }

// Looked reports whether rows of the candidate were asked for.
func (c *Candidate) Looked() bool { return c.looked }
