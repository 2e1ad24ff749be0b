package sqlite

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"parkbridge/sources"
)

// About implements [sources.Inspector]. A file has no accounts and no clock;
// what counts is what this program may do to it, which it opens read-only.
func (d *db) About(ctx context.Context, _ []string) (sources.About, error) {
	var a sources.About
	if risk, is := d.walRisk(); is {
		a.Risks = append(a.Risks, risk)
	}
	a.Notes = append(a.Notes, "opened read-only")
	if may, known := sources.MayWrite(d.path); may && known {
		a.Notes = append(a.Notes, "this account could write to the file, which parkbridge does not need")
	}
	var version string
	err := d.pool.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	a.Version = "SQLite " + version
	return a, classed(err)
}

// walRisk tells of a file in WAL mode whose side files this account may not make.
// SQLite itself could not say so, for it cannot read such a file.
func (d *db) walRisk() (sources.Risk, bool) {
	folder, name := filepath.Dir(d.path), filepath.Base(d.path)
	may, known := sources.MayWrite(folder)
	if may || !known || !writeAhead(d.path) {
		return sources.Risk{}, false
	}
	return sources.Risk{
		Found: fmt.Sprintf("the file is in WAL mode and this account may make no files in %s, so it can be read only while the parking system has it open", folder),
		Do:    fmt.Sprintf("let this account make files in that folder (parkbridge leaves none but %[1]s-shm and %[1]s-wal, which SQLite needs), or run parkbridge as the account that the parking system runs as", name),
	}, true
}

// writeAhead tells from the file's header whether it is in WAL mode: bytes 18 and
// 19 are 2 then (https://www.sqlite.org/fileformat.html).
func writeAhead(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 20)
	_, err = io.ReadFull(f, head) // an empty file is an empty database
	return err == nil && head[18] == 2
}

// Plan implements [sources.Inspector]. SQLite gives no estimate of rows.
func (d *db) Plan(ctx context.Context, query string, args []any) (sources.Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	plan := sources.Plan{Rows: -1}
	rows, err := d.pool.QueryContext(ctx, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		return plan, classed(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			return plan, classed(err)
		}
		steps = append(steps, step)
	}
	plan.Steps = strings.Join(steps, "; ")
	plan.Seek, plan.Sorts = readSteps(steps)
	return plan, classed(rows.Err())
}

// readSteps reads the output of EXPLAIN QUERY PLAN (https://www.sqlite.org/eqp.html):
// SEARCH visits some rows of an index, SCAN all of them; a sort of the RIGHT PART
// or the LAST TERM of ORDER BY sorts ties alone.
func readSteps(steps []string) (seek, sorts bool) {
	scans := false
	for _, step := range steps {
		scans = scans || strings.HasPrefix(step, "SCAN")
		seek = seek || strings.HasPrefix(step, "SEARCH")
		sorts = sorts || step == "USE TEMP B-TREE FOR ORDER BY"
	}
	return seek && !scans, sorts
}
