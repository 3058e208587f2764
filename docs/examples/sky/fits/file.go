package fits

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	blockSize = 2880
	cardSize  = 80
	// MaxSize bounds a file, 1 GiB; Read refuses more.
	MaxSize = 1 << 30
)

// ErrFormat is wrapped by every error that the file's content causes.
var ErrFormat = errors.New("not a usable FITS file")

// An HDU is one header and the data after it.
type HDU struct {
	Header Header
	// Data is the data unit with its padding.
	Data []byte
	raw  []byte // header and data as they lie in the file
}

// Header is the cards of an HDU by keyword; of a repeated keyword the first.
type Header map[string]string

// Text returns a string value without its quotes and trailing blanks, or "".
func (h Header) Text(key string) string {
	value := h[key]
	if len(value) < 2 || value[0] != '\'' {
		return strings.TrimSpace(value)
	}
	return strings.TrimRight(strings.ReplaceAll(value[1:len(value)-1], "''", "'"), " ")
}

// Int returns an integer value; absent or anything else is an error.
func (h Header) Int(key string) (int, error) {
	n, err := strconv.Atoi(h[key])
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q, want an integer", ErrFormat, key, h[key])
	}
	return n, nil
}

// Float returns a number, or absent if there is no such card.
func (h Header) Float(key string, absent float64) (float64, error) {
	text, ok := h[key]
	if !ok {
		return absent, nil
	}
	f, err := strconv.ParseFloat(strings.Replace(text, "D", "E", 1), 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q, want a number", ErrFormat, key, text)
	}
	return f, nil
}

// Read reads all HDUs of an uncompressed file.
func Read(from io.Reader) ([]HDU, error) {
	content, err := io.ReadAll(io.LimitReader(from, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFormat, MaxSize)
	}
	var hdus []HDU
	for offset := 0; offset < len(content); {
		header, length, err := readHeader(content[offset:])
		if err != nil {
			return nil, fmt.Errorf("HDU %d: %w", len(hdus), err)
		}
		size, err := header.dataSize()
		if err != nil {
			return nil, fmt.Errorf("HDU %d: %w", len(hdus), err)
		}
		padded := (size + blockSize - 1) / blockSize * blockSize
		if padded > len(content)-offset-length {
			return nil, fmt.Errorf("HDU %d: %w: data end early", len(hdus), ErrFormat)
		}
		end := offset + length + padded
		hdus = append(hdus, HDU{Header: header, Data: content[offset+length : end], raw: content[offset:end]})
		offset = end
	}
	if len(hdus) == 0 || hdus[0].Header["SIMPLE"] != "T" {
		return nil, fmt.Errorf("%w: it does not begin with SIMPLE = T", ErrFormat)
	}
	return hdus, nil
}

// readHeader reads cards up to END and returns the header's length in bytes.
func readHeader(content []byte) (Header, int, error) {
	header := Header{}
	for offset := 0; offset+cardSize <= len(content); offset += cardSize {
		card := content[offset : offset+cardSize]
		key := string(bytes.TrimRight(card[:8], " "))
		if key == "END" {
			length := (offset/blockSize + 1) * blockSize
			if length > len(content) {
				return nil, 0, fmt.Errorf("%w: header ends early", ErrFormat)
			}
			return header, length, nil
		}
		if _, again := header[key]; string(card[8:10]) == "= " && !again {
			header[key] = cardValue(string(card[10:]))
		}
	}
	return nil, 0, fmt.Errorf("%w: header without END", ErrFormat)
}

// cardValue cuts the comment off a card's value. Quotes stay.
func cardValue(text string) string {
	text = strings.TrimLeft(text, " ")
	if strings.HasPrefix(text, "'") {
		for i := 1; i < len(text); i++ {
			if text[i] != '\'' {
				continue
			}
			if i+1 < len(text) && text[i+1] == '\'' {
				i++
				continue
			}
			return text[:i+1]
		}
		return "" // an open quote: no value
	}
	value, _, _ := strings.Cut(text, "/")
	return strings.TrimSpace(value)
}

// dataSize is the length in bytes of the data the header announces.
func (h Header) dataSize() (int, error) {
	bitpix, err := h.Int("BITPIX")
	if err != nil {
		return 0, err
	}
	axes, err := h.Int("NAXIS")
	if err != nil {
		return 0, err
	}
	if axes < 0 || axes > 999 {
		return 0, fmt.Errorf("%w: NAXIS is %d", ErrFormat, axes)
	}
	if bitpix < 0 {
		bitpix = -bitpix
	}
	if bitpix != 8 && bitpix != 16 && bitpix != 32 && bitpix != 64 {
		return 0, fmt.Errorf("%w: BITPIX is %d", ErrFormat, bitpix)
	}
	if axes == 0 {
		return 0, nil
	}
	size := bitpix / 8
	for axis := 1; axis <= axes; axis++ {
		n, err := h.Int("NAXIS" + strconv.Itoa(axis))
		if err != nil {
			return 0, err
		}
		if n < 0 || n > MaxSize || (n > 0 && size > MaxSize/n) {
			return 0, fmt.Errorf("%w: axis %d has %d pixels", ErrFormat, axis, n)
		}
		size *= n
	}
	for _, key := range []string{"PCOUNT", "GCOUNT"} {
		if text, ok := h[key]; ok && text != map[string]string{"PCOUNT": "0", "GCOUNT": "1"}[key] {
			return 0, fmt.Errorf("%w: %s is %s; only plain images are read", ErrFormat, key, text)
		}
	}
	return size, nil
}
