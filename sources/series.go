package sources

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// WrapYear is the value of [Config].Wrap for tables that are named by their month
// alone, and emptied and filled again each year.
const WrapYear = "year"

// Period is the month, or the year, that a table of a series is for.
type Period struct {
	Year  int
	Month time.Month // 0: the whole year
}

// String is yyyyMM or, of a year, yyyy. Of one series they sort as they follow
// one another. The zero Period is "".
func (p Period) String() string {
	switch {
	case p == Period{}:
		return ""
	case p.Month == 0:
		return fmt.Sprintf("%04d", p.Year)
	}
	return fmt.Sprintf("%04d%02d", p.Year, p.Month)
}

// ParsePeriod reads what [Period.String] wrote.
func ParsePeriod(s string) (Period, error) {
	var p Period
	layout, ok := map[int]string{0: "", 4: "2006", 6: "200601"}[len(s)]
	t, err := time.Parse(layout, s)
	switch {
	case !ok || err != nil:
		return p, fmt.Errorf("%q is no period", s)
	case s != "":
		p.Year = t.Year()
	}
	if len(s) == 6 {
		p.Month = t.Month()
	}
	return p, nil
}

// Before reports whether a period comes before another of the same series.
func (p Period) Before(q Period) bool {
	return p.Year < q.Year || p.Year == q.Year && p.Month < q.Month
}

// Begin is its first moment by the clocks of a zone, and End that of the next.
func (p Period) Begin(zone *time.Location) time.Time {
	return time.Date(p.Year, max(p.Month, 1), 1, 0, 0, 0, 0, zone)
}

// End is the first moment after it.
func (p Period) End(zone *time.Location) time.Time {
	if p.Month == 0 {
		return p.Begin(zone).AddDate(1, 0, 0)
	}
	return p.Begin(zone).AddDate(0, 1, 0)
}

// YearBefore is the period a year earlier, which the same table of a series that
// wraps was for.
func (p Period) YearBefore() Period { return Period{p.Year - 1, p.Month} }

// Series is a table's name with a period in it, such as out_{yyyyMM}: one table
// for each month or year.
type Series struct {
	// Pattern is the name as `table:` has it.
	Pattern string
	// Wraps tells that a name has a month and no year: the same twelve tables are
	// filled again each year.
	Wraps  bool
	months bool     // else years
	schema []string // the name's parts before the table's own
	parts  []string // of the table's own name, text and placeholders in turn
	names  *regexp.Regexp
}

// placeholder is a period in a name, and what it stands for there.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// digits are the patterns of what a placeholder stands for.
var digits = map[string]string{
	"{yyyyMM}": `(?P<year>[12]\d{3})(?P<month>0[1-9]|1[0-2])`,
	"{yyyy}":   `(?P<year>[12]\d{3})`,
	"{MM}":     `(?P<month>0[1-9]|1[0-2])`,
	"{M}":      `(?P<month>1[0-2]|[1-9])`,
}

// seriesError is what is wrong with a name, and the config key it is about.
type seriesError struct{ key, problem string }

func (e *seriesError) Error() string { return e.problem }

// ParseSeries reads a table's name and wrap; nil for a name without a period.
func ParseSeries(table, wrap string) (*Series, error) {
	fail := func(key, problem string, args ...any) (*Series, error) {
		return nil, &seriesError{key, fmt.Sprintf(problem, args...)}
	}
	if wrap != "" && wrap != WrapYear {
		return fail("wrap", "%q is not known; it is for tables that are emptied and filled again each year, and must be year", wrap)
	}
	if !strings.ContainsAny(table, "{}") {
		if wrap != "" {
			return fail("wrap", "is for tables that are named by their month; let table say where it stands, such as OutList{MM} or OutList{M}")
		}
		return nil, nil //nolint:nilnil // it is no series
	}
	name := splitName(table)
	own := name[len(name)-1]
	s := &Series{Pattern: table, schema: name[:len(name)-1]}
	if len(s.schema) > 1 {
		return fail("table", "%q: the tables of a series are those of the database that dsn names, so no more than their schema can stand before the dot", table)
	}
	if strings.ContainsAny(strings.Join(s.schema, ""), "{}") {
		return fail("table", "%q: a period can only stand in the table's own name, not in that of its schema", table)
	}
	if rest := placeholder.ReplaceAllString(own, ""); strings.ContainsAny(rest, "{}") {
		return fail("table", "%q has a brace without its other half", table)
	}
	count := map[string]int{}
	pattern, at := "(?i)^", 0
	for _, span := range placeholder.FindAllStringIndex(own, -1) {
		text, letters := own[at:span[0]], own[span[0]:span[1]]
		if digits[letters] == "" {
			return fail("table", "%q: %s is no period; known are {yyyyMM}, {yyyy}, {yyyy} with {MM}, and with wrap: year {MM} or {M}", table, letters)
		}
		s.parts = append(s.parts, text, letters)
		pattern += regexp.QuoteMeta(text) + digits[letters]
		count[strings.Trim(strings.Replace(letters, "{M}", "{MM}", 1), "{}")]++
		at = span[1]
	}
	s.parts = append(s.parts, own[at:])
	years, months := count["yyyy"]+count["yyyyMM"], count["MM"]+count["yyyyMM"]
	s.months, s.Wraps = months > 0, wrap != ""
	switch {
	case years > 1 || months > 1:
		return fail("table", "%q names its period twice; keep one of {yyyyMM}, {yyyy}, {yyyy} with {MM}, or with wrap: year {MM} or {M}", table)
	case years > 0 && s.Wraps:
		return fail("wrap", "is for tables that are filled again each year, and the name %q has its year: take wrap away", table)
	case years == 0 && !s.Wraps:
		return fail("table", "%q has a month and no year, so it names the same tables each year: say wrap: year if they are emptied and filled again, else put the year into the name, such as {yyyyMM}", table)
	}
	var err error
	if s.names, err = regexp.Compile(pattern + regexp.QuoteMeta(own[at:]) + "$"); err != nil {
		return fail("table", "%q: %v", table, err)
	}
	return s, nil
}

// Table is the name of the table for a period, as `table:` takes it.
func (s *Series) Table(p Period) string { return s.whole(s.own(p)) }

// whole is a table's name with that of its schema.
func (s *Series) whole(own string) string {
	t := Table{Name: append(append([]string{}, s.schema...), own)}
	return t.String()
}

func (s *Series) own(p Period) string {
	var b strings.Builder
	for _, part := range s.parts {
		switch part {
		case "{yyyyMM}":
			fmt.Fprintf(&b, "%04d%02d", p.Year, p.Month)
		case "{yyyy}":
			fmt.Fprintf(&b, "%04d", p.Year)
		case "{MM}":
			fmt.Fprintf(&b, "%02d", p.Month)
		case "{M}":
			fmt.Fprintf(&b, "%d", p.Month)
		default:
			b.WriteString(part)
		}
	}
	return b.String()
}

// match is the period that a table's own name has, without its year where the
// series wraps; ok is false for the name of another table.
func (s *Series) match(own string) (p Period, ok bool) {
	found := s.names.FindStringSubmatch(own)
	if found == nil {
		return p, false
	}
	for i, name := range s.names.SubexpNames() {
		n := 0
		if _, err := fmt.Sscan(strings.TrimLeft(found[i], "0"), &n); err != nil {
			continue // the whole, which is no number
		}
		switch name {
		case "year":
			p.Year = n
		case "month":
			p.Month = time.Month(n)
		}
	}
	return p, true
}

// Named is the period of a table of the series, by its name; ok is false where the
// name alone does not tell.
func (s *Series) Named(table string) (p Period, ok bool) {
	name := splitName(table)
	p, ok = s.match(name[len(name)-1])
	return p, ok && !s.Wraps
}

// At is the period of a moment by the clocks of a zone.
func (s *Series) At(t time.Time, zone *time.Location) Period {
	t = t.In(zone)
	if s.months {
		return Period{t.Year(), t.Month()}
	}
	return Period{Year: t.Year()}
}

// Members are the tables of some names in order of their periods at a moment, by
// the clocks of a zone; those that are made ahead of their time too.
func (s *Series) Members(names []string, now time.Time, zone *time.Location) []Member {
	current := s.At(now, zone)
	byPeriod := map[Period]string{}
	for _, name := range names {
		p, ok := s.match(name)
		if !ok {
			continue
		}
		p = s.role(p, current)
		// Of two that differ in case alone, the one that is as it is written.
		if _, twice := byPeriod[p]; !twice || name == s.own(p) {
			byPeriod[p] = name
		}
	}
	var members []Member
	for p, name := range byPeriod {
		members = append(members, Member{s.whole(name), p})
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Period.String(), b.Period.String()) })
	return members
}

// Upto are the members that are for a period or an earlier one.
func Upto(members []Member, current Period) []Member {
	i := slices.IndexFunc(members, func(m Member) bool { return current.Before(m.Period) })
	if i < 0 {
		return members
	}
	return members[:i]
}

// role is the period that a table is for at a moment, of whose period now is: in
// a series that wraps the last one of its month, else that of its name.
func (s *Series) role(named, now Period) Period {
	if !s.Wraps {
		return named
	}
	named.Year = now.Year
	if now.Before(named) {
		return named.YearBefore()
	}
	return named
}

// asSeriesError gives the config key of a mistake in a series' name.
func asSeriesError(err error) (key, problem string, ok bool) {
	e, ok := errors.AsType[*seriesError](err)
	if !ok {
		return "", "", false
	}
	return e.key, e.problem, true
}
