package protocol

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/quick"

	oldrand "math/rand"

	"floe/protocol/canon"
)

// canonicalTypes are all that is read and written without reflection.
var canonicalTypes = []func() any{
	func() any { return new(LeaseID) },
	func() any { return new(TaskID) },
	func() any { return new(Digest) },
	func() any { return new(Usage) },
	func() any { return new(Statistic) },
	func() any { return new(FileRecord) },
	func() any { return new(ModuleResult) },
	func() any { return new(LogRecord) },
	func() any { return new(Report) },
	func() any { return new(SignedReport) },
	func() any { return new(HeldLease) },
	func() any { return new(LogTail) },
	func() any { return new(Progress) },
	func() any { return new(CacheFigures) },
	func() any { return new(Ahead) },
	func() any { return new(GPU) },
	func() any { return new(Resources) },
	func() any { return new(Requirements) },
	func() any { return new(ExchangeRequest) },
	func() any { return new(Lease) },
	func() any { return new(Order) },
	func() any { return new(ReportAnswer) },
	func() any { return new(ExchangeReply) },
}

// Everything is written as the general encoder writes it, and read as the general
// decoder reads it.
func TestCanonicalIsGeneral(t *testing.T) {
	random := oldrand.New(oldrand.NewSource(1))
	for _, fresh := range canonicalTypes {
		empty := fresh()
		compareCanonical(t, empty)
		typ := reflect.TypeOf(empty).Elem()
		for i := range 200 {
			v, ok := quick.Value(typ, random)
			if !ok {
				t.Fatalf("%v: no random value", typ)
			}
			p := reflect.New(typ)
			p.Elem().Set(v)
			if i%2 == 0 {
				dropAlternatives(p.Interface())
			}
			compareCanonical(t, p.Interface())
		}
	}
}

func compareCanonical(t *testing.T, v any) {
	t.Helper()
	want, err := encoder.Marshal(v)
	if err != nil {
		t.Fatalf("%T: general encoder: %v", v, err)
	}
	if got, err := Marshal(v); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%T is written as %x, %v; want %x", v, got, err, want)
		return
	}
	if got, err := AppendMarshal([]byte("x"), v); err != nil || !bytes.Equal(got, append([]byte("x"), want...)) {
		t.Errorf("%T is appended as %x, %v", v, got, err)
	}
	general, fast := reflect.New(reflect.TypeOf(v).Elem()).Interface(), reflect.New(reflect.TypeOf(v).Elem()).Interface()
	if err := decoder.Unmarshal(want, general); err != nil {
		t.Fatalf("%T: general decoder: %v", v, err)
	}
	switch read := canon.Read(want, fast.(canon.Readable)); {
	case !read && (hasAlternatives(v) || bytes.Contains(want, []byte{0xf6})):
		return // left to the general decoder, as a byte string that is null is
	case !read:
		t.Errorf("%T: %x is left to the general decoder", v, want)
		return
	}
	if !reflect.DeepEqual(fast, general) {
		t.Errorf("%T: %x reads as %+v, want %+v", v, want, fast, general)
	}
}

func requirementsOf(v any) (all []*Requirements) {
	switch v := v.(type) {
	case *Requirements:
		all = append(all, v)
	case *Lease:
		all = append(all, &v.Granted)
	case *ExchangeReply:
		for i := range v.Leases {
			all = append(all, &v.Leases[i].Granted)
		}
	}
	return all
}

func hasAlternatives(v any) bool {
	return slices.ContainsFunc(requirementsOf(v), func(r *Requirements) bool { return len(r.Alternatives) > 0 })
}

func dropAlternatives(v any) {
	for _, r := range requirementsOf(v) {
		r.Alternatives = nil
	}
}

// Numbers are written in the width that the general encoder chooses.
func TestCanonicalFloats(t *testing.T) {
	values := []float64{
		0, math.Copysign(0, -1), 1, -1, 1.5, 65504, 65505, 65536, -65504, 1e5, 1e300, math.Pi, 1. / 3, math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.MaxFloat32, math.SmallestNonzeroFloat32, math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(0x7ff8dead00000001),
		0x1p-24, 0x1p-25, 0x1p-14, 0x1p-15, 0x1.8p-24, 0x1.ff8p-15, 0x1.ffcp-15, 0x1.ffcp15, 0x1.ffep15, 0x1p-149, 0x1p127,
	}
	for range 10_000 {
		x := math.Float64frombits(rand.Uint64())
		values = append(values, x, float64(float32(x)), math.Ldexp(float64(rand.IntN(4096)-2048), rand.IntN(60)-40))
	}
	for _, x := range values {
		s := Statistic{Name: "x", Value: x}
		want, err := encoder.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := Marshal(&s); !bytes.Equal(got, want) {
			t.Errorf("%v is written as %x, want %x", x, got, want)
		}
		var read, general Statistic
		if err := decoder.Unmarshal(want, &general); err != nil || !canon.Read(want, &read) ||
			read.Value != general.Value && (!math.IsNaN(read.Value) || !math.IsNaN(general.Value)) || math.Signbit(read.Value) != math.Signbit(general.Value) {
			t.Errorf("%v reads as %v, want %v, %v", x, read.Value, general.Value, err)
		}
	}
}

// FuzzCanonical holds the readers to the general decoder: what they read, it reads
// as the same.
func FuzzCanonical(f *testing.F) {
	random := oldrand.New(oldrand.NewSource(2))
	for i, fresh := range canonicalTypes {
		typ := reflect.TypeOf(fresh()).Elem()
		for range 4 {
			v, _ := quick.Value(typ, random)
			p := reflect.New(typ)
			p.Elem().Set(v)
			if b, err := Marshal(p.Interface()); err == nil && len(b) < 4096 {
				f.Add(uint8(i), b)
				f.Add(uint8(i), append(bytes.Clone(b), 0))
			}
		}
		f.Add(uint8(i), []byte{0xa0})
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		fresh := canonicalTypes[int(kind)%len(canonicalTypes)]
		got, want := fresh(), fresh()
		if !canon.Read(b, got.(canon.Readable)) {
			return
		}
		if err := decoder.Unmarshal(b, want); err != nil {
			t.Fatalf("%T: %x was read, the general decoder says: %v", got, b, err)
		}
		// By their bytes: a statistic may be what does not equal itself.
		first, err1 := encoder.Marshal(got)
		second, err2 := encoder.Marshal(want)
		if err1 != nil || err2 != nil || !bytes.Equal(first, second) {
			t.Fatalf("%T: %x was read as %+v, want %+v", got, b, got, want)
		}
		if again, _ := Marshal(got); !bytes.Equal(again, first) {
			t.Fatalf("%T is written as %x, want %x", got, again, first)
		}
	})
}

// What a failed fast reading left behind is not taken for what was read.
func TestUnmarshalForgetsWhatWasHalfRead(t *testing.T) {
	// A job, then the dataset: legal, but not in canonical order.
	b := []byte{0xa2, 0x02, 0x07, 0x01, 0x05}
	var id TaskID
	if err := Unmarshal(b, &id); err != nil || id != (TaskID{Dataset: 5, Job: 7}) {
		t.Errorf("Unmarshal = %v, %v", id, err)
	}
	// The task, and then what is no number: refused by both.
	b = []byte{0xa2, 0x02, 0x07, 0x03, 0x60}
	if err := Unmarshal(b, &id); err == nil {
		t.Errorf("Unmarshal of a text for a number = %v", id)
	}
}

// What cards did was not always told: records of that time say that it is not known,
// which is not the same as nothing.
func TestUsageOfCardsMayBeUnknown(t *testing.T) {
	old := []byte{0xa2, 1, 5, 11, 7} // wall and kept time
	var u Usage
	if err := Unmarshal(old, &u); err != nil || u.WallMillis != 5 || u.KeptMillis != 7 || u.GPUMillis != nil || u.PeakGPUMemory != nil {
		t.Errorf("an old record: %+v, %v", u, err)
	}
	if b, err := Marshal(&u); err != nil || !bytes.Equal(b, old) {
		t.Errorf("written again: %x, %v", b, err)
	}
	more := func(millis int64, peak ByteSize) *Usage { return &Usage{GPUMillis: &millis, PeakGPUMemory: &peak} }
	u.JoinGPU(&Usage{})
	if u.GPUMillis != nil || u.PeakGPUMemory != nil {
		t.Errorf("unknown and unknown: %+v", u)
	}
	u.JoinGPU(more(0, 0))
	b, err := Marshal(&u)
	if err != nil || !bytes.Equal(b, []byte{0xa4, 1, 5, 11, 7, 12, 0, 13, 0}) {
		t.Errorf("known to be nothing: %x, %v", b, err)
	}
	var read Usage
	if err := Unmarshal(b, &read); err != nil || !reflect.DeepEqual(read, u) {
		t.Errorf("read as %+v, %v", read, err)
	}
	u.JoinGPU(more(3, 20))
	u.JoinGPU(more(4, 10))
	if *u.GPUMillis != 7 || *u.PeakGPUMemory != 20 {
		t.Errorf("%d ms, %v, want 7 ms and 20 bytes", *u.GPUMillis, *u.PeakGPUMemory)
	}
}
