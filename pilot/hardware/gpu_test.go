package hardware

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

const query = "nvidia-smi --query-gpu="

const (
	uuidA = "GPU-11111111-aaaa-bbbb-cccc-000000000001"
	uuidB = "GPU-22222222-aaaa-bbbb-cccc-000000000002"
)

var twoCards = "0, " + uuidA + ", Tesla T4, 15360, 0, [N/A], 7.5\n1, " + uuidB + ", NVIDIA A100-SXM4-40GB, 40960, 0, Disabled, 8.0\n"

func TestGPUs(t *testing.T) {
	t4 := protocol.GPU{ID: uuidA, Model: "Tesla T4", Memory: 15360 << 20, Capability: 75, Tested: true}
	a100 := protocol.GPU{ID: uuidB, Model: "NVIDIA A100-SXM4-40GB", Memory: 40960 << 20, Capability: 80, Tested: true}
	untested := a100
	untested.Tested = false
	tests := []struct {
		promise  string
		commands map[string]string
		env      map[string]string
		test     string
		want     []protocol.GPU
		problem  string
	}{
		{promise: "a node without the driver's tool has no card and no problem"},
		{promise: "all cards are offered", commands: map[string]string{query: twoCards}, want: []protocol.GPU{t4, a100}},
		{
			promise: "CUDA_VISIBLE_DEVICES chooses and orders by index", commands: map[string]string{query: twoCards},
			env: map[string]string{"CUDA_VISIBLE_DEVICES": "1,0"}, want: []protocol.GPU{a100, t4},
		},
		{
			promise: "and by the beginning of a UUID", commands: map[string]string{query: twoCards},
			env: map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-2222"}, want: []protocol.GPU{a100},
		},
		{
			promise: "what follows a name of no card is not visible", commands: map[string]string{query: twoCards},
			env: map[string]string{"CUDA_VISIBLE_DEVICES": "0,7,1"}, want: []protocol.GPU{t4},
		},
		{promise: "the empty list hides all", commands: map[string]string{query: twoCards}, env: map[string]string{"CUDA_VISIBLE_DEVICES": ""}},
		{
			promise: "HTCondor's assignment is obeyed", commands: map[string]string{query: twoCards},
			env: map[string]string{"_CONDOR_AssignedGPUs": "CUDA1"}, want: []protocol.GPU{a100},
		},
		{
			promise:  "a broken driver is a problem and offers none",
			commands: map[string]string{query: "!NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."},
			problem:  "couldn't communicate",
		},
		{
			promise:  "a card that fell off the bus does not hide the others",
			commands: map[string]string{query: "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.\n1, " + uuidB + ", NVIDIA A100-SXM4-40GB, 40960, 0, Disabled, 8.0\n"},
			want:     []protocol.GPU{a100}, problem: "GPU is lost",
		},
		{
			promise:  "uncorrected memory errors make a card untested",
			commands: map[string]string{query: "1, " + uuidB + ", NVIDIA A100-SXM4-40GB, 40960, 3, Disabled, 8.0\n"},
			want:     []protocol.GPU{untested}, problem: "3 uncorrected",
		},
		{
			promise: "an old driver that lacks fields is asked for fewer", commands: map[string]string{
				query: `!Field "mig.mode.current" is not a valid field to query.`,
				query + strings.Join(gpuFields[:gpuOldFields], ",") + " ": "0, " + uuidA + ", Tesla K80, 11441, [N/A]\n",
			},
			want: []protocol.GPU{{ID: uuidA, Model: "Tesla K80", Memory: 11441 << 20, Tested: true}},
		},
		{
			promise: "a card in MIG mode is offered as its instances", commands: map[string]string{
				query: "0, " + uuidB + ", NVIDIA A100-SXM4-40GB, 40960, 0, Enabled, 8.0\n",
				"nvidia-smi -L": "GPU 0: NVIDIA A100-SXM4-40GB (UUID: " + uuidB + ")\n" +
					"  MIG 3g.20gb     Device  0: (UUID: MIG-aaa)\n  MIG 1c.2g.10gb     Device  1: (UUID: MIG-bbb)\n",
			},
			want: []protocol.GPU{
				{ID: "MIG-aaa", Model: "NVIDIA A100-SXM4-40GB MIG 3g.20gb", Memory: 20 << 30, Capability: 80, Tested: true},
				{ID: "MIG-bbb", Model: "NVIDIA A100-SXM4-40GB MIG 1c.2g.10gb", Memory: 10 << 30, Capability: 80, Tested: true},
			},
		},
		{
			promise: "a card that fails the site's test is untested", commands: map[string]string{
				query: twoCards,
				"env FLOE_GPUS=" + uuidA + " CUDA_VISIBLE_DEVICES=" + uuidA: "ok", "env FLOE_GPUS=" + uuidB: "!wrong sum",
			},
			test: "/opt/test", want: []protocol.GPU{t4, untested}, problem: "wrong sum",
		},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			node := recorded{affinity: 1, free: 1, arch: "x86_64", commands: tt.commands, env: tt.env}
			o := node.options()
			o.GPUTest = tt.test
			got, report := Measure(t.Context(), o)
			if diff := cmp.Diff(tt.want, got.GPUs); diff != "" {
				t.Errorf("GPUs (-want +got):\n%s\n%s", diff, report.String())
			}
			if all := strings.Join(report.Problems, "\n"); tt.problem == "" && all != "" || !strings.Contains(all, tt.problem) {
				t.Errorf("problems = %q, want %q", all, tt.problem)
			}
		})
	}
}

// TestRecordedGPU reads what the tools of a real node printed.
func TestRecordedGPU(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("testdata", "nvidia-h200", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	node := recorded{affinity: 1, free: 1, arch: "x86_64", commands: map[string]string{query: read("query-gpu.csv"), "nvidia-smi -L": read("list.txt")}}
	got, report := Measure(t.Context(), node.options())
	want := []protocol.GPU{{
		ID: "GPU-00000000-1111-2222-3333-444444444444", Model: "NVIDIA H200", Memory: 143771 << 20, Capability: 90, Tested: true,
	}}
	if diff := cmp.Diff(want, got.GPUs); diff != "" || len(report.Problems) > 0 {
		t.Errorf("GPUs (-want +got):\n%s\n%s", diff, report.String())
	}
	if cards := splitCards([]card{{index: "0", mig: true}}, read("list.txt"), nil); len(cards) > 0 {
		t.Errorf("a card in MIG mode without instances is offered: %+v", cards)
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]int64{
		"10": -1, "5:03": 303, "1:00:00": 3600, "2-00:00:01": 172801, "UNLIMITED": -1,
		"INVALID": -1, "": -1, "1-5:03": -1, "-1:00": -1, "1:2:3:4": -1,
	} {
		got, ok := parseSpan(text)
		if ok != (want >= 0) || ok && int64(got.Seconds()) != want {
			t.Errorf("parseSpan(%q) = %v, %v, want %d seconds", text, got, ok, want)
		}
	}
}

// FuzzNodeText feeds every reader of node files the same bytes: a strange node
// may offer nothing, but the pilot must live to say so.
func FuzzNodeText(f *testing.F) {
	f.Add(twoCards)
	f.Add("GPU 0: X (UUID: GPU-1)\n  MIG 3g.20gb     Device  0: (UUID: MIG-aaa)\n")
	f.Add("30 23 0:26 / /sys/fs/cgroup\\040x rw shared:9 - cgroup2 cgroup2 rw\n")
	f.Add("0-3,8")
	f.Add("MemTotal: 12 kB")
	f.Add("2-00:00:01")
	f.Add("4194304kb")
	f.Add("    Resource_List.walltime = 12:00:00\n    resources_used.walltime = 00:10:00")
	f.Add("hard resource_list:         h_rt=36000,s_rt=9:50:00,h_vmem=2G")
	f.Add("Cpus = 2\nID=\"debian\"")
	for _, pattern := range []string{"testdata/*/*.txt", "testdata/*/*.xml", "testdata/*/*.csv", "testdata/*/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		cards, _ := parseCards(text)
		amd, _ := parseAMD([]byte(text))
		countErrors(amd, []byte(text))
		var m measurement
		for _, c := range slices.Concat(splitCards(cards, text, instanceSizes([]byte(text))), m.pick(cards, text, ""), amd) {
			if c.Memory < 0 || c.Capability < 0 || c.Capability > 10000 {
				t.Errorf("card %+v", c)
			}
		}
		for _, d := range parseDevices(text) {
			if c := d.card(); c.Memory < 0 {
				t.Errorf("device %+v", c)
			}
		}
		parseProperties(text)
		parseJob(text)
		parseResourceList(text)
		if n := parseSize(text); n < 0 || n > protocol.MaxByteSize {
			t.Errorf("parseSize = %d", n)
		}
		if d, ok := parseLimit(text); ok && d < 0 {
			t.Errorf("parseLimit = %v", d)
		}
		if n := countList(text); n < 0 {
			t.Errorf("countList = %d", n)
		}
		if d, ok := parseSpan(text); ok && d < 0 {
			t.Errorf("parseSpan = %v", d)
		}
		if n := memTotal(text); n < 0 {
			t.Errorf("memTotal = %d", n)
		}
		parseMounts(text)
		parseAd(text)
		parseRelease(text)
	})
}

// TestFaults looks again at cards after a failure.
func TestFaults(t *testing.T) {
	test := func(id string) string { return "env FLOE_GPUS=" + id + " " }
	for _, tt := range []struct {
		promise  string
		commands map[string]string
		ids      []string
		want     map[string]string
	}{
		{"sound cards have none, and others are not tested", map[string]string{query: twoCards, test(uuidA): "ok", test(uuidB): "!busy"}, []string{uuidA}, map[string]string{}},
		{
			"memory errors since",
			map[string]string{query: "0, " + uuidA + ", Tesla T4, 15360, 1, [N/A], 7.5\n", test(uuidA): "ok"},
			[]string{uuidA},
			map[string]string{uuidA: "1 uncorrected memory errors"},
		},
		{"the site's test", map[string]string{query: twoCards, test(uuidB): "!wrong sum"}, []string{uuidB}, map[string]string{uuidB: "self-test /opt/test: env: exit status 9: wrong sum"}},
		{
			"a card that is gone",
			map[string]string{query: "!hangs"},
			[]string{uuidA},
			map[string]string{uuidA: "it is no longer there; gpus: nvidia-smi: no answer in 20s: a card or its driver hangs; no card of NVIDIA is offered"},
		},
		{
			"a card that shares the node's memory",
			map[string]string{query: "0, " + uuidA + ", NVIDIA GB10, [N/A], [N/A], [N/A], 12.1\n", test(uuidA): "ok"},
			[]string{uuidA},
			map[string]string{},
		},
	} {
		node := recorded{affinity: 1, free: 1, arch: "aarch64", commands: tt.commands}
		o := node.options()
		o.GPUTest = "/opt/test"
		if diff := cmp.Diff(tt.want, Faults(t.Context(), o, tt.ids)); diff != "" {
			t.Errorf("%s: faults (-want +got):\n%s", tt.promise, diff)
		}
	}
}
