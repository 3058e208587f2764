package payload

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asDivider has the test binary divide the control group that it is started in.
const asDivider = "PAYLOAD_TEST_DIVIDE"

func beADivider(dir, controller string) error {
	if err := divide(dir, controller); err != nil {
		return err
	}
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		return err
	}
	defer os.Remove(below)
	files, err := filepath.Glob(filepath.Join(below, controller+".*"))
	own, _ := os.ReadFile("/proc/self/cgroup")
	fmt.Printf("%d files of the controller; %s", len(files), own)
	return err
}

func TestDivide(t *testing.T) {
	root, controller := "", ""
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); err == nil && len(strings.Fields(string(b))) > 0 {
			root, controller = dir, strings.Fields(string(b))[0]
		}
	}
	if root == "" {
		t.Skip("no control groups of version 2 that hand a controller down")
	}
	for _, x := range []struct {
		promise, want string
		company       bool
		controller    string
	}{
		{"a group that the pilot is alone in", "/floe-pilot-", false, controller},
		{"a group with others in it is left alone", "is in it, too", true, controller},
		{"a controller that is not there", "it has no nonsense", false, "nonsense"},
	} {
		t.Run(x.promise, func(t *testing.T) {
			dir, err := os.MkdirTemp(root, "floe-test-")
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() {
				for _, sub := range []string{"floe-pilot-*", "."} {
					found, _ := filepath.Glob(filepath.Join(dir, sub))
					for _, d := range found {
						if err := os.Remove(d); err != nil {
							t.Error(err)
						}
					}
				}
			})
			group, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer group.Close()
			attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
			if x.company {
				other := exec.Command("/bin/sleep", "60")
				other.SysProcAttr = attr
				if err := other.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _, _ = other.Process.Kill(), other.Wait() }()
			}
			c := exec.Command("/proc/self/exe")
			c.Env, c.SysProcAttr = []string{asDivider + "=" + dir + "," + x.controller}, attr
			out, err := c.CombinedOutput()
			if !strings.Contains(string(out), x.want) || strings.HasPrefix(string(out), "0 files") {
				t.Errorf("divide: %v, %s; want %q", err, out, x.want)
			}
		})
	}
}
