package hardware

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"floe/protocol"
)

// fakeCards compiles libraries that behave as CUDA's driver and ROCm's runtime do,
// with no card behind them, and lets programs that this test starts find them.
func fakeCards(t *testing.T) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	dir := t.TempDir()
	for define, name := range map[string]string{"CUDA": "libcuda.so.1", "HIP": "libamdhip64.so", "HIPRTC": "libhiprtc.so"} {
		c := exec.Command(gcc, "-O2", "-shared", "-fPIC", "-D"+define, "testdata/selftest/fakecard.c", "-o", filepath.Join(dir, name), "-lm")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	ptx, err := filepath.Abs("selftest/kernels.ptx")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("LD_LIBRARY_PATH", dir)
	t.Setenv("FAKECARD_PTX", ptx)
	t.Setenv("FAKECARD", "")
}

func needPython(t *testing.T) string {
	t.Helper()
	m := &measurement{}
	m.fill()
	python := m.python(t.Context())
	if python == "" {
		t.Skip("no Python is installed")
	}
	return python
}

// Cards that are not there, whose driver goes wrong in many ways. The fake executes
// the PTX that a real driver would compile.
func TestSelfTestOnFakeCards(t *testing.T) {
	python := needPython(t)
	fakeCards(t)
	const nvidia, amd = "GPU-11111111-aaaa-bbbb-cccc-000000000001", "GPU-a1b2c3d4e5f60708"
	for _, tt := range []struct{ fails, id, fault, by string }{
		{"", nvidia, "", "computes and keeps 131kB: CUDA 12.4, no card"},
		{"", amd, "", "computes and keeps 131kB: HIP 6.4, no card"},
		{"none", nvidia, "self-test: cuInit: error 100 (no device)", ""},
		{"two", nvidia, "self-test: CUDA sees 2 devices where it should see this card alone", ""},
		{"full", nvidia, "self-test: cuMemAlloc_v2: error 2 (out of memory)", ""},
		{"lost", nvidia, "self-test: cuCtxSynchronize: error 719 (launch failed)", ""},
		{"lost", amd, "self-test: hipDeviceSynchronize: error 719 (launch failed)", ""},
		{"wrong", nvidia, "self-test: it computes wrongly: word 4711 is ff76a8f5, want ff76a8f4", ""},
		{"stuck", nvidia, "self-test: its memory does not keep what is written: 1 of 32768 words differ", ""},
		{"stuck", amd, "self-test: its memory does not keep what is written: 1 of 32768 words differ", ""},
		{"idle", nvidia, "self-test: it computes wrongly: word 0 is 00000000, want ef588f14", ""},
		{"lies", nvidia, "self-test: its memory does not keep what is written: word 1000 is 697bdd2a, want 697bdd2e", ""},
		{"crash", nvidia, "self-test: env: signal: aborted", ""},
		{"compiler", nvidia, "", "not tested: cuModuleLoadData: error 221: the driver does not compile the test; OpenCL does not see it; nvidia-smi lists it"},
		{"compiler", amd, "", "not tested: hiprtcCompileProgram: error 6: ROCm does not compile the test; OpenCL does not see it; nvidia-smi lists it"},
	} {
		t.Setenv("FAKECARD", tt.fails)
		got := testByFloe(t.Context(), runFor(testTime), python, &card{GPU: protocol.GPU{ID: tt.id}, tool: "nvidia-smi"})
		if !strings.HasPrefix(got.fault, tt.fault) || tt.fault == "" && got.fault != "" || got.by != tt.by {
			t.Errorf("%s with fault %q: %+v, want fault %q by %q", tt.id, tt.fails, got, tt.fault, tt.by)
		}
	}
}

// A driver that hangs is a bad card, and its process is ended.
func TestSelfTestThatHangs(t *testing.T) {
	python := needPython(t)
	fakeCards(t)
	t.Setenv("FAKECARD", "hang")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	id := "GPU-hang-" + filepath.Base(t.TempDir())
	got := testByFloe(ctx, runFor(testTime), python, &card{GPU: protocol.GPU{ID: id}, tool: "nvidia-smi"})
	if got.fault == "" {
		t.Errorf("a card that hangs: %+v, want a fault", got)
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if b, _ := os.ReadFile(file); strings.Contains(string(b), id) {
			t.Errorf("%s still runs", file)
		}
	}
}

// needOpenCL returns the first device of OpenCL as the site would name it.
func needOpenCL(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("env", append(protocol.GPUVariables(nil), "clinfo", "--raw")...).Output()
	if err != nil {
		t.Skipf("clinfo cannot be run: %v", err)
	}
	for _, d := range parseDevices(string(out)) {
		if d.vendor() == "" {
			return d.card().ID
		}
	}
	t.Skip("OpenCL finds no device; Debian's pocl-opencl-icd is one")
	return ""
}

// A device of OpenCL that the site names is offered, a processor too, and tested.
func TestSelfTestOnOpenCL(t *testing.T) {
	needPython(t)
	id := needOpenCL(t)
	measured := func(o Options) ([]protocol.GPU, []string, Report) {
		o.Scratch = t.TempDir()
		res, report := Measure(t.Context(), o)
		return res.GPUs, res.Tags, report
	}
	gpus, tags, report := measured(Options{Cards: []string{id, id}})
	if len(gpus) != 1 || gpus[0].ID != id || !gpus[0].Tested || gpus[0].Memory <= 0 || !slices.Contains(tags, "opencl-gpu") {
		t.Errorf("offered %+v with tags %q, want %s, sound, and opencl-gpu\n%s", gpus, tags, id, report.String())
	}
	if !strings.Contains(report.String(), "computes and keeps ") {
		t.Errorf("report:\n%s\nwant what was tested", report.String())
	}
	gpus, _, report = measured(Options{Cards: []string{id}, GPUTest: "/bin/false"})
	if len(gpus) != 1 || gpus[0].Tested {
		t.Errorf("with a test of the site that fails: %+v\n%s", gpus, report.String())
	}
	gpus, _, report = measured(Options{Cards: []string{"OCL-9.9"}})
	if len(gpus) > 0 || !strings.Contains(report.String(), "gpu OCL-9.9: the site names it, and it is not there") {
		t.Errorf("with a name of no card: %+v\n%s", gpus, report.String())
	}
}

// One Python of each version that there is runs the self-test, those on PATH, of
// pyenv, and those that FLOE_TEST_PYTHONS lists: all of them through the fake of CUDA,
// the oldest and the newest through OpenCL, too.
func TestSelfTestInEveryPython(t *testing.T) {
	id := needOpenCL(t)
	fakeCards(t)
	candidates := append(strings.Split(os.Getenv("FLOE_TEST_PYTHONS"), ":"), "python3", "python2", "python")
	installed, _ := filepath.Glob(filepath.Join(os.Getenv("HOME"), ".pyenv/versions/*/bin/python"))
	pythons := map[[2]int]string{}
	for _, python := range append(candidates, installed...) {
		var version [2]int
		said, err := exec.Command(python, "-c", "import sys; print('%d %d' % sys.version_info[:2])").Output()
		if _, bad := fmt.Sscan(string(said), &version[0], &version[1]); err == nil && bad == nil {
			pythons[version] = python
		}
	}
	if len(pythons) == 0 {
		t.Skip("no Python is installed")
	}
	versions := slices.SortedFunc(maps.Keys(pythons), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	for i, version := range versions {
		cards := []string{"GPU-11111111-aaaa-bbbb-cccc-000000000001"}
		if i == 0 || i == len(versions)-1 {
			cards = append(cards, id)
		}
		for _, name := range cards {
			got := testByFloe(t.Context(), runFor(testTime), pythons[version], &card{GPU: protocol.GPU{ID: name}, tool: "a tool"})
			t.Logf("Python %d.%d: %s", version[0], version[1], got.by)
			if got.fault != "" || !got.ran || got.opencl != (name == id) {
				t.Errorf("%s: %+v, want a sound card", pythons[version], got)
			}
		}
	}
}

// Where there is no Python, cards are trusted as their tools list them, and the
// report says so.
func TestSelfTestWithoutPython(t *testing.T) {
	for _, tt := range []struct{ test, want string }{
		{"", "not tested: no Python on this node; nvidia-smi lists it"},
		{NoGPUTest, "not tested, as the site wants it; nvidia-smi lists it"},
	} {
		node := recorded{affinity: 1, free: 1, arch: "x86_64", commands: map[string]string{query: twoCards}}
		o := node.options()
		o.GPUTest = tt.test
		got, report := Measure(t.Context(), o)
		if len(got.GPUs) != 2 || !got.GPUs[0].Tested || !got.GPUs[1].Tested || !strings.Contains(report.String(), tt.want) {
			t.Errorf("gpu test %q: %+v, want both cards and %q\n%s", tt.test, got.GPUs, tt.want, report.String())
		}
	}
}

// FuzzVerdict: whatever the self-test prints, a card is sound, or untested with the
// reason, or has a fault.
func FuzzVerdict(f *testing.F) {
	f.Add([]byte(`{"by": "CUDA 12.4", "device": "x", "memory": 134217728, "opencl": true, "verdict": "sound"}`))
	f.Add([]byte("noise\n{\"verdict\": \"bad\", \"says\": \"cuInit: error 100\"}\n"))
	f.Add([]byte(`{"verdict": "untested", "says": "no library"}`))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, out []byte) {
		if got := readVerdict(out, "nvidia-smi"); (got.fault == "") == (got.by == "") {
			t.Errorf("verdict of %q: %+v", out, got)
		}
	})
}
