package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	prettytext "github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"parkbridge/internal/ledger"
)

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// tty reports whether a writer is a terminal, where colour and width make sense.
func tty(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// grid is a plain table: aligned by display width, so that Chinese text lines
// up, with colour only on a terminal.
type grid struct {
	w      table.Writer
	colour bool
}

func (a *app) table(header ...any) *grid {
	g := &grid{w: table.NewWriter()}
	_, g.colour = tty(a.stdout)
	g.colour = g.colour && os.Getenv("NO_COLOR") == ""
	g.w.SetOutputMirror(a.stdout)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = prettytext.FormatDefault
	g.w.SetStyle(style)
	g.w.SuppressTrailingSpaces()
	var columns []table.ColumnConfig
	for i, h := range header {
		// A header that begins with > is that of a column of numbers.
		if name, right := strings.CutPrefix(fmt.Sprint(h), ">"); right {
			header[i] = name
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: prettytext.AlignRight, AlignHeader: prettytext.AlignRight})
		}
	}
	g.w.SetColumnConfigs(columns)
	g.w.AppendHeader(table.Row(header))
	return g
}

func (g *grid) row(cells ...any) { g.w.AppendRow(table.Row(cells)) }

func (g *grid) print() { g.w.Render() }

var colours = map[string]prettytext.Colors{
	"red": {prettytext.FgRed}, "yellow": {prettytext.FgYellow}, "green": {prettytext.FgGreen},
}

func (g *grid) paint(s, colour string) string {
	if !g.colour {
		return s
	}
	return colours[colour].EscapeSeq() + s + prettytext.Reset.EscapeSeq()
}

// count shows a number, in colour where it is not zero.
func (g *grid) count(n int, colour string) any {
	if n == 0 {
		return 0
	}
	return g.paint(strconv.Itoa(n), colour)
}

// state shows a record's state in its colour.
func (g *grid) state(s string) string {
	switch s {
	case ledger.Delivered:
		return g.paint(s, "green")
	case ledger.Pending:
		return g.paint(s, "yellow")
	case ledger.Rejected, ledger.Invalid:
		return g.paint(s, "red")
	}
	return s
}

// ago shows a time as a person says it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if s := humanize.Time(t); s != "now" {
		return s
	}
	return "just now"
}

func took(r ledger.Run) string {
	if r.FinishedAt.IsZero() {
		return "running"
	}
	return r.FinishedAt.Sub(r.StartedAt).Round(10 * time.Millisecond).String()
}

// clip cuts a text that is too long for a table.
func clip(s string, width int) string { return prettytext.Snip(s, width, "…") }

// text gives a JSON string, or null for an empty one.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// when gives a JSON time in UTC, or null for none.
func when(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return text(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

func (a *app) line(label string, value any) { fmt.Fprintf(a.stdout, "%-16s %v\n", label, value) }

// localTime shows a time by this machine's clock, with its offset.
func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 -07:00") + " (" + ago(t) + ")"
}

// pad fills a text up to a width on the screen.
func pad(s string, width int) string { return prettytext.Pad(s, width, ' ') }

func zeroEmpty(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
