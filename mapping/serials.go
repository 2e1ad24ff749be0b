package mapping

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Times kept as a number, beside patterns of digits such as yyyyMMddHHmmss.
const (
	formatUnix   = "unix"         // seconds since 1970 UTC
	formatUnixMS = "unix_ms"      // milliseconds since 1970 UTC
	formatTicks  = "dotnet_ticks" // 100 ns since 0001-01-01, wall time: .NET's DateTime.Ticks
	formatOLE    = "ole"          // days since 1899-12-30, wall time: Access, Delphi, VB, OLE Automation
	formatExcel  = "excel"        // the same as Excel counts it
	formatJulian = "julian"       // Julian day, UTC: SQLite's julianday()
)

var numericFormats = []string{formatUnix, formatUnixMS, formatTicks, formatOLE, formatExcel, formatJulian}

// number is a decimal number: its sign, the digits before the point, and those
// behind it, cut at nine.
type number struct {
	sign        int64
	whole, nano int64
}

// parseNumber reads digits with an optional sign and fraction. There are no
// exponents: floats arrive without.
func parseNumber(s string) (n number, ok bool) {
	n.sign = 1
	if rest, minus := strings.CutPrefix(s, "-"); minus {
		n.sign, s = -1, rest
	}
	whole, fraction, point := strings.Cut(s, ".")
	if whole == "" || (point && fraction == "") || strings.Trim(whole+fraction, "0123456789") != "" {
		return n, false
	}
	var err error
	if n.whole, err = strconv.ParseInt(whole, 10, 64); err != nil {
		return n, false
	}
	n.nano, err = strconv.ParseInt(clip(fraction+"000000000", 9), 10, 64)
	return n, err == nil
}

// parseSerial reads a time kept as a number. Forms that count wall time are in
// loc, by its rules for hours that clocks skip or repeat.
func (f timeFormat) parseSerial(s string, loc *time.Location) (time.Time, error) {
	n, ok := parseNumber(s)
	if !ok {
		return time.Time{}, errNoMatch
	}
	var t time.Time
	wall := false
	days, _ := strconv.ParseFloat(s, 64) // digits always parse
	switch f.name {
	case formatUnix:
		t = time.Unix(n.sign*min(n.whole, farSeconds), n.sign*n.nano)
	case formatUnixMS:
		t = time.UnixMilli(n.sign * n.whole).Add(time.Duration(n.sign * n.nano / 1e3))
	case formatTicks:
		const epoch = 62135596800 // seconds from 0001-01-01 to 1970-01-01
		t, wall = time.Unix(n.sign*n.whole/1e7-epoch, n.sign*n.whole%1e7*100).UTC(), true
	case formatJulian:
		// A double holds a Julian day to about 40 µs.
		t = time.UnixMilli(int64(math.Round((within(days, farDays) - 2440587.5) * 86400e3)))
	default:
		t, wall = dayOf(within(days, farDays), f.name == formatExcel), true
	}
	if wall {
		return reading(t, loc, s, f.name)
	}
	t = t.In(loc)
	return t, plausible(t, s, f.name)
}

// Beyond these lies no year that package time would know as one.
const farSeconds, farDays = 1e15, 1e7

func within(n, most float64) float64 { return max(-most, min(n, most)) }

// dayOf gives the wall time of a count of days, rounded to the millisecond: a
// double holds it to about a microsecond, so that 10:00:00 comes out as such.
// The fraction is the time of day also where days are negative.
//
// Excel counts a 29 February 1900 that never was, as Lotus 1-2-3 did. So its
// numbers below 60 are a day off; from 61 on, and so for every time that is no
// placeholder, they are OLE's.
func dayOf(days float64, excel bool) time.Time {
	whole, fraction := math.Modf(days)
	if excel && days < 60 {
		whole++
	}
	wall := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(whole))
	return wall.Add(time.Duration(math.Round(math.Abs(fraction)*86400e3)) * time.Millisecond)
}
