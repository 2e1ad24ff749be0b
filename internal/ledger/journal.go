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

	mu   sync.Mutex
	file *os.File // nil until there is something to note
	size int
	open int // acceptances noted and not settled
	buf  []byte
}

const (
	// A journal of which all is settled is emptied where it is larger than
	// journalSmall; one of journalLarge must be settled before more is sent.
	journalSmall = 64 << 10
	journalLarge = 1 << 20
)

// noted is a line of a journal, an acceptance; the first line has the token alone.
type noted struct {
	Token    int64  `json:"token"`
	ID       int64  `json:"id"`
	Hash     string `json:"hash"` // of the content that was sent, hexadecimal
	Attempts int    `json:"attempts"`
	At       string `json:"at"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	Hint     string `json:"hint"`
	SeqNo    string `json:"seqno"`
	Status   int    `json:"status"`
}

func appendNoted(b []byte, s *Settlement) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), s.ID, 10)
	b = hex.AppendEncode(append(b, `,"hash":"`...), []byte(s.Hash))
	b = strconv.AppendInt(append(b, `","attempts":`...), int64(s.Attempts), 10)
	b = s.At.UTC().AppendFormat(append(b, `,"at":"`...), stampLayout)
	b = sources.AppendJSON(append(b, `","code":`...), s.Code)
	b = sources.AppendJSON(append(b, `,"message":`...), s.Message)
	b = sources.AppendJSON(append(b, `,"hint":`...), s.Hint)
	b = sources.AppendJSON(append(b, `,"seqno":`...), s.SeqNo)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(s.HTTPStatus), 10)
	return append(b, "}\n"...)
}

// Note keeps acceptances of the lease's source until they are settled, in the
// order in which they will be. full tells that all of them should be settled before
// there are more. An error loses none: it says that they go out again should the
// process be killed before it settles them.
func (s *Lease) Note(accepted []Settlement) (full bool, err error) {
	j := &s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open += len(accepted)
	j.buf = j.buf[:0]
	if j.file == nil {
		file, err := os.OpenFile(j.path, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return false, fmt.Errorf("noting acceptances beside the ledger: %w", err)
		}
		j.file, j.buf = file, j.head(j.buf)
	}
	for i := range accepted {
		j.buf = appendNoted(j.buf, &accepted[i])
	}
	j.size += len(j.buf)
	if _, err := j.file.Write(j.buf); err != nil {
		return false, fmt.Errorf("noting acceptances beside the ledger: %w", err)
	}
	failpoint.Hit("accepted.noted")
	return j.size >= journalLarge, nil
}

func (j *journal) head(b []byte) []byte { return fmt.Appendf(b, "{\"token\":%d}\n", j.token) }

// settled tells that acceptances which were noted, or are about to be, are in the
// ledger.
func (j *journal) settled(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open -= n
	if j.open > 0 || j.size < journalSmall {
		return
	}
	// What is left of it where this fails is not applied twice: the ledger knows how
	// often each record was sent.
	j.size = 0
	if j.file.Truncate(0) == nil {
		_, _ = j.file.Write(j.head(nil))
	}
}

// close ends the journal. It stays for the next holder where something is open, or
// the lease is another's by now.
func (j *journal) close(lost bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return
	}
	_ = j.file.Close() // nothing is held back in memory
	j.file = nil
	if j.open <= 0 && !lost {
		_ = os.Remove(j.path) // the next holder would see that all of it is settled
	}
}

// left reads what the last holder of a source's lease, whose number is given, has
// noted in its journal, with the hashes as the ledger has them. What another ledger's holder has noted says nothing of
// this one's records, so it is left out.
func left(path string, token int64) ([]noted, error) {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("reading the acceptances that the last run has noted: %w", err)
	}
	return parseNoted(b, token), nil
}

func parseNoted(b []byte, token int64) (all []noted) {
	for first := true; ; first = false {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		var n noted
		// A last line that was not written to its end is none.
		if !whole || json.Unmarshal(line, &n) != nil || (first && n.Token != token) {
			return all
		}
		if hash, err := hex.DecodeString(n.Hash); err == nil && !first {
			n.Hash = string(hash)
			all = append(all, n)
		}
		b = rest
	}
}

// recover writes down what the last holder had noted and not settled. A record
// that was settled, replaced or taken back since is left alone.
func (s *Lease) recover(ctx context.Context, tx *sql.Conn) error {
	all, err := left(s.journal.path, s.token-1)
	if err != nil || len(all) == 0 {
		return err
	}
	stmt, err := tx.PrepareContext(ctx, `UPDATE record SET state = 'delivered', attempts = attempts + 1, next_attempt_at = NULL, last_attempt_at = NULL,
		code = ?, message = ?, hint = ?, seqno = ?, http_status = ?, errors = NULL, delivered_at = ?
		WHERE id = ? AND content_hash = ? AND attempts = ? AND state <> 'delivered'`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, n := range all {
		var status any
		if n.Status != 0 {
			status = n.Status
		}
		res, err := stmt.ExecContext(ctx, null(n.Code), null(n.Message), null(n.Hint), null(n.SeqNo), status, n.At, n.ID, []byte(n.Hash), n.Attempts)
		if err != nil {
			return err
		}
		written, err := res.RowsAffected()
		if err != nil {
			return err
		}
		s.Recovered += int(written)
	}
	_, err = tx.ExecContext(ctx, "UPDATE sync_run SET delivered = delivered + ? WHERE id = (SELECT MAX(id) FROM sync_run WHERE source = ?)", s.Recovered, s.Source)
	return err
}
