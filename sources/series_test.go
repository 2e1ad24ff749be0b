package sources_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/testdb"
	"parkbridge/sources"
)

func TestSeriesMembers(t *testing.T) {
	t.Parallel()
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	require.NoError(t, err)
	now := time.Date(2026, 12, 31, 16, 0, 0, 0, time.UTC) // midnight at the lot
	for _, c := range []struct {
		pattern, wrap string
		names         []string
		want          string // "table period", in order; | before those of a time to come
	}{
		{"out_{yyyyMM}", "", []string{"out_202701", "out_202612", "out_202613", "out_202702", "out_2026", "xout_202612", "out_202612x"}, "out_202612 202612, out_202701 202701, | out_202702 202702"},
		{"out{yyyy}", "", []string{"out2027", "out2026", "out202601"}, "out2026 2026, out2027 2027"},
		{"out_{yyyy}_{M}", "", []string{"out_2026_1", "out_2026_12", "out_2026_01"}, "out_2026_1 202601, out_2026_12 202612"},
		{"dbo.Out{yyyyMM}", "", []string{"out202612", "OUT202701"}, "dbo.out202612 202612, dbo.OUT202701 202701"},
		{"Out{yyyyMM}", "", []string{"out202612", "Out202612", "OUT202612"}, "Out202612 202612"},
		{"OutList{MM}", "year", []string{"OutList01", "OutList02", "OutList12", "OutList13", "OutList1"}, "OutList02 202602, OutList12 202612, OutList01 202701"},
		{"L{M}月", "year", []string{"L1月", "L12月", "L01月"}, "L12月 202612, L1月 202701"},
	} {
		s, err := sources.ParseSeries(c.pattern, c.wrap)
		require.NoError(t, err)
		got := ""
		current := s.At(now, shanghai)
		members := s.Members(c.names, now, shanghai)
		upto := sources.Upto(members, current)
		for i, m := range members {
			if got != "" {
				got += ", "
			}
			if i == len(upto) {
				got += "| "
			}
			got += m.Table + " " + m.Period.String()
			p, err := sources.ParsePeriod(m.Period.String())
			require.NoError(t, err)
			require.Equal(t, m.Period, p)
		}
		require.Equal(t, c.want, got, c.pattern)
	}
	s, err := sources.ParseSeries("out_{yyyyMM}", "")
	require.NoError(t, err)
	p := s.At(now, shanghai)
	require.Equal(t, "out_202701", s.Table(p))
	require.True(t, now.Equal(p.Begin(shanghai)))
	require.Equal(t, "2027-02-01", p.End(shanghai).Format(time.DateOnly))
	_, err = sources.ParsePeriod("20261")
	require.Error(t, err)
}

// The tables of a series share their connections, and each has evidence of its own.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, engine := range testdb.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			lot := testdb.New(t, engine)
			for _, table := range []string{"out_202611", "out_202612", "other"} {
				lot.Exec(t, "CREATE TABLE "+table+" (id "+lot.Type("INTEGER", "serial", "INT AUTO_INCREMENT")+" PRIMARY KEY, plate VARCHAR(9))")
				lot.Grant(t, table)
				lot.Exec(t, "INSERT INTO "+table+" (plate) VALUES ('"+table[3:]+"')")
			}
			cfg := sources.Config{Name: "s", Driver: lot.Driver, DSN: sources.Secret(lot.DSN), Table: "out_{yyyyMM}", Key: []string{"id"}, Start: "latest"}
			cfg.Defaults()
			tables, err := sources.OpenTables(t.Context(), drivers, cfg, []sources.Need{{Column: "plate"}})
			require.NoError(t, err)
			listing, err := tables.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"out_202611", "out_202612"}, listing.Names)
			require.WithinDuration(t, time.Now(), listing.Now, time.Minute)
			for range 2 {
				for _, name := range listing.Names {
					r, err := tables.Open(t.Context(), name)
					require.NoError(t, err)
					require.True(t, r.Class().Server)
					s, err := r.Session(t.Context(), false)
					require.NoError(t, err)
					page, err := s.Page(t.Context(), sources.Range{}, 10)
					require.NoError(t, err)
					require.Equal(t, name[3:], page.Rows[0].Values[0].Text)
					require.NoError(t, s.Close())
					require.NoError(t, r.Close())
				}
			}
			lot.Exec(t, "DROP TABLE out_202611")
			_, err = tables.Open(t.Context(), "out_202611")
			require.ErrorContains(t, err, "out_202611 is not there")
			lot.Exec(t, "DROP TABLE out_202612")
			_, err = tables.List(t.Context())
			require.ErrorContains(t, err, "no table fits out_{yyyyMM}")
			require.NoError(t, tables.Close())
		})
	}
}
