//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"parkbridge/internal/testdb"
	"parkbridge/sink/gate"
)

// The ledger's disk has no room for a page: the sync ends with 1 and says so,
// lands and sends nothing of the page, and goes on once there is room.
func TestLedgerDiskFullWhenLanding(t *testing.T) {
	t.Parallel()
	onFullDisks(t, func(t *testing.T, b *booth, d disk) {
		b.run(t, 0, "sync") // makes the ledger
		b.insert(t, 2500)
		out := b.runAs(t, 1, d.shrink(t), "sync")
		require.Contains(t, out, d.says)
		require.Zero(t, b.gate.Stats().Calls)
		require.Zero(t, b.requireWhole(t).mark)
		d.widen(t, 0)
		b.run(t, 0, "sync")
		b.requireDelivered(t, 0)
	})
}

// The ledger's disk fills up when the gate has answered: what is in hand waits,
// and sending with it, and is written down once there is room. Nothing is sent
// twice.
func TestLedgerDiskFullWhenSettling(t *testing.T) {
	t.Parallel()
	onFullDisks(t, func(t *testing.T, b *booth, d disk) {
		const rows, full = 400, 1500 * time.Millisecond
		b.insert(t, rows)
		b.gate.Answer(gate.Answer{Code: "503"})
		b.run(t, 4, "sync") // everything has landed
		b.useGate(gate.Config{Secret: "s3cret-of-the-lot"})
		var called atomic.Bool
		filled := make(chan struct{})
		answer := sync.OnceFunc(func() { close(filled) })
		defer answer() // or the server would wait for its handlers
		b.serve(t, func(w http.ResponseWriter, r *http.Request) {
			called.Store(true)
			<-filled
			b.gate.ServeHTTP(w, r)
		})
		cmd, stdout, stderr := b.command(t.Context(), "sync")
		require.NoError(t, cmd.Start())
		await(t, "the gate is called", called.Load)
		d.fill(t, cmd.Process.Pid)
		answer()
		<-time.After(full) // that is how long the fault lasts
		require.Less(t, b.gate.Stats().Calls, rows, "sending went on while no answer could be written down")
		d.widen(t, cmd.Process.Pid)
		require.NoError(t, cmd.Wait(), "%s%s", stdout, stderr)
		b.requireDelivered(t, 0)
	})
}

// disk is where a ledger lies, and may be full.
type disk struct {
	says string // what the program says of it
	// shrink leaves room for an empty ledger and little else to the program that
	// is about to start; fill leaves none to the running one; widen gives it back.
	shrink func(t *testing.T) func(*exec.Cmd)
	fill   func(t *testing.T, pid int)
	widen  func(t *testing.T, pid int)
}

// roomForLittle is more than an empty ledger takes, and less than the rows of one landing.
const roomForLittle = 200 << 10

// onFullDisks runs a test on a limit to the size of files, which is there
// everywhere, and on a disk that really is full where this account may mount one.
func onFullDisks(t *testing.T, test func(t *testing.T, b *booth, d disk)) {
	t.Helper()
	t.Run("limit", func(t *testing.T) {
		t.Parallel()
		test(t, newBooth(t, "sqlite"), limitedFiles())
	})
	t.Run("tmpfs", func(t *testing.T) {
		t.Parallel()
		b := newBooth(t, "sqlite")
		if d, ok := mountDisk(t, b); ok {
			test(t, b, d)
		}
	})
}

// limitedFiles refuses writes beyond a size; SQLite takes that for an I/O error.
func limitedFiles() disk {
	limit := func(t *testing.T, pid int, most uint64) {
		t.Helper()
		if pid != 0 {
			require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: unix.RLIM_INFINITY}, nil))
		}
	}
	return disk{
		says: "the ledger cannot be written for now",
		shrink: func(*testing.T) func(*exec.Cmd) {
			return func(cmd *exec.Cmd) { // sh counts in blocks of 512 bytes
				startBy(cmd, "sh", "-c", fmt.Sprintf(`ulimit -f %d && exec "$0" "$@"`, roomForLittle/512))
			}
		},
		fill:  func(t *testing.T, pid int) { t.Helper(); limit(t, pid, 0) },
		widen: func(t *testing.T, pid int) { t.Helper(); limit(t, pid, unix.RLIM_INFINITY) },
	}
}

// mountDisk puts the booth on a disk of its own; ok is false where this account
// may not mount one.
func mountDisk(t *testing.T, b *booth) (d disk, ok bool) {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	if err := unix.Mount("parkbridge-test", b.dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Logf("without the disk that is full: %v", err)
		return d, false
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(b.dir, unix.MNT_DETACH)) })
	b.write(t, string(config))
	resize := func(t *testing.T, size uint64) {
		t.Helper()
		require.NoError(t, unix.Mount("parkbridge-test", b.dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
	}
	return disk{
		says: "its disk is full; free some space, nothing is lost",
		shrink: func(t *testing.T) func(*exec.Cmd) {
			t.Helper()
			resize(t, roomForLittle)
			return func(*exec.Cmd) {}
		},
		fill: func(t *testing.T, _ int) {
			t.Helper()
			var s unix.Statfs_t
			require.NoError(t, unix.Statfs(b.dir, &s))
			resize(t, (s.Blocks-s.Bfree)*uint64(s.Bsize))
		},
		widen: func(t *testing.T, _ int) { t.Helper(); resize(t, 64<<20) },
	}, true
}

// The account may not write the ledger, or its folder, or not read it at all:
// the sync ends with 1 and says what to look at, and sends nothing; with the
// rights given back it goes on.
func TestLedgerReadOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path    string
		taken, rights os.FileMode
		says          string
	}{
		{"file", "parkbridge.db", 0o444, 0o600, "the ledger cannot be written; check the rights on the file"},
		{"folder", ".", 0o555, 0o755, "the ledger cannot be written; check the rights on the file"},
		{"unreadable", "parkbridge.db", 0, 0o600, "parkbridge.db: permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, "sqlite")
			b.insert(t, 5)
			b.runAs(t, 0, withoutRootsRights, "sync")
			b.insert(t, 5)
			path := filepath.Join(b.dir, c.path)
			require.NoError(t, os.Chmod(path, c.taken))
			t.Cleanup(func() { _ = os.Chmod(path, c.rights) }) // or the folder could not be removed
			require.Contains(t, b.runAs(t, 1, withoutRootsRights, "sync"), c.says)
			require.Equal(t, 5, b.gate.Stats().Calls)
			require.NoError(t, os.Chmod(path, c.rights))
			// SQLite has given the files beside it the rights that the ledger had.
			beside, err := filepath.Glob(filepath.Join(b.dir, "parkbridge.db-*"))
			require.NoError(t, err)
			for _, name := range beside {
				require.NoError(t, os.Chmod(name, 0o600))
			}
			b.runAs(t, 0, withoutRootsRights, "sync")
			b.requireDelivered(t, 0)
		})
	}
}

// withoutRootsRights makes rights count for a command, which they do not for root.
func withoutRootsRights(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		startBy(cmd, "setpriv", "--bounding-set=-dac_override,-dac_read_search")
	}
}

// startBy lets another program start a command.
func startBy(cmd *exec.Cmd, by ...string) {
	outer := exec.Command(by[0], append(append(by[1:], cmd.Path), cmd.Args[1:]...)...)
	cmd.Path, cmd.Args, cmd.Err = outer.Path, outer.Args, outer.Err
}

// The database goes down, as by a power cut, while it is giving out a page, and
// comes back; twice. The daemon goes on by itself, and every row is delivered
// once.
func TestDatabaseRestartsMidPage(t *testing.T) {
	t.Parallel()
	server := testdb.NewServer(t, "postgres")
	b := newServerBooth(t, server)
	// While slow has a row, a page stands still at one of its rows.
	b.lot.Exec(t, "CREATE TABLE slow (since int)")
	b.lot.Grant(t, "slow")
	b.configure(t, "start: earliest", `start: earliest
    page_size: 40
    where: pg_sleep(CASE WHEN id % 100 = 60 AND EXISTS (SELECT 1 FROM slow) THEN 25 ELSE 0 END) IS NOT NULL`)
	daemon := b.daemon(t)
	for range 2 {
		b.lot.Exec(t, "INSERT INTO slow VALUES (1)")
		b.insert(t, 150)
		await(t, "a page is being read", func() bool { return b.reading(t) })
		b.lot.Exec(t, "DELETE FROM slow") // for what is read next; this page does not see it
		server.Kill(t)
		server.Start(t)
		await(t, "every row is delivered", func() bool { return b.gate.Stats().Taken == b.rows })
	}
	log := daemon.stop(t)
	require.GreaterOrEqual(t, strings.Count(log, runFailed), 2, log)
	b.requireDelivered(t, 0)
}

// The database is away for a few runs of the daemon, which stands for a minute
// of a daemon that runs each minute: each run says so once, and the first one
// after it goes on.
func TestDatabaseAwayForAWhile(t *testing.T) {
	t.Parallel()
	server := testdb.NewServer(t, "postgres")
	b := newServerBooth(t, server)
	b.insert(t, 20)
	daemon := b.daemon(t)
	await(t, "every row is delivered", func() bool { return b.gate.Stats().Taken == b.rows })
	server.Stop(t)
	await(t, "three runs have failed", func() bool { return b.failedRuns(t) >= 3 })
	server.Start(t)
	b.insert(t, 20)
	await(t, "every row is delivered", func() bool { return b.gate.Stats().Taken == b.rows })
	log := daemon.stop(t)
	require.Equal(t, b.failedRuns(t), strings.Count(log, runFailed), log)
	b.requireDelivered(t, 0)
}

const runFailed = `msg="a run failed"`

// newServerBooth is a booth whose lot is on a server of the test's own.
func newServerBooth(t *testing.T, server *testdb.Server) *booth {
	t.Helper()
	b := newBooth(t, "sqlite")
	b.lot = server.NewLot(t)
	b.lot.DB.SetMaxIdleConns(0) // none that a restart would break
	b.lot.Exec(t, "CREATE TABLE abnormal_pass (id bigserial PRIMARY KEY, entry_id text, plate_no text, color text, op_time timestamp(3), op_name text, reason text)")
	b.lot.Grant(t, "abnormal_pass")
	b.write(t, fmt.Sprintf(boothConfig, b.server.URL, "postgres", b.lot.DSN))
	return b
}

// reading reports that the server stands still in the middle of a page.
func (b *booth) reading(t *testing.T) bool {
	t.Helper()
	var n int
	require.NoError(t, b.lot.DB.QueryRow(`SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'parkbridge' AND wait_event = 'PgSleep'`).Scan(&n))
	return n > 0
}

// failedRuns counts the runs that the ledger knows to have failed.
func (b *booth) failedRuns(t *testing.T) (n int) {
	t.Helper()
	var list struct{ Runs []runJSON }
	require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "status", "--runs", "1000", "--json")), &list))
	for _, r := range list.Runs {
		if r.Error != nil {
			n++
		}
	}
	return n
}

// daemonProcess is a running `parkbridge run`.
type daemonProcess struct {
	*exec.Cmd
	log *bytes.Buffer // not to be read while it runs
}

func (b *booth) daemon(t *testing.T) daemonProcess {
	t.Helper()
	cmd, _, stderr := b.command(t.Context(), "run")
	require.NoError(t, cmd.Start())
	return daemonProcess{cmd, stderr}
}

// stop asks the daemon to stop, and gives what it has logged.
func (d daemonProcess) stop(t *testing.T) string {
	t.Helper()
	require.NoError(t, d.Process.Signal(syscall.SIGTERM))
	require.NoError(t, d.Wait(), "%s", d.log)
	return d.log.String()
}

// await polls until a condition holds. It is asked in the test's own goroutine,
// so it may fail the test.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !condition() {
		require.True(t, time.Now().Before(deadline), "in vain: %s", what)
		<-time.After(20 * time.Millisecond)
	}
}

// The gate's name does not resolve: everything stays pending, and the name that
// is wrong is in what the sync says.
func TestGateNameDoesNotResolve(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.configure(t, b.server.URL, "http://gate.invalid/")
	b.insert(t, 30)
	require.Contains(t, b.run(t, 4, "sync"), "gate.invalid")
	b.requirePending(t, "gate.invalid")
	b.configure(t, "http://gate.invalid/", b.server.URL)
	b.run(t, 0, "sync")
	b.requireDelivered(t, 0)
}

// A gate that takes connections and never answers is known for that within
// three timeouts, also with one call at a time.
func TestGateNeverAnswers(t *testing.T) {
	t.Parallel()
	for concurrency, callsMost := range map[int]int64{1: 3, 16: 16 + 9} {
		t.Run(fmt.Sprintf("concurrency %d", concurrency), func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, "sqlite")
			address, calls := neverAnswers(t)
			b.configure(t, b.server.URL, address, "timeout: 5s", "timeout: 300ms", "concurrency: 16", fmt.Sprintf("concurrency: %d", concurrency))
			b.insert(t, 50)
			begun := time.Now()
			require.Contains(t, b.run(t, 4, "sync"), "no answer within 300ms")
			// The calls made tell it without regard to how slow this machine is.
			require.LessOrEqual(t, calls.Load(), callsMost)
			require.Less(t, time.Since(begun), 3*300*time.Millisecond+10*time.Second)
			b.requirePending(t, "no answer within 300ms")
			b.configure(t, address, b.server.URL, "timeout: 300ms", "timeout: 5s")
			b.run(t, 0, "sync")
			b.requireDelivered(t, 0)
		})
	}
}

// neverAnswers listens, and counts the connections it takes.
func neverAnswers(t *testing.T) (address string, taken *atomic.Int64) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			taken.Add(1)
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		<-done
	})
	return "http://" + listener.Addr().String(), taken
}

// An answer of 100 MB is not read to its end: the program's memory stays small,
// and the record stays pending.
func TestAnswerOf100MB(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	mend := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for range 100 {
			if _, err := w.Write(chunk); err != nil {
				return // the program has heard enough
			}
		}
	})
	b.configure(t, "concurrency: 16", "concurrency: 2") // if it did read it all, this machine would live
	b.run(t, 0, "sync")                                 // makes the ledger
	b.insert(t, 30)
	daemon := b.daemon(t)
	await(t, "the gate is known to fail", func() bool { return b.pendingWith(t, "the answer is longer than 64 KiB") })
	// Not from the Rusage of its end: that counts this process's own memory, which
	// it shares between fork and exec.
	require.Less(t, peakMemory(t, daemon.Process.Pid), 150<<20)
	daemon.stop(t)
	b.requirePending(t, "the answer is longer than 64 KiB")
	mend()
	b.run(t, 0, "sync")
	b.requireDelivered(t, 0)
}

// peakMemory is the most memory, in bytes, that a running process has had.
func peakMemory(t *testing.T, pid int) (bytes int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(t, found)
	_, err = fmt.Sscan(rest, &bytes)
	require.NoError(t, err)
	return bytes << 10
}

// An answer of which half comes says nothing of the record, though the gate has
// taken it: it stays pending, and is delivered later under the same number.
func TestAnswerCutInHalf(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{"connection": "the answer broke off", "body": "the answer is not the platform's JSON"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, "sqlite")
			mend := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
				whole := httptest.NewRecorder()
				b.gate.ServeHTTP(whole, r)
				half := whole.Body.Bytes()[:whole.Body.Len()/2]
				if name == "connection" {
					w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
				}
				_, _ = w.Write(half)
				if name == "connection" {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler) // net/http's own way to break a connection
				}
			})
			b.insert(t, 5)
			b.run(t, 4, "sync")
			b.requirePending(t, says)
			require.Equal(t, gate.Stats{Calls: 5, Taken: 5}, b.gate.Stats())
			mend()
			b.run(t, 0, "sync")
			require.Equal(t, gate.Stats{Calls: 10, Taken: 5, Repeats: 5}, b.gate.Stats())
			b.requireDelivered(t, 5)
		})
	}
}

// An answer that is lost after the gate took the record leaves it pending, is
// not asked for again by the transport in secret, and brings no second record
// when the next sync sends it again.
func TestAnswerLostAfterTaking(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	lost, err := gate.ParseAnswer("drop-after:every 3")
	require.NoError(t, err)
	b.gate.Answer(lost)
	b.insert(t, 30)
	b.run(t, 4, "sync")
	require.Equal(t, gate.Stats{Calls: 30, Taken: 30}, b.gate.Stats())
	require.Equal(t, 10, b.status(t).Sources[0].Counts["pending"])
	b.gate.Answer()
	b.run(t, 0, "sync")
	require.Equal(t, gate.Stats{Calls: 40, Taken: 30, Repeats: 10}, b.gate.Stats())
	b.requireDelivered(t, 10)
}

// requirePending checks that nothing but the gate is at fault, for a reason that
// says so, and that every row waits.
func (b *booth) requirePending(t *testing.T, reason string) {
	t.Helper()
	require.True(t, b.pendingWith(t, reason), "%+v", b.status(t))
}

func (b *booth) pendingWith(t *testing.T, reason string) bool {
	t.Helper()
	s := b.status(t)
	return s.Sink.State == "failing" && strings.Contains(*s.Sink.Reason, reason) && s.Sources[0].Counts["pending"] == b.rows
}

// runAs is run, with a change to the command.
func (b *booth) runAs(t *testing.T, code int, change func(*exec.Cmd), args ...string) string {
	t.Helper()
	cmd, stdout, stderr := b.command(t.Context(), args...)
	change(cmd)
	err := cmd.Run()
	all := stdout.String() + stderr.String()
	require.Equal(t, code, cmd.ProcessState.ExitCode(), "%v: %v\n%s", args, err, all)
	return all
}
