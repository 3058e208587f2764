package hardware

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"floe/protocol"
)

// device is one device of an OpenCL platform, as clinfo --raw prints it.
type device struct {
	platform, number int
	platformName     string
	properties       map[string]string
}

// Vendors by their PCI numbers, as OpenCL gives them.
var openclVendors = map[string]string{"0x10de": vendorNVIDIA, "0x1002": vendorAMD}

// Tags of what OpenCL can use.
const (
	tagOpenCLGPU = "opencl-gpu"
	tagOpenCLCPU = "opencl-cpu"
)

// opencl lists cards that only OpenCL knows, such as those of Intel, and those that the
// site names, and notes what OpenCL finds at all. Cards that a vendor's tool has listed,
// or hides because they are another slot's, are not listed again.
func (m *measurement) opencl(ctx context.Context, hasNVIDIA, hasAMD bool) []card {
	devices, err := m.devices(ctx, "clinfo", "--raw")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil
	case err != nil:
		m.problem("OpenCL: %v; no device of it is offered", err)
		return nil
	}
	vendors := false
	for _, d := range devices {
		kind, vendor := d.kind(), d.vendor()
		vendors = vendors || vendor != ""
		switch {
		case !d.available():
			m.problem("OpenCL: %s of %s is not available", d.properties["CL_DEVICE_NAME"], d.platformName)
		case kind == tagOpenCLCPU, vendor == vendorNVIDIA && hasNVIDIA, vendor == vendorAMD && hasAMD:
			m.findDevice(&d, kind)
		}
	}
	if vendors {
		// A task with a card of OpenCL's sees none of these vendors, whose platforms
		// may be gone then: it counts without them.
		if seen, err := m.devices(ctx, "env", append(protocol.GPUVariables(nil), "clinfo", "--raw")...); err == nil {
			devices = seen
		}
	}
	var cards []card
	places := make(map[string]bool)
	for _, d := range devices {
		named := slices.Contains(m.Cards, d.card().ID)
		switch {
		case !d.available():
		case named && d.vendor() != "":
			m.problem("gpu %s: it is a card of %s, and has another name", d.card().ID, d.vendor())
		case named, d.kind() == tagOpenCLGPU && d.vendor() == "" && len(m.Cards) == 0:
			m.findDevice(&d, tagOpenCLGPU)
			// Two platforms may drive the same card.
			if place := d.place(); !places[place] {
				places[place] = true
				cards = append(cards, d.card())
			}
		}
	}
	return cards
}

// devices are those that a command like clinfo --raw lists.
func (m *measurement) devices(ctx context.Context, name string, args ...string) ([]device, error) {
	out, err := m.Run(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	return parseDevices(string(out)), nil
}

// findDevice notes a device under a tag.
func (m *measurement) findDevice(d *device, tag string) {
	m.features = append(m.features, tag)
	m.find("opencl", tag, d.platformName+": "+d.properties["CL_DEVICE_NAME"])
}

func (d *device) available() bool { return d.properties["CL_DEVICE_AVAILABLE"] != "CL_FALSE" }

// kind is the tag of a device, empty for what is neither card nor processor.
func (d *device) kind() string {
	switch types := d.properties["CL_DEVICE_TYPE"]; {
	case strings.Contains(types, "CL_DEVICE_TYPE_GPU"):
		return tagOpenCLGPU
	case strings.Contains(types, "CL_DEVICE_TYPE_CPU"):
		return tagOpenCLCPU
	}
	return ""
}

// vendor is whose card a device is, empty for what no tool of a vendor lists.
func (d *device) vendor() string {
	if d.kind() != tagOpenCLGPU {
		return ""
	}
	return openclVendors[d.properties["CL_DEVICE_VENDOR_ID"]]
}

// place is what tells a card from others.
func (d *device) place() string {
	for _, name := range []string{"CL_DEVICE_PCI_BUS_INFO_KHR", "CL_DEVICE_UUID_KHR"} {
		if v := d.properties[name]; v != "" {
			return v
		}
	}
	return fmt.Sprintf("%d.%d", d.platform, d.number)
}

func (d *device) card() card {
	at := fmt.Sprintf("%d.%d", d.platform, d.number)
	c := card{tool: "clinfo", index: at, vendor: d.properties["CL_DEVICE_VENDOR"]}
	c.ID, c.Model = protocol.OpenCLIndex+at, d.properties["CL_DEVICE_NAME"]
	if n, err := strconv.ParseInt(d.properties["CL_DEVICE_GLOBAL_MEM_SIZE"], 10, 64); err == nil && n > 0 {
		c.Memory = min(protocol.ByteSize(n), protocol.MaxByteSize)
	} else {
		c.fault = "OpenCL does not say how much memory it has"
	}
	return c
}

// rawLine is a line of clinfo --raw: [SUFFIX/DEVICE] NAME VALUE.
var rawLine = regexp.MustCompile(`^\[[^\]]*/(\*|[0-9]{1,3})\]\s+(#?[A-Z][A-Z0-9_]*)\s*(.*)$`)

// parseDevices reads clinfo --raw. A platform's own lines, with a star for the
// device, come before those of its devices.
func parseDevices(text string) []device {
	var devices []device
	platform, name := -1, ""
	for line := range strings.Lines(text) {
		f := rawLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if f == nil {
			continue
		}
		property, value := f[2], strings.TrimSpace(f[3])
		if f[1] == "*" {
			if property == "CL_PLATFORM_NAME" {
				platform, name = platform+1, value
			}
			continue
		}
		n, _ := strconv.Atoi(f[1]) // the pattern lets only digits pass
		if platform < 0 {
			continue
		}
		if last := len(devices) - 1; last < 0 || devices[last].platform != platform || devices[last].number != n {
			devices = append(devices, device{platform: platform, number: n, platformName: name, properties: make(map[string]string)})
		}
		devices[len(devices)-1].properties[property] = value
	}
	return devices
}
