package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"parkbridge/sources"

	"github.com/jackc/pgx/v5"
)

// The zone is the one that a session begins with: pages are read in UTC.
const aboutSQL = `SELECT current_setting('server_version'), quote_ident(current_user), quote_ident(current_database()), z.reset_val,
	EXTRACT(EPOCH FROM (now() AT TIME ZONE z.reset_val) - (now() AT TIME ZONE 'UTC'))::int8, r.rolsuper
FROM pg_roles r, pg_settings z WHERE r.rolname = current_user AND z.name = 'TimeZone'`

// What the account may do to a table, and to whom that was granted: to itself, to
// PUBLIC or to a role that it is in.
const rightsSQL = `
WITH t AS (SELECT c.oid, c.relacl, c.relowner, quote_ident(n.nspname) AS schema, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1::text)),
may AS (SELECT p FROM t, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) WITH ORDINALITY AS u (p, n)
	WHERE has_table_privilege(t.oid, p) OR (p IN ('INSERT', 'UPDATE') AND has_any_column_privilege(t.oid, p)) ORDER BY n),
acl AS (SELECT a.* FROM t, aclexplode(t.relacl) AS a
	UNION ALL SELECT a.* FROM t JOIN pg_attribute c ON c.attrelid = t.oid, aclexplode(c.attacl) AS a)
SELECT t.schema, t.name, pg_has_role(t.relowner, 'USAGE'), ARRAY(SELECT p FROM may),
	ARRAY(SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END FROM acl a
		WHERE a.privilege_type IN (SELECT p FROM may) AND CASE WHEN a.grantee = 0 THEN true ELSE pg_has_role(a.grantee, 'USAGE') END ORDER BY 1)
FROM t`

// About implements [sources.Inspector].
func (d *db) About(ctx context.Context, table []string) (sources.About, error) {
	a := sources.About{Index: "CREATE INDEX CONCURRENTLY"}
	var database string
	var super bool
	err := d.read(ctx, func(c *pgx.Conn) error {
		var seconds int64
		if err := c.QueryRow(ctx, aboutSQL).Scan(&a.Version, &a.Account, &database, &a.Zone, &seconds, &super); err != nil {
			return err
		}
		a.Version, a.Offset = "PostgreSQL "+a.Version, time.Duration(seconds)*time.Second
		return nil
	})
	if err != nil {
		return a, err
	}
	if super {
		a.Writes = append(a.Writes, "anything: it is a superuser")
	}
	r := rights{schema: "SCHEMA", name: "EACH_TABLE_OF_THE_QUERY"}
	if len(table) > 0 {
		if r, err = d.rights(ctx, table); err != nil {
			return a, err
		}
	}
	switch {
	case super:
	case r.owner:
		a.Writes = append(a.Writes, "anything to "+r.name+": it is the owner's")
	case len(r.may) > 0:
		all := strings.Join(r.may, ", ")
		a.Writes = append(a.Writes, all+" on "+r.name)
		for _, grantee := range r.grantees {
			a.Revokes = append(a.Revokes, fmt.Sprintf("REVOKE %s ON %s FROM %s;", all, r.name, grantee))
		}
	}
	reader := "parkbridge"
	if a.Account == reader {
		reader += "_reader"
	}
	a.Readers = []string{
		"CREATE ROLE " + reader + " LOGIN PASSWORD 'a-password' CONNECTION LIMIT 4;",
		"GRANT CONNECT ON DATABASE " + database + " TO " + reader + ";",
		"GRANT USAGE ON SCHEMA " + r.schema + " TO " + reader + ";",
		"GRANT SELECT ON " + r.name + " TO " + reader + ";",
	}
	return a, nil
}

// rights is what the account may do to a table beyond reading it.
type rights struct {
	schema, name  string // quoted where they must be
	owner         bool
	may, grantees []string
}

func (d *db) rights(ctx context.Context, table []string) (rights, error) {
	r := rights{schema: "public", name: pgx.Identifier(table).Sanitize()}
	if len(table) > 1 {
		r.schema = pgx.Identifier(table[:1]).Sanitize()
	}
	err := d.read(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, rightsSQL, pgx.Identifier(table).Sanitize()).Scan(&r.schema, &r.name, &r.owner, &r.may, &r.grantees)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil // it is not there, which is told elsewhere
	}
	return r, err
}

// node is a step of a plan as EXPLAIN (FORMAT JSON) writes it.
type node struct {
	Type   string  `json:"Node Type"`
	Index  string  `json:"Index Name"`
	Schema string  `json:"Schema"`
	Table  string  `json:"Relation Name"`
	Cond   string  `json:"Index Cond"`
	Rows   float64 `json:"Plan Rows"`
	Plans  []node  `json:"Plans"`
}

// Plan implements [sources.Inspector].
func (d *db) Plan(ctx context.Context, query string, args []any) (sources.Plan, error) {
	top, err := d.explain(ctx, query, args)
	if err != nil {
		return sources.Plan{Rows: -1}, err
	}
	plan := sources.Plan{Seek: true}
	var steps []string
	for _, n := range top.steps(nil) {
		leaf := len(n.Plans) == 0 && strings.Contains(n.Type, "Scan")
		rows := int64(n.Rows)
		switch {
		case n.Type == "Limit" || n.Type == "Result":
			continue
		case n.Type == "Sort": // "Incremental Sort" is one of ties
			plan.Sorts = true
		case strings.Contains(n.Type, "Index"):
			plan.Seek = plan.Seek && n.Cond != ""
		case leaf:
			plan.Seek = false
			rows = d.whole(ctx, n)
		}
		switch {
		case leaf && rows < 0:
			plan.Rows = -1
		case leaf && plan.Rows >= 0:
			plan.Rows += rows
		}
		switch {
		case n.Index != "":
			steps = append(steps, n.Type+" using "+n.Index)
		case n.Table != "":
			steps = append(steps, n.Type+" on "+n.Table)
		default:
			steps = append(steps, n.Type)
		}
	}
	plan.Steps = strings.Join(steps, "; ")
	return plan, nil
}

func (d *db) explain(ctx context.Context, query string, args []any) (node, error) {
	var raw []byte
	err := d.read(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "EXPLAIN (VERBOSE, FORMAT JSON) "+query, args...).Scan(&raw)
	})
	if err != nil {
		return node{}, err
	}
	var out []struct{ Plan node }
	if err := json.Unmarshal(raw, &out); err != nil {
		return node{}, err
	}
	if len(out) == 0 {
		return node{}, errors.New("the server gave no plan")
	}
	return out[0].Plan, nil
}

// steps lists a plan's steps, innermost first.
func (n node) steps(out []node) []node {
	for _, p := range n.Plans {
		out = p.steps(out)
	}
	return append(out, n)
}

// whole is the planner's estimate of all of a table that a step reads whole: the
// step itself says how much comes out of it. -1 where it cannot be asked.
func (d *db) whole(ctx context.Context, n node) int64 {
	if n.Table == "" {
		return int64(n.Rows)
	}
	all, err := d.explain(ctx, "SELECT 1 FROM "+pgx.Identifier{n.Schema, n.Table}.Sanitize(), nil)
	if err != nil {
		return -1 // such as a table behind a view, which the account may not read
	}
	return int64(all.Rows)
}
