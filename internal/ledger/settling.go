package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"parkbridge/internal/failpoint"
)

// Settlement is what an answer of the gate makes of a record.
type Settlement struct {
	// Due is the record as it was sent; the row's content may be another by now.
	*Due
	State string // the state after it
	// Attempted counts the attempt; a refusal that is not the record's fault
	// does not count.
	Attempted   bool
	NextAttempt time.Time // zero leaves it as it is
	At          time.Time // when the answer came
	Code        string
	Message     string
	Hint        string
	SeqNo       string
	HTTPStatus  int
	Problems    []Problem // what is known to be wrong with which field
	// Reopen takes a record that was rejected, of whatever source, back to
	// pending and changes nothing else.
	Reopen bool
}

// SinkState is what the bridge knows of the gate beyond any one record.
type SinkState struct {
	State  string // SinkOK, SinkFailing or SinkBlocked
	Reason string
	Since  time.Time
	// RetryAt is until when the gate asked to be left alone; zero if it did not.
	RetryAt        time.Time
	LastAcceptedAt time.Time
	// RejectedRun lists the records answered with 400 since the last acceptance.
	RejectedRun []int64
}

// States of the sink.
const (
	SinkOK      = "ok"
	SinkFailing = "failing" // the circuit is open: unreachable, or answering with errors
	SinkBlocked = "blocked" // it refuses every record alike
)

// Answers are answers of the gate that are to be written.
type Answers struct {
	Leases      map[string]*Lease // of the records' sources
	Runs        map[string]int64  // that they count for, by source
	Settlements []Settlement
	Sink        *SinkState // as it is after them; nil leaves what is stored
}

// Settle writes answers in one transaction, under the leases of the records'
// sources; with a [*LostError] nothing was written. A record that a person has
// ended meanwhile stays ended, unless the platform has taken it. One whose content
// is another by now stays as it is, unless the platform has taken what was sent.
func (l *Ledger) Settle(ctx context.Context, answers Answers) error {
	err := l.tx(ctx, func(tx *sql.Conn) error {
		failpoint.Hit("settle.begin")
		err := (&writing{l: l, tx: tx, lots: map[string]int64{}}).answers(ctx, answers)
		failpoint.Hit("settle.commit")
		return err
	})
	if err != nil {
		return fmt.Errorf("settling answers: %w", err)
	}
	failpoint.Hit("settle.done")
	accepted := map[string]int{}
	for i := range answers.Settlements {
		if s := &answers.Settlements[i]; s.State == Delivered && !s.Reopen {
			accepted[s.Source]++
		}
	}
	for source, n := range accepted {
		answers.Leases[source].journal.settled(n)
	}
	return nil
}

func (w *writing) answers(ctx context.Context, a Answers) error {
	counts := map[string]*[2]int{}
	for i := range a.Settlements {
		s := &a.Settlements[i]
		if !s.Reopen && counts[s.Source] == nil {
			lease := a.Leases[s.Source]
			if lease == nil {
				return &LostError{s.Source}
			}
			if err := lease.check(ctx, w.l.stmts.lease); err != nil {
				return err
			}
			counts[s.Source] = new([2]int)
		}
	}
	if err := w.settleAll(ctx, a.Settlements, counts); err != nil {
		return err
	}
	failpoint.Hit("settle.records")
	for source, n := range counts {
		if n[0] == 0 && n[1] == 0 {
			continue
		}
		if _, err := w.l.stmts.runDelivered.ExecContext(ctx, n[0], n[1], n[1], a.Runs[source]); err != nil {
			return err
		}
	}
	if a.Sink != nil {
		return w.l.writeSink(ctx, *a.Sink)
	}
	return nil
}

const (
	settleAny = `UPDATE record SET state = ?, attempts = attempts + ?, next_attempt_at = COALESCE(?, next_attempt_at),
		last_attempt_at = ?, code = ?, message = ?, hint = ?, seqno = ?, http_status = ?, errors = ?
		WHERE id = ? AND content_hash = ? AND state = 'pending'`
	// Acceptances are written many in a statement. A record is never taken out of
	// the ledger, so each row is there and is updated; what the others have is what
	// no record may have.
	deliveredInto = "INSERT INTO record (id, content_hash, code, message, hint, seqno, http_status, delivered_at, " +
		"origin_id, row_key, generation, revision, state, first_seen_at) VALUES "
	deliveredRow  = "(?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, 0, 'delivered', '')"
	deliveredThen = ` ON CONFLICT (id) DO UPDATE SET state = 'delivered', attempts = attempts + 1, next_attempt_at = NULL,
		last_attempt_at = NULL, code = excluded.code, message = excluded.message, hint = excluded.hint, seqno = excluded.seqno,
		http_status = excluded.http_status, errors = NULL, delivered_at = excluded.delivered_at
		WHERE content_hash = excluded.content_hash`
	deliveredValues = 8
	countDelivered  = "UPDATE sync_run SET delivered = delivered + ?, rejected = CASE WHEN rejected + ? < 0 THEN 0 ELSE rejected + ? END WHERE id = ?"
	updateSink      = "UPDATE sink_state SET state = ?, reason = ?, since = ?, retry_at = ?, last_accepted_at = ?, rejected_run = ? WHERE id = 1"
)

// reopen takes back a rejection that turned out not to be the record's fault.
func reopen(ctx context.Context, tx *sql.Conn, id int64, counts map[string]*[2]int) error {
	var source string
	err := tx.QueryRowContext(ctx, `UPDATE record SET state = 'pending' WHERE id = ? AND state = 'rejected'
		RETURNING (SELECT source FROM origin WHERE origin.id = origin_id)`, id).Scan(&source)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if count := counts[source]; count != nil {
		count[1]--
	}
	return err
}

// settleAll writes settlements in their order, acceptances that follow one
// another together. counts are delivered and rejected records by source.
func (w *writing) settleAll(ctx context.Context, all []Settlement, counts map[string]*[2]int) error {
	accepted := w.l.stmts.delivered.rows(deliveredValues)
	var written []Settlement // by the next statement for acceptances, and after it
	accepted.wrote = func(n int, res driver.Result) error {
		part := written[:n]
		written = written[n:]
		updated, err := res.RowsAffected()
		if err == nil && updated < int64(n) {
			err = w.catchUp(ctx, part, counts)
		}
		for _, s := range part {
			counts[s.Source][0]++
		}
		return err
	}
	for i := range all {
		s := &all[i]
		if s.State == Delivered && !s.Reopen {
			if len(accepted.args) == 0 {
				written = all[i:]
			}
			if err := accepted.add(ctx, s.ID, []byte(s.Hash), null(s.Code), null(s.Message), null(s.Hint), null(s.SeqNo), s.status(), stamp(s.At)); err != nil {
				return fmt.Errorf("records up to %d: %w", s.ID, err)
			}
			continue
		}
		if err := accepted.flush(ctx); err != nil {
			return fmt.Errorf("records before %d: %w", s.ID, err)
		}
		if err := w.settle(ctx, *s, counts); err != nil {
			return fmt.Errorf("record %d: %w", s.ID, err)
		}
	}
	return accepted.flush(ctx)
}

// catchUp settles those of some accepted records whose content is another by now.
func (w *writing) catchUp(ctx context.Context, accepted []Settlement, counts map[string]*[2]int) error {
	for _, s := range accepted {
		var asSent bool
		err := w.tx.QueryRowContext(ctx, "SELECT content_hash = ? FROM record WHERE id = ?", []byte(s.Hash), s.ID).Scan(&asSent)
		if err == nil && !asSent {
			var n int64
			n, err = w.deliveredBefore(ctx, s)
			counts[s.Source][0] += int(n) - 1 // as all of them are counted
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", s.ID, err)
		}
	}
	return nil
}

// status is the HTTP status for the ledger.
func (s *Settlement) status() any {
	if s.HTTPStatus == 0 {
		return nil
	}
	return int64(s.HTTPStatus)
}

// settle writes an answer that was no acceptance.
func (w *writing) settle(ctx context.Context, s Settlement, counts map[string]*[2]int) error {
	if s.Reopen {
		return reopen(ctx, w.tx, s.ID, counts)
	}
	var problems any
	if len(s.Problems) > 0 {
		b, err := json.Marshal(s.Problems)
		if err != nil {
			return err
		}
		problems = string(b)
	}
	attempted := 0
	if s.Attempted {
		attempted = 1
	}
	res, err := w.l.stmts.settle.ExecContext(ctx, s.State, attempted, null(stamp(s.NextAttempt)), stamp(s.At),
		null(s.Code), null(s.Message), null(s.Hint), null(s.SeqNo), s.status(), problems, s.ID, []byte(s.Hash))
	if err != nil || s.State != Rejected {
		return err
	}
	n, err := res.RowsAffected()
	counts[s.Source][1] += int(n)
	return err
}

// deliveredBefore settles a record that the platform took with a content which
// has been replaced meanwhile: the record is what was sent, and its row has
// changed since. Whoever has been given its number in the meantime has it in
// vain.
func (w *writing) deliveredBefore(ctx context.Context, s Settlement) (int64, error) {
	lot, err := w.lot(ctx, s.ParkUUID)
	if err != nil {
		return 0, err
	}
	// Another record was delivered under that number before this answer came: the
	// platform has ignored one of the two.
	number, note := null(s.FlowNo), any(nil)
	var other int64
	err = w.tx.QueryRowContext(ctx, "SELECT id FROM record WHERE flow_no = ? AND lot_id = ? AND id <> ? AND state = 'delivered'", s.FlowNo, lot, s.ID).Scan(&other)
	switch {
	case err == nil:
		number, note = nil, fmt.Sprintf(`[{"field":"flow_no","problem":"record %d was delivered under the same number; the platform has ignored one of the two"}]`, other)
	case !errors.Is(err, sql.ErrNoRows):
		return 0, err
	}
	problems, err := json.Marshal([]Problem{{Field: "flow_no", Problem: fmt.Sprintf("%q was sent by record %d; the platform would ignore a second one", s.FlowNo, s.ID)}})
	if err != nil {
		return 0, err
	}
	var inVain int64
	err = w.tx.QueryRowContext(ctx, "UPDATE record SET state = 'invalid', flow_no = NULL, errors = ? WHERE flow_no = ? AND lot_id = ? AND id <> ? AND state <> 'delivered' RETURNING id",
		string(problems), s.FlowNo, lot, s.ID).Scan(&inVain)
	if err == nil {
		err = w.keep(ctx, inVain, nil, nil)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	res, err := w.tx.ExecContext(ctx, `UPDATE record SET state = 'delivered', attempts = attempts + 1, next_attempt_at = NULL, last_attempt_at = NULL, delivered_at = ?,
		code = ?, message = ?, hint = ?, seqno = ?, errors = ?, flow_no = ?, lot_id = ?, parking_serial = ?,
		seen_hash = content_hash, content_hash = ? WHERE id = ? AND content_hash <> ?`,
		stamp(s.At), null(s.Code), null(s.Message), null(s.Hint), null(s.SeqNo), note,
		number, lot, null(s.ParkingSerial), []byte(s.Hash), s.ID, []byte(s.Hash))
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err == nil && n > 0 {
		err = w.keep(ctx, s.ID, nil, s.Fields)
	}
	return n, err
}

func (l *Ledger) writeSink(ctx context.Context, s SinkState) error {
	run, err := json.Marshal(append([]int64{}, s.RejectedRun...))
	if err != nil {
		return err
	}
	_, err = l.stmts.sink.ExecContext(ctx,
		s.State, s.Reason, stamp(s.Since), stamp(s.RetryAt), stamp(s.LastAcceptedAt), string(run))
	return err
}

// Sink reads the sink's state.
func (l *Ledger) Sink(ctx context.Context) (SinkState, error) {
	var s SinkState
	var since, retry, accepted, run string
	err := l.read.QueryRowContext(ctx, "SELECT state, reason, since, retry_at, last_accepted_at, rejected_run FROM sink_state WHERE id = 1").
		Scan(&s.State, &s.Reason, &since, &retry, &accepted, &run)
	if err == nil {
		err = json.Unmarshal([]byte(run), &s.RejectedRun)
	}
	if err != nil {
		return s, fmt.Errorf("reading the sink's state: %w", classed(err))
	}
	s.Since, s.RetryAt, s.LastAcceptedAt = unstamp(since), unstamp(retry), unstamp(accepted)
	return s, nil
}

// Unblock sets the sink's state to ok, for `resume`. It reports what the state was.
func (l *Ledger) Unblock(ctx context.Context) (was SinkState, err error) {
	if was, err = l.Sink(ctx); err != nil {
		return was, err
	}
	err = l.tx(ctx, func(*sql.Conn) error {
		return l.writeSink(ctx, SinkState{State: SinkOK, Since: l.now(), LastAcceptedAt: was.LastAcceptedAt})
	})
	return was, err
}
