package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// results are what one call of the command found, and where.
type results struct {
	At      time.Time `json:"at"`
	Command string    `json:"command"`
	Commit  string    `json:"commit"`
	Go      string    `json:"go"`
	System  string    `json:"system"`
	CPU     string    `json:"cpu"`
	Cores   int       `json:"cores"`
	Memory  string    `json:"memory"`
	Runs    []carried `json:"runs,omitempty"`
	Figures []figure  `json:"figures,omitempty"`

	printed bytes.Buffer
}

// figure is one measured thing of a scenario, with all that was measured of it.
type figure struct {
	Scenario string    `json:"scenario"`
	What     string    `json:"what"`
	Unit     string    `json:"unit"`
	Values   []float64 `json:"values"`
}

func newResults(ctx context.Context, args []string) results {
	return results{
		At: time.Now().UTC().Truncate(time.Second), Command: "bench " + strings.Join(args, " "), Commit: output(ctx, "git", "describe", "--always", "--dirty"),
		Go: runtime.Version(), System: output(ctx, "uname", "-srm"), CPU: line("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(),
		Memory: line("/proc/meminfo", "MemTotal"),
	}
}

func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "not known"
	}
	return strings.TrimSpace(string(out))
}

// line gives what a file of /proc says of a name.
func line(file, name string) string {
	content, _ := os.ReadFile(file) // not on every system
	for l := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(l, name); ok {
			return strings.TrimLeft(strings.TrimSpace(rest), ": \t")
		}
	}
	return "not known"
}

func (r *results) head(w io.Writer) {
	fmt.Fprintf(io.MultiWriter(w, &r.printed), "%s, commit %s, %s, %s, %s, %d cores, %s\n%s\n", r.At.Format(time.RFC3339), r.Commit, r.Go, r.System, r.CPU, r.Cores,
		r.Memory, r.Command)
}

// print shows a table, and keeps it for the file.
func (r *results) print(w io.Writer, t *tableText) {
	fmt.Fprintf(io.MultiWriter(w, &r.printed), "\n%s\n%s\n", t.title, t.Render())
}

// note keeps what was measured of one thing, for the file.
func (r *results) note(scenario, what, unit string, values []float64) {
	r.Figures = append(r.Figures, figure{scenario, what, unit, values})
}

// write stores everything as text and as JSON.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, r.At.Format("20060102T150405Z")+"-"+r.Commit)
	if err := os.WriteFile(name+".json", data, 0o644); err != nil {
		return err
	}
	fmt.Printf("\nstored as %s.txt and .json\n", name)
	return os.WriteFile(name+".txt", r.printed.Bytes(), 0o644)
}

type tableText struct {
	table.Writer
	title string
}

func newTable(title string, head ...any) *tableText {
	t := &tableText{table.NewWriter(), title}
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(head)
	return t
}

func (t *tableText) row(cells ...any) { t.AppendRow(cells) }

// spread shows a median with the smallest and the largest value.
func spread(values []float64, digits int) string {
	if len(values) == 1 {
		return fmt.Sprintf("%.*f", digits, values[0])
	}
	return fmt.Sprintf("%.*f (%.*f-%.*f)", digits, quantile(values, 0.5), digits, slices.Min(values), digits, slices.Max(values))
}

// quantile of values; the median is the mean of the middle two where there are two.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low, high := sorted[int(math.Floor(at))], sorted[int(math.Ceil(at))]
	return low + (high-low)*(at-math.Floor(at))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
