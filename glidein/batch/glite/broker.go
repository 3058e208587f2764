package glite

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"floe/glidein/batch"
)

// brokerID is a job of a broker: the address of the logging service that knows it.
const brokerID = `https://[A-Za-z0-9.-]+:9000/[0-9A-Za-z_.-]+`

// WMS is the Workload Management System of gLite.
var WMS = broker(&Middleware{
	name:   "glite",
	submit: []string{"glite-wms-job-submit", "--noint", "-a"},
	status: []string{"glite-wms-job-status", "--noint"},
	cancel: []string{"glite-wms-job-cancel", "--noint"},
	fetch:  []string{"glite-wms-job-output", "--noint", "--dir"},
	endpoint: func(endpoint string) ([]string, error) {
		switch {
		case endpoint == "":
			return nil, nil // that of the tools' own configuration
		case strings.HasPrefix(endpoint, "https://"):
			return []string{"-e", endpoint}, nil
		case filepath.IsAbs(endpoint):
			return []string{"-c", endpoint}, nil
		}
		return nil, errors.New("want the broker's URL, https://…, or the path of the tools' configuration; empty for the one they have")
	},
	requirements: func(j *batch.Job) ([]attribute, error) {
		return append(slots(j), attribute{"ShallowRetryCount", "0"}), nil
	},
})

// EDG is the broker of the European DataGrid and of LCG-2.
var EDG = broker(&Middleware{
	name:   "edg",
	submit: []string{"edg-job-submit", "--noint"},
	status: []string{"edg-job-status", "--noint"},
	cancel: []string{"edg-job-cancel", "--noint"},
	fetch:  []string{"edg-job-get-output", "--noint", "--dir"},
	endpoint: func(endpoint string) ([]string, error) {
		switch {
		case endpoint == "":
			return nil, nil // that of the tools' own configuration
		case filepath.IsAbs(endpoint):
			return []string{"-c", endpoint}, nil
		}
		return nil, errors.New("want the path of the tools' configuration; empty for the one they have")
	},
	account: func(account string) []string { return []string{"--vo", account} },
	requirements: func(j *batch.Job) ([]attribute, error) {
		if j.Cores > 1 {
			return nil, fmt.Errorf("%d cores: its jobs have one", j.Cores)
		}
		return nil, nil
	},
})

// broker adds what brokers have in common.
func broker(m *Middleware) *Middleware {
	m.id = regexp.MustCompile("^" + brokerID + "$")
	m.submitted = regexp.MustCompile("^(?:- )?(" + brokerID + ")$")
	m.parse = parseBroker
	m.cancelled = "success"
	m.refusals = []string{"authorization error", "not authorized", "permission denied", "error while parsing", "wrong jdl", "jdl error"}
	m.finished = []string{"cancel not allowed", "not allowed to cancel"}
	m.unknown = []string{"no matching jobs found", "already purged"}
	own := m.requirements
	m.requirements = func(j *batch.Job) ([]attribute, error) {
		all, err := own(j)
		conditions := glue(j)
		if j.Queue != "" {
			conditions = append([]string{"other.GlueCEUniqueID == " + text(j.Queue)}, conditions...)
		}
		if len(conditions) > 0 {
			all = append(all, attribute{"Requirements", strings.Join(conditions, " && ")})
		}
		return append(all, attribute{"RetryCount", "0"}), err
	}
	return m
}

var (
	brokerJob    = regexp.MustCompile(`^Status info for the Job\s*:\s*(\S+)$`)
	brokerField  = regexp.MustCompile(`^(Current Status|Status Reason)\s*:\s*(.*)$`)
	brokerUnable = regexp.MustCompile(`Unable to retrieve the status for:\s*(\S+)`)
)

// parseBroker reads what glite-wms-job-status and edg-job-status print. The first
// that is said of a job counts. What is said of a job that is not named is under the
// empty name.
func parseBroker(out []byte) (map[string]told, error) {
	all := map[string]told{}
	id, open := "", true
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		m := brokerJob.FindStringSubmatch(line)
		if m == nil {
			m = brokerUnable.FindStringSubmatch(line)
		}
		if m != nil {
			_, seen := all[m[1]]
			id, open = m[1], !seen
		}
		if !open {
			continue
		}
		t := all[id]
		if lower := strings.ToLower(line); t.state == 0 && (strings.Contains(lower, "no matching jobs found") || strings.Contains(lower, "already purged")) {
			all[id] = told{batch.Ended, "purged"}
			continue
		}
		f := brokerField.FindStringSubmatch(line)
		switch {
		case f == nil || id == "":
		case f[1] == "Status Reason":
			if t.state != 0 && t.reason == "" {
				t.reason = f[2]
				if t.state == batch.Queued && strings.Contains(f[2], "no compatible resources") {
					t.state = batch.Held
				}
				all[id] = t
			}
		case t.state == 0:
			if t.state, t.reason = brokerState(f[2]); t.state == 0 {
				return nil, fmt.Errorf("job %s has the state %q, which is not known", id, f[2])
			}
			all[id] = t
		}
	}
	return all, nil
}

// brokerState reads a state, in any of its spellings: Done(Success), Done (Success).
// Source: wmsui_api.py of org.glite.wms.
func brokerState(s string) (batch.State, string) {
	switch strings.ToLower(firstWord(s)) {
	case "submitted", "waiting", "ready", "scheduled":
		return batch.Queued, ""
	case "running":
		return batch.Running, ""
	case "undefined", "undef", "unknown":
		return batch.Held, "the broker does not know its state"
	case "done", "cleared", "aborted", "cancelled", "purged":
		return batch.Ended, ""
	}
	return 0, ""
}
