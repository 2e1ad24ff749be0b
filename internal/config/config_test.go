package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/sqlite"
)

var drivers = sources.NewRegistry(sqlite.Driver(), mysql.Driver())

const good = `sink:
  url: https://api.4pyun.com/gate/1.0/parking/internal/update
  app_secret: ${SECRET}
  park_uuid: 49f0cc52
sources:
  - name: north-gate
    driver: sqlite
    dsn: lot.db
    timezone: Asia/Shanghai
    table: abnormal_pass
    key: id
    start: 01
    schedule: "*/1 * * * *"
    mapping:
      flow_no: { expr: '"EX" + string(id)' }
      parking_serial: entry_id
      plate: { column: plate_no, transform: upper, values: { 01: 1.50, 1: "yes" }, otherwise: 0x1F }
      operate_time: op_time
      operator: { const: 007 }
      reason: { column: reason, default: ~nothing }
`

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	return parse([]byte(text), "config.yaml", dir, drivers, func(name string) (string, bool) {
		return "s3cret", name == "SECRET"
	})
}

func lines(err error) []string {
	var e *Error
	if !errors.As(err, &e) {
		return []string{fmt.Sprint(err)}
	}
	var out []string
	for _, p := range e.Problems {
		out = append(out, p.String())
	}
	return out
}

func TestScalarsAreTextAsWritten(t *testing.T) {
	t.Parallel()
	c, err := load(t, good)
	require.NoError(t, err)
	s := c.Sources[0]
	require.Equal(t, "01", s.Start)
	require.Equal(t, map[string]string{"01": "1.50", "1": "yes"}, s.Mapping["plate"].Values)
	require.Equal(t, "0x1F", *s.Mapping["plate"].Otherwise)
	require.Equal(t, "007", *s.Mapping["operator"].Const)
	require.Equal(t, "~nothing", *s.Mapping["reason"].Default)
	require.Equal(t, []string{"upper"}, s.Mapping["plate"].Transform, "a list of one needs no brackets")
	require.Equal(t, "entry_id", s.Mapping["parking_serial"].Column, "a bare rule is a column")
	require.Equal(t, []string{"id"}, s.Key)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(t, good)
	require.NoError(t, err)
	require.Equal(t, "s3cret", string(c.Sink.AppSecret))
	require.Equal(t, 10*time.Second, c.Sink.Timeout)
	require.Equal(t, 8, c.Sink.Concurrency)
	require.Equal(t, 720*time.Hour, c.Ledger.Retention)
	s := c.Sources[0]
	require.Equal(t, 1000, s.PageSize)
	require.Equal(t, "id", s.Cursor)
	require.True(t, filepath.IsAbs(string(s.DSN)), "relative to the file")
	require.True(t, filepath.IsAbs(string(c.Ledger.DSN)))
	require.Equal(t, "parkbridge.db", filepath.Base(string(c.Ledger.DSN)))
	// The schedule is read by the lot's clocks.
	next := s.Cron.Next(time.Date(2026, 11, 23, 0, 0, 30, 0, time.UTC))
	require.Equal(t, time.Date(2026, 11, 23, 0, 1, 0, 0, time.UTC), next.UTC())
}

func TestMaxFuture(t *testing.T) {
	t.Parallel()
	c, err := load(t, good)
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, c.Sources[0].MaxFuture)
	c, err = load(t, strings.Replace(good, "    start: 01\n", "    start: 01\n    max_future: 0\n", 1))
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, c.Sources[0].MaxFuture, "0 is as if it were not there")
	for value, want := range map[string]string{
		"-1h": "must not be negative; it is how far ahead a time may lie, 24h where it is left out",
		"2d":  `"2d" is not a duration such as 10s, 5m or 24h`,
	} {
		_, err = load(t, strings.Replace(good, "    start: 01\n", "    start: 01\n    max_future: "+value+"\n", 1))
		require.Len(t, lines(err), 1)
		require.Contains(t, lines(err)[0], ": sources[0].max_future "+want)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	c, err := load(t, good)
	require.NoError(t, err)
	require.Empty(t, c.Sources[0].Program.Condition())
	require.Equal(t, 168*time.Hour, c.Sources[0].ReadyTimeout)
	c, err = load(t, strings.Replace(good, "    start: 01\n", "    start: 01\n    ready: '(reason ?? \"\") != \"\" && done == 1'\n    ready_timeout: 48h\n", 1))
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, c.Sources[0].ReadyTimeout)
	require.Contains(t, c.Sources[0].Program.Columns(), "done", "what it names is read too")
	place := c.Wrap(&sources.ConfigError{Source: "north-gate", Key: "mapping", Column: "done", Problem: "is not there"})
	require.Equal(t, []string{"config.yaml:13:5: sources[0].ready is not there"}, lines(place))
	for line, want := range map[string]string{
		"ready: upper(reason)": `config.yaml:13:5: sources[0].ready must be true or false for each row, such as (reason ?? "") != "", and gives a text`,
		"ready: 'reason !='":   "config.yaml:13:5: sources[0].ready unexpected token EOF (1:9)",
		"ready_timeout: -1h":   "config.yaml:13:5: sources[0].ready_timeout must not be negative; it is how long a row is held back, 168h where it is left out",
		"ready_timeout: 7d":    `config.yaml:13:20: sources[0].ready_timeout "7d" is not a duration such as 10s, 5m or 24h`,
	} {
		_, err = load(t, strings.Replace(good, "    start: 01\n", "    start: 01\n    "+line+"\n", 1))
		require.Equal(t, []string{want}, lines(err))
	}
}

// One file, many mistakes: all of them come back, each with its place.
func TestEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, `sink:
  url: ftp://x
  timeout: 10
  colour: red
  app_secret: ${UNSET}
sources:
  - name: north gate
    driver: sqlite
    dsn: lot.db
    timezone: Shanghai
    table: abnormal_pass
    query: SELECT 1
    key: [a, b]
    page_size: many
    schedule: every minute
    reconcile: { window: 1 day }
    mapping:
      flow_no: { expr: '"EX" + ' }
      plate: { column: plate_no, turn_into: [upper] }
      plate_color: { column: color, values: { 蓝: 9 } }
      plate: other
      plat: x
  - { name: b, driver: mysq, dsn: x }
  - { name: c, driver: mysql, dsn: "user:s3cr3t-password@" }
log:
  level: loud
`)
	var e *Error
	require.ErrorAs(t, err, &e)
	got := strings.Join(lines(err), "\n")
	for _, want := range []string{
		"config.yaml:2:3: sink.url is not a full http",
		`config.yaml:3:12: sink.timeout "10" is not a duration such as 10s`,
		"config.yaml:4:3: sink.colour is not a known key; here may stand app_id,",
		"config.yaml:5:15: sink.app_secret takes the environment variable UNSET, which is not set",
		"config.yaml:7:5: sources[0].name must be letters",
		`config.yaml:10:5: sources[0].timezone "Shanghai" is not a zone`,
		"config.yaml:12:5: sources[0].query cannot stand beside table",
		"sources[0].cursor is missing",
		"sources[0].start is missing and has no default",
		`config.yaml:14:16: sources[0].page_size "many" is not a whole number`,
		"config.yaml:15:5: sources[0].schedule is not a cron line",
		`config.yaml:16:26: sources[0].reconcile.window "1 day" is not a duration`,
		"config.yaml:18:18: sources[0].mapping.flow_no.expr",
		"config.yaml:19:34: sources[0].mapping.plate.turn_into is not a known key",
		`config.yaml:20:47: sources[0].mapping.plate_color.values.蓝 "9" is not a value of plate_color`,
		"config.yaml:21:7: sources[0].mapping.plate stands here a second time",
		"config.yaml:22:7: sources[0].mapping.plat is not a field of the gate",
		"config.yaml:17:5: sources[0].mapping has no rule for operate_time",
		"config.yaml:17:5: sources[0].mapping has no rule for park_uuid",
		`config.yaml:23:16: sources[1].driver "mysq" is not known; it is one of mysql, sqlite`,
		"config.yaml:24:31: sources[2].dsn is not of the form user:password@tcp",
		`config.yaml:26:3: log.level "loud" is not one of`,
	} {
		require.Contains(t, got, want)
	}
	require.NotContains(t, got, "s3cr3t-password")
	require.NotContains(t, got, "is missing; it says how", "what follows from another mistake is not reported")
}

func TestFormsOfTheFile(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"CRLF":            strings.ReplaceAll(good, "\n", "\r\n"),
		"BOM":             "\xef\xbb\xbf" + good,
		"BOM and CRLF":    "\xef\xbb\xbf" + strings.ReplaceAll(good, "\n", "\r\n"),
		"no final break":  strings.TrimSuffix(good, "\n"),
		"document marker": "---\n" + good,
	} {
		c, err := load(t, text)
		require.NoError(t, err, name)
		require.Equal(t, "49f0cc52", c.Sink.ParkUUID, name)
		require.Equal(t, "reason", c.Sources[0].Mapping["reason"].Column, name)
	}
	for want, text := range map[string]string{
		"config.yaml:1:1: is empty":                           "# nothing\n",
		"config.yaml:1:1: is UTF-16; save it as UTF-8":        "\xff\xfes\x00",
		"config.yaml:2:1: holds bytes that are not UTF-8":     "a: b\nc: \xd4\xc1\n",
		"config.yaml:1:1: must be a mapping":                  "just text",
		"config.yaml:3:1: holds a second YAML document":       "---\n{}\n---\n{}\n"[4:],
		"is not YAML here":                                    "sink: [\n",
		"sources must be a list":                              "sources: { name: x }\n",
		"sink must be a mapping":                              "sink: https://x\n",
		"sources is missing":                                  "sink: { url: 'http://x' }\n",
		"sink.app_secret opens ${ and does not close it":      "sink: { app_secret: '${X' }\n",
		"sink.app_secret_file cannot stand beside app_secret": "sink: { app_secret: x, app_secret_file: /dev/null }\n",
		"sink.app_secret_file cannot be read":                 "sink: { app_secret_file: no-such-file }\n",
		"sink.timeout_file is not a known key":                "sink: { timeout_file: x }\n",
		"sink is nested too deeply":                           "sink: &x {<<: *x}\n",
		"ledger.retention must be at least 1h":                "ledger: { retention: 1s }\n",
		"ledger.driver \"oracle\" is not known":               "ledger: { driver: oracle }\n",
	} {
		_, err := load(t, text)
		require.ErrorContains(t, err, want)
	}
}

func TestSecretsComeFromFilesAndNeverPrint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret.txt"), []byte("from-file\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dsn.txt"), []byte("\xef\xbb\xbfother.db\n"), 0o600))
	text := strings.ReplaceAll(good, "app_secret: ${SECRET}", "app_secret_file: secret.txt")
	text = strings.ReplaceAll(text, "dsn: lot.db", "dsn_file: dsn.txt")
	path := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	c, err := Load(path, drivers)
	require.NoError(t, err)
	require.Equal(t, "from-file", string(c.Sink.AppSecret))
	require.Equal(t, filepath.Join(dir, "other.db"), string(c.Sources[0].DSN))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", c.Sink, c.Sources[0].Config, c.Sink), "from-file")
}

func TestAnchorsAndMerge(t *testing.T) {
	t.Parallel()
	c, err := load(t, good+`  - name: south-gate
    driver: sqlite
    dsn: lot.db
    timezone: Asia/Shanghai
    table: south
    key: id
    start: latest
    mapping: &m
      flow_no: { expr: '"S" + string(id)' }
      parking_serial: e
      plate: p
      operate_time: t
      operator: o
      reason: r
  - name: east-gate
    driver: sqlite
    dsn: lot.db
    timezone: Asia/Shanghai
    table: east
    key: id
    start: latest
    mapping:
      <<: *m
      flow_no: { expr: '"E" + string(id)' }
`)
	require.NoError(t, err)
	require.Equal(t, `"E" + string(id)`, c.Sources[2].Mapping["flow_no"].Expr)
	require.Equal(t, "p", c.Sources[2].Mapping["plate"].Column)
}

// A mistake that only the database could show gets its place too.
func TestWrap(t *testing.T) {
	t.Parallel()
	c, err := load(t, good)
	require.NoError(t, err)
	err = c.Wrap(fmt.Errorf("opening: %w", &sources.ConfigError{Source: "north-gate", Key: "mapping", Column: "plate_no", Problem: "column is not there"}))
	require.Equal(t, []string{"config.yaml:17:16: sources[0].mapping.plate.column column is not there"}, lines(err))
	err = c.Wrap(&sources.ConfigError{Source: "north-gate", Key: "cursor", Problem: "is no integer"})
	require.Equal(t, []string{"config.yaml:6:5: sources[0].cursor is no integer"}, lines(err))
	require.EqualError(t, c.Wrap(errors.New("other")), "other")
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("a: &x [*x]\n")
	f.Add("sink: {<<: {<<: 1}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse([]byte(text), "config.yaml", t.TempDir(), drivers, func(string) (string, bool) { return "", false })
		if (c == nil) == (err == nil) {
			t.Fatal("neither a config nor an error, or both")
		}
	})
}

// A name is bounded by its characters, not by its bytes.
func TestSourceNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{"3号门.a_b-c": true, "½": true, "-a": false, ".a": false, "_a": false, "a b": false, "a/b": false, "a:b": false} {
		_, err := load(t, strings.Replace(good, "north-gate", name, 1))
		require.Equal(t, ok, err == nil, name)
	}
	_, err := load(t, strings.Replace(good, "north-gate", strings.Repeat("门", 64), 1))
	require.NoError(t, err)
	_, err = load(t, strings.Replace(good, "north-gate", strings.Repeat("门", 65), 1))
	require.ErrorContains(t, err, "64 at most")
}
