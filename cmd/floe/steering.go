package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"floe/protocol"
	"floe/protocol/steering"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// steeringCommand is the dataset language on one's own machine: nothing here
// asks a coordinator.
func steeringCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "steering",
		Short: "Check, format, convert and try steering files",
		Long: "Check, format, convert and try steering files (XML, JSON or YAML, told apart\n" +
			"by content). No coordinator is asked. FILE may be - for standard input.",
	}
	c.AddCommand(
		steeringCheckCommand(), steeringFormatCommand(), steeringConvertCommand(),
		steeringExpandCommand(), steeringEvalCommand(),
	)
	return c
}

// someFiles wants at least one file.
func someFiles(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageErrorf("%s: FILE is missing; see '%s --help'", c.CommandPath(), c.CommandPath())
	}
	return nil
}

// checkedFile is one file of steering check -o json.
type checkedFile struct {
	File     string            `json:"file"`
	Spelling string            `json:"spelling"`
	OK       bool              `json:"ok"`
	Problems steering.Problems `json:"problems"`
}

func steeringCheckCommand() *cobra.Command {
	var jobs, dataset uint32
	c := &cobra.Command{
		Use:   "check FILE...",
		Short: "Report everything wrong with steering files",
		Long: "Report everything wrong with steering files, all at once, and warn of phrases that\n" +
			"nothing resolves and of seeds that come twice.\n\n" +
			"Exit code 1 if a file has errors, 0 if there are warnings only.",
		Args: someFiles,
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			files, wrong := make([]checkedFile, 0, len(args)), 0
			for _, name := range args {
				source, err := readSteering(c, name)
				if err != nil {
					return err
				}
				doc, problems := steering.Parse(name, source)
				if !problems.HasErrors() {
					number := protocol.DatasetID(dataset)
					if number == 0 {
						number = doc.Number()
					}
					compile := steering.CompileInput{Dataset: number, JobCount: jobs}
					warnings := steering.Lint(doc, compile, nil)
					_, refused := steering.Externals(doc, compile)
					warnings = append(warnings, refused...)
					problems = append(problems, steering.NewSource(name, source).Quote(warnings)...).Sort()
				}
				f := checkedFile{File: name, Spelling: steering.Detect(source).String(), OK: !problems.HasErrors(), Problems: problems}
				if f.Problems == nil {
					f.Problems = steering.Problems{}
				}
				if !f.OK {
					wrong++
				}
				files = append(files, f)
			}
			if done, err := p.value(files); err != nil || done {
				return exitIfWrong(wrong, len(files), err)
			}
			for _, f := range files {
				if _, err := fmt.Fprint(p.out, f.Problems.Format()); err != nil {
					return err
				}
			}
			return exitIfWrong(wrong, len(files), nil)
		},
	}
	c.Flags().Uint32Var(&jobs, "jobs", 1000, "number of jobs whose seeds are compared")
	c.Flags().Uint32Var(&dataset, "dataset", 0, "number of the dataset; default: the one the file claims")
	outputFlag(c)
	return c
}

// exitIfWrong turns the number of files with errors into the verb's end.
func exitIfWrong(wrong, files int, err error) error {
	if err != nil || wrong == 0 {
		return err
	}
	return withExit(exitFailure, fmt.Errorf("%d of %d steering files have errors", wrong, files))
}

// formattedFile is one file of steering fmt and convert with -o json.
type formattedFile struct {
	File     string            `json:"file"`
	Spelling string            `json:"spelling"`
	Changed  bool              `json:"changed"`
	Problems steering.Problems `json:"problems,omitempty"`
	Text     string            `json:"text,omitempty"`
}

func steeringFormatCommand() *cobra.Command {
	var write bool
	c := &cobra.Command{
		Use:   "fmt FILE...",
		Short: "Lay steering files out in the usual way",
		Long: "Lay steering files out in the usual way, each in its own spelling.\n\n" +
			"Comments, order and meaning stay. Without -w the text goes to standard output.",
		Args: someFiles,
		RunE: func(c *cobra.Command, args []string) error {
			return rewrite(c, args, func(name string, source []byte) (formattedFile, error) {
				text, problems := steering.Format(name, source)
				f := formattedFile{File: name, Spelling: steering.Detect(source).String(), Problems: problems}
				if problems.HasErrors() {
					return f, nil
				}
				f.Changed, f.Text = !bytes.Equal(text, source), string(text)
				if !write || name == "-" {
					return f, nil
				}
				f.Text = ""
				if !f.Changed {
					return f, nil
				}
				return f, withExit(exitFailure, renameio.WriteFile(name, text, 0o644, renameio.WithExistingPermissions()))
			})
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "write each file back instead of to standard output")
	outputFlag(c)
	return c
}

func steeringConvertCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "convert --to xml|json|yaml FILE",
		Short: "Write a steering file in another spelling",
		Long: "Write a steering file in another spelling to standard output.\n\n" +
			"Nothing is lost but comments: converting back gives the same dataset.",
		Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if to == "" {
				return usageErrorf("%s: --to is missing: want xml, json or yaml", c.CommandPath())
			}
			spelling, err := steering.ParseSpelling(to)
			if err != nil {
				return usageErrorf("--to: %v", err)
			}
			return rewrite(c, args, func(name string, source []byte) (formattedFile, error) {
				doc, problems := steering.Parse(name, source)
				f := formattedFile{File: name, Spelling: spelling.String(), Problems: problems}
				if problems.HasErrors() {
					return f, nil
				}
				var text bytes.Buffer
				if err := steering.Write(&text, doc, spelling); err != nil {
					return f, fmt.Errorf("%s: %w", name, err)
				}
				f.Changed, f.Text = true, text.String()
				return f, nil
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "spelling to write: xml, json or yaml")
	if err := c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions([]string{"xml", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined one line above
	}
	outputFlag(c)
	return c
}

// rewrite runs one change over files and prints what came out; problems go to
// standard error so that the text stays clean.
func rewrite(c *cobra.Command, names []string, change func(string, []byte) (formattedFile, error)) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	files, wrong := make([]formattedFile, 0, len(names)), 0
	for _, name := range names {
		source, err := readSteering(c, name)
		if err != nil {
			return err
		}
		f, err := change(name, source)
		if err != nil {
			return err
		}
		if f.Problems.HasErrors() {
			wrong++
		}
		files = append(files, f)
	}
	if done, err := p.value(files); err != nil || done {
		return exitIfWrong(wrong, len(files), err)
	}
	for _, f := range files {
		if _, err := fmt.Fprint(c.ErrOrStderr(), f.Problems.Format()); err != nil {
			return err
		}
		if _, err := fmt.Fprint(p.out, f.Text); err != nil {
			return err
		}
	}
	return exitIfWrong(wrong, len(files), nil)
}

// readSteering reads a file, or standard input for "-", no further than a
// steering file may go.
func readSteering(c *cobra.Command, name string) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, withExit(exitFailure, err)
		}
		defer f.Close()
		in = f
	}
	source, err := io.ReadAll(io.LimitReader(in, steering.MaxBytes+1))
	if err != nil {
		return nil, withExit(exitFailure, fmt.Errorf("read %s: %w", name, err))
	}
	return source, nil
}
