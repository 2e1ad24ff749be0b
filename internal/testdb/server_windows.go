package testdb

import "testing"

// Server is a database server of one test's own; there is none on Windows.
type Server struct{}

// NewServer skips the test.
func NewServer(t testing.TB, engine string) *Server {
	t.Helper()
	missing(t, "a private "+engine+" server is made on Linux only")
	return nil
}

// NewLot, DSN, Start, Kill and Stop are never reached.
func (*Server) NewLot(testing.TB) *Lot { return nil }

// DSN leads nowhere.
func (*Server) DSN() string { return "" }

// Start does nothing.
func (*Server) Start(testing.TB) {}

// Kill does nothing.
func (*Server) Kill(testing.TB) {}

// Stop does nothing.
func (*Server) Stop(testing.TB) {}
