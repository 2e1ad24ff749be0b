// Package sink speaks the platform's gate API: one signed multipart call a
// record, and what its answer means.
package sink

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Config says where the gate is and who calls it.
type Config struct {
	// URL is the whole address of the call.
	URL string `yaml:"url"`
	// AppID is issued by the platform; empty leaves it out of the call.
	AppID string `yaml:"app_id"`
	// AppSecret signs every call; empty sends them unsigned.
	AppSecret Secret `yaml:"app_secret,secret"`
	// ParkUUID is the lot of records whose mapping names none.
	ParkUUID string `yaml:"park_uuid"`
	// Timeout bounds one call from dialling to the last byte of the answer;
	// 0 means 10s.
	Timeout time.Duration `yaml:"timeout"`
	// Concurrency is the number of calls under way at once, 1 to 256; 0 means 8.
	Concurrency int `yaml:"concurrency"`
	// RateLimit is the most calls begun in a second; 0 means no limit.
	RateLimit float64 `yaml:"rate_limit"`
	// CAFile is a PEM file of certificates trusted beside the system's own.
	CAFile string `yaml:"ca_file,path"`
	// UnorderedSerials lists parking serials that are placeholders: their
	// records do not wait for one another.
	UnorderedSerials []string `yaml:"unordered_serials"`
}

// Defaults fills what was left out.
func (c *Config) Defaults() {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Concurrency == 0 {
		c.Concurrency = 8
	}
}

// Validate reports every problem with the config key it concerns.
func (c *Config) Validate(report func(key, problem string)) {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		report("url", "is missing; the platform's is https://api.4pyun.com/gate/1.0/parking/internal/update")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		report("url", "is not a full http:// or https:// address")
	}
	if c.Timeout < 0 || c.Timeout > 10*time.Minute {
		report("timeout", "must be above 0 and at most 10m")
	}
	if c.Concurrency < 0 || c.Concurrency > 256 {
		report("concurrency", "must be from 1 to 256")
	}
	if c.CAFile != "" {
		if _, err := roots(c.CAFile); err != nil {
			report("ca_file", err.Error())
		}
	}
	if c.RateLimit < 0 {
		report("rate_limit", "must not be negative; 0 means no limit")
	}
}

// roots are the system's certificates and those of a file.
func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("holds no PEM certificate: %s", file)
	}
	return pool, nil
}

// Client sends records to the gate. It is safe for concurrent use.
type Client struct {
	cfg     Config
	request *http.Request // what all calls have in common
	// head is a request's head as net/http writes it, before and after the length of
	// the body.
	head      [2][]byte
	between   string // stands before each part's name
	plain     *http.Client
	proxy     *url.URL // nil where there is none
	transport transport
	calls     sync.Pool // of *call
	now       func() time.Time
}

// transport carries calls. None follows redirects, which are a captive portal's
// doing, and none sends a call twice, for one that was written may have been
// taken.
type transport interface {
	// post makes one call and reads its answer into the call, of the body at most a
	// byte more than maxReply. With a status and an error, the body broke off.
	post(ctx context.Context, call *call) error
}

// call holds what a call needs and the next one can use again.
type call struct {
	wire    Fields
	message []byte // head and body
	body    int    // where in message the body begins
	status  int    // of the answer; 0: there was none
	header  http.Header
	reply   bytes.Buffer
}

// read takes an answer in.
func (c *call) read(res *http.Response) error {
	defer res.Body.Close()
	c.status, c.header = res.StatusCode, res.Header
	_, err := c.reply.ReadFrom(io.LimitReader(res.Body, maxReply+1))
	return err
}

// maxReply is what is read of an answer; the platform's are a few hundred bytes.
const maxReply = 64 << 10

// New makes a client. It fails where ca_file cannot be used.
func New(cfg Config) (*Client, error) {
	cfg.Defaults()
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pool, err := roots(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file %w", err)
		}
		conf.RootCAs = pool
	}
	request, err := http.NewRequest(http.MethodPost, cfg.URL, http.NoBody) //nolint:noctx // each call gets its own
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	request.GetBody = nil
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails since Go 1.24
	boundary := "parkbridge" + hex.EncodeToString(seed[:])
	request.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "parkbridge")
	if user := request.URL.User; user != nil {
		password, _ := user.Password()
		request.SetBasicAuth(user.Username(), password)
	}
	c := &Client{cfg: cfg, request: request, between: "--" + boundary, calls: sync.Pool{New: func() any { return &call{} }}, now: time.Now}
	var head bytes.Buffer
	if err := request.Write(&head); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	c.head[0], c.head[1], _ = bytes.Cut(head.Bytes(), []byte("\r\nContent-Length: 0\r\n"))
	if c.proxy, err = http.ProxyFromEnvironment(request); err != nil {
		return nil, fmt.Errorf("the proxy that the environment names: %w", err)
	}
	c.plain = &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyURL(c.proxy),
			TLSClientConfig:     conf,
			DisableCompression:  true,            // answers are a few hundred bytes
			MaxIdleConnsPerHost: cfg.Concurrency, // fewer would reconnect for most calls
			IdleConnTimeout:     idleMost,
		},
		Timeout:       cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if c.proxy == nil && isASCII(request.URL.Hostname()) {
		c.transport = newDirect(request.URL, conf, cfg.Timeout)
	} else {
		c.transport = indirect{c.plain, request}
	}
	return c, nil
}

// indirect carries calls as net/http does, for a gate behind a proxy or with a
// name in other letters than ASCII.
type indirect struct {
	client  *http.Client
	request *http.Request
}

func (t indirect) post(ctx context.Context, call *call) error {
	req := t.request.WithContext(ctx)
	// A copy, for net/http may go on reading when it has answered. There is no
	// GetBody, so that it cannot send it again.
	body := bytes.Clone(call.message[call.body:])
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res, err := t.client.Do(req)
	if err != nil {
		return err
	}
	return call.read(res)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// Close ends idle connections.
func (c *Client) Close() {
	c.plain.CloseIdleConnections()
	if d, ok := c.transport.(*direct); ok {
		d.closeIdle(0)
	}
}

// wire completes fields into room that is used again: app_id is added, and they are
// signed where there is a secret.
func (c *Client) wire(room, fields Fields) Fields {
	out := append(slices.Grow(room[:0], len(fields)+2), fields...)
	if c.cfg.AppID != "" {
		out = out.with(Part{FieldAppID, c.cfg.AppID})
	}
	if c.cfg.AppSecret != "" {
		out = out.with(Part{FieldSign, out.sign(string(c.cfg.AppSecret))})
	}
	return out
}

// Send pushes one record and says what the answer means. It never fails: an
// answer that did not come is a Retry with the transport's error as message.
func (c *Client) Send(ctx context.Context, fields Fields) Reply {
	call := c.calls.Get().(*call) //nolint:forcetypeassert,errcheck // New makes no others
	defer c.calls.Put(call)
	call.reply.Reset()
	c.encode(call, fields)
	call.status, call.header = 0, nil
	err := c.transport.post(ctx, call)
	switch {
	case call.status == 0:
		return Reply{Outcome: Retry, Message: c.clean(err)}
	case err != nil:
		return Reply{Outcome: Retry, HTTPStatus: call.status, Message: "the answer broke off: " + c.clean(err)}
	case call.reply.Len() > maxReply:
		return Reply{Outcome: Retry, HTTPStatus: call.status, Message: fmt.Sprintf("the answer is longer than %d KiB, which the platform's are not", maxReply>>10)}
	}
	reply := readReply(call.status, call.header, call.reply.Bytes(), c.now())
	if reply.Outcome == Refused {
		reply.Differences, reply.Compared = Compare(call.wire.Map(), reply.Hint)
		reply.Unsigned = c.cfg.AppSecret == ""
	}
	return reply
}

// clean makes a transport error fit for a record: without the secret, and
// plain where no answer came in time.
func (c *Client) clean(err error) string {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // without the address
	}
	_, resolving := errors.AsType[*net.DNSError](err) // names the host
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() && !resolving {
		return fmt.Sprintf("no answer within %s", c.cfg.Timeout)
	}
	if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(plain.RecordHeader[:]) == "HTTP/" {
		err = http.ErrSchemeMismatch
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the connection was closed before the whole answer came")
	}
	text := err.Error()
	if c.cfg.AppSecret != "" {
		text = strings.ReplaceAll(text, string(c.cfg.AppSecret), masked)
	}
	return text
}

const (
	partName = "\r\nContent-Disposition: form-data; name=\""
	partType = "\"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)

// encode completes fields and makes the request of them: a multipart body as the
// document's own client makes it, one text part a field, in UTF-8.
func (c *Client) encode(call *call, fields Fields) {
	call.wire = c.wire(call.wire, fields)
	size := len(c.between) + 4
	for _, p := range call.wire {
		size += len(c.between) + len(partName) + len(p.Name) + len(partType) + len(p.Value) + 2
	}
	b := slices.Grow(call.message[:0], len(c.head[0])+len(c.head[1])+40+size)
	b = append(append(b, c.head[0]...), "\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(size), 10), "\r\n"...)
	b = append(b, c.head[1]...)
	call.body = len(b)
	for _, p := range call.wire {
		b = append(b, c.between...)
		b = append(b, partName...)
		b = append(b, p.Name...)
		b = append(b, partType...)
		b = append(b, p.Value...)
		b = append(b, "\r\n"...)
	}
	b = append(b, c.between...)
	call.message = append(b, "--\r\n"...)
}
