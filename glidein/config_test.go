package glidein_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"floe/glidein"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, text string) (*glidein.Config, error) {
	t.Helper()
	dir := t.TempDir()
	pilot := filepath.Join(dir, "floe-pilot")
	if err := os.WriteFile(pilot, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "site.toml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "PILOT", pilot)), 0o600); err != nil {
		t.Fatal(err)
	}
	return glidein.LoadConfig(file)
}

func TestLoadConfig(t *testing.T) {
	c, err := load(t, `
[queue]
type = "local"
max_pilots = 4
memory = "2.5GB"
walltime = "90m"
[system]
pilot = "PILOT"
[env]
X509_CERT_DIR = "/etc/grid-security"
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Queue.Memory != glidein.Size(2500*protocol.MB) || c.Queue.Walltime != glidein.Duration(90*time.Minute) {
		t.Errorf("memory %d, walltime %v", c.Queue.Memory, time.Duration(c.Queue.Walltime))
	}
	if c.Queue.Cores != 1 || c.Queue.MaxQueued != 4 || c.System.Scratch != filepath.Join(c.Directory, "scratch") {
		t.Errorf("defaults not filled: %+v", c)
	}
}

func TestSeveralQueues(t *testing.T) {
	c, err := load(t, `
[site]
max_pilots = 30
[queue]
type = "sge"
cores = 4
max_pilots = 20
tags = ["a", "b"]
directives = ["-q all.q"]
[queue.sge]
memory = "h_vmem"
[queues.long]
walltime = "72h"
tags = ["c"]
[queues.gpu]
type = "slurm"
name = "cards"
gpus = 1
max_pilots = 2
[system]
pilot = "PILOT"
`)
	if err != nil {
		t.Fatal(err)
	}
	all := c.InUse()
	if len(all) != 2 || all[0].Shape() != "gpu" || all[1].Shape() != "long" || c.Site.MaxPilots != 30 {
		t.Fatalf("queues %+v", all)
	}
	gpu, long := all[0], all[1]
	if gpu.Type != "slurm" || gpu.Name != "cards" || gpu.Cores != 4 || gpu.MaxPilots != 2 || gpu.MaxQueued != 2 || gpu.GPUs != 1 || gpu.Walltime != glidein.Duration(24*time.Hour) {
		t.Errorf("gpu is %+v", gpu)
	}
	if long.Type != "sge" || long.MaxPilots != 20 || long.Walltime != glidein.Duration(72*time.Hour) || long.GPUs != 0 || long.SGE.Memory != "h_vmem" {
		t.Errorf("long is %+v", long)
	}
	if d := cmp.Diff([][]string{{"a", "b"}, {"c"}, {"a", "b"}}, [][]string{gpu.Tags, long.Tags, c.Queue.Tags}); d != "" {
		t.Errorf("tags of gpu, long and what they have in common (-want +got):\n%s", d)
	}
}

func TestEveryKeyIsKnown(t *testing.T) {
	all := glidein.Keys()
	for _, want := range []string{"directory", "queue.sge.memory", "queues.*.sge.memory", "queues.*.max_pilots", "system.gpu_test", "env.*", "site.per_pass"} {
		if !slices.Contains(all, want) {
			t.Errorf("%s is not among the keys %v", want, all)
		}
	}
}

func TestConfigMistakes(t *testing.T) {
	for name, x := range map[string]struct{ text, want string }{
		"unknown key":   {"[queue]\ntype = \"local\"\nmax_pilot = 3\n[system]\npilot=\"PILOT\"\n", `site.toml:3:1: unknown key "queue.max_pilot"; did you mean "queue.max_pilots"?`},
		"wrong type":    {"[queue]\ntype = \"local\"\ncores = \"two\"\n", "site.toml:3:"},
		"bad size":      {"[queue]\ntype = \"local\"\nmemory = \"2 elephants\"\n", "want such as 2GB"},
		"bad system":    {"[queue]\ntype = \"slrum\"\n[system]\npilot=\"PILOT\"\n", `queue.type "slrum"`},
		"no pilot":      {"[queue]\ntype = \"local\"\n[system]\npilot=\"/nowhere/floe-pilot\"\n", "system.pilot"},
		"own env":       {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\n[env]\nFLOE_X=\"1\"\n", "FLOE_"},
		"isolation":     {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nisolation=\"some\"\n", "auto, none or require"},
		"writable":      {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nwritable=[\"data\"]\n", "absolute path"},
		"cache from":    {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\ncache_from=[\"theirs\"]\n", "absolute path"},
		"relay":         {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nrelay=\"head\"\n", "system.relay: address \"head\": want host:port"},
		"relay storage": {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nrelay=\"head:1\"\nrelay_storage=[\"https://s\"]\n", "system.relay_storage"},
		"no relay":      {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nrelay_storage=[\"s:1\"]\n", "system.relay: not set"},
		"site cache":    {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nsite_cache=\"head:4480\"\n", "https://host:port"},
		"other's words": {"[queue]\ntype = \"slurm\"\n[queue.sge]\ngpu=\"gpu\"\n[system]\npilot=\"PILOT\"\n", `queue.sge: the queue is of the type "slurm"`},
		"a dialect":     {"[queue]\ntype = \"pbs\"\n[queue.pbs]\ndialect=\"maui\"\n[system]\npilot=\"PILOT\"\n", "openpbs or torque"},
		"no disk":       {"[queue]\ntype = \"condor\"\nmemory = \"2GB\"\n[system]\npilot=\"PILOT\"\n", "queue: HTCondor gives"},
		"two names":     {"[queue]\ntype = \"sge\"\n[queue.sge]\nparallel_environment=\"smp 2\"\n[system]\npilot=\"PILOT\"\n", "queue.sge.parallel_environment"},
		"a queue's key": {"[queue]\ntype = \"local\"\n[queues.gpu]\nmemry = \"2GB\"\n", `site.toml:4:1: unknown key "queues.gpu.memry"; did you mean "queues.gpu.memory"?`},
		"a section":     {"[queu]\ntype = \"local\"\n", `site.toml:1:2: unknown section "queu"; did you mean [queue]?`},
		"a table":       {"[queue]\ntype = \"local\"\n[queue.gpu]\ncores = 2\n", `site.toml:3:2: unknown section "queue.gpu"; a queue with a name of its own is [queues.gpu]`},
		"elsewhere":     {"[queue]\ntype = \"local\"\nscratch = \"/s\"\n", `unknown key "queue.scratch"; did you mean "system.scratch"?`},
		"of one queue":  {"[queue]\ntype = \"local\"\n[queues.gpu]\ntype = \"slrum\"\n[system]\npilot=\"PILOT\"\n", `queues.gpu.type "slrum"`},
		"its name":      {"[queue]\ntype = \"local\"\n[queues.\"a b\"]\n[system]\npilot=\"PILOT\"\n", `queues."a b": want a name`},
		"site's caps":   {"[site]\nper_pass = -1\n[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\n", `site.per_pass -1`},
		"one's words":   {"[queue]\ntype = \"sge\"\n[queues.a]\ntype = \"slurm\"\n[queues.a.sge]\ngpu = \"g\"\n[system]\npilot=\"PILOT\"\n", `queues.a.sge: the queue is of the type "slurm"`},
		"ssh":           {"[queue]\ntype = \"local\"\nssh = \"-oProxyCommand=x\"\n", "queue.ssh"},
		"a port":        {"[queue]\ntype = \"local\"\nssh = \"host:22 x\"\n", "letters, digits"},
		"directive":     {"[queue]\ntype = \"local\"\ndirectives=[\"a\\nb\"]\n[system]\npilot=\"PILOT\"\n", "one line"},
	} {
		if _, err := load(t, x.text); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v; want %q in it", name, err, x.want)
		}
	}
}

// TestQueueElsewhere is what a login node is told of a queue.
func TestQueueElsewhere(t *testing.T) {
	c, err := load(t, "[queue]\ntype = \"sge\"\nssh = \"ice@login.example.org:~/floe/\"\nmemory = \"2GB\"\nwalltime = \"90m\"\nsge.gpu = \"cards\"\n[system]\npilot = \"PILOT\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Queue.SSH; got.Host() != "ice@login.example.org" || got.Directory() != "floe" {
		t.Errorf("host %q, directory %q", got.Host(), got.Directory())
	}
	text, err := json.Marshal(c.Queue)
	if err != nil {
		t.Fatal(err)
	}
	var got glidein.Queue
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := c.Queue
	want.SSH = ""
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the queue there (-want +got):\n%s", d)
	}
	for text, dir := range map[string]string{"login": "floe", "login:/data/floe": "/data/floe", "a-b.c:x/y+z": "x/y+z"} {
		if l := glidein.Login(text); l.Check() != nil || l.Directory() != dir {
			t.Errorf("%s: directory %q, %v; want %q", text, l.Directory(), l.Check(), dir)
		}
	}
	for _, bad := range []string{"", "@login", "-login", "a b", "login:", "login:-x", "login:a b", "login:$HOME", "login:a;b", "login:it's", "user@-x", "login:~", "login:a\nb"} {
		if l := glidein.Login(bad); l.Check() == nil {
			t.Errorf("ssh %q is taken: host %q, directory %q", bad, l.Host(), l.Directory())
		}
	}
}

func TestPluginOfTheSite(t *testing.T) {
	c, err := load(t, `
[queue]
type = "exec"
[queue.exec]
command = ["plugins/mine", "--fast"]
[queue.exec.settings]
partition = "long"
nice = 5
[system]
pilot = "PILOT"
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Queue.Exec.In("/site"); len(got) != 2 || got[0] != "/site/plugins/mine" || c.Queue.Exec.Settings["partition"] != "long" {
		t.Errorf("plugin %q, settings %v", got, c.Queue.Exec.Settings)
	}
	several, err := load(t, "[queue]\ntype = \"exec\"\nexec.command = [\"mine\"]\nexec.settings.a = 1\n[queues.x]\nexec.settings.b = 2\n[queues.y]\nexec.settings.a = 3\n[system]\npilot = \"PILOT\"\n")
	if err != nil {
		t.Fatal(err)
	}
	x, y := several.Queues["x"], several.Queues["y"]
	if len(x.Exec.Settings) != 2 || len(y.Exec.Settings) != 1 || y.Exec.Settings["a"] != int64(3) || x.Where() == y.Where() {
		t.Errorf("settings %v and %v, of batch systems %q and %q; want the common ones and their own, of two", x.Exec.Settings, y.Exec.Settings, x.Where(), y.Where())
	}
	for _, text := range []string{"type = \"exec\"\n", "type = \"local\"\nexec.command = [\"mine\"]\n", "type = \"exec\"\nexec.comand = [\"mine\"]\n"} {
		if _, err := load(t, "[queue]\n"+text+"[system]\npilot = \"PILOT\"\n"); err == nil || !strings.Contains(err.Error(), "queue.exec") {
			t.Errorf("%s: %v, want an error about queue.exec", text, err)
		}
	}
}
