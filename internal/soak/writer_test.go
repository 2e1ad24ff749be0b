package soak_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// write is one program of the parking system: a transaction after another, on a
// connection of its own.
func (w *world) write(ctx context.Context, t *testing.T) {
	t.Helper()
	for ctx.Err() == nil {
		tx := &writer{w: w, tab: w.tables[max(0, w.intn(4)-1)]} // half of them in the first
		if err := tx.run(context.WithoutCancel(ctx), ctx.Done()); err != nil && !tx.excused(err) {
			t.Error("the parking system: ", err)
			return
		}
		w.pause(30 * time.Millisecond)
	}
}

// writer is one transaction.
type writer struct {
	w       *world
	tab     *table
	conn    *sql.Conn
	session string
	said    map[string]expectation // of its rows, once it has committed
}

// excused reports errors that a real program would see too: the server is away,
// a lock was not to be had, a deadlock.
func (tx *writer) excused(err error) bool {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return true
	}
	for _, known := range []string{"bad connection", "invalid connection", "refused", "EOF", "reset", "closed", "SQLSTATE 57P", "SQLSTATE 40", "SQLSTATE 55P03", "1213", "1205", "1020", "SQLITE_BUSY", "database is locked", "unexpected", "broken pipe", "starting up", "Lock wait"} {
		if strings.Contains(err.Error(), known) {
			return true
		}
	}
	return false
}

func (tx *writer) exec(ctx context.Context, stmt string) error {
	_, err := tx.conn.ExecContext(ctx, stmt)
	return err
}

func (tx *writer) run(ctx context.Context, over <-chan struct{}) (err error) {
	w := tx.w
	if tx.conn, err = w.lot.DB.Conn(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil { // whatever is open ends with its connection
			_ = tx.conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = tx.conn.Close()
	}()
	tx.said = map[string]expectation{}
	if w.engine != "sqlite" {
		if err := tx.conn.QueryRowContext(ctx, w.lot.Type("", "SELECT pg_backend_pid()", "SELECT CONNECTION_ID()")).Scan(&tx.session); err != nil {
			return err
		}
	}
	// What a prepared transaction has locked stays locked.
	if limit := w.lot.Type("", "SET lock_timeout = '500ms'", "SET innodb_lock_wait_timeout = 1"); limit != "" {
		if err := tx.exec(ctx, limit); err != nil {
			return err
		}
	}
	prepared := ""
	if w.engine != "sqlite" && w.chance(20) {
		prepared = fmt.Sprintf("x%d", w.intn(1e9))
	}
	begin := w.lot.Type("BEGIN IMMEDIATE", "BEGIN", "START TRANSACTION")
	if prepared != "" && w.engine == "mysql" {
		begin = "XA START '" + prepared + "'"
	}
	if err := tx.exec(ctx, begin); err != nil {
		return err
	}
	w.mu.Lock()
	w.began[tx.session] = time.Now()
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.began, tx.session)
		w.mu.Unlock()
	}()
	for range 1 + w.intn(4) {
		if err := tx.step(ctx); err != nil {
			return err
		}
		w.pause(15 * time.Millisecond)
	}
	tx.idle(over)
	return tx.end(ctx, prepared)
}

// idle waits as a transaction does whose program waits for something. SQLite's
// would keep all others from writing.
func (tx *writer) idle(over <-chan struct{}) {
	if tx.w.engine == "sqlite" {
		return
	}
	wait := time.Duration(0)
	switch n := tx.w.intn(60); {
	case n == 0: // a program that waits for a person
		wait = time.Duration(tx.w.intn(9000)) * time.Millisecond
	case n < 25: // one that waits for a camera, across two polls or three
		wait = time.Duration(tx.w.intn(1500)) * time.Millisecond
	}
	select {
	case <-time.After(wait):
	case <-over:
	}
}

func (tx *writer) end(ctx context.Context, prepared string) error {
	w := tx.w
	// What is expected of a row must be said before it can be seen.
	tx.tab.mu.Lock()
	maps.Copy(tx.tab.expect, tx.said)
	tx.tab.mu.Unlock()
	switch {
	case prepared != "" && w.engine == "postgres":
		w.inDoubt.Add(1)
		return tx.exec(ctx, "PREPARE TRANSACTION '"+prepared+"'") // endPrepared commits it
	case prepared != "":
		if err := tx.exec(ctx, "XA END '"+prepared+"'"); err != nil {
			return err
		}
		if err := tx.exec(ctx, "XA PREPARE '"+prepared+"'"); err != nil {
			return err
		}
		w.inDoubt.Add(1)
		return driver.ErrBadConn // its session ends, and it stays
	case w.chance(6):
		return tx.exec(ctx, "ROLLBACK")
	}
	return tx.exec(ctx, "COMMIT")
}

// row is the parts of a new release.
type row struct {
	serial, plate, op string
	st                int
	expectation
}

func (tx *writer) newRow() row {
	w, tab := tx.w, tx.tab
	tab.mu.Lock()
	tab.serial++
	r := row{serial: fmt.Sprintf("%s-S%06d", tab.name, tab.serial), plate: fmt.Sprintf("'粤B%05d'", tab.serial), st: 3}
	tab.mu.Unlock()
	at := time.Now().UTC()
	if tab.kind == clientTable {
		switch w.intn(20) {
		case 0: // an offline lane uploads this morning's
			at = at.Add(-20 * time.Minute)
		case 1: // and one yesterday's: further back than polling looks
			at, r.byReconcile = at.Add(-30*time.Hour), true
		case 2: // a clock that is years ahead
			at = at.AddDate(4, 0, 0)
		case 3:
			r.op, r.byReconcile, r.invalid = "NULL", true, "operate_time"
		default: // the clocks of lanes differ
			at = at.Add(time.Duration(w.intn(600)-300) * time.Second)
		}
	}
	if r.op == "" {
		r.op = "'" + at.Format(time.DateTime) + "'"
	}
	if w.chance(40) {
		r.plate, r.invalid = "NULL", "plate"
	}
	if tab.kind == lateTable && !w.chance(4) {
		r.st = 1 // it comes in now, and is to be released later
	}
	return r
}

func (tx *writer) step(ctx context.Context) error {
	w, tab := tx.w, tx.tab
	n := w.intn(100)
	switch {
	case tab.kind == lateTable && n < 40:
		return tx.exec(ctx, fmt.Sprintf("UPDATE trip SET st = 3 WHERE st = 1 AND id %% 5 = %d", w.intn(5)))
	case tab.kind == clientTable && n < 10: // a row gets its time at last
		return tx.exec(ctx, fmt.Sprintf("UPDATE lane SET op = '%s' WHERE op IS NULL AND id %% 4 = %d", time.Now().UTC().Format(time.DateTime), w.intn(4)))
	case tab.kind == serverTable && n < 6 && w.engine == "sqlite":
		return tx.reuse(ctx)
	case tab.kind == serverTable && n < 12 && w.engine == "postgres": // a value taken long before its row
		return tx.takeFirst(ctx)
	case n < 18: // a reason is corrected
		return tx.exec(ctx, fmt.Sprintf("UPDATE %s SET reason = 'changed' WHERE id %% 40 = %d", tab.name, w.intn(40)))
	case n < 22: // many in one second
		return tx.insert(ctx, 60+w.intn(60))
	}
	return tx.insert(ctx, 1+w.intn(3))
}

func (tx *writer) insert(ctx context.Context, n int) error {
	var values []string
	for range n {
		r := tx.newRow()
		tx.said[r.serial] = r.expectation
		values = append(values, fmt.Sprintf("('%s', %s, %s, '设备异常', %d)", r.serial, r.plate, r.op, r.st))
	}
	return tx.exec(ctx, "INSERT INTO "+tx.tab.name+" (serial, plate, op, reason, st) VALUES "+strings.Join(values, ","))
}

func (tx *writer) takeFirst(ctx context.Context) error {
	var id int64
	if err := tx.conn.QueryRowContext(ctx, "SELECT nextval('pass_id_seq')").Scan(&id); err != nil {
		return err
	}
	tx.w.pause(200 * time.Millisecond)
	r := tx.newRow()
	tx.said[r.serial] = r.expectation
	return tx.exec(ctx, fmt.Sprintf("INSERT INTO pass (id, serial, plate, op, reason) VALUES (%d, '%s', %s, %s, '设备异常')", id, r.serial, r.plate, r.op))
}

// reuse deletes the highest rows; SQLite gives their rowids to the next ones.
func (tx *writer) reuse(ctx context.Context) error {
	n := 1 + tx.w.intn(3)
	if err := tx.exec(ctx, fmt.Sprintf("DELETE FROM pass WHERE id IN (SELECT id FROM pass ORDER BY id DESC LIMIT %d)", n)); err != nil {
		return err
	}
	for range n {
		r := tx.newRow()
		r.invalid = "key" // unless nobody had seen the other row
		tx.said[r.serial] = r.expectation
		if err := tx.exec(ctx, fmt.Sprintf("INSERT INTO pass (serial, plate, op, reason) VALUES ('%s', '粤B99999', %s, '设备异常')", r.serial, r.op)); err != nil {
			return err
		}
	}
	return nil
}

// endPrepared commits what is in doubt. One that cannot be ended, because its
// session has yet to go, stays.
func (w *world) endPrepared(t *testing.T) (ended, left int) {
	t.Helper()
	if w.engine == "sqlite" {
		return 0, 0
	}
	query := w.lot.Type("", "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", "XA RECOVER")
	rows, err := w.lot.DB.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	var gids []string
	for rows.Next() {
		var format, length, branch int
		var gid string
		if w.engine == "postgres" {
			require.NoError(t, rows.Scan(&gid))
		} else {
			require.NoError(t, rows.Scan(&format, &length, &branch, &gid))
		}
		gids = append(gids, gid)
	}
	require.NoError(t, rows.Err())
	for _, gid := range gids {
		if _, err := w.lot.DB.ExecContext(t.Context(), w.lot.Type("", "COMMIT PREPARED '", "XA COMMIT '")+gid+"'"); err == nil {
			ended++
		}
	}
	w.inDoubt.Add(-int64(ended))
	return ended, len(gids) - ended
}
