package replica

import (
	"github.com/hashicorp/raft"
)

// deleteChunk bounds one truncating transaction: bolt has one writer, and an append
// that waits behind the removal of half a million entries would look like a stalled
// disk.
const deleteChunk = 4096

// failStopLog is the log store raft sees (below its cache). Every write passes the
// watchdog; every stored and deleted range is told to the retention ledger.
type failStopLog struct {
	raft.LogStore
	watchdog  *watchdog
	retention *retention
}

// StoreLog stores one entry.
func (s *failStopLog) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries in one synced transaction.
func (s *failStopLog) StoreLogs(logs []*raft.Log) error {
	err := s.watchdog.guard("append", func() error { return s.LogStore.StoreLogs(logs) })
	if err == nil {
		for _, l := range logs {
			s.retention.stored(l.Index, len(l.Data))
		}
	}
	return err
}

// DeleteRange removes entries low to high, both included, in several transactions.
// What a crash leaves behind has no hole: compaction works upwards from the oldest
// entry, the removal of a conflicting suffix downwards from the newest.
func (s *failStopLog) DeleteRange(low, high uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	if last == 0 {
		return nil
	}
	low, high = max(low, first), min(high, last)
	suffix := high == last && low > first
	for low <= high {
		from, to := low, min(high, low+deleteChunk-1)
		if suffix && high-low >= deleteChunk {
			from, to = high-deleteChunk+1, high
		}
		if err := s.watchdog.guard("truncation", func() error { return s.LogStore.DeleteRange(from, to) }); err != nil {
			return err
		}
		s.retention.deleted(from, to)
		if from == low {
			low = to + 1
		} else {
			high = from - 1
		}
	}
	return nil
}
