package protocol

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"floe/protocol/canon"
)

// The wire and the log use one form of CBOR (RFC 8949): core deterministic
// encoding, integer keys. Equal values have equal bytes, so replicas can compare
// digests of what they hold.
var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 20,
		MaxMapPairs:       1 << 16,
	}.DecMode())
	// lenient differs from decoder only in that it skips unknown integer keys:
	// newer peers may send more than this build knows.
	lenient = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  16,
		MaxArrayElements: 1 << 20,
		MaxMapPairs:      1 << 16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Marshal encodes v deterministically.
func Marshal(v any) ([]byte, error) {
	c, ok := v.(canon.Writable)
	if !ok {
		return encoder.Marshal(v)
	}
	b := scratch.Get().(*[]byte)
	defer scratch.Put(b)
	*b = canon.Append((*b)[:0], c)
	return bytes.Clone(*b), nil
}

// scratch is memory to write into before the length is known.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// AppendMarshal appends what Marshal gives for v to b.
func AppendMarshal(b []byte, v any) ([]byte, error) {
	if c, ok := v.(canon.Writable); ok {
		return canon.Append(b, c), nil
	}
	body, err := encoder.Marshal(v)
	return append(b, body...), err
}

// Unmarshal decodes exactly one value into v, which must be a pointer to a zero
// value, and refuses unknown fields and trailing bytes. It is for the log and for
// what coordinators receive.
func Unmarshal(b []byte, v any) error { return unmarshal(decoder, b, v) }

// UnmarshalReply decodes exactly one value into v, which must be a pointer to a
// zero value, and skips fields this build does not know. It is for answers, which a
// newer coordinator may have extended.
func UnmarshalReply(b []byte, v any) error { return unmarshal(lenient, b, v) }

func unmarshal(general cbor.DecMode, b []byte, v any) error {
	if c, ok := v.(canon.Readable); ok {
		if canon.Read(b, c) {
			return nil
		}
		reflect.ValueOf(v).Elem().SetZero() // half read
	}
	return general.Unmarshal(b, v)
}

// usualMessage is what most messages are shorter than, in bytes.
const usualMessage = 4 << 10

// ReadUpTo reads r to its end, or until it has a byte more than limit. Where size, as
// announced, is right, one allocation does; -1 is not known.
func ReadUpTo(r io.Reader, size, limit int64) ([]byte, error) {
	if size < 0 || size > usualMessage {
		size = usualMessage // what is announced may be a lie
	}
	b := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // ReadFrom wants room for one more read
	_, err := b.ReadFrom(io.LimitReader(r, limit+1))
	return b.Bytes(), err
}

// ReadMessage reads at most limit bytes from r and decodes them strictly. size is as
// announced; -1 is not known. It returns an *Error of CodeTooLarge or CodeBadRequest.
func ReadMessage(r io.Reader, size, limit int64, v any) error {
	b, err := ReadUpTo(r, size, limit)
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if int64(len(b)) > limit {
		return Errorf(CodeTooLarge, "message of more than %d bytes", limit)
	}
	if err := Unmarshal(b, v); err != nil {
		return Errorf(CodeBadRequest, "%v", err)
	}
	return nil
}
