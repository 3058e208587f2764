package hardware

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sight is what can be seen of a workstation's owner.
type Sight struct {
	// Input is how long ago somebody touched the machine, where anything tells.
	Input    time.Duration
	HasInput bool
	// Load is how many cores programs of ordinary priority kept busy since the last look:
	// those of a pilot that gave up its own are none of them.
	Load float64
	// Battery says that the machine runs on its battery, Cards that a program which did
	// not come from this one uses a card.
	Battery, Cards bool
}

// Owner looks at a workstation's owner; the zero value at this machine's. It is used by
// one goroutine at a time.
type Owner struct {
	root string // empty is "/"
	self int    // 0 is this process
	now  func() time.Time
	run  func(ctx context.Context, name string, args ...string) string

	looked time.Time
	used   float64 // seconds of all cores, at ordinary priority, until then
}

// lookTime is what one look may take.
const lookTime = 3 * time.Second

// Look looks once.
func (o *Owner) Look(ctx context.Context) Sight {
	if o.now == nil {
		o.root, o.self, o.now = "/", os.Getpid(), time.Now
		o.run = func(ctx context.Context, name string, args ...string) string {
			out, err := exec.CommandContext(ctx, name, args...).Output()
			if err != nil {
				return ""
			}
			return string(out)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	run := func(name string, args ...string) string { return o.run(ctx, name, args...) }
	now := o.now()
	s := Sight{Battery: onBattery(o.root), Load: o.load(now)}
	s.Input, s.HasInput = lastInput(o.root, now)
	if idle, ok := sessionsIdle(run, now); ok && (!s.HasInput || idle < s.Input) {
		s.Input, s.HasInput = idle, true
	}
	for line := range strings.Lines(run("nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader")) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && !o.descends(pid) {
			s.Cards = true
		}
	}
	return s
}

// load is what the kernel counts as user time without nice, since the last look.
// Source: proc_stat(5); in hundredths of a second.
func (o *Owner) load(now time.Time) float64 {
	b, err := os.ReadFile(filepath.Join(o.root, "proc/stat"))
	f := strings.Fields(string(b))
	if err != nil || len(f) < 2 || f[0] != "cpu" {
		return 0
	}
	ticks, err := strconv.ParseFloat(f[1], 64)
	if err != nil {
		return 0
	}
	used, before, since := ticks/100, o.used, now.Sub(o.looked).Seconds()
	first := o.looked.IsZero()
	o.used, o.looked = used, now
	if first || since <= 0 {
		return 0
	}
	return (used - before) / since
}

func firstField(root, file string) string {
	b, err := os.ReadFile(filepath.Join(root, file))
	if f := strings.Fields(string(b)); err == nil && len(f) > 0 {
		return f[0]
	}
	return ""
}

// lastInput is how long ago a terminal was last read from: the kernel notes that every
// eight seconds, or more seldom.
func lastInput(root string, now time.Time) (idle time.Duration, ok bool) {
	for _, pattern := range []string{"dev/tty[0-9]*", "dev/pts/[0-9]*"} {
		paths, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are sound
		for _, path := range paths {
			var st unix.Stat_t
			if unix.Stat(path, &st) != nil {
				continue
			}
			since := max(0, now.Sub(time.Unix(st.Atim.Unix())))
			if !ok || since < idle {
				idle, ok = since, true
			}
		}
	}
	return idle, ok
}

// sessionsIdle asks the session manager about people at screens: one whose session is
// not idle is there now.
func sessionsIdle(run func(string, ...string) string, now time.Time) (idle time.Duration, ok bool) {
	for line := range strings.Lines(run("loginctl", "list-sessions", "--no-legend")) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		p := make(map[string]string)
		for property := range strings.Lines(run("loginctl", "show-session", f[0], "-p", "Type", "-p", "State", "-p", "IdleHint", "-p", "IdleSinceHint")) {
			name, value, _ := strings.Cut(strings.TrimSpace(property), "=")
			p[name] = value
		}
		if p["Type"] != "x11" && p["Type"] != "wayland" || p["State"] == "closing" {
			continue // terminals tell themselves
		}
		since := time.Duration(0)
		if p["IdleHint"] == "yes" {
			micros, err := strconv.ParseInt(p["IdleSinceHint"], 10, 64)
			if err != nil {
				continue
			}
			since = max(0, now.Sub(time.UnixMicro(micros)))
		}
		if !ok || since < idle {
			idle, ok = since, true
		}
	}
	return idle, ok
}

// onBattery tells whether the machine has a battery that discharges, and no mains that
// is plugged in.
func onBattery(root string) bool {
	supplies, _ := filepath.Glob(filepath.Join(root, "sys/class/power_supply/*"))
	discharging := false
	for _, dir := range supplies {
		file := func(name string) string { return firstField(dir, name) }
		switch file("type") {
		case "Mains", "USB":
			if file("online") == "1" {
				return false
			}
		case "Battery":
			// That of a mouse says so.
			if file("status") == "Discharging" && file("scope") != "Device" {
				discharging = true
			}
		}
	}
	return discharging
}

// descends tells whether a process is this one, or came from it.
func (o *Owner) descends(pid int) bool {
	for pid > 1 {
		if pid == o.self {
			return true
		}
		b, err := os.ReadFile(filepath.Join(o.root, "proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return true // it has ended meanwhile
		}
		text := string(b)
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(f) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(f[1]); err != nil {
			return false
		}
	}
	return false
}
