//go:build unix

package testdb

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Server is a database server of one test's own, which may be stopped, killed
// and started again, and whose transactions are nobody else's.
type Server struct {
	engine string
	dir    string
	port   int
	cmd    *exec.Cmd
	exited chan error
}

// NewServer makes and starts a server of an engine, on a free port of the
// loopback interface. Where its programs are not installed, the test is skipped,
// or fails where servers are required.
func NewServer(t testing.TB, engine string) *Server {
	t.Helper()
	s := &Server{engine: engine, dir: serverFolder(t)}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	s.port, err = strconv.Atoi(port)
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	s.run(t, s.setUp(t)...)
	s.Start(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// serverFolder is a temporary folder that the server's account may enter; the
// path is short, for there are sockets in it.
func serverFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pbsrv") //nolint:usetesting // t.TempDir is for this account alone
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// find gives the path of a server program; the newest where there are several.
func find(t testing.TB, patterns ...string) string {
	t.Helper()
	for _, p := range patterns {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
		if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
			slices.SortFunc(found, func(a, b string) int { return len(a)*100 - len(b)*100 + compare(a, b) })
			return found[len(found)-1]
		}
	}
	missing(t, patterns[0]+" is not installed")
	return ""
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

func (s *Server) setUp(t testing.TB) []string {
	t.Helper()
	data := filepath.Join(s.dir, "data")
	require.NoError(t, os.Mkdir(data, 0o700))
	s.own(t, data)
	if s.engine == "postgres" {
		return []string{find(t, "/usr/lib/postgresql/*/bin/initdb", "initdb"), "-D", data, "-U", "parkbridge", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"}
	}
	return []string{find(t, "mariadb-install-db"), "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db", "--tmpdir=" + data}
}

// account is the one a server runs as; servers refuse to run as root.
func (s *Server) account(t testing.TB) *user.User {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	name := "mysql"
	if s.engine == "postgres" {
		name = "postgres"
	}
	u, err := user.Lookup(name)
	require.NoError(t, err)
	return u
}

func (s *Server) own(t testing.TB, path string) {
	t.Helper()
	if u := s.account(t); u != nil {
		uid, gid := ids(t, u)
		require.NoError(t, os.Chown(path, uid, gid))
	}
}

func ids(t testing.TB, u *user.User) (uid, gid int) {
	t.Helper()
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(t, err)
	gid, err = strconv.Atoi(u.Gid)
	require.NoError(t, err)
	return uid, gid
}

// command is a program run as the server's account.
func (s *Server) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
	cmd.Dir = s.dir
	if u := s.account(t); u != nil {
		uid, gid := ids(t, u)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd
}

func (s *Server) run(t testing.TB, args ...string) {
	t.Helper()
	out, err := s.command(t, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// Start starts the server and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	data, port := filepath.Join(s.dir, "data"), strconv.Itoa(s.port)
	args := []string{
		find(t, "mariadbd", "/usr/sbin/mariadbd"), "--no-defaults", "--datadir=" + data, "--bind-address=127.0.0.1", "--port=" + port,
		"--socket=" + filepath.Join(data, "s"), "--pid-file=" + filepath.Join(data, "p"), "--innodb-flush-log-at-trx-commit=2", "--max-connections=200",
		"--character-set-server=utf8mb4", "--innodb-buffer-pool-size=32M", "--tmpdir=" + data,
	}
	if s.engine == "postgres" {
		args = []string{
			find(t, "/usr/lib/postgresql/*/bin/postgres", "postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + port,
			"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200", "-c", "max_prepared_transactions=20",
		}
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	s.cmd = s.command(t, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	require.NoError(t, s.cmd.Start())
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(s.cmd, s.exited)
	driver := map[string]string{"postgres": "pgx", "mysql": "mysql"}[s.engine]
	deadline := time.Now().Add(60 * time.Second)
	for !answers(t, driver, s.DSN()) {
		select {
		case err := <-s.exited:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("the server ended: %v\n%s", err, text)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not answer")
		}
	}
}

// DSN leads to the server, with every right.
func (s *Server) DSN() string {
	if s.engine == "postgres" {
		return fmt.Sprintf("postgres://parkbridge@127.0.0.1:%d/postgres?sslmode=disable", s.port)
	}
	return fmt.Sprintf("root@tcp(127.0.0.1:%d)/", s.port)
}

// Kill ends the server at once, as a power cut does. What was committed is there
// when it starts again. It may be called twice.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGKILL, syscall.SIGQUIT)
}

// Stop asks the server to end, without waiting for its clients.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGTERM, syscall.SIGINT)
}

func (s *Server) end(t testing.TB, mysql, postgres syscall.Signal) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	signal := mysql
	if s.engine == "postgres" {
		signal = postgres
	}
	require.NoError(t, s.cmd.Process.Signal(signal))
	<-s.exited //nolint:errcheck // it was ended
	s.cmd = nil
}

// NewLot makes an empty lot on the server.
func (s *Server) NewLot(t testing.TB) *Lot {
	t.Helper()
	if s.engine == "postgres" {
		return postgresLot(t, s.DSN(), "")
	}
	return mysqlLot(t, s.DSN())
}
