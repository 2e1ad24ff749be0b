package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"parkbridge/sources"
)

// ErrOlder is returned by Look for a ledger of an older program.
var ErrOlder = errors.New("the ledger was written by an older parkbridge; the next sync or run brings it up to date")

// Look opens the ledger there is for reading alone, beside whoever uses it: it
// makes no file, takes no lock, and changes no schema. Where there is none it
// fails with [ErrNone]; a ledger whose schema is another is refused ([ErrOlder],
// [ErrNewer]).
func Look(ctx context.Context, cfg Config, now func() time.Time) (*Ledger, error) {
	path := sources.FilePath(string(cfg.DSN))
	if err := checkFile(path); err != nil {
		return nil, fmt.Errorf("reading the ledger %s: %w", path, err)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the ledger %s: %w", path, ErrNone)
	}
	// The file itself is opened for writing, so that the last to close it tidies up
	// what a write-ahead log leaves.
	db, err := openReader(string(cfg.DSN))
	if err != nil {
		return nil, fmt.Errorf("reading the ledger %s: %w", path, err)
	}
	l := &Ledger{path: path, now: now, read: db}
	_, older, err := versions(ctx, cfg.Driver, db)
	if err == nil && older {
		err = ErrOlder
	}
	if err == nil {
		err = l.verify(ctx)
	}
	if err == nil {
		err = l.stmts.prepareRead(ctx, db)
	}
	if err != nil {
		_ = l.Close() // the first error tells more
		return nil, fmt.Errorf("reading the ledger %s: %w", path, classed(err))
	}
	return l, nil
}
