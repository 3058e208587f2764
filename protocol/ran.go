package protocol

import "strings"

// Ran is one attempt that ran on a node, or runs there.
type Ran struct {
	Site    SiteID  `json:"site"`
	Host    string  `json:"host"`
	Pilot   PilotID `json:"pilot"`
	BatchID string  `json:"batch_id,omitempty"`
	Lease   string  `json:"lease"`
	Task    TaskID  `json:"task"`
	Name    string  `json:"name" doc:"of the task"`
	Number  uint32  `json:"attempt"`
	User    UserID  `json:"user"`
	Group   GroupID `json:"group,omitempty"`
	Begin   int64   `json:"begin" doc:"unix milliseconds, by the coordinators' clocks"`
	End     int64   `json:"end,omitempty" doc:"unix milliseconds; absent: it runs"`
	Verdict string  `json:"verdict,omitempty"`
}

// RanPage is a page of what ran on a node: GET /v1/attempts. It may be short and not be
// the last.
type RanPage struct {
	Attempts []Ran  `json:"attempts"`
	Next     string `json:"next,omitempty"`
}

// SameHost tells whether a name that a person gives is that of a host. Both may be
// with or without a domain.
func SameHost(asked, host string) bool {
	short, _, long := strings.Cut(host, ".")
	return asked == "" || asked == host || long && asked == short || strings.HasPrefix(asked, host+".")
}
