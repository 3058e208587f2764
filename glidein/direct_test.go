package glidein_test

import (
	"os"
	"path/filepath"
	"testing"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/protocol"
)

// TestPassLeavesJobsOfRunsAlone: they are the same user's, and no pilots.
func TestPassLeavesJobsOfRunsAlone(t *testing.T) {
	p, b, c := newPass(t, 5, 5)
	c.want = 0
	b.jobs[batch.RunPrefix+"abc"] = batch.Running
	c.remove = []protocol.LaunchID{batch.RunPrefix + "abc"}
	r := run(t, p)
	if r.Running != 0 || len(r.Adopted) != 0 || len(c.asked[0].Known) != 0 || len(b.removed) != 0 {
		t.Errorf("pass = %+v, told %+v, removed %v; want it not to see the job of a run", r, c.asked[0].Known, b.removed)
	}
}

func TestConfigForJobsSaysOnlyWhatTheFileSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.toml")
	if err := os.WriteFile(file, []byte("[queue]\ntype = \"slurm\"\nname = \"long\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := glidein.LoadForJobs(file)
	if err != nil || c.Queue.Name != "long" || c.Queue.Cores != 0 || c.Queue.Walltime != 0 || c.System.Cache != "" {
		t.Errorf("LoadForJobs = %+v, %v", c, err)
	}
	if err := os.WriteFile(file, []byte("[queue]\ntype = \"slrum\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := glidein.LoadForJobs(file); err == nil {
		t.Error("a batch system that does not exist was taken")
	}
}
