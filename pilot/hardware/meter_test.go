package hardware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func TestParseUse(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       map[string]reading
	}{
		{"two cards", "0, GPU-aa, 37, 1024\n1, GPU-bb, 0, 0\n", map[string]reading{"0": {37, 1 << 30}, "GPU-aa": {37, 1 << 30}, "1": {0, 0}, "GPU-bb": {0, 0}}},
		{"a divided card, and one that shares the node's memory", "0, GPU-aa, [N/A], 501\n1, GPU-bb, 12, [N/A]\n", map[string]reading{"0": {-1, 501 << 20}, "GPU-aa": {-1, 501 << 20}, "1": {12, -1}, "GPU-bb": {12, -1}}},
		{"old words, errors", "0, GPU-aa, [Not Supported], [Unknown Error]\n1, GPU-bb, 101, -3\n", map[string]reading{"0": {-1, -1}, "GPU-aa": {-1, -1}, "1": {-1, -1}, "GPU-bb": {-1, -1}}},
		{"complaints", "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.\n1, GPU-bb, 5, 6\n", map[string]reading{"1": {5, 6 << 20}, "GPU-bb": {5, 6 << 20}}},
		{"other fields", "0, GPU-aa, Card, 1024, 0, [N/A], 7.5\n", map[string]reading{}},
		{"nothing", "No devices were found\n", map[string]reading{}},
	} {
		found := map[string]reading{}
		parseUse([]byte(test.text), found)
		if diff := cmp.Diff(test.want, found, cmp.AllowUnexported(reading{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestParseAMDUse(t *testing.T) {
	cards := []card{{GPU: protocol.GPU{ID: "AMD-0"}, smi: "1"}, {GPU: protocol.GPU{ID: "GPU-a5a5a5a5a5a5a5a5"}, smi: "0"}}
	for _, test := range []struct {
		name, text string
		want       map[string]reading
	}{
		{"ROCm 5.7, one card alone", `{"gpu": 0, "usage": {"gfx_activity": 12, "umc_activity": 0, "mm_activity": 65535}, "mem_usage": {"total_vram": 16368, "used_vram": 26}}`, map[string]reading{"GPU-a5a5a5a5a5a5a5a5": {12, 26 << 20}}},
		{"ROCm 6.0", `[{"gpu": 0, "usage": {"gfx_usage": 3, "mem_usage": 99, "mm_ip_usage": "N/A"}, "mem_usage": {"used_vram": 1}}, {"gpu": 1, "usage": "N/A", "mem_usage": {"used_vram": "N/A"}}]`, map[string]reading{"GPU-a5a5a5a5a5a5a5a5": {3, 1 << 20}, "AMD-0": {-1, -1}}},
		{"ROCm 6.2, units", `[{"gpu": 1, "usage": {"gfx_activity": {"value": 100, "unit": "%"}}, "mem_usage": {"used_vram": {"value": 285, "unit": "MB"}}}]`, map[string]reading{"AMD-0": {100, 285 << 20}}},
		{"ROCm 7", `{"gpu_data": [{"gpu": 0, "usage": {"gfx_activity": {"value": 0, "unit": "%"}}, "mem_usage": {"used_vram": {"value": 0, "unit": "MB"}}}, {"gpu": 7, "usage": {"gfx_activity": 5}}]}`, map[string]reading{"GPU-a5a5a5a5a5a5a5a5": {0, 0}}},
		{"not known", `[{"gpu": 0, "usage": {"gfx_activity": 65535}, "mem_usage": "N/A"}]`, map[string]reading{"GPU-a5a5a5a5a5a5a5a5": {-1, -1}}},
		{"an error", `[{"error": "no driver"}]`, map[string]reading{}},
	} {
		found := map[string]reading{}
		parseAMDUse(cards, []byte(test.text), found)
		if diff := cmp.Diff(test.want, found, cmp.AllowUnexported(reading{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// tools are vendors' tools whose answers a test sets.
type tools struct {
	mu      sync.Mutex
	answers map[string]string // by beginning of the command
	asked   []string
	fails   error
	takes   time.Duration
}

func (f *tools) run(_ context.Context, name string, args ...string) ([]byte, error) {
	f.mu.Lock()
	command := strings.Join(append([]string{name}, args...), " ")
	f.asked = append(f.asked, command)
	takes, fails := f.takes, f.fails
	out := ""
	for beginning, answer := range f.answers {
		if strings.HasPrefix(command, beginning) {
			out = answer
		}
	}
	f.mu.Unlock()
	<-time.After(takes) // virtual
	return []byte(out), fails
}

func (f *tools) say(command, answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[command] = answer
}

func (f *tools) commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// metered runs a test in virtual time with a Meter whose tools are f.
func metered(t *testing.T, f *tools, test func(*testing.T, *Meter)) {
	t.Helper()
	if f.answers == nil {
		f.answers = map[string]string{}
	}
	synctest.Test(t, func(t *testing.T) {
		test(t, NewMeter(Options{Root: fstest.MapFS{}, Run: f.run}, slog.New(slog.DiscardHandler)))
	})
}

// of writes what is known of cards.
func of(u *protocol.Usage) string {
	busy, memory := "?", "?"
	if u.GPUMillis != nil {
		busy = (time.Duration(*u.GPUMillis) * time.Millisecond).String()
	}
	if u.PeakGPUMemory != nil {
		memory = fmt.Sprint(int64(*u.PeakGPUMemory>>20), "MiB")
	}
	return busy + " " + memory
}

const askUse = "nvidia-smi --id="

// Two tasks run side by side on three cards. One command asks for all; each task has
// the work and the memory of its own cards.
func TestMeterIntegrates(t *testing.T) {
	f := new(tools)
	metered(t, f, func(t *testing.T, m *Meter) {
		f.say(askUse, "0, GPU-a, 50, 100\n1, GPU-b, 100, 300\n2, GPU-c, 0, 0\n")
		var one, two protocol.Usage
		endOne, endTwo := m.Watch([]string{"GPU-a", "GPU-b"}), m.Watch([]string{"2"})
		<-time.After(31*time.Second + time.Millisecond) // readings after 1, 3, 7, 12, …, 27 s
		f.say(askUse, "0, GPU-a, 0, 700\n1, GPU-b, 10, 1\n2, GPU-c, 0, 0\n")
		<-time.After(2 * time.Second) // and after 32 s
		endOne(&one)                  // and after 33 s
		endTwo(&two)
		if got, want := of(&one), "41.1s 701MiB"; got != want { // 27 s × 1.5 + 6.001 s × 0.1
			t.Errorf("two cards: %s, want %s", got, want)
		}
		if got, want := of(&two), "0s 0MiB"; got != want {
			t.Errorf("an idle card: %s, want %s", got, want)
		}
		for _, c := range f.commands()[:1] {
			if !strings.HasPrefix(c, askUse+"GPU-a,GPU-b,2 ") {
				t.Errorf("asked %q, want all cards at once", c)
			}
		}
		if n := len(f.commands()); n != 10 {
			t.Errorf("%d commands, want 8 while they ran and one for each end: %q", n, f.commands())
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.running {
			t.Error("the goroutine lives without a watch")
		}
	})
}

func TestMeterKnowsWhatItDoesNotKnow(t *testing.T) {
	f := new(tools)
	metered(t, f, func(t *testing.T, m *Meter) {
		watch := func(ids ...string) string {
			var u protocol.Usage
			end := m.Watch(ids)
			<-time.After(10 * time.Second)
			end(&u)
			return of(&u)
		}
		f.say(askUse, "0, GPU-a, [N/A], 100\n1, GPU-b, 100, [N/A]\n")
		for id, want := range map[string]string{"GPU-a": "? 100MiB", "GPU-b": "10s ?", "GPU-gone": "? ?", "OCL-0.0": "? ?"} {
			if got := watch(id); got != want {
				t.Errorf("%s: %s, want %s", id, got, want)
			}
		}
		if got, want := watch("GPU-a", "GPU-b"), "10s 100MiB"; got != want {
			t.Errorf("both: %s, want %s", got, want)
		}
		// A reading that fails is made up for by the next.
		f.mu.Lock()
		f.fails, f.answers[askUse] = errors.New("exit 15"), ""
		f.mu.Unlock()
		end := m.Watch([]string{"GPU-b"})
		<-time.After(10 * time.Second)
		f.mu.Lock()
		f.fails, f.answers[askUse] = nil, "1, GPU-b, 50, 1\n"
		f.mu.Unlock()
		var u protocol.Usage
		if end(&u); of(&u) != "5s 1MiB" {
			t.Errorf("after failures: %s", of(&u))
		}
	})
}

// A tool that does not answer delays the end of one module by a moment, and is not
// asked again.
func TestMeterLeavesASilentTool(t *testing.T) {
	f := &tools{takes: probeTime + 2*time.Second, fails: fmt.Errorf("nvidia-smi: %w, and it cannot be killed", errNoAnswer)}
	metered(t, f, func(t *testing.T, m *Meter) {
		var u protocol.Usage
		end := m.Watch([]string{"GPU-a"})
		<-time.After(2 * time.Second)
		before := time.Now()
		if end(&u); of(&u) != "? ?" || time.Since(before) != lastWait {
			t.Errorf("%s after %v, want nothing after %v", of(&u), time.Since(before), lastWait)
		}
		<-time.After(time.Minute)
		for range 3 {
			end := m.Watch([]string{"GPU-a"})
			<-time.After(time.Minute)
			before := time.Now()
			if end(&u); of(&u) != "? ?" || time.Since(before) != 0 {
				t.Errorf("%s after %v, want nothing at once", of(&u), time.Since(before))
			}
		}
		if n := len(f.commands()); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
	f = &tools{fails: fmt.Errorf("nvidia-smi: %w", exec.ErrNotFound)}
	metered(t, f, func(t *testing.T, m *Meter) {
		end := m.Watch([]string{"0"})
		<-time.After(time.Minute)
		if end(new(protocol.Usage)); len(f.commands()) != 1 {
			t.Errorf("a tool that is not there was asked %d times", len(f.commands()))
		}
	})
}

// Instances of a divided card and cards of AMD are found under the tools' own names.
func TestMeterReadsDescribedNodes(t *testing.T) {
	node := func(name string) *recorded {
		text, err := os.ReadFile(filepath.Join("testdata", "nodes", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		_, sections := readSections(string(text))
		return readNode(sections[:len(sections)-1])
	}
	use := func(r *recorded, id string) string {
		var u protocol.Usage
		synctest.Test(t, func(t *testing.T) {
			m := NewMeter(r.options(), slog.New(slog.DiscardHandler))
			end := m.Watch([]string{id})
			<-time.After(10 * time.Second)
			end(&u)
		})
		return of(&u)
	}
	mig := node("nvidia-mig")
	for command, text := range mig.commands {
		mig.commands[command] = strings.ReplaceAll(text, "<total>9856 MiB</total>", "<total>9856 MiB</total><used>1234 MiB</used>")
	}
	for id, want := range map[string]string{
		"MIG-33333333-5f5b-5c50-a4c2-0a6c3c1d4e03": "? 1234MiB",
		"MIG-44444444-5f5b-5c50-a4c2-0a6c3c1d4e04": "? ?", // it does not say
		"MIG-11111111-5f5b-5c50-a4c2-0a6c3c1d4e01": "? ?", // shared with another
	} {
		if got := use(mig, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	amd := node("amd-rocm-7")
	amd.commands["amd-smi metric --usage"] = `{"gpu_data": [{"gpu": 0, "usage": {"gfx_activity": {"value": 20, "unit": "%"}}, "mem_usage": {"used_vram": {"value": 11, "unit": "MB"}}},
		{"gpu": 1, "usage": {"gfx_activity": {"value": 80, "unit": "%"}}, "mem_usage": {"used_vram": {"value": 22, "unit": "MB"}}}]}`
	for id, want := range map[string]string{"GPU-0000044ef6c4bfad": "2s 11MiB", "GPU-a5a5a5a5a5a5a5a5": "8s 22MiB"} {
		if got := use(amd, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

// FuzzUse feeds the readers of what cards do strange answers.
func FuzzUse(f *testing.F) {
	f.Add("0, GPU-aa, 37, 1024\n1, GPU-bb, [N/A], [Not Supported]\n")
	f.Add(`{"gpu_data": [{"gpu": 0, "usage": {"gfx_activity": {"value": 20, "unit": "%"}}, "mem_usage": {"used_vram": {"value": 11, "unit": "MB"}}}]}`)
	f.Add(`[{"gpu": 0, "usage": {"gfx_usage": 1e300}, "mem_usage": {"used_vram": "9223372036854775807 MB"}}]`)
	f.Add(`<x><gpu><uuid>GPU-aa</uuid><mig_devices><mig_device><index>0</index><gpu_instance_id>1</gpu_instance_id><fb_memory_usage><total>9 MiB</total><used>8 MiB</used></fb_memory_usage></mig_device></mig_devices></gpu></x>`)
	cards := []card{{GPU: protocol.GPU{ID: "AMD-0"}, smi: "0"}, {GPU: protocol.GPU{ID: "MIG-a"}, index: "0:0", parentID: "GPU-aa"}}
	f.Fuzz(func(t *testing.T, text string) {
		found := map[string]reading{}
		parseUse([]byte(text), found)
		parseAMDUse(cards, []byte(text), found)
		instanceUse(cards, instanceMemories([]byte(text)), found)
		for id, r := range found {
			if r.busy < -1 || r.busy > 100 || r.memory < -1 || r.memory > protocol.MaxByteSize {
				t.Errorf("card %q: %+v", id, r)
			}
		}
	})
}
