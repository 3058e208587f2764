package payload

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"floe/pilot/library"
	"floe/pilot/payload/session"
)

// The test binary becomes a pilot that runs one payload when this variable holds
// a pilotSpec.
const asPilot = "PAYLOAD_TEST_PILOT"

// pilotSpec is what a pilot in a process of its own does.
type pilotSpec struct {
	Dir       Dir
	Script    string
	Isolated  bool
	Hidden    []string
	Processes int
}

func TestMain(m *testing.M) {
	session.Speak()
	Keep()
	// And it holds the library, as floe-pilot does.
	if len(os.Args) == 3 && os.Args[1] == library.Command {
		if err := library.Main(context.Background(), os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(asPilot); text != "" {
		if err := beAPilot(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(asDivider); text != "" {
		dir, controller, _ := strings.Cut(text, ",")
		if err := beADivider(dir, controller); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func beAPilot(text string) error {
	var s pilotSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	o := Options{Poll: 20 * time.Millisecond, Environ: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PILOT=" + strconv.Itoa(os.Getpid())}}
	var err error
	if s.Isolated {
		o.Isolation, err = FindIsolation(filepath.Dir(string(s.Dir)), Places{Hidden: s.Hidden})
	} else {
		err = Conceal()
	}
	if err != nil {
		return err
	}
	task := Task{Trays: []Tray{{Modules: []Module{script(s.Script)}}}}
	out := Run(context.Background(), task, Limits{Processes: s.Processes, Grace: time.Second, Walltime: time.Minute}, s.Dir, o)
	_, err = fmt.Println(out.Verdict, out.Evidence)
	return err
}

// pilot is a pilot as a process of its own, which is not root.
func (s *pilotSpec) pilot(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Env = []string{asPilot + "=" + string(text), "SECRET=" + secret}
	c.Stderr = os.Stderr
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return c
}

// nobody is the user that tests of root become.
const nobody = 65534

func TestPilotKilled(t *testing.T) { bothWays(t, pilotKilled) }

func pilotKilled(t *testing.T, isolation *Isolation) {
	a := newAttempt(t)
	giveAway(t, filepath.Dir(filepath.Dir(string(a.dir))))
	spec := pilotSpec{Dir: a.dir, Script: "echo $$ > pid; exec sleep 60", Isolated: isolation != nil}
	pilot := spec.pilot(t)
	if err := pilot.Start(); err != nil {
		t.Fatal(err)
	}
	a.await("pid")
	if err := pilot.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = pilot.Wait() // it was killed
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for a.alive("pid") {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the payload outlives its pilot")
		}
	}
}
