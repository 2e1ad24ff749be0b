package sink

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// direct carries calls over HTTP/1.1 connections of its own, which it keeps, one
// call at a time on each. Requests are written and answers read by net/http; but
// its own transport hands each call through two more goroutines, which is half of
// what a push costs the processor.
//
// Nothing is sent twice: a call that fails on a kept connection has failed. So
// one that has been idle is looked at before it is used again, for the gate may
// have closed it.
type direct struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	host string // with its port

	mu    sync.Mutex
	idle  []*link // the one used last at the end
	aging *time.Timer
}

// link is a connection to the gate.
type link struct {
	net.Conn
	in    *bufio.Reader
	out   bytes.Buffer
	left  int // bytes that may still be read of this answer
	since time.Time
}

const (
	// idleMost is how long a connection is kept that is not used.
	idleMost = 90 * time.Second
	// idleSure is how long an idle connection is taken to be alive unseen.
	idleSure = 20 * time.Millisecond
	// longest is what is read of an answer with its headers, whatever it holds.
	longest = 1 << 20
)

var errTooLong = errors.New("the answer's headers are longer than 1 MiB")

// newDirect makes a transport to the host of an address, which is ASCII.
func newDirect(to *url.URL, conf *tls.Config) *direct {
	dialer := &net.Dialer{}
	port := to.Port()
	d := &direct{dial: dialer.DialContext}
	if to.Scheme == "https" {
		conf = conf.Clone()
		conf.NextProtos = []string{"http/1.1"}
		d.dial = (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext
		port = cmp.Or(port, "443")
	}
	d.host = net.JoinHostPort(to.Hostname(), cmp.Or(port, "80"))
	return d
}

// RoundTrip makes one call. Its context bounds it until the answer's body is closed.
func (d *direct) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c, err := d.connect(ctx)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // a reader of our own
		}
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline) // a closed connection tells at the next write
	release := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	res, err := c.exchange(req)
	if err != nil {
		release()
		_ = c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	res.Body = &answerBody{ReadCloser: res.Body, d: d, link: c, release: release, keep: !res.Close}
	return res, nil
}

// exchange writes a request and reads the head of its answer.
func (c *link) exchange(req *http.Request) (*http.Response, error) {
	c.out.Reset()
	if err := req.Write(&c.out); err != nil {
		return nil, err
	}
	c.left = longest
	if _, err := c.Write(c.out.Bytes()); err != nil {
		return nil, err
	}
	for {
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			if secured, ok := c.Conn.(*tls.Conn); ok {
				state := secured.ConnectionState()
				res.TLS = &state
			}
			return res, nil
		}
	}
}

// Read reads from the connection what an answer may have.
func (c *link) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// alive reports that the other side has neither closed an idle connection nor
// said anything that nobody asked for.
func (c *link) alive() bool {
	c.left = 1
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond)) // Peek tells
	_, err := c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// connect gives a kept connection or a new one.
func (d *direct) connect(ctx context.Context) (*link, error) {
	for {
		c := d.kept()
		if c == nil {
			break
		}
		if time.Since(c.since) < idleSure || c.alive() {
			return c, nil
		}
		_ = c.Close() // it is of no use any more
	}
	conn, err := d.dial(ctx, "tcp", d.host)
	if err != nil {
		return nil, err
	}
	c := &link{Conn: conn}
	c.in = bufio.NewReader(c)
	return c, nil
}

// kept takes the connection that was used last out of those that are kept.
func (d *direct) kept() *link {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.idle) == 0 {
		return nil
	}
	c := d.idle[len(d.idle)-1]
	d.idle = d.idle[:len(d.idle)-1]
	return c
}

func (d *direct) keep(c *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.since = time.Now()
	d.idle = append(d.idle, c)
	if d.aging == nil {
		d.aging = time.AfterFunc(idleMost, func() { d.closeIdle(idleMost) })
	}
}

// closeIdle closes the connections that were idle for so long.
func (d *direct) closeIdle(age time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.idle) > 0 && time.Since(d.idle[0].since) >= age {
		_ = d.idle[0].Close() // nothing is under way on it
		d.idle = d.idle[1:]
	}
	if d.aging != nil {
		d.aging.Stop()
		d.aging = nil
	}
	if len(d.idle) > 0 {
		d.aging = time.AfterFunc(idleMost-time.Since(d.idle[0].since), func() { d.closeIdle(idleMost) })
	}
}

// CloseIdleConnections closes those that are kept.
func (d *direct) CloseIdleConnections() { d.closeIdle(0) }

// answerBody is an answer's body; closed after it was read to its end, its
// connection is kept.
type answerBody struct {
	io.ReadCloser
	d       *direct
	link    *link
	release func() bool
	keep    bool
	whole   bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.whole = b.whole || err == io.EOF //nolint:errorlint // as readers return it
	return n, err
}

func (b *answerBody) Close() error {
	if b.release() && b.keep && b.whole && b.link.in.Buffered() == 0 {
		b.d.keep(b.link)
		return nil
	}
	return b.link.Close()
}
