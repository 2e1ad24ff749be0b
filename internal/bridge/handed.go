package bridge

import (
	"context"
	"sync"
	"time"

	"parkbridge/internal/ledger"
	"parkbridge/sink"
)

// handed are records that have just landed, on their way to the conductor: it
// need not read them from the ledger again.
type handed struct {
	mu      sync.Mutex
	records []*record // in order of landing, without a gap
	spilt   bool      // some have landed since that are not here
	gone    int       // how many were taken
	taken   chan struct{}
}

const (
	// handedMost bounds what is handed over in memory; what is more is read from
	// the ledger when its turn comes.
	handedMost = 1500
	// roomFor is what a landing leaves room for, see makeRoom.
	roomFor = 1000
	// Capture lets delivery catch up as long as that takes roomLeast records in
	// each roomWindow, a thousand a second. It waits for no slower gate: what is
	// landed is safe, whatever becomes of the source.
	roomWindow = 250 * time.Millisecond
	roomLeast  = 250
)

// hand takes what a landing has written. It is called in order of landing.
// again tells that older records have become pending again.
func (d *delivery) hand(source string, in []ledger.New, fields []sink.Fields, again bool) {
	h := &d.fresh
	h.mu.Lock()
	defer h.mu.Unlock()
	if again || len(h.records)+len(in) > handedMost {
		h.spilt = true
	}
	if h.spilt {
		return
	}
	for i := range in {
		if n := &in[i]; len(n.Problems) == 0 && !n.Held {
			h.records = append(h.records, d.record(ledger.Due{
				ID: n.ID, Source: source, Hash: n.Hash, Fields: n.Fields, ParkUUID: n.ParkUUID, FlowNo: n.FlowNo, ParkingSerial: n.ParkingSerial,
			}, fields[i]))
		}
	}
}

// take gives records above an id, and tells whether there are more that were not
// handed over.
func (h *handed) take(above int64) (records []*record, spilt bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.records) > 0 && h.records[0].ID <= above {
		h.records = h.records[1:]
	}
	n := min(len(h.records), fetchPage)
	records, h.records = h.records[:n:n], h.records[n:]
	h.gone += n
	notify(h.taken)
	return records, h.spilt && n == 0
}

// restart forgets what was handed over: what lands from now on comes here, and
// what landed before is the ledger's to give.
func (h *handed) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.spilt = nil, false
}

// makeRoom lets the conductor catch up with what has landed, if it is fast.
func (d *delivery) makeRoom(ctx context.Context) {
	h := &d.fresh
	look := func() (full bool, gone int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return !h.spilt && len(h.records) > handedMost-roomFor, h.gone
	}
	full, since := look()
	if !full {
		return
	}
	window := time.NewTicker(roomWindow)
	defer window.Stop()
	for {
		select {
		case <-h.taken:
		case <-window.C:
			_, gone := look()
			if gone-since < roomLeast {
				return
			}
			since = gone
		case <-ctx.Done():
			return
		}
		if full, _ := look(); !full {
			return
		}
	}
}
