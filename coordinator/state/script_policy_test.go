package state

import (
	"strconv"
	"strings"

	"floe/protocol"
)

// policy reads the policy of a line: policy SITE allow-users=ann,bob ban-groups=fire
// own=ice share=60 cores=4 gpus=1 scratch=10 and what opening takes.
func (s *scenario) policy(by Action) Command {
	p := protocol.SitePolicy{
		Allow: s.who("allow"), Ban: s.who("ban"), Own: words[protocol.GroupID](s, "own"), Share: int(s.number("share")),
		Caps: protocol.SiteCaps{Cores: int(s.number("cores")), GPUs: int(s.number("gpus")), Scratch: protocol.ByteSize(s.number("scratch")) * protocol.GB},
	}
	return &PutSitePolicy{By: by, Site: protocol.SiteID(s.first()), Policy: p, Opening: s.opening()}
}

func (s *scenario) who(kind string) (w protocol.SiteWho) {
	w.Users, w.Groups = words[protocol.UserID](s, kind+"-users"), words[protocol.GroupID](s, kind+"-groups")
	for _, d := range words[string](s, kind+"-datasets") {
		n, err := strconv.ParseUint(d, 10, 32)
		if err != nil {
			s.t.Fatalf("%s: %v", s.line.Pos, err)
		}
		w.Datasets = append(w.Datasets, protocol.DatasetID(n))
	}
	return w
}

// opening reads closed=WHY, down, and, in seconds from now, ends=N and next-down=N.
func (s *scenario) opening() Opening {
	o := Opening{Closed: s.word("closed"), Down: s.line.HasArg("down")}
	for name, t := range map[string]*RecordTime{"ends": &o.Ends, "next-down": &o.NextDown} {
		if n := s.number(name); n > 0 {
			*t = s.m.Time() + RecordTime(n)*Second
		}
	}
	return o
}

// order reads order SITE pause|resume|drain|reclaim|stop [own] [within=SECONDS].
func (s *scenario) order(by Action) Command {
	c := &OrderSite{By: by, Site: protocol.SiteID(s.first()), Own: s.line.HasArg("own"), Within: protocol.Seconds(s.number("within"))}
	if err := c.Order.UnmarshalText([]byte(s.line.CmdArgs[1].Key)); err != nil {
		s.t.Fatalf("%s: %v", s.line.Pos, err)
	}
	return c
}

// words reads a list of words without commas in them.
func words[T ~string](s *scenario, name string) (all []T) {
	for _, w := range strings.Split(s.word(name), "+") {
		if w != "" {
			all = append(all, T(w))
		}
	}
	return all
}
