package sink_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parkbridge/sink"
	"parkbridge/sink/gate"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func release() map[string]string {
	return map[string]string{
		"park_uuid": "49f0cc52", "flow_no": "EX1", "parking_serial": "E1", "plate": "粤B12345",
		"operate_time": "2026-11-01T02:00:00Z", "operator": "张三", "reason": "设备异常",
	}
}

func newClient(t *testing.T, url string, change ...func(*sink.Config)) *sink.Client {
	t.Helper()
	cfg := sink.Config{URL: url, AppID: "op1", AppSecret: "s3cret"}
	cfg.Defaults()
	for _, f := range change {
		f(&cfg)
	}
	c, err := sink.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// The cases were computed independently of this project.
func TestSignVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/sign-vectors.json")
	require.NoError(t, err)
	var cases []struct {
		Name      string            `json:"name"`
		AppSecret string            `json:"app_secret"`
		Fields    map[string]string `json:"fields"`
		Plain     string            `json:"plain"`
		Sign      string            `json:"sign"`
	}
	require.NoError(t, json.Unmarshal(raw, &cases))
	require.Len(t, cases, 9)
	for _, c := range cases {
		require.Equal(t, c.Plain, sink.Plain(c.Fields), c.Name)
		require.Equal(t, c.Sign, sink.Sign(c.Fields, c.AppSecret), c.Name)
		// The platform's hint, taken apart, gives the fields back.
		diffs, ok := sink.Compare(c.Fields, c.Plain+"&app_secret=***")
		require.True(t, ok)
		require.Empty(t, diffs, c.Name)
	}
}

// What goes over the wire is what the document's own client sends.
func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	fields := release()
	fields["car_desc"] = ""
	fields["reason"] = "a=b&c\r\n--x \"quoted\" 𠮷"
	got := map[string]string{}
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			t.Errorf("method %s", r.Method)
		}
		kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/form-data" {
			t.Errorf("content type %s: %v", kind, err)
		}
		parts := multipart.NewReader(r.Body, params["boundary"])
		for {
			p, err := parts.NextPart()
			if err != nil {
				break
			}
			if p.Header.Get("Content-Type") != "text/plain; charset=UTF-8" {
				t.Errorf("part %s has type %s", p.FormName(), p.Header.Get("Content-Type"))
			}
			b, _ := io.ReadAll(p)
			got[p.FormName()] = string(b)
		}
		io.WriteString(w, `{"code":"1001","message":"OK","seqno":"1"}`)
	}))
	reply := newClient(t, url).Send(t.Context(), sink.FieldsOf(fields))
	require.Equal(t, sink.Delivered, reply.Outcome)
	want := release()
	want["reason"] = fields["reason"]
	want["app_id"] = "op1"
	want["sign"] = sink.Sign(want, "s3cret")
	require.Equal(t, want, got)
}

func TestUnsignedWithoutSecret(t *testing.T) {
	t.Parallel()
	r, err := sink.Rehearse(sink.Config{URL: "http://127.0.0.1:1"}, release())
	require.NoError(t, err)
	require.Equal(t, release(), r.Fields)
}

// Every reply of the API page leads to the outcome given there.
func TestReplies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		body    string
		header  string
		outcome sink.Outcome
		code    string
		check   func(*testing.T, sink.Reply)
	}{
		"1001":                   {200, `{"code":"1001","message":"OK","seqno":"abc6c253b93cc940","data_node":"CN-South/HS3-1"}`, "", sink.Delivered, "1001", func(t *testing.T, r sink.Reply) { require.Equal(t, "abc6c253b93cc940", r.SeqNo) }},
		"1000":                   {200, `{"code":"1000","message":"OK","seqno":"1"}`, "", sink.Delivered, "1000", nil},
		"200":                    {200, `{"code":"200","message":"OK","seqno":"1"}`, "", sink.Delivered, "200", nil},
		"code is a number":       {200, `{"code":1001,"message":"OK","seqno":17224239894628849085663174788803}`, "", sink.Delivered, "1001", func(t *testing.T, r sink.Reply) { require.Equal(t, "17224239894628849085663174788803", r.SeqNo) }},
		"success on HTTP 500":    {500, `{"code":"1001","message":"OK","seqno":"1"}`, "", sink.Delivered, "1001", nil},
		"accepted with a remark": {200, `{"code":"1001","message":"OK","hint":"plate unknown","seqno":"1"}`, "", sink.Delivered, "1001", func(t *testing.T, r sink.Reply) { require.True(t, r.Remark) }},
		"success with a signature hint": {200, `{"code":"1001","message":"OK","hint":"flow_no=EX1&app_secret=***","seqno":"1"}`, "", sink.Refused, "1001", func(t *testing.T, r sink.Reply) {
			require.Contains(t, r.DifferentFields(), "plate")
		}},
		"400":                      {400, `{"code":"400","message":"参数错误","hint":"plate","seqno":"1"}`, "", sink.Rejected, "400", func(t *testing.T, r sink.Reply) { require.Equal(t, "plate", r.Hint) }},
		"400 on HTTP 200":          {200, `{"code":"400","message":"参数错误","seqno":"1"}`, "", sink.Rejected, "400", nil},
		"401":                      {401, `{"code":"401","message":"请求签名校验不通过","seqno":"1"}`, "", sink.Refused, "401", nil},
		"403":                      {200, `{"code":"403","message":"访问被拦截","seqno":"1"}`, "", sink.Refused, "403", nil},
		"403 without JSON":         {403, `<html>blocked</html>`, "", sink.Refused, "403", nil},
		"500":                      {500, `{"code":"500","message":"服务器内部错误","seqno":"1"}`, "", sink.Retry, "500", nil},
		"500 on HTTP 200":          {200, `{"code":"500","message":"服务器内部错误","seqno":"1"}`, "", sink.Retry, "500", nil},
		"503 asks for a pause":     {503, `{"code":"503","message":"服务暂不可用","seqno":"1"}`, "7", sink.Retry, "503", func(t *testing.T, r sink.Reply) { require.Equal(t, 7*time.Second, r.RetryAfter) }},
		"a pause is bounded":       {503, ``, "999999999", sink.Retry, "503", func(t *testing.T, r sink.Reply) { require.Equal(t, time.Hour, r.RetryAfter) }},
		"a pause may be a date":    {429, ``, time.Now().Add(30 * time.Minute).UTC().Format(http.TimeFormat), sink.Retry, "429", func(t *testing.T, r sink.Reply) { require.InDelta(t, 1800, r.RetryAfter.Seconds(), 30) }},
		"a pause that is nonsense": {429, ``, "soon", sink.Retry, "429", func(t *testing.T, r sink.Reply) { require.Zero(t, r.RetryAfter) }},
		"unknown code":             {200, `{"code":"9999","message":"?","seqno":"1"}`, "", sink.Retry, "9999", nil},
		"404":                      {404, `not found`, "", sink.Retry, "404", nil},
		"not JSON":                 {200, `<html>Welcome to the hotel</html>`, "", sink.Retry, "200", func(t *testing.T, r sink.Reply) { require.Contains(t, r.Message, "Welcome to the hotel") }},
		"JSON without a code":      {200, `{"ok":true}`, "", sink.Retry, "200", nil},
		"empty":                    {200, ``, "", sink.Retry, "200", nil},
		"redirect":                 {302, ``, "", sink.Retry, "302", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				if c.status == 302 {
					w.Header().Set("Location", "http://portal.example/login")
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			r := newClient(t, url).Send(t.Context(), sink.FieldsOf(release()))
			require.Equal(t, c.outcome, r.Outcome, "%+v", r)
			require.Equal(t, c.code, r.Code)
			require.Equal(t, c.status, r.HTTPStatus)
			if c.check != nil {
				c.check(t, r)
			}
		})
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"hangs":  func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"breaks": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"cut in half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"code":"1001"`)
		},
		"100 MB": func(w http.ResponseWriter, _ *http.Request) {
			chunk := make([]byte, 1<<20)
			for range 100 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, serve(t, h), func(cfg *sink.Config) { cfg.Timeout = time.Second })
			r := c.Send(t.Context(), sink.FieldsOf(release()))
			require.Equal(t, sink.Retry, r.Outcome, "%+v", r)
			require.NotEmpty(t, r.Message)
		})
	}
	r := newClient(t, "http://127.0.0.1:1").Send(t.Context(), sink.FieldsOf(release()))
	require.Equal(t, sink.Retry, r.Outcome)
	require.Contains(t, r.Message, "refused")
}

// The field that the platform saw otherwise is named, with a word on why.
func TestRefusalNamesTheField(t *testing.T) {
	t.Parallel()
	g := gate.New(gate.Config{Secret: "s3cret", Mangle: func(f map[string]string) { f["plate"] = strings.ReplaceAll(f["plate"], "粤", "?") }})
	r := newClient(t, serve(t, g)).Send(t.Context(), sink.FieldsOf(release()))
	require.Equal(t, sink.Refused, r.Outcome)
	require.Equal(t, []string{"plate"}, r.DifferentFields())
	require.Equal(t, `plate: sent "粤B12345", the platform saw "?B12345" (a charset error)`, r.Explain())

	g = gate.New(gate.Config{Secret: "another"})
	r = newClient(t, serve(t, g)).Send(t.Context(), sink.FieldsOf(release()))
	require.True(t, r.Compared)
	require.Empty(t, r.Differences)
	require.Contains(t, r.Explain(), "app_secret differs")
	require.NotContains(t, r.Explain(), "s3cret")
}

// A hint as the platform's own document shows one: mangled, and short of a field.
func TestCompareWithTheDocumentsHint(t *testing.T) {
	t.Parallel()
	hint := "park_uuid=49f0cc52-e8c7-41e3-b54d-af666b8cc11a&parking_serial=parking_serialxxxxx&plate=?KKKKKK&reason=a&plate=b&app_secret=***"
	diffs, ok := sink.Compare(map[string]string{
		"park_uuid": "49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "parking_serial": "parking_serialxxxxx", "plate": "粤KKKKKK",
		"reason": "a&plate=b", "sign": "X", "operator": "张三",
	}, hint)
	require.True(t, ok)
	require.Equal(t, []sink.Difference{
		{Field: "operator", Sent: "张三"},
		{Field: "plate", Sent: "粤KKKKKK", Seen: "?KKKKKK"},
	}, diffs)
	require.True(t, diffs[1].Mangled())
	_, ok = sink.Compare(release(), "plate unknown")
	require.False(t, ok)
}

func TestTLSIsVerified(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(gate.New(gate.Config{Secret: "s3cret"}))
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	r := newClient(t, s.URL).Send(t.Context(), sink.FieldsOf(release()))
	require.Equal(t, sink.Retry, r.Outcome)
	require.Contains(t, r.Message, "certificate")

	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	r = newClient(t, s.URL, func(cfg *sink.Config) { cfg.CAFile = file }).Send(t.Context(), sink.FieldsOf(release()))
	require.Equal(t, sink.Delivered, r.Outcome, r.Message)

	require.NoError(t, os.WriteFile(file, []byte("no certificate"), 0o600))
	_, err := sink.New(sink.Config{CAFile: file})
	require.ErrorContains(t, err, "no PEM certificate")
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	connections := 0
	s := httptest.NewUnstartedServer(gate.New(gate.Config{}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections++
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	for range 50 {
		require.Equal(t, sink.Delivered, c.Send(t.Context(), sink.FieldsOf(release())).Outcome)
	}
	c.Close()
	s.Close()
	require.Equal(t, 1, connections)
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	cfg := sink.Config{AppSecret: "s3cret"}
	j, err := json.Marshal(cfg)
	require.NoError(t, err)
	for _, text := range []string{string(j), cfg.AppSecret.String(), fmt.Sprintf("%v", cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg)} {
		require.NotContains(t, text, "s3cret")
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("a=1&plate=x&app_secret=***", "x&y=z")
	f.Add("&&=&app_secret=***", "")
	f.Fuzz(func(t *testing.T, hint, plate string) {
		fields := map[string]string{"plate": plate, "reason": "r"}
		sink.Compare(fields, hint) // any hint of a stranger's is survived
		diffs, ok := sink.Compare(fields, sink.Plain(fields)+"&app_secret=***")
		if !ok {
			t.Fatal("a hint was not recognised")
		}
		// A value that imitates a field of its own cannot be told from one.
		if len(diffs) > 0 && !strings.Contains(plate, "&") && !strings.HasPrefix(strings.TrimSpace(sink.Plain(fields)), " ") && strings.TrimSpace(plate) == plate {
			t.Fatalf("%q: %v", plate, diffs)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(200, []byte(`{"code":"1001"}`), "3")
	f.Add(500, []byte(`{"code":[1]}`), "Mon, 23 Nov 2026 10:00:00 GMT")
	f.Fuzz(func(t *testing.T, status int, body []byte, after string) {
		r := sink.ReadReply(status, http.Header{"Retry-After": {after}}, body, time.Unix(0, 0))
		if r.Outcome == sink.Delivered && r.Code != "1001" && r.Code != "1000" && r.Code != "200" {
			t.Fatalf("%d %q: delivered with code %q", status, body, r.Code)
		}
		if r.RetryAfter < 0 || r.RetryAfter > time.Hour {
			t.Fatalf("%q: a pause of %s", after, r.RetryAfter)
		}
	})
}

// What http.Client would have done: an address of the wrong scheme is told, a
// login in the address is sent, and no time-out is the usual one.
func TestPlainTransport(t *testing.T) {
	t.Parallel()
	logins := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		logins <- user + ":" + password
		_, _ = w.Write([]byte(`{"code":"1001"}`))
	}))
	defer server.Close()
	send := func(url string) sink.Reply {
		c, err := sink.New(sink.Config{URL: url, Concurrency: 1})
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Reach(t.Context())
		reply := c.Send(t.Context(), sink.FieldsOf(map[string]string{"a": "b"}))
		require.Equal(t, reply.Outcome == sink.Delivered, err == nil)
		return reply
	}
	require.Contains(t, send(strings.Replace(server.URL, "http:", "https:", 1)).Message, "server gave HTTP response to HTTPS client")
	require.Equal(t, sink.Delivered, send(strings.Replace(server.URL, "http://", "http://u:p@", 1)).Outcome)
	require.Equal(t, []string{"u:p", "u:p"}, []string{<-logins, <-logins})
}
