package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sink/gate"
)

// files lists a folder, with sizes.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		list = append(list, fmt.Sprint(e.Name(), " ", info.Size()))
	}
	return list
}

type checked struct {
	Checks   []checkJSON `json:"checks"`
	Warnings int         `json:"warnings"`
	Failures int         `json:"failures"`
}

// checkJSON runs check --json and gives what it found, by check.
func (b *booth) checkJSON(t *testing.T, code int, args ...string) (all checked, by map[string]checkJSON) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(b.run(t, code, append([]string{"check", "--json"}, args...)...)), &all))
	by = map[string]checkJSON{}
	for _, c := range all.Checks {
		by[c.Check] = c
	}
	return all, by
}

// A lot as the README sets one up passes on every engine; nothing is made,
// nothing is sent, and a running daemon is not in the way.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			if engine == "mysql" {
				b.lot.GrantProcess(t)
			}
			b.insert(t, 200)
			before := files(t, b.dir)
			out := b.run(t, 0, "check")
			require.Contains(t, out, "Failures: 0")
			require.Contains(t, out, "ok   north-gate: mapping: 100 of the newest 100 rows map")
			require.NotContains(t, out, "粤", "no plates")
			all, by := b.checkJSON(t, 0, "--rows", "150")
			require.Zero(t, all.Failures)
			require.Equal(t, "ok", by["key"].Result)
			require.Equal(t, "ok", by["index"].Result)
			require.Contains(t, by["mapping"].Found, "150 of the newest 150")
			require.Equal(t, "north-gate", *by["mapping"].Source)
			require.Nil(t, by["gate"].Source)
			require.Equal(t, []string{}, by["gate"].Do)
			require.Equal(t, before, files(t, b.dir), "nothing is made")
			require.Zero(t, b.gate.Stats().Calls, "nothing is sent")

			cmd, _, stderr := b.command(t.Context(), "run")
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool { return b.gate.Stats().Taken == 200 }, 15*time.Second, 20*time.Millisecond, "%s", stderr)
			_, by = b.checkJSON(t, 0)
			require.Contains(t, by["ledger"].Found, "is there")
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			require.NoError(t, cmd.Wait(), stderr.String())
			require.Equal(t, 200, b.gate.Stats().Calls)
		})
	}
}

// The exit code is that of the worst failure, by the order of the README; the
// other checks go on.
func TestCheckExitCodes(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 20)
	require.Contains(t, b.run(t, 2, "check", "--source", "south-gate"), "no source is named")
	require.Contains(t, b.run(t, 2, "check", "--rows", "0"), "--rows must be")
	out := b.run(t, 2, "check", "-c", "lost.yaml")
	require.Contains(t, out, "FAIL config: lost.yaml: is not there")
	require.Contains(t, out, "Failures: 1, warnings: 0.")

	good, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	with := func(pairs ...string) { b.write(t, strings.NewReplacer(pairs...).Replace(string(good))) }
	with("start: earliest", "begin: earliest", "timeout: 5s", "timeout: 5")
	out = b.run(t, 2, "check")
	require.Contains(t, out, "FAIL config: config.yaml:7:12: sink.timeout")
	require.Contains(t, out, "FAIL config: config.yaml:16:5: sources[0].begin")

	// 4: the gate. Everything else is looked at.
	with(b.server.URL, "http://127.0.0.1:1/update")
	all, by := b.checkJSON(t, 4)
	require.Equal(t, 1, all.Failures)
	require.Equal(t, "fail", by["gate"].Result)
	require.Equal(t, "ok", by["flow_no"].Result)
	// 1: the database is before the gate, and the gate is looked at.
	with(b.server.URL, "http://127.0.0.1:1/update", filepath.Base(b.lot.DSN), "lost.db")
	all, by = b.checkJSON(t, 1)
	require.Equal(t, 2, all.Failures)
	require.Equal(t, "fail", by["connection"].Result)
	require.NotEmpty(t, by["connection"].Do)
	// 2: the mapping is before both.
	with(b.server.URL, "http://127.0.0.1:1/update", "parking_serial: entry_id", "parking_serial: entrance")
	all, by = b.checkJSON(t, 2)
	require.Equal(t, 2, all.Failures)
	require.Contains(t, by["columns"].Found, `config.yaml:20:7: sources[0].mapping.parking_serial "entrance" is not a column`)
	require.Contains(t, by, "key")
	// 1: the ledger.
	with("parkbridge.db", "damaged.db")
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "damaged.db"), []byte(strings.Repeat("x", 200)), 0o600))
	_, by = b.checkJSON(t, 1)
	require.Contains(t, by["ledger"].Found, "the ledger is damaged")
	b.write(t, string(good))
	b.run(t, 0, "check")
}

// A cursor of several types is refused, by check and by sync, with the counts.
func TestMixedTypes(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	good, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	b.write(t, strings.Replace(string(good), "    key: id\n", "    key: id\n    cursor: seen\n", 1))
	b.lot.Exec(t, "ALTER TABLE abnormal_pass ADD COLUMN seen DATETIME")
	b.insert(t, 30)
	b.lot.Exec(t, "UPDATE abnormal_pass SET seen = op_time")
	b.run(t, 0, "sync", "--limit", "1")
	b.insert(t, 12)
	b.lot.Exec(t, "UPDATE abnormal_pass SET seen = CASE WHEN id > 40 THEN 2461345.5 ELSE 1793498400 + id END WHERE id > 30")
	counts := "text 30, integer 10, real 2"
	_, by := b.checkJSON(t, 2)
	require.Equal(t, "fail", by["stored types"].Result)
	require.Contains(t, by["stored types"].Found, counts)
	out := b.run(t, 2, "sync")
	require.Contains(t, out, "config.yaml:16:5: sources[0].cursor seen holds values of several types")
	require.Contains(t, out, counts)
	require.Equal(t, 30, b.gate.Stats().Taken, "what had landed is sent")
	// By the key all is read.
	b.write(t, string(good))
	b.run(t, 0, "reset", "--source", "north-gate", "--to", "earliest", "--yes")
	b.run(t, 0, "sync")
	require.Equal(t, 42, b.gate.Stats().Taken)
}

// The gate is reached the way that sync would go: through the proxy.
func TestCheckThroughProxy(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 3)
	good, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	b.write(t, strings.Replace(string(good), b.server.URL, "http://gate.example/update", 1))
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.String()
		b.gate.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	for _, command := range []string{"check", "sync"} {
		cmd, stdout, stderr := b.command(t.Context(), command)
		cmd.Env = append(os.Environ(), "HTTP_PROXY="+proxy.URL, "NO_PROXY=")
		require.NoError(t, cmd.Run(), "%s%s", stdout, stderr)
		if command == "check" {
			require.Contains(t, stdout.String(), "warn gate: gate.example (through the proxy "+strings.TrimPrefix(proxy.URL, "http://")+") is reached without TLS")
		}
	}
	require.Equal(t, "HEAD http://gate.example/update", <-asked)
	require.Equal(t, gate.Stats{Calls: 3, Taken: 3}, b.gate.Stats())
}
