package hardware

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// recorded is a node as its files, variables and kernel describe it.
type recorded struct {
	files    map[string]string
	env      map[string]string
	commands map[string]string // command line → output, "!" before an error
	affinity int
	vmem     protocol.ByteSize
	free     protocol.ByteSize
	level    int
	arch     string
	hung     string // a path whose Stat never returns until the test ends
	release  chan struct{}
	missing  string
}

func (r *recorded) Affinity() (int, error)                   { return r.affinity, nil }
func (r *recorded) AddressSpace() (protocol.ByteSize, error) { return r.vmem, nil }
func (r *recorded) Level() int                               { return r.level }
func (r *recorded) Arch() string                             { return r.arch }
func (r *recorded) Free(dir string) (protocol.ByteSize, error) {
	if r.hung != "" && strings.HasPrefix(r.hung, dir) {
		<-r.release
	}
	if r.free < 0 {
		return 0, errors.New("no such file or directory")
	}
	return r.free, nil
}

func (r *recorded) Stat(path string) error {
	switch {
	case r.hung != "" && path == r.hung:
		<-r.release
	case r.missing != "" && path == r.missing:
		return errors.New("transport endpoint is not connected")
	}
	return nil
}

func (r *recorded) options() Options {
	tree := fstest.MapFS{}
	for name, text := range r.files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Options{
		Root:      tree,
		LookupEnv: func(k string) (string, bool) { v, ok := r.env[k]; return v, ok },
		Kernel:    r,
		Now:       time.Unix(1_800_000_000, 0),
		Scratch:   "/scratch",
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			line, best := name+" "+strings.Join(args, " "), ""
			for prefix := range r.commands {
				if strings.HasPrefix(line, prefix) && len(prefix) > len(best) {
					best = prefix
				}
			}
			out, found := r.commands[best]
			switch text, bad := strings.CutPrefix(out, "!"); {
			case !found:
				return nil, &exec.Error{Name: name, Err: exec.ErrNotFound}
			case text == "hangs" && bad:
				return nil, fmt.Errorf("%s: %w in %v", name, errNoAnswer, probeTime)
			case bad:
				return []byte(text), fmt.Errorf("%s: exit status 9: %s", name, firstLine(text))
			}
			return []byte(out), nil
		},
	}
}

const debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n"

func TestMeasure(t *testing.T) {
	const meminfo = "MemTotal:       131072000 kB\nMemFree:        5 kB\n"
	glibc := "\x7fELF…GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\n"
	tests := []struct {
		promise string
		node    recorded
		edit    func(*Options)
		want    protocol.Resources
	}{
		{
			promise: "an unlimited workstation offers all it has",
			node: recorded{
				affinity: 16, free: 80 * protocol.GB, arch: "x86_64", level: 3,
				files: map[string]string{"proc/meminfo": meminfo, "etc/os-release": debian, "lib/x86_64-linux-gnu/libc.so.6": glibc},
			},
			want: protocol.Resources{
				Cores: 16, Memory: 131072000 << 10, Disk: 80 * protocol.GB, OS: "debian_12-x86_64-glibc2.36",
				Tags: []string{"x86-64-v1", "x86-64-v2", "x86-64-v3"},
			},
		},
		{
			promise: "a version 2 cgroup's limits bind, also those of its parents",
			node: recorded{affinity: 64, free: 1, arch: "aarch64", files: map[string]string{
				"proc/meminfo":                       meminfo,
				"proc/self/cgroup":                   "0::/system.slice/slurmstepd.scope/job_7/step_0\n",
				"proc/self/mountinfo":                "30 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
				"sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
				"sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/cpu.max":                      "400000 100000\n",
				"sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/memory.max":                   "8589934592\n",
				"sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/memory.max":            "max\n",
				"sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/cpuset.cpus.effective": "0-5,32-37\n",
			}},
			want: protocol.Resources{Cores: 4, Memory: 8 << 30, Disk: 1, OS: "unknown-aarch64"},
		},
		{
			promise: "a version 1 cgroup seen from inside a container binds",
			node: recorded{affinity: 8, free: 1, arch: "x86_64", files: map[string]string{
				"proc/meminfo":     meminfo,
				"proc/self/cgroup": "5:memory:/docker/abc\n4:cpuacct,cpu:/docker/abc\n3:cpuset:/docker/abc\n",
				"proc/self/mountinfo": "31 30 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" +
					"32 30 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n" +
					"33 30 0:29 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":      "2147483648\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":      "250000\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":     "100000\n",
				"sys/fs/cgroup/cpuset/cpuset.cpus":                "0-7\n",
				"sys/fs/cgroup/cpuset/cpuset.effective_cpus":      "0-7\n",
				"sys/fs/cgroup/memory/docker/abc/memory.nonsense": "",
			}},
			want: protocol.Resources{Cores: 2, Memory: 2 << 30, Disk: 1, OS: "unknown-x86_64"},
		},
		{
			promise: "version 1's largest number and a quota of -1 are no limits",
			node: recorded{affinity: 3, free: 1, arch: "x86_64", files: map[string]string{
				"proc/meminfo":                    meminfo,
				"proc/self/cgroup":                "5:memory:/\n4:cpu:/\n",
				"proc/self/mountinfo":             "31 30 0:27 / /cg/memory rw - cgroup cgroup rw,memory\n32 30 0:28 / /cg/cpu rw - cgroup cgroup rw,cpu\n",
				"cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
				"cg/cpu/cpu.cfs_quota_us":         "-1\n",
				"cg/cpu/cpu.cfs_period_us":        "100000\n",
			}},
			want: protocol.Resources{Cores: 3, Memory: 131072000 << 10, Disk: 1, OS: "unknown-x86_64"},
		},
		{
			promise: "Slurm's variables bind where it confines nothing",
			node: recorded{
				affinity: 64, free: 1, arch: "x86_64",
				files: map[string]string{"proc/meminfo": meminfo},
				env: map[string]string{
					"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "64",
					"SLURM_MEM_PER_CPU": "2000", "SLURM_JOB_END_TIME": "1800003600",
				},
			},
			want: protocol.Resources{Cores: 4, Memory: 8000 << 20, Disk: 1, OS: "unknown-x86_64", Remaining: 3600},
		},
		{
			promise: "squeue is asked where Slurm's variables are silent about the end",
			node: recorded{
				affinity: 1, free: 1, arch: "x86_64", env: map[string]string{"SLURM_JOB_ID": "77"},
				commands: map[string]string{"squeue --noheader --job 77": "1-02:00:30\n"},
			},
			want: protocol.Resources{Cores: 1, Disk: 1, OS: "unknown-x86_64", Remaining: 26*3600 + 30},
		},
		{
			promise: "an HTCondor machine ad binds cores, memory and disk",
			node: recorded{
				affinity: 32, free: 500 * protocol.GB, arch: "x86_64",
				files: map[string]string{"proc/meminfo": meminfo, "var/slot/.machine.ad": "Cpus = 2\nMemory = 4096\nDisk = 1000000\nName = \"slot1@n\"\n"},
				env:   map[string]string{"_CONDOR_MACHINE_AD": "/var/slot/.machine.ad"},
			},
			want: protocol.Resources{Cores: 2, Memory: 4096 << 20, Disk: 1000000 << 10, OS: "unknown-x86_64"},
		},
		{
			promise: "PBS's walltime counts from the start, Grid Engine's slots and h_vmem bind",
			node: recorded{
				affinity: 32, free: 1, vmem: 3 * protocol.GB, arch: "x86_64",
				files: map[string]string{"proc/meminfo": meminfo},
				env:   map[string]string{"PBS_WALLTIME": "7200", "NSLOTS": "3"},
			},
			edit: func(o *Options) { o.Started = o.Now.Add(-time.Hour) },
			want: protocol.Resources{Cores: 3, Memory: 3 * protocol.GB, Disk: 1, OS: "unknown-x86_64", Remaining: 3600},
		},
		{
			promise: "the argument beats the variables, a passed end leaves one second, limits cap",
			node: recorded{
				affinity: 32, free: -1, arch: "x86_64", files: map[string]string{"proc/meminfo": meminfo},
				env: map[string]string{"FLOE_BATCH_END": "1900000000"},
			},
			edit: func(o *Options) {
				o.End = o.Now.Add(-time.Minute)
				o.Limit = protocol.Resources{Cores: 8, Memory: 16 * protocol.GB, Disk: 1}
				o.Tags = []string{"gpfs", "not a tag"}
			},
			want: protocol.Resources{Cores: 8, Memory: 16 * protocol.GB, OS: "unknown-x86_64", Remaining: 1, Tags: []string{"gpfs"}},
		},
		{
			promise: "a musl node is named as one",
			node: recorded{affinity: 1, free: 1, arch: "x86_64", files: map[string]string{
				"usr/lib/os-release":        "ID=alpine\nVERSION_ID=3.19.1\n",
				"lib/ld-musl-x86_64.so.1":   "\x7fELF junk 1.2.3 \x001.2.4\x00 more",
				"lib/ld-linux-x86-64.so.2-": "",
			}},
			want: protocol.Resources{Cores: 1, Disk: 1, OS: "alpine_3.19.1-x86_64-musl1.2.4"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			o := tt.node.options()
			if tt.edit != nil {
				tt.edit(&o)
			}
			got, report := Measure(t.Context(), o)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Measure (-want +got):\n%s\nreport:\n%s", diff, report.String())
			}
		})
	}
}

func TestRunningNode(t *testing.T) {
	got, report := Measure(t.Context(), Options{Scratch: t.TempDir(), LookupEnv: func(string) (string, bool) { return "", false }})
	if got.Cores < 1 || got.Memory <= 0 || got.Disk <= 0 || !strings.Contains(got.OS, "-") {
		t.Errorf("Measure of this node = %+v\n%s", got, report.String())
	}
}

func TestHungAndBrokenRepositories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := recorded{
			affinity: 1, free: 1, arch: "x86_64", hung: "/cvmfs/hung.org", missing: "/cvmfs/broken.org", release: make(chan struct{}),
			files: map[string]string{"proc/self/mountinfo": "90 30 0:55 / /cvmfs/good.org ro - fuse cvmfs2 ro\n"},
		}
		o := node.options()
		o.Tags = []string{"cvmfs-hung.org", "cvmfs-broken.org", "cvmfs-good.org"}
		got, report := Measure(t.Context(), o)
		close(node.release)
		if diff := cmp.Diff([]string{"cvmfs-good.org"}, got.Tags); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		if len(report.Problems) != 2 || !slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, "hung.org: no answer") }) {
			t.Errorf("problems = %q, want one for hung.org and one for broken.org", report.Problems)
		}
	})
}

func TestHungScratchDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := recorded{affinity: 1, free: 1, arch: "x86_64", hung: "/scratch", release: make(chan struct{})}
		got, report := Measure(t.Context(), node.options())
		close(node.release)
		if got.Disk != 0 || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "no answer in 20s; no disk is offered") {
			t.Errorf("disk = %v, problems %q; want none, and why", got.Disk, report.Problems)
		}
	})
}

func TestSilentRepositories(t *testing.T) {
	node := &recorded{missing: "/cvmfs/gone.example.org", hung: "/cvmfs/hung.example.org", release: make(chan struct{})}
	defer close(node.release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // shorter than a probe's
	defer cancel()
	got := Silent(ctx, Options{Kernel: node}, []string{"good.example.org", "gone.example.org", "hung.example.org"})
	if len(got) != 2 || !strings.Contains(got["gone.example.org"], "transport endpoint") || !strings.Contains(got["hung.example.org"], "the mount hangs") {
		t.Errorf("Silent = %v, want those that are gone and hung", got)
	}
}
