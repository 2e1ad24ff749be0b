package sink_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sink"
)

var boundaries = regexp.MustCompile(`parkbridge[0-9a-f]{32}`)

// What is rehearsed is, to the byte, what is sent.
func TestRehearse(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, true)
		require.NoError(t, err)
		got = string(dump)
		_, _ = io.WriteString(w, `{"code":"1001","message":"OK"}`)
	}))
	defer server.Close()
	fields := map[string]string{"flow_no": "EX17", "plate": "粤B12345", "reason": "a&b=c", "car_desc": "", "operator": "张三"}
	cfg := sink.Config{URL: strings.Replace(server.URL, "http://", "http://lot:pa55word@", 1) + "/update", AppID: "op1", AppSecret: "s3cret", Timeout: 5 * time.Second, Concurrency: 1}
	client, err := sink.New(cfg)
	require.NoError(t, err)
	defer client.Close()
	require.Equal(t, sink.Delivered, client.Send(t.Context(), sink.FieldsOf(fields)).Outcome)

	r, err := sink.Rehearse(cfg, fields)
	require.NoError(t, err)
	require.Equal(t, http.MethodPost, r.Method)
	require.Equal(t, "app_id=op1&flow_no=EX17&operator=张三&plate=粤B12345&reason=a&b=c&app_secret=***", r.Plain)
	wire := map[string]string{"app_id": "op1", "flow_no": "EX17", "plate": "粤B12345", "reason": "a&b=c", "operator": "张三"}
	require.Equal(t, sink.Sign(wire, "s3cret"), r.Sign, "the real one, of the real secret")
	wire["sign"] = r.Sign
	require.Equal(t, wire, r.Fields)
	all := r.Head + "\r\n\r\n" + r.Body
	for _, secret := range []string{"s3cret", "pa55word", "bG90"} {
		require.NotContains(t, all+r.URL+r.Plain, secret)
	}
	require.Contains(t, r.Head, "Authorization: ***")
	same := func(dump string) (first string, headers []string, body string) {
		dump = boundaries.ReplaceAllString(dump, "BOUNDARY")
		head, body, _ := strings.Cut(dump, "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "Authorization: ") {
				lines[i] = "Authorization: ***"
			}
		}
		return lines[0], lines[1:], body
	}
	first, headers, body := same(all)
	gotFirst, gotHeaders, gotBody := same(got)
	require.Equal(t, gotFirst, first)
	require.ElementsMatch(t, gotHeaders, headers)
	require.Equal(t, gotBody, body)

	cfg.AppSecret = ""
	r, err = sink.Rehearse(cfg, fields)
	require.NoError(t, err)
	require.Empty(t, r.Sign)
	require.NotContains(t, r.Plain, "app_secret")
}

// A look at the gate pushes nothing, and says what stands in the way.
func TestReach(t *testing.T) {
	t.Parallel()
	status, location, kind := http.StatusMethodNotAllowed, "", "application/json"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodHead, r.Method)
		require.Zero(t, r.ContentLength)
		w.Header().Set("Content-Type", kind)
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	reach := func(cfg sink.Config) (sink.Reached, error) {
		cfg.Timeout = 5 * time.Second
		client, err := sink.New(cfg)
		require.NoError(t, err)
		defer client.Close()
		return client.Reach(t.Context())
	}
	cfg := sink.Config{URL: server.URL, CAFile: file}
	found, err := reach(cfg)
	require.NoError(t, err)
	require.Equal(t, sink.Reached{Status: http.StatusMethodNotAllowed, Expires: server.Certificate().NotAfter}, found)

	status, location = http.StatusFound, "https://portal.example/login?from=here"
	found, err = reach(cfg)
	require.NoError(t, err)
	require.Equal(t, "portal.example", found.Redirect)
	status, location, kind = http.StatusOK, "", "text/html; charset=utf-8"
	found, err = reach(cfg)
	require.NoError(t, err)
	require.True(t, found.Page)

	_, err = reach(sink.Config{URL: server.URL})
	var fault *sink.TLSError
	require.ErrorAs(t, err, &fault)
	require.Contains(t, fault.Problem, "Acme Co")
	_, err = reach(sink.Config{URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), CAFile: file})
	require.ErrorAs(t, err, &fault)
	require.Contains(t, fault.Problem, "not for localhost")
	plain := httptest.NewServer(server.Config.Handler)
	defer plain.Close()
	_, err = reach(sink.Config{URL: strings.Replace(plain.URL, "http:", "https:", 1)})
	require.ErrorAs(t, err, &fault)
	require.Equal(t, "it does not speak TLS at this address", fault.Problem)
	plain.Close()
	_, err = reach(sink.Config{URL: plain.URL})
	require.ErrorContains(t, err, "connection refused")
	require.NotErrorAs(t, err, &fault)
}
