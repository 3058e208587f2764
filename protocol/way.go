package protocol

import (
	"fmt"

	"floe/protocol/canon"
)

// Way is a rung of the ladder by which coordinators are reached.
type Way struct {
	// Rung is quic, tcp, proxy or relay.
	Rung string `cbor:"1,keyasint" json:"rung"`
	// Why says of the rungs above why they did not stand.
	Why string `cbor:"2,keyasint,omitempty" json:"why,omitempty"`
}

// MaxWhy bounds the reasons of a Way in bytes.
const MaxWhy = 1000

// Check refuses a way that cannot be.
func (w *Way) Check() error {
	if CheckName("rung", w.Rung) != nil || len(w.Why) > MaxWhy {
		return fmt.Errorf("rung %.20q with %d bytes of reasons, limit %d", w.Rung, len(w.Why), MaxWhy)
	}
	return nil
}

// WriteCanon implements canon.Writable.
func (w *Way) WriteCanon(to *canon.Writer) {
	m := to.Map()
	m.Text(1, w.Rung)
	m.TextIf(2, w.Why)
}

// ReadCanon implements canon.Readable.
func (w *Way) ReadCanon(r *canon.Reader) {
	*w = Way{}
	for f := r.Map(); f.Next(); {
		switch f.Key {
		case 1:
			w.Rung = r.Text()
		case 2:
			w.Why = r.Text()
		default:
			r.Fail()
		}
	}
}
