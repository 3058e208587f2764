package protocol

import "fmt"

// EnrolRequest turns a ticket into a pilot's certificate. It is sent to
// POST /v1/pilots under the server name enrol.<cluster>.
type EnrolRequest struct {
	Ticket string `cbor:"1,keyasint"`
	// CSR is the DER certificate request for the key the pilot made in memory.
	CSR       []byte    `cbor:"2,keyasint"`
	Pilot     PilotID   `cbor:"3,keyasint"`
	Launch    LaunchID  `cbor:"4,keyasint,omitempty"`
	Host      string    `cbor:"5,keyasint"`
	BatchID   string    `cbor:"6,keyasint,omitempty"`
	Resources Resources `cbor:"7,keyasint"`
	Version   string    `cbor:"8,keyasint"`
}

// EnrolReply is the answer: the chain to present from now on.
type EnrolReply struct {
	// Certificate is the chain in PEM, leaf first. NotAfter is inside.
	Certificate []byte   `cbor:"1,keyasint"`
	Site        SiteID   `cbor:"2,keyasint"`
	Cluster     string   `cbor:"3,keyasint"`
	Addresses   []string `cbor:"4,keyasint"`
}

// RenewRequest asks for a new certificate for the key in use
// (POST /v1/pilots/renew, mTLS).
type RenewRequest struct {
	CSR []byte `cbor:"1,keyasint"`
}

// HeldLease is one lease a pilot says it holds.
type HeldLease struct {
	Lease LeaseID `cbor:"1,keyasint"`
	Task  TaskID  `cbor:"2,keyasint"`
	Phase Phase   `cbor:"3,keyasint"`
}

// LogTail is a piece of a running attempt's log.
type LogTail struct {
	Lease LeaseID `cbor:"1,keyasint"`
	// Offset is the position of Data in the whole log.
	Offset int64  `cbor:"2,keyasint"`
	Data   []byte `cbor:"3,keyasint"`
}

// Progress is what the payload of a running attempt says of itself. It is leader
// memory: no word of it enters the record, but for a checkpoint whose pilot falls
// silent.
type Progress struct {
	Lease LeaseID `cbor:"1,keyasint" json:"-"`
	// Fraction is how much is done, from 0 to 1, and Text what the payload says beside
	// it; at most MaxProgressText bytes.
	Fraction float64 `cbor:"2,keyasint,omitempty" json:"fraction"`
	Text     string  `cbor:"3,keyasint,omitempty" json:"text,omitempty"`
	// Statistics are those it told last, at most MaxProgressStatistics.
	Statistics []Statistic `cbor:"4,keyasint,omitempty" json:"statistics,omitempty"`
	// Checkpoint is the last one that is stored. Should the pilot fall silent, the next
	// attempt goes on from there.
	Checkpoint *FileRecord `cbor:"5,keyasint,omitempty" json:"checkpoint,omitempty"`
}

// Check refuses what coordinators would not show.
func (p *Progress) Check() error {
	switch {
	case !(p.Fraction >= 0 && p.Fraction <= 1): // NaN is neither
		return fmt.Errorf("progress of %v: %v is no fraction", p.Lease, p.Fraction)
	case len(p.Text) > MaxProgressText:
		return fmt.Errorf("progress of %v: text of %d bytes, limit %d", p.Lease, len(p.Text), MaxProgressText)
	case len(p.Statistics) > MaxProgressStatistics:
		return fmt.Errorf("progress of %v: %d statistics, limit %d", p.Lease, len(p.Statistics), MaxProgressStatistics)
	}
	for _, s := range p.Statistics {
		if err := CheckStatistic(s); err != nil {
			return fmt.Errorf("progress of %v: %w", p.Lease, err)
		}
	}
	if c := p.Checkpoint; c != nil {
		if err := c.Check(); err != nil || c.Type != FileCheckpoint {
			return fmt.Errorf("progress of %v: no checkpoint: a %v file, %w", p.Lease, c.Type, err)
		}
	}
	return nil
}

// ExchangeRequest is the pilot's one hot verb, POST /v1/pilots/exchange: it
// lists every lease the pilot holds, carries reports and log tails, and says
// what is free.
type ExchangeRequest struct {
	Held    []HeldLease    `cbor:"1,keyasint,omitempty"`
	Reports []SignedReport `cbor:"2,keyasint,omitempty"`
	Logs    []LogTail      `cbor:"3,keyasint,omitempty"`
	Free    Resources      `cbor:"4,keyasint"`
	// Want is how many more tasks the pilot would take; 0 asks for none.
	Want uint16 `cbor:"5,keyasint,omitempty"`
	// Wait is how long the request may park when nothing fits; 0 answers at once.
	Wait Seconds `cbor:"6,keyasint,omitempty"`
	// Sequence rises with every new exchange of this pilot and is repeated with a
	// repeated one.
	Sequence uint64 `cbor:"7,keyasint"`
	// Cached are digests of software and inputs the node holds, at most MaxCached.
	Cached []Digest `cbor:"8,keyasint,omitempty"`
	// Leaving says that the pilot ends after this exchange and holds nothing.
	Leaving bool   `cbor:"9,keyasint,omitempty"`
	Reason  string `cbor:"10,keyasint,omitempty"`
	// Progress is what payloads say of themselves, of those that do; at most MaxHeld.
	Progress []Progress `cbor:"11,keyasint,omitempty"`
	// Cache is what the pilot's cache has done so far; nil says nothing new. Like
	// Progress it is leader memory.
	Cache *CacheFigures `cbor:"12,keyasint,omitempty"`
	// Ahead asks for tasks beyond what is free; nil asks for none.
	Ahead *Ahead `cbor:"13,keyasint,omitempty"`
	// Way says how the pilot reaches coordinators and why not in a better way; nil where
	// it is as the connection looks. It is leader memory, too.
	Way *Way `cbor:"14,keyasint,omitempty"`
	// Obeyed is the newest order of the site that the pilot has taken; see Order.Number.
	Obeyed uint64 `cbor:"15,keyasint,omitempty"`
}

// Ahead asks for tasks that are to begin when others have ended, because those take
// less time than asking for each. They are of one task of a dataset's jobs, of which
// the pilot knows how long it takes. They are granted while no other task comes first,
// and only with an answer to a report or a wish for tasks.
type Ahead struct {
	Dataset DatasetID `cbor:"1,keyasint"`
	Task    TaskIndex `cbor:"2,keyasint"`
	Count   uint16    `cbor:"3,keyasint"`
}

// CacheFigures are what a pilot's cache has done since the pilot began.
type CacheFigures struct {
	Hits        uint64 `cbor:"1,keyasint,omitempty" json:"hits"`
	Misses      uint64 `cbor:"2,keyasint,omitempty" json:"misses"`
	Evicted     uint64 `cbor:"3,keyasint,omitempty" json:"evicted"`
	Quarantined uint64 `cbor:"4,keyasint,omitempty" json:"quarantined"`
	// Saved are bytes that did not have to be fetched at all; the others came from other
	// users' caches on the node, from the site's cache, and from coordinators and origins.
	Saved     ByteSize `cbor:"5,keyasint,omitempty" json:"saved"`
	Neighbour ByteSize `cbor:"6,keyasint,omitempty" json:"from_neighbour"`
	Site      ByteSize `cbor:"7,keyasint,omitempty" json:"from_site"`
	Far       ByteSize `cbor:"8,keyasint,omitempty" json:"from_far"`
}

// maxFigure is what no cache does in the life of a pilot.
const maxFigure = 1 << 50

// each lists the figures.
func (c *CacheFigures) each() [8]uint64 {
	return [...]uint64{c.Hits, c.Misses, c.Evicted, c.Quarantined, uint64(c.Saved), uint64(c.Neighbour), uint64(c.Site), uint64(c.Far)}
}

// Check refuses figures that cannot be.
func (c *CacheFigures) Check() error {
	for _, n := range c.each() {
		if n > maxFigure {
			return fmt.Errorf("a cache's figure of %d, limit %d", n, uint64(maxFigure))
		}
	}
	return nil
}

// Since is what was added to earlier figures; all of it where those were no smaller.
func (c *CacheFigures) Since(earlier *CacheFigures) CacheFigures {
	now, then := c.each(), earlier.each()
	for i := range now {
		if now[i] < then[i] {
			return *c
		}
		now[i] -= then[i]
	}
	return figuresOf(now)
}

// Add adds figures.
func (c *CacheFigures) Add(more *CacheFigures) {
	sum := c.each()
	for i, n := range more.each() {
		sum[i] += n
	}
	*c = figuresOf(sum)
}

func figuresOf(n [8]uint64) CacheFigures {
	return CacheFigures{n[0], n[1], n[2], n[3], ByteSize(n[4]), ByteSize(n[5]), ByteSize(n[6]), ByteSize(n[7])}
}

// Limits of an exchange, enforced before anything is proposed.
// Source: research on hostile pilots; a frame is at most MaxExchangeBytes.
const (
	MaxHeld          = 1024
	MaxReports       = 256
	MaxCached        = 64
	MaxLogTail       = 64 << 10
	MaxExchangeBytes = 1 << 20
	MaxWait          = Seconds(300)

	MaxProgressText       = 200
	MaxProgressStatistics = 16
)

// OrderKind says what a pilot must do.
type OrderKind uint8

// The orders. The numbers are part of the wire.
const (
	OrderAbandon OrderKind = iota + 1 // stop the lease's payload: it is no longer current
	OrderDrain                        // finish what runs, take nothing more
	OrderStop                         // report preempted and leave, now or Within a time
	OrderPause                        // nothing: its site is paused, and it is given nothing
)

var orderKinds = [...]string{"", "abandon", "drain", "stop", "pause"}

func (k OrderKind) String() string { return nameOf(orderKinds[:], int(k), "order") }

// Order is one thing a pilot must do. Lease is zero for orders to the pilot.
type Order struct {
	Kind   OrderKind `cbor:"1,keyasint"`
	Lease  LeaseID   `cbor:"2,keyasint,omitempty"`
	Reason string    `cbor:"3,keyasint,omitempty"`
	// Number is that of an order of the site (SiteOrder), 0 for others. It is given until
	// the pilot says that it has taken it.
	Number uint64 `cbor:"4,keyasint,omitempty"`
	// Within is how long the pilot of an OrderStop may take; 0 is no longer than it must.
	Within Seconds `cbor:"5,keyasint,omitempty"`
}

// ReportAnswer is the fate of one report of the exchange.
type ReportAnswer struct {
	Lease LeaseID `cbor:"1,keyasint"`
	// Code is CodeOK (accepted, or accepted before), CodeStale (another attempt
	// counts; drop it), CodeUnknown (repeat it) or CodeBadRequest (never repeat).
	Code   Code   `cbor:"2,keyasint"`
	Reason string `cbor:"3,keyasint,omitempty"`
}

// ExchangeReply answers an exchange.
type ExchangeReply struct {
	Leases  []Lease        `cbor:"1,keyasint,omitempty"`
	Orders  []Order        `cbor:"2,keyasint,omitempty"`
	Answers []ReportAnswer `cbor:"3,keyasint,omitempty"`
	// Next is when the pilot should speak again at the latest.
	Next Seconds `cbor:"4,keyasint"`
	// Addresses are all coordinators as host:port; Leader is the one that leads.
	Addresses []string `cbor:"5,keyasint,omitempty"`
	Leader    string   `cbor:"6,keyasint,omitempty"`
}

// LaunchRequest is a glidein pass's question, POST /v1/sites/launch: how many
// pilots of which shape are wanted here.
type LaunchRequest struct {
	// Shapes are the pilot jobs the site can submit, most wanted first.
	Shapes []LaunchShape `cbor:"1,keyasint"`
	// Known are the launch leases of pilot jobs the batch system still has.
	Known []KnownLaunch `cbor:"2,keyasint,omitempty"`
	// Reports are reports found in the site's spool.
	Reports []SignedReport `cbor:"3,keyasint,omitempty"`
	// 4 was BatchError of the whole site.
	Version string `cbor:"5,keyasint"`
	// 6 was Ended without reasons.
	// Room bounds what is granted of all shapes together, where the caps of the site
	// are narrower than those of its shapes, and Bound is the cap; 0 is no bound.
	Room  uint32 `cbor:"7,keyasint,omitempty"`
	Bound string `cbor:"8,keyasint,omitempty"`
	// Ended are launch leases whose pilot jobs are gone from the batch system, or
	// were never accepted by it; their demand is free again.
	Ended []EndedLaunch `cbor:"9,keyasint,omitempty"`
	// Policy is the site's own; nil says nothing of it.
	Policy *SitePolicy `cbor:"15,keyasint,omitempty"`
	// Preview asks what would be granted: nothing is, nothing ends, and nobody takes it
	// for a pass.
	Preview bool `cbor:"20,keyasint,omitempty"`
	// Trial asks for one launch lease that no task waits for, and for nothing else: for a
	// pilot job that tries the site and leaves.
	Trial bool `cbor:"21,keyasint,omitempty"`
}

// EndedLaunch is a launch lease that has no pilot job any more.
type EndedLaunch struct {
	Launch LaunchID  `cbor:"1,keyasint" json:"launch"`
	How    LaunchEnd `cbor:"2,keyasint,omitempty" json:"how,omitempty"`
	// Reason is in the words of the batch system or the last ones of the pilot; at most
	// MaxEvidence bytes.
	Reason string `cbor:"3,keyasint,omitempty" json:"reason,omitempty"`
}

// LaunchEnd is how a pilot job ended, as far as a pass can know.
type LaunchEnd uint8

// The ways. A pilot job that ended before its pilot was given a task is held against
// its shape, and so is one that was refused.
const (
	LaunchGone    LaunchEnd = iota // the batch system has it no more
	LaunchRefused                  // the batch system did not take it
	LaunchRemoved                  // the pass, or a person by way of it, removed it
	LaunchUnknown                  // its submission was not answered, and it is not there
)

// TrialShape is the shape of pilot jobs that try a site.
const TrialShape = "trial"

// TrialMark begins the line in which such a pilot says how its node is.
const TrialMark = "floe-pilot: trial: "

// MaxShapes bounds the shapes of one pass.
const MaxShapes = 64

// LaunchShape is one kind of pilot job the site can submit.
type LaunchShape struct {
	Name  string    `cbor:"1,keyasint"`
	Offer Resources `cbor:"2,keyasint"`
	// Room is how many more of these the site's caps allow now, and Bound which cap it is.
	Room  uint32 `cbor:"3,keyasint"`
	Bound string `cbor:"4,keyasint,omitempty"`
	// Running, Queued and Held are how many pilot jobs of the shape there are.
	Running uint32 `cbor:"5,keyasint,omitempty"`
	Queued  uint32 `cbor:"6,keyasint,omitempty"`
	Held    uint32 `cbor:"7,keyasint,omitempty"`
	// BatchError says that the shape's batch system could not be asked; then none is
	// granted. Unknown is not zero.
	BatchError string `cbor:"8,keyasint,omitempty"`
}

// KnownLaunch is a pilot job in the batch system.
type KnownLaunch struct {
	Launch  LaunchID `cbor:"1,keyasint"`
	BatchID string   `cbor:"2,keyasint"`
	Running bool     `cbor:"3,keyasint,omitempty"`
	// Unseen says that its batch system could not be asked whether it is still there.
	Unseen bool `cbor:"4,keyasint,omitempty"`
	// For is how long it has been running, as far as the passes saw.
	For Seconds `cbor:"5,keyasint,omitempty"`
}

// LaunchGrant reserves demand for one pilot job.
type LaunchGrant struct {
	Launch LaunchID `cbor:"1,keyasint"`
	Shape  string   `cbor:"2,keyasint"`
	// Ticket is what the pilot enrols with; it works once and until the launch
	// lease ends.
	Ticket string `cbor:"3,keyasint"`
}

// LaunchReply answers a pass.
type LaunchReply struct {
	Grants []LaunchGrant `cbor:"1,keyasint,omitempty"`
	// Remove are launch leases whose pilot jobs are no longer wanted.
	Remove []LaunchID `cbor:"2,keyasint,omitempty"`
	// Reasons explain, per shape, why that many.
	Reasons   []string       `cbor:"3,keyasint,omitempty"`
	Answers   []ReportAnswer `cbor:"4,keyasint,omitempty"`
	Addresses []string       `cbor:"5,keyasint,omitempty"`
	// Strays run, and their launch lease is not known: their pilot has left, or was of
	// another cluster.
	Strays []LaunchID `cbor:"6,keyasint,omitempty"`
	// Pilot is the published version of the pilot that the site is to launch; empty is
	// what the site has.
	Pilot string `cbor:"7,keyasint,omitempty"`
	// Orders are what the site is told to do.
	Orders []SiteOrder `cbor:"15,keyasint,omitempty"`
	// Now is the coordinators' clock, unix milliseconds, and Version what they run; of a
	// preview and a trial only.
	Now     int64  `cbor:"20,keyasint,omitempty"`
	Version string `cbor:"21,keyasint,omitempty"`
}

// JoinRequest turns a one-use join token into a site's certificate
// (POST /v1/sites, server name enrol.<cluster>).
type JoinRequest struct {
	Secret string `cbor:"1,keyasint"`
	CSR    []byte `cbor:"2,keyasint"`
}

// JoinReply is the answer to a JoinRequest.
type JoinReply struct {
	Certificate []byte   `cbor:"1,keyasint"`
	Site        SiteID   `cbor:"2,keyasint"`
	Cluster     string   `cbor:"3,keyasint"`
	Addresses   []string `cbor:"4,keyasint"`
}
