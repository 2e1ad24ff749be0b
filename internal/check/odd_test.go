package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/config"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sources"
	"parkbridge/sources/sqlite"
)

// bare hides what an engine tells beyond reading.
type bare struct{ sources.DB }

// skewed is an engine with a clock and an account of its own.
type skewed struct {
	sources.DB
	by    time.Duration
	about sources.About
}

func (s skewed) Connect(ctx context.Context, evidence bool) (sources.Conn, error) {
	c, err := s.DB.Connect(ctx, evidence)
	return skewedConn{c, s.by}, err
}

func (s skewed) About(context.Context, []string) (sources.About, error) { return s.about, nil }

func (s skewed) Plan(context.Context, string, []any) (sources.Plan, error) {
	return sources.Plan{Steps: "Bitmap Heap Scan on pass; Sort", Rows: 1200000}, nil
}

func (s skewed) Tables(ctx context.Context) ([]sources.Table, error) {
	catalog, _ := s.DB.(sources.Catalog)
	tables, err := catalog.Tables(ctx)
	for i := range tables {
		tables[i].Rows = 1200000
	}
	return tables, err
}

// planless is an engine whose account may not ask for plans.
type planless struct{ skewed }

func (planless) Plan(context.Context, string, []any) (sources.Plan, error) {
	return sources.Plan{}, fmt.Errorf("%w: the account has no SHOWPLAN permission", sources.ErrNoInspector)
}

type skewedConn struct {
	sources.Conn
	by time.Duration
}

func (c skewedConn) Now(context.Context) (time.Time, error) { return time.Now().Add(c.by), nil }

// What is said where an engine is not as those the other tests run on.
func TestOddEngines(t *testing.T) {
	t.Parallel()
	about := sources.About{
		Version: "Odd 1", Account: "lot", Zone: "UTC", Writes: []string{"INSERT on pass"}, Revokes: []string{"REVOKE INSERT ON pass FROM lot;"},
		Readers: []string{"CREATE USER parkbridge;"}, Notes: []string{"it is in the role keeper, whose rights were not looked at"}, Risks: []sources.Risk{{Found: "a risk", Do: "what to do about it"}},
	}
	wraps := map[string]func(sources.DB) sources.DB{
		"tells nothing":             func(db sources.DB) sources.DB { return bare{db} },
		"clock ahead, index unused": func(db sources.DB) sources.DB { return skewed{db, 7*time.Minute + 12*time.Second, about} },
		"clock a little behind": func(db sources.DB) sources.DB {
			return skewed{db, -20*time.Second - 500*time.Millisecond, sources.About{Version: "Odd 1", Account: "lot", Zone: "UTC"}}
		},
		"an account that has a role": func(db sources.DB) sources.DB {
			return skewed{db, 0, sources.About{Version: "Odd 1", Account: "lot", Zone: "UTC", Notes: about.Notes}}
		},
		"no plans": func(db sources.DB) sources.DB {
			return planless{skewed{db, 0, sources.About{Version: "Odd 1", Account: "lot", Zone: "UTC"}}}
		},
	}
	var all strings.Builder
	for _, name := range []string{"tells nothing", "clock ahead, index unused", "clock a little behind", "an account that has a role", "no plans"} {
		s := newStand(t, "sqlite")
		s.makeTable(t, "pass")
		s.Exec(t, "CREATE INDEX pass_time ON pass (op_time)")
		s.insert(t, "pass", 5, nil)
		odd := sources.Driver{Name: "odd", Open: func(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
			db, dialect, err := sqlite.Driver().Open(ctx, cfg)
			return wraps[name](db), dialect, err
		}}
		path := filepath.Join(s.dir, "config.yaml")
		text := "ledger: { dsn: ledger.db }\nsink: { app_secret: x, url: " + s.gate.URL + ", park_uuid: lot-1 }\nsources:\n  - name: north\n    driver: odd\n    dsn: '" + s.DSN + "'\n    timezone: Asia/Shanghai" + byTime + fields
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		cfg, err := config.Load(path, sources.NewRegistry(odd))
		require.NoError(t, err)
		all.WriteString("--- " + name + "\n")
		c := &Checker{Config: cfg, Drivers: sources.NewRegistry(odd), Rows: 100, Now: func() time.Time { return now }, Tell: func(r Result) { write(&all, r) }}
		c.Run(t.Context())
		text = s.normal(all.String())
		all.Reset()
		all.WriteString(text)
	}
	golden(t, "odd-engines", all.String())
}

// How a server without evidence can be helped.
func TestEvidenceDo(t *testing.T) {
	t.Parallel()
	s := &source{Source: &config.Source{}, about: sources.About{Account: "'p'@'%'"}}
	require.Equal(t, "GRANT PROCESS ON *.* TO 'p'@'%';", s.evidenceDo("the account has no PROCESS privilege")[1])
	s.about.Account = "[lot]"
	require.Equal(t, []string{"USE master;", "GRANT VIEW SERVER STATE TO [lot];"}, s.evidenceDo("the account has no VIEW SERVER STATE permission")[1:])
	require.Equal(t, "GRANT VIEW SERVER PERFORMANCE STATE TO [lot];", s.evidenceDo("the account has no VIEW SERVER PERFORMANCE STATE permission")[2])
	require.Contains(t, s.evidenceDo("the server is a standby")[0], "read from the server that the parking system writes to")
	require.Equal(t, "24h", sources.ShortDuration(24*time.Hour))
	require.Equal(t, "10m", sources.ShortDuration(10*time.Minute))
	require.Equal(t, "1h30m", sources.ShortDuration(90*time.Minute))
	require.Equal(t, "1m30s", sources.ShortDuration(90*time.Second))
}

// What is said of the ledger in every state it can be in.
func TestLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all strings.Builder
	look := func(name, file string) {
		all.WriteString("--- " + name + "\n")
		c := &Checker{Config: &config.Config{Ledger: ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(dir, file))}}, Now: time.Now, Tell: func(r Result) { write(&all, r) }}
		before := names(t, dir)
		c.ledger(t.Context())
		require.Equal(t, before, names(t, dir), "nothing is made")
	}
	look("none yet", "ledger.db")
	l, err := ledger.Open(t.Context(), ledger.Config{Driver: "sqlite", DSN: sources.Secret(filepath.Join(dir, "ledger.db"))}, time.Now, true)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	look("there", "ledger.db")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text.db"), []byte(strings.Repeat("no ledger ", 20)), 0o600))
	look("no ledger", "text.db")
	look("a folder", ".")
	look("no folder", filepath.Join("away", "ledger.db"))
	golden(t, "ledger", strings.NewReplacer(dir+string(filepath.Separator), "DIR/", dir, "DIR").Replace(all.String()))
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// Problems are gathered by kind; whose plate it is, nobody is told.
func TestProblems(t *testing.T) {
	t.Parallel()
	p := problems{}
	add := func(field, problem, key string) { p.add(mapping.FieldError{Field: field, Problem: problem}, key) }
	for i, value := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		add("car_type", `"`+value+`" is in no entry of values`, string(rune('1'+i)))
	}
	add("plate", `"粤B12345" is in no entry of values`, "17")
	for i, bytes := range []string{"b2 e2 ca [d4]", "b2 [e2] ca d5 …"} {
		for _, field := range []string{"reason", "operator"} {
			add(field, fmt.Sprintf("the stored bytes are not utf-8 text at byte %d: %s; give the rule the right charset", 4-i, bytes), string(rune('8'+i)))
		}
		add("enter_time", fmt.Sprintf(`"%d" by unix is 1970-01-01 08:00:0%d and lies before the year 2000`, i, i), string(rune('1'+i)))
	}
	var lines []string
	for _, one := range p.list() {
		lines = append(lines, one.String())
	}
	require.Equal(t, []string{
		`car_type: "a" is in no entry of values; in 7 rows, such as key 1; also "b", "c", "d", "e" and others`,
		`enter_time: "0" by unix is 1970-01-01 08:00:00 and lies before the year 2000; in 2 rows, such as key 1; also "1"`,
		"operator: the stored bytes are not utf-8 text; give the rule the right charset; in 2 rows, such as key 8",
		"reason: the stored bytes are not utf-8 text at byte 4: b2 e2 ca [d4]; give the rule the right charset; in 2 rows, such as key 8",
		"plate: a value is in no entry of values; in 1 row, such as key 17",
	}, lines)
	require.Equal(t, "17", quoted("17"))
	require.Equal(t, `'["A","it'\''s"]'`, quoted(`["A","it's"]`))
	require.Equal(t, "3 days ago", age(75*time.Hour))
	require.Equal(t, "3 hours ago", age(3*time.Hour))
	require.Equal(t, "1 minute ago", age(time.Minute))
	require.Equal(t, "8 hours ahead of this PC's clock", age(-8*time.Hour))
}
