//go:build linux

package coordinator

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDamagedDisk flips one bit of a stopped coordinator's files, or cuts one of
// them. It then starts with the right state all the same, or is refused by name: a
// coordinator that goes on with a wrong record is the worst there is, because the
// others believe it.
func TestDamagedDisk(t *testing.T) {
	t.Parallel()
	rec := recordWorkload(t)
	r := rand.New(rand.NewPCG(theSeed(t), 3))
	var trials []trial
	for range *crashPoints {
		at, seed := rec.first+r.IntN(len(rec.ops)-rec.first+1), r.Uint64()
		d := replay(rec.ops[:at])
		d.lose(nil, fateKept)
		what, harm := d.harm(rand.New(rand.NewPCG(seed, 4)))
		trials = append(trials, trial{
			what: fmt.Sprintf("after %d of %d writes, %s", at, len(rec.ops), what), damaged: true,
			build: func(dir string) (uint64, []int, error) {
				d := replay(rec.ops[:at])
				required, blobs := d.required()
				d.lose(nil, fateKept)
				harm(d)
				return required, blobs, d.build(dir)
			},
		})
	}
	try(t, rec, trials)
}

// paths are the files by their names.
func (d *disk) paths() map[string]int {
	all := map[string]int{}
	var walk func(node int, at string)
	walk = func(node int, at string) {
		for name, child := range d.names[node] {
			if path := filepath.Join(at, name); d.folders[child] {
				walk(child, path)
			} else {
				all[path] = child
			}
		}
	}
	walk(0, "")
	return all
}

// harm chooses a file and what happens to it.
func (d *disk) harm(r *rand.Rand) (what string, harm func(*disk)) {
	paths := d.paths()
	var names []string
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		// Between a snapshot and the seal of its description power was lost: bad luck
		// that strikes the same file twice at once is beyond what is promised.
		if _, sealed := paths[filepath.Join(filepath.Dir(p), "meta.sha256")]; filepath.Base(p) == "meta.json" && !sealed {
			continue
		}
		// Every kind of file is as likely as another; there are many blobs.
		if len(d.files[paths[p]].synced) > 0 && (!strings.Contains(p, "blobs/blobs") || r.IntN(8) == 0) {
			names = append(names, p)
		}
	}
	path := names[r.IntN(len(names))]
	node := paths[path]
	length := len(d.files[node].synced)
	if r.IntN(3) == 0 {
		to := r.IntN(length)
		if r.IntN(2) == 0 {
			to -= to % 4096
		}
		return fmt.Sprintf("%s cut from %d to %d bytes", path, length, to), func(d *disk) {
			d.files[node].synced = d.files[node].synced[:to]
		}
	}
	used := len(bytes.TrimRight(d.files[node].synced, "\x00"))
	off, bit := r.IntN(max(1, used)), r.IntN(8)
	return fmt.Sprintf("%s, bit %d of byte %d flipped", path, bit, off), func(d *disk) {
		d.files[node].synced[off] ^= 1 << bit
	}
}
