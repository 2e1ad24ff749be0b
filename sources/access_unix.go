//go:build unix

package sources

import "golang.org/x/sys/unix"

// MayWrite reports whether this account may write to a file, or make files in a
// folder. Nothing is opened to find out; known is false where that cannot be
// told.
func MayWrite(path string) (may, known bool) { return unix.Access(path, unix.W_OK) == nil, true }
