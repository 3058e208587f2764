package payload

import (
	"testing"

	"floe/protocol"
)

func TestHomeIsTheAttemptsOwn(t *testing.T) {
	bothWays(t, func(t *testing.T, isolation *Isolation) {
		a := newAttempt(t, script("cd && echo kept > .config && cat $HOME/.config"), script("test -s ~/.config"))
		a.options.Isolation = isolation
		a.options.Environ = []string{"PATH=/usr/bin:/bin", "HOME=/root"}
		if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
			t.Errorf("a module that writes to HOME: %v, %s\n%s", out.Verdict, out.Evidence, a.log())
		}
	})
}

func TestDevicesOfOthersAreHidden(t *testing.T) {
	isolation, err := isolationHere()
	if err != nil {
		t.Skip(err)
	}
	a := newAttempt(t, script("test $(head -c 3 /dev/zero | wc -c) = 0 && test $(head -c 3 /dev/urandom | wc -c) = 3"))
	a.options.Isolation, a.options.HiddenDevices = isolation, []string{"/dev/zero", "/dev/not-there"}
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
		t.Errorf("a payload beside a hidden device: %v, %s\n%s", out.Verdict, out.Evidence, a.log())
	}
}

// TestPeakOfAShortModule: it is gone before it is looked at.
func TestPeakOfAShortModule(t *testing.T) {
	bothWays(t, func(t *testing.T, isolation *Isolation) {
		a := newAttempt(t, Module{Src: "dd", Args: []byte(`"if=/dev/zero of=/dev/null bs=48M count=1"`)})
		a.options.Isolation = isolation
		out := a.run(t.Context())
		if out.Verdict != protocol.VerdictOK || out.Modules[0].Usage.PeakMemory < 48<<20 || out.Usage.PeakMemory < 48<<20 {
			t.Errorf("a module of 48 MiB: %v, peak %v, task %v; %s", out.Verdict, out.Modules[0].Usage.PeakMemory, out.Usage.PeakMemory, out.Evidence)
		}
	})
}
