package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/config"
	"parkbridge/sink"
)

// authority issues certificates, as a city may have one.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "City CA"}, NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	a := &authority{key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// issue makes a certificate for a name; for the loopback address where it is "".
func (a *authority) issue(t *testing.T, name string, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "gate"}, NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if name != "" {
		template.IPAddresses, template.DNSNames = nil, []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// What is said of a gate in every state it can be in.
func TestGate(t *testing.T) {
	t.Parallel()
	city, stranger := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(100 * 24 * time.Hour)
	secure := func(cert tls.Certificate) func(*httptest.Server) {
		return func(s *httptest.Server) {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
			s.StartTLS()
		}
	}
	plain := func(s *httptest.Server) { s.Start() }
	answers := func(status int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			require.Equal(t, http.MethodHead, r.Method)
			require.Zero(t, r.ContentLength)
			for _, h := range headers {
				name, value, _ := strings.Cut(h, ": ")
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
		}
	}
	hang := make(chan struct{})
	var out strings.Builder
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		start   func(*httptest.Server)
		url     func(string) string
	}{
		{"well", answers(405), secure(city.issue(t, "", time.Now().AddDate(-1, 0, 0), soon)), nil},
		{"its certificate ends soon", answers(405), secure(city.issue(t, "", time.Now().AddDate(-1, 0, 0), time.Now().Add(5*24*time.Hour+time.Minute))), nil},
		{"its certificate has ended", answers(405), secure(city.issue(t, "", time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -1))), nil},
		{"its certificate is not good yet, or this clock is wrong", answers(405), secure(city.issue(t, "", time.Now().AddDate(0, 0, 1), soon)), nil},
		{"its certificate is a stranger's", answers(405), secure(stranger.issue(t, "", time.Now().AddDate(-1, 0, 0), soon)), nil},
		{"its certificate is for another", answers(405), secure(city.issue(t, "portal.example", time.Now().AddDate(-1, 0, 0), soon)), nil},
		{"it speaks no TLS", answers(405), plain, func(url string) string { return strings.Replace(url, "http:", "https:", 1) }},
		{"a captive portal that redirects", answers(302, "Location: http://portal.example/login"), plain, nil},
		{"a captive portal that says so", answers(511), plain, nil},
		{"a captive portal that shows a page", answers(200, "Content-Type: text/html"), plain, nil},
		{"a proxy that asks for an account", answers(407), plain, nil},
		{"it has trouble", answers(503), plain, nil},
		{"it does not answer", func(http.ResponseWriter, *http.Request) { <-hang }, plain, nil},
		{"nobody is there", answers(405), plain, func(string) string { return "http://127.0.0.1:1/update" }},
	} {
		server := httptest.NewUnstartedServer(c.handler)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		c.start(server)
		t.Cleanup(server.Close)
		cfg := sink.Config{URL: server.URL + "/update", AppSecret: "s3cret", CAFile: city.file, Timeout: 2 * time.Second}
		if c.url != nil {
			cfg.URL = c.url(cfg.URL)
		}
		cfg.Defaults()
		out.WriteString("--- " + c.name + "\n")
		checker := &Checker{Config: &config.Config{Sink: cfg}, Now: time.Now, Tell: func(r Result) {
			if r.Check == "gate" {
				write(&out, r)
			}
		}}
		checker.gate(t.Context())
	}
	close(hang)
	text := out.String()
	for _, v := range varying[:2] {
		text = v.what.ReplaceAllString(text, v.with)
	}
	text = regexp.MustCompile(`\d{4}-\d\d-\d\d( \d\d:\d\d)?`).ReplaceAllString(text, "DATE")
	golden(t, "gate", text)
}

func TestLocal(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, "api.4pyun.com": false, "10.0.0.1": false} {
		require.Equal(t, want, local(host), host)
	}
	var got Result
	c := &Checker{Now: time.Now}
	u, err := url.Parse("http://api.4pyun.com/update")
	require.NoError(t, err)
	c.reached(reporter{tell: func(r Result) { got = r }}, u, u.Host, sink.Reached{Status: http.StatusMethodNotAllowed})
	require.Equal(t, Warn, got.Level)
	require.Contains(t, got.Found, "without TLS")
}
