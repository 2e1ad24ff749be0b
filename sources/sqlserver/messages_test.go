package sqlserver_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
	"parkbridge/sources/sqlserver"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every message that a person may get from this engine, word for word: `go test
// ./sources/sqlserver -update` writes the file anew.
func TestMessages(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	tell := func(what string, text any) { fmt.Fprintf(&out, "%s\n    %v\n", what, text) }

	out.WriteString("the dsn\n\n")
	for _, dsn := range []string{"lot", "sqlserver://u:p@host:1433", "sqlserver://u:p@host?database=lot&encrypt=sometimes"} {
		cfg := sources.Config{Name: "lot", Driver: "sqlserver", DSN: sources.Secret(dsn), Table: "pass", Key: []string{"id"}, Start: "earliest"}
		_, err := sources.Open(t.Context(), drivers, cfg, nil)
		tell(dsn, err)
	}

	out.WriteString("\nthe table\n\n")
	for _, c := range []struct {
		on     string // the statement that fails
		number int32
		text   string
	}{
		{"SELECT TOP (0)", 208, "Invalid object name 'dbo.pass'."},
		{"SELECT TOP (0)", 229, "The SELECT permission was denied on the object 'pass', database 'lot', schema 'dbo'."},
		{"SELECT TOP (0)", 230, "The SELECT permission was denied on the column 'picture' of the object 'pass', database 'lot', schema 'dbo'."},
		{"sys.all_columns", 1222, "Lock request time out period exceeded."},
		{"sys.identity_columns", 1205, "Transaction was deadlocked."},
	} {
		l := passLot()
		l.answer = failing(c.on, c.number, c.text)
		_, err := sources.Open(t.Context(), drivers, config(newStub(t, l.reply), ""), nil)
		tell(fmt.Sprint(c.on, " ", c.number), err)
	}
	_, e := explore(t, replies(reply{"sys.partitions", failure(1222, "Lock request time out period exceeded.")}))
	_, err := e.Tables(t.Context())
	tell("sys.partitions 1222", err)

	out.WriteString("\nkey and cursor\n\n")
	for _, c := range []struct {
		what   string
		table  string
		answer []byte
	}{
		{"plain", "dbo.pass", assigned(7, false, "bigint", 0, false, false, false)},
		{"steps", "dbo.pass", assigned(7, true, "bigint", 10, false, false, false)},
		{"not for replication", "dbo.pass", assigned(7, true, "bigint", 1, true, false, false)},
		{"in memory", "dbo.pass", assigned(7, true, "bigint", 1, false, false, true)},
		{"a view", "dbo.pass", table([]string{"x"}, true, []cell{bigint(1)})},
		{"another database", "other.dbo.pass", nil},
	} {
		l := passLot()
		l.answer = func(q statement) []byte {
			if strings.Contains(q.sql, "sys.identity_columns") {
				return c.answer
			}
			return nil
		}
		_, r := openLot(t, l, func(cfg *sources.Config) { cfg.Table = c.table })
		tell(c.what, r.Class().Why)
	}
	l := passLot()
	l.columns[0] = catalogRow("rv", "timestamp", 8, 0, 0, "", 0)
	cfg := config(newStub(t, l.reply), "")
	cfg.Key, cfg.Cursor = []string{"rv"}, "rv"
	_, err = sources.Open(t.Context(), drivers, cfg, nil)
	tell("a rowversion as key", err)

	db, dialect, err := sqlserver.Driver().Open(t.Context(), config(newStub(t, passLot().reply), ""))
	require.NoError(t, err)
	defer db.Close()
	text := sources.Value{Kind: sources.Text, Text: "x"}
	for _, typ := range []string{"sql_variant", "xml", "text", "ntext", "image"} {
		_, err := dialect.Native(sources.Column{Type: typ}, text)
		tell("a value of "+typ, err)
	}
	_, err = dialect.Native(sources.Column{Type: "varchar(20)"}, sources.Value{Kind: sources.Bad, Text: "ab\ufffd"})
	tell("text cut in a character", err)
	_, err = dialect.Native(sources.Column{Type: "varchar(20)"}, sources.Value{Kind: sources.Bytes, Text: "\xd4"})
	tell("bytes of a text", err)
	for _, c := range [][2]string{{"datetime", "01/11/2026"}, {"datetime", "2026-11-01 10:00:00+08:00"}, {"int", "1.5"}, {"float", "x"}, {"binary(8)", "17"}} {
		_, err := dialect.Arg(sources.Column{Type: c[0], Binary: strings.HasPrefix(c[0], "binary")}, c[1])
		tell(c[1]+" for "+c[0], err)
	}

	out.WriteString("\nreading\n\n")
	for _, c := range []struct {
		number int32
		text   string
	}{
		{1222, "Lock request time out period exceeded."},
		{1205, "Transaction was deadlocked."},
		{3961, "Snapshot isolation transaction failed in database 'lot'."},
		{245, "Conversion failed when converting the varchar value 'x' to data type int."},
		{262, "SHOWPLAN permission denied in database 'lot'."},
	} {
		l := passLot()
		l.answer = failing("[dbo].[pass] WHERE ", c.number, c.text)
		_, r := openLot(t, l, nil, sources.Need{Column: "plate"})
		tell(fmt.Sprint(c.number), inSession(t, r, func(s *sources.Session) error {
			_, err := s.Page(t.Context(), sources.Range{Whole: true}, 10)
			return err
		}))
		_, err := r.Plan(t.Context(), sources.Range{}, 10)
		tell(fmt.Sprint(c.number, ", asking for the plan"), err)
	}
	golden(t, out.String())
}

// failing answers a statement with an error, and all others as the lot does.
func failing(on string, number int32, text string) func(statement) []byte {
	return func(q statement) []byte {
		if strings.Contains(q.sql, on) {
			return failure(number, text)
		}
		return nil
	}
}

func golden(t *testing.T, got string) {
	t.Helper()
	const path = "testdata/messages.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got, "see the change, and write it with -update")
}
