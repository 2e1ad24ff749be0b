//go:build linux

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sink"
	"parkbridge/sink/gate"
)

// Of a table as old vendors keep it: rows, the bytes of the picture in each, and
// how many rows are broken, one in a hundred.
const (
	legacyRows    = 800
	legacyPicture = 200_000
	legacyBroken  = 8
)

// What a sync may cost that reads no picture, of a table with 160 MB of them: a
// few hundred bytes a row from the server, and the memory of any sync, which is
// about 50 MB.
const (
	legacyBytes  = 1 << 20
	legacyMemory = 96 << 20
)

// legacyRow is a release as the vendor's program writes it: texts are bytes in
// GBK, filled with spaces to the width of their column; nil is NULL.
type legacyRow struct {
	id           int
	plate        []byte
	color, card  []byte
	enter, leave string
	operate      []byte
	operator     []byte
	reason       []byte
	serial       string
	cents        int
}

// The vendor's zone, and the time of the first row.
var (
	legacyZone  = time.FixedZone("", 8*3600)
	legacyStart = time.Date(2026, 11, 1, 8, 0, 0, 0, legacyZone)
)

// notYet is what stands for a leave time that is still to come.
const notYet = "1900-01-01 00:00:00"

func padded(b []byte, width int) []byte {
	return append(slices.Clone(b), bytes.Repeat([]byte(" "), max(0, width-len(b)))...)
}

// legacyAt makes row i as it is when the release has just happened, and the
// fields that the gate is to get.
func legacyAt(t *testing.T, i int) (legacyRow, map[string]string) {
	t.Helper()
	at := legacyStart.Add(time.Duration(i) * time.Minute)
	plate := fmt.Sprintf("%s%c%05d", []string{"粤", "京", "苏"}[i%3], 'A'+rune(i%6), i)
	color, card := []string{"蓝", "绿", "黄"}[i%3], []string{"临时卡", "月卡", "员工卡"}[i%3]
	reason := []string{"设备故障", "网络中断", "无法识别"}[i%3]
	row := legacyRow{
		id: i, plate: padded(gbk(t, plate), 12), color: padded(gbk(t, color), 4), card: padded(gbk(t, card), 10),
		enter: at.Add(-time.Hour).Format(time.DateTime), leave: notYet, operate: []byte(at.Format("20060102150405")),
		operator: padded(gbk(t, "王小明"), 10), reason: gbk(t, reason), serial: fmt.Sprintf("RC%010d", i), cents: 100*(i%40) + 50*(i%2),
	}
	fields := map[string]string{
		"app_id": "op1234567723122", "park_uuid": "49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "flow_no": fmt.Sprint("YC", i), "parking_serial": row.serial,
		"plate": plate, "plate_color": []string{"1", "5", "2"}[i%3], "car_type": []string{"1", "2", "0"}[i%3], "car_desc": card,
		"enter_time": at.Add(-time.Hour).UTC().Format(time.RFC3339), "operate_time": at.UTC().Format(time.RFC3339), "operator": "王小明",
		"reason": reason + "，应收" + strconv.FormatFloat(float64(row.cents)/100, 'f', -1, 64) + "元",
	}
	return row, fields
}

// legacyFaults are the ways in which rows are broken, with what the row is spoiled by.
var legacyFaults = []func(t *testing.T, r *legacyRow){
	func(t *testing.T, r *legacyRow) { r.plate = gbk(t, "粤B1234测试挂")[:12] }, // cut in the middle of a character
	func(_ *testing.T, r *legacyRow) { r.operate = []byte("00000000000000") },
	func(_ *testing.T, r *legacyRow) { r.operate = []byte("20260230101500") },
	func(t *testing.T, r *legacyRow) { r.color = padded(gbk(t, "紫"), 4) },
	func(_ *testing.T, r *legacyRow) { r.plate = nil },
	func(_ *testing.T, r *legacyRow) {
		r.plate, r.operator = []byte("            "), []byte("          ")
	},
	func(_ *testing.T, r *legacyRow) { r.operate = []byte("20981231235959") },
	func(t *testing.T, r *legacyRow) { r.operate, r.enter = padded(gbk(t, "未知"), 14), "2026/11/1" },
}

// legacy is a booth with such a table.
type legacy struct {
	*booth
	want map[string]map[string]string // by flow_no
	wire *wire                        // nil: a file
	mend func()                       // its pictures; nil: a server
}

func newLegacy(t *testing.T, engine, cursor string) *legacy {
	t.Helper()
	var lot *testdb.Lot
	if engine == "postgres" {
		lot = testdb.NewASCII(t) // the only kind of its databases that holds GBK in a char(n)
	} else {
		lot = testdb.New(t, engine)
	}
	l := &legacy{booth: newBoothOn(t, lot), want: map[string]map[string]string{}}
	lot.Exec(t, "CREATE TABLE tc_ycfx (xh "+lot.Type("INTEGER PRIMARY KEY AUTOINCREMENT", "serial PRIMARY KEY", "INT AUTO_INCREMENT PRIMARY KEY")+
		", cph CHAR(12), ysmc CHAR(4), klx CHAR(10), rcsj CHAR(19), ccsj CHAR(19), czsj CHAR(14), czy CHAR(10), yy VARCHAR(60), rcjlh CHAR(20), je INT, zptp "+
		lot.Type("BLOB", "bytea", "LONGBLOB")+")"+lot.Type("", "", " CHARACTER SET latin1"))
	lot.Grant(t, "tc_ycfx")
	if lot.Driver == "mysql" {
		lot.GrantProcess(t)
	}
	rows := make([]legacyRow, 0, legacyRows)
	for i := 1; i <= legacyRows; i++ {
		row, fields := legacyAt(t, i)
		if i%(legacyRows/legacyBroken) == 50 {
			legacyFaults[i/(legacyRows/legacyBroken)](t, &row)
		} else {
			l.expect(fields)
		}
		rows = append(rows, row)
	}
	l.store(t, rows)
	dsn := lot.DSN
	if engine == "sqlite" {
		l.mend = l.spoilPictures(t)
	} else {
		dsn, l.wire = tapped(t, dsn)
	}
	l.write(t, fmt.Sprintf(legacyConfig, l.server.URL, engine, dsn, cursor))
	return l
}

const legacyConfig = `ledger: { dsn: parkbridge.db }
sink:
  url: %s
  app_id: op1234567723122
  app_secret: s3cret-of-the-lot
  park_uuid: 49f0cc52-e8c7-41e3-b54d-af666b8cc11a
sources:
  - name: booth
    driver: %s
    dsn: '%s'
    timezone: Asia/Shanghai
    charset: gbk
    table: tc_ycfx
    key: xh
%s    start: earliest
    page_size: 300
    schedule: "@every 1s"
    on_change: resend
    mapping:
      flow_no:        { expr: '"YC" + string(xh) + (revision > 0 ? "-" + string(revision) : "")' }
      parking_serial: rcjlh
      plate:          cph
      plate_color:    { column: ysmc, values: { 蓝: 1, 黄: 2, 绿: 5 } }
      car_type:       { column: klx, values: { 临时卡: 1, 月卡: 2 }, otherwise: 0 }
      car_desc:       klx
      enter_time:     rcsj
      leave_time:     { column: ccsj, invalid: omit }
      operate_time:   { column: czsj, format: yyyyMMddHHmmss }
      operator:       czy
      reason:         { expr: 'yy + "，应收" + string(je / 100) + "元"' }
`

// expect notes what the gate is to get.
func (l *legacy) expect(fields map[string]string) {
	fields = maps.Clone(fields)
	fields["sign"] = sink.Sign(fields, "s3cret-of-the-lot")
	l.want[fields["flow_no"]] = fields
}

// store writes rows as the parking system does, each with its picture.
func (l *legacy) store(t *testing.T, rows []legacyRow) {
	t.Helper()
	length := strconv.Itoa(legacyPicture)
	picture := l.lot.Type("?1", "convert_to(repeat('P', "+length+"), 'SQL_ASCII')", "REPEAT('P', "+length+")")
	var args []any
	if l.lot.Driver == "sqlite" {
		args = []any{bytes.Repeat([]byte("P"), legacyPicture)}
	}
	for batch := range slices.Chunk(rows, 50) {
		var values []string
		for _, r := range batch {
			cells := []string{strconv.Itoa(r.id)}
			for _, b := range [][]byte{r.plate, r.color, r.card, []byte(r.enter), []byte(r.leave), r.operate, r.operator, r.reason, []byte(r.serial)} {
				cells = append(cells, l.text(b))
			}
			values = append(values, "("+strings.Join(append(cells, strconv.Itoa(r.cents), picture), ", ")+")")
		}
		l.lot.Exec(t, "INSERT INTO tc_ycfx VALUES "+strings.Join(values, ", "), args...)
	}
}

// text is a literal of the very bytes.
func (l *legacy) text(b []byte) string {
	if b == nil {
		return "NULL"
	}
	return fmt.Sprintf(l.lot.Type("CAST(x'%x' AS TEXT)", `convert_from('\x%x', 'SQL_ASCII')`, "_latin1 x'%x'"), b)
}

// spoilPictures overwrites the pages that hold nothing but parts of pictures
// (https://www.sqlite.org/fileformat.html, overflow pages: the number of the next,
// then content), so that whoever reads a picture is told that the file is damaged.
// What it gives back mends the file, for the parking system to write to it.
func (l *legacy) spoilPictures(t *testing.T) (mend func()) {
	t.Helper()
	var size int
	require.NoError(t, l.lot.DB.QueryRowContext(t.Context(), "PRAGMA page_size").Scan(&size))
	file, err := os.OpenFile(l.lot.DSN, os.O_RDWR, 0)
	require.NoError(t, err)
	content, page, first := bytes.Repeat([]byte("P"), size-4), make([]byte, size), []byte(nil)
	was := map[int64][]byte{}
	for at := int64(0); ; at += int64(size) {
		if _, err := io.ReadFull(file, page); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		if bytes.Equal(page[4:], content) {
			_, err := file.WriteAt(bytes.Repeat([]byte{0xff}, size), at)
			require.NoError(t, err)
			was[at] = slices.Clone(page[:4])
		}
	}
	require.Greater(t, len(was)*size, legacyRows*legacyPicture*9/10)
	require.ErrorContains(t, l.lot.DB.QueryRowContext(t.Context(), "SELECT zptp FROM tc_ycfx").Scan(&first), "malformed", "a picture that is read would show")
	return func() {
		for at, next := range was {
			_, err := file.WriteAt(append(next, content...), at)
			require.NoError(t, err)
		}
		require.NoError(t, file.Close())
	}
}

// wire is the way to a database server: what clients have sent it, and how many
// bytes it has answered.
type wire struct {
	mu       sync.Mutex
	sent     bytes.Buffer
	answered int
}

// tapped gives a DSN that leads over a wire.
func tapped(t *testing.T, dsn string) (string, *wire) {
	t.Helper()
	address, form := "", regexp.MustCompile(`host=(\S+) port=(\d+)`)
	if m := form.FindStringSubmatch(dsn); m != nil {
		address = net.JoinHostPort(m[1], m[2])
	} else {
		form = regexp.MustCompile(`tcp\(([^)]*)\)`)
		address = form.FindStringSubmatch(dsn)[1]
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				continue
			}
			serving.Go(func() { w.pass(server, client, true) })
			serving.Go(func() { w.pass(client, server, false) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		serving.Wait()
	})
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return form.ReplaceAllString(dsn, map[bool]string{true: "host=127.0.0.1 port=" + port, false: "tcp(127.0.0.1:" + port + ")"}[strings.HasPrefix(dsn, "host=")]), w
}

// pass copies one direction until it ends, and ends the connection.
func (w *wire) pass(to, from net.Conn, sent bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		w.mu.Lock()
		if sent {
			w.sent.Write(buffer[:n])
		} else {
			w.answered += n
		}
		w.mu.Unlock()
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			_ = to.Close() // the other direction ends by it
			_ = from.Close()
			return
		}
	}
}

// requireNoPictures holds what went over the wire since the last call to what a
// read of the mapped columns is.
func (w *wire) requireNoPictures(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent.String()
	require.Regexp(t, "SELECT .*[\"`]cph[\"`].* FROM [\"`]tc_ycfx[\"`]", sent, "rows were read")
	require.NotContains(t, sent, "zptp", "no statement names the picture")
	all := strings.Count(sent, "SELECT *")
	require.Len(t, regexp.MustCompile("SELECT \\* FROM [\"`]tc_ycfx[\"`] WHERE (false|1 = 0)").FindAllString(sent, -1), all, "all columns are asked for without rows only")
	require.Less(t, w.answered, legacyBytes)
	w.sent.Reset()
	w.answered = 0
}

// reasons lists why rows are invalid, by key.
func (l *legacy) reasons(t *testing.T) string {
	t.Helper()
	var list struct {
		Records []recordJSON `json:"records"`
	}
	require.NoError(t, json.Unmarshal([]byte(l.run(t, 0, "records", "list", "--state", "invalid", "--limit", "100", "--json")), &list))
	require.Len(t, list.Records, legacyBroken)
	slices.SortFunc(list.Records, func(a, b recordJSON) int {
		return cmp.Or(cmp.Compare(len(a.RowKey), len(b.RowKey)), cmp.Compare(a.RowKey, b.RowKey)) // they are numbers
	})
	var out strings.Builder
	for _, r := range list.Records {
		fmt.Fprintf(&out, "row %s\n", r.RowKey)
		for _, e := range r.Errors {
			fmt.Fprintf(&out, "    %s: %s\n", e.Field, e.Problem)
		}
	}
	return regexp.MustCompile(`read at [-0-9]+ [:0-9]+`).ReplaceAllString(out.String(), "read at NOW")
}

// requireGate checks that the gate has got every row that is expected, once and
// as it should be.
func (l *legacy) requireGate(t *testing.T) {
	t.Helper()
	require.Equal(t, gate.Stats{Calls: len(l.want), Taken: len(l.want)}, l.gate.Stats())
	for _, got := range l.gate.Records() {
		require.Equal(t, l.want[got["flow_no"]], got)
	}
}

// TestLegacy reads a database with the habits of old vendors: columns of a fixed
// width, GBK in them whatever the database thinks, times as text, prices in
// cents, a picture of 200 KB in each row, no index but the key, rows that are
// finished later, one row in a hundred broken. Every good row arrives once and
// right, the broken ones say why, and no picture is read.
func TestLegacy(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		for name, cursor := range map[string]string{"by key": "", "by time": "    cursor: czsj\n    null_cursor: include\n"} {
			t.Run(engine+" "+name, func(t *testing.T) {
				t.Parallel()
				newLegacy(t, engine, cursor).live(t)
			})
		}
	}
}

// live is what such a lot goes through.
func (l *legacy) live(t *testing.T) {
	t.Helper()
	daemon := l.daemon(t)
	good := legacyRows - legacyBroken
	await(t, "all is delivered", func() bool { return l.gate.Stats().Calls >= good })
	peak := peakMemory(t, daemon.Process.Pid)
	daemon.stop(t)
	require.Less(t, peak, legacyMemory)
	l.requireGate(t)
	golden(t, filepath.Join("..", "legacy", "reasons.txt"), l.reasons(t))
	l.requireCounts(t, good)
	for _, args := range [][]string{{"records", "show", "YC51"}, {"preview", "--source", "booth", "--key", "51"}} {
		require.Regexp(t, `(?m)^  czy +王小明$`, l.run(t, 0, args...), "a person sees text, not bytes")
	}
	require.Regexp(t, `(?m)^  cph +d4 c1 42 31 .* b9`, l.run(t, 0, "preview", "--source", "booth", "--key", "50"))
	require.Contains(t, l.run(t, 0, "records", "list", "--limit", "3"), "These are the latest 3; --limit 0 shows all.")
	l.run(t, 0, "sync")
	l.requireGate(t)

	l.later(t)
	l.run(t, 0, "reconcile", "--from", "2026-10-01", "--to", "2027-01-01")
	l.run(t, 0, "sync")
	l.requireGate(t)
	l.requireCounts(t, len(l.want))
	if l.wire != nil {
		l.wire.requireNoPictures(t)
	}
}

// later is what the parking system writes then: some of the cars leave, so that
// their rows are finished, and there are new ones.
func (l *legacy) later(t *testing.T) {
	t.Helper()
	if l.mend != nil {
		l.mend()
	}
	for i := 1; i <= 40; i++ {
		_, fields := legacyAt(t, i)
		left := legacyStart.Add(time.Duration(i)*time.Minute + 30*time.Second)
		l.lot.Exec(t, "UPDATE tc_ycfx SET ccsj = ? WHERE xh = ?", left.Format(time.DateTime), i)
		fields["flow_no"], fields["leave_time"] = fmt.Sprintf("YC%d-1", i), left.UTC().Format(time.RFC3339)
		l.expect(fields)
	}
	var rows []legacyRow
	for i := legacyRows + 1; i <= legacyRows+20; i++ {
		row, fields := legacyAt(t, i)
		l.expect(fields)
		rows = append(rows, row)
	}
	l.store(t, rows)
	if l.mend != nil {
		t.Cleanup(l.spoilPictures(t))
	}
}

func (l *legacy) requireCounts(t *testing.T, delivered int) {
	t.Helper()
	counts := l.status(t).Sources[0].Counts
	require.Equal(t, [3]int{delivered, legacyBroken, 0}, [3]int{counts["delivered"], counts["invalid"], counts["pending"]})
}
