package sink

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strings"
)

// Request is a push as it would go out, with secrets masked.
type Request struct {
	Method string
	URL    string // without a password
	// Fields are those on the wire, app_id and sign included.
	Fields map[string]string
	// Plain is the text that is signed, with *** for the secret; without a secret
	// nothing is signed, and it is the text that would be.
	Plain string
	// Sign is the signature that the real secret makes; "" where there is none.
	Sign string
	// Head is the request line and the headers, Body what follows, as HTTP/1.1
	// writes them.
	Head, Body string
}

// stars stand for a secret, as in the platform's own hints.
const stars = "***"

var credentials = regexp.MustCompile(`(?im)^((?:Proxy-)?Authorization:) [^\r\n]*`)

// Rehearse makes the request that [Client.Send] would send, by the same code,
// and sends nothing.
func Rehearse(ctx context.Context, cfg Config, fields map[string]string) (Request, error) {
	c, err := New(cfg)
	if err != nil {
		return Request{}, err
	}
	defer c.Close()
	wire := c.Complete(fields)
	out := Request{Fields: wire, Plain: Plain(wire), Sign: wire[FieldSign]}
	if cfg.AppSecret != "" {
		out.Plain += "&app_secret=" + stars
	}
	r := &recorder{}
	c.transport = r
	if reply := c.Send(ctx, FieldsOf(fields)); r.err != nil || r.dump == nil {
		return out, errors.Join(errors.New("making the request: "+reply.Message), r.err)
	}
	out.Method, out.URL = r.method, r.url
	out.Head, out.Body, _ = strings.Cut(string(r.dump), "\r\n\r\n")
	out.Head = credentials.ReplaceAllString(out.Head, "$1 "+stars)
	return out, nil
}

// recorder stands in the place of the network.
type recorder struct {
	method, url string
	dump        []byte
	err         error
}

var errRehearsed = errors.New("nothing was sent")

// RoundTrip notes the request and answers nothing.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.method, r.url = req.Method, req.URL.Redacted()
	r.dump, r.err = httputil.DumpRequestOut(req, true)
	r.dump = bytes.Replace(r.dump, []byte("Accept-Encoding: gzip\r\n"), nil, 1) // the dump's own transport would add it, ours does not
	if req.Body != nil {
		r.err = errors.Join(r.err, req.Body.Close())
	}
	return nil, errRehearsed
}
