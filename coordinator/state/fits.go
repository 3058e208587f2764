package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

// Lack is what a pilot or site lacks for a task: the first that is missing.
type Lack uint8

// What can be missing, in the order in which it is looked for.
const (
	LackNothing  Lack = iota
	LackService       // the pilot drains or left, the site is suspended or revoked
	LackStanding      // the node, or its GPUs, is quarantined, excluded or on probation
	LackPolicy        // the site's own policy does not take the task, or its caps are reached
	LackSite          // the task may not run at the site
	LackPlatform
	LackTag
	LackCores
	LackMemory
	LackDisk
	LackWalltime // the slot ends too soon
	LackGPUs     // too few tested GPUs of the wanted memory and capability
	lackKinds
)

var lacks = [...]string{
	"nothing", "in service", "good standing", "consent of the site", "site allowed", "platform", "tag", "cores", "memory", "disk", "remaining walltime", "GPUs",
}

func (l Lack) String() string {
	if int(l) >= len(lacks) {
		return fmt.Sprintf("invalid lack %d", l)
	}
	return lacks[l]
}

// Fits tells whether a task of the requirements and site rule could run at a
// site with these resources: LackNothing, or what is missing for the shape that
// comes furthest. shape is 0 for the requirements themselves, else the
// alternative counted from 1. Matching, Explain and Pressure all use it.
func Fits(r *protocol.Requirements, rule *SiteRule, site protocol.SiteID, offer *protocol.Resources) (lack Lack, shape uint8) {
	if lack = lacksSite(r, rule, site); lack == LackNothing {
		lack = lacksResources(r, offer)
	}
	for i := range r.Alternatives {
		if lack == LackNothing {
			break
		}
		other := lacksSite(&r.Alternatives[i], rule, site)
		if other == LackNothing {
			other = lacksResources(&r.Alternatives[i], offer)
		}
		if other == LackNothing || other > lack {
			lack, shape = other, uint8(i+1)
		}
	}
	if lack != LackNothing {
		shape = 0
	}
	return lack, shape
}

func lacksSite(r *protocol.Requirements, rule *SiteRule, site protocol.SiteID) Lack {
	if len(r.Sites) > 0 && !slices.Contains(r.Sites, site) ||
		len(rule.Allowed) > 0 && !contains(rule.Allowed, site) || contains(rule.Excluded, site) {
		return LackSite
	}
	return LackNothing
}

func contains(sorted []protocol.SiteID, s protocol.SiteID) bool {
	_, found := slices.BinarySearch(sorted, s)
	return found
}

func lacksResources(r *protocol.Requirements, o *protocol.Resources) Lack {
	if len(r.OS) > 0 && !slices.ContainsFunc(r.OS, func(want string) bool { return protocol.RunsOn(o.OS, want) }) {
		return LackPlatform
	}
	for _, t := range r.Tags {
		if !slices.Contains(o.Tags, t) {
			return LackTag
		}
	}
	switch {
	case max(r.Cores, 1) > o.Cores:
		return LackCores
	case r.Memory > o.Memory:
		return LackMemory
	case r.Disk > o.Disk:
		return LackDisk
	case r.Walltime > o.Remaining && o.Remaining > 0:
		return LackWalltime
	case r.GPUs > 0 && !hasGPUs(r, o.GPUs):
		return LackGPUs
	}
	return LackNothing
}

func isGPU(r *protocol.Requirements, g *protocol.GPU) bool {
	return g.Tested && g.Memory >= r.GPUMemory && g.Capability >= r.GPUCapability
}

func hasGPUs(r *protocol.Requirements, cards []protocol.GPU) bool {
	n := 0
	for i := range cards {
		if isGPU(r, &cards[i]) {
			n++
		}
	}
	return n >= r.GPUs
}

// take subtracts what a task that fits will use.
func take(free *protocol.Resources, r *protocol.Requirements) {
	free.Cores -= max(r.Cores, 1)
	free.Memory -= r.Memory
	free.Disk -= r.Disk
	if r.GPUs == 0 {
		return
	}
	left := make([]protocol.GPU, 0, len(free.GPUs))
	taken := 0
	for i := range free.GPUs {
		if taken < r.GPUs && isGPU(r, &free.GPUs[i]) {
			taken++
		} else {
			left = append(left, free.GPUs[i])
		}
	}
	free.GPUs = left
}

// bound cuts what a pilot says is free to what it registered and to what its site still
// gives, at a record time.
func bound(free *protocol.Resources, p *Pilot, s *Site, now RecordTime) protocol.Resources {
	f, all := *free, &p.Resources
	f.Cores = min(f.Cores, all.Cores)
	f.Memory = min(f.Memory, all.Memory)
	f.Disk = min(f.Disk, all.Disk)
	if all.Remaining > 0 {
		left := max(all.Remaining-protocol.Seconds((now-p.Enrolled)/Second), 1)
		if f.Remaining == 0 || f.Remaining > left {
			f.Remaining = left
		}
	}
	f.OS, f.Tags = all.OS, all.Tags
	f.GPUs = boundGPUs(f.GPUs, all.GPUs)
	s.limit(&f, now)
	return f
}

// boundGPUs returns the registered cards that are free, as they were registered.
// A card counts as tested while its pilot still says so.
func boundGPUs(free, all []protocol.GPU) []protocol.GPU {
	if len(free) == 0 {
		return nil
	}
	cards := make([]protocol.GPU, 0, len(all))
	for i := range all {
		k := slices.IndexFunc(free, func(g protocol.GPU) bool { return g.ID == all[i].ID })
		if k >= 0 {
			card := all[i]
			card.Tested = card.Tested && free[k].Tested
			cards = append(cards, card)
		}
	}
	return cards
}
