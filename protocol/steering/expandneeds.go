package steering

import (
	"errors"
	"fmt"
	"math/big"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// quantity is one numeric field of Requirements.
type quantity struct {
	key   string
	text  func(*Requirements) Expression
	unit  int64 // what one of the file's units is in the record's
	whole bool  // fractions are refused, not rounded up
	set   func(*protocol.Requirements, int64)
}

// quantities ties the file's units to the record's: GB are 10⁹ bytes, hours
// 3600 seconds, both rounded up to whole bytes and seconds.
var quantities = []quantity{
	{"cpu", func(r *Requirements) Expression { return r.CPU }, 1, true, func(r *protocol.Requirements, n int64) { r.Cores = int(n) }},
	{"gpu", func(r *Requirements) Expression { return r.GPU }, 1, true, func(r *protocol.Requirements, n int64) { r.GPUs = int(n) }},
	{"memory", func(r *Requirements) Expression { return r.Memory }, int64(protocol.GB), false, func(r *protocol.Requirements, n int64) { r.Memory = protocol.ByteSize(n) }},
	{"disk", func(r *Requirements) Expression { return r.Disk }, int64(protocol.GB), false, func(r *protocol.Requirements, n int64) { r.Disk = protocol.ByteSize(n) }},
	{"time", func(r *Requirements) Expression { return r.Time }, 3600, false, func(r *protocol.Requirements, n int64) { r.Walltime = protocol.Seconds(n) }},
	{"gpu_memory", func(r *Requirements) Expression { return r.GPUMemory }, int64(protocol.GB), false, func(r *protocol.Requirements, n int64) { r.GPUMemory = protocol.ByteSize(n) }},
	{"gpu_capability", func(r *Requirements) Expression { return r.GPUCapability }, 10, true, func(r *protocol.Requirements, n int64) { r.GPUCapability = int(n) }},
}

// requirementField is one expression of a task's requirements.
type requirementField struct {
	expression Expression
	place      expr.Place
}

// requirementsFields lists the expressions of r and of its alternatives in a
// fixed order. Two jobs with the same texts for them need the same.
func requirementsFields(r *Requirements, place expr.Place) []requirementField {
	place = below(place, "requirements")
	fields := make([]requirementField, 0, len(quantities)+1)
	for _, q := range quantities {
		fields = append(fields, requirementField{q.text(r), below(place, q.key)})
	}
	fields = append(fields, requirementField{r.Site, below(place, "site")})
	for i := range r.Alternatives {
		fields = append(fields, requirementsFields(&r.Alternatives[i], below(place, "alternatives", i))...)
	}
	return fields
}

// requirements resolves what a task asks for.
func (e *expansion) requirements(r *Requirements, place expr.Place) protocol.Requirements {
	var texts []string
	for _, f := range requirementsFields(r, place) {
		texts = append(texts, e.text(f.expression, f.place))
	}
	return e.readRequirements(r, &texts)
}

// readRequirements turns the texts of requirementsFields into numbers and takes
// them off the list.
func (e *expansion) readRequirements(r *Requirements, texts *[]string) protocol.Requirements {
	next := func() string {
		text := strings.TrimSpace((*texts)[0])
		*texts = (*texts)[1:]
		return text
	}
	out := protocol.Requirements{OS: r.OS, Tags: r.Tags, Elastic: r.Elastic == FlagYes}
	for _, q := range quantities {
		text := next()
		if text == "" {
			continue
		}
		n, err := q.read(text)
		if err != nil {
			written := q.text(r)
			message := fmt.Sprintf("%s %q: %v", q.key, written, err)
			if written.Text != text {
				message = fmt.Sprintf("%s %q is %q in job %d: %v", q.key, written, text, e.in.Job, err)
			}
			e.add(SeverityError, written.Position, message)
			continue
		}
		q.set(&out, n)
	}
	for site := range strings.FieldsFuncSeq(next(), func(c rune) bool { return c == ',' || c == ' ' }) {
		out.Sites = append(out.Sites, protocol.SiteID(site))
	}
	for i := range r.Alternatives {
		out.Alternatives = append(out.Alternatives, e.readRequirements(&r.Alternatives[i], texts))
	}
	if err := out.Check(); err != nil && !e.problems.HasErrors() {
		e.errorf(r.Position, "requirements: %v", err)
	}
	return out
}

// size resolves a bound of bytes, written in GB; 0 where there is none. One of no
// bytes at all is what nobody means.
func (e *expansion) size(key string, written Expression, place expr.Place) protocol.ByteSize {
	text := strings.TrimSpace(e.text(written, place))
	if text == "" {
		return 0
	}
	n, err := quantity{key: key, unit: int64(protocol.GB)}.read(text)
	if err == nil && n == 0 {
		err = errors.New("want more than 0")
	}
	if err != nil {
		e.add(SeverityError, written.Position, fmt.Sprintf("%s %q: %v", key, written, err))
	}
	return protocol.ByteSize(n)
}

// read turns a number of the file's units into the record's, rounding up.
func (q quantity) read(text string) (int64, error) {
	if list, ok := expr.Infer(text).(expr.List); ok && q.key == "gpu" {
		return int64(len(list)), nil // IceProd lists devices
	}
	n, ok := decimal(text)
	switch {
	case !ok:
		return 0, fmt.Errorf("want a number")
	case n.Sign() < 0:
		return 0, fmt.Errorf("want a number that is not negative")
	}
	n.Mul(n, new(big.Rat).SetInt64(q.unit))
	if !n.IsInt() && q.whole {
		if q.unit > 1 {
			return 0, fmt.Errorf("want a number with one digit after the point")
		}
		return 0, fmt.Errorf("want a whole number")
	}
	quotient, rest := new(big.Int).QuoRem(n.Num(), n.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		quotient.Add(quotient, big.NewInt(1))
	}
	if quotient.BitLen() > 60 {
		return 0, fmt.Errorf("too large")
	}
	return quotient.Int64(), nil
}

// decimal reads a decimal number exactly.
func decimal(text string) (*big.Rat, bool) {
	// Longer texts, and far exponents, are no requirement of any machine but
	// would make huge fractions.
	if len(text) > 40 || strings.Trim(text, "+-0123456789.eE") != "" {
		return nil, false
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(text), "e"); ok {
		if n, ok := wholeNumber(exponent); !ok || n > 30 || n < -30 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(text)
}

// wholeNumber reads an integer, also one that an expression made a float.
func wholeNumber(text string) (int64, bool) {
	text = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "+"), ".0")
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || !n.IsInt64() {
		return 0, false
	}
	return n.Int64(), true
}
