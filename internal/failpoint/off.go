//go:build !failpoint

// Package failpoint ends the process at named places, to prove that nothing is
// lost wherever that happens. In a program built without the tag failpoint it
// does nothing.
package failpoint

// Hit is such a place.
func Hit(string) {}
