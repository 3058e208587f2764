package software

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"floe/protocol"
)

// Node is where a build is to run: what a pilot measured, and the cards that the
// attempt was given.
type Node struct {
	// Platform is the node's own, such as debian_12-x86_64-glibc2.36.
	Platform string
	Tags     []string
	GPUs     []string // as protocol.GPU.ID has them
}

// Choose returns the build that is best here, by this order, each deciding where
// those before leave a tie:
//
//  1. the most runtimes: a build for the cards before one for the processor;
//  2. the highest x86-64 level;
//  3. a distribution by its closest name, then linux, then any;
//  4. the newest C library;
//  5. the first by the platform's text.
//
// It returns nil where none runs here, and for each why not.
func Choose(builds []protocol.SignedBuild, n *Node) (best *protocol.SignedBuild, why []string) {
	type candidate struct {
		build    *protocol.SignedBuild
		platform protocol.Platform
	}
	var fit []candidate
	for i := range builds {
		text := builds[i].Build.Platform
		p, err := protocol.ParsePlatform(text)
		lack := ""
		if err != nil {
			lack = "is written by rules that this pilot does not know"
		} else {
			lack = n.lacks(&p)
		}
		if lack != "" {
			why = append(why, fmt.Sprintf("%s: %s", text, lack))
			continue
		}
		fit = append(fit, candidate{&builds[i], p})
	}
	if len(fit) == 0 {
		return nil, why
	}
	first := slices.MinFunc(fit, func(a, b candidate) int {
		p, q := &a.platform, &b.platform
		return cmp.Or(cmp.Compare(len(q.Runtime), len(p.Runtime)), cmp.Compare(q.Level, p.Level),
			cmp.Compare(closeness(q), closeness(p)), slices.Compare(q.Version, p.Version),
			strings.Compare(a.build.Build.Platform, b.build.Build.Platform))
	})
	return first.build, nil
}

// closeness orders systems: any, linux, distributions by how much they say.
func closeness(p *protocol.Platform) int {
	switch p.System {
	case "":
		return 0
	case protocol.AnyLinux:
		return 1
	}
	return 1 + len(p.System)
}

// lacks says what a platform needs and the node does not have; empty if it runs here.
func (n *Node) lacks(p *protocol.Platform) string {
	switch {
	case !protocol.RunsOn(n.Platform, p.Base()):
		return fmt.Sprintf("this node is %s", n.Platform)
	case p.Level > 0 && !slices.Contains(n.Tags, protocol.LevelTag(p.Level)):
		return fmt.Sprintf("this processor is not of level %s", protocol.LevelTag(p.Level))
	}
	for _, r := range p.Runtime {
		if !n.has(r) {
			return fmt.Sprintf("this attempt has no %s", r)
		}
	}
	return ""
}

// Runtimes that cards decide.
const (
	runtimeCUDA   = "cuda"
	runtimeROCm   = "rocm"
	runtimeOpenCL = "opencl"
)

// NeedsGPU tells whether a build can run only where the attempt was given a card.
func NeedsGPU(p *protocol.Platform) bool {
	return slices.ContainsFunc(p.Runtime, func(r string) bool { return r == runtimeCUDA || r == runtimeROCm || r == runtimeOpenCL })
}

func (n *Node) has(runtime string) bool {
	switch runtime {
	case runtimeCUDA:
		return slices.ContainsFunc(n.GPUs, func(id string) bool {
			return !protocol.IsAMD(id) && !strings.HasPrefix(id, protocol.OpenCLIndex)
		})
	case runtimeROCm:
		return slices.ContainsFunc(n.GPUs, protocol.IsAMD)
	case runtimeOpenCL:
		return len(n.GPUs) > 0
	}
	return slices.Contains(n.Tags, runtime)
}
