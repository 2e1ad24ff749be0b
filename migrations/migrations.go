// Package migrations holds the ledger's schema, one folder a database.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql
var files embed.FS

// For gives the migrations of a ledger driver; an error where it has none.
func For(driver string) (fs.FS, error) { return fs.Sub(files, driver) }
