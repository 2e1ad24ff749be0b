package draft

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"parkbridge/sources"
)

// A month or a year in a table's name.
var (
	monthOfYear = pattern(`^(.*?)(20\d\d)([-_]?)(0[1-9]|1[0-2])(\D*)$`)
	yearOnly    = pattern(`^(.*?)(20\d\d)(\D*)$`)
	monthOnly   = pattern(`^(.*\D)(0[1-9]|1[0-2]|[1-9])(\D*)$`)
)

// period is a table's place in a series of tables of one shape.
type period struct {
	pattern string // the series' name, such as out_{yyyyMM}
	order   int    // grows with time
	wraps   bool   // by month alone, so that a year later the table is filled again
}

// periods lists what a name may be a member of, the surest first.
func periods(name string) []period {
	var out []period
	if m := monthOfYear().FindStringSubmatch(name); m != nil && !endsInDigit(m[1]) {
		letters := "{yyyyMM}"
		if m[3] != "" {
			letters = "{yyyy}" + m[3] + "{MM}"
		}
		out = append(out, period{pattern: m[1] + letters + m[5], order: number(m[2])*100 + number(m[4])})
	} else if m := yearOnly().FindStringSubmatch(name); m != nil && !endsInDigit(m[1]) {
		out = append(out, period{pattern: m[1] + "{yyyy}" + m[3], order: number(m[2])})
	} else if m := monthOnly().FindStringSubmatch(name); m != nil {
		letters := []string{"{MM}", "{M}"}
		switch {
		case m[2][0] == '0':
			letters = letters[:1]
		case len(m[2]) == 1:
			letters = letters[1:]
		}
		for _, l := range letters { // 10, 11 and 12 are both
			out = append(out, period{m[1] + l + m[3], number(m[2]), true})
		}
	}
	return out
}

func endsInDigit(s string) bool { return s != "" && s[len(s)-1] >= '0' && s[len(s)-1] <= '9' }

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err) // the pattern has digits only
	}
	return n
}

// member is a table in a series.
type member struct {
	table sources.Table
	order int
}

// grouped makes a candidate of each table, and one of all tables of a series.
// A series by month alone needs all twelve of them; one that names its year is
// a series from its first table on. today tells which member of a series that
// wraps is the newest.
func grouped(tables []sources.Table, today time.Time) []*Candidate {
	series := map[string][]member{}
	wraps := map[string]bool{}
	for _, t := range tables {
		for _, p := range periods(t.Name[len(t.Name)-1]) {
			parts := append(slices.Clone(t.Name[:len(t.Name)-1]), p.pattern)
			name := (&sources.Table{Name: parts}).String() + " " + shape(t)
			series[name] = append(series[name], member{t, p.order})
			wraps[name] = p.wraps
		}
	}
	taken := map[string]bool{}
	var out []*Candidate
	for name, members := range series {
		if wraps[name] && len(members) < 12 {
			continue
		}
		c := &Candidate{Wraps: wraps[name], members: members}
		c.Name, _, _ = strings.Cut(name, " "+shape(members[0].table))
		c.sortMembers(today)
		for _, m := range members {
			taken[m.table.String()] = true
		}
		out = append(out, c)
	}
	for _, t := range tables {
		if !taken[t.String()] {
			out = append(out, &Candidate{Name: t.String(), members: []member{{table: t}}})
		}
	}
	for _, c := range out {
		c.use(0)
	}
	return out
}

// shape tells tables of other columns apart.
func shape(t sources.Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = strings.ToLower(c.Name)
	}
	return fmt.Sprintf("%t %q", t.View, names)
}

// sortMembers puts the newest first: that of this month or year, then those
// before it, and last those made ahead of their time.
func (c *Candidate) sortMembers(today time.Time) {
	now := today.Year()*100 + int(today.Month())
	if strings.Contains(c.Name, "{yyyy}") && !strings.Contains(c.Name, "{MM}") {
		now = today.Year()
	}
	if c.Wraps {
		now = int(today.Month())
	}
	rank := func(m member) int {
		if m.order > now {
			return m.order - 1e6
		}
		return m.order
	}
	slices.SortFunc(c.members, func(a, b member) int { return cmp.Compare(rank(b), rank(a)) })
}
