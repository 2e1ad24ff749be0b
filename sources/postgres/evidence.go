package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"parkbridge/sources"

	"github.com/jackc/pgx/v5"
)

// Identity is the cluster's own number, which a copy shares and another server
// does not, with the database's name.
func (d *db) Identity(ctx context.Context) (string, error) {
	var id string
	err := d.read(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT system_identifier || ' ' || current_database() FROM pg_control_system()").Scan(&id)
	})
	return id, err
}

// assignedSQL describes a column and the sequences that its default draws on:
// an identity column depends on its own, a default expression names one.
const assignedSQL = `
SELECT c.oid, c.relkind::text, c.relhassubclass, a.attidentity::text, COALESCE(pg_get_expr(d.adbin, d.adrelid), ''),
	COALESCE(array_agg(s.seqincrement ORDER BY s.seqrelid) FILTER (WHERE s.seqrelid IS NOT NULL), '{}'),
	COALESCE(array_agg(s.seqcache ORDER BY s.seqrelid) FILTER (WHERE s.seqrelid IS NOT NULL), '{}'),
	COALESCE(bool_or(s.seqcycle), false)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_sequence s ON s.seqrelid IN (
	SELECT refobjid FROM pg_depend WHERE classid = 'pg_attrdef'::regclass AND objid = d.oid AND refclassid = 'pg_class'::regclass
	UNION ALL
	SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
		AND refobjid = a.attrelid AND refobjsubid = a.attnum AND deptype = 'i')
WHERE a.attrelid = to_regclass($1::text) AND a.attname = $2::text AND NOT a.attisdropped
GROUP BY c.oid, c.relkind, c.relhassubclass, a.attidentity, d.adbin, d.adrelid`

var plainNextval = regexp.MustCompile(`^nextval\('[^']*'::regclass\)$`)

func (d *db) Assigned(ctx context.Context, table []string, column string) (sources.Assigned, error) {
	var oid uint32
	var kind, identity, def string
	var children, cycle bool
	var increment, cache []int64
	err := d.read(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, assignedSQL, pgx.Identifier(table).Sanitize(), column).Scan(&oid, &kind, &children, &identity, &def, &increment, &cache, &cycle)
	})
	name := strings.Join(table, ".")
	not := func(why string, args ...any) (sources.Assigned, error) {
		return sources.Assigned{Not: fmt.Sprintf(why, args...)}, nil
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return not("%s is not a table of this database's own", name)
	case err != nil:
		return sources.Assigned{}, err
	case kind != "r" || children:
		return not("%s is not a plain table (a view, a foreign table, or one with partitions or children)", name)
	case identity == "" && !plainNextval.MatchString(def):
		return not("%s is no identity or serial column", column)
	case len(increment) != 1 || increment[0] != 1 || cache[0] != 1 || cycle:
		return not("the sequence of %s hands out numbers out of order (it must have INCREMENT 1, CACHE 1, NO CYCLE)", column)
	}
	d.table = oid
	return sources.Assigned{}, nil
}

// The three looks of evidence, in this order, each a statement of its own: the
// lists are live, not of a snapshot. A transaction that took a number from a
// sequence holds a lock on that sequence until it ends, rolled back to a
// savepoint or not, and one that wrote to the table holds one on the table; so
// do both once prepared. Idle readers, dumps and vacuum hold neither. Every
// account sees pg_locks. A prepared transaction comes back under another name
// after a restart of the server, so pg_prepared_xacts is asked last.
const (
	serverSQL = `SELECT clock_timestamp(), pg_is_in_recovery(), EXISTS (SELECT 1 FROM pg_subscription_rel WHERE srrelid = $1::int8::oid)`
	locksSQL  = `SELECT DISTINCT l.virtualtransaction, COALESCE(l.pid, 0), COALESCE(a.usename, ''), COALESCE(a.application_name, ''), a.xact_start
FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
	AND (c.relkind = 'S' OR l.relation = $1::int8::oid) AND l.pid IS DISTINCT FROM pg_backend_pid()`
	preparedSQL = `SELECT gid, prepared FROM pg_prepared_xacts WHERE database = current_database()`
)

func (c *conn) Evidence(ctx context.Context) (sources.Evidence, error) {
	var e sources.Evidence
	pg, table := c.Conn.Conn(), int64(*c.table)
	var recovery, fed bool
	if err := pg.QueryRow(ctx, serverSQL, table).Scan(&e.Now, &recovery, &fed); err != nil {
		return e, err
	}
	switch {
	case recovery:
		e.None = "the server is a standby, which does not show the transactions of its primary"
	case fed:
		e.None = "the table is fed by logical replication"
	}
	rows, err := pg.Query(ctx, locksSQL, table)
	if err != nil {
		return e, err
	}
	var pid int64
	var vxid, user, program string
	var since *time.Time
	if _, err := pgx.ForEachRow(rows, []any{&vxid, &pid, &user, &program, &since}, func() error {
		t := sources.Txn{ID: vxid, Who: "a prepared transaction"}
		if pid != 0 {
			t.Who = strings.TrimSpace(fmt.Sprintf("session %d of %s %s", pid, user, program))
		}
		if since != nil {
			t.Since = *since
		}
		e.Open = append(e.Open, t)
		return nil
	}); err != nil {
		return e, err
	}
	if rows, err = pg.Query(ctx, preparedSQL); err != nil {
		return e, err
	}
	var gid string
	var prepared time.Time
	_, err = pgx.ForEachRow(rows, []any{&gid, &prepared}, func() error {
		e.InDoubt = append(e.InDoubt, sources.Txn{ID: "prepared " + gid, Who: "prepared transaction " + gid, Since: prepared})
		return nil
	})
	return e, err
}

func (c *conn) Now(ctx context.Context) (now time.Time, err error) {
	err = c.Conn.Conn().QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, err
}
