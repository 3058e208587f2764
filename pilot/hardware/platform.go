package hardware

import (
	"bytes"
	"io"
	"io/fs"
	"regexp"
	"strings"
)

// platform names what software must have been built for, as
// ID_VERSION-machine-libc: debian_12-x86_64-glibc2.36, alpine_3.19-x86_64-musl1.2.4.
// What cannot be found is left out: unknown-x86_64.
func (m *measurement) platform() string {
	release := parseRelease(m.read("/etc/os-release"))
	if release["ID"] == "" {
		release = parseRelease(m.read("/usr/lib/os-release"))
	}
	name := release["ID"]
	if name == "" {
		name = "unknown"
	} else if v := release["VERSION_ID"]; v != "" {
		name += "_" + v
	}
	arch := m.Kernel.Arch()
	platform := name + "-" + arch
	if libc, source := m.libc(arch); libc != "" {
		m.find("platform", libc, source)
		platform += "-" + libc
	}
	m.find("platform", platform, "os-release")
	return platform
}

// parseRelease reads the lines NAME=VALUE of os-release, keeping only
// characters that are safe in names.
func parseRelease(text string) map[string]string {
	out := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		out[name] = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.':
				return r
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return -1
		}, value)
	}
	return out
}

var (
	glibcVersion = regexp.MustCompile(`GNU C Library [^\n]*version ([0-9]+\.[0-9]+)`)
	muslVersion  = regexp.MustCompile(`\x00(1\.[0-9]{1,2}\.[0-9]{1,2})(?:-git[^\x00]*)?\x00`)
)

// maxLibc bounds how much of a C library is read for its version.
const maxLibc = 16 << 20

// libc finds the C library that programs of the node are linked to, and its
// version in the library's own text: running it would not work on a tree.
func (m *measurement) libc(arch string) (name, source string) {
	for _, pattern := range []string{
		"lib/" + arch + "-linux-gnu/libc.so.6", "usr/lib/" + arch + "-linux-gnu/libc.so.6",
		"lib64/libc.so.6", "usr/lib64/libc.so.6", "lib/libc.so.6", "usr/lib/libc.so.6",
	} {
		if v := m.version(pattern, glibcVersion); v != "" {
			return "glibc" + v, "/" + pattern
		}
	}
	loaders, err := fs.Glob(m.Root, "lib/ld-musl-*.so.1")
	if err != nil || len(loaders) == 0 {
		return "", ""
	}
	return "musl" + m.version(loaders[0], muslVersion), "/" + loaders[0]
}

func (m *measurement) version(path string, pattern *regexp.Regexp) string {
	f, err := m.Root.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLibc))
	if err != nil {
		return ""
	}
	if found := pattern.FindSubmatch(b); found != nil {
		return string(bytes.TrimSpace(found[1]))
	}
	return ""
}
