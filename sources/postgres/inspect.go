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
	Type  string  `json:"Node Type"`
	Index string  `json:"Index Name"`
	Table string  `json:"Relation Name"`
	Cond  string  `json:"Index Cond"`
	Rows  float64 `json:"Plan Rows"`
	Plans []node  `json:"Plans"`
}

// Plan implements [sources.Inspector].
func (d *db) Plan(ctx context.Context, query string, args []any) (sources.Plan, error) {
	plan := sources.Plan{Rows: -1}
	var raw []byte
	err := d.read(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+query, args...).Scan(&raw)
	})
	if err != nil {
		return plan, err
	}
	var out []struct{ Plan node }
	if err := json.Unmarshal(raw, &out); err != nil {
		return plan, err
	}
	if len(out) == 0 {
		return plan, errors.New("the server gave no plan")
	}
	plan.Seek, plan.Rows = true, 0
	var steps []string
	out[0].Plan.walk(&plan, &steps)
	plan.Steps = strings.Join(steps, "; ")
	return plan, nil
}

// walk looks at a plan's steps, innermost first. A sort of ties ("Incremental
// Sort") is none of all rows.
func (n *node) walk(plan *sources.Plan, steps *[]string) {
	for i := range n.Plans {
		n.Plans[i].walk(plan, steps)
	}
	step := n.Type
	if n.Index != "" {
		step += " using " + n.Index
	} else if n.Table != "" {
		step += " on " + n.Table
	}
	if n.Type != "Limit" && n.Type != "Result" {
		*steps = append(*steps, step)
	}
	leaf := strings.Contains(n.Type, "Scan") && len(n.Plans) == 0
	switch {
	case n.Type == "Sort":
		plan.Sorts = true
	case strings.Contains(n.Type, "Index"):
		plan.Seek = plan.Seek && n.Cond != ""
	case leaf:
		plan.Seek = false
	}
	// Of what is read whole, the plan only says how much comes out of it.
	if leaf && plan.Rows >= 0 {
		plan.Rows += int64(n.Rows)
	}
	if !plan.Seek {
		plan.Rows = -1
	}
}
