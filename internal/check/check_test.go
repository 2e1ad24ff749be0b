package check

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parkbridge/internal/config"
	"parkbridge/internal/testdb"
	"parkbridge/sources"
	"parkbridge/sources/mysql"
	"parkbridge/sources/postgres"
	"parkbridge/sources/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

var drivers = sources.NewRegistry(postgres.Driver(), mysql.Driver(), sqlite.Driver())

// now is ten in the morning at the lot.
var now = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// stand is a lot with a gate and a folder for the config and the ledger.
type stand struct {
	*testdb.Lot
	dir  string
	gate *httptest.Server
	// sink and ledger are what the config says of them, beside the gate's address.
	sink string
}

func newStand(t *testing.T, engine string) *stand {
	t.Helper()
	s := &stand{Lot: testdb.New(t, engine), dir: t.TempDir(), sink: "app_secret: s3cret, "}
	s.gate = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodHead, r.Method, "nothing is pushed")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}))
	t.Cleanup(s.gate.Close)
	if engine == "postgres" { // the server's zone is the machine's
		var name string
		require.NoError(t, s.DB.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&name))
		s.Exec(t, "ALTER DATABASE "+name+" SET TimeZone = 'Asia/Shanghai'")
	}
	return s
}

// fields is a mapping that fits the tables made here.
const fields = `
    mapping:
      flow_no:        { expr: '"EX" + string(id)' }
      parking_serial: entry_id
      plate:          plate_no
      operate_time:   op_time
      operator:       { column: op_name, default: 未知 }
      reason:         { const: 设备异常 }
`

// look runs the checks of a config and gives its lines.
func (s *stand) look(t *testing.T, dsn, source string) string {
	t.Helper()
	path := filepath.Join(s.dir, "config.yaml")
	text := fmt.Sprintf("ledger: { dsn: ledger.db }\nsink: { %surl: %s, park_uuid: lot-1, timeout: 5s }\nsources:\n  - name: north\n    driver: %s\n    dsn: '%s'\n    timezone: Asia/Shanghai\n%s",
		s.sink, s.gate.URL, s.Driver, strings.ReplaceAll(dsn, "'", "''"), strings.TrimPrefix(source, "\n"))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path, drivers)
	require.NoError(t, err)
	return s.lines(t, cfg, 100)
}

func (s *stand) lines(t *testing.T, cfg *config.Config, rows int) string {
	t.Helper()
	var b strings.Builder
	c := &Checker{Config: cfg, Drivers: drivers, Rows: rows, Now: func() time.Time { return now }, Tell: func(r Result) { write(&b, r) }}
	c.Run(t.Context())
	return s.normal(b.String())
}

func write(b *strings.Builder, r Result) {
	fault := ""
	if r.Fault != Nobody {
		fault = " [" + [...]string{"", "2 config", "1 database", "4 gate"}[r.Fault] + "]"
	}
	fmt.Fprintf(b, "%s%s %s %s: %s\n", r.Level, fault, r.Source, r.Check, r.Found)
	for _, line := range r.Do {
		fmt.Fprintf(b, "    %s\n", line)
	}
}

var varying = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`lot_\d+_\d+`), "LOT"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:PORT"},
	{regexp.MustCompile(`(SQLite|PostgreSQL|MariaDB|MySQL) \d[\d.]*( \([^)]*\))?`), "$1 N"},
	{regexp.MustCompile(`about \d+ rows`), "about N rows"},
	{regexp.MustCompile(`@'(localhost|127\.0\.0\.1)'`), "@'HOST'"},
}

// normal takes out what differs from machine to machine.
func (s *stand) normal(text string) string {
	text = strings.ReplaceAll(text, s.dir+string(filepath.Separator), "DIR/")
	if s.Driver == "sqlite" {
		text = strings.ReplaceAll(text, filepath.Dir(s.DSN), "LOTDIR")
	}
	for _, v := range varying {
		text = v.what.ReplaceAllString(text, v.with)
	}
	// The zone of a MySQL server is the machine's, and nothing but the whole server
	// has one.
	if s.Driver == "mysql" {
		text = regexp.MustCompile(`(?m)^\w+ north zone: .*\n(    .*\n)*`).ReplaceAllString(text, "")
	}
	return text
}

// golden holds a text to the file of its name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got, "see the change, and write it with -update")
}

// makeTable makes a table as a vendor may, with an id that the server assigns.
func (s *stand) makeTable(t *testing.T, name string, more ...string) {
	t.Helper()
	id := s.Type("INTEGER PRIMARY KEY AUTOINCREMENT", "bigserial PRIMARY KEY", "BIGINT AUTO_INCREMENT PRIMARY KEY")
	s.makeTableAs(t, name, "id "+id, more...)
}

func (s *stand) makeTableAs(t *testing.T, name, id string, more ...string) {
	t.Helper()
	columns := append([]string{
		id, "entry_id VARCHAR(32)", "plate_no VARCHAR(20)", "op_time " + s.Type("TEXT", "timestamp", "DATETIME"), "op_name VARCHAR(20)",
	}, more...)
	s.Exec(t, "CREATE TABLE "+name+" ("+strings.Join(columns, ", ")+")")
	s.Grant(t, name)
}

// insert writes n releases, a minute apart, the last one at 09:58; row gives the
// values of columns that are to be others.
func (s *stand) insert(t *testing.T, table string, n int, row func(i int) map[string]string) {
	t.Helper()
	last := time.Date(2026, 11, 24, 9, 58, 0, 0, time.UTC)
	var names []string
	var values []string
	for i := 1; i <= n; i++ {
		v := map[string]string{
			"entry_id": fmt.Sprintf("'E%d'", i), "plate_no": fmt.Sprintf("'粤B%05d'", i), "op_time": "'" + last.Add(time.Duration(i-n)*time.Minute).Format(time.DateTime) + "'",
		}
		if row != nil {
			maps.Copy(v, row(i))
		}
		if names == nil {
			names = slices.Sorted(maps.Keys(v))
		}
		cells := make([]string, len(names))
		for j, name := range names {
			cells[j] = v[name]
		}
		values = append(values, "("+strings.Join(cells, ", ")+")")
	}
	s.Exec(t, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+") VALUES "+strings.Join(values, ", "))
	s.count(t, table)
}

// count has the server count a table, for its estimates.
func (s *stand) count(t *testing.T, table string) {
	t.Helper()
	s.Exec(t, s.Type("ANALYZE", "ANALYZE "+table, "ANALYZE TABLE "+table))
}

// Each kind of trouble a lot can be in, on each engine, with what is said about
// it, word for word.
func TestSources(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			for name, scene := range map[string]func(*testing.T, *stand) string{
				"good":              good,
				"no-rows":           noRows,
				"too-many-rights":   tooManyRights,
				"wrong-columns":     wrongColumns,
				"no-table":          noTable,
				"no-connection":     noConnection,
				"bad-where":         badWhere,
				"bad-rows":          badRows,
				"not-ready":         notReady,
				"none-maps":         noneMaps,
				"key-not-unique":    keyNotUnique,
				"key-may-be-null":   keyMayBeNull,
				"key-is-null":       keyIsNull,
				"time-cursor":       timeCursor,
				"null-cursor":       nullCursor,
				"big-without-index": bigWithoutIndex,
				"query":             query,
				"view":              view,
				"big-index-no-key":  bigIndexNoKey,
				"two-sources":       twoSources,
				"series":            series,
				"series-odd":        seriesOdd,
				"series-none":       seriesNone,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					golden(t, name+"-"+engine, scene(t, newStand(t, engine)))
				})
			}
		})
	}
}
