package hardware

import (
	"context"
	_ "embed" // the self-test
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"

	"floe/protocol"
)

// The self-test of cards: what it is written in is in selftest/README.md. A static
// program cannot load a driver's library; an interpreter of the node can.
var (
	//go:embed selftest/test.py
	selfTest string
	//go:embed selftest/kernels.cl
	selfTestKernels string
	//go:embed selftest/kernels.ptx
	selfTestPTX string
)

// NoGPUTest in place of a program's name trusts what the drivers' tools say.
const NoGPUTest = "none"

// pythons are the names under which the self-test looks for an interpreter; the last
// is where Red Hat's systems have theirs without giving it to users.
var pythons = []string{"python3", "python", "python2", "/usr/libexec/platform-python"}

// tested is what came of a card's test.
type tested struct {
	// fault is why the card is not sound, empty where it is.
	fault string
	// by says how it was tested, or why it was not.
	by string
	// ran says that the self-test ran and judged, opencl that OpenCL can use the card.
	ran, opencl bool
}

// test looks whether cards are sound, all of them at once: each test has a process of
// its own, which sees its card alone and has a deadline.
func (m *measurement) test(ctx context.Context, cards []card) []tested {
	results := make([]tested, len(cards))
	python := ""
	if m.GPUTest == "" && len(cards) > 0 {
		python = m.python(ctx)
	}
	var group sync.WaitGroup
	for i, c := range cards {
		switch {
		case c.fault != "":
			results[i] = tested{fault: c.fault, by: c.tool}
		case m.GPUTest == NoGPUTest:
			results[i] = tested{by: "not tested, as the site wants it; " + c.tool + " lists it"}
		case m.GPUTest == "" && python == "":
			results[i] = tested{by: "not tested: no Python on this node; " + c.tool + " lists it"}
		default:
			group.Go(func() {
				if m.GPUTest != "" {
					results[i] = testBySite(ctx, m.runTest, m.GPUTest, c.ID)
				} else {
					results[i] = testByFloe(ctx, m.runTest, python, &c)
				}
			})
		}
	}
	group.Wait()
	return results
}

// python is the node's interpreter, empty where there is none.
func (m *measurement) python(ctx context.Context) string {
	for _, name := range pythons {
		if _, err := m.Run(ctx, name, "--version"); err == nil {
			return name
		}
	}
	return ""
}

// seeing is the command line of a program that sees one card alone.
func seeing(id string, program ...string) []string {
	return append(protocol.GPUVariables([]string{id}), program...)
}

// testBySite runs a site's test on one card.
func testBySite(ctx context.Context, run Runner, test, id string) tested {
	if _, err := run(ctx, "env", seeing(id, test)...); err != nil {
		return tested{fault: fmt.Sprintf("self-test %s: %v", test, err)}
	}
	return tested{by: test}
}

// testByFloe runs the self-test on one card.
func testByFloe(ctx context.Context, run Runner, python string, c *card) tested {
	out, err := run(ctx, "env", seeing(c.ID, python, "-E", "-s", "-c", selfTest, c.ID, selfTestKernels, selfTestPTX)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		// The interpreter gave up by itself: that is no word about the card.
		return tested{by: fmt.Sprintf("not tested: %v; %s lists it", err, c.tool)}
	}
	if err != nil { // a driver that hangs, or ends the process
		return tested{fault: fmt.Sprintf("self-test: %v", err)}
	}
	return readVerdict(out, c.tool)
}

// readVerdict reads the last line that the self-test printed.
func readVerdict(out []byte, tool string) tested {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var v struct {
		Verdict, By, Device, Says string
		Memory                    int64
		OpenCL                    bool
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		return tested{by: fmt.Sprintf("not tested: its answer: %v; %s lists it", err, tool)}
	}
	switch v.Verdict {
	case "sound":
		by := fmt.Sprintf("computes and keeps %v: %s, %s", protocol.ByteSize(v.Memory), v.By, v.Device)
		if v.Says != "" {
			by += "; " + v.Says
		}
		return tested{by: by, ran: true, opencl: v.OpenCL}
	case "bad":
		return tested{fault: "self-test: " + v.Says, ran: true}
	}
	return tested{by: fmt.Sprintf("not tested: %s; %s lists it", v.Says, tool)}
}
