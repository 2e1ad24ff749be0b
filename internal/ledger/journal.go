package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"

	"parkbridge/internal/failpoint"
	"parkbridge/sources"
)

// journal keeps acceptances of a source's records from the moment they are known
// until the ledger has them, in a file beside the ledger. It outlives the process,
// so that none of them goes out again when that is killed, but it is not flushed
// to the disk: what a power cut takes away is sent once more, and the platform
// ignores it. That makes noting an acceptance so cheap that the ledger may write
// hundreds at a time.
//
// The file belongs to the holder of the source's lease, whose number it begins
// with. Who takes the lease next writes down what it holds, see [Ledger.Acquire].
type journal struct {
	path  string
	token int64

	mu    sync.Mutex
	file  *os.File // nil until there is something to note
	size  int
	open  int  // acceptances noted and not settled
	torn  bool // the last line may not be whole
	ended bool // the lease has
	buf   []byte
}

const (
	// A journal of which all is settled goes with [Lease.Tidy], or where it is larger
	// than journalSmall; one of journalLarge must be settled before more is sent.
	journalSmall = 64 << 10
	journalLarge = 1 << 20
)

// noted is a line of a journal, an acceptance; the first line has the token alone.
type noted struct {
	Token   int64  `json:"token"`
	ID      int64  `json:"id"`
	Hash    string `json:"hash"` // of the content that was sent, hexadecimal
	At      string `json:"at"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	SeqNo   string `json:"seqno"`
	Status  int    `json:"status"`
}

func appendNoted(b []byte, s *Settlement) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), s.ID, 10)
	b = hex.AppendEncode(append(b, `,"hash":"`...), []byte(s.Hash))
	b = s.At.UTC().AppendFormat(append(b, `","at":"`...), stampLayout)
	b = sources.AppendJSON(append(b, `","code":`...), s.Code)
	b = sources.AppendJSON(append(b, `,"message":`...), s.Message)
	b = sources.AppendJSON(append(b, `,"hint":`...), s.Hint)
	b = sources.AppendJSON(append(b, `,"seqno":`...), s.SeqNo)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(s.HTTPStatus), 10)
	return append(b, "}\n"...)
}

// Note keeps acceptances of the lease's source until they are settled, in the
// order in which they will be; after the lease's end it does nothing. full tells
// that all of them should be settled before there are more. An error loses none: it
// says that they go out again should the process be killed before it settles them.
func (s *Lease) Note(accepted []Settlement) (full bool, err error) {
	j := &s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended {
		return false, nil
	}
	j.open += len(accepted)
	j.buf = j.buf[:0]
	if j.file == nil {
		file, err := os.OpenFile(j.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return false, fmt.Errorf("noting acceptances beside the ledger: %w", err)
		}
		j.file, j.size, j.torn = file, 0, false
		j.buf = fmt.Appendf(j.buf, "{\"token\":%d}\n", j.token)
	}
	if j.torn {
		j.buf = append(j.buf, '\n')
	}
	for i := range accepted {
		j.buf = appendNoted(j.buf, &accepted[i])
	}
	n, err := j.file.Write(j.buf)
	j.size += n
	if j.torn = err != nil; j.torn {
		return false, fmt.Errorf("noting acceptances beside the ledger: %w", err)
	}
	failpoint.Hit("accepted.noted")
	return j.size >= journalLarge, nil
}

// settled tells that acceptances which were noted, or are about to be, are in the
// ledger.
func (j *journal) settled(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open -= n
	if j.open <= 0 && j.size >= journalSmall {
		j.remove()
	}
}

// Tidy removes the journal where all of it is settled.
func (s *Lease) Tidy() {
	j := &s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open <= 0 && !j.ended {
		j.remove()
	}
}

// remove ends the file; what stays of it where that fails is not applied twice, for
// the ledger knows when each record was accepted.
func (j *journal) remove() {
	if j.file != nil {
		_ = j.file.Close() // nothing is held back in memory
		_ = os.Remove(j.path)
		j.file, j.size = nil, 0
	}
}

// end ends the journal with its lease. The file stays for the next holder where
// something is open, or where the lease was lost and the file may be another's.
func (j *journal) end(lost bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	if j.open <= 0 && !lost {
		j.remove()
	} else if j.file != nil {
		_ = j.file.Close()
	}
}

// left reads what the holder of a source's lease, whose number is given, has noted
// in its journal, with the hashes as the ledger has them. What another has noted
// may speak of another ledger's records, so it is left out.
func left(path string, token int64) ([]noted, error) {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("reading the acceptances that the last run has noted (mend the file's rights, or move it away: what it names then goes out again): %w", err)
	}
	return parseNoted(b, token), nil
}

func parseNoted(b []byte, token int64) (all []noted) {
	for first := true; ; first = false {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		var n noted
		err := json.Unmarshal(line, &n)
		if first && (!whole || err != nil || n.Token == 0 || n.Token != token) {
			return nil
		}
		// A line that was not written to its end is none.
		if hash, bad := hex.DecodeString(n.Hash); !first && whole && err == nil && bad == nil && n.ID != 0 {
			n.Hash = string(hash)
			all = append(all, n)
		}
		if !whole {
			return all
		}
		b = rest
	}
}

// settleNoted writes down what the holder with a number had noted and not settled, and
// counts it. A record that was accepted as late before, or has another content now,
// is left alone.
func (s *Lease) settleNoted(ctx context.Context, tx *sql.Conn, token int64) (n int, err error) {
	all, err := left(s.journal.path, token)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	stmt, err := tx.PrepareContext(ctx, `SELECT EXISTS (SELECT 1 FROM record
		WHERE id = ? AND content_hash = ? AND state <> 'delivered' AND (delivered_at IS NULL OR delivered_at < ?))`)
	if err != nil {
		return 0, err
	}
	defer stmt.Close()
	a := Answers{Leases: map[string]*Lease{s.Source: s}}
	for _, one := range all {
		var fits bool
		if err := stmt.QueryRowContext(ctx, one.ID, []byte(one.Hash), one.At).Scan(&fits); err != nil {
			return 0, err
		}
		if fits {
			a.Settlements = append(a.Settlements, Settlement{
				Due: &Due{ID: one.ID, Source: s.Source, Hash: one.Hash}, State: Delivered, Attempted: true, At: unstamp(one.At),
				Code: one.Code, Message: one.Message, Hint: one.Hint, SeqNo: one.SeqNo, HTTPStatus: one.Status,
			})
		}
	}
	var run int64
	if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM sync_run WHERE source = ?", s.Source).Scan(&run); err != nil {
		return 0, err
	}
	a.Runs = map[string]int64{s.Source: run}
	return len(a.Settlements), (&writing{l: s.ledger, tx: tx, lots: map[string]int64{}}).answers(ctx, a)
}

// Recover writes down what this lease's own journal holds and a failed
// [Ledger.Settle] has not written, and reports how many records that were. With
// nothing open it does nothing.
func (s *Lease) Recover(ctx context.Context) (n int, err error) {
	j := &s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open <= 0 || j.ended {
		return 0, nil
	}
	err = s.ledger.tx(ctx, func(tx *sql.Conn) error {
		if err := s.check(ctx, s.ledger.stmts.lease); err != nil {
			return err
		}
		n, err = s.settleNoted(ctx, tx, s.token)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("settling what is noted beside the ledger: %w", err)
	}
	j.open = 0
	j.remove()
	return n, nil
}
