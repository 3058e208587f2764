package glidein_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein"
	"floe/protocol"
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
		"site cache":    {"[queue]\ntype = \"local\"\n[system]\npilot=\"PILOT\"\nsite_cache=\"head:4480\"\n", "https://host:port"},
		"other's words": {"[queue]\ntype = \"slurm\"\n[queue.sge]\ngpu=\"gpu\"\n[system]\npilot=\"PILOT\"\n", `queue.sge: the queue is of the type "slurm"`},
		"a dialect":     {"[queue]\ntype = \"pbs\"\n[queue.pbs]\ndialect=\"maui\"\n[system]\npilot=\"PILOT\"\n", "openpbs or torque"},
		"two names":     {"[queue]\ntype = \"sge\"\n[queue.sge]\nparallel_environment=\"smp 2\"\n[system]\npilot=\"PILOT\"\n", "queue.sge.parallel_environment"},
		"directive":     {"[queue]\ntype = \"local\"\ndirectives=[\"a\\nb\"]\n[system]\npilot=\"PILOT\"\n", "one line"},
	} {
		if _, err := load(t, x.text); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v; want %q in it", name, err, x.want)
		}
	}
}
