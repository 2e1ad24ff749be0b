package gate_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"parkbridge/sink"
	"parkbridge/sink/gate"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func setup(t *testing.T, cfg gate.Config) (*gate.Gate, func(changes ...string) sink.Reply) {
	t.Helper()
	g := gate.New(cfg)
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	sc := sink.Config{URL: s.URL, AppSecret: sink.Secret(cfg.Secret)}
	sc.Defaults()
	c, err := sink.New(sc)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return g, func(changes ...string) sink.Reply {
		fields := map[string]string{
			"park_uuid": "49f0cc52", "flow_no": "EX1", "parking_serial": "E1", "plate": "粤B12345",
			"operate_time": "2026-11-01T02:00:00Z", "operator": "张三", "reason": "设备异常",
		}
		for _, change := range changes {
			name, value, _ := strings.Cut(change, "=")
			fields[name] = value
		}
		return c.Send(t.Context(), sink.FieldsOf(fields))
	}
}

func TestRepeatsAreIgnoredPerLot(t *testing.T) {
	t.Parallel()
	var store bytes.Buffer
	g, send := setup(t, gate.Config{Secret: "s", Store: &store})
	require.Equal(t, sink.Delivered, send().Outcome)
	require.Equal(t, sink.Delivered, send("reason=again").Outcome)
	require.Equal(t, sink.Delivered, send("park_uuid=another lot").Outcome)
	require.Equal(t, gate.Stats{Calls: 3, Taken: 2, Repeats: 1}, g.Stats())
	require.Equal(t, "设备异常", g.Records()[0]["reason"], "the first one counts")

	// Started anew on its store, it still knows them.
	again := gate.New(gate.Config{Secret: "s"})
	require.NoError(t, again.Load(&store))
	require.Equal(t, 2, again.Stats().Taken)
}

func TestRequiredFieldsAndSignature(t *testing.T) {
	t.Parallel()
	g, send := setup(t, gate.Config{Secret: "s"})
	for _, f := range sink.Contract() {
		r := send(f.Name + "=")
		if !f.Required {
			require.Equal(t, sink.Delivered, r.Outcome, f.Name)
			continue
		}
		require.Equal(t, sink.Rejected, r.Outcome, f.Name)
		require.Contains(t, r.Hint, f.Name)
	}
	require.Len(t, g.Records(), 1)
	g, send = setup(t, gate.Config{Secret: "s", Mangle: func(f map[string]string) { f["plate"] = "?" }})
	require.Equal(t, sink.Refused, send().Outcome)
	require.Empty(t, g.Records())
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	g, send := setup(t, gate.Config{})
	every3, err := gate.ParseAnswer("503:every 3")
	require.NoError(t, err)
	g.Answer(every3)
	var outcomes []string
	for range 6 {
		outcomes = append(outcomes, send().Outcome.String())
	}
	require.Equal(t, []string{"delivered", "delivered", "retry", "delivered", "delivered", "retry"}, outcomes)

	g.Answer(gate.Answer{Drop: "before", Times: 1}, gate.Answer{Drop: "after", Times: 1})
	before := g.Stats().Taken
	require.Equal(t, sink.Retry, send("flow_no=EX2").Outcome)
	require.Equal(t, before, g.Stats().Taken, "dropped before it was taken")
	require.Equal(t, sink.Retry, send("flow_no=EX2").Outcome)
	require.Equal(t, before+1, g.Stats().Taken, "dropped after it was taken")
	require.Equal(t, sink.Delivered, send("flow_no=EX2").Outcome)

	for _, bad := range []string{"", "teapot", "503:often", "503:every 0", "drop", "99"} {
		_, err := gate.ParseAnswer(bad)
		require.Error(t, err, bad)
	}
}

func TestGetGivesTheCounts(t *testing.T) {
	t.Parallel()
	g := gate.New(gate.Config{})
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	var s gate.Stats
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	require.Equal(t, gate.Stats{}, s)
}
