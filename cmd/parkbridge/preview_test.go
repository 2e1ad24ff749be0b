package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
)

type previewed struct {
	Rows []previewJSON `json:"rows"`
}

func (b *booth) preview(t *testing.T, args ...string) (p previewed) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, append([]string{"preview", "--json"}, args...)...)), &p))
	return p
}

// What is previewed is what is sent then, signature included; before, nothing is
// made and nothing is sent.
func TestPreview(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			require.Contains(t, b.run(t, 0, "preview"), "There are no rows.")
			b.insert(t, 12)
			before := files(t, b.dir)
			p := b.preview(t)
			require.Len(t, p.Rows, 3)
			require.Equal(t, []string{"12", "11", "10"}, []string{p.Rows[0].RowKey, p.Rows[1].RowKey, p.Rows[2].RowKey})
			out := b.run(t, 0, "preview", "--limit", "1")
			require.Equal(t, before, files(t, b.dir), "no ledger is made")
			require.Zero(t, b.gate.Stats().Calls)
			for _, want := range []string{
				"north-gate, key 12", "  plate_no             粤b00012", "  plate                粤B00012", "  reason               设备异常",
				"&reason=设备异常&app_secret=***\n", "POST / HTTP/1.1", "Content-Disposition: form-data; name=\"sign\"", "Nothing was sent, nothing was stored.",
			} {
				require.Contains(t, out, want)
			}
			b.run(t, 0, "sync")
			sent := map[string]map[string]string{}
			for _, r := range b.gate.Records() {
				sent[r["flow_no"]] = r
			}
			for _, row := range p.Rows {
				took := sent["EX"+row.RowKey]
				require.Equal(t, took["sign"], *row.Request.Sign)
				require.Contains(t, out, *p.Rows[0].Request.Sign)
				for name, value := range row.Fields {
					require.Equal(t, took[name], value)
				}
				for name, value := range took {
					require.Contains(t, row.Request.Body, "name=\""+name+"\"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"+value+"\r\n")
				}
				require.Nil(t, row.RecordID)
			}
			p = b.preview(t, "--source", "north-gate", "--key", "7")
			require.Len(t, p.Rows, 1)
			require.Equal(t, "delivered", *p.Rows[0].State)
			require.Equal(t, []change{}, p.Rows[0].Changes)
			require.Contains(t, b.run(t, 1, "preview", "--source", "north-gate", "--key", "99"), "there is no row with key 99")
		})
	}
}

// What a changed mapping would send otherwise is shown for what was sent, beside
// a running daemon too.
func TestPreviewChanges(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 4)
	b.lot.Exec(t, "UPDATE abnormal_pass SET op_time = 'never' WHERE id = 2")
	cmd, _, stderr := b.command(t.Context(), "run")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return b.gate.Stats().Taken == 3 }, 15*time.Second, 20*time.Millisecond, "%s", stderr)

	good, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	b.write(t, strings.NewReplacer("{ column: color, values: { 蓝: 1,", "{ column: color, values: { 蓝: 5,", "[upper]", "[upper], charset: utf-8",
		"operator:       { column: op_name, default: 未知 }", "operator:       { const: 老王 }\n      car_desc:       color").Replace(string(good)))
	p := b.preview(t, "--limit", "4")
	require.Equal(t, []change{{"car_desc", "", "蓝"}, {"operator", "未知", "老王"}, {"plate_color", "1", "5"}}, p.Rows[0].Changes)
	require.Nil(t, p.Rows[2].Changes)
	require.Equal(t, "invalid", *p.Rows[2].State)
	require.Nil(t, p.Rows[2].Request)
	require.Equal(t, "operate_time", p.Rows[2].Errors[0].Field)
	require.Nil(t, p.Rows[2].Fields)
	out := b.run(t, 0, "preview", "--source", "north-gate", "--key", "4")
	require.Contains(t, out, "record 4 of this row is delivered; with the mapping as it is now these fields would be others\n")
	require.Contains(t, out, "  operator             未知 → 老王\n")
	require.Contains(t, out, "  car_desc             (left out) → 蓝\n")
	b.lot.Exec(t, "UPDATE abnormal_pass SET reason = '其他' WHERE id = 4")
	require.Contains(t, b.run(t, 0, "preview", "--source", "north-gate", "--key", "4"), "(the row was changed since, too)")
	require.Contains(t, b.run(t, 0, "preview", "--source", "north-gate", "--key", "2"), "it does not map; it would be kept as invalid")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), stderr.String())
	require.Equal(t, 3, b.gate.Stats().Calls)

	require.Contains(t, b.run(t, 2, "preview", "--key", "4"), "--key goes with --source")
	require.Contains(t, b.run(t, 2, "preview", "--limit", "0"), "--limit must be")
	require.Contains(t, b.run(t, 2, "preview", "--source", "south-gate"), "no source is named")
	b.write(t, strings.Replace(string(good), "  app_secret: s3cret-of-the-lot\n", "", 1))
	require.Contains(t, b.run(t, 0, "preview", "--limit", "1"), "none: no app_secret is set")
	// A ledger that cannot be read keeps nobody from looking at rows.
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "damaged.db"), []byte(strings.Repeat("x", 200)), 0o600))
	b.write(t, strings.Replace(string(good), "parkbridge.db", "damaged.db", 1))
	out = b.run(t, 0, "preview", "--limit", "1")
	require.Contains(t, out, "the ledger is damaged")
	require.Contains(t, out, "what was sent is not compared")
	require.Contains(t, out, "north-gate, key 4")
}

// What check and preview say to who calls them in a way that cannot be, word for
// word.
func TestCheckAndPreviewMistakes(t *testing.T) {
	t.Parallel()
	b := newBooth(t, "sqlite")
	b.insert(t, 3)
	var out strings.Builder
	for _, c := range []struct {
		code int
		args string
	}{
		{2, "check --rows 0"},
		{2, "check --source south-gate"},
		{2, "preview --limit 0"},
		{2, "preview --key 1"},
		{2, "preview --source south-gate"},
		{1, "preview --source north-gate --key 99"},
		{1, "preview --source north-gate --key x"},
	} {
		fmt.Fprintf(&out, "$ parkbridge %s\n%s\n", c.args, b.run(t, c.code, strings.Fields(c.args)...))
	}
	golden(t, filepath.Join("..", "mistakes.txt"), out.String())
}
