package protocol

import (
	"fmt"
	"time"
)

// ByteSize is an amount of memory or disk in bytes.
type ByteSize int64

// Sizes in bytes. Steering files give GB; floe reads GB as 10⁹ bytes for disk
// and memory alike, as batch systems' users do.
const (
	KB ByteSize = 1e3
	MB ByteSize = 1e6
	GB ByteSize = 1e9
)

// String writes a size with three digits and a decimal unit, such as 2.5GB.
func (b ByteSize) String() string {
	switch {
	case b >= 1000*GB:
		return fmt.Sprintf("%.3gTB", float64(b)/1e12)
	case b >= GB:
		return fmt.Sprintf("%.3gGB", float64(b)/1e9)
	case b >= MB:
		return fmt.Sprintf("%.3gMB", float64(b)/1e6)
	case b >= KB:
		return fmt.Sprintf("%.3gkB", float64(b)/1e3)
	}
	return fmt.Sprintf("%dB", int64(b))
}

// Seconds is a span of time in whole seconds: requirements and limits, which
// enter the replicated record, where there is no floating point.
type Seconds int64

// Duration returns the span as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// SecondsOf rounds d up to whole seconds.
func SecondsOf(d time.Duration) Seconds {
	return Seconds((d + time.Second - 1) / time.Second)
}

// Requirements are what a task asks of the pilot that runs it. Zero values ask
// for nothing, except Cores, where zero means one.
type Requirements struct {
	Cores         int      `cbor:"1,keyasint,omitempty" json:"cores,omitempty"`
	Memory        ByteSize `cbor:"2,keyasint,omitempty" json:"memory,omitempty" doc:"bytes"`
	Disk          ByteSize `cbor:"3,keyasint,omitempty" json:"disk,omitempty" doc:"bytes"`
	Walltime      Seconds  `cbor:"4,keyasint,omitempty" json:"walltime,omitempty" doc:"seconds"`
	GPUs          int      `cbor:"5,keyasint,omitempty" json:"gpus,omitempty"`
	GPUMemory     ByteSize `cbor:"6,keyasint,omitempty" json:"gpu_memory,omitempty" doc:"bytes, of each GPU"`
	GPUCapability int      `cbor:"7,keyasint,omitempty" json:"gpu_capability,omitempty" doc:"compute capability times ten: 75 is 7.5"`
	OS            []string `cbor:"8,keyasint,omitempty" json:"os,omitempty" doc:"platforms, any of which will do"`
	Sites         []SiteID `cbor:"9,keyasint,omitempty" json:"sites,omitempty" doc:"sites, any of which will do"`
	Tags          []string `cbor:"10,keyasint,omitempty" json:"tags,omitempty" doc:"features, all of which are needed"`
	// Alternatives are other shapes under which the task can run instead, such as
	// one GPU or sixteen cores. They have no alternatives of their own.
	Alternatives []Requirements `cbor:"11,keyasint,omitempty" json:"alternatives,omitempty"`
	// Elastic says that the task sizes itself: Walltime is the least that it can use,
	// and its attempt is given what is left of the pilot's slot.
	Elastic bool `cbor:"12,keyasint,omitempty" json:"elastic,omitempty"`
}

// MaxCores and the other limits bound what a requirement may say, so that sums
// over millions of tasks cannot overflow and typing errors are caught.
const (
	MaxCores    = 1 << 16
	MaxGPUs     = 1 << 10
	MaxByteSize = ByteSize(1) << 60
	MaxWalltime = Seconds(366 * 24 * 3600)
)

// Check returns what is wrong with the requirements, or nil.
func (r *Requirements) Check() error {
	switch {
	case r.Cores < 0 || r.Cores > MaxCores:
		return fmt.Errorf("cores %d: want 0 to %d", r.Cores, MaxCores)
	case r.GPUs < 0 || r.GPUs > MaxGPUs:
		return fmt.Errorf("gpus %d: want 0 to %d", r.GPUs, MaxGPUs)
	case r.Memory < 0 || r.Memory > MaxByteSize:
		return fmt.Errorf("memory %d: want 0 to %d bytes", r.Memory, MaxByteSize)
	case r.Disk < 0 || r.Disk > MaxByteSize:
		return fmt.Errorf("disk %d: want 0 to %d bytes", r.Disk, MaxByteSize)
	case r.GPUMemory < 0 || r.GPUMemory > MaxByteSize:
		return fmt.Errorf("gpu memory %d: want 0 to %d bytes", r.GPUMemory, MaxByteSize)
	case r.Walltime < 0 || r.Walltime > MaxWalltime:
		return fmt.Errorf("walltime %d: want 0 to %d seconds", r.Walltime, MaxWalltime)
	case r.GPUCapability < 0 || r.GPUCapability > 10000:
		return fmt.Errorf("gpu capability %d: want ten times the compute capability", r.GPUCapability)
	case len(r.OS) > 64 || len(r.Sites) > 1024 || len(r.Tags) > 64 || len(r.Alternatives) > 8:
		return fmt.Errorf("more than 64 platforms or tags, 1024 sites, or 8 alternatives")
	}
	for i := range r.Alternatives {
		a := &r.Alternatives[i]
		if len(a.Alternatives) > 0 {
			return fmt.Errorf("alternative %d: has alternatives of its own", i+1)
		}
		if err := a.Check(); err != nil {
			return fmt.Errorf("alternative %d: %w", i+1, err)
		}
	}
	return nil
}

// Resources are what a pilot offers: in a registration all it has, in an
// exchange what is free now.
type Resources struct {
	Cores     int      `cbor:"1,keyasint,omitempty" json:"cores"`
	Memory    ByteSize `cbor:"2,keyasint,omitempty" json:"memory"`
	Disk      ByteSize `cbor:"3,keyasint,omitempty" json:"disk"`
	Remaining Seconds  `cbor:"4,keyasint,omitempty" json:"remaining,omitempty" doc:"seconds until the batch slot ends; 0 is no end known"`
	GPUs      []GPU    `cbor:"5,keyasint,omitempty" json:"gpus,omitempty"`
	OS        string   `cbor:"6,keyasint,omitempty" json:"os,omitempty" doc:"platform, such as debian_12-x86_64-glibc2.36"`
	Tags      []string `cbor:"7,keyasint,omitempty" json:"tags,omitempty"`
}

// Tags of pilots that run images: ImageTreeTag those that are directories, ImageSIFTag
// also those that are single files, and images for tasks with cards.
const (
	ImageTreeTag = "image-tree"
	ImageSIFTag  = "image-sif"
)

// RepositoryTag is the tag of pilots that can read a CVMFS repository.
func RepositoryTag(name string) string { return "cvmfs-" + name }
