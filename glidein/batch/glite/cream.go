package glite

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"floe/glidein/batch"
)

// CREAM is a compute element that is spoken to directly.
var CREAM = &Middleware{
	name:      "cream",
	submit:    []string{"glite-ce-job-submit", "-n", "-N", "-a"},
	status:    []string{"glite-ce-job-status", "-n"},
	cancel:    []string{"glite-ce-job-cancel", "-n", "-N"},
	fetch:     []string{"glite-ce-job-output", "--noint", "--dir"},
	purge:     []string{"glite-ce-job-purge", "--noint"},
	id:        regexp.MustCompile(`^https://[A-Za-z0-9.-]+:[0-9]+/CREAM[0-9]+$`),
	submitted: regexp.MustCompile(`^(https://[A-Za-z0-9.-]+:[0-9]+/CREAM[0-9]+)$`),
	parse:     parseCREAM,
	endpoint: func(endpoint string) ([]string, error) {
		if !creamEndpoint.MatchString(endpoint) {
			return nil, errors.New("want a CREAM element, such as ce.example.org:8443/cream-pbs-long")
		}
		return []string{"-r", endpoint}, nil
	},
	refusals: []string{"authorization error", "not authorized", "error while parsing", "jdl"},
	unknown:  []string{"not found", "does not exist"},
	requirements: func(j *batch.Job) ([]attribute, error) {
		// Where the output stays until it is fetched.
		all := append(slots(j), attribute{"OutputSandboxBaseDestUri", text("gsiftp://localhost")})
		if conditions := glue(j); len(conditions) > 0 {
			all = append(all, attribute{"CeRequirements", text(strings.Join(conditions, " && "))})
		}
		return all, nil
	},
}

var (
	creamEndpoint = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+/cream-[A-Za-z0-9._-]+$`)
	creamJob      = regexp.MustCompile(`^\*+\s+JobID=\[(\S*)\]$`)
	creamField    = regexp.MustCompile(`^(?:Current )?(Status|FailureReason|Description)\s*=\s*\[(.*)\]$`)
)

// creamFault begins what is said of a job that cannot be asked about.
const creamFault = "For this job CREAM has returned a fault:"

// parseCREAM reads what glite-ce-job-status prints, of level 0 to 2. The first that is
// said of a job counts.
func parseCREAM(out []byte) (map[string]told, error) {
	all := map[string]told{}
	id, open := "", false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if m := creamJob.FindStringSubmatch(line); m != nil {
			_, seen := all[m[1]]
			id, open = m[1], !seen && m[1] != ""
			continue
		}
		if !open {
			continue
		}
		t := all[id]
		if fault, ok := strings.CutPrefix(line, creamFault); ok {
			t.reason = "CREAM has returned a fault: " + strings.TrimSpace(fault)
			if lower := strings.ToLower(fault); strings.Contains(lower, "not found") || strings.Contains(lower, "does not exist") {
				t.state = batch.Ended
			}
			all[id] = t
			continue
		}
		m := creamField.FindStringSubmatch(line)
		switch {
		case m == nil:
		case m[1] != "Status":
			if t.state != 0 {
				t.reason = m[2]
				all[id] = t
			}
		case t.state == 0:
			if t.state, t.reason = creamState(m[2]); t.state == 0 {
				return nil, fmt.Errorf("job %s has the state %q, which is not known", id, m[2])
			}
			all[id] = t
		}
	}
	return all, nil
}

// creamState reads a state. Source: job_statuses.cpp of CREAM's client library.
func creamState(s string) (batch.State, string) {
	switch s {
	case "REGISTERED", "PENDING", "IDLE":
		return batch.Queued, ""
	case "RUNNING", "REALLY-RUNNING":
		return batch.Running, ""
	case "HELD":
		return batch.Held, ""
	case "UNKNOWN", "NA", "N/A":
		return batch.Held, "CREAM does not know its state"
	case "DONE-OK", "DONE-FAILED", "ABORTED", "CANCELLED", "PURGED":
		return batch.Ended, ""
	}
	return 0, ""
}
