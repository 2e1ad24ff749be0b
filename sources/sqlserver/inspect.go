package sqlserver

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"parkbridge/sources"
)

// The zone of the server's machine has no name that every version tells.
const aboutSQL = `SELECT CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')), COALESCE(CONVERT(nvarchar(128), SERVERPROPERTY('Edition')), ''),
	SUSER_SNAME(), USER_NAME(), DB_NAME(), COALESCE(SCHEMA_NAME(), 'dbo'), DATEPART(tz, SYSDATETIMEOFFSET()),
	COALESCE(IS_SRVROLEMEMBER('sysadmin'), 0), COALESCE(IS_MEMBER('db_owner'), 0)`

// What the account may do to a table, or to the database, however it came by it;
// a right to a few columns counts.
const mayWriteSQL = `SELECT DISTINCT permission_name FROM fn_my_permissions(%s)
WHERE permission_name IN ('INSERT', 'UPDATE', 'DELETE', 'ALTER', 'CONTROL', 'TAKE OWNERSHIP') ORDER BY permission_name`

// By which grants it may, to itself, to public or to a role that it is in.
const grantsSQL = `SELECT p.permission_name, p.class, USER_NAME(p.grantee_principal_id), MAX(CASE p.state WHEN 'W' THEN 1 ELSE 0 END)
FROM sys.database_permissions p
WHERE p.state IN ('G', 'W') AND p.permission_name IN ('INSERT', 'UPDATE', 'DELETE', 'ALTER', 'CONTROL', 'TAKE OWNERSHIP')
	AND (p.class = 0 OR p.class = 1 AND p.major_id = OBJECT_ID(@p1) OR p.class = 3 AND p.major_id = SCHEMA_ID(@p2))
	AND (p.grantee_principal_id IN (0, DATABASE_PRINCIPAL_ID()) OR IS_MEMBER(USER_NAME(p.grantee_principal_id)) = 1)
GROUP BY p.permission_name, p.class, p.grantee_principal_id ORDER BY p.class DESC, p.grantee_principal_id, p.permission_name`

const rolesSQL = `SELECT USER_NAME(role_principal_id) FROM sys.database_role_members
WHERE member_principal_id = DATABASE_PRINCIPAL_ID() ORDER BY USER_NAME(role_principal_id)`

// account is who asks, and where.
type account struct {
	login, user, database string
	schema, table         string // of the table; no table for a query
	performance           bool   // the server knows VIEW SERVER PERFORMANCE STATE
}

// About implements [sources.Inspector].
func (d *db) About(ctx context.Context, table []string) (sources.About, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	a := sources.About{Index: "CREATE INDEX", Zone: "that of its machine"}
	var who account
	var version, edition string
	var minutes int64
	var admin, owner bool
	err := d.pool.QueryRowContext(ctx, aboutSQL).Scan(&version, &edition, &who.login, &who.user, &who.database, &who.schema, &minutes, &admin, &owner)
	if err != nil {
		return a, classed(err)
	}
	a.Version, a.Account, a.Offset = product(version, edition), quote(who.login), time.Duration(minutes)*time.Minute
	who.performance = major(version) >= 16
	if n := len(table); n > 0 {
		who.table = table[n-1]
		if n > 1 {
			who.schema = table[n-2]
		}
	}
	a.Readers = who.readers()
	if admin {
		a.Writes = []string{"anything: it is a member of sysadmin"}
		return a, nil
	}
	return a, d.rights(ctx, &a, who, owner)
}

func quote(name string) string { return dialect{}.Quote(name) }

// releases are the names that go with the first two numbers of a version.
var releases = map[string]string{
	"10.0": "2008", "10.50": "2008 R2", "11.0": "2012", "12.0": "2014", "13.0": "2016", "14.0": "2017", "15.0": "2019", "16.0": "2022", "17.0": "2025",
}

// product makes "SQL Server 2008 R2 (10.50.6000.34), Express Edition" of what the
// server tells.
func product(version, edition string) string {
	name := "SQL Server " + version
	if parts := strings.SplitN(version, ".", 3); len(parts) == 3 {
		if release, known := releases[parts[0]+"."+parts[1]]; known {
			name = "SQL Server " + release + " (" + version + ")"
		}
	}
	return name + ", " + edition
}

// object is the table as SQL names it.
func (w account) object() string {
	if w.table == "" {
		return "EACH_TABLE_OF_THE_QUERY"
	}
	return quote(w.schema) + "." + quote(w.table)
}

// readers makes an account that may only read.
func (w account) readers() []string {
	name := "parkbridge"
	if strings.EqualFold(w.login, name) || strings.EqualFold(w.user, name) {
		name = "parkbridge_reader"
	}
	state := "VIEW SERVER STATE"
	if w.performance {
		state = "VIEW SERVER PERFORMANCE STATE"
	}
	return []string{
		"USE master;",
		"CREATE LOGIN " + name + " WITH PASSWORD = 'a-Password-1';",
		"GRANT " + state + " TO " + name + ";",
		"USE " + quote(w.database) + ";",
		"CREATE USER " + name + " FOR LOGIN " + name + ";",
		"GRANT SHOWPLAN TO " + name + ";",
		"GRANT SELECT ON " + w.object() + " TO " + name + ";",
	}
}

// writers are the roles of a database whose members may write.
var writers = []string{"db_owner", "db_datawriter", "db_ddladmin"}

// rights says what the account may do beyond reading, and how to take it away.
// Of a user that owns the database nothing can be taken.
func (d *db) rights(ctx context.Context, a *sources.About, who account, owner bool) error {
	object := who.object()
	what, on, args := "@p1, 'OBJECT'", " on "+object, []any{object}
	if who.table == "" {
		what, on, args = "NULL, 'DATABASE'", " in the whole database", nil
	}
	var may []string
	var name string
	if err := d.each(ctx, fmt.Sprintf(mayWriteSQL, what), []any{&name}, func() { may = append(may, name) }, args...); err != nil {
		return err
	}
	switch {
	case owner:
		a.Writes = []string{"anything in the database: it is a member of db_owner"}
	case len(may) > 0:
		a.Writes = []string{strings.Join(may, ", ") + on}
	default:
		return nil
	}
	if who.user == "dbo" {
		return nil
	}
	grants, err := d.grants(ctx, who)
	if err != nil {
		return err
	}
	for _, g := range grants {
		cascade := ""
		if g.option {
			cascade = " CASCADE" // without it the server refuses
		}
		a.Revokes = append(a.Revokes, "REVOKE "+strings.Join(g.rights, ", ")+g.on+" FROM "+quote(g.grantee)+cascade+";")
	}
	// ALTER ROLE … DROP MEMBER is younger than 2008 R2.
	left := false
	err = d.each(ctx, rolesSQL, []any{&name}, func() {
		if slices.Contains(writers, name) {
			a.Revokes, left = append(a.Revokes, "EXEC sp_droprolemember "+quoteText(name)+", "+quoteText(who.user)+";"), true
		}
	})
	if left || slices.ContainsFunc(grants, func(g grant) bool { return slices.Contains(g.rights, "CONTROL") }) {
		a.Revokes = append(a.Revokes, "GRANT SELECT ON "+object+" TO "+quote(who.user)+";")
	}
	return err
}

func quoteText(s string) string { return "N'" + strings.ReplaceAll(s, "'", "''") + "'" }

// grant is what one grantee was granted on one thing.
type grant struct {
	rights  []string
	on      string // with " ON " before it; "" for the database
	grantee string
	option  bool // one of them may be passed on
}

// Classes of securables (sys.database_permissions).
const (
	classObject = 1
	classSchema = 3
)

func (d *db) grants(ctx context.Context, who account) ([]grant, error) {
	var out []grant
	var right, grantee string
	var class int64
	var option bool
	object := who.object()
	err := d.each(ctx, grantsSQL, []any{&right, &class, &grantee, &option}, func() {
		on := ""
		switch class {
		case classObject:
			on = " ON " + object
		case classSchema:
			on = " ON SCHEMA::" + quote(who.schema)
		}
		if n := len(out); n > 0 && out[n-1].on == on && out[n-1].grantee == grantee {
			out[n-1].rights, out[n-1].option = append(out[n-1].rights, right), out[n-1].option || option
			return
		}
		out = append(out, grant{[]string{right}, on, grantee, option})
	}, object, who.schema)
	return out, err
}

// Plan implements [sources.Inspector]. It needs the SHOWPLAN permission, without
// which the error is a [sources.ErrNoInspector]. A plan is shown of statements
// with values in them, not of parameters, so they are put in. A session that
// shows plans runs nothing any more; it is not used again.
func (d *db) Plan(ctx context.Context, query string, args []any) (plan sources.Plan, err error) {
	plan.Rows = -1
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	batch, err := literal(query, args)
	if err != nil {
		return plan, err
	}
	c, err := d.pool.Conn(ctx)
	if err != nil {
		return plan, advised(err)
	}
	defer discard(c)
	if _, err := c.ExecContext(ctx, "SET SHOWPLAN_XML ON"); err != nil {
		return plan, noPlan(err)
	}
	var xml string
	if err := c.QueryRowContext(ctx, batch).Scan(&xml); err != nil {
		return plan, noPlan(err)
	}
	return readPlan(xml)
}

// noPlan tells of the permission that is missing.
func noPlan(err error) error {
	if number(err) == errNoShowPlan {
		return fmt.Errorf("%w: the account has no SHOWPLAN permission in the database (GRANT SHOWPLAN TO it)", sources.ErrNoInspector)
	}
	return classed(err)
}

// literal puts arguments into the place of their parameters, the last first, for
// @p1 begins @p10.
func literal(query string, args []any) (string, error) {
	for i, arg := range slices.Backward(args) {
		var text string
		switch v := arg.(type) {
		case int:
			text = strconv.Itoa(v)
		case int64:
			text = strconv.FormatInt(v, 10)
		case float64:
			text = strconv.FormatFloat(v, 'e', -1, 64)
		case string:
			text = quoteText(v)
		case []byte:
			text = fmt.Sprintf("0x%x", v)
		default:
			return "", fmt.Errorf("a plan cannot be asked for with a %T", v)
		}
		query = strings.ReplaceAll(query, fmt.Sprintf("@p%d", i+1), text)
	}
	return query, nil
}
