package software

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"floe/protocol"
)

// maxPlatforms bounds the platforms that requirements name. Source: protocol, the
// limit of Requirements.OS.
const maxPlatforms = 64

// Require makes a task go only where one build of each version runs that it uses:
// platforms any of which will do, tags that all builds share. What a task says of
// platforms itself stays as it is. Not all can be said so (a level that only some
// builds need, two versions whose builds pair in too many ways); what cannot, the
// pilot finds out. It returns an error where no node could ever do.
func Require(r *protocol.Requirements, versions [][]protocol.Build) error {
	own := len(r.OS) > 0
	if err := require(r, versions, own); err != nil {
		return err
	}
	for i := range r.Alternatives {
		if err := require(&r.Alternatives[i], versions, own || len(r.Alternatives[i].OS) > 0); err != nil {
			return fmt.Errorf("alternative %d: %w", i+1, err)
		}
	}
	return nil
}

func require(r *protocol.Requirements, versions [][]protocol.Build, own bool) error {
	var all []protocol.Platform
	for _, builds := range versions {
		usable, err := usableBy(r, builds)
		if err != nil {
			return err
		}
		for _, tag := range shared(usable) {
			if !slices.Contains(r.Tags, tag) {
				r.Tags = append(slices.Clone(r.Tags), tag)
			}
		}
		if own || slices.ContainsFunc(usable, func(p protocol.Platform) bool { return p.System == "" }) {
			continue
		}
		meets := meet(all, usable)
		switch {
		case len(meets) == 0:
			return fmt.Errorf("no build of %s %s is for a platform that the others run on", builds[0].Name, builds[0].Version)
		case len(meets) <= maxPlatforms:
			all = meets
		}
	}
	for _, p := range all {
		r.OS = append(r.OS, p.Base())
	}
	return nil
}

// usableBy are the platforms of the builds that a task of these requirements could
// be given: those for cards only where it asks for cards.
func usableBy(r *protocol.Requirements, builds []protocol.Build) ([]protocol.Platform, error) {
	var usable []protocol.Platform
	for i := range builds {
		p, err := protocol.ParsePlatform(builds[i].Platform)
		if err != nil {
			return nil, err
		}
		if r.GPUs > 0 || !NeedsGPU(&p) {
			usable = append(usable, p)
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("the task asks for no GPU, and every build of %s %s is for one", builds[0].Name, builds[0].Version)
	}
	return usable, nil
}

// shared are the tags that a node must have whichever of the platforms it is.
func shared(platforms []protocol.Platform) (tags []string) {
	level := platforms[0].Level
	for _, p := range platforms {
		level = min(level, p.Level)
	}
	if level > 1 {
		tags = append(tags, protocol.LevelTag(level))
	}
	for _, runtime := range platforms[0].Runtime {
		p := protocol.Platform{Runtime: []string{runtime}}
		if !NeedsGPU(&p) && !slices.ContainsFunc(platforms, func(q protocol.Platform) bool { return !slices.Contains(q.Runtime, runtime) }) {
			tags = append(tags, runtime)
		}
	}
	return tags
}

// meet are the platforms of nodes that run one of a and one of b, each said once;
// an empty a is every node.
func meet(a, b []protocol.Platform) []protocol.Platform {
	var all []protocol.Platform
	for _, q := range b {
		q.Level, q.Runtime = 0, nil
		if len(a) == 0 {
			all = append(all, q)
			continue
		}
		for _, p := range a {
			if both, ok := meetOf(p, q); ok {
				all = append(all, both)
			}
		}
	}
	slices.SortFunc(all, func(p, q protocol.Platform) int { return cmp.Compare(p.Base(), q.Base()) })
	all = slices.CompactFunc(all, func(p, q protocol.Platform) bool { return p.Base() == q.Base() })
	// What another covers need not be said.
	return slices.DeleteFunc(slices.Clone(all), func(p protocol.Platform) bool {
		return slices.ContainsFunc(all, func(q protocol.Platform) bool { return p.Base() != q.Base() && protocol.RunsOn(p.Base(), q.Base()) })
	})
}

func meetOf(p, q protocol.Platform) (protocol.Platform, bool) {
	if p.Machine != q.Machine || p.Libc != "" && q.Libc != "" && p.Libc != q.Libc {
		return p, false
	}
	switch {
	case p.System == protocol.AnyLinux || strings.HasPrefix(q.System, p.System):
		p.System = q.System
	case q.System == protocol.AnyLinux || strings.HasPrefix(p.System, q.System):
	default:
		return p, false
	}
	if p.Libc == "" || q.Libc != "" && slices.Compare(p.Version, q.Version) < 0 {
		p.Libc, p.Version = q.Libc, q.Version
	}
	return p, true
}
