package sink

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// direct carries calls over HTTP/1.1 connections of its own, which it keeps, one
// call at a time on each. Answers are read by net/http; but its own transport
// hands each call through two more goroutines, which is half of what a push costs
// the processor.
//
// Nothing is sent twice: a call that fails on a kept connection has failed. So one
// is looked at before it is used again, for the gate may have closed it, or have
// said what nobody asked for and what is not to be taken for the next answer.
type direct struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	host    string // with its port
	timeout time.Duration

	mu    sync.Mutex
	idle  []*link // the one used last at the end
	aging *time.Timer
}

// link is a connection to the gate.
type link struct {
	net.Conn
	in      *bufio.Reader
	left    int         // bytes that may still be read of this answer
	waiting func() bool // see there
	since   time.Time
	watched context.Context //nolint:containedctx // that of the calls; when it ends, the one under way is cut
	forget  func() bool     // ends the watch; false: it has ended
}

const (
	// idleMost is how long a connection is kept that is not used.
	idleMost = 90 * time.Second
	// longest is what is read of an answer with its headers, whatever it holds.
	longest = 1 << 20
)

var errTooLong = errors.New("the answer with its headers is longer than 1 MiB")

// newDirect makes a transport to the host of an address, which is ASCII. timeout
// bounds a call from dialling to the last byte of the answer.
func newDirect(to *url.URL, conf *tls.Config, timeout time.Duration) *direct {
	dialer := &net.Dialer{}
	d := &direct{dial: dialer.DialContext, timeout: timeout}
	port := "80"
	if to.Scheme == "https" {
		conf = conf.Clone()
		conf.NextProtos = []string{"http/1.1"}
		d.dial, port = (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext, "443"
	}
	d.host = net.JoinHostPort(to.Hostname(), cmp.Or(to.Port(), port))
	return d
}

// post implements [transport].
func (d *direct) post(ctx context.Context, call *call) error {
	deadline := time.Now().Add(d.timeout)
	c, err := d.connect(ctx, deadline)
	if err != nil {
		return err
	}
	last, err := c.exchange(call)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = ctx.Err() // which cut it
	case !time.Now().Before(deadline):
		err = os.ErrDeadlineExceeded // whatever half an answer looks like
	}
	if err != nil || last || call.reply.Len() > maxReply || c.in.Buffered() > 0 {
		c.close()
	} else {
		d.keep(c)
	}
	return err
}

// exchange writes a request and reads its answer. last tells that the gate takes
// no other on this connection.
func (c *link) exchange(call *call) (last bool, err error) {
	if c.watched.Err() != nil {
		return false, c.watched.Err() // whose end may have come before the deadline was set
	}
	c.left = longest
	if _, err := c.Write(call.message); err != nil {
		return false, err
	}
	for {
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return false, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res.Close || res.StatusCode == http.StatusSwitchingProtocols, call.read(res)
		}
		_ = res.Body.Close() // there is none
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

// quiet reports that the other side has neither closed a connection since its last
// answer nor said anything more. It sets the deadline of the next call.
func (c *link) quiet(deadline time.Time) bool {
	if c.SetDeadline(deadline) != nil || c.in.Buffered() > 0 || (c.waiting != nil && c.waiting()) {
		return false
	}
	_, secured := c.Conn.(*tls.Conn)
	if c.waiting != nil && !secured {
		return true
	}
	// TLS may hold what it has read already, which an ended deadline still gives; where
	// a connection cannot be asked without waiting, a moment must do.
	moment := time.Unix(1, 0)
	if c.waiting == nil {
		moment = time.Now().Add(time.Millisecond)
	}
	c.left = 1
	if c.SetReadDeadline(moment) != nil {
		return false
	}
	_, err := c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded) && c.SetReadDeadline(deadline) == nil
}

// watch has calls cut when a context ends; false where the end of an earlier one
// may cut the next call yet.
func (c *link) watch(ctx context.Context) bool {
	if c.watched == ctx {
		return true
	}
	if c.forget != nil && !c.forget() {
		return false
	}
	c.watched, c.forget = ctx, context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // a closed one needs no cutting
	return true
}

func (c *link) close() {
	if c.forget != nil {
		c.forget()
	}
	_ = c.Close() // nothing that was read or written depends on it
}

// connect gives a kept connection or a new one, watched.
func (d *direct) connect(ctx context.Context, deadline time.Time) (*link, error) {
	for c := d.kept(); c != nil; c = d.kept() {
		if c.quiet(deadline) && c.watch(ctx) {
			return c, nil
		}
		c.close()
	}
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := d.dial(dialing, "tcp", d.host)
	if err != nil {
		return nil, err
	}
	c := &link{Conn: conn, waiting: waiting(conn)}
	if secured, ok := conn.(*tls.Conn); ok {
		c.waiting = waiting(secured.NetConn())
	}
	c.in = bufio.NewReader(c)
	c.watch(ctx)
	return c, c.SetDeadline(deadline)
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
		d.age()
	}
}

// age has connections closed when the one that is idle longest has been so for
// idleMost; with none it does nothing.
func (d *direct) age() {
	if len(d.idle) > 0 {
		d.aging = time.AfterFunc(idleMost-time.Since(d.idle[0].since), func() { d.closeIdle(idleMost) })
	}
}

// closeIdle closes the connections that were idle for so long.
func (d *direct) closeIdle(age time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.idle) > 0 && time.Since(d.idle[0].since) >= age {
		d.idle[0].close()
		d.idle = d.idle[1:]
	}
	if d.aging != nil {
		d.aging.Stop()
		d.aging = nil
	}
	d.age()
}
