package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein"
)

// fakeTools puts commands that print a text first on PATH, which then has little else.
func fakeTools(t *testing.T, tools map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, prints := range tools {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\ncat <<'END'\n"+prints+"END\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

var fakeSlurm = map[string]string{
	"sbatch": "", "squeue": "", "scancel": "",
	"sinfo": "long|up|14-00:00:00|10|32|256000|(null)\nshort*|up|1:00:00|10|32|256000|(null)\ngpu|up|1-00:00:00|2|64|515000|gpu:a100:4\n",
}

// askFloe runs a command whose questions are answered.
func askFloe(t *testing.T, answers string, args ...string) (code int, stdout string) {
	t.Helper()
	var out bytes.Buffer
	c := newRoot()
	c.SetArgs(args)
	c.SetIn(strings.NewReader(answers))
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	if err != nil {
		out.WriteString(err.Error())
	}
	return exitCode(err), out.String()
}

func TestSiteInitFindsEverythingItself(t *testing.T) {
	fakeTools(t, fakeSlurm)
	t.Setenv("SLURM_CONF", "/etc/it's/slurm.conf")
	dir := filepath.Join(t.TempDir(), "a site")
	code, out, errs := runFloe(t, "site", "init", "--dir", dir, "--yes", "--systemd")
	if code != exitOK {
		t.Fatalf("floe site init = %d\n%s%s", code, out, errs)
	}
	config, err := glidein.LoadForJobs(filepath.Join(dir, "site.toml"))
	if err != nil {
		t.Fatal(err)
	}
	q := config.Queue
	if q.Type != "slurm" || q.Name != "short" || q.Cores != 8 || q.MaxPilots != 10 || shortSpan(time.Duration(q.Walltime)) != "1h" || q.Memory < 50e9 || q.Memory > 64e9 {
		t.Errorf("queue = %+v, want the default one, and a part of its nodes", q)
	}
	for _, want := range []string{
		"found slurm: it answers\n", "found local: this machine alone: ", "  gpu: 2 nodes, 64 cores, 540GB, 4 cards a node, at most 24h\n", "floe site join @TOKEN",
		"*/5 * * * *  PATH=", "SLURM_CONF='/etc/it'\\''s/slurm.conf' ", " glidein --config '" + dir + "/site.toml' >>'" + dir + "/passes.log' 2>&1\n",
		"systemctl --user enable --now floe-glidein.timer\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no word of %q:\n%s", want, out)
		}
	}
	if verify, err := exec.LookPath("systemd-analyze"); err == nil {
		c := exec.Command(verify, "verify", "--user", filepath.Join(dir, "systemd", "floe-glidein.timer"))
		c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		said, err := c.CombinedOutput()
		if err != nil || strings.Contains(string(said), "floe-glidein") {
			t.Errorf("systemd-analyze verify: %v\n%s", err, said)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "systemd", "floe-glidein.service")); err != nil || !strings.Contains(string(b), `Environment="SLURM_CONF=/etc/it's/slurm.conf"`) || !strings.Contains(string(b), `glidein --config "`+dir+`/site.toml"`) {
		t.Errorf("service: %v\n%s", err, b)
	}
	if code, _, errs := runFloe(t, "site", "init", "--dir", dir, "--yes"); code != exitUsage || !strings.Contains(errs, "--force replaces it") {
		t.Errorf("over a site.toml that is there = %d: %s", code, errs)
	}
}

// TestSiteInitOfHTCondor: a job that asks for no disk gets none there.
func TestSiteInitOfHTCondor(t *testing.T) {
	dir := t.TempDir()
	fakeTools(t, map[string]string{
		"condor_submit": "", "condor_q": "[]\n", "condor_rm": "",
		"condor_status": `[{"Machine": "n1", "TotalCpus": 16.0, "TotalMemory": 64000}]` + "\n",
	})
	if code, out, errs := runFloe(t, "site", "init", "--dir", dir, "--yes"); code != exitOK || !strings.Contains(out, "found condor: ") {
		t.Fatalf("floe site init = %d\n%s%s", code, out, errs)
	}
	config, err := glidein.LoadForJobs(filepath.Join(dir, "site.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if q := config.Queue; q.Type != "condor" || q.Cores != 8 || q.Memory < 20e9 || q.Disk != 10e9 {
		t.Errorf("queue = %+v, want half a machine, and 10 GB of disk", q)
	}
}

func TestSiteInitAsks(t *testing.T) {
	fakeTools(t, fakeSlurm)
	dir := t.TempDir()
	code, out := askFloe(t, strings.Join([]string{
		"", "nope", "gpu, long", // the batch system; queues that are not there, and that are
		"16", "5", "2", "", "", // of gpu: cores, pilots, cards, memory, walltime
		"", "none", "20", "64GB", "100h", // of long
		"/scratch",
	}, "\n")+"\n", "site", "init", "--dir", dir)
	if code != exitOK || !strings.Contains(out, `queue "nope": slurm has short, gpu, long`) || !strings.Contains(out, `"none": want a number from 1`) {
		t.Fatalf("floe site init = %d\n%s", code, out)
	}
	config, err := glidein.LoadForJobs(filepath.Join(dir, "site.toml"))
	if err != nil {
		t.Fatal(err)
	}
	gpu, long := config.Queues["gpu"], config.Queues["long"]
	if gpu == nil || gpu.Cores != 16 || gpu.MaxPilots != 5 || gpu.GPUs != 2 || gpu.Memory < 100e9 || shortSpan(time.Duration(gpu.Walltime)) != "24h" {
		t.Errorf("queue gpu = %+v", gpu)
	}
	if long == nil || long.Cores != 8 || long.MaxPilots != 20 || long.GPUs != 0 || long.Memory != 64e9 || shortSpan(time.Duration(long.Walltime)) != "100h" {
		t.Errorf("queue long = %+v", long)
	}
	if config.System.Scratch != "/scratch" {
		t.Errorf("scratch = %q", config.System.Scratch)
	}
}

func TestSiteInitSaysWhatItCannot(t *testing.T) {
	fakeTools(t, fakeSlurm)
	for _, test := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--type", "slrum"}, exitUsage, `batch system "slrum": want one of`},
		{[]string{"--type", "condor"}, exitFailure, "no condor_submit, condor_q, condor_rm on PATH"},
		{[]string{"--queue", "shrot"}, exitUsage, `queue "shrot": slurm has short, gpu, long`},
		{[]string{"--queue", "short", "--walltime", "2h"}, exitUsage, "walltime 2h: queue short has at most 1h"},
		{[]string{"--type", "arc"}, exitUnreachable, "want the URL of an ARC CE"},
	} {
		code, _, errs := runFloe(t, append([]string{"site", "init", "--yes", "--dir", t.TempDir()}, test.args...)...)
		if code != test.code || !strings.Contains(errs, test.err) {
			t.Errorf("floe site init %q = %d, want %d and %q: %s", test.args, code, test.code, test.err, errs)
		}
	}
}
