//go:build linux

package coordinator

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// disk is what the log of a recorder says: per file what is synced and what is
// pending, and the same for names.
type disk struct {
	files map[int]*diskState
	names map[int]map[string]int // synced, by directory
	// renames and the like that were not synced, in order
	pending []op
	folders map[int]bool
	acks    []string
}

// diskState is one file.
type diskState struct {
	synced  []byte
	pending []op
}

// replay is the disk after the first n things done to it.
func replay(ops []op) *disk {
	d := &disk{files: map[int]*diskState{}, names: map[int]map[string]int{0: {}}, folders: map[int]bool{0: true}}
	for _, o := range ops {
		switch o.kind {
		case opWrite, opLength:
			d.files[o.node].pending = append(d.files[o.node].pending, o)
		case opName:
			if d.files[o.child] == nil && !d.folders[o.child] {
				d.files[o.child] = &diskState{}
			}
			d.pending = append(d.pending, o)
		case opFolder:
			d.folders[o.child] = true
			d.pending = append(d.pending, o)
		case opUnname:
			d.pending = append(d.pending, o)
		case opSync:
			d.sync(o.node)
		case opAck:
			d.acks = append(d.acks, strings.Fields(string(o.data))...)
		}
	}
	return d
}

// sync makes a file's content durable, or a directory's names. As on ext4 and xfs,
// names are in one journal: those before the last one of this directory come along.
// A file's sync promises nothing of its name.
func (d *disk) sync(node int) {
	if f := d.files[node]; f != nil {
		for _, o := range f.pending {
			f.synced = o.apply(f.synced)
		}
		f.pending = nil
		return
	}
	last := -1
	for i, o := range d.pending {
		if o.node == node || o.old != "" && o.from == node {
			last = i
		}
	}
	for _, o := range d.pending[:last+1] {
		d.rename(o)
	}
	d.pending = slices.Clone(d.pending[last+1:])
}

// apply is what a file holds after a write or a change of its length.
func (o *op) apply(file []byte) []byte {
	if o.kind == opLength {
		return stretched(file, o.off)
	}
	return written(file, o.off, o.data)
}

func (d *disk) rename(o op) {
	if d.names[o.node] == nil {
		d.names[o.node] = map[string]int{}
	}
	switch o.kind {
	case opName:
		if o.old != "" {
			delete(d.names[o.from], o.old)
		}
		d.names[o.node][o.name] = o.child
	case opFolder:
		d.names[o.node][o.name] = o.child
		d.names[o.child] = map[string]int{}
	case opUnname:
		delete(d.names[o.node], o.name)
	}
}

// fate is what becomes of what was not synced.
type fate int

const (
	fateDropped fate = iota // all of it is lost
	fateKept                // all of it arrived
	fateSome                // some arrived, in any order
	fateTorn                // some, and one write only in part
	fates
)

func (f fate) String() string {
	return [...]string{"unsynced writes dropped", "unsynced writes kept", "some unsynced writes kept", "some unsynced writes kept, one torn"}[f]
}

// lose settles what was pending.
func (d *disk) lose(r *rand.Rand, f fate) {
	var nodes []int
	for n := range d.files {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	torn := -1 // the file in which a write is torn
	if f == fateTorn {
		var candidates []int
		for _, n := range nodes {
			if slices.ContainsFunc(d.files[n].pending, func(o op) bool { return o.kind == opWrite && len(o.data) > 512 }) {
				candidates = append(candidates, n)
			}
		}
		if len(candidates) > 0 {
			torn = candidates[r.IntN(len(candidates))]
		}
	}
	for _, n := range nodes {
		file := d.files[n]
		var arrived []op
		for _, o := range file.pending {
			if f == fateKept || f != fateDropped && r.IntN(2) == 0 {
				arrived = append(arrived, o)
			}
		}
		if n == torn {
			for _, i := range r.Perm(len(file.pending)) {
				if o := file.pending[i]; o.kind == opWrite && len(o.data) > 512 {
					unit := 512
					if len(o.data) > 4096 && r.IntN(2) == 0 {
						unit = 4096
					}
					o.data = o.data[:unit*(1+r.IntN((len(o.data)-1)/unit))]
					arrived = append(slices.DeleteFunc(arrived, func(a op) bool { return a.off == o.off && a.kind == opWrite }), o)
					break
				}
			}
		}
		// A length is a name's equal: it is in the journal, in order. Data that arrives
		// beyond it stretches the file, as a length that arrived would have.
		for _, o := range arrived {
			file.synced = o.apply(file.synced)
		}
		file.pending = nil
	}
	keep := 0
	switch f {
	case fateKept:
		keep = len(d.pending)
	case fateSome, fateTorn:
		keep = r.IntN(len(d.pending) + 1)
	}
	for _, o := range d.pending[:keep] {
		d.rename(o)
	}
	d.pending = nil
}

// build writes the disk into a directory, with holes for zeros.
func (d *disk) build(dir string) error {
	var walk func(node int, at string) error
	walk = func(node int, at string) error {
		if err := os.MkdirAll(at, 0o700); err != nil {
			return err
		}
		for name, child := range d.names[node] {
			path := filepath.Join(at, name)
			if d.folders[child] {
				if err := walk(child, path); err != nil {
					return err
				}
			} else if err := writeSparse(path, d.files[child].synced); err != nil {
				return fmt.Errorf("build %s: %w", path, err)
			}
		}
		return nil
	}
	return walk(0, dir)
}

var zeros [4096]byte

func writeSparse(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(len(data))); err != nil {
		return err
	}
	for off := 0; off < len(data); off += len(zeros) {
		page := data[off:min(len(data), off+len(zeros))]
		if string(page) == string(zeros[:len(page)]) {
			continue
		}
		if _, err := f.WriteAt(page, int64(off)); err != nil {
			return err
		}
	}
	return nil
}
