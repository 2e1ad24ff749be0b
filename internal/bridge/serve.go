package bridge

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"parkbridge/internal/ledger"
)

const (
	// lookAgain is how often a daemon looks for records whose backoff has
	// ended, or that a person has put back.
	lookAgain = 5 * time.Second
	// blockedWait is how long a blocked sink is left alone between two tries.
	blockedWait = 15 * time.Minute
	// openWait and openMost bound the pause of an open circuit, doubling.
	openWait, openMost = 5 * time.Second, 5 * time.Minute

	housekeeping = time.Hour
	// deliveryWait is how long the daemon waits after delivery has failed, such
	// as by a ledger that cannot be written.
	deliveryWait = 30 * time.Second
)

// Serve runs every source by its schedule and sends what is due, until ctx
// ends. It then stops within 10 seconds: no new rows are read, calls under way
// get a while for their answers, and what was answered is written down.
func (b *Bridge) Serve(ctx context.Context, schedules map[string]cron.Schedule) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := b.newDelivery(0)
	d.backingOff = true
	jobs := cron.New(cron.WithLogger(cronLog{b.Log}))
	for _, s := range b.Sources {
		b.claim(ctx, s, d)
		skip := cron.SkipIfStillRunning(cronLog{b.Log.With("source", s.Name)})
		jobs.Schedule(schedules[s.Name], skip(cron.FuncJob(func() { b.tick(ctx, s, d) })))
	}
	jobs.Start()
	renewing := d.renew(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { b.keepHouse(ctx) })
	err := d.serveOn(ctx)
	cancel()
	<-jobs.Stop().Done()
	keeping.Wait()
	renewing()
	work := context.WithoutCancel(ctx)
	for _, s := range b.Sources {
		err = errors.Join(err, d.settleRuns(work, s.Name), d.giveBack(work, s.Name))
	}
	return err
}

// claim takes the lease of a source if it can, so that its records are sent
// from the start.
func (b *Bridge) claim(ctx context.Context, s *Source, d *delivery) bool {
	if d.leaseOf(s.Name) != nil {
		return true
	}
	err := d.take(context.WithoutCancel(ctx), s.Name)
	var held *ledger.HeldError
	switch {
	case errors.As(err, &held):
		if d.tell(s.Name, held.Holder) {
			b.Log.Warn("another run holds the source; waiting for it", "source", s.Name, "holder", held.Holder)
		}
	case err != nil:
		b.Log.Error("taking a source", "source", s.Name, "error", err)
	}
	return err == nil
}

// tick is one scheduled run of a source.
func (b *Bridge) tick(ctx context.Context, s *Source, d *delivery) {
	if ctx.Err() != nil || !b.claim(ctx, s, d) {
		return
	}
	work := context.WithoutCancel(ctx)
	d.startRun(s.Name)
	failure := b.captureOnce(ctx, s, d)
	run, err := d.endRun(work, s.Name, failure)
	log := b.Log.With("source", s.Name)
	switch {
	case failure != nil || err != nil:
		log.Error("a run failed", "error", errors.Join(failure, err))
	case run.Landed > 0:
		log.Info("a run landed rows", "read", run.Read, "landed", run.Landed, "invalid", run.Invalid)
	default:
		log.Debug("a run found nothing new", "read", run.Read)
	}
}

func (b *Bridge) keepHouse(ctx context.Context) {
	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()
	for {
		wiped, err := b.forget(ctx)
		if err != nil && ctx.Err() == nil {
			b.Log.Error("wiping old records", "error", err)
		}
		if wiped > 0 {
			b.Log.Info("wiped the fields of delivered records past retention", "records", wiped)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// serveOn serves until ctx ends. What fails for the moment is tried again; a
// lost lease or a damaged ledger is not.
func (d *delivery) serveOn(ctx context.Context) error {
	for {
		err := d.serve(ctx)
		if err == nil || ctx.Err() != nil || !errors.Is(err, ledger.ErrTransient) {
			return err
		}
		d.log.Error("delivery failed; going on in a while", "error", err, "wait", deliveryWait)
		timer := time.NewTimer(deliveryWait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		d.mode, d.failures, d.suspects = sendingAll, 0, nil
	}
}

// serve sends what is due until ctx ends.
func (d *delivery) serve(ctx context.Context) error {
	stop, err := d.start(ctx)
	if err != nil {
		return err
	}
	if err = d.newSweep(ctx); err == nil {
		err = d.conduct(ctx)
	}
	return errors.Join(err, stop())
}

func (d *delivery) conduct(ctx context.Context) error {
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	resume := time.NewTimer(openMost) // ends a pause
	resume.Stop()
	defer resume.Stop()
	pause := openWait
	paused := d.waitUntil().After(d.b.Now())
	if paused {
		d.mode = stopped
		resume.Reset(d.waitUntil().Sub(d.b.Now()))
	} else if d.sink.State != ledger.SinkOK {
		d.mode = probing
	}
	for {
		if d.sweepWish && d.sending == 0 {
			if err := d.lookAround(ctx, &paused); err != nil {
				return err
			}
		}
		if err := d.dispatch(ctx); err != nil {
			return err
		}
		if d.sending == 0 {
			d.settler.hurry()
		}
		switch {
		case d.mode == stopped && !paused && d.sending == 0:
			paused = true
			// What was fetched may be ended or mended by a person meanwhile.
			if !d.settler.flush() {
				return nil // stop gives the error
			}
			if err := d.newSweep(ctx); err != nil {
				return err
			}
			wait := d.pauseFor(&pause)
			d.log.Debug("pausing", "for", wait)
			resume.Reset(wait)
		case d.mode == sendingAll:
			paused, pause = false, openWait
		}
		select {
		case a := <-d.answers:
			d.settleAnswers(a)
		case <-d.woken:
			d.dry = false
		case <-d.settler.written:
		case <-d.paced.C:
		case <-resume.C:
			if paused {
				paused = false
				d.mode = probing
			}
		case <-look.C:
			d.sweepWish = true
		case <-ctx.Done():
			return nil
		case <-d.settler.failed:
			return nil // stop gives the error
		}
	}
}

// pauseFor is how long to leave the gate alone.
func (d *delivery) pauseFor(pause *time.Duration) time.Duration {
	asked := d.waitUntil().Sub(d.b.Now())
	if d.sink.State == ledger.SinkBlocked {
		return max(blockedWait, asked)
	}
	if asked > 0 {
		return asked
	}
	wait := *pause/2 + rand.N(*pause/2+1)
	*pause = min(*pause*2, openMost)
	return wait
}

// lookAround begins a new sweep where the last one is through, and sees
// whether a person has resumed the sink meanwhile.
func (d *delivery) lookAround(ctx context.Context, paused *bool) error {
	if !d.settler.flush() {
		return nil // stop gives the error
	}
	if d.mode == stopped {
		s, err := d.b.Ledger.Sink(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		if s.State == ledger.SinkOK && d.sink.State != ledger.SinkOK {
			d.log.Info("the sink was resumed")
			d.sink, d.mode, d.failures, *paused = s, sendingAll, 0, false
		}
	}
	if d.admit() {
		d.settler.addState(d.sink)
	}
	if len(d.queue) == 0 && len(d.again) == 0 && len(d.suspects) == 0 {
		return d.newSweep(ctx)
	}
	return nil
}

// cronLog tells what the scheduler does: a skipped run is worth a warning.
type cronLog struct{ log *slog.Logger }

func (l cronLog) Info(msg string, keys ...any) {
	if msg == "skip" {
		l.log.Warn("the last run is still going; this one is skipped")
		return
	}
	l.log.Debug("scheduler: "+msg, keys...) //nolint:sloglint // the library's own words
}

func (l cronLog) Error(err error, msg string, keys ...any) {
	l.log.Error("scheduler: "+msg, append(keys, "error", err)...) //nolint:sloglint // the library's own words
}
