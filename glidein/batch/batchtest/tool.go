package batchtest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Fault is a way in which a tool of a batch system fails.
type Fault string

// The faults that the suite tries.
const (
	// Hangs: the tool, and a child that holds its output, never end.
	Hangs Fault = "hangs"
	// Garbage: it prints what no version of it prints, and exits 0.
	Garbage Fault = "garbage"
	// Empty: it does nothing, prints nothing, and exits 0.
	Empty Fault = "empty"
	// Down: it cannot reach its server, and says so.
	Down Fault = "down"
	// Silent: it does what it was asked, prints nothing, and exits 1.
	Silent Fault = "silent"
	// Fails: it does what it was asked, answers, and exits 1 all the same.
	Fails Fault = "fails"
	// Cut: its answer ends in the middle, and it is killed.
	Cut Fault = "cut"
	// Noise: warnings come before its answer, on both outputs.
	Noise Fault = "noise"
	// Twice: jobs are listed twice.
	Twice Fault = "twice"
)

// Tool is one command of a dialect. It returns its exit status.
type Tool func(f *Fake, args []string, stdin io.Reader, stdout, stderr io.Writer) int

// Dialect are the commands of one batch system.
type Dialect struct {
	Tools map[string]Tool
	// Submit, Status and Remove are the tools that do so.
	Submit, Status, Remove string
	// Down is what a tool says when it cannot reach its server.
	Down func(tool string) (stderr string, exit int)
	// Noise are lines that real versions print before their answer, on stdout; empty
	// when none does.
	Noise string
}

const fakeVariable = "FLOE_FAKE_BATCH"

// Main runs the tests of m, a *testing.M, or the tool under whose name the binary
// was called.
func Main(m interface{ Run() int }, d Dialect) {
	name := filepath.Base(os.Args[0])
	tool, ok := d.Tools[name]
	if !ok {
		os.Exit(m.Run())
	}
	os.Exit(call(d, name, tool))
}

func call(d Dialect, name string, tool Tool) int {
	if os.Getenv("LC_ALL") != "C" {
		// Whoever does not ask for plain answers gets those of the machine's language.
		fmt.Println("Der Auftrag 1,0 wurde übermittelt")
		return 0
	}
	f := &Fake{Dir: os.Getenv(fakeVariable)}
	var stdout, stderr bytes.Buffer
	exit := 0
	var fault Fault
	err := f.Locked(func() error {
		if f.Tool == name || f.Tool == "" {
			fault = f.Fault
		}
		switch fault {
		case Hangs, Garbage, Down, Empty:
		default:
			exit = tool(f, os.Args[1:], os.Stdin, &stdout, &stderr)
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake:", err)
		return 99
	}
	switch fault {
	case Hangs:
		c := exec.Command("sleep", "600")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		_ = c.Run()
		return 0
	case Garbage:
		fmt.Print("<html><title>502 Bad Gateway</title>\x00\xff{]\n")
		return 0
	case Empty:
		return 0
	case Down:
		text, exit := d.Down(name)
		fmt.Fprintln(os.Stderr, text)
		return exit
	case Silent:
		return 1
	case Fails:
		exit = 1
	case Cut:
		stdout.Truncate(stdout.Len() * 2 / 3)
	case Noise:
		fmt.Fprintln(os.Stderr, "warning: the cluster is about to be upgraded")
		fmt.Print(d.Noise)
	}
	_, _ = io.Copy(os.Stdout, &stdout)
	_, _ = io.Copy(os.Stderr, &stderr)
	if fault == Cut {
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Kill()
		select {}
	}
	return exit
}
