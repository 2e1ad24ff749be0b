package sqlserver

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"parkbridge/sources"
)

// Identity is the server's name, or for a database of an availability group the
// group's own number of it, with the database's name.
func (d *db) Identity(ctx context.Context) (string, error) {
	var server, name, version string
	err := d.pool.QueryRowContext(ctx, "SELECT CONVERT(nvarchar(256), SERVERPROPERTY('ServerName')), DB_NAME(), CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion'))").
		Scan(&server, &name, &version)
	if err != nil {
		return "", classed(err)
	}
	if major(version) >= 11 { // 2012; before, there were no groups, and no such column
		var group sql.NullString
		err := d.pool.QueryRowContext(ctx, "SELECT CONVERT(nvarchar(36), group_database_id) FROM sys.databases WHERE database_id = DB_ID()").Scan(&group)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return "", classed(err)
		}
		if group.Valid {
			server = group.String
		}
	}
	return server + " " + name, nil
}

// major is the first number of a version such as 10.50.6000.34.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(first) // 0 for what is no version
	return n
}

const assignedSQL = `SELECT t.object_id, c.is_identity, COALESCE(TYPE_NAME(c.system_type_id), ''), COALESCE(CONVERT(bigint, i.increment_value), 0),
	COALESCE(i.is_not_for_replication, 0), t.is_merge_published, COALESCE(OBJECTPROPERTY(t.object_id, 'TableIsMemoryOptimized'), 0)
FROM sys.tables t JOIN sys.columns c ON c.object_id = t.object_id
LEFT JOIN sys.identity_columns i ON i.object_id = c.object_id AND i.column_id = c.column_id
WHERE t.object_id = OBJECT_ID(@p1) AND c.name = @p2`

func (d *db) Assigned(ctx context.Context, table []string, column string) (sources.Assigned, error) {
	not := func(why string, args ...any) (sources.Assigned, error) {
		return sources.Assigned{Not: fmt.Sprintf(why, args...)}, nil
	}
	name := strings.Join(table, ".")
	if len(table) > 2 {
		return not("%s is a table of another database; name that one in the dsn", name)
	}
	quoted := make([]string, len(table))
	for i, part := range table {
		quoted[i] = dialect{}.Quote(part)
	}
	var id, increment int64
	var typ string
	var identity, replicated, merged, inMemory bool
	err := d.pool.QueryRowContext(ctx, assignedSQL, strings.Join(quoted, "."), column).Scan(&id, &identity, &typ, &increment, &replicated, &merged, &inMemory)
	version := typ == "timestamp"
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return not("%s is not a table of this database", name)
	case err != nil:
		return sources.Assigned{}, classed(err)
	case inMemory:
		return not("%s is kept in memory, where writers show no locks", name)
	case version:
	case !identity:
		return not("%s is neither an IDENTITY nor a rowversion column", column)
	case replicated || merged:
		return not("%s is NOT FOR REPLICATION or merged: rows of other servers come with numbers of theirs", column)
	case increment != 1:
		return not("%s counts in steps of %d: several servers hand out numbers", column, increment)
	}
	d.cursor = cursor{table: id, version: version}
	return sources.Assigned{}, nil
}

// evidenceSQL asks for the clock, whether this is a copy, and what the account
// may see. A permission that the version does not know gives NULL.
const evidenceSQL = `SELECT SYSUTCDATETIME(), COALESCE(CONVERT(nvarchar(60), DATABASEPROPERTYEX(DB_NAME(), 'Updateability')), ''), CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')),
	COALESCE(HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE'), 0), COALESCE(HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER PERFORMANCE STATE'), 0)`

// Evidence of a rowversion is the lowest one that is in use, which every account
// sees. Of an identity column it is who holds a lock for writing on the table: a
// statement takes it before the first number, and keeps it to the end of its
// transaction.
func (c *conn) Evidence(ctx context.Context) (sources.Evidence, error) {
	var e sources.Evidence
	var access, version string
	var state, performance bool
	if err := c.QueryRowContext(ctx, evidenceSQL).Scan(&e.Now, &access, &version, &state, &performance); err != nil {
		return e, classed(err)
	}
	switch {
	case access != "READ_WRITE":
		e.None = "the database is read-only here: a secondary or another copy, which does not show the transactions of its source"
	case c.cursor.version:
		return e, c.lowestVersion(ctx, &e)
	case !state && !performance && major(version) >= 16:
		e.None = "the account has no VIEW SERVER PERFORMANCE STATE permission (in master: GRANT VIEW SERVER PERFORMANCE STATE TO it)"
	case !state && !performance:
		e.None = "the account has no VIEW SERVER STATE permission (in master: GRANT VIEW SERVER STATE TO it)"
	default:
		return e, c.writers(ctx, &e)
	}
	return e, nil
}

// lowestVersion reads MIN_ACTIVE_ROWVERSION: every value below it belongs to a
// transaction that has ended, and every value to come is at or above it.
func (c *conn) lowestVersion(ctx context.Context, e *sources.Evidence) error {
	var lowest, last []byte
	if err := c.QueryRowContext(ctx, "SELECT MIN_ACTIVE_ROWVERSION(), @@DBTS").Scan(&lowest, &last); err != nil {
		return classed(err)
	}
	bound := "0x" + hex.EncodeToString(lowest)
	if len(lowest) != 8 {
		return fmt.Errorf("the server's lowest active rowversion is %s, which is none", bound)
	}
	// Both are this package's own texts of eight bytes, which sort as they do.
	e.Clear = func(p sources.Position) bool {
		return len(p.Values) > 0 && len(p.Values[0]) == len(bound) && p.Values[0] < bound
	}
	if string(lowest) <= string(last) {
		e.Open = []sources.Txn{{ID: bound, Who: "a transaction that wrote rowversion " + bound + " and has not ended"}}
	}
	return nil
}

const writersSQL = `SELECT DISTINCT l.request_owner_id, l.request_session_id, COALESCE(a.transaction_state, 0),
	DATEADD(minute, -DATEPART(tz, SYSDATETIMEOFFSET()), a.transaction_begin_time), COALESCE(s.login_name, ''), COALESCE(s.program_name, '')
FROM sys.dm_tran_locks l
LEFT JOIN sys.dm_tran_active_transactions a ON a.transaction_id = l.request_owner_id
LEFT JOIN sys.dm_exec_sessions s ON s.session_id = l.request_session_id
WHERE l.resource_type = 'OBJECT' AND l.resource_database_id = DB_ID() AND l.resource_associated_entity_id = @p1
	AND l.request_owner_type = 'TRANSACTION' AND l.request_mode NOT IN ('Sch-S', 'IS', 'S')`

// prepared is the state of a distributed transaction that waits to be told how
// it ends (sys.dm_tran_active_transactions).
const prepared = 5

// writers lists the transactions that hold a lock for writing on the table.
// Sessions below zero are those of distributed transactions in doubt, whose
// numbers a restart of the server changes.
func (c *conn) writers(ctx context.Context, e *sources.Evidence) error {
	rows, err := c.QueryContext(ctx, writersSQL, c.cursor.table)
	if err != nil {
		return classed(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, session, state int64
		var since sql.NullTime
		var login, program string
		if err := rows.Scan(&id, &session, &state, &since, &login, &program); err != nil {
			return classed(err)
		}
		t := sources.Txn{ID: strconv.FormatInt(id, 10), Since: since.Time}
		if session < 0 || state == prepared {
			t.Who = fmt.Sprintf("distributed transaction %d in doubt", id)
			e.InDoubt = append(e.InDoubt, t)
			continue
		}
		t.Who = strings.TrimSpace(fmt.Sprintf("session %d of %s %s", session, login, program))
		e.Open = append(e.Open, t)
	}
	return classed(rows.Err())
}

func (c *conn) Now(ctx context.Context) (now time.Time, err error) {
	err = c.QueryRowContext(ctx, "SELECT SYSUTCDATETIME()").Scan(&now)
	return now, classed(err)
}
