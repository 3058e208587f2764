package history

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"floe/protocol"
)

func (a *accumulator) empty() bool { return a.Count == 0 }

// StatisticQuery asks for the statistics of a dataset or of one of its tasks.
type StatisticQuery struct {
	Dataset protocol.DatasetID
	Task    *protocol.TaskIndex // nil: over all tasks
	After   string              // only names after this one
	Limit   int                 // at most so many; 0 is 1,000
}

// Statistics returns the exact fold over the accepted attempts, by name. The
// summaries name no task. More says that there are further names: ask again After
// the last one.
func (l *Ledger) Statistics(q StatisticQuery) (all []protocol.StatisticSummary, more bool, err error) {
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	prefix := binary.BigEndian.AppendUint32(nil, uint32(q.Dataset))
	from := prefix
	if q.After != "" {
		from = append(append(prefix[:4:4], q.After...), 1) // behind the name's zero byte
	}
	err = l.read(func(r *reading) error {
		var name string
		var sum accumulator
		done := func() {
			if sum.Count > 0 {
				all = append(all, sum.summary(name))
				sum = accumulator{}
			}
		}
		c := r.tx.Bucket(bucketStatistics).Cursor()
		for k, v := c.Seek(from); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			cut := len(k) - 3
			if cut < 4 || k[cut] != 0 {
				return fmt.Errorf("journal: key %x in statistics", k)
			}
			if q.Task != nil && binary.BigEndian.Uint16(k[cut+1:]) != uint16(*q.Task) {
				continue
			}
			if n := string(k[4:cut]); n != name {
				if done(); len(all) >= q.Limit {
					more = true
					return nil
				}
				name = n
			}
			var a accumulator
			if err := decode(k, v, &a); err != nil {
				return fmt.Errorf("statistic %s: %w", name, err)
			}
			sum.merge(&a)
		}
		done()
		return nil
	})
	return all, more, err
}
