package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Reached is what a look at the gate found.
type Reached struct {
	Status int
	// Redirect is the host that the answer points to; "" where to none.
	Redirect string
	// Page tells that the answer is a web page, which the platform's are not.
	Page bool
	// Proxy is the host of the proxy in between; "" where there is none.
	Proxy string
	// Expires is when the first certificate of the gate's chain ends; zero
	// without TLS.
	Expires time.Time
}

// Reach asks the gate for a sign of life by the way that records take: the
// same proxy, the same certificates. It is a HEAD without a body, which pushes
// nothing. Where TLS is at fault the error is a [*TLSError].
func (c *Client) Reach(ctx context.Context) (Reached, error) {
	var out Reached
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.cfg.URL, nil)
	if err != nil {
		return out, errors.New("making the request: " + c.clean(err))
	}
	req.Header.Set("User-Agent", "parkbridge")
	if login := c.request.Header.Get("Authorization"); login != "" {
		req.Header.Set("Authorization", login)
	}
	if c.proxy != nil {
		out.Proxy = c.proxy.Host
	}
	res, err := c.plain.Do(req)
	if err != nil {
		if what, ok := tlsFault(err); ok {
			return out, &TLSError{what}
		}
		return out, errors.New(c.clean(err))
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxReply)) // a HEAD has no body
	out.Status = res.StatusCode
	out.Page = strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		out.Redirect = hostOf(res.Header.Get("Location"))
	}
	if res.TLS != nil {
		out.Expires = firstEnd(res.TLS)
	}
	return out, nil
}

// firstEnd is when the first certificate of a verified chain ends.
func firstEnd(state *tls.ConnectionState) time.Time {
	chain := state.PeerCertificates
	if len(state.VerifiedChains) > 0 {
		chain = state.VerifiedChains[0]
	}
	var first time.Time
	for _, cert := range chain {
		if first.IsZero() || cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
	}
	return first
}

// TLSError says what is wrong with the gate's certificate or its TLS. Returned
// by [Client.Reach].
type TLSError struct{ Problem string }

func (e *TLSError) Error() string { return e.Problem }

// tlsFault says in words what a failed handshake found; ok is false where TLS is
// not at fault.
func tlsFault(err error) (problem string, ok bool) {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var header tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Sprintf("its certificate is good from %s to %s only", day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter)), true
	case errors.As(err, &unknown):
		by := "somebody"
		if unknown.Cert != nil {
			by = unknown.Cert.Issuer.String()
		}
		return "its certificate was issued by " + by + ", whom this machine does not trust", true
	case errors.As(err, &host):
		names := "nobody"
		if host.Certificate != nil {
			names = strings.Join(host.Certificate.DNSNames, ", ")
		}
		return fmt.Sprintf("its certificate is for %s, not for %s", names, host.Host), true
	case errors.As(err, &header), strings.Contains(err.Error(), "gave HTTP response to HTTPS client"):
		return "it does not speak TLS at this address", true
	case errors.As(err, &verify):
		return "its certificate cannot be verified: " + verify.Err.Error(), true
	case errors.As(err, &alert):
		return "it broke off the TLS handshake: " + alert.Error(), true
	}
	return "", false
}
