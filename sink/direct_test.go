package sink_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sink"
)

// watched is a gate that counts its connections, and tells of each that it has closed.
func watched(t *testing.T, h http.HandlerFunc) (url string, opened *atomic.Int32, closed chan struct{}) {
	t.Helper()
	opened, closed = &atomic.Int32{}, make(chan struct{}, 100)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state { //nolint:exhaustive // the others say nothing of a connection's beginning and end
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, opened, closed
}

// answering is a server that does as it is told with its first connection.
func answering(t *testing.T, serve func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn)
	}()
	return "http://" + l.Addr().String()
}

func take(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, `{"code":"1001"}`)
}

// A connection that the gate has closed while it was idle costs no record an
// attempt: the next one goes out on a new connection.
func TestGateClosesIdleConnection(t *testing.T) {
	t.Parallel()
	url, opened, closed := watched(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "15")
		take(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // closes the connection, without a word in the answer that it would
	})
	c := newClient(t, url)
	for n := range int32(3) {
		require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
		<-closed
		require.Equal(t, n+1, opened.Load())
	}
}

// An answer that is said twice is not the answer to the next call, also over TLS,
// which reads ahead.
func TestAnswerSaidTwice(t *testing.T) {
	t.Parallel()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	t.Cleanup(certificate.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate().Raw}), 0o600))
	for name, test := range map[string]struct {
		secured bool
		join    func(conn net.Conn, answer string) // says it twice
	}{
		"in one piece": {false, func(conn net.Conn, answer string) { _, _ = io.WriteString(conn, answer+answer) }},
		"later": {false, func(conn net.Conn, answer string) {
			_, _ = io.WriteString(conn, answer)
			_, _ = io.WriteString(conn, answer)
		}},
		"TLS, later": {true, func(conn net.Conn, answer string) {
			_, _ = io.WriteString(conn, answer)
			_, _ = io.WriteString(conn, answer)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			url := "http://" + l.Addr().String()
			if test.secured {
				l, url = tls.NewListener(l, certificate.TLS), "https://"+l.Addr().String()
			}
			said := make(chan struct{}, 10)
			go func() {
				for calls := 0; ; {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					for in := bufio.NewReader(conn); ; {
						req, err := http.ReadRequest(in)
						if err != nil {
							break
						}
						_, _ = io.Copy(io.Discard, req.Body)
						if calls++; calls == 1 {
							test.join(conn, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n"+`{"code":"1001"}`)
							said <- struct{}{}
							continue
						}
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n"+`{"code":"400"}`)
					}
					_ = conn.Close()
				}
			}()
			c := newClient(t, url, func(cfg *sink.Config) {
				if test.secured {
					cfg.CAFile = file
				}
			})
			t.Cleanup(func() { _ = l.Close() })
			require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
			<-said
			require.Equal(t, sink.Rejected, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
			require.Equal(t, sink.Rejected, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
		})
	}
}

// An answer that comes drop by drop does not come, in time.
func TestAnswerDribbles(t *testing.T) {
	t.Parallel()
	url := answering(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 2")
		_, _ = io.Copy(io.Discard, conn)
	})
	r := newClient(t, url, func(cfg *sink.Config) { cfg.Timeout = 300 * time.Millisecond }).Send(t.Context(), sink.FieldsOf(release()))
	require.Equal(t, "no answer within 300ms", r.Message)
}

// A call is cut when its context ends, and with it nothing that comes later.
func TestCallIsCut(t *testing.T) {
	t.Parallel()
	arrived, hang := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	url, opened, _ := watched(t, func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(arrived)
			<-hang
		}
		take(w, r)
	})
	defer close(hang)
	c := newClient(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan sink.Reply)
	go func() { got <- c.Send(ctx, sink.FieldsOf(release())) }()
	<-arrived
	cancel()
	r := <-got
	require.Equal(t, sink.Retry, r.Outcome)
	require.Equal(t, context.Canceled.Error(), r.Message)

	// A kept connection whose last call's context ends later carries the next one.
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		require.Equal(t, sink.Delivered, c.Send(ctx, sink.FieldsOf(release())).Outcome)
		cancel()
	}
	require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
	require.LessOrEqual(t, opened.Load(), int32(5))
	require.Equal(t, context.Canceled.Error(), c.Send(ctx, sink.FieldsOf(release())).Message, "under a context that has ended nothing is sent")
}

// Answers that are not as plain as the platform's are read as HTTP says.
func TestAnswersOfOtherForms(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"an early hint first": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			take(w, r)
		},
		"the last on its connection": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			take(w, r)
		},
		"in chunks": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for _, part := range []string{`{"co`, `de":"10`, `01"}`} {
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _, _ := watched(t, h)
			c := newClient(t, url)
			for range 3 {
				require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
			}
		})
	}
}

// What is no HTTP, or no end of it, is an answer that did not come.
func TestNotHTTP(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer func(w io.Writer)
		says   string
	}{
		"another protocol": {func(w io.Writer) { _, _ = io.WriteString(w, "220 mail.example ESMTP\r\n") }, "malformed HTTP"},
		"endless headers": {func(w io.Writer) {
			_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(w, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
			}
		}, "longer than 1 MiB"},
		"nothing": {func(io.Writer) {}, "closed before the whole answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := answering(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 64<<10))
				test.answer(conn)
			})
			r := newClient(t, url, func(cfg *sink.Config) { cfg.Timeout = 10 * time.Second }).Send(t.Context(), sink.FieldsOf(release()))
			require.Equal(t, sink.Retry, r.Outcome)
			require.Zero(t, r.HTTPStatus)
			require.Contains(t, r.Message, test.says)
		})
	}
}
