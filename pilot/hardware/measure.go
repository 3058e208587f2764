package hardware

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"floe/protocol"
)

// Options say where to look. The zero value measures the running node.
type Options struct {
	// Root is the node's file tree; nil is "/".
	Root fs.FS
	// LookupEnv reads the batch system's variables; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Run runs a program and returns its standard output; nil runs it. A non-zero
	// exit is an error that holds what the program wrote to standard error.
	Run Runner
	// Kernel answers what no file says; nil asks the kernel.
	Kernel Kernel

	// Scratch is the directory whose free space is offered; empty offers none.
	Scratch string
	// End is when the batch slot ends, where the submitter knows it; it beats
	// every variable.
	End time.Time
	// Started is when the slot began, for systems that tell only a length; zero
	// is Now.
	Started time.Time
	// Now is the time of measuring; zero is the present.
	Now time.Time
	// Limit caps what is offered, as the site's configuration says. Zero fields
	// cap nothing.
	Limit protocol.Resources
	// Tags are the site's own, added to those found. One that promises a CVMFS
	// repository, such as cvmfs-icecube.opensciencegrid.org, counts if that answers.
	Tags []string
	// GPUTest is a program that exits 0 on a sound card, run once per card with the
	// variables of protocol.GPUVariables. Empty is the self-test, NoGPUTest none.
	GPUTest string
	// Cards are the IDs of the only cards to offer; nil offers all. A device of OpenCL
	// that is no card, such as a processor, counts as one where it is named.
	Cards []string
}

// Runner runs a program and returns its standard output, also beside an error.
type Runner func(ctx context.Context, name string, args ...string) ([]byte, error)

// Kernel answers what is not in a file.
type Kernel interface {
	// Affinity is the number of cores this process may run on.
	Affinity() (int, error)
	// AddressSpace is the soft limit on virtual memory; 0 is none.
	AddressSpace() (protocol.ByteSize, error)
	// Free is the space left for this user in the file system that holds dir.
	Free(dir string) (protocol.ByteSize, error)
	// Level is the x86-64 microarchitecture level, 1 to 4; 0 on other processors.
	Level() int
	// Arch is the machine as uname names it, such as x86_64.
	Arch() string
	// Stat touches path; it may hang where a mount does.
	Stat(path string) error
}

// Measure looks at the node and returns what this pilot may offer, with the
// reasons. It takes as long as its probes, one after the other, and obeys ctx.
func Measure(ctx context.Context, o Options) (protocol.Resources, Report) {
	m := &measurement{Options: o}
	m.fill()
	m.readSlot(ctx)
	res := protocol.Resources{Cores: m.cores(), OS: m.platform()}
	m.report.CPULevel = m.Kernel.Level()
	m.report.CPU, m.report.CPUFeatures = m.processor()
	m.report.Kernel = m.read("/proc/sys/kernel/osrelease")
	res.Memory = m.memory(res.Cores)
	res.Disk = m.disk(ctx)
	m.report.End = m.end(ctx)
	if !m.report.End.IsZero() {
		// An end in the past leaves one second: zero would mean "no end known".
		res.Remaining = max(1, protocol.Seconds(m.report.End.Sub(m.Now)/time.Second))
	}
	res.GPUs = m.gpus(ctx, &res)
	m.report.Containers = m.containers(ctx)
	res.Tags = m.tags(ctx)
	m.cap(&res)
	return res, m.report
}

// measurement is one call of Measure.
type measurement struct {
	Options
	report Report
	slot   slot
	// features are tags that looking for cards found.
	features []string
	// runTest runs the tests of cards.
	runTest Runner
	// only are the cards to test; nil is all. faults are those of cards.
	only   []string
	faults map[string]string
}

func (m *measurement) fill() {
	m.faults = make(map[string]string)
	if m.Root == nil {
		m.Root = os.DirFS("/")
	}
	if m.LookupEnv == nil {
		m.LookupEnv = os.LookupEnv
	}
	m.runTest = m.Run
	if m.Run == nil {
		m.Run, m.runTest = runFor(probeTime), runFor(testTime)
	}
	if m.Kernel == nil {
		m.Kernel = running{}
	}
	if m.Now.IsZero() {
		m.Now = time.Now()
	}
	if m.Started.IsZero() {
		m.Started = m.Now
	}
}

func (m *measurement) find(what, value, source string) {
	m.report.Findings = append(m.report.Findings, Finding{What: what, Value: value, Source: source})
}

func (m *measurement) problem(format string, args ...any) {
	m.report.Problems = append(m.report.Problems, fmt.Sprintf(format, args...))
}

func (m *measurement) env(name string) string {
	v, _ := m.LookupEnv(name)
	return strings.TrimSpace(v)
}

// read returns a file below Root as trimmed text, empty where it cannot be read.
func (m *measurement) read(path string) string {
	b, err := fs.ReadFile(m.Root, strings.TrimPrefix(path, "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (m *measurement) exists(path string) bool {
	_, err := fs.Stat(m.Root, strings.TrimPrefix(path, "/"))
	return err == nil
}

func (m *measurement) cap(r *protocol.Resources) {
	limit := func(what, text string) {
		m.find(what, text, "site's limit")
		for i := range m.report.Comparisons {
			if m.report.Comparisons[i].What == what {
				m.report.Comparisons[i].Offered = text + ", the site's limit"
			}
		}
	}
	if l := m.Limit.Cores; l > 0 && l < r.Cores {
		r.Cores = l
		limit("cores", fmt.Sprint(l))
	}
	if l := m.Limit.Memory; l > 0 && l < r.Memory {
		r.Memory = l
		limit("memory", l.String())
	}
	if l := m.Limit.Disk; l > 0 && l < r.Disk {
		r.Disk = l
		limit("disk", l.String())
	}
	if l := m.Limit.Remaining; l > 0 && (r.Remaining == 0 || l < r.Remaining) {
		r.Remaining = l
		m.report.End = m.Now.Add(l.Duration())
		limit("end", l.Duration().String()+" from now")
	}
}

// maxTags is how many tags a registration may have. Source: coordinator/state.
const maxTags = 64

// tags returns the site's tags and what the node can do, sorted.
func (m *measurement) tags(ctx context.Context) []string {
	var tags, repositories []string
	for _, t := range m.Tags {
		if err := protocol.CheckName("tag", t); err != nil {
			m.problem("%v", err)
			continue
		}
		if name, ok := strings.CutPrefix(t, protocol.RepositoryTag("")); ok {
			repositories = append(repositories, name)
			continue
		}
		tags = append(tags, t)
	}
	for level := 1; level <= m.report.CPULevel; level++ {
		tags = append(tags, fmt.Sprintf("x86-64-v%d", level))
	}
	tags = append(tags, m.features...)
	m.report.Repositories = m.repositories(ctx, repositories)
	for _, name := range m.report.Repositories {
		tags = append(tags, protocol.RepositoryTag(name))
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if len(tags) > maxTags {
		m.problem("%d tags; the last %d are not advertised", len(tags), len(tags)-maxTags)
		tags = tags[:maxTags]
	}
	return tags
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
