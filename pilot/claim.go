package pilot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// claim is what one pilot of this node offers. The pilots of a user keep theirs in one
// directory, a file each, which its pilot holds a lock on for as long as it lives: what
// nobody holds has lapsed. They are written and counted under the lock of one more file.
type claim struct {
	PID    int               `json:"pid"`
	CPUs   []int             `json:"cpus"` // that it may run on; those of Cores are among them
	Cores  int               `json:"cores"`
	Memory protocol.ByteSize `json:"memory"`
	Disk   protocol.ByteSize `json:"disk"`
	Device uint64            `json:"device"` // of the scratch directory's file system
	GPUs   []string          `json:"gpus,omitempty"`
}

// claimLock is the file under whose lock claims are made.
const claimLock = "lock"

// ClaimDir is where the pilots of this user on this node keep their claims: in memory,
// where there is a place for it, so that they go with the node's boot.
func ClaimDir() string {
	name := fmt.Sprintf("floe-claims-%d", os.Getuid())
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return filepath.Join("/dev/shm", name)
	}
	return filepath.Join(os.TempDir(), name)
}

// stake lowers an offer to what other pilots leave of it, and claims the rest. What the
// site granted, in limit and cards, is taken as it is: whoever grants has counted. Where
// pilots cannot run on the same cores, each has a slot of its own, and they share cards
// alone. The file stays locked until it is closed.
func stake(dir string, own claim, offer *protocol.Resources, limit protocol.Resources, granted bool) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// In a directory that anybody may write to, it might be somebody else's.
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		return nil, fmt.Errorf("claims: %s is not a directory of this user", dir)
	}
	lock, err := os.OpenFile(filepath.Join(dir, claimLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	others, err := readClaims(dir)
	if err != nil {
		return nil, err
	}
	before := offer.Cores
	leave(others, own, offer, limit, granted)
	if offer.Cores < 1 && before > 0 {
		return nil, fmt.Errorf("%w: other pilots of this user have claimed its cores: %s", ErrNode, claimants(others))
	}
	own.PID, own.Cores, own.Memory, own.Disk = os.Getpid(), offer.Cores, offer.Memory, offer.Disk
	for _, g := range offer.GPUs {
		own.GPUs = append(own.GPUs, g.ID)
	}
	text, err := json.Marshal(&own)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "pilot-")
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		_, err = file.Write(text)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claims: %w", err), file.Close(), os.Remove(file.Name()))
	}
	return file, nil
}

// readClaims reads the claims of pilots that live, and removes the others.
func readClaims(dir string) (claims []claim, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "pilot-*"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			continue // its pilot has just left
		}
		if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.Remove(path)
		} else {
			var c claim
			// One that cannot be read was written by a pilot of another version, or not wholly.
			if json.NewDecoder(file).Decode(&c) == nil {
				claims = append(claims, c)
			}
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("claims: %w", err)
		}
	}
	return claims, nil
}

// leave lowers an offer to what others leave.
func leave(others []claim, own claim, offer *protocol.Resources, limit protocol.Resources, granted bool) {
	cores, memory, disk := len(own.CPUs), offer.Memory, offer.Disk
	beside := false
	for _, o := range others {
		if !granted {
			offer.GPUs = slices.DeleteFunc(offer.GPUs, func(g protocol.GPU) bool { return slices.Contains(o.GPUs, g.ID) })
		}
		common := 0
		for _, cpu := range own.CPUs {
			if slices.Contains(o.CPUs, cpu) {
				common++
			}
		}
		if common == 0 {
			continue
		}
		beside = true
		cores -= min(common, o.Cores)
		memory -= o.Memory
		if o.Device == own.Device {
			disk -= o.Disk
		}
	}
	if !beside {
		return
	}
	if limit.Cores == 0 {
		offer.Cores = max(0, min(offer.Cores, cores))
	}
	// The first pilot knew of no other and has claimed all: nobody is left with less
	// than goes with its cores.
	part := func(all protocol.ByteSize) protocol.ByteSize {
		return all / protocol.ByteSize(max(1, len(own.CPUs))) * protocol.ByteSize(offer.Cores)
	}
	if limit.Memory == 0 {
		offer.Memory = min(offer.Memory, max(memory, part(offer.Memory)))
	}
	if limit.Disk == 0 {
		offer.Disk = min(offer.Disk, max(disk, part(offer.Disk)))
	}
}

func claimants(claims []claim) string {
	var out []string
	for _, c := range claims {
		out = append(out, fmt.Sprintf("process %d has %d", c.PID, c.Cores))
	}
	return strings.Join(out, ", ")
}

// slot is what a claim says of the place that a pilot runs in.
func slot(scratch string) claim {
	var c claim
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil {
		for cpu := range len(set) * 64 {
			if set.IsSet(cpu) {
				c.CPUs = append(c.CPUs, cpu)
			}
		}
	}
	var st unix.Stat_t
	if unix.Stat(scratch, &st) == nil {
		c.Device = uint64(st.Dev) //nolint:unconvert // not on every system
	}
	return c
}
