package payload

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nosy is a module that looks around when it is imported, and tells in its help.
const nosy = `
import os
from iceprod.modules import ipmodule
import beside
def able(what):
    try:
        what()
        return 'yes'
    except (IOError, OSError):
        return 'no'
seen = {
    'reads the secret': able(lambda: open('SECRET').read()),
    'writes beside itself': able(lambda: open(os.path.join(os.path.dirname(__file__), 'planted'), 'w')),
    'writes into the home': able(lambda: open('HOME/floe-planted', 'w')),
    'has the token': 'yes' if 'FLOE_TOKEN' in os.environ else 'no',
    'sees others': 'yes' if len([p for p in os.listdir('/proc') if p.isdigit()]) > 8 else 'no',
}
print('it speaks')
class Look(ipmodule.IPBaseClass):
    def __init__(self):
        ipmodule.IPBaseClass.__init__(self)
        for name in seen:
            self.AddParameter(name, '', seen[name])
    def Execute(self, stats): pass
`

func TestDescribeIsolated(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	file := filepath.Join(dir, "mod.py")
	home := t.TempDir()
	t.Setenv("HOME", home)
	for name, text := range map[string]string{secret: "s", file: strings.NewReplacer("SECRET", secret, "HOME", home).Replace(nosy), filepath.Join(dir, "beside.py"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("FLOE_TOKEN", "secret")
	isolation, err := FindIsolation(t.TempDir(), Places{Hidden: []string{secret}})
	if err != nil {
		t.Skip(err)
	}
	d, err := DescribeIsolated(t.Context(), file, dir, isolation)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Modules) != 1 || len(d.Modules[0].Parameters) != 6 {
		t.Fatalf("described: %+v", d)
	}
	for _, p := range d.Modules[0].Parameters {
		if string(p.Default) == `"yes"` {
			t.Errorf("a module that is described %s", p.Name)
		}
	}
	for name, source := range map[string]string{
		"an answer that is a link": "import os\nos.chdir(os.environ['FLOE_SCRATCH'])\nos.unlink('answer.json')\nos.symlink('/etc/hostname', 'answer.json')\n",
		"no answer":                "import os\nos._exit(0)\n",
		"a wrong answer":           "import os, sys\nopen(os.path.join(os.environ['FLOE_SCRATCH'], 'answer.json'), 'w').write('{}x')\nos._exit(0)\n",
		"an error":                 "raise ValueError('not today')\n",
	} {
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := DescribeIsolated(t.Context(), file, dir, isolation); err == nil || name == "an error" && !strings.Contains(err.Error(), "not today") {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}
