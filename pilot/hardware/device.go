package hardware

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/protocol"
)

// deviceFiles are the files through which programs reach graphics cards, below /dev.
var deviceFiles = []string{"nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps/*", "dri/card*", "dri/renderD*", "kfd"}

// HiddenDevices are the device files of graphics cards that a payload which was
// granted the named cards has no business with; root is "/". Where the kernel does not
// say which file is a card's, as for an instance of a divided card, all of its vendor
// stay in sight.
func HiddenDevices(root string, cards []string) (hidden []string) {
	var all []string
	for _, pattern := range deviceFiles {
		found, _ := filepath.Glob(filepath.Join(root, "dev", pattern)) // the patterns are sound
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil
	}
	d := devices{root: root, shown: map[string]bool{}}
	for _, id := range cards {
		switch {
		case protocol.IsAMD(id):
			d.showAMD(id)
		case strings.HasPrefix(id, protocol.OpenCLIndex):
			d.show("dri/*", "nvidia*", "nvidia-caps/*", "kfd")
		default:
			d.showNVIDIA(id)
		}
	}
	for _, path := range all {
		if !d.shown[path] {
			hidden = append(hidden, path)
		}
	}
	slices.Sort(hidden)
	return slices.Compact(hidden)
}

// devices are those that stay in sight.
type devices struct {
	root  string
	shown map[string]bool
}

func (d *devices) show(patterns ...string) {
	for _, pattern := range patterns {
		found, _ := filepath.Glob(filepath.Join(d.root, "dev", pattern))
		for _, path := range found {
			d.shown[path] = true
		}
	}
}

func (d *devices) read(elements ...string) string {
	b, err := os.ReadFile(filepath.Join(append([]string{d.root}, elements...)...))
	if err != nil {
		return ""
	}
	return string(b)
}

// showNVIDIA shows a card by its UUID, or by the number that nvidia-smi gives it,
// which need not be that of its file.
func (d *devices) showNVIDIA(id string) {
	d.show("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
	const gpus = "proc/driver/nvidia/gpus"
	entries, _ := os.ReadDir(filepath.Join(d.root, gpus))
	for _, e := range entries {
		said := d.read(gpus, e.Name(), "information")
		uuid, minor := informed(said, "GPU UUID"), informed(said, "Device Minor")
		if uuid == id && minor != "" {
			d.show("nvidia" + minor)
			d.showBus(e.Name())
			return
		}
	}
	d.show("nvidia[0-9]*", "nvidia-caps/*")
}

// informed is a value of lines "Name: value".
func informed(text, name string) string {
	for line := range strings.Lines(text) {
		if before, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// showBus shows the files for drawing of the card at an address of the PCI bus.
func (d *devices) showBus(address string) {
	links, _ := filepath.Glob(filepath.Join(d.root, "dev/dri/by-path", "pci-"+address+"-*"))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			d.show(filepath.Join("dri", filepath.Base(target)))
		}
	}
}

// showAMD shows a card of AMD: the driver's file is one for all, and it looks itself
// at who may open the card's.
func (d *devices) showAMD(id string) {
	d.show("kfd")
	entries, _ := os.ReadDir(filepath.Join(d.root, kfdTopology))
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		return cmp.Or(cmp.Compare(len(a.Name()), len(b.Name())), cmp.Compare(a.Name(), b.Name()))
	})
	number := 0
	for _, e := range entries {
		p := parseProperties(d.read(kfdTopology, e.Name(), "properties"))
		if p["simd_count"] == 0 || strings.TrimSpace(d.read(kfdTopology, e.Name(), "gpu_id")) == "0" {
			continue
		}
		name := fmt.Sprintf("%s%d", protocol.AMDIndex, number)
		if unique := p["unique_id"]; unique != 0 {
			name = fmt.Sprintf("GPU-%016x", unique)
		}
		number++
		if minor := p["drm_render_minor"]; name == id && minor != 0 {
			d.show(fmt.Sprintf("dri/renderD%d", minor))
			return
		}
	}
	d.show("dri/renderD*")
}
