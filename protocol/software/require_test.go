package software

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func version(name string, platforms ...string) (builds []protocol.Build) {
	for _, p := range platforms {
		b := build(p)
		b.Name = name
		builds = append(builds, b)
	}
	return builds
}

func TestRequire(t *testing.T) {
	for _, c := range []struct {
		what     string
		asks     protocol.Requirements
		versions [][]protocol.Build
		want     protocol.Requirements
	}{
		{"scripts go everywhere", protocol.Requirements{}, [][]protocol.Build{version("a", "any", "linux-x86_64")}, protocol.Requirements{}},
		{
			"either platform will do",
			protocol.Requirements{},
			[][]protocol.Build{version("a", "linux-x86_64-glibc2.28", "linux-aarch64")},
			protocol.Requirements{OS: []string{"linux-aarch64", "linux-x86_64-glibc2.28"}},
		},
		{
			"the oldest C library says it all",
			protocol.Requirements{},
			[][]protocol.Build{version("a", "linux-x86_64-glibc2.28", "linux-x86_64-glibc2.17", "debian_12-x86_64-glibc2.36")},
			protocol.Requirements{OS: []string{"linux-x86_64-glibc2.17"}},
		},
		{
			"the level that all builds need",
			protocol.Requirements{Tags: []string{"ib"}},
			[][]protocol.Build{version("a", "linux-x86_64-v3", "linux-x86_64-v2")},
			protocol.Requirements{OS: []string{"linux-x86_64"}, Tags: []string{"ib", "x86-64-v2"}},
		},
		{
			"a build without a level needs none",
			protocol.Requirements{},
			[][]protocol.Build{version("a", "linux-x86_64-v3", "linux-x86_64")},
			protocol.Requirements{OS: []string{"linux-x86_64"}},
		},
		{
			"two projects need a node for both",
			protocol.Requirements{},
			[][]protocol.Build{version("a", "linux-x86_64-glibc2.28", "linux-aarch64"), version("b", "debian-x86_64-glibc2.17", "rocky_9-x86_64")},
			protocol.Requirements{OS: []string{"debian-x86_64-glibc2.28", "rocky_9-x86_64-glibc2.28"}},
		},
		{
			"what the task says itself stays",
			protocol.Requirements{OS: []string{"debian_12"}},
			[][]protocol.Build{version("a", "linux-x86_64-v2")},
			protocol.Requirements{OS: []string{"debian_12"}, Tags: []string{"x86-64-v2"}},
		},
		{
			"builds for cards are for the shape with cards",
			protocol.Requirements{GPUs: 1, Alternatives: []protocol.Requirements{{Cores: 8}}},
			[][]protocol.Build{version("a", "linux-x86_64-v2+cuda", "linux-x86_64-v3")},
			protocol.Requirements{
				GPUs: 1, OS: []string{"linux-x86_64"}, Tags: []string{"x86-64-v2"},
				Alternatives: []protocol.Requirements{{Cores: 8, OS: []string{"linux-x86_64"}, Tags: []string{"x86-64-v3"}}},
			},
		},
		{
			"a tag that all builds need",
			protocol.Requirements{},
			[][]protocol.Build{version("a", "linux-x86_64+ib", "linux-x86_64+ib+opa")},
			protocol.Requirements{OS: []string{"linux-x86_64"}, Tags: []string{"ib"}},
		},
	} {
		if err := Require(&c.asks, c.versions); err != nil {
			t.Errorf("%s: %v", c.what, err)
		} else if diff := cmp.Diff(c.want, c.asks); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
	for want, versions := range map[string][][]protocol.Build{
		"asks for no GPU":                     {version("a", "linux-x86_64+cuda", "linux-x86_64+rocm")},
		"platform that the others run on":     {version("a", "linux-x86_64"), version("b", "linux-aarch64")},
		"no build of b 1.0 is for a platform": {version("a", "linux-x86_64-glibc2.28"), version("b", "linux-x86_64-musl1.2")},
	} {
		if err := Require(&protocol.Requirements{}, versions); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Require = %v, want an error with %q", err, want)
		}
	}
}

// A node where a build of each version can be chosen is never kept from the task.
func TestRequireKeepsNobodyAway(t *testing.T) {
	platforms := []string{
		"any", "linux-x86_64", "linux-x86_64-v2", "linux-x86_64-v3-glibc2.28", "linux-x86_64-glibc2.17", "debian-x86_64-glibc2.28",
		"debian_12-x86_64", "rocky_9-x86_64-glibc2.34", "linux-aarch64", "linux-x86_64-musl1.2", "linux-x86_64+ib",
	}
	nodes := []Node{
		{Platform: "debian_12-x86_64-glibc2.36", Tags: []string{"x86-64-v1", "x86-64-v2", "x86-64-v3"}},
		{Platform: "rocky_9.4-x86_64-glibc2.34", Tags: []string{"x86-64-v1", "ib"}},
		{Platform: "alpine_3.19-x86_64-musl1.2.4", Tags: []string{"x86-64-v1", "x86-64-v2"}},
		{Platform: "debian_11-aarch64-glibc2.31"},
	}
	for i, p := range platforms {
		for k, q := range platforms {
			for n := range nodes {
				versions := [][]protocol.Build{version("a", p, platforms[(i+k+1)%len(platforms)]), version("b", q)}
				can := true
				for _, builds := range versions {
					var items []protocol.SignedBuild
					for _, b := range builds {
						items = append(items, protocol.SignedBuild{Build: b})
					}
					best, _ := Choose(items, &nodes[n])
					can = can && best != nil
				}
				var r protocol.Requirements
				err := Require(&r, versions)
				fits := err == nil && (len(r.OS) == 0 || slices.ContainsFunc(r.OS, func(os string) bool { return protocol.RunsOn(nodes[n].Platform, os) }))
				for _, tag := range r.Tags {
					fits = fits && slices.Contains(nodes[n].Tags, tag)
				}
				if can && !fits {
					t.Errorf("builds %v: %s can run them, and the task asks for %+v (%v)", versions, nodes[n].Platform, r, err)
				}
			}
		}
	}
}
