package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"floe/protocol"
)

// RecordTime is the time of the replicated record in nanoseconds since the
// cluster began. It advances by the leader's monotonic clock only, never by a
// wall clock, and everything that expires expires by it.
type RecordTime int64

// Spans of record time.
const (
	Second RecordTime = 1_000_000_000
	Minute            = 60 * Second
	Hour              = 60 * Minute
	Day               = 24 * Hour
)

// After returns the record time s seconds later.
func (t RecordTime) After(s protocol.Seconds) RecordTime { return t + RecordTime(s)*Second }

// UnixMillis is a wall clock's reading for people; nothing depends on it.
type UnixMillis int64

// Nonce is random text the leader draws for each entry. Passkeys are derived from
// it outside the record.
type Nonce [16]byte

// EntryFormat is the format of log entries this build writes and reads.
const EntryFormat = 1

// Entry is one entry of the log: the commands that one group commit gathered
// and what the leader stamped on them.
//
// On disk, big-endian:
//
//	0      format, 1
//	1      flags: bit 0 is First, others zero
//	2..9   term of the proposer
//	10..17 elapsed, nanoseconds
//	18..25 wall, Unix milliseconds
//	26..41 nonce
//	then for each command: length (uvarint), kind (1 byte), CBOR (length-1 bytes)
type Entry struct {
	Term uint64
	// First marks the first entry of a leader, which has no earlier reading of its
	// own monotonic clock: record time then advances by the difference of wall
	// clocks, at most MaxWallStep.
	First bool
	// Elapsed is monotonic time since the same leader's entry before.
	Elapsed RecordTime
	Wall    UnixMillis
	Nonce   Nonce
	// Commands are encoded by EncodeCommand. DecodeEntry's share memory with the entry.
	Commands [][]byte
}

const (
	entryHeader = 42
	flagFirst   = 1

	// MaxCommands is how many commands an entry may hold.
	MaxCommands = 1 << 16
	// MaxCommandBytes is the largest command. Source: research, invariant I-26.
	MaxCommandBytes = 256 << 10
	// usualCommand is about the length of an Acquire, the shortest that comes often.
	usualCommand = 48
	// MaxWallStep bounds what a new leader's wall clock may add to record time.
	// Source: design §3.
	MaxWallStep = 10 * Minute
	// MaxWallBack is how far behind a new leader's wall clock may be without alarm:
	// clocks kept by NTP differ a little. Record time then stands still.
	MaxWallBack = 10 * Second
)

var errEntry = errors.New("log entry cannot be read")

// EncodeEntry writes e as it enters the log.
func EncodeEntry(e *Entry) []byte {
	size := entryHeader
	for _, c := range e.Commands {
		size += len(c) + binary.MaxVarintLen32
	}
	b := make([]byte, 2, size)
	b[0] = EntryFormat
	if e.First {
		b[1] = flagFirst
	}
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Elapsed))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Wall))
	b = append(b, e.Nonce[:]...)
	for _, c := range e.Commands {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return b
}

// DecodeEntry reads what EncodeEntry wrote. The commands are not looked into.
func DecodeEntry(b []byte) (*Entry, error) {
	switch {
	case len(b) < entryHeader:
		return nil, fmt.Errorf("%w: %d bytes, want at least %d", errEntry, len(b), entryHeader)
	case b[0] != EntryFormat:
		return nil, fmt.Errorf("%w: format %d, this build reads %d", errEntry, b[0], EntryFormat)
	case b[1] > flagFirst:
		return nil, fmt.Errorf("%w: unknown flags %#x", errEntry, b[1])
	}
	e := &Entry{
		First:   b[1] == flagFirst,
		Term:    binary.BigEndian.Uint64(b[2:]),
		Elapsed: RecordTime(binary.BigEndian.Uint64(b[10:])),
		Wall:    UnixMillis(binary.BigEndian.Uint64(b[18:])),
		Nonce:   Nonce(b[26:entryHeader]),
	}
	if e.Elapsed < 0 {
		return nil, fmt.Errorf("%w: time runs backwards", errEntry)
	}
	e.Commands = make([][]byte, 0, (len(b)-entryHeader)/usualCommand)
	for rest := b[entryHeader:]; len(rest) > 0; {
		n, width := binary.Uvarint(rest)
		if width <= 0 || n == 0 || n > MaxCommandBytes || n > uint64(len(rest)-width) {
			return nil, fmt.Errorf("%w: command %d: wrong length", errEntry, len(e.Commands)+1)
		}
		if len(e.Commands) == MaxCommands {
			return nil, fmt.Errorf("%w: more than %d commands", errEntry, MaxCommands)
		}
		end := width + int(n)
		e.Commands = append(e.Commands, rest[width:end:end])
		rest = rest[end:]
	}
	return e, nil
}
