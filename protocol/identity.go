package protocol

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// DatasetID is a dataset's number: small, rising, never reused, not even after
// a restore. Zero names no dataset.
type DatasetID uint32

// JobIndex counts the jobs of a dataset from 0.
type JobIndex uint32

// TaskIndex counts the tasks of a job (the vertices of its DAG) from 0, in the
// order of the steering file, except that parents come before their children.
type TaskIndex uint16

// MaxJobs is the largest number of jobs a dataset may have. Bitmaps over job
// indexes hold 32-bit values; the limit leaves room for one-past-the-end.
const MaxJobs = 1 << 31

// MaxTasks is the largest number of tasks a job may have.
const MaxTasks = 1 << 12

// TaskID names one task of one job of one dataset.
type TaskID struct {
	Dataset DatasetID `cbor:"1,keyasint" json:"dataset"`
	Job     JobIndex  `cbor:"2,keyasint" json:"job"`
	Task    TaskIndex `cbor:"3,keyasint" json:"task"`
}

// String writes a task as dataset.job.task, the form ParseTaskID reads.
func (t TaskID) String() string {
	return fmt.Sprintf("%d.%d.%d", t.Dataset, t.Job, t.Task)
}

// Compare orders tasks by dataset, job, task.
func (t TaskID) Compare(u TaskID) int {
	switch {
	case t.Dataset != u.Dataset:
		return order(t.Dataset, u.Dataset)
	case t.Job != u.Job:
		return order(t.Job, u.Job)
	default:
		return order(t.Task, u.Task)
	}
}

func order[T ~uint16 | ~uint32 | ~uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// ParseTaskID reads dataset.job.task.
func ParseTaskID(s string) (TaskID, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return TaskID{}, fmt.Errorf("task %q: want dataset.job.task, such as 12.7.0", s)
	}
	d, err1 := strconv.ParseUint(parts[0], 10, 32)
	j, err2 := strconv.ParseUint(parts[1], 10, 32)
	t, err3 := strconv.ParseUint(parts[2], 10, 16)
	if err1 != nil || err2 != nil || err3 != nil || d == 0 {
		return TaskID{}, fmt.Errorf("task %q: want dataset.job.task, such as 12.7.0", s)
	}
	return TaskID{DatasetID(d), JobIndex(j), TaskIndex(t)}, nil
}

// LeaseID names one lease, and so one attempt: the log index of the entry that
// granted it and its ordinal in that entry. LeaseIDs are unique and rising; the
// zero value names no lease.
type LeaseID struct {
	Index   uint64 `cbor:"1,keyasint" json:"index"`
	Ordinal uint32 `cbor:"2,keyasint" json:"ordinal"`
}

// IsZero reports whether the id names no lease.
func (l LeaseID) IsZero() bool { return l == LeaseID{} }

// String writes a lease as index-ordinal in hexadecimal, such as 7f3a-2.
func (l LeaseID) String() string {
	return strconv.FormatUint(l.Index, 16) + "-" + strconv.FormatUint(uint64(l.Ordinal), 16)
}

// Compare orders leases by age, older first.
func (l LeaseID) Compare(m LeaseID) int {
	if l.Index != m.Index {
		return order(l.Index, m.Index)
	}
	return order(l.Ordinal, m.Ordinal)
}

// Bytes returns the id as 12 big-endian bytes, which sort by age.
func (l LeaseID) Bytes() [12]byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:8], l.Index)
	binary.BigEndian.PutUint32(b[8:], l.Ordinal)
	return b
}

// MarshalText writes String's form, for JSON and file names.
func (l LeaseID) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads String's form.
func (l *LeaseID) UnmarshalText(b []byte) error {
	id, err := ParseLeaseID(string(b))
	if err == nil {
		*l = id
	}
	return err
}

// ParseLeaseID reads the form that String writes.
func ParseLeaseID(s string) (LeaseID, error) {
	index, ordinal, ok := strings.Cut(s, "-")
	i, err1 := strconv.ParseUint(index, 16, 64)
	o, err2 := strconv.ParseUint(ordinal, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return LeaseID{}, fmt.Errorf("lease %q: want index-ordinal in hexadecimal, such as 7f3a-2", s)
	}
	return LeaseID{i, uint32(o)}, nil
}

// PilotID names one pilot process: p- and 16 characters of base32, drawn by the
// pilot when it starts.
type PilotID string

// SiteID is the name a site joined under: a lower-case word.
type SiteID string

// Share is where a site stands among the hundred parts that sites are divided into: 0
// to 99, the same for ever. What goes to N percent of the sites goes to those below N.
func (s SiteID) Share() uint8 {
	d := DigestOf([]byte(s))
	return uint8(binary.BigEndian.Uint64(d[:8]) % 100)
}

// UserID is the login name of a person.
type UserID string

// GroupID is the name of a group that owns datasets and shares.
type GroupID string

// NodeID names a coordinator: the Raft server id.
type NodeID string

// LaunchID names one launch lease: the reservation of demand under which a
// glidein pass submits one pilot job.
type LaunchID string

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewPilotID draws a fresh pilot identity from the system's randomness.
func NewPilotID() PilotID { return PilotID("p-" + RandomText(10)) }

// RandomText returns n random bytes written in lower-case base32.
func RandomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // documented never to fail
	return base32Lower.EncodeToString(b)
}

// MaxName is the longest name of a site, user, group, task or statistic, in bytes.
const MaxName = 128

// CheckName refuses a name that is empty, longer than MaxName, or holds anything
// but letters, digits and . _ - (sites, users, groups and tags are shown in
// terminals and used in file names).
func CheckName(what, s string) error {
	if s == "" {
		return fmt.Errorf("%s: empty name", what)
	}
	if len(s) > MaxName {
		return fmt.Errorf("%s %.20q…: longer than %d bytes", what, s, MaxName)
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' && i > 0 {
			continue
		}
		return fmt.Errorf("%s %q: character %q at position %d; use letters, digits, '.', '_' and '-'", what, s, c, i+1)
	}
	return nil
}
