package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"parkbridge/sources"
)

// Identity is the server's own id, or where it has none its name and port, with
// the database's name.
func (d *db) Identity(ctx context.Context) (string, error) {
	vars, err := variables(ctx, d.pool, "server_uuid", "server_uid", "hostname", "port")
	if err != nil {
		return "", err
	}
	id := vars["server_uuid"] // MySQL
	if id == "" {
		id = vars["server_uid"] // MariaDB
	}
	if id == "" {
		id = vars["hostname"] + ":" + vars["port"]
	}
	var name string
	err = d.pool.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&name)
	return id + " " + name, err
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// variables reads global variables; one the server does not know is left out.
func variables(ctx context.Context, db querier, names ...string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "','")+"')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	vars := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		vars[strings.ToLower(name)] = value
	}
	return vars, rows.Err()
}

func (d *db) Assigned(ctx context.Context, table []string, column string) (sources.Assigned, error) {
	not := func(why string, args ...any) (sources.Assigned, error) {
		return sources.Assigned{Not: fmt.Sprintf(why, args...)}, nil
	}
	name := table[len(table)-1]
	schema := sql.NullString{}
	if len(table) > 1 {
		schema = sql.NullString{String: table[len(table)-2], Valid: true}
	}
	var kind, engine, extra string
	err := d.pool.QueryRowContext(ctx, `SELECT t.table_type, COALESCE(t.engine, ''), c.extra FROM information_schema.tables t
		JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
		WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ? AND c.column_name = ?`, schema, name, column).Scan(&kind, &engine, &extra)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return not("the server does not describe %s.%s", name, column)
	case err != nil:
		return sources.Assigned{}, err
	case kind != "BASE TABLE":
		return not("%s is a view", name)
	case !strings.Contains(strings.ToLower(extra), "auto_increment"):
		return not("%s is not AUTO_INCREMENT", column)
	case engine != "InnoDB":
		return not("%s is kept by %s, not by InnoDB", name, engine)
	}
	vars, err := variables(ctx, d.pool, "auto_increment_increment")
	if err != nil {
		return sources.Assigned{}, err
	}
	if n := vars["auto_increment_increment"]; n != "" && n != "1" {
		return not("auto_increment_increment is %s: several servers hand out numbers", n)
	}
	return sources.Assigned{}, nil
}

// The server refreshes what it shows as innodb_trx only when nobody has looked
// for 0.1 s, so a list counts only where it shows our own transaction.
const (
	cacheWait  = 120 * time.Millisecond
	cacheTries = 5
)

// turns lets this process's looks at one server come one after another: side by
// side they would keep one another from a new list.
var turns = struct {
	sync.Mutex
	of map[string]chan struct{} // by the server's address, of one place
}{of: map[string]chan struct{}{}}

func (c *conn) takeTurn(ctx context.Context) (done func(), err error) {
	turns.Lock()
	place := turns.of[c.address]
	if place == nil {
		place = make(chan struct{}, 1)
		turns.of[c.address] = place
	}
	turns.Unlock()
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Evidence reads innodb_trx, which needs the PROCESS privilege. A transaction is
// named by its session and its start: its own id changes at its first write.
func (c *conn) Evidence(ctx context.Context) (e sources.Evidence, err error) {
	if c.fresh == nil {
		return e, errors.New("this connection was not made for evidence")
	}
	var self int64
	var now string
	if err := c.QueryRowContext(ctx, "SELECT CONNECTION_ID(), UTC_TIMESTAMP(6)").Scan(&self, &now); err != nil {
		return e, err
	}
	if e.Now, err = time.Parse("2006-01-02 15:04:05", now); err != nil {
		return e, err
	}
	if e.None, err = c.copied(ctx); err != nil || e.None != "" {
		return e, err
	}
	done, err := c.takeTurn(ctx)
	if err != nil {
		return e, err
	}
	defer done()
	for _, stmt := range []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"} {
		if _, err := c.ExecContext(ctx, stmt); err != nil {
			return e, err
		}
	}
	var list []transaction
	found := false
	for try := 0; try < cacheTries && !found; try++ {
		if try > 0 {
			select {
			case <-time.After(cacheWait + rand.N(cacheWait)):
			case <-ctx.Done():
				return e, ctx.Err()
			}
		}
		if list, found, err = c.transactions(ctx, self); err != nil {
			break
		}
	}
	// It ends before the first page's snapshot is taken.
	if _, cerr := c.ExecContext(ctx, "COMMIT"); cerr != nil {
		return e, errors.Join(err, cerr)
	}
	switch {
	case isError(err, 1227):
		e.None = "the account has no PROCESS privilege (GRANT PROCESS ON *.* TO it)"
		return e, nil
	case err != nil:
		return e, err
	case !found:
		e.Stale = "the server's list of transactions does not become a new one, because another session reads innodb_trx all the time"
		return e, nil
	}
	return e, c.describe(ctx, &e, list)
}

type transaction struct {
	thread  int64
	started string
}

func (c *conn) transactions(ctx context.Context, self int64) (list []transaction, found bool, err error) {
	rows, err := c.QueryContext(ctx, "SELECT trx_mysql_thread_id, trx_started, trx_is_read_only FROM information_schema.innodb_trx")
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var t transaction
		var readOnly bool
		if err := rows.Scan(&t.thread, &t.started, &readOnly); err != nil {
			return nil, false, err
		}
		switch {
		case t.thread == self:
			found = true
		case !readOnly || t.thread == 0: // what is declared READ ONLY inserts nothing
			list = append(list, t)
		}
	}
	return list, found, rows.Err()
}

// copied tells why this server's transactions are not those that insert the
// rows; "" where they are.
func (c *conn) copied(ctx context.Context) (string, error) {
	vars, err := variables(ctx, c, "read_only", "super_read_only", "wsrep_on")
	if err != nil {
		return "", err
	}
	switch {
	case strings.EqualFold(vars["wsrep_on"], "ON"):
		return "the server is a node of a Galera cluster, and does not show the transactions of the others", nil
	case strings.EqualFold(vars["read_only"], "ON"), strings.EqualFold(vars["super_read_only"], "ON"):
		return "the server is read-only: a replica, which does not show the transactions of its source", nil
	}
	var threads int
	err = c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'system user' AND command <> 'Daemon'").Scan(&threads)
	if err == nil && threads > 0 {
		return "the server is a replica, which does not show the transactions of its source", nil
	}
	return "", err
}

// describe fills in the transactions, with whose they are.
func (c *conn) describe(ctx context.Context, e *sources.Evidence, list []transaction) error {
	if len(list) == 0 {
		return nil
	}
	who := map[int64]string{}
	rows, err := c.QueryContext(ctx, "SELECT id, user, host FROM information_schema.processlist")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var user, host string
		if err := rows.Scan(&id, &user, &host); err != nil {
			return err
		}
		who[id] = fmt.Sprintf("session %d of %s from %s", id, user, host)
	}
	for _, t := range list {
		txn := sources.Txn{ID: fmt.Sprintf("%d %s", t.thread, t.started), Who: who[t.thread]}
		if t.thread == 0 {
			txn.Who = "an XA transaction in doubt (see XA RECOVER)"
			e.InDoubt = append(e.InDoubt, txn)
			continue
		}
		if txn.Who == "" {
			txn.Who = fmt.Sprintf("session %d", t.thread)
		}
		e.Open = append(e.Open, txn)
	}
	return rows.Err()
}

func (c *conn) Now(ctx context.Context) (time.Time, error) {
	var now string
	if err := c.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&now); err != nil {
		return time.Time{}, err
	}
	return time.Parse("2006-01-02 15:04:05", now)
}
