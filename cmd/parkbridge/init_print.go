package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"parkbridge/internal/draft"
)

// initShown is how many candidates are shown at the most.
const initShown = 10

func (a *app) printCandidates(to io.Writer, all []*draft.Candidate) {
	t := (&app{stdout: to}).table("CANDIDATE", ">SCORE", ">ROWS", "NEWEST", "WHY")
	shown := 0
	for _, c := range all {
		if shown == initShown || c.Score == 0 && all[0].Score > 0 {
			break
		}
		shown++
		newest := "-"
		if !c.Newest.IsZero() {
			newest = c.Newest.Format("2006-01-02 15:04")
		}
		t.row(c.Name, c.Score, c.Rows, newest, clip(strings.Join(c.Why, "; "), 120))
	}
	t.print()
	if len(all) > shown {
		fmt.Fprintf(to, "… and %d more, less likely.\n", len(all)-shown)
	}
}

// printDraft says what was written and what is to be done next.
func printDraft(to io.Writer, o initOptions, table string, decisions []draft.Decision, vars []string) {
	file, command := o.out, "parkbridge check"
	switch file {
	case "-":
		file = "the config"
	case "config.yaml":
	default:
		command += " -c " + file
	}
	fmt.Fprintf(to, "\nWrote %s for %s.", file, table)
	switch len(decisions) {
	case 0:
		fmt.Fprintln(to, " Nothing in it is left to decide.")
	case 1:
		fmt.Fprintln(to, " One line of it is for a person to decide:")
	default:
		fmt.Fprintf(to, " %d lines of it are for a person to decide:\n", len(decisions))
	}
	for _, d := range decisions {
		fmt.Fprintf(to, "  line %d: %s\n", d.Line, d.Text)
	}
	if len(vars) > 0 {
		fmt.Fprintf(to, "\nIt names variables that are not set here: %s. Set each for every account that runs parkbridge:\n", strings.Join(vars, ", "))
		lines := []string{
			"  Linux    export NAME='VALUE'",
			`  Windows  setx NAME "VALUE", then open a new window; setx /M for tasks of other accounts`,
		}
		if runtime.GOOS == "windows" {
			slices.Reverse(lines)
		}
		fmt.Fprintln(to, strings.Join(lines, "\n"))
		if o.dsn != "" && slices.Contains(vars, "PARKBRIDGE_DSN") || o.dsnEnv != "" && slices.Contains(vars, o.dsnEnv) {
			fmt.Fprintln(to, "The DSN's value is the text that --dsn had; a file of its own, named by dsn_file, does as well.")
		}
	}
	fmt.Fprintf(to, "\nNext: %s\n", command)
}

type initJSON struct {
	Candidates []candidateJSON  `json:"candidates"`
	Table      *string          `json:"table"`
	File       *string          `json:"file"`
	Decide     []draft.Decision `json:"decide"`
	Unset      []string         `json:"unset"`
}

type candidateJSON struct {
	Table   string   `json:"table"`
	Tables  int      `json:"tables"`
	Score   int      `json:"score"`
	Rows    *int64   `json:"rows"`
	RowsAre string   `json:"rows_are"`
	Newest  *string  `json:"newest"`
	Why     []string `json:"why"`
}

func candidatesJSON(all []*draft.Candidate) []candidateJSON {
	out := []candidateJSON{}
	for _, c := range all {
		j := candidateJSON{Table: c.Name, Tables: c.Members(), Score: c.Score, RowsAre: string(c.Rows.Is), Newest: when(c.Newest), Why: c.Why}
		if c.Rows.Is != draft.RowsUnknown {
			j.Rows = &c.Rows.N
		}
		out = append(out, j)
	}
	return out
}
