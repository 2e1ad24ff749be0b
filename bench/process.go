package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the programs are told; none of it is real.
const (
	secret   = "s3cret-of-the-bench"
	appID    = "op1234567723122"
	parkUUID = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
)

// process is a program that runs, by itself, and what it has used.
type process struct {
	cmd     *exec.Cmd
	output  bytes.Buffer
	started time.Time
	watched chan struct{}
	stop    chan struct{}
	peak    int64 // bytes of memory
	once    sync.Once
}

// usage is what a program used from its start to its end.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // bytes of memory; 0 where the system does not tell
}

func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, watched: make(chan struct{}), stop: make(chan struct{}), started: time.Now()}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.watch()
	return p, nil
}

// watch follows the program's peak. The figure that wait4 gives is of no use:
// it begins with the peak of the process that started the program.
func (p *process) watch() {
	defer close(p.watched)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if peak := memory(p.cmd.Process.Pid, "VmHWM:"); peak > 0 {
			p.peak = peak
		}
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
	}
}

// memory reads one figure of /proc, in bytes; 0 where there is none.
func memory(pid int, name string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// processor is the processor time that a process has used, and that its ended
// children have, as Linux counts it; 0 where it is not known.
func processor(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the name, which may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0
	}
	var ticks int64 // utime, stime, cutime, cstime, 100 a second on every Linux
	for _, field := range fields[11:15] {
		n, _ := strconv.ParseInt(field, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// wait waits for the program's end.
func (p *process) wait() (usage, error) {
	err := p.cmd.Wait()
	wall := time.Since(p.started)
	close(p.stop)
	<-p.watched
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(p.cmd.Args, " "), err, p.output.Bytes())
	}
	s := p.cmd.ProcessState
	return usage{wall, s.UserTime() + s.SystemTime(), p.peak}, err
}

// finish runs a program from its start to its end.
func finish(cmd *exec.Cmd) (*process, error) {
	p, err := start(cmd)
	if err == nil {
		_, err = p.wait()
	}
	return p, err
}

// kill ends the program as a power cut would. A second call does nothing.
func (p *process) kill() (u usage) {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		u, _ = p.wait()          // it did not end well
	})
	return u
}

// standIn is a gate in a process of its own.
type standIn struct {
	*process
	url string
}

func (b *bench) gate(ctx context.Context, latency time.Duration, args ...string) (*standIn, error) {
	cmd := exec.CommandContext(ctx, b.program("gate"), append([]string{"-secret", secret, "-latency", latency.String()}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g := &standIn{process: &process{cmd: cmd, watched: make(chan struct{}), stop: make(chan struct{}), started: time.Now()}}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go g.watch()
	line, err := bufio.NewReader(out).ReadString('\n')
	g.url = strings.TrimSpace(line)
	return g, err
}

// counts are what the gate has seen so far, see bench/gate.
type counts struct {
	Calls, Taken, Repeats, Refused int
	First, Last                    int64
}

func (g *standIn) counts(ctx context.Context) (c counts, err error) {
	return c, g.get(ctx, "", &c)
}

func (g *standIn) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}

// task is what a run has to do: push the last rows of a table.
type task struct {
	engine      string
	rows        int
	of          int // rows in the table; 0: as many as are pushed
	concurrency int
	latency     time.Duration // of the gate's answers
	schedule    string        // of the daemon
	table       string        // "": one that is shared by all that do not add to it
}

// arrivals tells when each record came, by the number in its flow_no; for a
// gate that was asked to keep it.
func (g *standIn) arrivals(ctx context.Context) (map[uint64]time.Time, error) {
	var stamps map[uint64]int64
	if err := g.get(ctx, "arrivals", &stamps); err != nil {
		return nil, err
	}
	times := map[uint64]time.Time{}
	for number, at := range stamps {
		times[number] = time.Unix(0, at)
	}
	return times, nil
}

// site is a folder with a config, a table and a gate of its own.
type site struct {
	task
	dir  string
	lot  *lot
	gate *standIn
}

// site makes a site; done ends it.
func (b *bench) site(ctx context.Context, t task, gateArgs ...string) (s *site, done func(), err error) {
	if t.of == 0 {
		t.of = t.rows
	}
	s = &site{task: t}
	if s.lot, err = b.lot(ctx, t.engine); err != nil {
		return nil, nil, err
	}
	s.table = cmp.Or(t.table, fmt.Sprintf("abnormal_pass_%d", t.of))
	if err := s.lot.ready(ctx, s.table, t.of); err != nil {
		return nil, nil, fmt.Errorf("feeding %s: %w", t.engine, err)
	}
	if s.dir, err = os.MkdirTemp(b.dir, "site"); err != nil {
		return nil, nil, err
	}
	if s.gate, err = b.gate(ctx, t.latency, gateArgs...); err != nil {
		return nil, nil, err
	}
	return s, func() {
		s.gate.kill()
		_ = os.RemoveAll(s.dir) // the folder around it is removed at the end
	}, s.configure(s.table)
}

const configuration = `ledger: { dsn: parkbridge.db }
sink:
  url: %s
  app_id: %s
  app_secret: %s
  park_uuid: %s
  concurrency: %d
sources:
`

const sourceConfiguration = `  - name: %[1]s
    driver: %s
    dsn: "%s"
    timezone: Asia/Shanghai
    table: %[1]s
    key: id
    start: %[4]d
    page_size: 1000
    schedule: "%s"
    mapping:
      flow_no:        { expr: '"EX" + string(id)' }
      parking_serial: entry_id
      plate:          { column: plate_no, transform: [upper] }
      plate_color:    { column: color, values: { 蓝: 1, 黄: 2, 白: 3, 黑: 4, 绿: 5 }, otherwise: -1 }
      car_type:       { column: card_kind, values: { 临时卡: 1, 月卡: 2, 贵宾卡: 3, 储值卡: 4 }, otherwise: 0 }
      car_desc:       card_kind
      enter_time:     in_time
      leave_time:     out_time
      operate_time:   op_time
      operator:       { column: op_name, default: 未知 }
      reason:         { column: reason, default: 未填写 }
`

// configure writes the product's config, a source for each table.
func (s *site) configure(tables ...string) error {
	var text strings.Builder
	fmt.Fprintf(&text, configuration, s.gate.url, appID, secret, parkUUID, s.concurrency)
	for _, table := range tables {
		fmt.Fprintf(&text, sourceConfiguration, table, s.engine, filepath.ToSlash(s.lot.dsn), s.of-s.rows+1, cmp.Or(s.schedule, "@every 1s"))
	}
	return os.WriteFile(filepath.Join(s.dir, "config.yaml"), []byte(text.String()), 0o600)
}

// call is a call of parkbridge in the site's folder.
func (b *bench) call(ctx context.Context, s *site, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.program(product), args...)
	cmd.Dir = s.dir
	return cmd
}

// carrying is a call of a program that carries the site's rows: the product, or
// the loop that notes as much as its name says.
func (b *bench) carrying(ctx context.Context, s *site, program string) *exec.Cmd {
	status, ok := strings.CutPrefix(program, "loop ")
	if !ok {
		return b.call(ctx, s, "sync")
	}
	cmd := exec.CommandContext(ctx, b.program("loop"), "-driver", s.engine, "-dsn", s.lot.dsn, "-table", s.table, "-after", strconv.Itoa(s.of-s.rows),
		"-url", s.gate.url, "-app-id", appID, "-secret", secret, "-park-uuid", parkUUID, "-concurrency", strconv.Itoa(s.concurrency),
		"-status", status, "-gather", strconv.Itoa(b.gather), "-linger", b.linger.String())
	cmd.Dir = s.dir
	return cmd
}

// programs are the product and the loops asked for.
func (b *bench) programs() []string {
	programs := []string{product}
	for _, status := range b.loops {
		programs = append(programs, "loop "+status)
	}
	return programs
}
