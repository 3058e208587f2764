package replica

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// sealed is a body with its seal.
func sealed(t testing.TB, body string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := newSealWriter(&b)
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.seal(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestSealRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, sealSize - 1, sealSize, sealSize + 1, 64 << 10, 200_000} {
		body := string(bytes.Repeat([]byte{'x'}, size))
		raw := sealed(t, body).Bytes()
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(raw), "one byte at a time": iotest.OneByteReader(bytes.NewReader(raw)),
		} {
			if size > 100_000 && name != "whole" {
				continue
			}
			got, err := io.ReadAll(newSealReader(r))
			if err != nil || string(got) != body {
				t.Errorf("read %d bytes, %s = %d bytes, %v", size, name, len(got), err)
			}
		}
	}
	if err := iotest.TestReader(newSealReader(sealed(t, "hello, snapshot")), []byte("hello, snapshot")); err != nil {
		t.Error(err)
	}
}

// No flipped bit, missing end or added byte passes.
func TestSealDetectsDamage(t *testing.T) {
	raw := sealed(t, "the state of everything").Bytes()
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		if err := verifySeal(bytes.NewReader(bad)); !errors.Is(err, ErrSnapshotDamaged) {
			t.Fatalf("bit %d flipped: %v, want ErrSnapshotDamaged", i, err)
		}
	}
	for n := range raw {
		if err := verifySeal(bytes.NewReader(raw[:n])); !errors.Is(err, ErrSnapshotDamaged) {
			t.Fatalf("cut to %d bytes: %v, want ErrSnapshotDamaged", n, err)
		}
	}
	if err := verifySeal(bytes.NewReader(append(bytes.Clone(raw), 0))); !errors.Is(err, ErrSnapshotDamaged) {
		t.Errorf("one byte added: %v, want ErrSnapshotDamaged", err)
	}
}

// A read error of the medium is passed on as it is.
func TestSealReadError(t *testing.T) {
	want := errors.New("medium")
	if err := verifySeal(io.MultiReader(sealed(t, "x"), iotest.ErrReader(want))); !errors.Is(err, want) {
		t.Errorf("verifySeal = %v, want %v", err, want)
	}
}

// Whatever is accepted is exactly what sealing its body writes.
func FuzzSealReader(f *testing.F) {
	f.Add(sealed(f, "").Bytes())
	f.Add(sealed(f, "a snapshot").Bytes())
	f.Add(sealed(f, "cut").Bytes()[:sealSize])
	f.Add([]byte(sealMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := io.ReadAll(newSealReader(bytes.NewReader(raw)))
		if err != nil {
			if !errors.Is(err, ErrSnapshotDamaged) {
				t.Errorf("error %v, want ErrSnapshotDamaged", err)
			}
			return
		}
		if again := sealed(t, string(body)).Bytes(); !bytes.Equal(again, raw) {
			t.Errorf("accepted %x, which is not the seal of its body", raw)
		}
	})
}
