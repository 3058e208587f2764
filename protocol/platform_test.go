package protocol

import (
	"strings"
	"testing"
)

func TestParsePlatform(t *testing.T) {
	for _, text := range []string{
		"any", "linux-x86_64", "linux-x86_64-v3", "linux-x86_64-glibc2.28", "linux-x86_64-v4-glibc2.36+cuda", "debian_12-aarch64-glibc2.36",
		"alpine_3.19-x86_64-musl1.2.4", "linux-x86_64+avx512f+opencl", "rocky_9.4-ppc64le",
	} {
		p, err := ParsePlatform(text)
		if err != nil || p.String() != text {
			t.Errorf("ParsePlatform(%q) = %q, %v", text, p, err)
		}
	}
	for text, want := range map[string]string{
		"":                          "SYSTEM-MACHINE",
		"linux":                     "SYSTEM-MACHINE",
		"linux-":                    "lower-case",
		"Linux-x86_64":              "lower-case",
		"linux-x86_64-v5":           "v1 to v4",
		"linux-x86_64-v03":          "v1 to v4",
		"linux-aarch64-v2":          "of x86_64",
		"linux-x86_64-glibc":        "and a version",
		"linux-x86_64-glibc2.08":    "and a version",
		"linux-x86_64-uclibc1":      "want glibc or musl",
		"linux-x86_64-glibc2.28-v3": "too much",
		"linux-x86_64+":             "empty name",
		"linux-x86_64+opencl+cuda":  "sorted",
		"linux-x86_64+cuda+cuda":    "sorted",
		"linux-x86_64+" + strings.Repeat("x", 200): "longer than",
	} {
		if _, err := ParsePlatform(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePlatform(%q) = %v, want an error with %q", text, err, want)
		}
	}
}

func TestRunsOn(t *testing.T) {
	const debian, rocky, alpine = "debian_12-x86_64-glibc2.36", "rocky_9.4-x86_64-glibc2.34", "alpine_3.19-x86_64-musl1.2.4"
	for _, c := range []struct {
		has, want string
		runs      bool
	}{
		{debian, "any", true},
		{debian, "linux-x86_64", true},
		{debian, "linux-x86_64-glibc2.36", true},
		{debian, "linux-x86_64-glibc2.4", true}, // by number, not by letter
		{debian, "linux-x86_64-glibc2.37", false},
		{debian, "linux-x86_64-glibc2.36.1", false},
		{debian, "linux-x86_64-musl1.2", false},
		{debian, "linux-aarch64", false},
		{debian, "debian_12-x86_64", true},
		{debian, "debian-x86_64-glibc2.28", true},
		{debian, "debian_1-x86_64", false},
		{debian, "ubuntu_22.04-x86_64", false},
		{rocky, "rocky_9-x86_64-glibc2.34", true},
		{rocky, "rocky_9.4-x86_64", true},
		{rocky, "rocky_9.41-x86_64", false},
		{alpine, "linux-x86_64", true},
		{alpine, "linux-x86_64-musl1.2", true},
		{alpine, "linux-x86_64-glibc2.17", false},
		{"unknown-x86_64", "linux-x86_64", true},
		{"unknown-x86_64", "linux-x86_64-glibc2.17", false},
		// Words that steering files have: the beginning of what a node says.
		{debian, "debian_12", true},
		{debian, "debian", true},
		{debian, "debian_1", false},
		{debian, "RHEL_7_x86_64", false},
		// Nothing is known of the node.
		{"", "linux-x86_64-glibc2.28", true},
		{"", "any", true},
		{"", "debian_12", false},
		{"", "debian_12-x86_64", false},
	} {
		if got := RunsOn(c.has, c.want); got != c.runs {
			t.Errorf("RunsOn(%q, %q) = %v, want %v", c.has, c.want, got, c.runs)
		}
	}
}

// What is read is written as it was, and a node runs what names its own platform.
func FuzzParsePlatform(f *testing.F) {
	for _, text := range []string{"any", "linux-x86_64-v3-glibc2.28+cuda", "debian_12-x86_64-glibc2.36", "a-b-musl1", "-", "linux-x86_64-glibc2..8"} {
		f.Add(text, "debian_12-x86_64-glibc2.36")
	}
	f.Fuzz(func(t *testing.T, text, has string) {
		RunsOn(has, text)
		p, err := ParsePlatform(text)
		if err != nil {
			return
		}
		if p.String() != text {
			t.Errorf("ParsePlatform(%q) is written as %q", text, p)
		}
		if base := p.Base(); !RunsOn(base, base) {
			t.Errorf("%q does not run on itself", base)
		}
	})
}
