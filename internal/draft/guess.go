package draft

import (
	"cmp"
	"slices"
)

// The gate's fields that a column is looked for, the required ones first.
var guessed = []string{
	"plate", "operate_time", "reason", "operator", "parking_serial", "plate_color", "car_type", "enter_time", "leave_time",
}

// guess is a column that may fill a field.
type guess struct {
	column *column
	// score is how likely it is, 0 to 1; see [guess.sure] and [guess.likely].
	score float64
	// clock is the column with the time of day, where column has the date only.
	clock *column
	// borrowed tells that the column is another field's by its name.
	borrowed bool
}

const leastScore = .35

func (g *guess) sure() bool   { return g.score >= .85 }
func (g *guess) likely() bool { return g.score >= .6 }

// guessFields gives each field the column that fits it best; a column fills
// one field.
func guessFields(columns []*column) map[string]*guess {
	type pair struct {
		field string
		guess
	}
	var pairs []pair
	for _, field := range guessed {
		for _, c := range columns {
			if s := fit(field, c); s >= leastScore {
				pairs = append(pairs, pair{field, guess{column: c, score: s}})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(b.score, a.score) })
	out, taken := map[string]*guess{}, map[*column]bool{}
	for _, p := range pairs {
		if out[p.field] == nil && !taken[p.column] {
			out[p.field], taken[p.column] = &p.guess, true
		}
	}
	joinClocks(out, columns)
	borrowTime(out)
	return out
}

// timeFields are the fields that are times.
var timeFields = []string{"operate_time", "enter_time", "leave_time"}

// joinClocks puts the two halves of a time that is kept in two columns together.
func joinClocks(fields map[string]*guess, columns []*column) {
	for _, field := range timeFields {
		g := fields[field]
		if g == nil || !g.column.clock && !g.column.times.day {
			continue
		}
		if other := otherHalf(fields, columns, field); other != nil {
			g.clock = other
			if g.column.clock {
				g.column, g.clock = other, g.column
			}
			for _, f := range timeFields { // it was no time by itself
				if h := fields[f]; h != nil && h != g && h.clock == nil && (h.column == g.column || h.column == g.clock) {
					delete(fields, f)
				}
			}
		}
		if g.column.clock {
			delete(fields, field) // a time without a day
		}
	}
}

// otherHalf finds the column beside a field's that has the day for its time of
// day, or the other way round; of two, the one that is named for the field.
func otherHalf(fields map[string]*guess, columns []*column, field string) *column {
	half := fields[field].column
	var best *column
	most := -1.0
	for _, i := range []int{slices.Index(columns, half) + 1, slices.Index(columns, half) - 1} {
		if i < 0 || i >= len(columns) {
			continue
		}
		c := columns[i]
		fits := c.clock && half.times.day || c.times.day && half.clock
		joined := slices.ContainsFunc(timeFields, func(f string) bool {
			g := fields[f]
			return g != nil && g.clock != nil && (g.column == c || g.clock == c)
		})
		if named, _ := c.name.says(fieldWords, field); fits && !joined && c.textual() && half.textual() && named > most {
			best, most = c, named
		}
	}
	return best
}

// borrowTime fills the required operate_time from the leave time where no
// column is its own: the barrier is opened when the car leaves.
func borrowTime(fields map[string]*guess) {
	if fields["operate_time"] != nil {
		return
	}
	for _, name := range []string{"leave_time", "enter_time"} {
		if g := fields[name]; g != nil {
			fields["operate_time"] = &guess{column: g.column, clock: g.clock, score: leastScore, borrowed: true}
			return
		}
	}
}

// fit is how well a column fills a field, 0 to 1: by its name and comment,
// then by its type and what its values are.
func fit(field string, c *column) float64 {
	named, _ := c.name.says(fieldWords, field)
	commented, _ := c.comment.says(fieldWords, field)
	name := max(named, commented)
	if heavy(c.TableColumn) {
		return 0
	}
	switch field {
	case "plate":
		return fitPlate(name, c)
	case "operate_time", "enter_time", "leave_time":
		return fitTime(name, field, c)
	case "plate_color":
		return fitWords(name, c, colours)
	case "car_type":
		return fitWords(name, c, carTypes)
	}
	if c.temporal() || c.plates*2 > len(c.texts) && c.plates > 0 || c.times.fit > .5 && !c.integer() || c.clock {
		return 0
	}
	if field == "parking_serial" && len(c.texts) > 5 && len(enumeration(c.texts)) == 1 {
		return name * .5 // the same in every row
	}
	return name
}

func fitPlate(name float64, c *column) float64 {
	if !c.textual() && len(c.texts) == 0 || c.temporal() {
		return 0
	}
	if len(c.texts) == 0 {
		return name * .8
	}
	switch share := float64(c.plates) / float64(len(c.texts)); {
	case share >= .5:
		return min(1, max(name, .6)+.4*share)
	case c.plates+c.noPlates > 0:
		return name
	}
	return name * .5
}

func fitTime(name float64, field string, c *column) float64 {
	switch {
	case c.clock:
		return name * .9 // half a time
	case len(c.values) == 0:
		if !c.temporal() && !c.textual() && !c.integer() {
			return 0
		}
		if !c.temporal() {
			name *= .8
		}
		return name
	case c.times.fit < .5:
		return 0
	case name == 0 && field == "operate_time" && !c.integer():
		return leastScore // it is a time, and the field must have one
	case name == 0:
		return 0
	}
	return min(1, name+.05*c.times.fit)
}

// fitWords is for a column of few words that can be told by their meaning.
func fitWords(name float64, c *column, meanings []meaning) float64 {
	if c.temporal() {
		return 0
	}
	if len(c.texts) == 0 {
		return name * .8
	}
	words := enumeration(c.texts)
	if words == nil {
		return name * .4
	}
	known := 0
	for _, w := range words {
		if mean(meanings, w) != "" {
			known++
		}
	}
	if share := float64(known) / float64(len(words)); share >= .5 {
		return min(1, max(name, .5)+.3*share)
	}
	return name * .9
}
