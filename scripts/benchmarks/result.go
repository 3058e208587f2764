package main

import "encoding/json"

// result is the figure of a bench and what it is held against.
type result struct {
	bench string

	Value float64
	Unit  string
	// Target is what Value must reach, or stay below where AtMost is set.
	Target float64
	AtMost bool
	// Peer is what the same machine did in the same run without floe's work, or with
	// a program people would use instead, in the same unit; PeerIs names it. Without
	// one the target is what Value is divided by.
	Peer   float64
	PeerIs string
	// Problems are conditions beside the figure that do not hold; one is enough to
	// miss it.
	Problems []string
	// Notes are what else belongs into the record: other figures of the same run,
	// and how they came about.
	Notes []string
}

func (r *result) pass() bool {
	reached := r.Value >= r.Target
	if r.AtMost {
		reached = r.Value <= r.Target
	}
	return reached && len(r.Problems) == 0
}

// peer is what the ratio compares with.
func (r *result) peer() float64 {
	if r.PeerIs == "" {
		return r.Target
	}
	return r.Peer
}

func (r *result) ratio() float64 {
	if p := r.peer(); p != 0 {
		return r.Value / p
	}
	return 0
}

// line is the result for programs.
func (r *result) line() ([]byte, error) {
	return json.Marshal(struct {
		Bench       string  `json:"bench"`
		Value       float64 `json:"value"`
		Unit        string  `json:"unit"`
		LimitOrPeer float64 `json:"limit_or_peer"`
		Ratio       float64 `json:"ratio"`
		Target      float64 `json:"target"`
		Pass        bool    `json:"pass"`
	}{r.bench, rounded(r.Value), r.Unit, rounded(r.peer()), rounded(r.ratio()), r.Target, r.pass()})
}
