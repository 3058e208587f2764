package state

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"floe/protocol"
)

// launches grants launch leases: NAME, or with count=N NAME1 to NAMEN, of shape= with
// what a pilot has (see resources).
func (s *scenario) launches(site protocol.SiteID, expires RecordTime) Command {
	c := &GrantLaunches{Site: site}
	for _, id := range s.names() {
		c.Launches = append(c.Launches, NewLaunch{
			ID: id, Shape: cmp.Or(s.word("shape"), "any"), Offer: s.resources(), TicketHash: digestOf(string(id)), Expires: expires,
		})
	}
	return c
}

// endLaunches ends launch leases, named as they are granted, with cause=.
func (s *scenario) endLaunches(site protocol.SiteID) Command {
	c := &EndLaunches{Site: site, Launches: s.names(), Reason: s.word("why"), Unused: s.line.HasArg("unused")}
	for i, w := range endWords {
		if w == s.word("cause") {
			c.Cause = EndCause(i)
		}
	}
	return c
}

func (s *scenario) names() (all []protocol.LaunchID) {
	if !s.line.HasArg("count") {
		return []protocol.LaunchID{protocol.LaunchID(s.first())}
	}
	for i := range s.number("count") {
		all = append(all, protocol.LaunchID(fmt.Sprintf("%s%d", s.first(), i+1)))
	}
	return all
}

// shapes prints what is known of the kinds of pilot jobs of a site.
func shapes(m *Machine, site protocol.SiteID) string {
	x, _ := m.Site(site)
	var b strings.Builder
	for i := range x.Shapes {
		s := &x.Shapes[i]
		fmt.Fprintf(&b, "%s: %d of %d unproven, %d more; launched %d, proven %d, died %d, refused %d, in vain %d", s.Name, s.Unproven, s.Allowance, s.Left(m.Time()), s.Launched, s.Proven, s.Died, s.Refused, s.Vain)
		if m.Time() < s.Next {
			fmt.Fprintf(&b, "; next in %d min", (s.Next-m.Time())/Minute)
		}
		if s.Reason != "" {
			fmt.Fprintf(&b, "; %s", s.Reason)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// pressure prints what queued work asks of kinds of pilot jobs. Each line of input is
// one: NAME ROOM CORES GB SECONDS GPUS [TAG...].
func (s *scenario) pressure() string {
	var kinds []Launchable
	for line := range strings.Lines(s.line.Input) {
		words := strings.Fields(line)
		n := make([]int, 5)
		for i := range n {
			n[i], _ = strconv.Atoi(words[i+1])
		}
		k := Launchable{Name: words[0], Room: uint64(n[0]), Offer: protocol.Resources{
			Cores: n[1], Memory: protocol.ByteSize(n[2]) * protocol.GB, Disk: protocol.MaxByteSize, Remaining: protocol.Seconds(n[3]), Tags: words[6:],
		}}
		for i := range n[4] {
			k.Offer.GPUs = append(k.Offer.GPUs, protocol.GPU{ID: fmt.Sprint(i), Memory: 8 * protocol.GB, Tested: true})
		}
		kinds = append(kinds, k)
	}
	room := uint64(1 << 20)
	if s.line.HasArg("room") {
		room = uint64(s.number("room"))
	}
	var b strings.Builder
	for i, p := range s.m.Pressure(protocol.SiteID(s.word("site")), kinds, room) {
		fmt.Fprintf(&b, "%s: fit %d, left %d; coming %d, waiting %d, surplus %d; wanted %d, grant %d", kinds[i].Name, p.Fit, p.Left, p.Coming, p.Waiting, p.Surplus, p.Wanted, p.Grant)
		for lack, n := range p.Lacks {
			if n > 0 {
				fmt.Fprintf(&b, "; %d lack %v", n, Lack(lack))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
