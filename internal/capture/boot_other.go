//go:build !linux && !windows

package capture

import "time"

// SinceBoot is the time since this process began: less than since the boot, so
// that nothing is taken for older than it is.
func SinceBoot() time.Duration { return time.Since(started) }

var started = time.Now()
