package federation

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/cmd/simulation"
	"floe/coordinator/replica"
	"floe/coordinator/state"
)

// archive is the committed log from its beginning, gathered while coordinators
// throw its older parts away, and the snapshots they took of it.
type archive struct {
	f         *federation
	entries   map[uint64]replica.Logged // by index, up to last without a hole
	last      uint64
	looked    time.Time
	times     []sighting // when the log was seen to be committed
	snapshots []snapshot
}

// snapshot is one that a coordinator has written.
type snapshot struct {
	of    string
	index uint64
	body  []byte
}

// sighting says that everything up to the index was applied at a time.
type sighting struct {
	index uint64
	at    time.Duration
}

// seen is a time at which an entry had been applied.
func (a *archive) seen(index uint64) time.Duration {
	i, _ := slices.BinarySearchFunc(a.times, index, func(s sighting, index uint64) int { return cmp.Compare(s.index, index) })
	return a.times[i].at
}

// committed yields the entries that the machine applies, in order.
func (a *archive) committed(yield func(simulation.Committed) bool) {
	for i := uint64(1); i <= a.last; i++ {
		if e := a.entries[i]; e.Data != nil && !yield(simulation.Committed{Index: e.Index, Term: e.Term, Entry: e.Data}) {
			return
		}
	}
}

// lookEvery is often enough for what limits retain.
const lookEvery = time.Minute

// look gathers, if it is time.
func (a *archive) look() {
	if time.Since(a.looked) >= lookEvery {
		a.gather()
	}
}

// gather copies the log of the coordinator that has applied most, as far as it has:
// that much is committed.
func (a *archive) gather() {
	a.looked = time.Now()
	var from *node
	var applied uint64
	for _, n := range a.f.nodes {
		if c, err := a.f.cluster(n); err == nil && c.Applied > applied {
			from, applied = n, c.Applied
		}
	}
	if from == nil || applied <= a.last || !from.running() {
		return
	}
	a.f.settle()
	copied := a.f.dir("archive", "record")
	defer os.RemoveAll(copied)
	a.f.must(copyFile(filepath.Join(from.record(), "log.db"), filepath.Join(copied, "log.db")))
	a.take(from, copied, applied)
	a.times = append(a.times, sighting{a.last, a.f.now()})
}

// take adds the entries of a log at rest up to the index.
func (a *archive) take(n *node, record string, applied uint64) {
	log, err := replica.ReadLog(record)
	a.f.must(err)
	for _, e := range log {
		known, ok := a.entries[e.Index]
		switch {
		case e.Index > applied:
		case ok && (known.Term != e.Term || string(known.Data) != string(e.Data)):
			a.f.t.Errorf("I-20: entry %d of term %d at %s was committed as one of term %d", e.Index, e.Term, n.name, known.Term)
		case !ok && a.last != 0 && e.Index != a.last+1:
			a.f.t.Fatalf("the archive ends at %d, the log of %s begins at %d: look more often", a.last, n.name, e.Index)
		case !ok:
			a.entries[e.Index] = e
			a.last = e.Index
		}
	}
}

// takeSnapshots reads the snapshots of a directory at rest.
func (a *archive) takeSnapshots(n *node, record string) {
	a.f.must(replica.ReadSnapshots(record, func(index uint64, body io.Reader) error {
		b, err := io.ReadAll(body)
		a.snapshots = append(a.snapshots, snapshot{of: string(n.name), index: index, body: b})
		return err
	}))
}

// describe writes an entry for people.
func describe(b *strings.Builder, e *replica.Logged) {
	if e.Data == nil {
		fmt.Fprintf(b, "%d term %d: of raft\n", e.Index, e.Term)
		return
	}
	entry, err := state.DecodeEntry(e.Data)
	if err != nil {
		fmt.Fprintf(b, "%d term %d: %v\n", e.Index, e.Term, err)
		return
	}
	fmt.Fprintf(b, "%d term %d: proposed in %d, first %v, +%v\n", e.Index, e.Term, entry.Term, entry.First, time.Duration(entry.Elapsed))
	for _, c := range entry.Commands {
		command, err := state.DecodeCommand(c)
		fmt.Fprintf(b, "\t%T %+v %v\n", command, command, err)
	}
}
