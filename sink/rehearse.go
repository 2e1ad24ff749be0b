package sink

import "regexp"

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
func Rehearse(cfg Config, fields map[string]string) (Request, error) {
	c, err := New(cfg)
	if err != nil {
		return Request{}, err
	}
	defer c.Close()
	call := &call{}
	c.encode(call, FieldsOf(fields))
	wire := call.wire.Map()
	out := Request{Method: c.request.Method, URL: c.request.URL.Redacted(), Fields: wire, Plain: Plain(wire), Sign: wire[FieldSign]}
	if cfg.AppSecret != "" {
		out.Plain += "&app_secret=" + stars
	}
	out.Head, out.Body = string(call.message[:call.body-len("\r\n\r\n")]), string(call.message[call.body:])
	out.Head = credentials.ReplaceAllString(out.Head, "$1 "+stars)
	return out, nil
}
