package ledger

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

type noting struct {
	*Ledger
	lease *Lease
	rows  []New
	path  string
}

// openNoting makes a ledger with records that are to be sent.
func openNoting(t *testing.T, records int) *noting {
	t.Helper()
	n := &noting{path: filepath.Join(t.TempDir(), "l.db")}
	n.Ledger = n.open(t, n.path)
	n.acquire(t)
	for i := range records {
		n.rows = append(n.rows, New{Key: fmt.Sprint(i), Content: Content{
			Hash: "00000000:" + fmt.Sprint(i), Columns: "{}", Mapped: Mapped{Fields: "{}", ParkUUID: "P", FlowNo: fmt.Sprint("F", i), ParkingSerial: fmt.Sprint("S", i)},
		}})
	}
	_, err := n.Land(t.Context(), Landing{Lease: n.lease, Table: "pass", Rows: n.rows})
	require.NoError(t, err)
	return n
}

func (n *noting) open(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), Config{Driver: "sqlite", DSN: sources.Secret(path)}, time.Now, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func (n *noting) acquire(t *testing.T) {
	t.Helper()
	var err error
	n.lease, err = n.Acquire(t.Context(), "gate")
	require.NoError(t, err)
	lease := n.lease
	t.Cleanup(func() { require.NoError(t, lease.Release(context.WithoutCancel(t.Context()))) })
	_, err = n.BeginRun(t.Context(), "gate", time.Now())
	require.NoError(t, err)
}

func (n *noting) accepted(from, to int) []Settlement {
	var all []Settlement
	for _, r := range n.rows[from:to] {
		all = append(all, Settlement{
			Due: &Due{ID: r.ID, Source: "gate", Hash: r.Hash}, State: Delivered, Attempted: true, At: time.UnixMilli(1_800_000_000_123),
			Code: "1001", Message: "已接收\n\"", SeqNo: "s" + r.Key, HTTPStatus: 200,
		})
	}
	return all
}

func (n *noting) note(t *testing.T, from, to int) (full bool) {
	t.Helper()
	full, err := n.lease.Note(n.accepted(from, to))
	require.NoError(t, err)
	return full
}

func (n *noting) settle(t *testing.T, from, to int) {
	t.Helper()
	require.NoError(t, n.Settle(t.Context(), Answers{Leases: map[string]*Lease{"gate": n.lease}, Settlements: n.accepted(from, to)}))
}

// killed gives the ledger as a process that was killed now would leave it, and
// whether its source was taken over; change is done to the journal first.
func (n *noting) killed(t *testing.T, change func([]byte) []byte) *noting {
	t.Helper()
	after := &noting{path: filepath.Join(t.TempDir(), "l.db"), rows: n.rows}
	for _, side := range []string{"", "-wal", ".gate.accepted"} {
		b, err := os.ReadFile(n.path + side)
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		if side == ".gate.accepted" && change != nil {
			b = change(b)
		}
		require.NoError(t, os.WriteFile(after.path+side, b, 0o600))
	}
	after.Ledger = after.open(t, after.path)
	after.acquire(t)
	return after
}

func (n *noting) states(t *testing.T) (all []string) {
	t.Helper()
	for _, r := range n.rows {
		records, err := n.Records(t.Context(), Filter{IDs: []int64{r.ID}})
		require.NoError(t, err)
		all = append(all, records[0].State)
	}
	return all
}

// What was noted and not settled when a process was killed is settled by the next
// one, as it would have been; nothing else is touched.
func TestNotedAcceptancesSurvive(t *testing.T) {
	t.Parallel()
	n := openNoting(t, 6)
	n.settle(t, 0, 1) // before it is noted, as may happen
	n.note(t, 0, 4)
	n.settle(t, 1, 2)
	after := n.killed(t, nil)
	require.Equal(t, 2, after.lease.Recovered)
	require.Equal(t, []string{Delivered, Delivered, Delivered, Delivered, Pending, Pending}, after.states(t))
	records, err := after.Records(t.Context(), Filter{IDs: []int64{n.rows[3].ID}})
	require.NoError(t, err)
	r := records[0]
	require.Equal(t, "1001", r.Code)
	require.Equal(t, "已接收\n\"", r.Message)
	require.Equal(t, "s3", r.SeqNo)
	require.Equal(t, 200, r.HTTPStatus)
	require.Equal(t, 1, r.Attempts)
	require.True(t, r.DeliveredAt.Equal(time.UnixMilli(1_800_000_000_123)))
	runs, err := after.Runs(t.Context(), "gate", 2)
	require.NoError(t, err)
	require.Equal(t, 2, runs[1].Delivered, "the killed run's")

	again := after.killed(t, nil)
	require.Zero(t, again.lease.Recovered)
}

// What does not fit the ledger as it is now is left alone.
func TestNotedAcceptancesThatFitNoMore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before func(t *testing.T, n *noting)
		change func([]byte) []byte
		want   int
	}{
		"torn last line":      {change: func(b []byte) []byte { return b[:len(b)-5] }, want: 2},
		"torn line amid":      {change: func(b []byte) []byte { return bytes.Replace(b, []byte(`,"code"`), []byte("\n"), 1) }, want: 2},
		"nothing in it":       {change: func([]byte) []byte { return nil }},
		"not a journal":       {change: func([]byte) []byte { return []byte("\x00\xff\n{}\n") }},
		"no number":           {change: func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }},
		"another number":      {change: func(b []byte) []byte { return bytes.Replace(b, []byte(`{"token":`), []byte(`{"token":1`), 1) }},
		"a hash that is none": {change: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"hash":"`), []byte(`"hash":"zz`)) }},
		"to be sent once more": {before: func(t *testing.T, n *noting) { // and not a second time by what was noted of the first
			t.Helper()
			n.settle(t, 0, 3)
			_, _, err := n.Resend(t.Context(), Filter{IDs: []int64{n.rows[1].ID}})
			require.NoError(t, err)
		}, want: 0},
		"replaced since": {before: func(t *testing.T, n *noting) {
			t.Helper()
			_, err := n.write.ExecContext(t.Context(), "UPDATE record SET content_hash = X'00' WHERE id = ?", n.rows[1].ID)
			require.NoError(t, err)
		}, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := openNoting(t, 4)
			n.note(t, 0, 3)
			if test.before != nil {
				test.before(t, n)
			}
			was := strings.Count(strings.Join(n.states(t), " "), Delivered)
			after := n.killed(t, test.change)
			require.Equal(t, test.want, after.lease.Recovered)
			require.Equal(t, was+test.want, strings.Count(strings.Join(after.states(t), " "), Delivered))
			require.NoFileExists(t, after.path+".gate.accepted")
		})
	}
}

// What another ledger's run has noted, with the same rows under the same ids and as
// many runs before it, says nothing of this one's records.
func TestNotedInAnotherLedger(t *testing.T) {
	t.Parallel()
	n, other := openNoting(t, 3), openNoting(t, 3)
	other.note(t, 0, 3)
	noted, err := os.ReadFile(other.path + ".gate.accepted")
	require.NoError(t, err)
	n.note(t, 0, 0)
	after := n.killed(t, func([]byte) []byte { return noted })
	require.Zero(t, after.lease.Recovered)
	require.NotContains(t, after.states(t), Delivered)
}

// Answers that could not be written while the process lives are written from its
// own journal, once.
func TestNotedAcceptancesOfThisRun(t *testing.T) {
	t.Parallel()
	n := openNoting(t, 4)
	n.note(t, 0, 3)
	got, err := n.lease.Recover(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, got)
	require.Equal(t, []string{Delivered, Delivered, Delivered, Pending}, n.states(t))
	require.NoFileExists(t, n.path+".gate.accepted")
	got, err = n.lease.Recover(t.Context())
	require.NoError(t, err)
	require.Zero(t, got)
	n.note(t, 3, 4)
	require.NoError(t, n.lease.Release(t.Context()))
	n.acquire(t)
	require.Equal(t, 1, n.lease.Recovered, "what a run could not write, the next one does")
}

// Nothing is noted under a lease that has ended: the file is the next holder's.
func TestNoteAfterTheLease(t *testing.T) {
	t.Parallel()
	n := openNoting(t, 4)
	before := n.lease
	require.NoError(t, before.Release(t.Context()))
	n.acquire(t)
	n.note(t, 0, 3)
	full, err := before.Note(n.accepted(3, 4))
	require.NoError(t, err)
	require.False(t, full)
	before.Tidy()
	require.Equal(t, 3, n.killed(t, nil).lease.Recovered)
}

// A journal does not grow for ever: what is settled goes, in a while, and it says
// when it has become large. It ends with the lease, unless something is open.
func TestJournalIsEmptied(t *testing.T) {
	t.Parallel()
	n := openNoting(t, 600)
	path := n.path + ".gate.accepted"
	require.False(t, n.note(t, 0, 600))
	n.settle(t, 0, 599)
	n.lease.Tidy()
	require.FileExists(t, path, "one is open")
	n.settle(t, 599, 600)
	require.NoFileExists(t, path, "it was large")
	n.note(t, 0, 1)
	n.settle(t, 0, 1)
	require.FileExists(t, path, "there may be more soon")
	n.lease.Tidy()
	require.NoFileExists(t, path)
	full := false
	for range 20 {
		full = n.note(t, 0, 600)
	}
	require.True(t, full)
	for range 20 {
		n.settle(t, 0, 600)
	}
	require.False(t, n.note(t, 0, 1))
	n.settle(t, 0, 1)
	require.NoError(t, n.lease.Release(t.Context()))
	require.NoFileExists(t, path)
}

func FuzzNoted(f *testing.F) {
	f.Add([]byte("{\"token\":1}\n{\"id\":3,\"hash\":\"00\"}\n"), "1001", "\xff\n\u2028")
	f.Add([]byte("\n\n"), "", "")
	f.Fuzz(func(t *testing.T, b []byte, code, message string) {
		parseNoted(b, 1)
		s := Settlement{Due: &Due{ID: 9, Hash: message}, Code: code, Message: message, At: time.UnixMilli(5).UTC(), HTTPStatus: 200}
		text := appendNoted([]byte("{\"token\":5}\n"), &s)
		all := parseNoted(append(text, b...), 5)
		require.NotEmpty(t, all)
		require.Equal(t, noted{
			ID: 9, Hash: message, At: "1970-01-01T00:00:00.005Z", Code: string([]rune(code)), Message: string([]rune(message)), Status: 200,
		}, all[0], "bytes that are no text become U+FFFD each, as in JSON")
		require.Empty(t, parseNoted(text, 4))
	})
}
