package replica

import (
	"fmt"
	"syscall"
)

// shared are file systems whose locks or syncs do not mean what bolt needs: two
// hosts could write one file, or a synced page be lost. Source: statfs(2), consul#4188.
var shared = map[uint32]string{
	0x6969:     "nfs",
	0x517b:     "smb",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x5346414f: "afs",
	0x73757245: "coda",
	0x0bd00bd0: "lustre",
	0x00c36400: "ceph",
	0x47504653: "gpfs",
	0x19830326: "beegfs",
}

// checkFileSystem refuses a directory on a network file system.
func checkFileSystem(dir string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if name, ok := shared[uint32(s.Type)]; ok {
		return fmt.Errorf("%w: %s is on %s; use a local disk", ErrFileSystem, dir, name)
	}
	return nil
}
