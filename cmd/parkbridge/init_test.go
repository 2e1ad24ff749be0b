package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/simplifiedchinese"

	"parkbridge/internal/config"
	"parkbridge/internal/draft"
	"parkbridge/internal/testdb"
	"parkbridge/sink/gate"
	"parkbridge/sources"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "init", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got, "if this is meant: go test -run %s ./cmd/parkbridge -update", t.Name())
}

// vendor imitates the habits of one maker of parking systems.
type vendor struct {
	name, engine string
	make         func(t *testing.T, lot *testdb.Lot)
	// args are flags beside those that every call has.
	args []string
	// delivered is how many of the rows a sync with the draft delivers, and
	// invalid how many of them are broken.
	delivered, invalid int
	// private are texts of the rows that must not be in any output.
	private []string
	// blobs are columns that no statement may name.
	blobs []string
}

func gbk(t *testing.T, s string) []byte {
	t.Helper()
	b, err := simplifiedchinese.GBK.NewEncoder().String(s)
	require.NoError(t, err)
	return []byte(b)
}

// latin1 writes GBK bytes as MySQL's literal of a latin1 text.
func latin1(t *testing.T, s string) string {
	t.Helper()
	return fmt.Sprintf("_latin1 0x%x", gbk(t, s))
}

const vendorRows = 30

// plateOf gives each row a plate.
func plateOf(i int) string {
	return fmt.Sprintf("%c%c%05d", []rune("粤川沪京苏")[i%5], 'A'+rune(i%6), 10000+i*37)
}

var vendors = []vendor{
	{
		// Pinyin initials, GBK bytes in latin1 columns, a comment sent through a latin1
		// connection, times as text, no index but the key, pictures in the row.
		name: "pinyin-mysql", engine: "mysql", delivered: vendorRows, private: []string{"王小明", "粤A"}, blobs: []string{"tp"},
		make: func(t *testing.T, lot *testdb.Lot) {
			lot.Exec(t, "CREATE TABLE t_czy (id INT AUTO_INCREMENT PRIMARY KEY, czy VARCHAR(20), mm VARCHAR(32)) CHARACTER SET latin1")
			lot.Exec(t, "CREATE TABLE t_rcjl (lsh INT AUTO_INCREMENT PRIMARY KEY, cph VARCHAR(20), rcsj VARCHAR(19), rcck VARCHAR(20)) CHARACTER SET latin1")
			lot.Exec(t, "CREATE TABLE t_ccjl (lsh INT AUTO_INCREMENT PRIMARY KEY, cph VARCHAR(20), rcsj VARCHAR(19), ccsj VARCHAR(19), sfje INT, sfy VARCHAR(20)) CHARACTER SET latin1")
			var mangled strings.Builder
			for _, b := range gbk(t, "手动开闸") {
				mangled.WriteRune(rune(b))
			}
			lot.Exec(t, "CREATE TABLE t_kzjl (lsh BIGINT AUTO_INCREMENT PRIMARY KEY, rcjlid VARCHAR(20), cph VARCHAR(20), ys VARCHAR(8), klx VARCHAR(16), rcsj VARCHAR(19), kzsj VARCHAR(19), czy VARCHAR(20), yy VARCHAR(100), tp LONGBLOB) CHARACTER SET latin1 COMMENT '"+mangled.String()+"'")
			for i := range vendorRows {
				plate := latin1(t, plateOf(i))
				lot.Exec(t, "INSERT INTO t_rcjl (cph, rcsj, rcck) VALUES ("+plate+", '2026-11-20 08:00:00', 'A')")
				lot.Exec(t, "INSERT INTO t_ccjl (cph, rcsj, ccsj, sfje, sfy) VALUES ("+plate+", '2026-11-20 08:00:00', '2026-11-20 10:00:00', 500, "+latin1(t, "李雷")+")")
				lot.Exec(t, "INSERT INTO t_kzjl (rcjlid, cph, ys, klx, rcsj, kzsj, czy, yy, tp) VALUES ("+strings.Join([]string{
					fmt.Sprintf("'R%06d'", i), plate, latin1(t, []string{"蓝", "黄", "绿"}[i%3]), latin1(t, []string{"临时车", "月租车", "免费车"}[i%3]),
					fmt.Sprintf("'2026-11-20 08:%02d:00'", i), fmt.Sprintf("'2026-11-20 10:%02d:00'", i), latin1(t, "王小明"), latin1(t, []string{"设备故障", "网络中断"}[i%2]),
					"REPEAT('x', 200000)",
				}, ", ")+")")
			}
			for _, table := range []string{"t_czy", "t_rcjl", "t_ccjl", "t_kzjl"} {
				lot.Grant(t, table)
			}
		},
	},
	{
		// Chinese names all through, comments, native times.
		name: "chinese-postgres", engine: "postgres", delivered: vendorRows, private: []string{"王小明", "粤A"}, blobs: []string{"抓拍图片"},
		make: func(t *testing.T, lot *testdb.Lot) {
			lot.Exec(t, `CREATE TABLE "系统用户" ("编号" serial PRIMARY KEY, "用户名" text, "密码" text)`)
			lot.Exec(t, `CREATE TABLE "出场记录" ("编号" serial PRIMARY KEY, "车牌号" text, "入场时间" timestamp, "出场时间" timestamp, "收费金额" numeric(10,2), "收费员" text)`)
			lot.Exec(t, `CREATE TABLE "异常放行记录" ("编号" bigserial PRIMARY KEY, "停车流水号" text, "车牌号码" varchar(20), "车牌颜色" varchar(8), "卡类型" varchar(16),
				"入场时间" timestamp, "出场时间" timestamp, "操作时间" timestamptz, "操作员" text, "放行原因" text, "通道" text, "抓拍图片" bytea)`)
			lot.Exec(t, `COMMENT ON TABLE "异常放行记录" IS '岗亭手动开闸'`)
			for i := range vendorRows {
				lot.Exec(t, `INSERT INTO "出场记录" ("车牌号", "入场时间", "出场时间", "收费金额", "收费员") VALUES (?, '2026-11-20 08:00', '2026-11-20 10:00', 5, '李雷')`, plateOf(i))
				lot.Exec(t, `INSERT INTO "异常放行记录" ("停车流水号", "车牌号码", "车牌颜色", "卡类型", "入场时间", "出场时间", "操作时间", "操作员", "放行原因", "通道", "抓拍图片")
					VALUES (?, ?, ?, ?, '2026-11-20 08:00', NULL, ?, '王小明', '设备故障', '南门', '\xffd8')`,
					fmt.Sprintf("P%d", i), plateOf(i), []string{"蓝牌", "黄牌", "新能源绿牌"}[i%3], []string{"临停", "月卡A", "贵宾", "内部车"}[i%4],
					fmt.Sprintf("2026-11-20 10:%02d:00+08", i))
			}
			for _, table := range []string{`"系统用户"`, `"出场记录"`, `"异常放行记录"`} {
				lot.Grant(t, table)
			}
		},
	},
	{
		// English in camel case, a GUID for a key, times as digits in an integer, an
		// index on them, codes for words; 1 row in 10 is broken.
		name: "english-sqlite", engine: "sqlite", delivered: vendorRows - 3, invalid: 3, private: []string{"Wang", "粤A"}, blobs: []string{"Snapshot"},
		make: func(t *testing.T, lot *testdb.Lot) {
			lot.Exec(t, "CREATE TABLE Users (UserID INTEGER PRIMARY KEY, UserName TEXT, Password TEXT)")
			lot.Exec(t, "CREATE TABLE ManualOpenLog (RecordGUID CHAR(36) PRIMARY KEY, EntryID TEXT, CarNo TEXT, PlateColor INTEGER, CardType TEXT, InTime INTEGER, OpenTime INTEGER, Operator TEXT, Remark TEXT, Snapshot BLOB)")
			lot.Exec(t, "CREATE INDEX ManualOpenLog_OpenTime ON ManualOpenLog (OpenTime)")
			for i := range vendorRows {
				at := any(20261120100000 + i)
				if i%10 == 7 {
					at = 20261399999999
				}
				lot.Exec(t, "INSERT INTO ManualOpenLog VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, zeroblob(200000))", fmt.Sprintf("%08x-0000-4000-8000-000000000000", i*2654435761%4294967296),
					fmt.Sprintf("E%d", i), strings.ToLower(plateOf(i))+" ", i%3, []string{"TEMP", "MONTH", "VIP"}[i%3], 1795132800+i, at, "Wang", "device fault")
			}
		},
	},
	{
		// One table a month, all exits in it, seconds since 1970.
		name: "monthly-mysql", engine: "mysql", delivered: vendorRows, private: []string{"张三"},
		make: func(t *testing.T, lot *testdb.Lot) {
			for _, month := range []string{"202609", "202610", "202611", "209901"} {
				lot.Exec(t, "CREATE TABLE out_"+month+" (id INT AUTO_INCREMENT PRIMARY KEY, in_id INT NOT NULL, car_no VARCHAR(16), out_time INT, fxfs TINYINT, czy VARCHAR(16), bz VARCHAR(50)) CHARACTER SET utf8mb4")
				lot.Grant(t, "out_"+month)
			}
			for i := range vendorRows {
				lot.Exec(t, "INSERT INTO out_202611 (in_id, car_no, out_time, fxfs, czy, bz) VALUES (?, ?, ?, ?, '张三', '')", 9000+i, plateOf(i), 1795143600+i, i%3)
			}
		},
		args: []string{"--table", "out_202610"},
	},
	{
		// Twelve tables that are filled anew each year; the day and the time of day in
		// two columns; no key that the database knows of.
		name: "yearly-sqlite", engine: "sqlite", delivered: 12 * vendorRows,
		make: func(t *testing.T, lot *testdb.Lot) {
			for month := range 12 {
				table := fmt.Sprintf("YCFX%02d", month+1)
				lot.Exec(t, "CREATE TABLE "+table+" (XH INTEGER NOT NULL, CPH TEXT, FXRQ TEXT, FXSJ TEXT, CZY TEXT, FXYY TEXT)")
				for i := range vendorRows {
					lot.Exec(t, "INSERT INTO "+table+" VALUES (?, ?, '2026-11-20', ?, 'B', 'C')", i+1, plateOf(i), fmt.Sprintf("10:%02d:00", i))
				}
			}
		},
	},
	{
		// The usual GBK text in a SQLite file, dates of Excel, a composite key.
		name: "gbk-sqlite", engine: "sqlite", delivered: vendorRows,
		make: func(t *testing.T, lot *testdb.Lot) {
			lot.Exec(t, "CREATE TABLE yichang (lane TEXT NOT NULL, no INTEGER NOT NULL, chepai TEXT, riqi REAL, caozuoyuan TEXT, yuanyin TEXT, PRIMARY KEY (lane, no))")
			for i := range vendorRows {
				lot.Exec(t, "INSERT INTO yichang VALUES (?, ?, CAST(? AS TEXT), ?, CAST(? AS TEXT), CAST(? AS TEXT))", "A", i, gbk(t, plateOf(i)), 46346.5+float64(i)/1440, gbk(t, "某某"), gbk(t, "断网"))
			}
		},
	},
}

// drafter runs init on a vendor's lot, in the folder of a config.
type drafter struct {
	dir string
	lot *testdb.Lot
	env []string
}

func (d *drafter) run(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), d.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func newDrafter(t *testing.T, v vendor) *drafter {
	t.Helper()
	d := &drafter{dir: t.TempDir(), lot: testdb.New(t, v.engine)}
	v.make(t, d.lot)
	if v.engine == "sqlite" {
		d.dir = filepath.Dir(d.lot.DSN)
	}
	return d
}

// args are the flags that name the lot: a file by name, a server by a variable.
func (d *drafter) args(more ...string) []string {
	if d.lot.Driver == "sqlite" {
		return append([]string{"init", "--driver", "sqlite", "--dsn", filepath.Base(d.lot.DSN)}, more...)
	}
	d.env = append(d.env, "LOT_DSN="+d.lot.DSN)
	return append([]string{"init", "--driver", d.lot.Driver, "--dsn-env", "LOT_DSN"}, more...)
}

// What init finds and writes for the schemas of several makers; and with what
// it writes, but for the decisions, their releases arrive.
func TestInitVendors(t *testing.T) {
	t.Parallel()
	for _, v := range vendors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			d := newDrafter(t, v)
			code, stdout, stderr := d.run(t.Context(), d.args(v.args...)...)
			require.Zero(t, code, stderr)
			require.Empty(t, stderr)
			golden(t, v.name+".txt", stdout)
			raw, err := os.ReadFile(filepath.Join(d.dir, "config.yaml"))
			require.NoError(t, err)
			golden(t, v.name+".yaml", string(raw))
			for _, private := range append(v.private, d.lot.DSN) {
				require.NotContains(t, stdout+string(raw), private)
			}
			watchQueries(t, v, d)
			g := gate.New(gate.Config{Secret: "s3cret-of-the-lot"})
			server := httptest.NewServer(g)
			t.Cleanup(server.Close)
			code, _, stderr = d.run(t.Context(), d.args("--force", "--url", server.URL, "--park-uuid", "u", "--start", "earliest")...)
			require.Zero(t, code, stderr)
			d.env = append(d.env, "PARKBRIDGE_APP_ID=op1", "PARKBRIDGE_APP_SECRET=s3cret-of-the-lot")
			code, stdout, stderr = d.run(t.Context(), "sync")
			require.Equal(t, map[bool]int{true: exitFaults, false: exitDone}[v.invalid > 0], code, stdout+stderr)
			require.Len(t, g.Records(), v.delivered)
			for _, r := range g.Records() {
				require.Regexp(t, `^[粤川沪京苏][A-F]\d{5}$`, r["plate"])
				require.Regexp(t, `^2026-11-20T0[2-9]:`, r["operate_time"])
			}
		})
	}
}

// watched is a database that notes what is asked of it.
type watched struct {
	sources.DB
	sources.Catalog
	queries *[]string
}

func (w watched) Columns(ctx context.Context, list, from string) ([]sources.Column, error) {
	*w.queries = append(*w.queries, "SELECT "+list+" FROM "+from+" LIMIT 0")
	return w.DB.Columns(ctx, list, from)
}

func (w watched) Connect(ctx context.Context, evidence bool) (sources.Conn, error) {
	c, err := w.DB.Connect(ctx, evidence)
	return watchedConn{c, w.queries}, err
}

type watchedConn struct {
	sources.Conn
	queries *[]string
}

func (w watchedConn) Query(ctx context.Context, sql string, fields []sources.Field, args []any) ([][]sources.Value, error) {
	*w.queries = append(*w.queries, sql)
	return w.Conn.Query(ctx, sql, fields, args)
}

// watchQueries holds init to being a good guest: whatever it asks of a table is
// a SELECT of a bounded number of rows, and none of pictures.
func watchQueries(t *testing.T, v vendor, d *drafter) {
	t.Helper()
	var queries []string
	driver := drivers()[v.engine]
	open := driver.Open
	driver.Open = func(ctx context.Context, cfg sources.Config) (sources.DB, sources.Dialect, error) {
		db, dialect, err := open(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return watched{db, db.(sources.Catalog), &queries}, dialect, nil
	}
	e, err := sources.Explore(t.Context(), sources.NewRegistry(driver), sources.Config{Driver: v.engine, DSN: sources.Secret(d.lot.DSN), StatementTimeout: initTimeout})
	require.NoError(t, err)
	_, err = candidates(t.Context(), e, "")
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.NotEmpty(t, queries)
	for _, q := range queries {
		require.Regexp(t, `^SELECT .* LIMIT (0|50|1001\) AS few)$`, q)
		require.NotContains(t, strings.Replace(q, "COUNT(*)", "", 1), "*", q)
		for _, blob := range v.blobs {
			require.NotRegexp(t, "[\"`]"+blob+"[\"`]", q)
		}
	}
}

// Whatever init draws up is a config that loads: known keys, sound rules.
func TestInitLoads(t *testing.T) {
	t.Parallel()
	for _, v := range vendors {
		raw, err := os.ReadFile(filepath.Join("testdata", "init", v.name+".yaml"))
		require.NoError(t, err)
		text := string(raw)
		for name, value := range map[string]string{"LOT_DSN": "user:pw@tcp(127.0.0.1:3306)/lot", "PARKBRIDGE_APP_ID": "a", "PARKBRIDGE_APP_SECRET": "b", "PARKBRIDGE_PARK_UUID": "c"} {
			if v.engine == "postgres" {
				value = strings.Replace(value, "user:pw@tcp(127.0.0.1:3306)/lot", "postgres://u:p@127.0.0.1/lot", 1)
			}
			text = strings.ReplaceAll(text, "${"+name+"}", value)
		}
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err = config.Load(path, drivers())
		require.NoError(t, err, v.name)
	}
}

// Every mistake in calling init, and what it says.
func TestInitMistakes(t *testing.T) {
	t.Parallel()
	d := &drafter{dir: t.TempDir()}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600))
	}
	lot := func(name string, statements ...string) {
		db, err := sql.Open("sqlite", sources.FileURI(filepath.Join(d.dir, name)))
		require.NoError(t, err)
		for _, s := range append(statements, "PRAGMA user_version = 1") {
			_, err := db.ExecContext(t.Context(), s)
			require.NoError(t, err)
		}
		require.NoError(t, db.Close())
	}
	write("there.yaml", "mine")
	write("not-a-database.db", strings.Repeat("this is no database. ", 100))
	lot("empty.db")
	lot("dull.db", "CREATE TABLE a (x INTEGER PRIMARY KEY, y TEXT)", "CREATE TABLE b (x INTEGER PRIMARY KEY, y TEXT)")
	lot("twins.db",
		"CREATE TABLE abnormal_a (id INTEGER PRIMARY KEY, plate_no TEXT, op_time TEXT, operator TEXT, reason TEXT)",
		"CREATE TABLE abnormal_b (id INTEGER PRIMARY KEY, plate_no TEXT, op_time TEXT, operator TEXT, reason TEXT)")
	const password = "hush-hush"
	var out strings.Builder
	for _, args := range []string{
		"",
		"--driver oracle --dsn x",
		"--driver sqlite",
		"--driver postgres",
		"--driver mysql",
		"--driver mysql --dsn-env NO_SUCH_DSN",
		"--driver mysql --dsn-env 1$",
		"--driver mysql --dsn root:" + password + "@localhost",
		"--driver postgres --dsn postgres://root:" + password + "@[::1",
		"--driver sqlite --dsn .",
		"--driver sqlite --dsn not-a-database.db",
		"--driver sqlite --dsn empty.db",
		"--driver sqlite --dsn dull.db",
		"--driver sqlite --dsn twins.db",
		"--driver sqlite --dsn twins.db --table abnormal_c",
		"--driver sqlite --dsn twins.db --table abnormal_a --out there.yaml",
		"--driver sqlite --dsn twins.db --table abnormal_a --start lastest",
		"--driver sqlite --dsn twins.db --table abnormal_a --url gate",
		"--driver sqlite --dsn twins.db --table abnormal_a --json --out -",
		"--driver sqlite --dsn twins.db abnormal_a",
	} {
		code, stdout, stderr := d.run(t.Context(), append([]string{"init"}, strings.Fields(args)...)...)
		require.NotZero(t, code, args)
		require.NotContains(t, stdout+stderr, password)
		fmt.Fprintf(&out, "$ parkbridge init %s\n%s%s[exit code %d]\n\n", args, stdout, stderr, code)
		require.NoFileExists(t, filepath.Join(d.dir, "config.yaml"))
	}
	golden(t, "mistakes.txt", out.String())
	for args, want := range map[string]string{ // the rest is the system's own words
		"--driver mysql --dsn root:" + password + "@tcp(127.0.0.1:1)/lot":                             "parkbridge: connecting to the database: dial tcp 127.0.0.1:1: ",
		"--driver sqlite --dsn no-such.db":                                                            "parkbridge: connecting to the database: the SQLite file is not there: ",
		"--driver sqlite --dsn twins.db --table abnormal_a --out " + filepath.Join("no", "such.yaml"): "parkbridge: writing the config: open " + filepath.Join("no", "such.yaml"),
	} {
		code, stdout, stderr := d.run(t.Context(), append([]string{"init"}, strings.Fields(args)...)...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, want)
		require.NotContains(t, stdout+stderr, password)
	}
	raw, err := os.ReadFile(filepath.Join(d.dir, "there.yaml"))
	require.NoError(t, err)
	require.Equal(t, "mine", string(raw))
}

// The other ways to ask for a draft: of a table by name, onto the screen, over
// an old file, as JSON.
func TestInitForms(t *testing.T) {
	t.Parallel()
	d := newDrafter(t, vendors[2])
	code, stdout, stderr := d.run(t.Context(), d.args("--out", "-", "--park-uuid", "49f0cc52", "--start", "earliest", "--table", "manualopenlog")...)
	require.Zero(t, code)
	require.True(t, strings.HasPrefix(stdout, "# Drafted by parkbridge init from ManualOpenLog."), stdout)
	require.Contains(t, stdout, "  park_uuid: 49f0cc52  ")
	require.Contains(t, stdout, "    start: earliest\n")
	require.Contains(t, stderr, "Wrote the config for ManualOpenLog. One line of it is for a person to decide:")
	require.NoFileExists(t, filepath.Join(d.dir, "config.yaml"))

	code, _, _ = d.run(t.Context(), d.args("-c", "north.yaml")...)
	require.Zero(t, code)
	code, stdout, stderr = d.run(t.Context(), d.args("--out", "north.yaml", "--force", "--json")...)
	require.Zero(t, code, stderr)
	golden(t, "english-sqlite.json", stdout)
	var out initJSON
	require.NoError(t, json.Unmarshal([]byte(stdout), &out))
	raw, err := os.ReadFile(filepath.Join(d.dir, "north.yaml"))
	require.NoError(t, err)
	for _, decision := range out.Decide {
		require.Contains(t, strings.Split(string(raw), "\n")[decision.Line-1], "# DECIDE: ")
	}

	// A DSN of a variable stays one, and is asked for where it is not set.
	d.env = append(d.env, "LOT_FILE="+d.lot.DSN)
	code, stdout, stderr = d.run(t.Context(), "init", "--driver", "sqlite", "--dsn-env", "LOT_FILE", "--force")
	require.Zero(t, code, stderr)
	require.NotContains(t, stdout, "LOT_FILE")
	raw, err = os.ReadFile(filepath.Join(d.dir, "config.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(raw), "    dsn: ${LOT_FILE}\n")
	code, stdout, _ = d.run(t.Context(), "init", "--driver", "sqlite", "--dsn-env", "LOT_FILE", "--dsn", d.lot.DSN, "--force")
	require.Zero(t, code)
	require.NotContains(t, stdout, "LOT_FILE")
	d.env = nil
	code, stdout, _ = d.run(t.Context(), "init", "--driver", "sqlite", "--dsn-env", "LOT_FILE", "--dsn", d.lot.DSN, "--force")
	require.Zero(t, code)
	require.Contains(t, stdout, "LOT_FILE")
	require.Contains(t, stdout, "the text that --dsn had")
	require.NotContains(t, stdout, d.lot.DSN)
}

// A person at a terminal is asked; whoever is not there is not.
func TestInitAsks(t *testing.T) {
	t.Parallel()
	table := func(name string) sources.Table { return sources.Table{Name: []string{name}, Rows: 1} }
	all := draft.Candidates([]sources.Table{table("a"), table("b")}, time.Now())
	for answer, want := range map[string]string{"\n": "a", "B\n": "b", " b \r\n": "b", "c\n": "", "": ""} {
		var out bytes.Buffer
		a := &app{stdout: &out}
		c, err := a.choose(all, strings.NewReader(answer))
		require.Contains(t, out.String(), "Which one is it?")
		if want == "" {
			require.Error(t, err, "%q", answer)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, c.Name)
	}
	var out bytes.Buffer
	_, err := (&app{stdout: &out}).ask(all, strings.NewReader("b\n"))
	require.ErrorContains(t, err, "with --table")
	require.Empty(t, out.String())
}
