package capture

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot is the time since this machine booted, sleep included.
func SinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(started)
	}
	return time.Duration(t.Nano())
}

// started is when this process did, for a kernel without such a clock.
var started = time.Now()
