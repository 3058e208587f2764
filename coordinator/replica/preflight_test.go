package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"floe/coordinator/boltfile"
)

// stopped runs a single node that takes two snapshots at 40 and 80 commands, applies
// 10 more and stops.
func stopped(t *testing.T, adjust ...func(*Config)) *cluster {
	t.Helper()
	c := newCluster(t, 1, adjust...)
	n := c.leader()
	for i := range 90 {
		c.propose(n, fmt.Sprint(i))
		if i == 39 || i == 79 {
			if err := n.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.cancel()
	if err := <-n.ended; err != nil {
		t.Fatal(err)
	}
	return c
}

// shortLog makes the log as short as it can be behind a snapshot.
func shortLog(c *Config) { c.Limits.RetainBytes, c.Limits.InFlight = 1, 1 }

func states(t *testing.T, dir string) []string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
	if err != nil || len(m) != 2 {
		t.Fatalf("snapshots = %v, %v; want two", m, err)
	}
	slices.Sort(m)
	return m
}

func damage(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(b []byte) []byte { b[len(b)/3] ^= 1; return b }
func half(b []byte) []byte { return b[:len(b)/2] }

func editLog(t *testing.T, dir string, edit func(*bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, logFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { return edit(tx.Bucket([]byte("logs"))) }); err != nil {
		t.Fatal(err)
	}
}

// setTerm puts back the votes of an earlier term.
func setTerm(t *testing.T, dir string, term uint64) {
	t.Helper()
	s, err := openStable(filepath.Join(dir, stableFile), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetUint64([]byte(raftTermKey), term), s.close()); err != nil {
		t.Fatal(err)
	}
}

// What is damaged is either made up for by what is left, with every command there,
// or refused by name with nothing touched.
func TestOpenDamaged(t *testing.T) {
	tests := []struct {
		name    string
		adjust  func(*Config)
		harm    func(t *testing.T, dir string)
		want    error // nil: all 90 commands are there
		aside   int   // snapshots in damaged/
		message []string
	}{
		{name: "untouched", harm: func(*testing.T, string) {}},
		{name: "untouched, short log", adjust: shortLog, harm: func(*testing.T, string) {}},
		{
			name: "newest snapshot, one bit", // raft#85
			harm: func(t *testing.T, dir string) { damage(t, states(t, dir)[1], flip) }, aside: 1,
		},
		{
			name: "both snapshots cut",
			harm: func(t *testing.T, dir string) {
				for _, s := range states(t, dir) {
					damage(t, s, half)
				}
			}, aside: 2,
		},
		{
			name: "meta.json of the newest snapshot",
			harm: func(t *testing.T, dir string) {
				damage(t, filepath.Join(filepath.Dir(states(t, dir)[1]), "meta.json"), half)
			}, aside: 1,
		},
		{
			name: "older snapshot, short log", adjust: shortLog,
			harm: func(t *testing.T, dir string) { damage(t, states(t, dir)[0], flip) }, aside: 1,
		},
		{
			name: "newest snapshot, short log", adjust: shortLog, // raft panics here (raft#85)
			harm: func(t *testing.T, dir string) { damage(t, states(t, dir)[1], flip) },
			want: ErrDamaged, message: []string{"join again under a new id", "newest good snapshot"},
		},
		{
			name: "half-written snapshot of a crash",
			harm: func(t *testing.T, dir string) {
				if err := os.MkdirAll(filepath.Join(dir, "snapshots", "9-999-1.tmp"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "hole in the log",
			harm: func(t *testing.T, dir string) {
				editLog(t, dir, func(b *bbolt.Bucket) error {
					k, _ := b.Cursor().Last()
					return b.Delete(binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(k)-2))
				})
			},
			want: ErrDamaged,
		},
		{
			name: "log cut",
			harm: func(t *testing.T, dir string) {
				damage(t, filepath.Join(dir, logFile), func(b []byte) []byte { return b[:4*os.Getpagesize()] })
			},
			want: ErrDamaged,
		},
		{
			name: "log of zeros",
			harm: func(t *testing.T, dir string) {
				damage(t, filepath.Join(dir, logFile), func(b []byte) []byte { clear(b); return b })
			},
			want: ErrDamaged,
		},
		{
			name: "log gone",
			harm: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, logFile)) },
			want: ErrDamaged, message: []string{"log.db is missing"},
		},
		{
			name: "votes gone",
			harm: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, stableFile)) },
			want: ErrDamaged, message: []string{"votes are lost"},
		},
		{
			name: "only snapshots left",
			harm: func(t *testing.T, dir string) {
				os.Remove(filepath.Join(dir, logFile))
				os.Remove(filepath.Join(dir, stableFile))
			},
			want: ErrDamaged, message: []string{"votes are lost"},
		},
		{
			name: "votes cut to nothing", // bolt would begin a new file in term 0
			harm: func(t *testing.T, dir string) {
				damage(t, filepath.Join(dir, stableFile), func([]byte) []byte { return nil })
			},
			want: ErrDamaged, message: []string{"stable.db is empty", "join again under a new id"},
		},
		{
			name: "log cut to nothing",
			harm: func(t *testing.T, dir string) {
				damage(t, filepath.Join(dir, logFile), func([]byte) []byte { return nil })
			},
			want: ErrDamaged, message: []string{"log.db is empty"},
		},
		{
			name: "votes of an earlier term", // an old copy of the file
			harm: func(t *testing.T, dir string) { setTerm(t, dir, foundingTerm) },
			want: ErrDamaged, message: []string{"stable.db knows terms up to 1", "log.db has an entry of term 2"},
		},
		{
			name: "votes of an earlier term, snapshots alone",
			harm: func(t *testing.T, dir string) {
				editLog(t, dir, func(b *bbolt.Bucket) error { return b.ForEach(func(k, _ []byte) error { return b.Delete(k) }) })
				setTerm(t, dir, foundingTerm)
			},
			want: ErrDamaged,
		},
		{
			name: "votes cut",
			harm: func(t *testing.T, dir string) {
				damage(t, filepath.Join(dir, stableFile), func(b []byte) []byte { return b[:2*os.Getpagesize()] })
			},
			want: ErrDamaged,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.adjust == nil {
				tt.adjust = func(*Config) {}
			}
			synctest.Test(t, func(t *testing.T) {
				c := stopped(t, tt.adjust)
				n := c.nodes[0]
				tt.harm(t, n.config.Dir)
				before := tree(t, n.config.Dir)
				err := c.open(0)
				if err == nil && tt.want != nil {
					n.Close()
				}
				if !errors.Is(err, tt.want) {
					t.Fatalf("Open = %v, want %v", err, tt.want)
				}
				if tt.want != nil {
					if !contains(err, tt.message...) || ExitCode(err) != 74 {
						t.Errorf("Open = %v (exit code %d), want %q and 74", err, ExitCode(err), tt.message)
					}
					if diff := cmp.Diff(before, tree(t, n.config.Dir)); diff != "" {
						t.Errorf("a refused directory was changed (-before +after):\n%s", diff)
					}
					return
				}
				n.run(t)
				c.leader()
				if got := n.machine.list(); len(got) != 90 || got[89] != "89" {
					t.Errorf("%d commands after restart, want 90", len(got))
				}
				aside, _ := os.ReadDir(filepath.Join(n.config.Dir, damagedDir))
				if len(aside) != tt.aside {
					t.Errorf("%d snapshots set aside, want %d", len(aside), tt.aside)
				}
			})
		})
	}
}

// tree lists the files below a directory with their sizes.
func tree(t *testing.T, dir string) (out []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, _ := os.Stat(path); err == nil && info != nil && !d.IsDir() {
			out = append(out, fmt.Sprintf("%s %d", path, info.Size()))
		}
		return err
	})
	return out
}

// A second process is refused while the first has the directory.
func TestOpenLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		n := c.leader()
		second := n.config
		second.Machine, second.Stream = &record{}, c.network.Listen("other")
		if r, err := Open(second); !errors.Is(err, ErrLocked) {
			t.Errorf("second Open = %v, %v, want ErrLocked", r, err)
		}
		c.propose(n, "still alive")
	})
}

// The term of a founding was written, and power was lost before the members were.
func TestFoundingThatWasCutShortIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, func(c *Config) {
			if err := os.MkdirAll(c.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			s, err := openStable(filepath.Join(c.Dir, stableFile), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(s.SetUint64([]byte(raftTermKey), foundingTerm), s.close(), boltfile.Create(filepath.Join(c.Dir, logFile), boltOptions(0)))
			if err != nil {
				t.Fatal(err)
			}
		})
		c.leader()
	})
}
