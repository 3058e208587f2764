package protocol

import (
	"fmt"
	"slices"
	"strings"
)

// ModulePin is an external module as it was fetched when its dataset was submitted.
type ModulePin struct {
	// URL is the document's, with expressions resolved.
	URL string `cbor:"1,keyasint" json:"url"`
	// Pinned is a URL that always means the same: with a commit, a revision or a digest.
	Pinned string `cbor:"2,keyasint" json:"pinned"`
	// Digest and Size are those of the tarball that holds it, in the blob store.
	Digest Digest   `cbor:"3,keyasint" json:"digest"`
	Size   ByteSize `cbor:"4,keyasint" json:"size"`
	// Path is the module's file in the tarball; empty is the tarball's root.
	Path string `cbor:"5,keyasint,omitempty" json:"path,omitempty"`
	// Where names the first module or class that asks for it, for people.
	Where string `cbor:"6,keyasint,omitempty" json:"where,omitempty"`
}

// ModulePins are all external modules of a dataset, sorted by URL, each once. The
// pilot finds in them what a URL in its document stands for.
type ModulePins struct {
	Pins []ModulePin `cbor:"1,keyasint"`
}

// MaxModulePins bounds the encoded form: a thousand pins of the longest URLs.
const MaxModulePins = 8 << 20

// Find returns the pin of a URL.
func (p *ModulePins) Find(url string) (*ModulePin, bool) {
	i, ok := slices.BinarySearchFunc(p.Pins, url, func(pin ModulePin, url string) int { return strings.Compare(pin.URL, url) })
	if !ok {
		return nil, false
	}
	return &p.Pins[i], true
}

// EncodeModulePins sorts pins and writes them; the same pins give the same bytes.
func EncodeModulePins(pins []ModulePin) ([]byte, error) {
	p := ModulePins{Pins: slices.Clone(pins)}
	slices.SortFunc(p.Pins, func(a, b ModulePin) int { return strings.Compare(a.URL, b.URL) })
	return Marshal(&p)
}

// DecodeModulePins reads what EncodeModulePins wrote.
func DecodeModulePins(b []byte) (*ModulePins, error) {
	var p ModulePins
	if err := Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("external modules: %w", err)
	}
	for i := range p.Pins {
		pin := &p.Pins[i]
		switch {
		case i > 0 && p.Pins[i-1].URL >= pin.URL:
			return nil, fmt.Errorf("external modules: %.80q is out of order", pin.URL)
		case pin.Digest.IsZero() || strings.HasPrefix(pin.Path, "/") || slices.Contains(strings.Split(pin.Path, "/"), ".."):
			return nil, fmt.Errorf("external modules: %.80q has no digest, or a path that leads outside", pin.URL)
		}
	}
	return &p, nil
}
