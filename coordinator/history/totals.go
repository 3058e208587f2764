package history

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"floe/protocol"
)

// UsageSum is what attempts used in all, in integers so that sums are exact.
type UsageSum struct {
	Attempts    uint64 `cbor:"1,keyasint,omitempty"`
	WallMillis  int64  `cbor:"2,keyasint,omitempty"`
	CPUMillis   int64  `cbor:"3,keyasint,omitempty"`
	CoreMillis  int64  `cbor:"4,keyasint,omitempty"` // wall time × cores
	GPUMillis   int64  `cbor:"5,keyasint,omitempty"` // wall time × GPUs
	ReadBytes   int64  `cbor:"6,keyasint,omitempty"`
	WriteBytes  int64  `cbor:"7,keyasint,omitempty"`
	StageMillis int64  `cbor:"8,keyasint,omitempty"`
	CopyMillis  int64  `cbor:"9,keyasint,omitempty"`
	KeptMillis  int64  `cbor:"10,keyasint,omitempty"` // wall time that checkpoints spared
	// GPUBusyMillis is how long cards were busy, in the GPUKnown attempts of which that is known.
	GPUBusyMillis int64  `cbor:"11,keyasint,omitempty"`
	GPUKnown      uint64 `cbor:"12,keyasint,omitempty"`
}

// maxUsage bounds one value of one attempt, so that a lying pilot cannot push a sum
// over its edge: 2^45 ms are a thousand core-years.
const maxUsage = 1 << 45

// add adds the usage of an attempt n times; −1 takes it back.
func (u *UsageSum) add(v *protocol.Usage, n int64) {
	u.Attempts += uint64(n)
	u.addUsage(v, n)
}

func (u *UsageSum) addUsage(v *protocol.Usage, n int64) {
	bound := func(x int64) int64 { return n * max(0, min(x, maxUsage)) }
	wall := max(0, min(v.WallMillis, maxUsage>>10))
	u.WallMillis += n * wall
	u.CPUMillis += bound(v.CPUMillis)
	u.CoreMillis += bound(wall * int64(max(0, min(v.Cores, protocol.MaxCores))))
	u.GPUMillis += bound(wall * int64(max(0, min(v.GPUs, protocol.MaxGPUs))))
	u.ReadBytes += bound(int64(v.ReadBytes))
	u.WriteBytes += bound(int64(v.WriteBytes))
	u.StageMillis += bound(v.StageMillis)
	u.CopyMillis += bound(v.CopyMillis)
	u.KeptMillis += bound(v.KeptMillis)
	if v.GPUMillis != nil {
		u.GPUBusyMillis += bound(*v.GPUMillis)
		u.GPUKnown += uint64(n)
	}
}

// Plus returns the sum of both.
func (u UsageSum) Plus(v UsageSum) UsageSum {
	return UsageSum{
		u.Attempts + v.Attempts, u.WallMillis + v.WallMillis, u.CPUMillis + v.CPUMillis,
		u.CoreMillis + v.CoreMillis, u.GPUMillis + v.GPUMillis, u.ReadBytes + v.ReadBytes,
		u.WriteBytes + v.WriteBytes, u.StageMillis + v.StageMillis, u.CopyMillis + v.CopyMillis, u.KeptMillis + v.KeptMillis,
		u.GPUBusyMillis + v.GPUBusyMillis, u.GPUKnown + v.GPUKnown,
	}
}

// Totals are what the attempts of one task of a dataset at one site came to.
// Together Used and Wasted are all that was ever reported (invariant I-11).
type Totals struct {
	Used   UsageSum `cbor:"1,keyasint"` // accepted attempts
	Wasted UsageSum `cbor:"2,keyasint"` // all others, withdrawn ones included
	// Verdicts counts the ended attempts by the number of their verdict.
	Verdicts []uint64 `cbor:"3,keyasint,omitempty"`
}

func (t *Totals) empty() bool { return t.Used == UsageSum{} && t.Wasted == UsageSum{} }

func (t *Totals) count(v protocol.Verdict) {
	for len(t.Verdicts) <= int(v) {
		t.Verdicts = append(t.Verdicts, 0)
	}
	t.Verdicts[v]++
}

// Total is one entry of Usage.
type Total struct {
	Task protocol.TaskIndex
	Site protocol.SiteID
	Totals
}

// Usage returns what the attempts of a dataset used, by task and site.
func (l *Ledger) Usage(d protocol.DatasetID) (all []Total, err error) {
	prefix := binary.BigEndian.AppendUint32(nil, uint32(d))
	err = l.read(func(r *reading) error {
		c := r.tx.Bucket(bucketTotals).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if len(k) < 6 {
				return fmt.Errorf("journal: key %x in totals", k)
			}
			t := Total{Task: protocol.TaskIndex(binary.BigEndian.Uint16(k[4:])), Site: protocol.SiteID(k[6:])}
			if err := decode(k, v, &t.Totals); err != nil {
				return fmt.Errorf("totals: %w", err)
			}
			all = append(all, t)
		}
		return nil
	})
	return all, err
}

// Sum adds entries of Usage up.
func Sum(all []Total) (sum Totals) {
	for i := range all {
		sum.Used = sum.Used.Plus(all[i].Used)
		sum.Wasted = sum.Wasted.Plus(all[i].Wasted)
		for v, n := range all[i].Verdicts {
			for len(sum.Verdicts) <= v {
				sum.Verdicts = append(sum.Verdicts, 0)
			}
			sum.Verdicts[v] += n
		}
	}
	return sum
}
