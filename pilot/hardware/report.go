package hardware

import (
	"fmt"
	"strings"
	"time"
)

// GPUTestFinding is what a Finding speaks of that says how a card was tested.
const GPUTestFinding = "gpu test"

// Finding is one number and its witness.
type Finding struct {
	What   string `json:"what"` // cores, memory, disk, end, platform, gpu, gpu test, opencl, container
	Value  string `json:"value"`
	Source string `json:"source"`
	// Promised says that the batch system said so; otherwise it was found on the node.
	Promised bool `json:"promised,omitempty"`
}

// Comparison sets what the batch system promised beside what was found. Empty texts
// are where one of them says nothing.
type Comparison struct {
	What       string `json:"what"`
	Promised   string `json:"promised,omitempty"`
	PromisedBy string `json:"promised_by,omitempty"`
	Found      string `json:"found,omitempty"`
	FoundBy    string `json:"found_by,omitempty"`
	Offered    string `json:"offered"`
	// Warning is a sentence where the two do not agree.
	Warning string `json:"warning,omitempty"`
}

// Report is where the resources come from.
type Report struct {
	Findings    []Finding    `json:"findings"`
	Comparisons []Comparison `json:"comparisons"`
	// Problems are sentences about what is broken on the node.
	Problems []string `json:"problems,omitempty"`
	// End is when the slot ends; zero is not known.
	End time.Time `json:"end,omitzero"`
	// CPULevel is the x86-64 level, 0 on other processors.
	CPULevel int `json:"cpu_level,omitempty"`
	// CPU is the processor's model name, CPUFeatures what the kernel says it can do.
	CPU         string   `json:"cpu,omitempty"`
	CPUFeatures []string `json:"cpu_features,omitempty"`
	// Kernel is the release of the operating system's kernel.
	Kernel string `json:"kernel,omitempty"`
	// Containers are the programs that can start a container here.
	Containers []Container `json:"containers,omitempty"`
	// Repositories are the CVMFS repositories that answered.
	Repositories []string `json:"repositories,omitempty"`
}

// String writes the report as tables for people and for the pilot's log.
func (r *Report) String() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-9s %-24s %s\n", f.What, f.Value, f.Source)
	}
	b.WriteByte('\n')
	fmt.Fprintf(&b, "%-9s %-24s %-24s %s\n", "", "promised", "found", "offered")
	for _, c := range r.Comparisons {
		fmt.Fprintf(&b, "%-9s %-24s %-24s %s\n", c.What, dash(c.Promised), dash(c.Found), c.Offered)
	}
	for _, c := range r.Comparisons {
		if c.Warning != "" {
			fmt.Fprintf(&b, "%-9s %s\n", "warning", c.Warning)
		}
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%-9s %s\n", "problem", p)
	}
	return b.String()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// quantity is a resource of which several witnesses speak. The smallest number of
// each kind of witness counts, and the smaller of both is offered.
type quantity struct {
	m               *measurement
	what            string
	text            func(int64) string
	promised, found witness
}

// witness is a number and who says so; 0 is nobody.
type witness struct {
	n      int64
	source string
}

func (w *witness) take(n int64, source string) {
	if w.n == 0 || n < w.n {
		*w = witness{n, source}
	}
}

// promise takes what the batch system says.
func (q *quantity) promise(n int64, source string) {
	if n > 0 {
		q.promised.take(n, source)
		q.m.report.Findings = append(q.m.report.Findings, Finding{q.what, q.text(n), source, true})
	}
}

// see takes what is found on the node.
func (q *quantity) see(n int64, source string) {
	if n > 0 {
		q.found.take(n, source)
		q.m.find(q.what, q.text(n), source)
	}
}

// settle returns what is offered, and notes where the two kinds of witness differ by
// more than a twentieth. Much more than was promised is worth a word only where
// confined says that batch systems usually keep their jobs to it.
func (q *quantity) settle(confined bool) int64 {
	offered := q.found.n
	if q.promised.n > 0 && (offered == 0 || q.promised.n < offered) {
		offered = q.promised.n
	}
	c := Comparison{What: q.what, Offered: q.text(offered), PromisedBy: q.promised.source, FoundBy: q.found.source}
	if q.promised.n > 0 {
		c.Promised = q.text(q.promised.n)
	}
	if q.found.n > 0 {
		c.Found = q.text(q.found.n)
	}
	if p, f := q.promised.n, q.found.n; p > 0 && f > 0 {
		switch {
		case f < p-p/20:
			c.Warning = fmt.Sprintf("%s: %s promised (%s), but the node gives %s (%s)", q.what, c.Promised, c.PromisedBy, c.Found, c.FoundBy)
		case confined && f > p+p/20:
			c.Warning = fmt.Sprintf("%s: %s promised (%s), %s found (%s): jobs are not confined to what they are granted", q.what, c.Promised, c.PromisedBy, c.Found, c.FoundBy)
		}
	}
	q.m.report.Comparisons = append(q.m.report.Comparisons, c)
	return offered
}
