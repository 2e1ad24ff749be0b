package sources_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sources"
)

// BenchmarkPage reads a page of 1,000 rows from the middle of a table.
func BenchmarkPage(b *testing.B) {
	for _, engine := range testdb.Engines {
		b.Run(engine, func(b *testing.B) {
			lot := testdb.New(b, engine)
			lot.Exec(b, "CREATE TABLE pass (id BIGINT PRIMARY KEY, plate_no VARCHAR(20), op_time VARCHAR(20), reason VARCHAR(50))")
			lot.Exec(b, `INSERT INTO pass WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
				SELECT a.i * 1000 + b.i, '粤B12345', '2026-11-01 10:00:00', '设备异常' FROM n a CROSS JOIN n b WHERE a.i <= 5`)
			lot.Grant(b, "pass")
			r := open(b, config(lot, "pass", "id"), "plate_no", "op_time", "reason")
			sess, err := r.Session(b.Context(), false)
			require.NoError(b, err)
			defer sess.Close()
			for b.Loop() {
				page, err := sess.Page(b.Context(), sources.Range{After: sources.Position{Values: []string{"2000"}}}, 1000)
				require.NoError(b, err)
				require.Len(b, page.Rows, 1000)
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
