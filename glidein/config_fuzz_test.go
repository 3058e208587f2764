package glidein

import (
	"strings"
	"testing"
)

// FuzzConfig reads whatever stands in a site's file: it is read and checked, or every
// mistake in it is named with the file.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"[queue]\ntype = \"local\"\n[queues.gpu]\ngpus = 1\n",
		"[queue.gpu]\ncores = 2\n", "[queu]\n", "queues.a.b.c = 1\n", "[queues]\na = 1\n", "[[queue]]\n", "[queues.\"\"]\n",
		"a = [\n[1],\n]\n", "[env]\na.b = \"c\"\n", "[queue]\nmemory = 1e400\n", "\xff", "[queue]\ntags = [1]\n", "[queues.a]\n[queues.a]\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := readConfig([]byte(text), "site.toml")
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if strings.Contains(line, "unknown") && !strings.HasPrefix(line, "site.toml:") {
					t.Errorf("%q does not say where", line)
				}
			}
			return
		}
		c.fill("/site")
		_ = c.Validate()
		for _, q := range c.InUse() {
			if q.Shape() == "" && q.Type != "" {
				t.Errorf("a queue of type %s has no name", q.Type)
			}
		}
	})
}
