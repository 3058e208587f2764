package hardware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"floe/protocol"
)

// Times of a Meter.
const (
	// firstSample is when cards are first read after a watch began on idle ones, so that
	// short modules are seen at work. The pause then doubles up to samplePause.
	firstSample = time.Second
	samplePause = 5 * time.Second
	// lastWait bounds how long the end of a watch waits for its last reading.
	lastWait = 5 * time.Second
)

// Meter reads what the cards of a pilot do while tasks run on them: how busy they are,
// and how much of their memory is in use. All watches share its commands, one for each
// vendor's tool at a time. A tool that is not there or does not answer is not asked
// again: each time might leave a process behind that cannot be killed.
//
// Its methods may be called at once. Its one goroutine lives while there are watches.
type Meter struct {
	logger *slog.Logger
	nudge  chan struct{} // holds one: a watch has ended

	mu      sync.Mutex
	watches []*watch // guarded by mu
	running bool     // guarded by mu: the goroutine lives

	// Of the goroutine alone.
	node   *measurement
	silent map[string]bool   // tools that are not asked again
	failed map[string]bool   // tools of which a failure was told
	listed map[string][]card // what tools list
}

// NewMeter makes a Meter of the node that o describes.
func NewMeter(o Options, logger *slog.Logger) *Meter {
	m := &measurement{Options: o}
	m.fill()
	return &Meter{
		logger: logger, nudge: make(chan struct{}, 1), node: m,
		silent: make(map[string]bool), failed: make(map[string]bool), listed: make(map[string][]card),
	}
}

// watch is one module that runs on cards. Its fields are guarded by Meter.mu.
type watch struct {
	cards  []watched
	ending bool
	last   bool          // the reading under way began after the end
	done   chan struct{} // closed after the last reading

	busy        time.Duration
	peak        protocol.ByteSize
	busyKnown   bool
	memoryKnown bool
}

// watched is a card of a watch.
type watched struct {
	id    string
	since time.Time // until when its work is counted
}

// reading is what a card does at one moment. -1 is not known.
type reading struct {
	busy   int64 // per cent
	memory protocol.ByteSize
}

// Watch begins to read the cards named. What it returns ends that, waits a moment for
// a last reading, and notes what the cards did: how long they were busy, and the most
// memory that was in use on all of them together. What is not known stays nil.
func (m *Meter) Watch(ids []string) (end func(*protocol.Usage)) {
	w := &watch{done: make(chan struct{})}
	now := time.Now()
	for _, id := range ids {
		w.cards = append(w.cards, watched{id, now})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watches = append(m.watches, w)
	if !m.running {
		m.running = true
		go m.run()
	}
	return func(u *protocol.Usage) { m.end(w, u) }
}

func (m *Meter) end(w *watch, u *protocol.Usage) {
	m.mu.Lock()
	w.ending = true
	m.mu.Unlock()
	select {
	case m.nudge <- struct{}{}:
	default:
	}
	wait := time.NewTimer(lastWait)
	defer wait.Stop()
	select {
	case <-w.done:
	case <-wait.C:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watches = slices.DeleteFunc(m.watches, func(x *watch) bool { return x == w })
	if w.busyKnown {
		millis := w.busy.Milliseconds()
		u.GPUMillis = &millis
	}
	if w.memoryKnown {
		peak := w.peak
		u.PeakGPUMemory = &peak
	}
}

// run reads until there is no watch.
func (m *Meter) run() {
	pause := firstSample
	tick := time.NewTimer(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			pause = min(2*pause, samplePause)
		case <-m.nudge:
		}
		watches, ids := m.begin()
		at := time.Now()
		found := m.read(ids)
		if !m.note(watches, at, found) {
			return
		}
		tick.Reset(pause)
	}
}

// begin returns what is to be read, and for whom.
func (m *Meter) begin() (watches []*watch, ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watches {
		w.last = w.ending
		for _, c := range w.cards {
			if !slices.Contains(ids, c.id) {
				ids = append(ids, c.id)
			}
		}
	}
	return slices.Clone(m.watches), ids
}

// note tells the watches what was read, and whether any is left.
func (m *Meter) note(watches []*watch, at time.Time, found map[string]reading) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range watches {
		w.add(at, found)
	}
	m.watches = slices.DeleteFunc(m.watches, func(w *watch) bool {
		if w.last {
			close(w.done)
		}
		return w.last
	})
	m.running = len(m.watches) > 0
	return m.running
}

// add counts a reading for the time since the one before.
func (w *watch) add(at time.Time, found map[string]reading) {
	memory, known := protocol.ByteSize(0), false
	for i := range w.cards {
		c := &w.cards[i]
		r, ok := found[c.id]
		if !ok {
			continue
		}
		if r.busy >= 0 {
			w.busy += at.Sub(c.since) * time.Duration(r.busy) / 100
			w.busyKnown, c.since = true, at
		}
		if r.memory >= 0 {
			memory, known = memory+r.memory, true
		}
	}
	if known {
		w.peak, w.memoryKnown = max(w.peak, memory), true
	}
}

// read asks the vendors' tools. Cards of which they say nothing are not in the answer.
func (m *Meter) read(ids []string) map[string]reading {
	ctx := context.Background() // each command has its own bound
	found := make(map[string]reading)
	var nvidia, instances, amd []string
	for _, id := range ids {
		switch {
		case protocol.IsAMD(id):
			amd = append(amd, id)
		case strings.HasPrefix(id, "MIG-"):
			instances = append(instances, id)
		case !strings.HasPrefix(id, protocol.OpenCLIndex): // of those nothing tells
			nvidia = append(nvidia, id)
		}
	}
	if len(nvidia) > 0 {
		parseUse(m.ask(ctx, "nvidia-smi", "--id="+strings.Join(nvidia, ","), "--query-gpu=index,uuid,utilization.gpu,memory.used", "--format=csv,noheader,nounits"), found)
	}
	if len(instances) > 0 {
		if cards := m.list(ctx, "nvidia-smi", m.node.nvidia); len(cards) > 0 {
			instanceUse(cards, instanceMemories(m.ask(ctx, "nvidia-smi", "-q", "-x")), found)
		}
	}
	if len(amd) > 0 {
		if cards := m.list(ctx, "amd-smi", m.node.amd); len(cards) > 0 {
			parseAMDUse(cards, m.ask(ctx, "amd-smi", "metric", "--usage", "--mem-usage", "--json"), found)
		}
	}
	return found
}

// ask runs a tool, unless it was silent before. What it printed counts also where it
// failed: one card that is gone may be among several.
func (m *Meter) ask(ctx context.Context, tool string, args ...string) []byte {
	if m.silent[tool] {
		return nil
	}
	out, err := m.node.Run(ctx, tool, args...)
	m.heed(tool, err)
	return out
}

// list returns the cards that a tool lists, which is asked once.
func (m *Meter) list(ctx context.Context, tool string, ask func(context.Context) ([]card, error)) []card {
	if cards := m.listed[tool]; cards != nil || m.silent[tool] {
		return cards
	}
	cards, err := ask(ctx)
	m.heed(tool, err)
	if err == nil {
		m.listed[tool] = cards
	}
	return cards
}

func (m *Meter) heed(tool string, err error) {
	if errors.Is(err, errNoAnswer) || errors.Is(err, exec.ErrNotFound) {
		m.silent[tool] = true
		err = fmt.Errorf("%w; it is not asked again", err)
	}
	if err != nil && !m.failed[tool] {
		m.failed[tool] = true
		m.logger.Warn("what cards do is not known", "err", err)
	}
}

// parseUse reads the CSV of nvidia-smi: index, UUID, utilization, memory. What a card
// does not say, [N/A] or an error, is not known.
func parseUse(text []byte, found map[string]reading) {
	for line := range strings.Lines(string(text)) {
		f := strings.Split(line, ",")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		if _, err := strconv.ParseUint(f[0], 10, 10); err != nil || len(f) != 4 {
			continue // a complaint
		}
		r := reading{-1, -1}
		if n, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			r.busy = percent(n)
		}
		if n, err := strconv.ParseInt(f[3], 10, 64); err == nil {
			r.memory = mebibytes(n)
		}
		found[f[0]], found[f[1]] = r, r
	}
}

// instanceUse tells of instances of divided cards. How busy they are nothing says; nor
// whose the memory is that compute instances share.
func instanceUse(cards []card, memories map[string]instanceMemory, found map[string]reading) {
	for _, c := range cards {
		_, number, _ := strings.Cut(c.index, ":")
		if memory, ok := memories[c.parentID+":"+number]; ok && memory.shared == 1 && memory.used >= 0 {
			found[c.ID] = reading{-1, memory.used}
		}
	}
}

// parseAMDUse reads the JSON of amd-smi metric in the forms of parseAMD. ROCm 6.0 called
// the utilization gfx_usage; 65535 is what some cards say for not known.
func parseAMDUse(cards []card, text []byte, found map[string]reading) {
	entries, _, err := amdEntries(text)
	if err != nil {
		return
	}
	for _, e := range entries {
		gpu, ok := e.number("gpu")
		i := slices.IndexFunc(cards, func(c card) bool { return c.smi == strconv.FormatInt(gpu, 10) })
		if !ok || i < 0 {
			continue
		}
		r := reading{-1, -1}
		for _, name := range []string{"gfx_activity", "gfx_usage"} {
			if n, ok := e.number("usage", name); ok {
				r.busy = percent(n)
			}
		}
		if n, ok := e.number("mem_usage", "used_vram"); ok {
			r.memory = mebibytes(n)
		}
		found[cards[i].ID] = r
	}
}

// percent is n where it can be true, else -1.
func percent(n int64) int64 {
	if n < 0 || n > 100 {
		return -1
	}
	return n
}

// mebibytes is n of them where that can be true, else -1.
func mebibytes(n int64) protocol.ByteSize {
	if n < 0 || n >= 1<<32 {
		return -1
	}
	return protocol.ByteSize(n) * mib
}
