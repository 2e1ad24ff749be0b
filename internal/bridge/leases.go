package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"parkbridge/internal/ledger"
)

// take acquires a source's lease.
func (d *delivery) take(ctx context.Context, source string) error {
	lease, err := d.b.acquire(ctx, source)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leases[source] = lease
	delete(d.lost, source)
	return nil
}

// acquire takes a source's lease, and tells what the last holder has left.
func (b *Bridge) acquire(ctx context.Context, source string) (*ledger.Lease, error) {
	lease, err := b.Ledger.Acquire(ctx, source)
	if err == nil && lease.Recovered > 0 {
		b.Log.Info("the last run was killed; what the gate had accepted until then is written down now", "source", source, "records", lease.Recovered)
	}
	return lease, err
}

// settleNoted writes down what the gate had accepted when writing failed the last time.
func (d *delivery) settleNoted(ctx context.Context) error {
	for source, lease := range d.held() {
		n, err := lease.Recover(context.WithoutCancel(ctx))
		if err != nil && !d.loses(err) {
			return err
		}
		if n > 0 {
			d.log.Info("what the gate had accepted when the ledger could not be written is written down now", "source", source, "records", n)
		}
	}
	return nil
}

// tell reports whether a holder of a source is one not told of yet.
func (d *delivery) tell(source, holder string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	news := d.told[source] != holder
	d.told[source] = holder
	return news
}

// lose drops the lease that another run has taken over: nothing more is landed,
// sent or settled for its source.
func (d *delivery) lose(lost *ledger.LostError) {
	d.mu.Lock()
	lease := d.leases[lost.Source]
	delete(d.leases, lost.Source)
	d.lost[lost.Source] = lost
	d.mu.Unlock()
	if lease == nil {
		return
	}
	d.log.Error("another run has taken over the source; reading and sending of it end here", "source", lost.Source)
	if err := lease.Release(context.Background()); err != nil { // only the lock beside the ledger is left of it
		d.log.Debug("giving a lost lease's lock back", "source", lost.Source, "error", err)
	}
}

// loses drops the lease that an error says is lost, and reports whether it does.
func (d *delivery) loses(err error) bool {
	lost, ok := errors.AsType[*ledger.LostError](err)
	if ok {
		d.lose(lost)
	}
	return ok
}

// lostLease is the loss of a source's lease; nil where it was not lost.
func (d *delivery) lostLease(source string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if lost := d.lost[source]; lost != nil {
		return lost
	}
	return nil
}

// renewEvery is well within the time that a lease lasts by itself.
const renewEvery = ledger.LeaseLasts / 3

// renew keeps the leases that are held, until the returned function is called.
func (d *delivery) renew(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(renewEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := d.b.Ledger.Renew(ctx, slices.Collect(maps.Values(d.held()))...)
			if !d.loses(err) && err != nil && ctx.Err() == nil {
				d.log.Warn("the leases could not be renewed; trying again", "error", err)
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (d *delivery) giveBack(ctx context.Context, source string) error {
	d.mu.Lock()
	lease := d.leases[source]
	delete(d.leases, source)
	d.mu.Unlock()
	if lease == nil {
		return nil
	}
	return lease.Release(ctx)
}

func (d *delivery) leaseOf(source string) *ledger.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leases[source]
}

// held gives the leases that are held.
func (d *delivery) held() map[string]*ledger.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.leases)
}
