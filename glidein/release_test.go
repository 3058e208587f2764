package glidein_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakePrograms are those of a site that fetches what is released, or cannot.
type fakePrograms struct {
	program, last string
	err           error
	asked         []string
}

func (f *fakePrograms) Program(_ context.Context, version, platform string, tags []string) (string, error) {
	f.asked = append(f.asked, version+" "+platform+" "+strings.Join(tags, ","))
	if f.err != nil {
		return "", f.err
	}
	return f.program, nil
}

func (f *fakePrograms) Last(string) string { return f.last }

// What a pass launches, and what it says of it.
func TestPassLaunchesWhatIsReleased(t *testing.T) {
	dir := t.TempDir()
	own, released, last := filepath.Join(dir, "own"), filepath.Join(dir, "released"), filepath.Join(dir, "last")
	for _, file := range []string{own, released, last} {
		if err := os.WriteFile(file, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	gone := errors.New("the manifest is not to be had")
	for _, tt := range []struct {
		promise  string
		follows  bool
		own      string
		version  string
		programs *fakePrograms
		launches string // empty is nothing
		says     string
	}{
		{"nothing is released", true, own, "", &fakePrograms{program: released}, own, ""},
		{"a release", true, own, "1.2", &fakePrograms{program: released}, released, ""},
		{"a release, with no pilot beside floe", true, filepath.Join(dir, "none"), "1.2", &fakePrograms{program: released}, released, ""},
		{"a release that cannot be had, after another", true, own, "1.3", &fakePrograms{err: gone, last: last}, last, "pilot 1.3 is released to this site, and not launched: the manifest is not to be had; launched is " + last},
		{"a release that cannot be had, the first", true, own, "1.3", &fakePrograms{err: gone}, own, "launched is " + own},
		{"none at all", true, filepath.Join(dir, "none"), "1.3", &fakePrograms{err: gone}, "", "not launched: the manifest"},
		{"a site with a pilot of its own", false, own, "1.2", &fakePrograms{program: released}, own, "site.toml names " + own},
	} {
		t.Run(tt.promise, func(t *testing.T) {
			p, b, c := newPass(t, 1, 1)
			p.Config.System.Pilot, p.Config.System.FollowsReleases = tt.own, tt.follows
			p.Config.Queue.OS, p.Config.Queue.Tags = "debian_12-x86_64-glibc2.36", []string{"x86-64-v2"}
			p.Programs, c.pilot = tt.programs, tt.version
			result, err := p.Run(t.Context())
			if tt.launches == "" {
				if err == nil || !strings.Contains(err.Error(), "no pilot to launch") || len(b.jobs) > 0 {
					t.Errorf("Run = %v, %d jobs; want an error and none", err, len(b.jobs))
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(result.Reasons, "\n"); !strings.Contains(said, tt.says) || tt.says == "" && said != "" {
				t.Errorf("said %q, want %q", said, tt.says)
			}
			if tt.follows && tt.version != "" && (len(tt.programs.asked) != 1 || tt.programs.asked[0] != tt.version+" debian_12-x86_64-glibc2.36 x86-64-v2") {
				t.Errorf("asked for %q", tt.programs.asked)
			}
			if tt.launches == "" {
				return
			}
			scripts, _ := filepath.Glob(filepath.Join(p.Config.Directory, "jobs", "*", "pilot.sh"))
			if len(scripts) != 1 {
				t.Fatalf("scripts %v", scripts)
			}
			if text, err := os.ReadFile(scripts[0]); err != nil || !strings.Contains(string(text), "exec '"+tt.launches+"'") && !strings.Contains(string(text), "exec "+tt.launches+" ") {
				t.Errorf("%v; the script does not start %s:\n%s", err, tt.launches, text)
			}
		})
	}
}
