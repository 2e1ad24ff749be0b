package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"parkbridge/sources"
)

const aboutSQL = `SELECT VERSION(), CURRENT_USER(), COALESCE(DATABASE(), ''), @@global.time_zone, @@system_time_zone,
	TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', @@global.time_zone))`

// About implements [sources.Inspector].
func (d *db) About(ctx context.Context, table []string) (sources.About, error) {
	a := sources.About{Index: "CREATE INDEX"}
	var version, user, database, zone, system string
	var seconds sql.NullInt64
	if err := d.pool.QueryRowContext(ctx, aboutSQL).Scan(&version, &user, &database, &zone, &system, &seconds); err != nil {
		return a, err
	}
	a.Version, a.Zone, a.Offset = product(version), zone, time.Duration(seconds.Int64)*time.Second
	if strings.EqualFold(zone, "SYSTEM") {
		a.Zone = system
	}
	at := strings.LastIndex(user, "@")
	if at < 0 {
		return a, fmt.Errorf("CURRENT_USER() is %q, which names no host", user)
	}
	host := quoteText(user[at+1:])
	a.Account = quoteText(user[:at]) + "@" + host
	name := "EACH_TABLE_OF_THE_QUERY"
	if len(table) > 0 {
		if len(table) == 1 {
			table = []string{database, table[0]}
		}
		name = dialect{}.Quote(table[0]) + "." + dialect{}.Quote(table[1])
	}
	own := "'parkbridge'@" + host
	if a.Account == own {
		own = "'parkbridge_reader'@" + host
	}
	a.Readers = []string{
		"CREATE USER " + own + " IDENTIFIED BY 'a-password' WITH MAX_USER_CONNECTIONS 4;",
		"GRANT SELECT ON " + name + " TO " + own + ";",
		"GRANT PROCESS ON *.* TO " + own + ";",
	}
	grants, err := d.grants(ctx)
	if err != nil {
		return a, fmt.Errorf("SHOW GRANTS: %w", err)
	}
	describeGrants(&a, grants, name)
	return a, nil
}

// product makes "MariaDB 10.11.19" of "10.11.19-MariaDB-0+deb12u1".
func product(version string) string {
	name := "MySQL "
	if strings.Contains(version, "MariaDB") {
		name, version = "MariaDB ", strings.TrimPrefix(version, "5.5.5-") // as old clients see it
	}
	number, _, _ := strings.Cut(version, "-")
	return name + number
}

func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// grant is one line of SHOW GRANTS.
type grant struct {
	rights []string // without their lists of columns
	scope  string   // such as *.*, `lot`.* or PROCEDURE `lot`.`purge`; "" for a role
	option bool     // it may be passed on
}

// harmless are the rights that change nothing.
var harmless = []string{
	"USAGE", "SELECT", "PROCESS", "PROXY", "SHOW VIEW", "SHOW DATABASES", "SHOW_ROUTINE",
	"REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR",
}

var (
	grantLine  = regexp.MustCompile(`(?i)^GRANT (.+?) ON ((?:FUNCTION |PROCEDURE |PACKAGE |PACKAGE BODY )?\S+) TO `)
	roleLine   = regexp.MustCompile(`(?i)^GRANT (.+?) TO `)
	columnList = regexp.MustCompile(`\s*\([^)]*\)`)
)

// grants reads SHOW GRANTS. A line itself is never kept: old servers print the
// password's hash in it.
func (d *db) grants(ctx context.Context) ([]grant, error) {
	rows, err := d.pool.QueryContext(ctx, "SHOW GRANTS")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []grant
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		if g, ok := parseGrant(line); ok {
			out = append(out, g)
		}
	}
	return out, rows.Err()
}

func parseGrant(line string) (grant, bool) {
	m := grantLine.FindStringSubmatch(line)
	if m == nil {
		if m = roleLine.FindStringSubmatch(line); m == nil {
			return grant{}, false // such as SET DEFAULT ROLE
		}
		return grant{rights: []string{m[1]}}, true
	}
	g := grant{scope: m[2], option: strings.Contains(strings.ToUpper(line), " WITH GRANT OPTION")}
	if strings.EqualFold(m[1], "PROXY") {
		g.option = false // to be somebody else is no right of one's own
	}
	for right := range strings.SplitSeq(columnList.ReplaceAllString(m[1], ""), ",") {
		g.rights = append(g.rights, strings.TrimSpace(right))
	}
	return g, true
}

// describeGrants says what of the grants goes beyond reading, and how to take it
// away; table is what must stay readable. Rights everywhere are those of an
// administrator, which nobody wants taken away.
func describeGrants(a *sources.About, grants []grant, table string) {
	for _, g := range grants {
		if g.scope == "" {
			a.Notes = append(a.Notes, "it is in the role "+g.rights[0]+", whose rights were not looked at")
			continue
		}
		var beyond []string
		all := false
		for _, right := range g.rights {
			if !slices.Contains(harmless, strings.ToUpper(right)) {
				beyond, all = append(beyond, right), all || strings.EqualFold(right, "ALL PRIVILEGES")
			}
		}
		revoke := func(rights string) {
			if rights != "" && g.scope != "*.*" {
				a.Revokes = append(a.Revokes, "REVOKE "+rights+" ON "+g.scope+" FROM "+a.Account+";")
			}
		}
		revoke(strings.Join(beyond, ", "))
		if g.option {
			beyond = append(beyond, "GRANT OPTION")
			revoke("GRANT OPTION")
		}
		if beyond == nil {
			continue
		}
		text := strings.Join(beyond, ", ")
		if all && g.scope != "*.*" {
			a.Revokes = append(a.Revokes, "GRANT SELECT ON "+table+" TO "+a.Account+";")
		}
		if more := len(beyond) - 4; more > 1 {
			text = strings.Join(beyond[:4], ", ") + fmt.Sprintf(" and %d more", more)
		}
		a.Writes = append(a.Writes, text+" on "+g.scope)
	}
}

// Plan implements [sources.Inspector]. The plain table of EXPLAIN is the one that
// every version gives.
func (d *db) Plan(ctx context.Context, query string, args []any) (plan sources.Plan, err error) {
	plan.Rows = -1
	rows, err := d.pool.QueryContext(ctx, "EXPLAIN "+query, args...)
	if err != nil {
		return plan, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return plan, err
	}
	cells, dest := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range cells {
		dest[i] = &cells[i]
	}
	plan.Seek, plan.Rows = true, 0
	var steps []string
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return plan, err
		}
		step := map[string]string{}
		for i, name := range names {
			step[strings.ToLower(name)] = cells[i].String
		}
		text, seek, sorts, touched := readStep(step)
		steps, plan.Seek, plan.Sorts, plan.Rows = append(steps, text), plan.Seek && seek, plan.Sorts || sorts, plan.Rows+touched
	}
	plan.Steps = strings.Join(steps, "; ")
	return plan, rows.Err()
}

// seeks are the join types that enter an index at a value (EXPLAIN Output Format
// in MySQL's manual); "index" walks all of one, "ALL" all of the table.
var seeks = []string{"range", "ref", "ref_or_null", "eq_ref", "const", "system"}

func readStep(step map[string]string) (text string, seek, sorts bool, rows int64) {
	_, _ = fmt.Sscan(step["rows"], &rows) // NULL where nothing is read
	sorts = strings.Contains(step["extra"], "Using filesort")
	switch {
	case step["type"] == "":
		return strings.ToLower(step["extra"]), true, sorts, rows // nothing is read: "Impossible WHERE"
	case step["key"] != "":
		text = step["type"] + " on " + step["table"] + " by " + step["key"]
	default:
		text = step["type"] + " on " + step["table"]
	}
	if sorts {
		text += ", filesort"
	}
	return text, slices.Contains(seeks, step["type"]), sorts, rows
}
