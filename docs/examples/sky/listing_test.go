package sky

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"floe/protocol/steering"
)

// trials.yaml is a dataset floe accepts without a word, and names the map by
// its digest.
func TestSteering(t *testing.T) {
	content, err := os.ReadFile("trials.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := steering.Parse("trials.yaml", content); len(problems) > 0 {
		t.Errorf("problems:\n%v", problems)
	}
	data, err := os.ReadFile("data/fermi_counts.fits.gz")
	if err != nil {
		t.Fatal(err)
	}
	if digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); !strings.Contains(string(content), digest) {
		t.Errorf("trials.yaml does not name the map by its digest, %s", digest)
	}
}

// make_merge.py turns a listing into a steering file that names every trial by
// its digest, and refuses a listing that could mislead.
func TestMakeMerge(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	digest := strings.Repeat("0a", 32)
	one := `{"job":%,"task":"trial","name":"trial.json","url":"file:///o/trial-%.json","size":99,"digest":"sha256:` + digest + `"}`
	first, second := strings.ReplaceAll(one, "%", "0"), strings.ReplaceAll(one, "%", "11")
	for _, c := range []struct{ name, listing, want string }{
		{"two trials", "[" + second + "," + first + "]", `local: trial-000011.json, remote: "file:///o/trial-11.json", checksum: "sha256:` + digest},
		{"job twice", "[" + first + "," + first + "]", "job 0 is listed twice"},
		{"no digest", "[" + strings.Replace(first, digest, "", 1) + "]", "not a SHA-256 digest"},
		{"expression", "[" + strings.Replace(first, "/o/", "/$job/", 1) + "]", "unusable URL"},
		{"nothing", "[]", "no outputs of a task"},
	} {
		command := exec.Command("python3", "make_merge.py", "file:///data", "file:///out")
		command.Stdin = strings.NewReader(c.listing)
		out, err := command.CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, output %s; want %q in it", c.name, err, out, c.want)
		}
		if wrong := strings.Contains(string(out), "make_merge:"); wrong != (err != nil) {
			t.Errorf("%s: error %v with output %s", c.name, err, out)
		}
		if c.name != "two trials" {
			continue
		}
		if !strings.Contains(string(out), "-expect 2 ") {
			t.Errorf("%s: the merge does not expect 2 files:\n%s", c.name, out)
		}
		if _, problems := steering.Parse("merge.yaml", out); len(problems) > 0 {
			t.Errorf("%s: problems:\n%v", c.name, problems)
		}
	}
}
