package hardware

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"time"

	"floe/protocol"
)

// repositories returns the CVMFS repositories that answer in time, of those asked
// for, configured on the node, or mounted. One that is mounted only when it is
// looked at is in no list of mounts.
func (m *measurement) repositories(ctx context.Context, names []string) []string {
	names = append(names, m.configuredRepositories()...)
	for _, mount := range parseMounts(m.read("/proc/self/mountinfo")) {
		if name, ok := strings.CutPrefix(mount.dir, "/cvmfs/"); ok && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return m.answering(ctx, names)
}

// Silent are those of the repositories that do not answer, with what is wrong: mounts
// may come to hang while a pilot runs.
func Silent(ctx context.Context, o Options, names []string) map[string]string {
	m := &measurement{Options: o}
	m.fill()
	good := m.answering(ctx, names)
	silent := make(map[string]string)
	for _, name := range names {
		if !slices.Contains(good, name) {
			silent[name] = "cvmfs " + name + ": it is no repository's name"
		}
	}
	for _, problem := range m.report.Problems {
		for name := range silent {
			if strings.HasPrefix(problem, "cvmfs "+name+":") {
				silent[name] = problem
			}
		}
	}
	return silent
}

// answering returns those of the repositories that answer in time.
func (m *measurement) answering(ctx context.Context, names []string) []string {
	type answer struct {
		name string
		err  error
	}
	// A hung mount keeps its goroutine for ever, in a system call that nothing
	// ends: one for each repository of the site's configuration.
	answers := make(chan answer, len(names))
	asked := make(map[string]bool)
	for _, name := range names {
		if asked[name] || protocol.CheckName("repository", name) != nil {
			continue
		}
		asked[name] = true
		go func() { answers <- answer{name, m.Kernel.Stat("/cvmfs/" + name)} }()
	}
	deadline, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var good []string
	started := time.Now()
	for len(asked) > 0 {
		select {
		case a := <-answers:
			delete(asked, a.name)
			if a.err != nil {
				m.problem("cvmfs %s: %v", a.name, a.err)
				continue
			}
			m.find("cvmfs", a.name, "answered")
			good = append(good, a.name)
		case <-deadline.Done():
			late := make([]string, 0, len(asked))
			for name := range asked {
				late = append(late, name)
			}
			slices.Sort(late)
			for _, name := range late {
				m.problem("cvmfs %s: no answer in %v: the mount hangs", name, time.Since(started).Round(time.Second))
			}
			asked = nil
		}
	}
	slices.Sort(good)
	return good
}

// configuredRepositories reads which repositories the node's administrator lists.
// Source: CVMFS documentation, client configuration; later files win.
func (m *measurement) configuredRepositories() []string {
	files, err := fs.Glob(m.Root, "etc/cvmfs/default.d/*.conf")
	if err != nil {
		return nil
	}
	var names []string
	for _, file := range append(files, "etc/cvmfs/default.local") {
		for line := range strings.Lines(m.read("/" + file)) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
			if list, ok := strings.CutPrefix(line, "CVMFS_REPOSITORIES="); ok {
				names = strings.FieldsFunc(strings.Trim(list, `"'`), func(r rune) bool { return r == ',' || r == ' ' })
			}
		}
	}
	return names
}
