package state

import (
	"github.com/RoaringBitmap/roaring/v2"
)

// Preview says what a ResetTasks, SuspendTasks, ResumeTasks or SetDataset would
// move if it were applied now, and changes nothing. It is zero for one that would
// be refused and for every other command.
func (r *Record) Preview(c Command) Moved {
	switch c := c.(type) {
	case *ResetTasks:
		if d, _ := r.find(&c.Select); d != nil && !d.retired {
			return d.planReset(&c.Select).count()
		}
	case *SuspendTasks:
		if d, _ := r.find(&c.Select); d != nil {
			return d.count(d.selected(&c.Select, suspendable, suspendable))
		}
	case *ResumeTasks:
		if d, _ := r.find(&c.Select); d != nil && !d.retired {
			return d.count(d.selected(&c.Select, resumable, resumable))
		}
	case *SetDataset:
		d, known := r.datasets.Get(c.Dataset)
		if known && !d.retired && c.Verb == DatasetRetire {
			return d.count(d.selected(&Selection{Dataset: d.id}, suspendable, suspendable))
		}
	}
	return Moved{}
}

// count says what moving the chosen tasks, per task of the DAG, will move.
func (d *dataset) count(chosen []*roaring.Bitmap) Moved {
	var c Moved
	leased := d.leased()
	for t, jobs := range chosen {
		c.Tasks += jobs.GetCardinality()
		c.Leases += jobs.AndCardinality(leased[t])
	}
	return c
}

// leased returns, per task of the DAG, the jobs with a live or lapsed lease.
func (d *dataset) leased() []*roaring.Bitmap {
	sets := make([]*roaring.Bitmap, len(d.tasks))
	for t := range sets {
		sets[t] = roaring.New()
	}
	d.live.Scan(func(key uint64, l *Lease) bool {
		if l.State != Copied {
			sets[l.Task.Task].Add(uint32(key >> 16))
		}
		return true
	})
	return sets
}
