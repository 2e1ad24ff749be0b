//go:build unix

package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// crashProgram builds the program with failpoints in it, beside the other one,
// which TestMain removes with its folder.
var crashProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(program), "parkbridge-failpoint")
	build := exec.Command("go", "build", "-tags", "failpoint", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("building the program with failpoints: %w\n%s", err, out)
	}
	return path, err
})

const (
	crashRows  = 1200 // more than two transactions of answers may hold
	crashPage  = 200  // six landings
	crashCalls = 16   // sink.concurrency in boothConfig
	// repeatsMost is what one SIGKILL may leave sent and not yet noted: the calls
	// under way.
	repeatsMost = crashCalls
)

// The crash matrix: killed before, amid and after each side effect, at the
// first, second and third time it comes to that, the program has either done it
// wholly or not at all; the next sync delivers every row, each under the number
// it had.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	bin, err := crashProgram()
	require.NoError(t, err)
	for _, place := range []string{
		"land.begin", "land.mark", "land.rows", "land.commit", "land.done",
		"accepted.noted", "settle.begin", "settle.records", "settle.commit", "settle.done",
	} {
		for hit := 1; hit <= 3; hit++ {
			t.Run(fmt.Sprintf("%s:%d", place, hit), func(t *testing.T) {
				t.Parallel()
				b := newBooth(t, "sqlite")
				b.configure(t, "start: earliest", fmt.Sprintf("start: earliest\n    page_size: %d", crashPage))
				b.insert(t, crashRows)
				b.crash(t, bin, place, hit)
				found := b.requireWhole(t)
				requireEffects(t, b, found, place, hit)
				b.run(t, 0, "sync")
				b.requireAllOnce(t, found, 1)
			})
		}
	}
}

// crash runs a sync that kills itself when it comes to a place the n-th time.
func (b *booth) crash(t *testing.T, bin, place string, hit int) {
	t.Helper()
	cmd, _, stderr := b.command(t.Context(), "sync")
	cmd.Path = bin
	cmd.Env = append(os.Environ(), fmt.Sprintf("PARKBRIDGE_FAILPOINT=%s:%d", place, hit))
	err := cmd.Run()
	require.EqualError(t, err, "signal: killed", "%s:%d was not reached: %s", place, hit, stderr)
	require.Contains(t, stderr.String(), "failpoint "+place)
	b.hear(t)
}

// requireEffects checks that what the kill came before has not happened, and
// that what it came after has.
func requireEffects(t *testing.T, b *booth, found books, place string, hit int) {
	t.Helper()
	effect, moment, _ := strings.Cut(place, ".")
	if moment != "done" {
		hit-- // this one must not be seen
	}
	delivered := found.count(ledger.Delivered)
	switch {
	case effect == "land":
		require.Equal(t, min(hit*crashPage, crashRows), found.mark)
		if hit == 0 {
			require.Zero(t, b.gate.Stats().Calls, "something was sent that is not in the ledger")
		}
	case effect == "accepted":
		require.NotZero(t, b.gate.Stats().Calls)
	case hit == 0:
		require.Zero(t, delivered)
	default:
		require.GreaterOrEqual(t, delivered, hit, "an answer that was written down is gone")
	}
}

// Killed before, amid and after the landing of rows that have become ready, the
// program sends each once.
func TestHeldCrash(t *testing.T) {
	t.Parallel()
	bin, err := crashProgram()
	require.NoError(t, err)
	for _, place := range []string{"land.begin", "land.mark", "land.rows", "land.commit", "land.done"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, "sqlite")
			b.waits(t)
			b.insert(t, 300)
			b.lot.Exec(t, "UPDATE abnormal_pass SET reason = NULL")
			b.run(t, 0, "sync")
			b.lot.Exec(t, "UPDATE abnormal_pass SET reason = '抬杆放行'")
			b.crash(t, bin, place, 2)
			counts := b.status(t).Sources[0].Counts
			require.Equal(t, 300, counts["held"]+counts["pending"]+counts["delivered"])
			require.Contains(t, []int{0, 100}, counts["held"], "a landing is done wholly or not at all")
			sent := b.gate.Stats().Calls
			b.run(t, 0, "sync")
			require.Equal(t, 300, b.status(t).Sources[0].Counts["delivered"])
			require.Equal(t, 300, b.gate.Stats().Taken)
			require.LessOrEqual(t, b.gate.Stats().Calls, 300+min(sent, repeatsMost))
		})
	}
}

// Killed at random moments while rows keep coming, again and again, the program
// loses nothing and repeats only what it had no time to note; and each next run
// begins at once, for a killed one holds nothing.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	kills := number(t, "PARKBRIDGE_TEST_KILLS", 10)
	seed := number(t, "PARKBRIDGE_TEST_SEED", int(time.Now().UnixNano()))
	t.Logf("PARKBRIDGE_TEST_SEED=%d PARKBRIDGE_TEST_KILLS=%d", seed, kills) // shown where it fails
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	b := newBooth(t, "sqlite")
	b.configure(t, "start: earliest", fmt.Sprintf("start: earliest\n    page_size: %d", crashPage))
	b.insert(t, crashRows)
	var found books
	for range kills {
		b.killAfter(t, time.Duration(random.IntN(301))*time.Millisecond)
		found = b.requireWhole(t)
		b.insert(t, 1+random.IntN(200))
	}
	b.run(t, 0, "sync")
	b.requireAllOnce(t, found, kills)
}

// killAfter starts a sync and kills it after a while, unless it has come to its
// end.
func (b *booth) killAfter(t *testing.T, while time.Duration) {
	t.Helper()
	cmd, stdout, stderr := b.command(t.Context(), "sync")
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(while):
		_ = cmd.Process.Kill() // it may have ended just now
		err = <-ended
	}
	if err != nil {
		require.EqualError(t, err, "signal: killed", "after %s: %s%s", while, stdout, stderr)
	}
}

// A sync right after a SIGKILL runs at once: it is not told that the killed one
// still holds the source, nor does it wait until that one's lease would end.
func TestSyncRightAfterSIGKILL(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	var behaves atomic.Bool
	var waiting atomic.Int64
	b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		if behaves.Load() {
			b.gate.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // or the end of the caller would go unnoticed
		waiting.Add(1)
		<-r.Context().Done()
	})
	b.insert(t, 40)
	cmd, _, stderr := b.command(t.Context(), "sync")
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// It holds the source, and its calls are under way.
	require.Eventually(t, func() bool { return waiting.Load() == crashCalls }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.EqualError(t, <-ended, "signal: killed", "%s", stderr)
	behaves.Store(true)
	begun := time.Now()
	b.run(t, 0, "sync")
	require.Less(t, time.Since(begun), ledger.LeaseLasts/2)
	b.requireAllOnce(t, books{}, 1)
}

// books is what a ledger holds for the booth's source.
type books struct {
	mark    int // the key up to which rows have landed
	records map[string]entry
}

type entry struct {
	id          int64
	flow, state string
}

func (b books) count(state string) (n int) {
	for _, r := range b.records {
		if r.state == state {
			n++
		}
	}
	return n
}

// books reads a copy of the ledger: opening the ledger itself would mend what a
// kill has left behind, and that is for the program to do.
func (b *booth) books(t *testing.T) books {
	t.Helper()
	out := books{records: map[string]entry{}}
	folder := t.TempDir()
	defer os.RemoveAll(folder) // there may be hundreds of them
	path := b.copyLedger(t, folder)
	if path == "" {
		return out
	}
	db, err := sql.Open("sqlite", sources.FileURI(path))
	require.NoError(t, err)
	defer db.Close()
	var mark string
	require.NoError(t, db.QueryRow("SELECT COALESCE(MAX(mark), '') FROM high_water_mark").Scan(&mark)) // there may be no source yet
	position, err := sources.DecodePosition(mark)
	require.NoError(t, err)
	if !position.IsZero() {
		out.mark, err = strconv.Atoi(position.Values[0])
		require.NoError(t, err)
	}
	rows, err := db.Query("SELECT row_key, id, flow_no, state FROM sync_status")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var key string
		var e entry
		require.NoError(t, rows.Scan(&key, &e.id, &e.flow, &e.state))
		out.records[key] = e
	}
	require.NoError(t, rows.Err())
	return out
}

// copyLedger gives the path of the copy; "" where there is no ledger yet.
func (b *booth) copyLedger(t *testing.T, folder string) string {
	t.Helper()
	for _, name := range []string{"parkbridge.db", "parkbridge.db-wal"} {
		content, err := os.ReadFile(filepath.Join(b.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o600))
	}
	path := filepath.Join(folder, "parkbridge.db")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// requireWhole checks what holds at every moment: the rows up to the mark, and
// no others, are in the ledger under their numbers; what went out is in it; and
// what it calls delivered did arrive.
func (b *booth) requireWhole(t *testing.T) books {
	t.Helper()
	arrived := map[string]bool{}
	for _, fields := range b.gate.Records() {
		arrived[fields["flow_no"]] = true
	}
	found := b.books(t)
	landed := len(found.records) // all of them would be much to print
	require.Equal(t, found.mark, landed, "the mark and the rows did not land together")
	for key := 1; key <= found.mark; key++ {
		e, ok := found.records[strconv.Itoa(key)]
		require.True(t, ok, "row %d is below the mark and not in the ledger", key)
		require.Equal(t, "EX"+strconv.Itoa(key), e.flow)
		if e.state == ledger.Delivered {
			require.True(t, arrived[e.flow], "record %s is delivered and did not arrive", e.flow)
		}
		delete(arrived, e.flow)
	}
	require.Empty(t, arrived, "these went out and are not in the ledger")
	return found
}

// requireAllOnce checks, when all is done, that every row was delivered, under
// the number that its record had before, and that the gate saw no more repeats
// than the kills explain.
func (b *booth) requireAllOnce(t *testing.T, before books, kills int) {
	t.Helper()
	b.requireDelivered(t, kills*repeatsMost)
	after := b.requireWhole(t)
	require.Equal(t, b.rows, after.mark)
	for key, e := range before.records {
		require.Equal(t, [2]any{e.id, e.flow}, [2]any{after.records[key].id, after.records[key].flow})
	}
}

// requireDelivered checks that the gate has every row under one number, in at
// most so many calls more than there are rows, and that the ledger knows it.
func (b *booth) requireDelivered(t *testing.T, repeats int) {
	t.Helper()
	stats := b.gate.Stats()
	require.Equal(t, b.rows, stats.Taken)
	require.LessOrEqual(t, stats.Calls-stats.Taken, repeats)
	flows := map[string]string{}
	for _, fields := range b.gate.Records() {
		serial := fields["parking_serial"] // another for each row
		require.Empty(t, flows[serial], "row %s came under two numbers", serial)
		flows[serial] = fields["flow_no"]
	}
	require.Len(t, flows, b.rows)
	require.Equal(t, map[string]int{"held": 0, "pending": 0, "delivered": b.rows, "rejected": 0, "invalid": 0, "dismissed": 0}, b.status(t).Sources[0].Counts)
}

// serve puts a handler of the test's own in the place of the gate, until back is
// called.
func (b *booth) serve(t *testing.T, handler http.HandlerFunc) (back func()) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	b.configure(t, b.server.URL, server.URL)
	return func() {
		t.Helper()
		b.configure(t, server.URL, b.server.URL)
	}
}

// configure changes the booth's config: each old text becomes the new one.
func (b *booth) configure(t *testing.T, oldnew ...string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(t, string(raw), oldnew[i])
	}
	b.write(t, strings.NewReplacer(oldnew...).Replace(string(raw)))
}

// number is a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}
