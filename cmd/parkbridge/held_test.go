package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sink/gate"
)

// waits holds rows back until their reason is filled in.
func (b *booth) waits(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.dir, "config.yaml"))
	require.NoError(t, err)
	b.write(t, strings.Replace(string(raw), "    mapping:\n", "    ready: '(reason ?? \"\") != \"\"'\n    mapping:\n", 1))
}

// What a person sees of rows that are not ready, and what they can do.
func TestHeldRows(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBooth(t, engine)
			b.waits(t)
			b.insert(t, 5)
			b.lot.Exec(t, "UPDATE abnormal_pass SET reason = NULL WHERE id <> 5")

			out := b.run(t, 0, "preview", "--source", "north-gate", "--key", "1")
			require.Contains(t, out, "\nit is not ready; it would be held until this is true\n  (reason ?? \"\") != \"\"\n")
			require.Contains(t, out, "  reason               未填写", "and what it would send as it is")
			require.False(t, b.preview(t, "--source", "north-gate", "--key", "1").Rows[0].Ready)
			require.True(t, b.preview(t, "--source", "north-gate", "--key", "5").Rows[0].Ready)

			b.run(t, 0, "sync") // held rows are no failure
			require.Equal(t, gate.Stats{Calls: 1, Taken: 1}, b.gate.Stats())
			require.Contains(t, b.run(t, 0, "status"), "north-gate: held until they are ready: 4 (see ready); parkbridge records list --source north-gate --state held\n")
			require.Equal(t, map[string]int{"held": 4, "pending": 0, "delivered": 1, "rejected": 0, "invalid": 0, "dismissed": 0}, b.status(t).Sources[0].Counts)
			var listed struct{ Records []recordJSON }
			require.NoError(t, json.Unmarshal([]byte(b.run(t, 0, "records", "list", "--state", "held", "--json")), &listed))
			require.Len(t, listed.Records, 4)
			require.Equal(t, "held", listed.Records[3].State)
			require.Nil(t, listed.Records[3].FlowNo)
			require.Contains(t, b.run(t, 0, "records", "list", "--state", "held"), "its row is not ready yet")
			shown := b.run(t, 0, "records", "show", "--source", "north-gate", "--key", "1")
			require.Contains(t, shown, "  not ready yet: it is read again at each run until the source's ready is true, and is not kept before\n")
			require.NotContains(t, shown, "wiped")

			id := fmt.Sprint(listed.Records[3].ID)
			require.Contains(t, b.run(t, 0, "records", "retry", id), "record "+id+" is held: its row is not ready yet; --force sends it as it is\n")
			require.Contains(t, b.run(t, 0, "records", "retry", "--force", id), "record "+id+" is pending; the next run sends it\n")
			b.run(t, 0, "records", "dismiss", "--source", "north-gate", "--key", "2", "--note", "a test of the barrier")
			b.lot.Exec(t, "DELETE FROM abnormal_pass WHERE id = 3")
			b.lot.Exec(t, "UPDATE abnormal_pass SET reason = '抬杆放行' WHERE id = 4")
			b.run(t, 3, "sync") // one is gone
			require.Equal(t, map[string]int{"held": 0, "pending": 0, "delivered": 3, "rejected": 0, "invalid": 1, "dismissed": 1}, b.status(t).Sources[0].Counts)
			require.NotContains(t, b.run(t, 0, "status"), "held until")
			require.Contains(t, b.run(t, 0, "records", "show", "--source", "north-gate", "--key", "3"), "the row is no longer in the source, and was not ready before")
			require.Contains(t, b.run(t, 3, "records", "retry", "--source", "north-gate", "--key", "3", "--force"), "is invalid:")
			require.Equal(t, gate.Stats{Calls: 3, Taken: 3}, b.gate.Stats())
			b.run(t, 0, "sync")
		})
	}
}
