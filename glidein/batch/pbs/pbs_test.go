package pbs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// fake makes the tools of one of the dialects those on PATH.
func fake(t *testing.T, dialect string, slots int) *batchtest.Fake {
	t.Setenv(fakeDialect, dialect)
	f := batchtest.NewFake(t, slots)
	f.Install(t, fakes[dialect])
	return f
}

func TestFakeOpenPBS(t *testing.T) { runFake(t, OpenPBS) }
func TestFakeTorque(t *testing.T)  { runFake(t, Torque) }

func runFake(t *testing.T, dialect string) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		return batchtest.Target{
			System: New(batch.Tool{}, ""), Fake: fake(t, dialect, 2), Dialect: fakes[dialect], BadQueue: "nope", NeverID: "999999.vm",
			Slots: 2, SharedDirectory: true,
		}
	})
}

// TestRealPBS runs where a real qsub is on PATH and FLOE_TEST_PBS is 1: no package
// of Debian has one.
func TestRealPBS(t *testing.T) {
	if os.Getenv("FLOE_TEST_PBS") != "1" {
		t.Skip("a real PBS is tested with FLOE_TEST_PBS=1 and its tools on PATH")
	}
	out, err := exec.Command("pbsnodes", "-a").Output()
	if err != nil {
		t.Fatalf("pbsnodes: %v", err)
	}
	slots := 0
	for _, m := range regexp.MustCompile(`(?m)^\s+(?:resources_available\.ncpus|np) = ([0-9]+)$`).FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.Atoi(m[1])
		slots += n
	}
	if slots > 8 {
		slots = 0 // a cluster, which a test does not fill
	}
	batchtest.Run(t, func(*testing.T) batchtest.Target {
		return batchtest.Target{
			System: New(batch.Tool{}, ""), BadQueue: "floe-nope", NeverID: "999999", Slots: slots, SharedDirectory: true, Wait: 3 * time.Minute,
		}
	})
	t.Run("NeverStarts", func(t *testing.T) {
		s := New(batch.Tool{}, "")
		if d, err := s.speak(t.Context()); err != nil || d.name != OpenPBS {
			t.Skipf("only the scheduler of OpenPBS says so (%v)", err)
		}
		id := submit(t, s, batch.Job{Launch: "never", Cores: 9999})
		t.Cleanup(func() { _ = s.Remove(context.Background(), id) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for held := false; !held; {
			entries, err := s.Status(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			held = slices.ContainsFunc(entries, func(e batch.Entry) bool {
				return e.ID == id && e.State == batch.Held && strings.Contains(e.Reason, "ncpus")
			})
		}
	})
}

func TestSubmitFile(t *testing.T) {
	for dialect, want := range map[string]string{
		OpenPBS: `#!/bin/sh
#PBS -N floe-abcdefghij
#PBS -v FLOE_LAUNCH=abcdefghijklm
#PBS -S /bin/sh
#PBS -j oe
#PBS -m n
#PBS -o DIR/batch-output.^array_index^
#PBS -J 0-1
#PBS -l select=1:ncpus=8:mem=15259mb:ngpus=2
#PBS -l walltime=5401
#PBS -p -5
#PBS -q long
#PBS -A icecube
#PBS -l place=excl
FLOE_WALLTIME=5401
export FLOE_WALLTIME
case ${PBS_ARRAY_INDEX-} in
0) cd 'DIR' && exec /bin/sh 'DIR/pilot.sh' >>output 2>&1 ;;
1) cd '/d' && exec /bin/sh '/d/pilot.sh' >>output 2>&1 ;;
*) echo "floe: no pilot job PBS_ARRAY_INDEX=${PBS_ARRAY_INDEX-}" >&2; exit 2 ;;
esac
`,
		Torque: `#!/bin/sh
#PBS -N floe-abcdefghij
#PBS -v FLOE_LAUNCH=abcdefghijklm
#PBS -S /bin/sh
#PBS -j oe
#PBS -m n
#PBS -o DIR/batch-output
#PBS -t 0-1
#PBS -r n
#PBS -l nodes=1:ppn=8:gpus=2,mem=15259mb
#PBS -l walltime=5401
#PBS -p -5
#PBS -q long
#PBS -A icecube
#PBS -l place=excl
FLOE_WALLTIME=5401
export FLOE_WALLTIME
case ${PBS_ARRAYID-} in
0) cd 'DIR' && exec /bin/sh 'DIR/pilot.sh' >>output 2>&1 ;;
1) cd '/d' && exec /bin/sh '/d/pilot.sh' >>output 2>&1 ;;
*) echo "floe: no pilot job PBS_ARRAYID=${PBS_ARRAYID-}" >&2; exit 2 ;;
esac
`,
	} {
		dir := t.TempDir()
		jobs := []batch.Job{
			{
				Launch: "abcdefghijklm", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Cores: 8, Memory: 16 * protocol.GB, Disk: 1, GPUs: 2,
				Walltime: 90*time.Minute + time.Millisecond, Priority: -5, Queue: "long", Account: "icecube", Directives: []string{"-l place=excl"},
			},
			{Launch: "abd", Directory: "/d", Script: "/d/pilot.sh"},
		}
		file, err := New(batch.Tool{}, dialect).WriteSubmitFile(jobs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.ReplaceAll(want, "DIR", dir), string(got)); d != "" {
			t.Errorf("submit file of %s (-want +got):\n%s", dialect, d)
		}
	}
}

// TestBrokenList: the suite breaks qselect; qstat can fail by itself.
func TestBrokenList(t *testing.T) {
	for _, dialect := range Dialects {
		t.Run(dialect, func(t *testing.T) {
			f := fake(t, dialect, 0)
			s := New(batch.Tool{}, "")
			submit(t, s, batch.Job{Launch: "a"})
			for _, fault := range []batchtest.Fault{batchtest.Garbage, batchtest.Empty, batchtest.Down, batchtest.Cut} {
				f.Break(t, "qstat", fault)
				if entries, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || len(entries) != 0 {
					t.Errorf("qstat that %s: %d jobs, %v; want ErrTransient: unknown is not zero", fault, len(entries), err)
				}
			}
			f.Break(t, "", "")
			if entries, err := s.Status(t.Context(), nil); err != nil || len(entries) != 1 {
				t.Errorf("mended: %+v, %v", entries, err)
			}
		})
	}
}

func submit(t *testing.T, s *System, j batch.Job) batch.JobID {
	t.Helper()
	j.Directory = t.TempDir()
	j.Script = filepath.Join(j.Directory, "pilot.sh")
	file, err := s.WriteSubmitFile([]batch.Job{j})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Submit(t.Context(), []batch.Job{j}, file)
	if err != nil {
		t.Fatal(err)
	}
	return ids[0]
}

// TestNeitherDialect: the tools of Grid Engine have the same names.
func TestNeitherDialect(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "qstat"), []byte("#!/bin/sh\necho 'SGE 8.1.9'\necho 'usage: qstat [options]'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if _, err := New(batch.Tool{}, "").Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || !strings.Contains(err.Error(), "SGE 8.1.9") {
		t.Errorf("status by the qstat of Grid Engine: %v, want an error that says whose it is", err)
	}
}

// TestDisabledQueue is refused at once.
func TestDisabledQueue(t *testing.T) {
	fake(t, OpenPBS, 0)
	s := New(batch.Tool{}, "")
	j := batch.Job{Launch: "a", Directory: t.TempDir(), Script: "pilot.sh", Queue: "off"}
	file, err := s.WriteSubmitFile([]batch.Job{j})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submit(t.Context(), []batch.Job{j}, file); !errors.Is(err, batch.ErrRefused) {
		t.Errorf("submit to a queue that is disabled: %v, want ErrRefused", err)
	}
}
