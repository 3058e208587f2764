package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestEveryCommandIsDocumented compares the command tree with docs/commands.md:
// each command has a section of its name, and each of its flags stands in there,
// or in that of the command whose flags it says it has.
func TestEveryCommandIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for part := range strings.SplitSeq(string(page), "\n### ") {
		name, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		sections[name] = text
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}
		if c.Hidden || c.HasSubCommands() && !c.HasLocalFlags() {
			return
		}
		path := c.CommandPath()
		text, found := sections[path]
		if !found {
			t.Errorf("docs/commands.md has no section ### %s", path)
			return
		}
		if _, as, borrowed := strings.Cut(text, "lags as for `"); borrowed {
			as, _, _ = strings.Cut(as, "`")
			text += sections[strings.TrimSuffix(path, c.Name())+as]
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			name := "--" + f.Name
			switch f.Name {
			case "help":
				return
			case "output":
				name = "-o"
			}
			if !strings.Contains(text, name) {
				t.Errorf("docs/commands.md: section %s lacks %s", path, name)
			}
		})
	}
	walk(newRoot())
}
