package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

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

// GetLog reads an entry and checks its seal.
func (s *failStopLog) GetLog(index uint64, log *raft.Log) error {
	return getSealed(s.LogStore, index, log)
}

// castagnoli is the polynomial that processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealEntry is what an entry carries on disk, in its extensions: the CRC-32C of its
// index, term, type and data, 4 bytes, big endian. Bolt keeps no checksums, and one
// bit of an entry is enough to make a record that nobody else has.
func sealEntry(l *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	return binary.BigEndian.AppendUint32(nil, sum)
}

// getSealed reads an entry and takes its seal off. One without a seal was written by
// a build that made none.
func getSealed(from raft.LogStore, index uint64, log *raft.Log) error {
	if err := from.GetLog(index, log); err != nil {
		return err
	}
	seal := log.Extensions
	log.Extensions = nil
	if log.Index != index || len(seal) > 0 && string(seal) != string(sealEntry(log)) {
		return fmt.Errorf("%w: entry %d of %s does not match its checksum", ErrDamaged, index, logFile)
	}
	return nil
}

// checkEntries reads the whole log once: raft would panic at an entry it cannot read.
// It returns the term of the last one.
func checkEntries(log raft.LogStore) (term uint64, err error) {
	first, err := log.FirstIndex()
	if err != nil {
		return 0, err
	}
	last, err := log.LastIndex()
	if err != nil {
		return 0, err
	}
	for i := first; i <= last && i != 0; i++ {
		var entry raft.Log
		if err := getSealed(log, i, &entry); errors.Is(err, raft.ErrLogNotFound) {
			continue // a hole below the newest snapshot
		} else if err != nil && !errors.Is(err, ErrDamaged) {
			return 0, fmt.Errorf("%w: entry %d of %s: %w", ErrDamaged, i, logFile, err)
		} else if err != nil {
			return 0, err
		}
		term = entry.Term
	}
	return term, nil
}

// StoreLogs stores entries in one synced transaction.
func (s *failStopLog) StoreLogs(logs []*raft.Log) error {
	sealed := make([]raft.Log, len(logs))
	pointers := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = *l // raft and its cache keep theirs as it is
		sealed[i].Extensions = sealEntry(l)
		pointers[i] = &sealed[i]
	}
	err := s.watchdog.guard("append", func() error { return s.LogStore.StoreLogs(pointers) })
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
