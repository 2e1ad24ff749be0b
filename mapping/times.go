package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // booth PCs, Windows above all, have no zone database

	"parkbridge/sources"
)

// Times outside these years are placeholders, not times: 1900 and 1970 mean
// "none" in one system or another, 9999 "not yet". What lies ahead within them
// is bounded by [Settings].MaxFuture.
const firstYear, lastYear = 2000, 2099

// resolve gives the instant at which clocks in loc show the wall time. In an
// overlap hour it is the earlier one; in a gap there is none, and ok is false.
func resolve(wall time.Time, loc *time.Location) (found time.Time, ok bool) {
	for _, d := range []time.Duration{-25 * time.Hour, 25 * time.Hour} {
		_, offset := wall.Add(d).In(loc).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		if sameWall(t, wall) && (!ok || t.Before(found)) {
			found, ok = t, true
		}
	}
	return found, ok
}

// locate is resolve for the value s, read by form; "" means as the database
// gave it.
func locate(wall time.Time, loc *time.Location, s, form string) (time.Time, error) {
	t, ok := resolve(wall, loc)
	if !ok {
		return t, gapError{fmt.Sprintf("%s did not exist in %s: clocks were put forward over it", meaning(s, form, wall), loc)}
	}
	return t, nil
}

// reading is locate for times that are no placeholders.
func reading(wall time.Time, loc *time.Location, s, form string) (time.Time, error) {
	if err := plausible(wall, s, form); err != nil { // before the zone is asked: a placeholder may stand in a gap
		return wall, err
	}
	return locate(wall, loc, s, form)
}

func sameWall(a, b time.Time) bool {
	_, ao := a.Zone()
	_, bo := b.Zone()
	return a.Add(time.Duration(ao) * time.Second).UTC().Equal(b.Add(time.Duration(bo) * time.Second).UTC())
}

// wallText shows a time as the clock on the wall does, with milliseconds only
// where it has a fraction.
func wallText(t time.Time) string { return t.Format("2006-01-02 15:04:05.999") }

// gateText is the gate's form: UTC, whole seconds where the source has whole
// seconds, milliseconds (cut, not rounded) where it has more.
func gateText(t time.Time) string {
	if t.Nanosecond() == 0 {
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// gapError is a wall time that clocks were put forward over.
type gapError struct{ text string }

func (e gapError) Error() string { return e.text }

// errNoMatch is text that does not have the form it was tried by.
var errNoMatch = errors.New("does not have the format")

// quoted shows a value in a message; a long one is cut.
func quoted(s string) string {
	const most = 40
	if runes := []rune(s); len(runes) > most {
		return strconv.Quote(string(runes[:most])) + "…"
	}
	return strconv.Quote(s)
}

// meaning begins a sentence about a value, with the time it stands for by the
// form where that does not show.
func meaning(s, form string, t time.Time) string {
	text := quoted(s)
	if s == wallText(t) {
		return text
	}
	if form != "" {
		text += " by " + form
	}
	if year := t.Year(); year < 1 || year > 9999 {
		return text
	}
	return text + " is " + wallText(t) + " and"
}

// plausible refuses placeholders.
func plausible(t time.Time, s, form string) error {
	var where string
	switch y := t.Year(); {
	case y < firstYear:
		where = fmt.Sprintf("before the year %d", firstYear)
	case y > lastYear:
		where = fmt.Sprintf("after the year %d", lastYear)
	default:
		return nil
	}
	what := "a placeholder, not a time"
	if form != "" {
		what = "a placeholder, or not of this form"
	}
	return fmt.Errorf("%s lies %s: %s", meaning(s, form, t), where, what)
}

// future refuses a time that lies further ahead of the moment the row was read
// than the source allows; a zero now is not known, and refuses nothing.
func (r *rule) future(t, now time.Time, v sources.Value, text string) error {
	if now.IsZero() || r.maxFuture == 0 || !t.After(now.Add(r.maxFuture)) {
		return nil
	}
	if text == "" {
		text = v.Text
	}
	return fmt.Errorf("%s lies more than %s after the row was read at %s; check the clock that wrote it, or raise the source's max_future%s",
		meaning(text, "", t.In(r.loc)), sources.ShortDuration(r.maxFuture), now.In(r.loc).Format("2006-01-02 15:04:05"), r.orOmit())
}

// advised adds to a problem with a time what can be done about it.
func (r *rule) advised(err error) error {
	if err == nil {
		return nil
	}
	advice := "; mend the row"
	switch {
	case errors.As(err, new(gapError)):
		advice += " or the rule's timezone"
	case len(r.formats) > 0:
		advice += " or the rule's format"
	}
	return fmt.Errorf("%w%s%s", err, advice, r.orOmit())
}

// orOmit is the last thing that can be done about a time of an optional field.
func (r *rule) orOmit() string {
	if r.field.Kind == KindTime && !r.field.Required {
		return ", or leave such times out with invalid: omit"
	}
	return ""
}

// moment is a date-time of the database in the rule's zone, whatever its year.
func (r *rule) moment(v sources.Value) (time.Time, error) {
	switch v.Kind {
	case sources.Time:
		t, err := v.Instant()
		return t.In(r.loc), err
	case sources.Local:
		wall, err := v.Wall()
		if err != nil {
			return wall, err
		}
		return locate(wall, r.loc, v.Text, "")
	default:
		return time.Time{}, fmt.Errorf("%s is not a date", quoted(v.Text))
	}
}

// instant reads a date-time of the database.
func (r *rule) instant(v sources.Value) (time.Time, error) {
	if wall, err := v.Wall(); v.Kind == sources.Local && err == nil {
		t, err := reading(wall, r.loc, v.Text, "")
		return t, r.advised(err)
	}
	t, err := r.moment(v)
	if err == nil {
		err = plausible(t, v.Text, "")
	}
	return t, r.advised(err)
}

// parseTime reads a time from text by the rule's formats, the first that fits.
// number tells that the database gave a number.
func (r *rule) parseTime(s string, number bool) (time.Time, error) {
	if len(r.formats) == 0 {
		if number {
			return time.Time{}, fmt.Errorf("%s is a number; give the rule a format: %s, or a pattern such as yyyyMMddHHmmss", quoted(s), strings.Join(numericFormats, ", "))
		}
		t, err := r.iso(s)
		if errors.Is(err, errNoMatch) {
			return t, fmt.Errorf("%s is not yyyy-MM-dd HH:mm:ss; give the rule the format it has", quoted(s))
		}
		return t, r.advised(err)
	}
	var first error
	for _, f := range r.formats {
		loc := r.loc
		if f.utc && r.Timezone == "" {
			loc = time.UTC
		}
		t, err := f.parse(s, number, loc)
		if err == nil {
			return t, nil
		}
		if first == nil || errors.Is(first, errNoMatch) {
			first = err
		}
	}
	if errors.Is(first, errNoMatch) {
		var names []string
		for _, f := range r.formats {
			names = append(names, f.described())
		}
		first = fmt.Errorf("%s does not have the format %s", quoted(s), strings.Join(names, " or "))
	}
	return time.Time{}, r.advised(first)
}

// iso reads yyyy-MM-dd HH:mm:ss, with T or a space, with or without a fraction
// and a zone.
func (r *rule) iso(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, plausible(t, s, "")
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if wall, err := time.Parse(layout, s); err == nil {
			return reading(wall, r.loc, s, "")
		}
	}
	return time.Time{}, errNoMatch
}
