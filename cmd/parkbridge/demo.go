package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/config"
	"parkbridge/internal/daemon"
	"parkbridge/internal/ledger"
	"parkbridge/sink/gate"
	"parkbridge/sources"
)

//go:embed demo.yaml
var demoConfig string

const demoSecret = "demo-secret"

func (a *app) demoCommand() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all on embedded parts: a legacy database, a gate, a sync",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return classed(a.demo(cmd.Context(), folder))
		},
	}
	cmd.Flags().StringVar(&folder, "folder", "", "where the files go; empty means a new temporary folder")
	return cmd
}

func (a *app) demo(ctx context.Context, folder string) error {
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "parkbridge-demo-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := makeLot(ctx, filepath.Join(folder, "lot.db")); err != nil {
		return fmt.Errorf("making the lot's database: %w", err)
	}
	g := gate.New(gate.Config{Secret: demoSecret})
	stop, address, err := startGate(ctx, "127.0.0.1:0", g)
	if err != nil {
		return err
	}
	err = a.demoSync(ctx, folder, address, g)
	return errors.Join(err, stop())
}

func (a *app) demoSync(ctx context.Context, folder, address string, g *gate.Gate) error {
	path := filepath.Join(folder, "config.yaml")
	text := strings.ReplaceAll(demoConfig, "GATE_ADDRESS", address)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(path, drivers())
	if err != nil {
		return err
	}
	log, _, err := daemon.Logger(config.Log{Level: "error"}, a.stderr)
	if err != nil {
		return err
	}
	app, err := daemon.New(ctx, cfg, drivers(), log, true)
	if err != nil {
		return err
	}
	report := app.Bridge.Sync(ctx, 0)
	fmt.Fprintf(a.stdout, "A legacy lot with %d exception releases, a stand-in gate on %s, and one sync between them:\n\n", lotRows, address)
	err = errors.Join(report.Err, a.printSync(report))
	for _, s := range report.Sources {
		err = errors.Join(err, s.Err)
	}
	if err == nil {
		err = a.demoTour(ctx, app, g)
	}
	if err = errors.Join(err, app.Close()); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, `
The files are in %s:
  lot.db         the legacy database, table abnormal_pass
  config.yaml    the configuration, mapping included
  parkbridge.db  the ledger

Look around:
  %[3]s status -c %[2]s
  %[3]s records list --state invalid -c %[2]s
`, folder, path, self())
	return nil
}

// self is how a person starts this program: as go run does, or by its name.
func self() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/parkbridge"
	}
	return os.Args[0]
}

// demoTour shows the status and three records on their way.
func (a *app) demoTour(ctx context.Context, app *daemon.App, g *gate.Gate) error {
	s := g.Stats()
	fmt.Fprintf(a.stdout, "\nThe gate counts %d distinct records in %d calls. The status:\n\n", s.Taken, s.Calls)
	if err := a.printStatus(ctx, app); err != nil {
		return err
	}
	delivered, err := app.Ledger.Records(ctx, ledger.Filter{States: []string{ledger.Delivered}, Oldest: true, Limit: 2})
	if err != nil {
		return err
	}
	invalid, err := app.Ledger.Records(ctx, ledger.Filter{States: []string{ledger.Invalid}, Oldest: true, Limit: 1})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "\nThree records: the row, the fields, the answer.")
	for _, r := range append(delivered, invalid...) {
		fmt.Fprintln(a.stdout, "\n"+strings.Repeat("─", 60))
		a.showRecord(app.Config, &r)
	}
	return nil
}

// lotRows is the number of rows makeLot writes.
const lotRows = 400

// makeLot writes a database as a parking system of twenty years' standing has
// it: Chinese text, NULLs, ties, and rows that nobody can map.
func makeLot(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there already; name an empty folder", path)
	}
	db, err := sql.Open("sqlite", sources.FileURI(path))
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `CREATE TABLE abnormal_pass (
		id INTEGER PRIMARY KEY AUTOINCREMENT, entry_id TEXT, plate_no TEXT, color TEXT, card_kind TEXT,
		in_time TEXT, op_time TEXT, op_name TEXT, reason TEXT, picture BLOB)`); err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO abnormal_pass (entry_id, plate_no, color, card_kind, in_time, op_time, op_name, reason, picture)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, zeroblob(2048))`)
	if err != nil {
		return err
	}
	defer insert.Close()
	plates := []string{"粤B12345", "粤b88k99", "川A8K2P6", "沪AD12345", "京N00001", "无牌车"}
	colors := []any{"蓝", "黄", "绿", "白", "紫", nil}
	kinds := []any{"临时卡", "月卡", "贵宾卡", "储值卡", nil}
	names := []any{"张三  ", "李四", "保安A", nil}
	reasons := []any{"设备异常", "手动开闸", "车牌识别错误", "网络中断", "", nil}
	base := time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)
	for i := range lotRows {
		// Four rows share each second.
		at := base.Add(time.Duration(i/4) * 97 * time.Second)
		op := any(at.Format(time.DateTime))
		switch {
		case i%97 == 60:
			op = "0000-00-00 00:00:00"
		case i%9 == 5:
			op = at.Format("2006-01-02 15:04:05.000")
		}
		entry := any(fmt.Sprintf("E%08d", 71000+i/2))
		if i == 200 {
			entry = nil
		}
		if _, err := insert.ExecContext(ctx, entry, plates[i%len(plates)], colors[i%len(colors)], kinds[i%len(kinds)],
			at.Add(-2*time.Hour).Format(time.DateTime), op, names[i%len(names)], reasons[i%len(reasons)]); err != nil {
			return err
		}
	}
	return tx.Commit()
}
