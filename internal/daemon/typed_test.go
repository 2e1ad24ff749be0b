package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/bridge"
	"parkbridge/internal/capture"
)

// opened is a reader whose sessions are counted.
type opened struct {
	bridge.Reader
	sessions int
}

func (o *opened) Session(context.Context, bool) (capture.Session, error) {
	o.sessions++
	return nil, nil
}

// A cursor is looked at before the first read, and once a minute from then on;
// while it holds several types, nothing is read.
func TestTyped(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	looks, o := 0, &opened{}
	var wrong error
	r := &typed{Reader: o, now: func() time.Time { return now }, check: func(context.Context) error {
		looks++
		return wrong
	}}
	session := func() error {
		_, err := r.Session(t.Context(), false)
		return err
	}
	require.NoError(t, session())
	now = now.Add(59 * time.Second)
	require.NoError(t, session())
	require.Equal(t, 1, looks)
	wrong = errors.New("several types")
	now = now.Add(time.Second)
	require.ErrorIs(t, session(), wrong)
	require.ErrorIs(t, session(), wrong)
	require.Equal(t, 3, looks, "until it is mended it is looked at each time")
	require.Equal(t, 2, o.sessions)
	wrong = nil
	require.NoError(t, session())
	now = now.Add(-time.Hour)
	require.NoError(t, session())
	require.Equal(t, 5, looks)
}
