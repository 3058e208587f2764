package cache

import "testing"

func TestLocksThatStayOnTheNode(t *testing.T) {
	for line, want := range map[string]bool{
		"36 25 0:52 / /nfs rw,relatime shared:1 - nfs server:/x rw,vers=3,nolock,proto=tcp,local_lock=none": true,
		"36 25 0:52 / /nfs rw,relatime shared:1 - nfs server:/x rw,vers=3,proto=tcp,local_lock=flock":       true,
		"36 25 0:52 / /nfs rw,relatime shared:1 - nfs4 server:/x rw,vers=4.2,local_lock=all":                true,
		"36 25 0:52 / /nfs rw,relatime - nfs4 server:/x rw,vers=4.2,local_lock=none":                        false,
		"36 25 0:52 / /nfs rw,relatime shared:1 - nfs server:/x rw,vers=3,local_lock=posix":                 false,
		"36 25 0:52 / /lustre rw,localflock - lustre mgs:/x rw":                                             true,
		"36 25 0:52 / /lustre rw,flock - lustre mgs:/x rw,flock":                                            false,
		"36 25 0:52 / /c rw - cifs //server/x rw,nobrl":                                                     true,
		"36 25 0:53 / /other rw - nfs server:/x rw,nolock":                                                  false,
		"36 25 0:52 / /e rw - ext4 /dev/sda rw,nolock":                                                      false,
		"":                                  false,
		" - ":                               false,
		"36 25 0:52 / /nfs rw - nfs":        false,
		"36 25 0:52 / /nfs - nfs4 x nolock": false,
	} {
		if got := localLocks(line, "0:52"); got != want {
			t.Errorf("localLocks(%q) = %v, want %v", line, got, want)
		}
	}
}
