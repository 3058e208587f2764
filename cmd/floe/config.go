package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"floe/glidein/iceprod"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Bring over the configuration of an IceProd site"}
	c.AddCommand(configImportCommand())
	return c
}

// maxINI bounds an old configuration.
const maxINI = 1 << 20

// configImportCommand makes a site.toml of IceProd's INI file.
func configImportCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use: "import OLD.INI", Short: "Make a site.toml of IceProd's INI file, and say what could not be carried over", Args: exactArgs("OLD.INI"),
		Long: "Make a site.toml of the INI file that configured a site of IceProd: its sections for queueing,\n" +
			"system parameters and job environment. What is made goes to standard output, or to --to FILE,\n" +
			"which must not be there. Every key of the old file is told of on standard error: where it went,\n" +
			"or why it did not. System parameters become values of $system, which every payload can read.\n\n" +
			"Exit code 1 if what was made cannot be used as it is.",
		Example: "  floe config import iceprod.cfg --to ~/floe/site.toml",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			info, err := os.Stat(args[0])
			if err == nil && info.Size() > maxINI {
				err = fmt.Errorf("%s: it is larger than %d bytes", args[0], maxINI)
			}
			if err != nil {
				return withExit(exitFailure, err)
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return withExit(exitFailure, err)
			}
			made := iceprod.Read(string(text), args[0])
			if to != "" {
				if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
					return usageErrorf("--to %s: it is there already", to)
				}
				if err := renameio.WriteFile(to, []byte(made.TOML), 0o600); err != nil {
					return withExit(exitFailure, err)
				}
			}
			if done, err := p.value(made); err != nil {
				return err
			} else if !done {
				if to == "" {
					fmt.Fprint(p.out, made.TOML)
				}
				report := &printer{out: c.ErrOrStderr()}
				if err := report.rows(nil, importRows(args[0], made)); err != nil {
					return err
				}
			}
			if made.Mistakes != "" {
				return withExit(exitFailure, fmt.Errorf("to be mended by hand: %s", made.Mistakes))
			}
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "write the file here instead of to standard output")
	outputFlag(c)
	return c
}

// importRows says of each line what became of it.
func importRows(file string, made *iceprod.Import) (rows [][]string) {
	for _, l := range made.Lines {
		became := "not carried over"
		if l.To != "" {
			became = "is " + l.To
		}
		key := l.Key
		if l.Section != "" {
			key = "[" + l.Section + "] " + key
		}
		rows = append(rows, []string{file + ":" + strconv.Itoa(l.Line), visible(key), became, visible(l.Why)})
	}
	return rows
}
