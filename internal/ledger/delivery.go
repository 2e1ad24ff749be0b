package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// Due is a record that may be sent.
type Due struct {
	ID            int64
	Source        string
	Hash          string // of the content that Fields was made of
	Fields        string // JSON, an object of texts
	ParkUUID      string
	FlowNo        string
	ParkingSerial string
	Attempts      int
	// RefusedAt is when the platform refused this record while others were
	// still to tell why; zero where it did not.
	RefusedAt time.Time
}

// DueQuery says which records to take.
type DueQuery struct {
	Leases  []*Lease // those the caller holds; only records of their sources are taken
	AfterID int64    // only records landed after this one
	// Now leaves out records whose backoff still runs then; zero takes all.
	Now time.Time
	// SweepStart is when this walk over the records began: a record waits for
	// the next one where an earlier one of its serial was backing off then, for
	// the walk has passed that by. Zero where none is passed by.
	SweepStart time.Time
	Unordered  []string // parking serials whose records do not wait for one another
	Limit      int
}

// owned gives the sources of the query's leases, or a [*LostError] where one of
// them has another holder by now: nothing may be sent under a lost lease.
func (l *Ledger) owned(ctx context.Context, q DueQuery) ([]string, error) {
	var names []string
	for _, lease := range q.Leases {
		if err := lease.check(ctx, l.stmts.leaseRead); err != nil {
			return nil, err
		}
		names = append(names, lease.Source)
	}
	return names, nil
}

// backoffUntil is what a next_attempt_at must not be above for its backoff to have
// ended at a time; at the zero time every one has.
func backoffUntil(at time.Time) string {
	if at.IsZero() {
		return "9999"
	}
	return stamp(at)
}

const dueColumns = `SELECT r.id, o.source, r.content_hash, p.fields, COALESCE(l.park_uuid, ''), COALESCE(r.flow_no, ''), COALESCE(r.parking_serial, ''), r.attempts, r.code, COALESCE(r.last_attempt_at, '')
	FROM record r CROSS JOIN origin o ON o.id = r.origin_id CROSS JOIN payload p ON p.id = r.id LEFT JOIN lot l ON l.id = r.lot_id `

// Due gives pending records in order of landing. A record is left out while an
// earlier one of the same lot and parking serial is pending and cannot be sent
// now.
func (l *Ledger) Due(ctx context.Context, q DueQuery) ([]Due, error) {
	sourceList, unordered, err := l.lists(ctx, q)
	if err != nil {
		return nil, err
	}
	return l.due(ctx, dueColumns+`WHERE r.state = 'pending' AND r.id > ? AND r.next_attempt_at <= ?
		AND r.origin_id IN `+ofSources+`
		AND (r.parking_serial IN (SELECT value FROM json_each(?)) OR NOT EXISTS (
			SELECT 1 FROM record e WHERE e.state = 'pending' AND e.parking_serial = r.parking_serial AND e.lot_id = r.lot_id AND e.id < r.id
			AND ((e.attempts > 0 AND e.next_attempt_at > ?) OR e.origin_id NOT IN `+ofSources+`)))
		ORDER BY r.id LIMIT ?`, q.AfterID, backoffUntil(q.Now), sourceList, unordered, backoffUntil(q.SweepStart), sourceList, q.Limit)
}

// ofSources are the origins of a JSON list of sources.
const ofSources = "(SELECT id FROM origin WHERE source IN (SELECT value FROM json_each(?)))"

// Waiting reports whether records are pending that a walk over those that are
// due would pass by: their backoff runs, or their source is not the query's.
func (l *Ledger) Waiting(ctx context.Context, q DueQuery) (bool, error) {
	sourceList, _, err := l.lists(ctx, q)
	if err != nil {
		return false, err
	}
	var some bool
	err = l.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM record WHERE state = 'pending' AND (next_attempt_at > ? OR origin_id NOT IN `+ofSources+`))`,
		backoffUntil(q.SweepStart), sourceList).Scan(&some)
	if err != nil {
		return false, fmt.Errorf("looking for records that wait: %w", classed(err))
	}
	return some, nil
}

// Probe gives the one record with which to find out whether the gate takes
// calls again: the one whose last try is longest ago, none of excluded.
func (l *Ledger) Probe(ctx context.Context, q DueQuery, excluded []int64) ([]Due, error) {
	sourceList, unordered, err := l.lists(ctx, q)
	if err != nil {
		return nil, err
	}
	skip, err := json.Marshal(append([]int64{}, excluded...))
	if err != nil {
		return nil, err
	}
	return l.due(ctx, dueColumns+`WHERE r.state = 'pending' AND r.origin_id IN `+ofSources+`
		AND r.id NOT IN (SELECT value FROM json_each(?))
		AND (r.parking_serial IN (SELECT value FROM json_each(?)) OR NOT EXISTS (
			SELECT 1 FROM record e WHERE e.state = 'pending' AND e.parking_serial = r.parking_serial AND e.lot_id = r.lot_id AND e.id < r.id))
		ORDER BY r.last_attempt_at NULLS FIRST, r.id LIMIT 1`, sourceList, skip, unordered)
}

func (l *Ledger) lists(ctx context.Context, q DueQuery) (sourceList, unordered string, err error) {
	names, err := l.owned(ctx, q)
	if err != nil {
		return "", "", err
	}
	a, err := json.Marshal(append([]string{}, names...))
	if err != nil {
		return "", "", err
	}
	b, err := json.Marshal(append([]string{}, q.Unordered...))
	return string(a), string(b), err
}

func (l *Ledger) due(ctx context.Context, query string, args ...any) ([]Due, error) {
	var out []Due
	err := each(ctx, l.read, func(rows *sql.Rows) error {
		var d Due
		var code sql.NullString
		var last string
		if err := rows.Scan(&d.ID, &d.Source, &d.Hash, &d.Fields, &d.ParkUUID, &d.FlowNo, &d.ParkingSerial, &d.Attempts, &code, &last); err != nil {
			return err
		}
		switch code.String {
		case "400", "401", "403":
			d.RefusedAt = unstamp(last)
		}
		out = append(out, d)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading pending records: %w", err)
	}
	return out, nil
}

// CountPending counts the pending records of sources, and tells when the first
// backoff among them ends.
func (l *Ledger) CountPending(ctx context.Context, sources []string) (n int, next time.Time, err error) {
	list, err := json.Marshal(sources)
	if err != nil {
		return 0, next, err
	}
	var at sql.NullString
	err = l.read.QueryRowContext(ctx, `SELECT COUNT(*), MIN(next_attempt_at) FROM record
		WHERE state = 'pending' AND origin_id IN `+ofSources, list).Scan(&n, &at)
	if err != nil {
		return 0, next, fmt.Errorf("counting pending records: %w", classed(err))
	}
	return n, unstamp(at.String), nil
}
