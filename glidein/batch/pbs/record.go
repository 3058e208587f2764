package pbs

import (
	"regexp"
	"strings"
)

// record is a job as qstat -f has it.
type record struct {
	ID, Name string
	Launch   string // from the list of variables; empty when it has none
	State    string
	Comment  string
	Holds    string // u, o, s: of the user, an operator, the system
	// Queued and Started are times, written out.
	Queued, Started string
}

// attribute is a line of qstat -f, variable what is ours in one of them.
var (
	attribute = regexp.MustCompile(`^ {4}([A-Za-z_.]+) = (.*)$`)
	variable  = regexp.MustCompile(`(?:^|,)` + launchVariable + `=([^,]*)`)
)

// read takes in what qstat -f prints: a line with the job's id, a line for each of
// its attributes, folded where it is long, and an empty line. Variables are printed
// as they are, so a line may be part of somebody's: of what is said twice of a job,
// the first counts.
func read(out []byte) []record {
	var records []record
	var key, value string
	end := func() {
		if key != "" {
			records[len(records)-1].set(key, strings.TrimSpace(value))
		}
		key, value = "", ""
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		if id, ok := strings.CutPrefix(line, "Job Id: "); ok {
			end()
			records = append(records, record{ID: strings.TrimSpace(id)})
			continue
		}
		if m := attribute.FindStringSubmatch(line); m != nil && len(records) > 0 {
			end()
			key, value = m[1], m[2]
			continue
		}
		if rest, ok := strings.CutPrefix(line, "\t"); ok {
			value += rest
		}
	}
	end()
	return records
}

// set takes in an attribute. Torque's name for the start is another.
func (r *record) set(key, value string) {
	var to *string
	switch key {
	case "Job_Name":
		to = &r.Name
	case "job_state":
		to = &r.State
	case "comment":
		to = &r.Comment
	case "Hold_Types":
		to = &r.Holds
	case "qtime":
		to = &r.Queued
	case "stime", "start_time":
		to = &r.Started
	case "Variable_List":
		m := variable.FindStringSubmatch(value)
		if m == nil {
			return
		}
		to, value = &r.Launch, m[1]
	default:
		return
	}
	if *to == "" {
		*to = value
	}
}
