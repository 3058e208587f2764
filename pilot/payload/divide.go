package payload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// divide prepares a control group of version 2 for groups below it that have a
// controller. Version 2 lets processes be in leaves only, so the pilot moves into a
// leaf of its own, together with the script it was started by. It does so only in a
// group that holds nobody else, as that of a batch job does.
//
// The leaf stays when the pilot ends; who made the group removes it.
func divide(dir, controller string) error {
	offered, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(offered)), controller) {
		return fmt.Errorf("control group %s: it has no %s", dir, controller)
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	members, own := strings.Fields(string(b)), lineage(os.Getpid())
	for _, pid := range members {
		if !slices.Contains(own, pid) {
			return fmt.Errorf("control group %s: process %s is in it, too", dir, pid)
		}
	}
	leaf := filepath.Join(dir, "floe-pilot-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(leaf, 0o755); err != nil {
		return err
	}
	err = move(members, leaf)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
	if err != nil {
		return errors.Join(err, move(members, dir), os.Remove(leaf))
	}
	return nil
}

// move puts processes into a group, one by one as the kernel wants it.
func move(pids []string, dir string) error {
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lineage is a process and its ancestors, but for the first process of all.
func lineage(pid int) (pids []string) {
	for pid > 1 {
		pids = append(pids, strconv.Itoa(pid))
		p, ok := readProcess(pid)
		if !ok {
			break
		}
		pid = p.parent
	}
	return pids
}
