package capture

import (
	"context"
	"errors"
	"time"

	"parkbridge/sources"
)

// Reader is what a poll needs of a source.
type Reader interface {
	// Page reads up to limit rows after a position.
	Page(ctx context.Context, after sources.Position, limit int) (sources.Page, error)
	// Highest gives the last position there is; zero where there is no row.
	Highest(ctx context.Context) (sources.Position, error)
}

// Poll reads everything above the mark, page by page, and hands each page with
// the mark it leads to over to land. The mark is what land has stored, so a
// poll may be broken off after any page. started is false for a source that
// was never read; then start says where it begins.
func Poll(ctx context.Context, r Reader, pageSize int, start string, mark sources.Position, started bool, land func(sources.Page, sources.Position) error) error {
	if !started {
		var err error
		if mark, err = Beginning(ctx, r, start); err != nil {
			return err
		}
		// "latest" is stored at once, or it would be found anew at the next run
		// and skip what came in between. Any other beginning may still be
		// corrected in the config, as long as nothing has landed.
		if start == sources.StartLatest {
			if err := land(sources.Page{}, mark); err != nil {
				return err
			}
		}
	}
	for ctx.Err() == nil {
		page, err := patient(ctx, func() (sources.Page, error) { return r.Page(ctx, mark, pageSize) })
		if err != nil {
			return err
		}
		if len(page.Rows) > 0 {
			mark = page.Rows[len(page.Rows)-1].Position
			if err := land(page, mark); err != nil {
				return err
			}
		}
		if !page.Full {
			return nil
		}
	}
	return ctx.Err()
}

// Beginning is the position that a start value means: "earliest", "latest" or a
// value of the cursor, rows at which are read too.
func Beginning(ctx context.Context, r Reader, start string) (sources.Position, error) {
	switch start {
	case sources.StartEarliest:
		return sources.Position{}, nil
	case sources.StartLatest:
		return patient(ctx, func() (sources.Position, error) { return r.Highest(ctx) })
	default:
		return sources.Position{Values: []string{start}, Inclusive: true}, nil
	}
}

// busyWaits is how long a busy database is given before it is said so.
var busyWaits = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// patient tries again while the database is busy with its own work.
func patient[T any](ctx context.Context, read func() (T, error)) (T, error) {
	for _, wait := range busyWaits {
		got, err := read()
		if !errors.Is(err, sources.ErrBusy) {
			return got, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return got, ctx.Err()
		}
	}
	return read()
}
