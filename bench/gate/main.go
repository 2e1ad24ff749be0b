// Command gate is a lean stand-in for the platform, for measuring: it takes the
// multipart apart, verifies the signature and counts repeats, in memory that
// does not grow with what it has taken. A GET of its address gives its counts;
// `parkbridge gate` is the stand-in for everything else.
package main

import (
	"bytes"
	"crypto/md5" // by the platform's document
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"mime"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	g := &gate{}
	listen := flag.String("listen", "127.0.0.1:0", "the address to listen on")
	flag.StringVar(&g.secret, "secret", "", "the app_secret that signatures are verified with")
	flag.DurationVar(&g.latency, "latency", 0, "how long every answer takes")
	flag.BoolVar(&g.timed, "arrivals", false, "keep when each record came; /arrivals gives them")
	flag.Parse()
	if err := serve(*listen, g); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

// serve says where it listens in its first line.
func serve(listen string, g *gate) error {
	l, err := net.Listen("tcp", listen) //nolint:noctx // until the process ends
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/\n", l.Addr())
	srv := &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	return srv.Serve(l)
}

type gate struct {
	secret  string
	latency time.Duration
	timed   bool

	mu       sync.Mutex
	counts   counts
	taken    []uint64         // a bit for each number of a flow_no
	arrivals map[uint64]int64 // Unix nanoseconds
}

// counts are what a GET gives. First and Last are when the first and the last
// call came, in Unix nanoseconds.
type counts struct {
	Calls, Taken, Repeats, Refused int
	First, Last                    int64
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		g.mu.Lock()
		defer g.mu.Unlock()
		var answer any = g.counts
		if r.URL.Path == "/arrivals" {
			answer = g.arrivals
		}
		_ = json.NewEncoder(w).Encode(answer) // the caller may have gone
		return
	}
	came := time.Now()
	body, _ := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(body)
	body.Reset()
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, 64<<10))
	var number uint64
	if err == nil {
		number, err = g.verify(r.Header.Get("Content-Type"), body.Bytes())
	}
	calls := g.count(came, number, err == nil)
	if g.latency > 0 {
		time.Sleep(g.latency)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	code, message := "1001", "OK"
	if err != nil {
		code, message = "400", err.Error()
	}
	_, _ = fmt.Fprintf(w, `{"code":%q,"message":%q,"seqno":"%016x","data_node":"bench"}`, code, message, calls)
}

// verify takes a body apart and gives the number in its flow_no.
func (g *gate) verify(contentType string, body []byte) (uint64, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, err
	}
	type field struct{ name, value string }
	fields := make([]field, 0, 16)
	var sign, flowNo string
	parts := strings.Split(string(body), "--"+params["boundary"])
	for _, part := range parts[1:] {
		if part == "--\r\n" {
			break
		}
		head, value, ok := strings.Cut(part, "\r\n\r\n")
		value, ended := strings.CutSuffix(value, "\r\n")
		_, name, named := strings.Cut(head, `; name="`)
		name, _, closed := strings.Cut(name, `"`)
		if !ok || !ended || !named || !closed {
			return 0, fmt.Errorf("a part is not well formed: %q", part)
		}
		switch name {
		case "sign":
			sign = value
			continue
		case "flow_no":
			flowNo = value
		}
		fields = append(fields, field{name, value})
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	plain := make([]byte, 0, 1024)
	for _, f := range fields {
		plain = append(append(append(append(plain, f.name...), '='), f.value...), '&')
	}
	sum := md5.Sum(append(append(plain, "app_secret="...), g.secret...))
	if !strings.EqualFold(sign, hex.EncodeToString(sum[:])) {
		return 0, fmt.Errorf("the signature did not verify")
	}
	return strconv.ParseUint(strings.TrimPrefix(flowNo, "EX"), 10, 32)
}

func (g *gate) count(came time.Time, number uint64, ok bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &g.counts
	c.Calls++
	c.Last = came.UnixNano()
	if c.Calls == 1 {
		c.First = c.Last
	}
	if !ok {
		c.Refused++
		return c.Calls
	}
	for uint64(len(g.taken)) <= number/64 {
		g.taken = append(g.taken, make([]uint64, 1024)...)
	}
	bit := uint64(1) << (number % 64)
	if g.taken[number/64]&bit != 0 {
		c.Repeats++
		return c.Calls
	}
	c.Taken++
	g.taken[number/64] |= bit
	if g.timed {
		if g.arrivals == nil {
			g.arrivals = map[uint64]int64{}
		}
		g.arrivals[number] = c.Last
	}
	return c.Calls
}
