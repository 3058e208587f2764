package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/pilot/library"
	"floe/pilot/payload"
	"floe/protocol/steering"

	"github.com/spf13/cobra"
)

// moduleCommand tells people and editors what parameters modules have.
func moduleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "module",
		Short: "List modules and their parameters",
		Long: "List the predefined modules, and the parameters of these and of Python files.\n" +
			"No coordinator is asked.",
	}
	c.AddCommand(moduleListCommand(), moduleDescribeCommand())
	return c
}

func moduleListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the predefined modules",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			all := steering.PredefinedModules()
			if done, err := p.value(all); err != nil || done {
				return err
			}
			var rows [][]string
			for _, m := range all {
				rows = append(rows, []string{m.Name, m.Doc})
			}
			return p.rows([]string{"module", "what it does"}, rows)
		},
	}
	outputFlag(c)
	return c
}

// describedFile is module describe -o json for a file.
type describedFile struct {
	File string `json:"file"`
	// Pinned is what a URL means at this moment, by a name that always means the same.
	Pinned string `json:"pinned,omitempty"`
	*payload.Description
}

// describeLimit is how long a description may take: with --run, a file may do
// anything.
const describeLimit = time.Minute

func moduleDescribeCommand() *cobra.Command {
	var run bool
	c := &cobra.Command{
		Use:   "describe NAME|FILE|URL",
		Short: "Show the parameters of a module",
		Long: "Show the parameters of a predefined module, of every module in a Python file, or of\n" +
			"an external module (https, git+https, svn+https): names, defaults and help.\n\n" +
			"A file is read and not run, by the first Python on PATH that understands it. What\n" +
			"only running shows is noted; --run imports the file and asks its modules, isolated\n" +
			"where this machine allows it. What is behind a URL is fetched as a coordinator would\n" +
			"fetch it, and run only isolated.\n\n" +
			"Exit code 1 if the file cannot be read or defines no module.",
		Args: exactArgs("NAME, FILE or URL"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); err != nil && strings.HasPrefix(args[0], steering.PredefinedPrefix) {
				return describePredefined(p, args[0])
			}
			if strings.Contains(args[0], "://") {
				return describeURL(c, p, args[0], run)
			}
			ctx, stop := context.WithTimeout(c.Context(), describeLimit)
			defer stop()
			describe := describeWith(c, run, false)
			d, err := describe(ctx, args[0], filepath.Dir(args[0]))
			if err != nil {
				return withExit(exitFailure, err)
			}
			if len(d.Modules) == 0 {
				return noModules(args[0], nil)
			}
			if done, err := p.value(describedFile{File: args[0], Description: d}); err != nil || done {
				return err
			}
			return printDescription(p, args[0], d)
		},
	}
	c.Flags().BoolVar(&run, "run", false, "import the file and ask its modules")
	fetchFlags(c, anyHost)
	outputFlag(c)
	return c
}

// describer describes one file, which is imported from a folder.
type describer func(ctx context.Context, file, root string) (*payload.Description, error)

// describeWith is how files are described: read, or run, then isolated if that is
// possible, or at all costs.
func describeWith(c *cobra.Command, run, strictly bool) describer {
	plain := func(ctx context.Context, file, _ string) (*payload.Description, error) {
		return payload.Describe(ctx, file, run)
	}
	if !run {
		return plain
	}
	isolation, err := payload.FindIsolation(os.TempDir(), payload.Places{Hidden: secretPlaces()})
	switch {
	case err == nil:
		return func(ctx context.Context, file, root string) (*payload.Description, error) {
			return payload.DescribeIsolated(ctx, file, root, isolation)
		}
	case strictly:
		return func(context.Context, string, string) (*payload.Description, error) {
			return nil, fmt.Errorf("--run: code from elsewhere runs only isolated: %w", err)
		}
	}
	fmt.Fprintf(c.ErrOrStderr(), "%v\n", err)
	return plain
}

// secretPlaces are where people keep what a module that is only looked at need not see.
func secretPlaces() []string {
	places := []string{os.Getenv("FLOE_TOKEN_FILE"), os.Getenv("X509_USER_PROXY"), os.Getenv("KRB5CCNAME")}
	if config, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(config, "floe"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range []string{".ssh", ".gnupg", ".globus", ".aws", ".netrc", ".kube", ".docker"} {
			places = append(places, filepath.Join(home, name))
		}
	}
	return slices.DeleteFunc(places, func(p string) bool { return !filepath.IsAbs(p) })
}

// noModules is the end of a description without any; others are the errors of files
// that could not be read.
func noModules(what string, others error) error {
	none := fmt.Errorf("%s defines no module: no class with Execute, nothing made by FromOptionParser, and no function whose parameters have defaults or annotations", what)
	return withExit(exitFailure, errors.Join(none, others))
}

func describePredefined(p *printer, name string) error {
	m, err := steering.FindPredefined(name)
	if err != nil {
		return withExit(exitFailure, err)
	}
	if done, err := p.value(m); err != nil || done {
		return err
	}
	p.line("%s: %s\n", m.Name, m.Doc)
	var rows [][]string
	for _, x := range m.Parameters {
		standard := string(x.Default)
		if x.Required {
			standard = "required"
		}
		doc := x.Doc
		if len(x.Words) > 0 {
			doc += ": " + strings.Join(x.Words, ", ")
		}
		rows = append(rows, []string{x.Name, x.Kind.String(), standard, doc})
	}
	return p.rows([]string{"parameter", "type", "default", "help"}, rows)
}

func printDescription(p *printer, file string, d *payload.Description) error {
	unknown := false
	for i := range d.Modules {
		m := &d.Modules[i]
		if i > 0 {
			p.line("")
		}
		title := visible(m.Class)
		if m.Doc != "" {
			title += ": " + visible(m.Doc)
		}
		p.line("%s\n", title)
		var rows [][]string
		for _, x := range m.Parameters {
			rows = append(rows, []string{visible(x.Name), visible(defaultText(x.Default)), visible(x.Help)})
		}
		if err := p.rows([]string{"parameter", "default", "help"}, rows); err != nil {
			return err
		}
		for _, note := range m.Notes {
			p.line("note: %s", visible(note))
			unknown = true
		}
	}
	if unknown && file != "" {
		p.line("\nfloe module describe --run %s imports the file and may know more", file)
	}
	return nil
}

// defaultText is a default for people: JSON, or the Python that stands in the file.
func defaultText(raw json.RawMessage) string {
	var other struct {
		Python *string `json:"python"`
	}
	if json.Unmarshal(raw, &other) == nil && other.Python != nil {
		return *other.Python
	}
	return string(raw)
}

// moduleStepCommand is what floe run calls itself with to run a predefined module
// under the limits of its task.
func moduleStepCommand() *cobra.Command {
	return &cobra.Command{
		Use: library.Command + " FILE", Short: "Run a predefined module, as the pilot does", Hidden: true, Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return withExit(exitFailure, library.Main(c.Context(), args[0], c.OutOrStdout()))
		},
	}
}
