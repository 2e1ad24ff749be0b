// Package gate is a local stand-in for the platform: it verifies signatures
// and required fields, ignores a repeated flow_no of a lot, keeps what it got,
// and can be told to answer otherwise.
package gate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"parkbridge/sink"
)

// Config sets a gate up. The zero value takes unsigned calls and accepts them.
type Config struct {
	// Secret verifies signatures; empty takes any call.
	Secret string
	// Latency is how long every answer takes.
	Latency time.Duration
	// Store gets every record taken, one JSON object a line; nil keeps them in
	// memory alone.
	Store io.Writer
	// Mangle changes the fields before the signature is verified, as a
	// platform that decodes them wrongly would; nil changes nothing.
	Mangle func(fields map[string]string)
}

// Gate is an http.Handler. It is safe for concurrent use.
type Gate struct {
	cfg Config

	mu      sync.Mutex
	answers []Answer
	calls   int
	repeats int
	taken   map[string]map[string]string // by lot and flow_no
	order   []string
}

// New makes a gate.
func New(cfg Config) *Gate {
	return &Gate{cfg: cfg, taken: map[string]map[string]string{}}
}

// Answer overrides what the gate does with a call.
type Answer struct {
	// Code is the platform code to answer with; the record is not taken. The
	// codes of success do take it.
	Code string
	// Drop breaks the connection instead of answering: "before" or "after"
	// taking the record.
	Drop string
	// Body, if not empty, is sent in the place of the platform's JSON.
	Body string
	// Status is the HTTP status; 0 means 200 for success, else the code.
	Status int
	// RetryAfter is sent as the header of that name, in seconds, if above 0.
	RetryAfter int
	// Hint goes into the answer.
	Hint string
	// Every limits the override to each n-th call; 0 or 1 means every call.
	Every int
	// Times limits it to the first n calls it applies to; 0 means no limit.
	Times int
	// Match limits it to records it returns true for; nil means all.
	Match func(fields map[string]string) bool
}

// ParseAnswer reads the form of `gate --answer`: a code (503, 401, …),
// drop-before or drop-after, optionally followed by ":every N".
func ParseAnswer(s string) (Answer, error) {
	what, rest, cut := strings.Cut(s, ":")
	var a Answer
	switch what {
	case "drop-before", "drop-after":
		a.Drop = strings.TrimPrefix(what, "drop-")
	default:
		if n, err := strconv.Atoi(what); err != nil || n < 100 || n > 9999 {
			return a, fmt.Errorf("answer %q is neither a code such as 503 nor drop-before or drop-after", what)
		}
		a.Code = what
	}
	if cut {
		n, found := strings.CutPrefix(strings.TrimSpace(rest), "every")
		every, err := strconv.Atoi(strings.TrimSpace(n))
		if !found || err != nil || every < 1 {
			return a, fmt.Errorf("answer %q: after the colon comes \"every N\"", s)
		}
		a.Every = every
	}
	return a, nil
}

// Answer replaces the overrides; none means that the gate behaves.
func (g *Gate) Answer(answers ...Answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers = answers
}

// Records gives the fields of every record taken, in order of taking.
func (g *Gate) Records() []map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]map[string]string, 0, len(g.order))
	for _, key := range g.order {
		out = append(out, maps.Clone(g.taken[key]))
	}
	return out
}

// Stats counts what happened so far.
type Stats struct {
	Calls   int `json:"calls"`   // every call, whatever its answer
	Taken   int `json:"taken"`   // distinct records
	Repeats int `json:"repeats"` // calls with a flow_no already taken
}

// Stats gives the counts.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Calls: g.calls, Taken: len(g.order), Repeats: g.repeats}
}

// ServeHTTP answers one call. GET gives the counts, and HEAD that it is there.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		writeJSON(w, http.StatusOK, g.Stats())
		return
	}
	fields, err := readFields(w, r)
	if g.cfg.Latency > 0 {
		select {
		case <-time.After(g.cfg.Latency):
		case <-r.Context().Done():
			return
		}
	}
	override := g.next(fields)
	if override != nil && override.Drop == "before" {
		panic(http.ErrAbortHandler) // net/http's own way to break a connection
	}
	if override != nil && (override.Code != "" || override.Body != "") && !success(override.Code) {
		override.write(w, g.seqno())
		return
	}
	var code, message, hint string
	if err != nil {
		code, message = "400", "请求参数错误: "+err.Error()
	} else {
		code, message, hint = g.take(fields)
	}
	if override != nil && override.Drop == "after" {
		panic(http.ErrAbortHandler)
	}
	if override != nil && success(code) {
		override.write(w, g.seqno())
		return
	}
	Answer{Code: code, Hint: hint}.reply(w, message, g.seqno())
}

func readFields(w http.ResponseWriter, r *http.Request) (map[string]string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	reader, err := r.MultipartReader()
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for {
		part, err := reader.NextPart()
		if err == io.EOF { //nolint:errorlint // as the manual of NextPart says
			return fields, nil
		}
		if err != nil {
			return nil, err
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		fields[part.FormName()] = string(value)
	}
}

// next picks the override for this call, if any, and counts the call.
func (g *Gate) next(fields map[string]string) *Answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	for i := range g.answers {
		a := &g.answers[i]
		if (a.Every > 1 && g.calls%a.Every != 0) || (a.Match != nil && !a.Match(fields)) || a.Times < 0 {
			continue
		}
		if a.Times == 1 {
			a.Times = -1 // used up
		} else if a.Times > 1 {
			a.Times--
		}
		chosen := *a
		return &chosen
	}
	return nil
}

func (g *Gate) seqno() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return fmt.Sprintf("standin%012d", g.calls)
}

func success(code string) bool { return code == "1001" || code == "1000" || code == "200" }

// take verifies a record and keeps it.
func (g *Gate) take(fields map[string]string) (code, message, hint string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg.Mangle != nil {
		g.cfg.Mangle(fields)
	}
	if g.cfg.Secret != "" && !strings.EqualFold(fields[sink.FieldSign], sink.Sign(fields, g.cfg.Secret)) {
		return "401", "请求签名校验不通过", sink.Plain(fields) + "&app_secret=***"
	}
	for _, f := range sink.Contract() {
		if f.Required && fields[f.Name] == "" {
			return "400", "参数错误", f.Name + " is required"
		}
	}
	key := fields[sink.FieldParkUUID] + "\x00" + fields[sink.FieldFlowNo]
	if _, repeated := g.taken[key]; repeated {
		g.repeats++
		return "1001", "OK", ""
	}
	if g.cfg.Store != nil {
		line, err := json.Marshal(fields)
		if err == nil {
			_, err = g.cfg.Store.Write(append(line, '\n'))
		}
		if err != nil {
			return "500", "keeping the record: " + err.Error(), ""
		}
	}
	g.taken[key] = fields
	g.order = append(g.order, key)
	return "1001", "OK", ""
}

// Load counts records of an earlier run as taken, from what Store got.
func (g *Gate) Load(r io.Reader) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	dec := json.NewDecoder(r)
	for {
		var fields map[string]string
		if err := dec.Decode(&fields); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading the gate's store: %w", err)
		}
		key := fields[sink.FieldParkUUID] + "\x00" + fields[sink.FieldFlowNo]
		if g.taken[key] == nil {
			g.order = append(g.order, key)
		}
		g.taken[key] = fields
	}
}

func (a Answer) write(w http.ResponseWriter, seqno string) {
	if a.Body != "" {
		if a.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(a.RetryAfter))
		}
		w.WriteHeader(max(a.Status, http.StatusOK))
		_, _ = io.WriteString(w, a.Body) // the caller may have gone
		return
	}
	messages := map[string]string{"400": "参数错误", "401": "请求签名校验不通过", "403": "访问被拦截", "500": "服务器内部错误", "503": "服务暂不可用"}
	message := messages[a.Code]
	if success(a.Code) || a.Code == "" {
		message = "OK"
	}
	a.reply(w, message, seqno)
}

func (a Answer) reply(w http.ResponseWriter, message, seqno string) {
	if a.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(a.RetryAfter))
	}
	if a.Code == "" {
		a.Code = "1001"
	}
	status := a.Status
	if status == 0 {
		status = http.StatusOK
		if n, err := strconv.Atoi(a.Code); err == nil && n >= 400 && n <= 599 {
			status = n
		}
	}
	body := map[string]string{"code": a.Code, "message": message, "seqno": seqno, "data_node": "stand-in"}
	if a.Hint != "" {
		body["hint"] = a.Hint
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller may have gone
}
