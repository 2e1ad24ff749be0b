package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/gofrs/flock"

	"parkbridge/sources"
)

// Mark is where the reading of a source stands.
type Mark struct {
	Position sources.Position // the high-water mark; zero: before the first row
	Floor    sources.Position
	// Started is false for a source that was never read.
	Started bool
	// Shape is what the positions were made with; nil where that is not known.
	Shape   *sources.Shape
	version int64
}

// Lease is the right to move a source's mark and to send its records. It lasts
// until Release, and no longer than the process.
type Lease struct {
	Source string
	token  int64
	lock   *flock.Flock
	ledger *Ledger
}

// Acquire takes the lease of a source, or fails at once with a [*HeldError].
// The holder is known by an operating-system lock, which a killed process
// cannot leave behind.
func (l *Ledger) Acquire(ctx context.Context, source string) (*Lease, error) {
	lock := flock.New(l.path + "." + url.PathEscape(source) + ".lock")
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("taking the lease of source %s: %w", source, err)
	}
	if !ok {
		return nil, &HeldError{Source: source, Holder: l.holder(ctx, source)}
	}
	host, _ := os.Hostname() // only for people; an empty name does no harm
	holder := fmt.Sprintf("process %d on %s since %s", os.Getpid(), host, stamp(l.now()))
	lease := &Lease{Source: source, lock: lock, ledger: l}
	err = l.tx(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO high_water_mark (source, lease_holder, lease_token, version) VALUES (?, ?, 1, 0)
			ON CONFLICT (source) DO UPDATE SET lease_holder = excluded.lease_holder, lease_token = lease_token + 1
			RETURNING lease_token`, source, holder).Scan(&lease.token)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking the lease of source %s: %w", source, err), lock.Unlock())
	}
	return lease, nil
}

func (l *Ledger) holder(ctx context.Context, source string) string {
	var holder sql.NullString
	err := l.read.QueryRowContext(ctx, "SELECT lease_holder FROM high_water_mark WHERE source = ?", source).Scan(&holder)
	if err != nil || !holder.Valid {
		return "another parkbridge process"
	}
	return holder.String
}

// Release gives the lease back. It may be called twice.
func (s *Lease) Release(ctx context.Context) error {
	if s.lock == nil {
		return nil
	}
	_, err := s.ledger.write.ExecContext(ctx, "UPDATE high_water_mark SET lease_holder = NULL WHERE source = ? AND lease_token = ?", s.Source, s.token)
	err = errors.Join(classed(err), s.lock.Unlock())
	s.lock = nil
	return err
}

// rowQuerier is a *sql.Tx or a *sql.DB.
type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// check fails with ErrLeaseLost where the lease is no longer the source's.
func (s *Lease) check(ctx context.Context, db rowQuerier) error {
	if s == nil {
		return ErrLeaseLost
	}
	var token int64
	if err := db.QueryRowContext(ctx, "SELECT lease_token FROM high_water_mark WHERE source = ?", s.Source).Scan(&token); err != nil {
		return err
	}
	if token != s.token {
		return ErrLeaseLost
	}
	return nil
}

// Mark reads where a source stands. A source never read has Started false.
func (l *Ledger) Mark(ctx context.Context, source string) (Mark, error) {
	var m Mark
	var mark, floor, shape string
	err := l.read.QueryRowContext(ctx, "SELECT mark, floor, config_hash, version FROM high_water_mark WHERE source = ?", source).Scan(&mark, &floor, &shape, &m.version)
	if errors.Is(err, sql.ErrNoRows) {
		return m, nil
	}
	if err == nil {
		m.Started = m.version > 0
		m.Position, err = sources.DecodePosition(mark)
	}
	if err == nil {
		m.Floor, err = sources.DecodePosition(floor)
	}
	if err == nil && shape != "" {
		err = json.Unmarshal([]byte(shape), &m.Shape)
	}
	if err != nil {
		return m, fmt.Errorf("reading the high-water mark of source %s: %w", source, classed(err))
	}
	return m, nil
}

// moveMark swaps the mark of the landing's source, if it still is the one the
// page was read from and the lease still holds.
func moveMark(ctx context.Context, tx *sql.Tx, in *Landing, now string) error {
	if err := in.Lease.check(ctx, tx); err != nil {
		return err
	}
	shape, err := json.Marshal(in.Shape)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, "UPDATE high_water_mark SET mark = ?, floor = ?, config_hash = ?, version = version + 1, moved_at = ? WHERE source = ? AND version = ?",
		in.To.Encode(), in.To.Encode(), string(shape), now, in.Lease.Source, in.From.version)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrMarkMoved, err)
	}
	return nil
}

// Reset moves a source's mark on purpose. Records stay as they are: rows read
// again are recognised by their keys.
func (l *Ledger) Reset(ctx context.Context, lease *Lease, to sources.Position, shape sources.Shape) error {
	from, err := l.Mark(ctx, lease.Source)
	if err != nil {
		return err
	}
	_, err = l.Land(ctx, Landing{Lease: lease, From: from, To: to, Shape: shape})
	return err
}
