package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"parkbridge/internal/ledger"
	"parkbridge/sink"
)

// mode says what the conductor may send.
type mode uint8

const (
	sendingAll mode = iota
	probing         // one record, to learn whether the gate or a record is at fault
	stopped         // nothing: the circuit is open or the sink is blocked
)

const (
	// rejectedMost different 400s in a row with no acceptance between them
	// block the sink: then it is not the records.
	rejectedMost = 10
	// A circuit opens after failuresMost failures in a row, or after
	// failuresFew that took two timeouts together: a gate that hangs is known
	// within three timeouts even with one call at a time.
	failuresMost = 10
	failuresFew  = 3

	backoffBase = 5 * time.Second
	backoffMost = 15 * time.Minute
)

// verdict is what the answers so far say about the gate.
type verdict struct {
	mode      mode
	sink      ledger.SinkState
	suspects  []answer // refused, and not yet known whose fault it is
	failures  int      // in a row
	failure   string   // what the last of them was
	failing   time.Time
	ownFaults time.Time // LastAcceptedAt when a record was last found to be at fault itself
	freed     []freed
	requeued  []*record // to be sent once more in this sweep
	now       func() time.Time
	settings  Settings
	logs      logger
}

// freed is a record that no longer is under way; done tells that it is not
// pending any more.
type freed struct {
	*record
	done bool
}

// logger is what a verdict tells an operator about, once.
type logger interface {
	Warn(msg string, args ...any)
	Error(msg string, args ...any)
	Info(msg string, args ...any)
}

func (v *verdict) load(ctx context.Context, b *Bridge) error {
	s, err := b.Ledger.Sink(ctx)
	v.sink, v.now, v.settings, v.logs = s, b.Now, b.Settings, b.Log
	return err
}

// waitUntil is until when the gate asked to be left alone.
func (v *verdict) waitUntil() time.Time {
	// A clock put back must not make it longer than the API allows.
	if most := v.now().Add(time.Hour); v.sink.RetryAt.After(most) {
		return most
	}
	return v.sink.RetryAt
}

func (v *verdict) suspectIDs() []int64 {
	ids := make([]int64, 0, len(v.suspects))
	for _, s := range v.suspects {
		ids = append(ids, s.ID)
	}
	return ids
}

func (v *verdict) set(state, reason string) {
	if v.sink.State == state && v.sink.Reason == reason {
		return
	}
	switch {
	case state == ledger.SinkBlocked:
		v.logs.Error("the sink is blocked; every record stays pending", "reason", reason)
	case state == ledger.SinkFailing:
		v.logs.Warn("the gate does not take records; they stay pending", "reason", reason)
	case v.sink.State != ledger.SinkOK:
		v.logs.Info("the gate takes records again")
	}
	v.sink.State, v.sink.Reason, v.sink.Since = state, reason, v.now()
}

// judge gives the settlements that an answer leads to.
func (v *verdict) judge(a answer) []ledger.Settlement {
	if a.cut {
		v.free(a, false) // nothing is known of it; it goes out again, under its flow_no
		return nil
	}
	switch a.reply.Outcome {
	case sink.Delivered:
		return v.accepted(a)
	case sink.Rejected:
		return v.rejected(a)
	case sink.Refused:
		return v.refused(a)
	default:
		return v.failed(a)
	}
}

func (v *verdict) free(a answer, done bool) { v.freed = append(v.freed, freed{a.record, done}) }

// settlement is the answer as it is written down, with the state that follows.
func settlement(a answer, state string) ledger.Settlement {
	return ledger.Settlement{
		Due: &a.Due, State: state, Attempted: state != ledger.Pending, At: a.at,
		Code: a.reply.Code, Message: a.reply.Message, Hint: a.reply.Hint, SeqNo: a.reply.SeqNo, HTTPStatus: a.reply.HTTPStatus,
		Problems: differences(a.reply),
	}
}

func differences(r sink.Reply) []ledger.Problem {
	var out []ledger.Problem
	for _, d := range r.Differences {
		one := sink.Reply{Compared: true, Differences: []sink.Difference{d}}
		out = append(out, ledger.Problem{Field: d.Field, Problem: "the signature did not verify: " + one.Explain()})
	}
	return out
}

func (v *verdict) accepted(a answer) []ledger.Settlement {
	v.failures = 0
	v.sink.LastAcceptedAt, v.sink.RejectedRun = a.at, nil
	v.free(a, true)
	out := []ledger.Settlement{settlement(a, ledger.Delivered)}
	if a.reply.Remark {
		v.logs.Info("the gate accepted a record with a remark", "record", a.ID)
	}
	// The gate takes what others send, so a refusal was the record's own.
	// Only a call begun after the refusal says so.
	if a.probe && v.mode == probing {
		if len(v.suspects) > 0 {
			out = append(out, v.reject(v.suspects[0]))
			// Several were refused before the first answer stopped the sending; for
			// the others it may have been a moment's trouble of the gate. Refused
			// again, they are at fault themselves.
			for _, s := range v.suspects[1:] {
				s.RefusedAt = s.at
				v.requeued = append(v.requeued, s.record)
			}
		}
		v.suspects = nil
		v.mode = sendingAll
		v.set(ledger.SinkOK, "")
	} else if v.mode == sendingAll {
		v.set(ledger.SinkOK, "")
	}
	return out
}

// reject ends a record that the gate refused or rejected while it took others.
func (v *verdict) reject(a answer) ledger.Settlement {
	v.free(a, true)
	v.logs.Warn("the gate rejected a record", "record", a.ID, "source", a.Source, "code", a.reply.Code, "fields", a.reply.DifferentFields())
	s := settlement(a, ledger.Rejected)
	if a.reply.Explain() != "" && len(a.reply.Differences) == 0 {
		s.Problems = []ledger.Problem{{Field: sink.FieldSign, Problem: a.reply.Explain()}}
	}
	return s
}

// ownFault reports that the record was refused before, that another has been
// accepted since, and that it is refused again: no other record need be tried.
// One acceptance speaks against one record only, or a gate that refuses all,
// takes one and refuses all again would have every record set aside.
func (v *verdict) ownFault(a answer) bool {
	if a.RefusedAt.IsZero() || !a.RefusedAt.Before(v.sink.LastAcceptedAt) || !v.ownFaults.Before(v.sink.LastAcceptedAt) {
		return false
	}
	v.ownFaults = v.sink.LastAcceptedAt
	return true
}

func (v *verdict) rejected(a answer) []ledger.Settlement {
	v.failures = 0
	v.stillFailing(strings.TrimSpace(a.reply.Code + " " + a.reply.Message))
	if v.ownFault(a) {
		return []ledger.Settlement{v.reject(a)}
	}
	if v.sink.State == ledger.SinkBlocked {
		v.free(a, false)
		v.mode = stopped
		return []ledger.Settlement{settlement(a, ledger.Pending)}
	}
	if !slices.Contains(v.sink.RejectedRun, a.ID) {
		v.sink.RejectedRun = append(v.sink.RejectedRun, a.ID)
	}
	if len(v.sink.RejectedRun) < rejectedMost {
		return []ledger.Settlement{v.reject(a)}
	}
	// Not the records, then: those set aside come back.
	v.free(a, false)
	out := []ledger.Settlement{settlement(a, ledger.Pending)}
	for _, id := range v.sink.RejectedRun {
		if id != a.ID {
			out = append(out, ledger.Settlement{Due: &ledger.Due{ID: id}, Reopen: true})
		}
	}
	v.logs.Warn("the records just rejected are pending again", "records", len(v.sink.RejectedRun)-1)
	v.sink.RejectedRun = nil
	v.block(fmt.Sprintf("%d different records in a row were answered with 400 %s and none accepted between them", rejectedMost, firstOf(a.reply.Hint, a.reply.Message)))
	return out
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func (v *verdict) block(reason string) {
	v.drop()
	v.mode = stopped
	v.set(ledger.SinkBlocked, reason)
}

func (v *verdict) refused(a answer) []ledger.Settlement {
	v.failures = 0
	if v.ownFault(a) {
		return []ledger.Settlement{v.reject(a)}
	}
	// It stays pending, and keeps those of its serial waiting, until another
	// record has told whose fault it is.
	out := []ledger.Settlement{settlement(a, ledger.Pending)}
	switch {
	case v.mode == stopped: // by others; the next run will ask again
		v.free(a, false)
	case a.probe && (len(v.suspects) > 0 || v.sink.State == ledger.SinkBlocked):
		v.suspects = append(v.suspects, a)
		v.blockRefused()
	default:
		v.suspects = append(v.suspects, a)
		v.mode = probing
	}
	return out
}

// blockRefused gives up looking for a record that the gate takes.
func (v *verdict) blockRefused() {
	first := v.suspects[0].reply
	reason := fmt.Sprintf("%s %s", first.Code, first.Message)
	if names := first.DifferentFields(); len(names) > 0 && !first.Unsigned {
		reason += "; our text and the platform's differ in " + strings.Join(names, ", ")
	} else if why := first.Explain(); why != "" {
		reason += "; " + why
	}
	v.block(reason)
}

// drop lets the suspects be: they stay pending.
func (v *verdict) drop() {
	for _, s := range v.suspects {
		v.free(s, false)
	}
	v.suspects = nil
}

// noProbe is called where there is no other record to try.
func (v *verdict) noProbe() {
	if len(v.suspects) > 0 {
		v.blockRefused()
		return
	}
	// Nothing is pending, so there is nothing to learn. Where the gate was only
	// failing, the next record that lands will tell.
	v.mode = stopped
	if v.sink.State != ledger.SinkBlocked {
		v.mode = sendingAll
	}
}

func (v *verdict) failed(a answer) []ledger.Settlement {
	v.free(a, false)
	if v.failures == 0 {
		v.failing = a.begun
	}
	v.failures++
	s := settlement(a, ledger.Pending)
	s.Attempted = true
	s.NextAttempt = a.at.Add(backoff(a.Attempts))
	if at := a.at.Add(a.reply.RetryAfter); a.reply.RetryAfter > 0 && at.After(v.sink.RetryAt) {
		v.sink.RetryAt = at
	}
	reason := strings.TrimSpace(a.reply.Code + " " + a.reply.Message)
	v.failure = reason
	v.stillFailing(reason)
	long := a.at.Sub(v.failing) >= 2*v.settings.Timeout
	if a.reply.RetryAfter > 0 || v.failures >= failuresMost || (v.failures >= failuresFew && long) {
		v.open(reason)
	} else if v.sink.State == ledger.SinkBlocked {
		v.mode = stopped // the one probe brought no answer; it stays blocked
	}
	return []ledger.Settlement{s}
}

// stillFailing keeps the reason of a failing gate that of its last answer.
func (v *verdict) stillFailing(reason string) {
	if v.sink.State == ledger.SinkFailing {
		v.sink.Reason = reason
	}
}

// admit says that the gate is failing where the last answers were failures,
// though too few to stop sending. It reports whether that is news.
func (v *verdict) admit() bool {
	if v.failures == 0 || v.sink.State != ledger.SinkOK {
		return false
	}
	v.set(ledger.SinkFailing, v.failure)
	return true
}

// open stops sending because the gate is unreachable or failing.
func (v *verdict) open(reason string) {
	v.drop()
	v.mode = stopped
	if v.sink.State != ledger.SinkBlocked {
		v.set(ledger.SinkFailing, reason)
	}
}

// backoff is how long a record waits after a number of failed attempts before
// this one: doubling from 5 s to 15 minutes, with half of it jitter.
func backoff(attempts int) time.Duration {
	d := backoffMost
	if attempts < 8 {
		d = min(backoffBase<<attempts, backoffMost)
	}
	return d/2 + rand.N(d/2+1)
}
