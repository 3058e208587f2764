package slurm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestFakeSlurm(t *testing.T) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		f := batchtest.NewFake(t, 2)
		f.Install(t, dialect)
		return batchtest.Target{
			System: New(batch.Tool{}), Fake: f, Dialect: dialect, Queue: "short", BadQueue: "nope", NeverID: "999999",
			Slots: 2, SharedDirectory: true,
		}
	})
}

// TestRealSlurm runs where scripts/batch-systems/slurm.sh can install and start one.
func TestRealSlurm(t *testing.T) {
	batchtest.Start(t, "slurm")
	out, err := exec.Command("sinfo", "--noheader", "--format=%c").Output()
	if err != nil {
		t.Fatal(err)
	}
	slots := 0
	for _, c := range strings.TrimSpace(string(out)) {
		slots = slots*10 + int(c-'0')
	}
	batchtest.Run(t, func(*testing.T) batchtest.Target {
		return batchtest.Target{
			System: New(batch.Tool{}), Queue: "short", BadQueue: "nope", NeverID: "999999", Slots: slots, SharedDirectory: true,
			Wait: 2 * time.Minute,
		}
	})
}

func TestSubmitFile(t *testing.T) {
	dir := t.TempDir()
	jobs := []batch.Job{
		{
			Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Cores: 8, Memory: 16 * protocol.GB, Disk: 1, GPUs: 2,
			Walltime: 90*time.Minute + time.Second, Priority: -5, Queue: "gpu,long", Account: "ice cube", Directives: []string{"--constraint=avx2"},
		},
		{Launch: "abd", Directory: "/d", Script: "/d/pilot.sh"},
	}
	file, err := New(batch.Tool{}).WriteSubmitFile(jobs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `#!/bin/sh
#SBATCH --job-name=floe-abc
#SBATCH --array=0-1
#SBATCH --output=DIR/batch-output
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=15259M
#SBATCH --tmp=1M
#SBATCH --gres=gpu:2
#SBATCH --time=91
#SBATCH --nice=5
#SBATCH --partition=gpu,long
#SBATCH --account="ice cube"
#SBATCH --constraint=avx2
case ${SLURM_ARRAY_TASK_ID-} in
0) cd 'DIR' && exec /bin/sh 'DIR/pilot.sh' >>output 2>&1 ;;
1) cd '/d' && exec /bin/sh '/d/pilot.sh' >>output 2>&1 ;;
*) echo "floe: no pilot job SLURM_ARRAY_TASK_ID=${SLURM_ARRAY_TASK_ID-}" >&2; exit 2 ;;
esac
`
	if d := cmp.Diff(strings.ReplaceAll(want, "DIR", dir), string(got)); d != "" {
		t.Errorf("submit file (-want +got):\n%s", d)
	}
}

// TestWaitsForEver is the trap of a job that Slurm accepts and never starts.
func TestWaitsForEver(t *testing.T) {
	got, err := parse([]byte("15|N/A|PENDING|2026-11-22T06:47:43|N/A|PartitionTimeLimit|floe-a\n" +
		"16|N/A|PENDING|2026-11-22T06:47:43|2026-11-22T07:12:00|Priority|floe-b\n" +
		"5|3|RUNNING|2026-11-22T06:47:43|2026-11-22T06:47:44|None|floe-c\n" +
		"6|N/A|COMPLETING|2026-11-22T06:47:43|2026-11-22T06:47:44|None|somebody's | job\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time { return clock("2026-11-22T06:47:" + s) }
	want := []batch.Entry{
		{ID: "15", Launch: "a", State: batch.Held, Reason: "PartitionTimeLimit", Since: at("43")},
		{ID: "16", Launch: "b", State: batch.Queued, Reason: "Priority", Since: at("43")},
		{ID: "5_3", Launch: "c", Index: 3, State: batch.Running, Since: at("44")},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("parsed (-want +got):\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("5|3|RUNNING|2026-11-22T06:47:43|2026-11-22T06:47:44|None|floe-c\n"))
	f.Add([]byte("slurm_load_jobs error\n"))
	f.Add([]byte("5|3|RUNNING|"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parse(b)
		if err != nil && entries != nil {
			t.Fatal("entries beside an error")
		}
		for _, e := range entries {
			if e.ID == "" || e.Launch == "" || e.State == 0 || e.Index < 0 {
				t.Fatalf("parsed %+v", e)
			}
		}
	})
}
