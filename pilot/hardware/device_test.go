package hardware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// deviceTree is a node with two cards of NVIDIA whose files are numbered against the
// order of their addresses, and two of AMD.
var deviceTree = map[string]string{
	"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": "", "dev/nvidia-uvm": "", "dev/nvidia-caps/nvidia-cap21": "",
	"dev/dri/card0": "", "dev/dri/card1": "", "dev/dri/renderD128": "", "dev/dri/renderD129": "", "dev/dri/renderD130": "", "dev/kfd": "",
	"dev/null": "",
	"proc/driver/nvidia/gpus/0000:3b:00.0/information": "Model: \t\t NVIDIA A100-PCIE-40GB\nIRQ:   \t\t 183\nGPU UUID: \t GPU-aaaa\nBus Location: \t 0000:3b:00.0\nDevice Minor: \t 1\n",
	"proc/driver/nvidia/gpus/0000:5e:00.0/information": "Model: \t\t NVIDIA A100-PCIE-40GB\nGPU UUID: \t GPU-bbbb\nDevice Minor: \t 0\n",
	kfdTopology + "/0/properties":                      "cpu_cores_count 64\nsimd_count 0\n",
	kfdTopology + "/1/properties":                      "simd_count 440\nunique_id 11592000000000000001\ndrm_render_minor 129\n",
	kfdTopology + "/1/gpu_id":                          "4660\n",
	kfdTopology + "/2/properties":                      "simd_count 440\nunique_id 0\ndrm_render_minor 130\n",
	kfdTopology + "/2/gpu_id":                          "4661\n",
}

func TestHiddenDevices(t *testing.T) {
	root := t.TempDir()
	for name, text := range deviceTree {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	byPath := filepath.Join(root, "dev/dri/by-path")
	if err := os.Mkdir(byPath, 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"pci-0000:3b:00.0-card": "../card1", "pci-0000:3b:00.0-render": "../renderD128", "pci-0000:5e:00.0-card": "../card0"} {
		if err := os.Symlink(target, filepath.Join(byPath, link)); err != nil {
			t.Fatal(err)
		}
	}
	all := "dri/card0 dri/card1 dri/renderD128 dri/renderD129 dri/renderD130 kfd nvidia-caps/nvidia-cap21 nvidia-uvm nvidia0 nvidia1 nvidiactl"
	for _, x := range []struct {
		name, cards, want string
	}{
		{"no card", "", all},
		{"a card of NVIDIA by its UUID", "GPU-aaaa", "dri/card0 dri/renderD129 dri/renderD130 kfd nvidia-caps/nvidia-cap21 nvidia0"},
		{"both", "GPU-aaaa GPU-bbbb", "dri/renderD129 dri/renderD130 kfd nvidia-caps/nvidia-cap21"},
		{"an instance: nobody says which file", "MIG-c738", "dri/card0 dri/card1 dri/renderD128 dri/renderD129 dri/renderD130 kfd"},
		{"a card of AMD by its UUID", "GPU-a0df0e953c540001", strings.Replace(strings.Replace(all, " kfd", "", 1), " dri/renderD129", "", 1)},
		{"one without", "AMD-1", strings.Replace(strings.Replace(all, " kfd", "", 1), " dri/renderD130", "", 1)},
		{"one that is not there", "AMD-7", "dri/card0 dri/card1 nvidia-caps/nvidia-cap21 nvidia-uvm nvidia0 nvidia1 nvidiactl"},
		{"what only OpenCL knows", "OCL-0.0", ""},
	} {
		var got []string
		for _, path := range HiddenDevices(root, strings.Fields(x.cards)) {
			rel, err := filepath.Rel(filepath.Join(root, "dev"), path)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rel)
		}
		if diff := cmp.Diff(x.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: hidden (-want +got):\n%s", x.name, diff)
		}
	}
	if got := HiddenDevices(t.TempDir(), nil); got != nil {
		t.Errorf("HiddenDevices of a node without cards = %v", got)
	}
}
