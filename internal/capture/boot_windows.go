package capture

import (
	"time"

	"golang.org/x/sys/windows"
)

// SinceBoot is the time since this machine booted, sleep included.
func SinceBoot() time.Duration { return windows.DurationSinceBoot() }
