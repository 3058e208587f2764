package history

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"

	"floe/coordinator/boltfile"
	"floe/protocol"
)

// Bolt keeps no checksums, so every value of the journal ends with one of its own:
// the CRC-32C of key and value, 4 bytes, big endian. One bit of a sum that nobody
// checks would be in every figure made of it from then on.

// castagnoli is the polynomial that processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const checksumSize = 4

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// put writes a value with its checksum. It may write behind value.
func put(b *bbolt.Bucket, key, value []byte) error { return b.Put(key, sealed(key, value)) }

func sealed(key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(key, value))
}

// checked takes a stored value apart from its checksum, which must match.
func checked(key, stored []byte) ([]byte, error) {
	n := len(stored) - checksumSize
	if n < 0 || binary.BigEndian.Uint32(stored[n:]) != checksum(key, stored[:n]) {
		return nil, fmt.Errorf("%w: journal: the value of key %x does not match its checksum", boltfile.ErrDamaged, key)
	}
	return stored[:n:n], nil
}

// decode reads a stored value that is CBOR.
func decode(key, stored []byte, v any) error {
	raw, err := checked(key, stored)
	if err != nil {
		return err
	}
	if err := protocol.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("journal: key %x: %w", key, err)
	}
	return nil
}

// rowAt reads a row of a generation.
func rowAt(rows *bbolt.Bucket, p position) (row, error) {
	key := p.bytes()
	stored := rows.Get(key)
	if stored == nil {
		return nil, fmt.Errorf("%w: no row at %v", errRow, p)
	}
	return checked(key, stored)
}
