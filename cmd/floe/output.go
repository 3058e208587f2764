package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"floe/protocol"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printer writes what a verb answers: a table for people, tab-separated lines
// without colour when piped, JSON with -o json.
type printer struct {
	out  io.Writer
	json bool
	tty  bool
}

// outputFlag adds -o to a command.
func outputFlag(c *cobra.Command) {
	c.Flags().StringP("output", "o", "text", "output format: text or json")
}

// logLevelFlag adds --log-level to a command that serves, logLevel reads it.
func logLevelFlag(c *cobra.Command) {
	c.Flags().String("log-level", "info", "debug, info, warn or error")
}

func logLevel(c *cobra.Command) (level slog.Level, err error) {
	text, _ := c.Flags().GetString("log-level")
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return level, usageErrorf("log level %q: want debug, info, warn or error", text)
	}
	return level, nil
}

func newPrinter(c *cobra.Command) (*printer, error) {
	p := &printer{out: c.OutOrStdout()}
	if f, ok := p.out.(*os.File); ok {
		p.tty = term.IsTerminal(int(f.Fd()))
	}
	switch format, _ := c.Flags().GetString("output"); format { // empty for a verb without -o
	case "", "text":
	case "json":
		p.json = true
	default:
		return nil, usageErrorf("output %q: want text or json", format)
	}
	return p, nil
}

// value prints v as JSON if that was asked for, and says whether it did.
func (p *printer) value(v any) (bool, error) {
	if !p.json {
		return false, nil
	}
	e := json.NewEncoder(p.out)
	e.SetIndent("", "  ")
	return true, e.Encode(v)
}

// rows prints a table.
func (p *printer) rows(header []string, rows [][]string) error {
	if !p.tty {
		for _, r := range rows {
			if _, err := fmt.Fprintln(p.out, strings.Join(r, "\t")); err != nil {
				return err
			}
		}
		return nil
	}
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatLower
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.AppendHeader(row(header))
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	_, err := fmt.Fprintln(p.out, t.Render())
	return err
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

// line prints one line of prose.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
}

// moment writes a wall time in UTC, or a dash.
func moment(unixMilli int64) string {
	if unixMilli == 0 {
		return "-"
	}
	return time.UnixMilli(unixMilli).UTC().Format("2006-01-02 15:04:05Z")
}

// span writes milliseconds as people say them.
func span(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// counts writes non-zero counts in the order of a thing's life.
func counts[S fmt.Stringer](c protocol.StateCounts, order []S) string {
	var parts []string
	for _, s := range order {
		if n := c[s.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n, s))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// visible replaces control characters: what pilots and payloads say is shown in
// people's terminals.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}
