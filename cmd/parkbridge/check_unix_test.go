//go:build unix

package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

// An account that may write nowhere is told what it lacks: for a file in WAL mode
// the folder, for the ledger its place.
func TestCheckUnwritable(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "parkbridge-unwritable-") //nolint:usetesting // t.TempDir is for this account alone
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, os.Chmod(dir, 0o755))
		require.NoError(t, os.RemoveAll(dir))
	})
	require.NoError(t, os.Chmod(filepath.Dir(program), 0o755))
	file := filepath.Join(dir, "lot.db")
	lot, err := sql.Open("sqlite", sources.FileURI(file, "_pragma=journal_mode(WAL)"))
	require.NoError(t, err)
	lot.SetMaxOpenConns(1)
	exec := func(stmt string) {
		_, err := lot.ExecContext(t.Context(), stmt)
		require.NoError(t, err)
	}
	exec("CREATE TABLE abnormal_pass (id INTEGER PRIMARY KEY, entry_id TEXT, plate_no TEXT, color TEXT, op_time TEXT, op_name TEXT, reason TEXT)")
	exec("INSERT INTO abnormal_pass VALUES (1, 'E1', 'x', '蓝', '2026-11-01 10:00:00', 'x', 'x')")
	b := &booth{dir: dir}
	b.write(t, fmt.Sprintf(boothConfig, "http://127.0.0.1:1/", "sqlite", "lot.db"))
	require.NoError(t, os.Chmod(filepath.Join(dir, "config.yaml"), 0o644))
	require.NoError(t, os.Chmod(dir, 0o555)) // for an account that is not root's

	// The parking system has it open: it can be read.
	out := asNobody(t, dir, 1, "check")
	require.Contains(t, out, "warn north-gate: files: the file is in WAL mode and this account may make no files in "+dir+", so it can be read only while the parking system has it open\n")
	require.Contains(t, out, "parkbridge leaves none but lot.db-shm and lot.db-wal")
	require.Contains(t, out, "ok   north-gate: mapping: 1 of the newest 1 rows map")
	require.Contains(t, out, "FAIL ledger: this account may not write to "+dir+"\n")

	// It has not: it cannot.
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, lot.Close())
	require.NoError(t, os.Chmod(dir, 0o555))
	out = asNobody(t, dir, 1, "check")
	require.Contains(t, out, "FAIL north-gate: connection: the file is in WAL mode and this account may make no files in "+dir)
	require.Contains(t, out, "FAIL gate: ")
}

// asNobody runs the program as an account that owns nothing, where this is root's.
func asNobody(t *testing.T, dir string, code int, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	require.Equal(t, code, cmd.ProcessState.ExitCode(), "%s", out.String())
	return out.String()
}
