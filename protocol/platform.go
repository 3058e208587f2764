package protocol

import (
	"fmt"
	"strconv"
	"strings"
)

// Platform is what software was built for. Its text is
//
//	any                                         scripts and data: every node
//	SYSTEM-MACHINE[-vLEVEL][-LIBC][+RUNTIME…]   programs
//
// SYSTEM is linux, or a distribution such as debian_12 or rocky_9, and MACHINE the
// kernel's name for the processor, such as x86_64. LEVEL is the x86-64 level that
// the code needs. LIBC is the oldest C library that will do, such as glibc2.28 or
// musl1.2; static programs need none. A RUNTIME is cuda, rocm or opencl, which need
// a card that the attempt was given, or else a tag that the node must have.
//
// A node's own platform, as pilots advertise it, is of the same form:
// debian_12-x86_64-glibc2.36.
type Platform struct {
	System  string // empty is any
	Machine string
	Level   int    // 0 needs none
	Libc    string // glibc or musl; empty needs none
	Version []int  // of the C library
	Runtime []string
}

// AnyPlatform is what runs everywhere, AnyLinux the system of a platform that names
// no distribution.
const (
	AnyPlatform = "any"
	AnyLinux    = "linux"
)

// Machines are processors by their usual names in the kernel. A platform may name
// others; who writes one by hand has more likely mistyped it.
var Machines = []string{"x86_64", "aarch64", "ppc64le", "riscv64", "s390x", "i686", "armv7l", "loongarch64"}

// maxLevel is the highest x86-64 level there is.
const maxLevel = 4

// ParsePlatform reads a platform's text.
func ParsePlatform(text string) (Platform, error) {
	if text == AnyPlatform {
		return Platform{}, nil
	}
	if len(text) > MaxName {
		return Platform{}, fmt.Errorf("platform %.20q…: longer than %d bytes", text, MaxName)
	}
	head, runtimes, extra := strings.Cut(text, "+")
	parts := strings.Split(head, "-")
	if len(parts) < 2 {
		return Platform{}, fmt.Errorf("platform %q: want any, or SYSTEM-MACHINE[-vLEVEL][-LIBC][+RUNTIME], such as linux-x86_64-glibc2.28", text)
	}
	p := Platform{System: parts[0], Machine: parts[1]}
	rest := parts[2:]
	for _, word := range parts[:2] {
		if strings.Trim(word, lowerName) != "" || word == "" {
			return Platform{}, fmt.Errorf("platform %q: system and machine %q: want lower-case letters, digits, '_' and '.'", text, word)
		}
	}
	if len(rest) > 0 && strings.HasPrefix(rest[0], "v") {
		level, err := strconv.Atoi(rest[0][1:])
		if err != nil || level < 1 || level > maxLevel || rest[0] != "v"+strconv.Itoa(level) || p.Machine != "x86_64" {
			return Platform{}, fmt.Errorf("platform %q: level %q: want v1 to v%d, of x86_64", text, rest[0], maxLevel)
		}
		p.Level, rest = level, rest[1:]
	}
	if len(rest) > 0 {
		if err := p.libc(rest[0]); err != nil {
			return Platform{}, fmt.Errorf("platform %q: %w", text, err)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return Platform{}, fmt.Errorf("platform %q: %q is too much; want SYSTEM-MACHINE[-vLEVEL][-LIBC][+RUNTIME]", text, strings.Join(rest, "-"))
	}
	if extra {
		for word := range strings.SplitSeq(runtimes, "+") {
			if err := CheckName("runtime", word); err != nil {
				return Platform{}, fmt.Errorf("platform %q: %w", text, err)
			}
			if n := len(p.Runtime); n > 0 && p.Runtime[n-1] >= word {
				return Platform{}, fmt.Errorf("platform %q: runtimes must be sorted, each once", text)
			}
			p.Runtime = append(p.Runtime, word)
		}
	}
	return p, nil
}

const lowerName = "abcdefghijklmnopqrstuvwxyz0123456789_."

func (p *Platform) libc(word string) error {
	for _, name := range []string{"glibc", "musl"} {
		digits, found := strings.CutPrefix(word, name)
		if !found {
			continue
		}
		for part := range strings.SplitSeq(digits, ".") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n > 9999 || part != strconv.Itoa(n) {
				return fmt.Errorf("library %q: want %s and a version, such as 2.28", word, name)
			}
			p.Version = append(p.Version, n)
		}
		p.Libc = name
		return nil
	}
	return fmt.Errorf("library %q: want glibc or musl and a version, such as glibc2.28", word)
}

// String writes the text that ParsePlatform reads.
func (p Platform) String() string {
	if p.System == "" {
		return AnyPlatform
	}
	level := ""
	if p.Level > 0 {
		level = "-v" + strconv.Itoa(p.Level)
	}
	return strings.Join(append([]string{p.System + "-" + p.Machine + level + p.library()}, p.Runtime...), "+")
}

// Base is the text without level and runtimes: the part that a node's platform
// answers. Its tags and cards answer the rest.
func (p Platform) Base() string {
	p.Level, p.Runtime = 0, nil
	return p.String()
}

// library is the C library as it stands in the text.
func (p Platform) library() string {
	if p.Libc == "" {
		return ""
	}
	numbers := make([]string, len(p.Version))
	for i, n := range p.Version {
		numbers[i] = strconv.Itoa(n)
	}
	return "-" + p.Libc + strings.Join(numbers, ".")
}

// RunsOn tells whether what asks for a platform may run on a node whose own is has.
// Distributions agree up to a border of their version: debian_12 is a debian, and
// rocky_9.4 a rocky_9. A newer C library of the same kind will do. A word that is no
// platform asks for its beginning. A node of which nothing is known (no text at
// all) may be any linux: who launches pilots there finds out by them.
func RunsOn(has, want string) bool {
	if want == AnyPlatform {
		return true
	}
	if has == "" {
		return strings.HasPrefix(want, AnyLinux+"-")
	}
	asked, err := ParsePlatform(want)
	if err != nil {
		return begins(has, want)
	}
	system, rest, _ := strings.Cut(has, "-")
	machine, libc, _ := strings.Cut(rest, "-")
	if asked.System != AnyLinux && !begins(system, asked.System) || machine != asked.Machine {
		return false
	}
	if asked.Libc == "" {
		return true
	}
	var node Platform
	return node.libc(libc) == nil && node.Libc == asked.Libc && compareVersions(node.Version, asked.Version) >= 0
}

// begins tells whether has is want, or goes on behind it at a border.
func begins(has, want string) bool {
	rest, found := strings.CutPrefix(has, want)
	return found && (rest == "" || strings.IndexByte("-_.", rest[0]) >= 0)
}

// compareVersions orders versions part by part; a missing part is 0.
func compareVersions(a, b []int) int {
	for i := range max(len(a), len(b)) {
		var x, y int
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}

// LevelTag is the tag of pilots whose processor has an x86-64 level.
func LevelTag(level int) string { return "x86-64-v" + strconv.Itoa(level) }
