package history

import (
	"errors"
	"testing"

	"floe/coordinator/boltfile"
)

// No bit of a stored value, nor of its key, can change without being noticed.
func TestEveryBitOfAValueIsChecked(t *testing.T) {
	key, value := []byte("key"), []byte("a value")
	flipped := func(b []byte, bit int) []byte {
		c := append([]byte(nil), b...)
		c[bit/8] ^= 1 << (bit % 8)
		return c
	}
	stored := sealed(key, value)
	if got, err := checked(key, stored); err != nil || string(got) != string(value) {
		t.Fatalf("checked = %q, %v", got, err)
	}
	for bit := range 8 * len(stored) {
		if _, err := checked(key, flipped(stored, bit)); !errors.Is(err, boltfile.ErrDamaged) {
			t.Errorf("bit %d of the value flipped: %v", bit, err)
		}
	}
	for bit := range 8 * len(key) {
		if _, err := checked(flipped(key, bit), stored); !errors.Is(err, boltfile.ErrDamaged) {
			t.Errorf("bit %d of the key flipped: %v", bit, err)
		}
	}
	for n := range checksumSize {
		if _, err := checked(key, stored[:n]); !errors.Is(err, boltfile.ErrDamaged) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
