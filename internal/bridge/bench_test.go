package bridge_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/bridge"
	"parkbridge/sink"
)

// BenchmarkSync carries rows from an SQLite lot through the ledger to a gate
// that answers at once, 32 calls at a time. The bare loop beside it posts the
// same records from memory, so that the ratio of the two is what the bridge
// costs; it shares the processors with the gate as the bridge does.
func BenchmarkSync(b *testing.B) {
	const rows = 10000
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 4096)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				break
			}
		}
		_, _ = w.Write([]byte(`{"code":"1001","message":"OK","seqno":"abc6c253b93cc940"}`))
	})
	b.Run("bridge", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			r := newRig(b, func(s *bridge.Settings) { s.Concurrency = 32 })
			r.serve(answer)
			r.Sources[0].Poller.PageSize = 1000
			for range rows / 500 {
				r.insert(b, 500)
			}
			b.StartTimer()
			report := r.Sync(b.Context(), 0)
			b.StopTimer()
			require.Equal(b, rows, report.Sources[0].Run.Delivered)
			b.StartTimer()
		}
		b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("bare loop", func(b *testing.B) {
		server := httptest.NewServer(answer)
		defer server.Close()
		c, err := sink.New(sink.Config{URL: server.URL, AppSecret: secret, Concurrency: 32})
		require.NoError(b, err)
		defer c.Close()
		fields := sink.FieldsOf(map[string]string{
			"park_uuid": "P", "flow_no": "EX1", "parking_serial": "S1", "plate": "粤B00001", "operate_time": "2026-11-01T10:00:00Z",
			"operator": "张三", "reason": "张三",
		})
		b.SetParallelism(32 / 2)

		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if c.Send(b.Context(), fields).Outcome != sink.Delivered {
					b.Error("not delivered")
				}
			}
		})

		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
