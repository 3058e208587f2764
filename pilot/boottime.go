package pilot

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since the machine was booted, with the time it was
// suspended: a fence must count that, and Go's monotonic clock does not.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // not on a kernel that floe runs on
	}
	return time.Duration(t.Nano())
}
