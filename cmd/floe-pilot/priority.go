package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Of ioprio_set. Source: linux/ioprio.h: the class for disks that nobody else uses.
const (
	ioprioProcess = 1
	ioprioIdle    = 3 << 13
)

// lowestPriority has this program, and all that it starts, run when no other wants to.
// The kernel keeps priorities by thread, and gives a new one that of its maker.
func lowestPriority() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("lowest priority: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, 19); err != nil && err != unix.ESRCH {
			return fmt.Errorf("lowest priority: %w", err)
		}
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, uintptr(id), ioprioIdle) // where the disk's scheduler knows it
	}
	return nil
}
