package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"time"

	"github.com/gofrs/flock"

	"parkbridge/sources"
)

// Mark is where the reading of a source stands.
type Mark struct {
	State
	// Started is false for a source that was never read.
	Started bool
	// Shape is what the positions were made with; nil where that is not known.
	Shape *sources.Shape
	// Server is what the source's server and database were; "" where that is not
	// known.
	Server  string
	version int64
	// table and generation are set for the mark of one table of a series.
	table      string
	generation int
}

// Same reports that a state is the stored one.
func (m Mark) Same(s State) bool {
	return m.Mark.Encode() == s.Mark.Encode() && m.Floor.Encode() == s.Floor.Encode() && m.Journal == s.Journal && m.Seen == s.Seen
}

// moved is the mark after a landing.
func (m Mark) moved(in Landing) Mark {
	server := in.Server
	if server == "" {
		server = m.Server
	}
	shape := in.Shape // a pointer into the landing would keep its rows
	return Mark{State: in.To, Started: true, Shape: &shape, Server: server, version: m.version + 1, table: m.table, generation: m.generation}
}

// Lease is the right to move a source's mark and to send its records. It lasts
// until Release and no longer than the process; for other machines, [LeaseLasts]
// after the last [Ledger.Renew].
type Lease struct {
	Source string
	// Recovered counts the records that the last holder knew to be accepted and had
	// not settled when it was killed; they are settled now.
	Recovered int
	token     int64
	lock      *flock.Flock
	ledger    *Ledger
	journal   journal
}

// LeaseLasts is how long a lease that is not renewed keeps other machines away.
const LeaseLasts = 30 * time.Second

// Acquire takes the lease of a source, or fails at once with a [*HeldError].
// The holder is known by an operating-system lock, which a killed process
// cannot leave behind. What it had noted and not settled is settled first.
func (l *Ledger) Acquire(ctx context.Context, source string) (*Lease, error) {
	beside := l.path + "." + url.PathEscape(source)
	lock := flock.New(beside + ".lock")
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("taking the lease of source %s: %w", source, err)
	}
	if !ok {
		return nil, &HeldError{Source: source, Holder: l.holder(ctx, source)}
	}
	host, _ := os.Hostname() // an empty name does no harm
	now := l.now()
	holder := fmt.Sprintf("process %d on %s since %s", os.Getpid(), host, stamp(now))
	// A number of its own among all ledgers there are, for the journal beside this one
	// may be another's.
	lease := &Lease{Source: source, token: 1 + rand.Int64N(math.MaxInt64), lock: lock, ledger: l}
	lease.journal = journal{path: beside + ".accepted", token: lease.token}
	err = l.tx(ctx, func(tx *sql.Conn) error {
		last := int64(0)
		err := tx.QueryRowContext(ctx, leaseToken, source).Scan(&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO high_water_mark (source, lease_holder, lease_host, lease_until, lease_token, version) VALUES (?, ?, ?, ?, ?, 0)
			ON CONFLICT (source) DO UPDATE SET lease_holder = excluded.lease_holder, lease_host = excluded.lease_host, lease_until = excluded.lease_until,
				lease_token = excluded.lease_token
			WHERE lease_holder IS NULL OR lease_host IS NULL OR lease_host = excluded.lease_host OR lease_until < ?`,
			source, holder, host, stamp(now.Add(LeaseLasts)), lease.token, stamp(now))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 { // the lock beside the ledger says nothing of another machine
			return &HeldError{Source: source, Holder: l.holder(ctx, source)}
		}
		lease.Recovered, err = lease.settleNoted(ctx, tx, last)
		return err
	})
	if held := (*HeldError)(nil); errors.As(err, &held) {
		return nil, errors.Join(err, lock.Unlock())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking the lease of source %s: %w", source, err), lock.Unlock())
	}
	_ = os.Remove(lease.journal.path) // if it stays, its number says that it has been seen
	return lease, nil
}

// Renew makes leases last on. It fails with a [*LostError] for each that is no
// longer the caller's; the others are renewed.
func (l *Ledger) Renew(ctx context.Context, leases ...*Lease) error {
	var lost []error
	err := l.tx(ctx, func(tx *sql.Conn) error {
		for _, lease := range leases {
			res, err := tx.ExecContext(ctx, "UPDATE high_water_mark SET lease_until = ? WHERE source = ? AND lease_token = ?", stamp(l.now().Add(LeaseLasts)), lease.Source, lease.token)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil {
				return err
			} else if n == 0 {
				lost = append(lost, &LostError{lease.Source})
			}
		}
		return nil
	})
	return errors.Join(append(lost, err)...)
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
	ours := int64(0)
	err := s.ledger.tx(ctx, func(tx *sql.Conn) error {
		res, err := tx.ExecContext(ctx, "UPDATE high_water_mark SET lease_holder = NULL, lease_until = NULL WHERE source = ? AND lease_token = ?", s.Source, s.token)
		if err == nil {
			ours, err = res.RowsAffected()
		}
		return err
	})
	s.journal.end(ours == 0)
	err = errors.Join(err, s.lock.Unlock())
	s.lock = nil
	return err
}

// check fails with a [*LostError] where the lease is no longer the source's.
// reading is [leaseToken], prepared.
func (s *Lease) check(ctx context.Context, reading *sql.Stmt) error {
	if s == nil {
		return ErrLeaseLost
	}
	var token int64
	if err := reading.QueryRowContext(ctx, s.Source).Scan(&token); err != nil {
		return err
	}
	if token != s.token {
		return &LostError{s.Source}
	}
	return nil
}

const readMark = "SELECT mark, floor, journal, seen, config_hash, fingerprint, version FROM high_water_mark WHERE source = ?"

const leaseToken = "SELECT lease_token FROM high_water_mark WHERE source = ?"

// Mark reads where a source stands. A source never read has Started false.
func (l *Ledger) Mark(ctx context.Context, source string) (Mark, error) {
	var m Mark
	var mark, floor, shape string
	err := l.stmts.mark.QueryRowContext(ctx, source).
		Scan(&mark, &floor, &m.Journal, &m.Seen, &shape, &m.Server, &m.version)
	if errors.Is(err, sql.ErrNoRows) {
		return m, nil
	}
	if err == nil {
		m.Started = m.version > 0
		m.Mark, err = sources.DecodePosition(mark)
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
func moveMark(ctx context.Context, tx *sql.Conn, in *Landing, now string) error {
	if err := in.Lease.check(ctx, in.Lease.ledger.stmts.lease); err != nil {
		return err
	}
	if in.From.table != "" {
		return moveTable(ctx, tx, in, now)
	}
	shape, err := json.Marshal(in.Shape)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `UPDATE high_water_mark SET mark = ?, floor = ?, journal = ?, seen = ?, config_hash = ?, fingerprint = COALESCE(?, fingerprint),
		version = version + 1, moved_at = CASE WHEN mark = ? THEN moved_at ELSE ? END WHERE source = ? AND version = ?`,
		in.To.Mark.Encode(), in.To.Floor.Encode(), in.To.Journal, in.To.Seen, string(shape), null(in.Server), in.To.Mark.Encode(), now, in.Lease.Source, in.From.version)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrMarkMoved, err)
	}
	return nil
}
