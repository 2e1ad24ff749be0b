package sink_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
	sink.Doubt(c)
	for n := range int32(3) {
		require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
		<-closed
		require.Equal(t, n+1, opened.Load())
	}
}

// One that the gate keeps is used again, also after a look at it.
func TestKeptConnectionIsLookedAt(t *testing.T) {
	t.Parallel()
	url, opened, _ := watched(t, take)
	c := newClient(t, url)
	sink.Doubt(c)
	for range 5 {
		require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
	}
	require.EqualValues(t, 1, opened.Load())
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
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 64<<10))
				test.answer(conn)
				_ = conn.Close()
			}()
			r := newClient(t, "http://"+l.Addr().String(), func(cfg *sink.Config) { cfg.Timeout = 10 * time.Second }).Send(t.Context(), sink.FieldsOf(release()))
			require.Equal(t, sink.Retry, r.Outcome)
			require.Zero(t, r.HTTPStatus)
			require.Contains(t, r.Message, test.says)
		})
	}
}
