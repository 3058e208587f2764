package payload

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// The test binary becomes a pilot that runs one payload when this variable
// names an attempt's directory.
const asPilot = "PAYLOAD_TEST_PILOT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asPilot); dir != "" {
		task := Task{Trays: []Tray{{Modules: []Module{script("echo $$ > pid; exec sleep 60")}}}}
		Run(context.Background(), task, Limits{}, Dir(dir), Options{})
		return
	}
	os.Exit(m.Run())
}

func TestPilotKilled(t *testing.T) {
	a := newAttempt(t)
	pilot := exec.Command(os.Args[0])
	pilot.Env = append(os.Environ(), asPilot+"="+string(a.dir))
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
