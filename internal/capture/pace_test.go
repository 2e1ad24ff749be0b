package capture

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

// pages is a session with so many full pages.
type pages struct {
	Session
	left int
	at   []time.Duration // when each was asked for
	from time.Time
}

func (s *pages) Page(_ context.Context, _ sources.Range, limit int) (sources.Page, error) {
	s.at = append(s.at, time.Since(s.from))
	s.left--
	return sources.Page{Rows: make([]sources.Row, limit), Full: s.left > 0}, nil
}

// A poll of many pages leaves the source alone between them, as the config says.
func TestPace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config Config
		want   []time.Duration
	}{
		"no limit":              {Config{}, []time.Duration{0, 0, 0}},
		"a pause":               {Config{PagePause: 300 * time.Millisecond}, []time.Duration{0, 300 * time.Millisecond, 600 * time.Millisecond}},
		"rows a second":         {Config{ReadLimit: 50}, []time.Duration{0, 2 * time.Second, 4 * time.Second}},
		"the longer of the two": {Config{ReadLimit: 50, PagePause: 3 * time.Second}, []time.Duration{0, 3 * time.Second, 6 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sess := &pages{left: 3, from: time.Now()}
				landed := 0
				run := &poll{Poller: &Poller{Config: c.config, PageSize: 100}, st: &State{}, sess: sess, land: func(_ context.Context, page sources.Page, _ State) error {
					landed += len(page.Rows)
					return nil
				}}
				rows, done, err := run.read(t.Context(), zone{})
				require.NoError(t, err)
				require.True(t, done)
				require.Equal(t, 300, rows)
				require.Equal(t, 300, landed)
				require.Equal(t, c.want, sess.at)
			})
		})
	}
}

// Stopping does not wait for a pause to end.
func TestPaceStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sess := &pages{left: 3, from: time.Now()}
		run := &poll{Poller: &Poller{Config: Config{PagePause: time.Hour}, PageSize: 1}, st: &State{}, sess: sess, land: func(context.Context, sources.Page, State) error { return nil }}
		_, _, err := run.read(ctx, zone{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(sess.from))
	})
}
