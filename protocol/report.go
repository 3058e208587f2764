package protocol

import (
	"crypto/ed25519"
	"fmt"
	"math"
)

// Usage is what an attempt used, in integers so that sums are exact.
type Usage struct {
	WallMillis  int64    `cbor:"1,keyasint,omitempty" json:"wall_ms"`
	CPUMillis   int64    `cbor:"2,keyasint,omitempty" json:"cpu_ms" doc:"user and system time of the whole process tree"`
	PeakMemory  ByteSize `cbor:"3,keyasint,omitempty" json:"peak_memory" doc:"bytes"`
	ReadBytes   ByteSize `cbor:"4,keyasint,omitempty" json:"read_bytes"`
	WriteBytes  ByteSize `cbor:"5,keyasint,omitempty" json:"write_bytes"`
	PeakDisk    ByteSize `cbor:"6,keyasint,omitempty" json:"peak_disk"`
	Cores       int      `cbor:"7,keyasint,omitempty" json:"cores"`
	GPUs        int      `cbor:"8,keyasint,omitempty" json:"gpus,omitempty"`
	StageMillis int64    `cbor:"9,keyasint,omitempty" json:"stage_ms" doc:"fetching software and inputs"`
	CopyMillis  int64    `cbor:"10,keyasint,omitempty" json:"copy_ms" doc:"uploading and verifying outputs"`
	KeptMillis  int64    `cbor:"11,keyasint,omitempty" json:"kept_ms,omitempty" doc:"wall time of earlier attempts that a checkpoint spared this one"`
	// What the cards that were granted did; nil is not known, zero is nothing.
	GPUMillis     *int64    `cbor:"12,keyasint,omitempty" json:"gpu_ms,omitempty" doc:"time that its cards were busy, summed over them; absent where that is not known"`
	PeakGPUMemory *ByteSize `cbor:"13,keyasint,omitempty" json:"peak_gpu_memory,omitempty" doc:"bytes in use on all its cards together; absent where that is not known"`
}

// JoinGPU adds what a later part of the same attempt did with the cards.
func (u *Usage) JoinGPU(later *Usage) {
	if more := later.GPUMillis; more != nil {
		sum := *more
		if u.GPUMillis != nil {
			sum += *u.GPUMillis
		}
		u.GPUMillis = &sum
	}
	if peak := later.PeakGPUMemory; peak != nil && (u.PeakGPUMemory == nil || *peak > *u.PeakGPUMemory) {
		u.PeakGPUMemory = peak
	}
}

// Statistic is one named number a module returned (paper §3.7.2).
type Statistic struct {
	Name  string  `cbor:"1,keyasint" json:"name"`
	Value float64 `cbor:"2,keyasint" json:"value"`
}

// ModuleResult is how one module of an attempt went.
type ModuleResult struct {
	Tray      string `cbor:"1,keyasint,omitempty" json:"tray,omitempty"`
	Iteration int    `cbor:"2,keyasint,omitempty" json:"iteration,omitempty"`
	Module    string `cbor:"3,keyasint" json:"module"`
	ExitCode  int    `cbor:"4,keyasint,omitempty" json:"exit_code"`
	Usage     Usage  `cbor:"5,keyasint" json:"usage"`
}

// LogRecord is the stored log of an attempt.
type LogRecord struct {
	Digest Digest   `cbor:"1,keyasint" json:"digest"`
	Size   ByteSize `cbor:"2,keyasint" json:"size"`
	// Cut is how many bytes in the middle were dropped for the size limit.
	Cut ByteSize `cbor:"3,keyasint,omitempty" json:"cut,omitempty"`
}

// Report is the end of an attempt as the pilot saw it.
type Report struct {
	Lease   LeaseID `cbor:"1,keyasint"`
	Task    TaskID  `cbor:"2,keyasint"`
	Pilot   PilotID `cbor:"3,keyasint"`
	Passkey Passkey `cbor:"4,keyasint"`
	Verdict Verdict `cbor:"5,keyasint"`
	// Evidence says in a sentence what the verdict rests on: a signal, an exit
	// code, an OOM record, the last line of the log. At most MaxEvidence bytes.
	Evidence   string         `cbor:"6,keyasint,omitempty"`
	ExitCode   int            `cbor:"7,keyasint,omitempty"`
	Signal     int            `cbor:"8,keyasint,omitempty"`
	Usage      Usage          `cbor:"9,keyasint"`
	Statistics []Statistic    `cbor:"10,keyasint,omitempty"`
	Outputs    []FileRecord   `cbor:"11,keyasint,omitempty"`
	Modules    []ModuleResult `cbor:"12,keyasint,omitempty"`
	Log        LogRecord      `cbor:"13,keyasint,omitempty"`
	Host       string         `cbor:"14,keyasint,omitempty"`
	// Cleaned says that nothing is left to publish or remove on the node.
	Cleaned bool `cbor:"15,keyasint,omitempty"`
	// BadInput names the ancestor's output that was missing or damaged, for VerdictData.
	BadInput string `cbor:"16,keyasint,omitempty"`
	// StartedUnix and EndedUnix are the node's own clock, for display only.
	StartedUnix int64 `cbor:"17,keyasint,omitempty"`
	EndedUnix   int64 `cbor:"18,keyasint,omitempty"`
}

// Limits of a report. Source: research on hostile pilots, D3.
const (
	MaxStatistics = 256
	MaxEvidence   = 2 << 10
	MaxOutputs    = 256
	MaxModules    = 256
	MaxURL        = 2 << 10
	// MaxReportLog is how long a log may be that goes with its report.
	MaxReportLog ByteSize = 4 << 10
)

// Check refuses a report that breaks the limits, with a message for the pilot's
// log. A statistic that is not finite, or has a bad name, is refused, not dropped:
// a sum that silently misses jobs is worse than an error.
func (r *Report) Check() error {
	switch {
	case r.Lease.IsZero():
		return fmt.Errorf("report: no lease")
	case !r.Verdict.Reportable():
		return fmt.Errorf("report %v: a pilot cannot give %v", r.Lease, r.Verdict)
	case len(r.Evidence) > MaxEvidence:
		return fmt.Errorf("report %v: evidence of %d bytes, limit %d", r.Lease, len(r.Evidence), MaxEvidence)
	case len(r.Statistics) > MaxStatistics:
		return fmt.Errorf("report %v: %d statistics, limit %d", r.Lease, len(r.Statistics), MaxStatistics)
	case len(r.Outputs) > MaxOutputs:
		return fmt.Errorf("report %v: %d outputs, limit %d", r.Lease, len(r.Outputs), MaxOutputs)
	case len(r.Modules) > MaxModules:
		return fmt.Errorf("report %v: %d module results, limit %d", r.Lease, len(r.Modules), MaxModules)
	}
	seen := make(map[string]bool, len(r.Statistics))
	for _, s := range r.Statistics {
		if err := CheckStatistic(s); err != nil {
			return fmt.Errorf("report %v: %w", r.Lease, err)
		}
		if seen[s.Name] {
			return fmt.Errorf("report %v: statistic %q given twice", r.Lease, s.Name)
		}
		seen[s.Name] = true
	}
	for i := range r.Outputs {
		if err := r.Outputs[i].Check(); err != nil {
			return fmt.Errorf("report %v: %w", r.Lease, err)
		}
	}
	return nil
}

// Check refuses a record that breaks the limits.
func (o *FileRecord) Check() error {
	if o.Name == "" || o.URL == "" || o.Digest.IsZero() || o.Size < 0 || len(o.URL) > MaxURL || len(o.Name) > MaxURL || len(o.Published) > MaxURL {
		return fmt.Errorf("output %.100q: needs a name, a URL of at most %d bytes, a size and a digest", o.Name, MaxURL)
	}
	if o.Type < FilePermanent || o.Type > FileCheckpoint {
		return fmt.Errorf("output %.100q: invalid file type %d", o.Name, o.Type)
	}
	return nil
}

// CheckStatistic refuses a statistic whose name is not made of letters, digits
// and . _ - : / or is longer than MaxName, or whose value is not finite.
func CheckStatistic(s Statistic) error {
	if s.Name == "" || len(s.Name) > MaxName {
		return fmt.Errorf("statistic %.40q: name must have 1 to %d bytes", s.Name, MaxName)
	}
	for i := range len(s.Name) {
		switch c := s.Name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == ':', c == '/':
		default:
			return fmt.Errorf("statistic %q: character %q; use letters, digits and . _ - : /", s.Name, c)
		}
	}
	if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
		return fmt.Errorf("statistic %q: %v is not a finite number", s.Name, s.Value)
	}
	return nil
}

// SignedReport is a report in its envelope: the CBOR of a Report and the
// signature of the attempt's pilot key over it. Any pilot or glidein pass of the
// same site may deliver it, because the signature, not the connection, says whose it is.
type SignedReport struct {
	Body      []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"`
	// Log is the attempt's log, of which the report has the digest, if it has at most
	// MaxReportLog bytes. Longer ones are stored before.
	Log []byte `cbor:"3,keyasint,omitempty"`
}

// Size is about how many bytes it takes in a message.
func (s *SignedReport) Size() int { return len(s.Body) + len(s.Signature) + len(s.Log) }

// signatureContext separates report signatures from anything else the key signs.
const signatureContext = "floe report v1\x00"

// SignReport encodes and signs a report.
func SignReport(r *Report, key ed25519.PrivateKey) (SignedReport, error) {
	body, err := Marshal(r)
	if err != nil {
		return SignedReport{}, fmt.Errorf("sign report %v: %w", r.Lease, err)
	}
	return SignedReport{Body: body, Signature: ed25519.Sign(key, append([]byte(signatureContext), body...))}, nil
}

// Decode reads and checks the report without verifying who signed it.
func (s *SignedReport) Decode() (*Report, error) {
	r := new(Report)
	if err := Unmarshal(s.Body, r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return r, r.Check()
}

// Verify reports whether the envelope was signed with the private half of key.
func (s *SignedReport) Verify(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize &&
		ed25519.Verify(key, append([]byte(signatureContext), s.Body...), s.Signature)
}
