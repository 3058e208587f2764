package hardware

import (
	"strconv"
	"strings"
)

// nvidiaVisible keeps the cards that the batch system assigned: in the words of
// CUDA, which most systems set, else of HTCondor or Torque.
func (m *measurement) nvidiaVisible(cards []card) []card {
	if len(cards) == 0 {
		return nil
	}
	for _, name := range []string{"CUDA_VISIBLE_DEVICES", "_CONDOR_AssignedGPUs"} {
		if list, set := m.LookupEnv(name); set {
			return m.pick(cards, list, name)
		}
	}
	if file, set := m.LookupEnv("PBS_GPUFILE"); set {
		// One line HOST-gpuN for each card.
		var numbers []string
		for line := range strings.Lines(m.read(file)) {
			if i := strings.LastIndex(line, "-gpu"); i >= 0 {
				numbers = append(numbers, strings.TrimSpace(line[i+len("-gpu"):]))
			}
		}
		return m.pick(cards, strings.Join(numbers, ","), "PBS_GPUFILE")
	}
	return cards
}

// amdVisible keeps the cards that the batch system assigned. ROCm's runtime reads
// ROCR_VISIBLE_DEVICES; HIP and OpenCL count from 0 in what that left. Where the
// same list stands in both, as Slurm writes it, it is one promise and not two.
// CUDA's variable is HIP's, too, but where there are cards of NVIDIA it is theirs.
func (m *measurement) amdVisible(cards []card, alone bool) []card {
	if len(cards) == 0 {
		return nil
	}
	first, restricted := m.LookupEnv("ROCR_VISIBLE_DEVICES")
	if restricted {
		cards = m.pick(cards, first, "ROCR_VISIBLE_DEVICES")
	}
	names := []string{"HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}
	if alone {
		names = append(names, "CUDA_VISIBLE_DEVICES")
	}
	for _, name := range names {
		list, set := m.LookupEnv(name)
		if !set || restricted && list == first {
			continue
		}
		if restricted {
			for i := range cards {
				cards[i].index = strconv.Itoa(i)
			}
		}
		return m.pick(cards, list, name)
	}
	return cards
}

// promisedGPUs is how many cards the batch system says this slot has.
func (m *measurement) promisedGPUs() (n int64, source string) {
	for _, name := range []string{"CUDA_VISIBLE_DEVICES", "_CONDOR_AssignedGPUs", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"} {
		list, set := m.LookupEnv(name)
		if !set {
			continue
		}
		for one := range strings.SplitSeq(list, ",") {
			one = condorName(strings.TrimSpace(one))
			if one == condorNone {
				continue
			}
			if strings.HasPrefix(one, "GPU-") || strings.HasPrefix(one, "MIG-") || one != "" && one[0] >= '0' && one[0] <= '9' {
				n++
			}
		}
		return n, "$" + name
	}
	for _, name := range []string{"SLURM_GPUS_ON_NODE", "PBS_NGPUS"} {
		if n := m.envNumber(name); n > 0 {
			return n, "$" + name
		}
	}
	return 0, ""
}

// pick keeps the cards that a list names, in its order, up to the first name that
// means no card, means two, or comes again: so CUDA and ROCm read theirs. An empty
// list, -1 and words such as NoDevFiles hide all.
func (m *measurement) pick(cards []card, list, variable string) []card {
	var picked []card
	seen := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		c, ok := find(cards, condorName(strings.TrimSpace(name)))
		if !ok || seen[c.ID] {
			break
		}
		seen[c.ID] = true
		picked = append(picked, c)
	}
	m.find("gpu", strconv.Itoa(len(picked)), "$"+variable+" "+strconv.Quote(list))
	return picked
}

// condorNone is the number of no card, by which HTCondor hides all of them from a job
// that asked for none.
const condorNone = "10000"

// condorName takes HTCondor's CUDA0 for card 0.
func condorName(name string) string {
	if number, ok := strings.CutPrefix(name, "CUDA"); ok {
		return number
	}
	return name
}

// find returns the card of a name: an index, or enough of a UUID to mean one card.
// The name of a card in MIG mode means its first instance, which is the only one
// CUDA would show.
func find(cards []card, name string) (card, bool) {
	if name == "" {
		return card{}, false
	}
	uuid := len(name) > 4 && (strings.HasPrefix(name, "GPU-") || strings.HasPrefix(name, "MIG-"))
	var found []card
	for _, c := range cards {
		switch {
		case c.index == name, c.parent == name, c.ID == name:
			return c, true
		case uuid && strings.HasPrefix(c.ID, name):
			found = append(found, c)
		case uuid && strings.HasPrefix(c.parentID, name):
			if len(found) == 0 || found[0].parentID != c.parentID {
				found = append(found, c)
			}
		}
	}
	if len(found) != 1 {
		return card{}, false
	}
	return found[0], true
}
