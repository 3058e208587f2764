package blob

import (
	"fmt"

	"floe/protocol"
)

// Class says what a blob is for. The numbers are part of the index on disk.
type Class uint8

// The classes.
const (
	Durable Class = iota + 1 // steering, modules, software, pilot binaries: until retired
	Log                      // stored logs of ended attempts
	Temp                     // files between tasks, without a storage area: until released
	Output                   // permanent outputs, without a storage area: until released
)

// Classes lists every class.
var Classes = []Class{Durable, Log, Temp, Output}

var classes = [...]string{"", "durable", "log", "temp", "output"}

func (c Class) String() string {
	if c == 0 || int(c) >= len(classes) {
		return fmt.Sprintf("invalid class %d", uint8(c))
	}
	return classes[c]
}

// ParseClass reads a class's word.
func ParseClass(s string) (Class, error) {
	for _, c := range Classes {
		if classes[c] == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("class %q: want one of %q", s, classes[1:])
}

// Limit bounds one class.
type Limit struct {
	Quota   protocol.ByteSize // all blobs of the class together
	MaxSize protocol.ByteSize // one blob
}

// DefaultLimit is the limit of a class that the configuration leaves out. Temp and
// Output are meant for demos and small files; production data has a storage area.
// Source: design §6 (64 MiB), research T29 (16 MiB of log).
func DefaultLimit(c Class) Limit {
	switch c {
	case Durable:
		return Limit{Quota: 50 * protocol.GB, MaxSize: 4 * protocol.GB}
	case Log:
		return Limit{Quota: 50 * protocol.GB, MaxSize: 16 << 20}
	default:
		return Limit{Quota: 20 * protocol.GB, MaxSize: 64 << 20}
	}
}
