package capture_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/internal/capture"
	"parkbridge/sources"
)

// A row that an engine leaves out of a page because another session holds it
// locked need not belong to any transaction that was looked at: that one may
// have begun a moment ago, with an update of a row that is there for good.
func TestLockedRowsHoldTheFloor(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		late := f.txn()
		late(insertOne)
		f.insert(2)
		require.Equal(t, []string{"2", "3"}, f.poll())
		f.pass(3 * time.Second)
		f.poll() // the list holds the transaction
		late("COMMIT")
		f.pass(3 * time.Second)
		f.locked = only("1") // by an update, in a transaction that is in no list
		require.Empty(t, f.poll())
		require.Equal(t, "rows that another session holds locked", f.state.Seen.HeldBy)
		f.pass(3 * time.Second)
		require.Empty(t, f.poll())
		f.locked = nil
		f.pass(3 * time.Second)
		require.Equal(t, []string{"1"}, f.poll())
		f.settled()
		require.Empty(t, f.state.Seen.HeldBy)
	})
}

// The same while history is read: below where the mark was when its end had been
// seen for long enough, and above.
func TestLockedRowsOfHistory(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"120", "340"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			concurrent(t, func(t *testing.T, f *follower) {
				f.insert(350)
				f.locked = only(key)
				f.beforePage = func(n int) {
					if n == 3 {
						f.pass(5 * time.Second) // so that the floor follows from here on
					}
				}
				require.Len(t, f.poll(), 349)
				f.beforePage = nil
				f.pass(3 * time.Second)
				f.poll()
				require.NotContains(t, f.landed, key)
				f.locked = nil
				f.settled()
				require.Contains(t, f.landed, key)
			})
		})
	}
}

// A range that is set aside stays so, where its last read left a row out.
func TestLockedRowsOfAParkedRange(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		f.poller.Config.RereadLimit = 5
		late := f.txn()
		late(insertOne)
		f.insert(20)
		f.poll()
		f.pass(3 * time.Second)
		f.poll()
		f.pass(3 * time.Second)
		f.poll()
		require.NotNil(t, f.state.Journal.Parked)
		late("COMMIT")
		f.locked = only("1")
		f.pass(time.Hour)
		f.poll()
		require.NotNil(t, f.state.Journal.Parked)
		f.locked = nil
		f.pass(3 * time.Second)
		require.Equal(t, []string{"1"}, f.poll())
		require.Nil(t, f.state.Journal.Parked)
	})
}

// A locked row is not gone: neither is the table taken for another one, nor
// does the mark step back.
func TestLockedRowsAreNotGone(t *testing.T) {
	t.Parallel()
	f := follow(t, "sqlite")
	f.insert(30)
	f.poll()
	mark := f.state.Mark
	for _, first := range []int{30, 5} { // the newest alone, and more than may be deleted
		f.locked = func(key string) bool {
			n, err := strconv.Atoi(key)
			return err == nil && n >= first
		}
		f.poller = &capture.Poller{Config: f.poller.Config, PageSize: f.poller.PageSize, Start: f.poller.Start, Boot: f.poller.Boot} // another process
		for range 3 {
			f.poll()
			f.pass(2 * time.Minute)
			require.Equal(t, mark, f.state.Mark)
		}
	}
	f.locked = nil
	f.insert(1)
	require.Equal(t, []string{"31"}, f.poll())
}

func only(key string) func(string) bool { return func(k string) bool { return k == key } }

// Where the server knows the lowest value that is in use, no list is needed: the
// floor goes to the highest mark below it that was noted, with a read after the
// look.
func TestClearMovesTheFloor(t *testing.T) {
	t.Parallel()
	concurrent(t, func(t *testing.T, f *follower) {
		oldest := 1 << 30
		f.afterEvidence = func(e *sources.Evidence) {
			e.Open, e.InDoubt = nil, nil
			e.Clear = func(p sources.Position) bool {
				n, err := strconv.Atoi(p.Values[0])
				require.NoError(f.t, err)
				return n < oldest
			}
			if oldest < 1<<30 {
				e.Open = []sources.Txn{{ID: strconv.Itoa(oldest), Who: "who took it"}}
			}
		}
		f.insert(2)
		f.poll()
		f.poll()
		require.Equal(t, []string{"2"}, f.state.Floor.Values, "no list has to age")
		late := f.txn()
		late(insertOne)
		oldest = 3
		f.insert(1)
		require.Equal(t, []string{"4"}, f.poll())
		for range 3 {
			f.pass(3 * time.Second)
			f.poll()
			require.Equal(t, []string{"2"}, f.state.Floor.Values)
		}
		require.Equal(t, "who took it", f.state.Seen.HeldBy)
		late("COMMIT")
		require.Equal(t, []string{"3"}, f.poll())
		oldest = 1 << 30
		f.poll()
		require.Equal(t, []string{"4"}, f.state.Floor.Values)
		require.Empty(t, f.poll())
		require.Empty(t, f.state.Seen.HeldBy)
	})
}
