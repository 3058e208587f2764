package hardware

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// cgroupDirs returns the directories whose limits bind this process for a
// controller, own group first, up to the root of the mount: version 1 of the
// controller, and version 2. Containers hide the path above their own group;
// then the mount's root is the group.
func (m *measurement) cgroupDirs(controller string) []string {
	own := make(map[string]string) // controller, or "" for version 2 → path
	for line := range strings.SplitSeq(m.read("/proc/self/cgroup"), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			own[name] = parts[2]
		}
	}
	var dirs []string
	for _, mount := range parseMounts(m.read("/proc/self/mountinfo")) {
		at, ok := "", false
		switch mount.kind {
		case "cgroup2":
			at, ok = own[""]
		case "cgroup":
			if slices.Contains(mount.options, controller) {
				at, ok = own[controller]
			}
		}
		if !ok {
			continue
		}
		dirs = append(dirs, m.upward(mount, at)...)
	}
	return dirs
}

// upward lists the directories from the group at to the mount's own.
func (m *measurement) upward(mount mountPoint, at string) []string {
	below := at
	if mount.root != "/" {
		var inside bool
		if below, inside = strings.CutPrefix(at, mount.root); !inside {
			below = "/"
		}
	}
	below = path.Clean("/" + below)
	if _, err := fs.Stat(m.Root, strings.TrimPrefix(mount.dir+below, "/")); err != nil {
		below = "/"
	}
	var dirs []string
	for {
		dirs = append(dirs, path.Join(mount.dir, below))
		if below == "/" {
			return dirs
		}
		below = path.Dir(below)
	}
}

// mountPoint is one line of /proc/self/mountinfo.
type mountPoint struct {
	root, dir, kind string
	options         []string // of the file system, which name the version 1 controllers
}

func parseMounts(text string) []mountPoint {
	var mounts []mountPoint
	for line := range strings.SplitSeq(text, "\n") {
		// 36 35 98:0 /root /dir options [optional fields] - kind source options
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 1 {
			continue
		}
		p := mountPoint{root: unescape(left[3]), dir: unescape(left[4]), kind: right[0]}
		if len(right) > 2 {
			p.options = strings.Split(right[2], ",")
		}
		mounts = append(mounts, p)
	}
	return mounts
}

var unescaper = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// unescape undoes what the kernel does to spaces in mount paths.
func unescape(s string) string { return unescaper.Replace(s) }
