package check

import (
	"context"
	"errors"
	"path/filepath"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// ledger looks whether the ledger can be used, or made.
func (c *Checker) ledger(ctx context.Context) {
	r := reporter{tell: c.Tell}
	path := sources.FilePath(string(c.Config.Ledger.DSN))
	l, err := ledger.Look(ctx, c.Config.Ledger, c.Now)
	there := path + " is there"
	switch {
	case err == nil:
		err = l.Close()
	case errors.Is(err, ledger.ErrNone):
		there, err = path+" is not there yet; the first sync or run makes it", nil
	case errors.Is(err, ledger.ErrOlder):
		there, err = path+" is of an older parkbridge; the next sync or run brings it up to date", nil
	}
	if err != nil {
		r.fail("ledger", Database, do("mend what the message says; sync and run do not begin without the ledger"), "%v", err)
		return
	}
	if !exists(filepath.Dir(path)) {
		r.fail("ledger", Database, do("make the folder, or name another place as ledger.dsn"), "the folder %s is not there", filepath.Dir(path))
		return
	}
	// SQLite keeps files beside the ledger, so the folder counts too.
	paths := []string{filepath.Dir(path)}
	for _, p := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		if exists(p) {
			paths = append(paths, p)
		}
	}
	for _, p := range paths {
		if may, known := sources.MayWrite(p); known && !may {
			r.fail("ledger", Database, do("run every command as the account that the ledger belongs to, or give this one the right; or name another place as ledger.dsn"),
				"this account may not write to %s", p)
			return
		}
	}
	r.ok("ledger", "%s", there)
}
