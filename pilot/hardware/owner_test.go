package hardware

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatIsSeenOfAnOwner(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	root := t.TempDir()
	write := func(name, text string, age time.Duration) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	said := map[string]string{}
	o := &Owner{root: root, self: 100, now: func() time.Time { return now }, run: func(_ context.Context, name string, args ...string) string {
		return said[name+" "+strings.Join(args, " ")]
	}}
	write("proc/stat", "cpu  1000 50000 300 4000 0 0 0 0 0 0\n", 0)
	if got := o.Look(t.Context()); got != (Sight{}) {
		t.Errorf("of a machine that tells nothing: %+v", got)
	}
	write("dev/pts/3", "", 90*time.Second)
	write("dev/tty1", "", 4*time.Hour)
	if got := o.Look(t.Context()); !got.HasInput || got.Input != 90*time.Second {
		t.Errorf("of terminals: %+v", got)
	}
	const show = "loginctl show-session 2 -p Type -p State -p IdleHint -p IdleSinceHint"
	said["loginctl list-sessions --no-legend"] = "     2 1000 someone seat0 tty2\n"
	said[show] = "Type=wayland\nState=active\nIdleHint=yes\nIdleSinceHint=1772366360000000\n" // 40 s ago
	if got := o.Look(t.Context()); got.Input != 40*time.Second {
		t.Errorf("of a screen that is idle: %+v", got)
	}
	said[show] = "Type=x11\nState=active\nIdleHint=no\nIdleSinceHint=0\n"
	if got := o.Look(t.Context()); !got.HasInput || got.Input != 0 {
		t.Errorf("of a screen in use: %+v", got)
	}
	write("sys/class/power_supply/AC/type", "Mains\n", 0)
	write("sys/class/power_supply/AC/online", "1\n", 0)
	write("sys/class/power_supply/BAT0/type", "Battery\n", 0)
	write("sys/class/power_supply/BAT0/status", "Discharging\n", 0)
	if got := o.Look(t.Context()); got.Battery {
		t.Errorf("of a laptop at its plug: %+v", got)
	}
	write("sys/class/power_supply/AC/online", "0\n", 0)
	if got := o.Look(t.Context()); !got.Battery {
		t.Errorf("of a laptop without: %+v", got)
	}
	const apps = "nvidia-smi --query-compute-apps=pid --format=csv,noheader"
	said[apps] = "102\n"
	write("proc/102/stat", "102 (a) (b) R 101 1 1", 0)
	write("proc/101/stat", "101 (keeper) S 100 1 1", 0)
	if got := o.Look(t.Context()); got.Cards {
		t.Errorf("of a card that the pilot's own task uses: %+v", got)
	}
	said[apps] = "102\n77\n"
	write("proc/77/stat", "77 (game) R 1 1 1", 0)
	if got := o.Look(t.Context()); !got.Cards {
		t.Errorf("of a card that a game uses: %+v", got)
	}
	now = now.Add(10 * time.Second)
	write("proc/stat", "cpu  2500 90000 300 4000 0 0 0 0 0 0\n", 0)
	if got := o.Look(t.Context()); got.Load != 1.5 {
		t.Errorf("of 15 s of processor in 10 s, beside what is nice: %+v", got)
	}
}
