package bridge

import (
	"context"
	"maps"

	"parkbridge/internal/ledger"
)

// take acquires a source's lease.
func (d *delivery) take(ctx context.Context, source string) error {
	lease, err := d.b.Ledger.Acquire(ctx, source)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leases[source] = lease
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

// newRun notes the start of a run of a source whose lease is held. What is
// delivered from now on counts for it.
func (d *delivery) newRun(ctx context.Context, source string) error {
	run, err := d.b.Ledger.StartRun(ctx, source)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs[source] = run
	return nil
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

func (d *delivery) runOf(source string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[source]
}

func (d *delivery) held() (map[string]*ledger.Lease, map[string]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.leases), maps.Clone(d.runs)
}
