package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Tool is the name of the command on a payload's PATH.
const Tool = "floe-task"

// Variable names the socket in a payload's environment.
const Variable = "FLOE_SOCKET"

// usage is what the command says of itself.
const usage = `floe-task tells the pilot about the task that runs, and asks it.

  floe-task statistic NAME VALUE         set a statistic of this module
  floe-task statistic --add NAME VALUE   add to it, from 0; prints the sum
  floe-task progress FRACTION [TEXT]     how much of the work is done, 0 to 1
  floe-task checkpoint saved [PATH...]   files to go on from are whole; prints bytes
  floe-task remaining [--margin SECONDS] seconds until this task's time is over
  floe-task attempt [KEY]                what was granted and where this is, or one of it

Exit codes: 0 done, 1 refused, 2 written wrongly, 3 no pilot to speak to.
`

// Exit codes of the command.
const (
	exitRefused = 1
	exitUsage   = 2
	exitNoPilot = 3
)

// Speak makes the process the command floe-task, and does not return, if it was
// started under that name. Programs that run payloads call it before anything else.
func Speak() {
	if len(os.Args) > 0 && filepath.Base(os.Args[0]) == Tool {
		os.Exit(Main(os.Args[1:], os.Getenv(Variable), os.Stdout, os.Stderr))
	}
}

// Main runs the command and returns its exit code.
func Main(args []string, socket string, out, errs io.Writer) int {
	line, err := compose(args)
	if err != nil {
		fmt.Fprintf(errs, "%s: %v\n", Tool, err)
		return exitUsage
	}
	if line == "" {
		fmt.Fprint(out, usage)
		return 0
	}
	if socket == "" {
		fmt.Fprintf(errs, "%s: no %s: not a payload of a pilot, or its pilot has no socket\n", Tool, Variable)
		return exitNoPilot
	}
	value, err := ask(socket, line)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		fmt.Fprintf(errs, "%s: %v\n", Tool, err)
		return exitRefused
	case err != nil:
		fmt.Fprintf(errs, "%s: %v\n", Tool, err)
		return exitNoPilot
	}
	if value != "" {
		fmt.Fprintln(out, value)
	}
	return 0
}

// compose makes the request of a command line; empty asks for help.
func compose(args []string) (string, error) {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		return "", nil
	}
	verb, rest := args[0], args[1:]
	for _, a := range rest {
		if strings.ContainsAny(a, "\n\x00") {
			return "", fmt.Errorf("%q: no line breaks", a)
		}
	}
	want := func(n int, form string) error {
		if len(rest) != n {
			return fmt.Errorf("want %s %s", verb, form)
		}
		return nil
	}
	switch verb {
	case "statistic":
		how := "set"
		if len(rest) > 0 && rest[0] == "--add" {
			how, rest = "add", rest[1:]
		}
		if err := want(2, "[--add] NAME VALUE"); err != nil {
			return "", err
		}
		return "statistic " + how + " " + rest[0] + " " + rest[1], nil
	case "progress":
		if len(rest) == 0 {
			return "", errors.New("want progress FRACTION [TEXT]")
		}
		return "progress " + strings.Join(rest, " "), nil
	case "checkpoint":
		if len(rest) == 0 || rest[0] != "saved" {
			return "", errors.New("want checkpoint saved [PATH...]")
		}
		for _, p := range rest[1:] {
			if strings.ContainsRune(p, '\t') {
				return "", fmt.Errorf("path %q: no tabs", p)
			}
		}
		return strings.TrimSuffix("checkpoint saved "+strings.Join(rest[1:], "\t"), " "), nil
	case "remaining":
		margin := ""
		switch {
		case len(rest) == 2 && rest[0] == "--margin":
			margin = rest[1]
		case len(rest) == 1 && strings.HasPrefix(rest[0], "--margin="):
			margin = strings.TrimPrefix(rest[0], "--margin=")
		case len(rest) > 0:
			return "", errors.New("want remaining [--margin SECONDS]")
		default:
			return "remaining", nil
		}
		if _, err := strconv.ParseFloat(margin, 64); err != nil {
			return "", fmt.Errorf("margin %q: want seconds", margin)
		}
		return "remaining " + margin, nil
	case "attempt":
		if len(rest) > 1 {
			return "", errors.New("want attempt [KEY]")
		}
		return strings.Join(args, " "), nil
	}
	return "", fmt.Errorf("%q: want statistic, progress, checkpoint, remaining or attempt; see %s --help", verb, Tool)
}

// ask makes one request and returns the value of its answer, or the *Error in it.
func ask(socket, line string) (string, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	reply, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}
	reply = strings.TrimSuffix(reply, "\n")
	if value, ok := strings.CutPrefix(reply, "ok"); ok {
		return strings.TrimPrefix(value, " "), nil
	}
	text, ok := strings.CutPrefix(reply, "error ")
	if !ok {
		return "", fmt.Errorf("answer %.40q is none", reply)
	}
	code, text, _ := strings.Cut(text, " ")
	return "", &Error{Code(code), text}
}

// Install puts the command into a directory of its own, as the running program under
// another name: linked, or copied where that cannot be.
func Install(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%s: %w", Tool, err)
	}
	path := filepath.Join(dir, Tool)
	if program, err := os.Executable(); err == nil && os.Link(program, path) == nil {
		return nil
	}
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("%s: %w", Tool, err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o500)
	if err != nil {
		return fmt.Errorf("%s: %w", Tool, err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("%s: %w", Tool, errors.Join(err, os.Remove(path)))
	}
	return nil
}
