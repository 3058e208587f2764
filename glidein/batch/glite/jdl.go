package glite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"floe/glidein/batch"
)

// attribute is one of a job description: a name and an expression of JDL.
type attribute struct{ name, value string }

// text writes a string of JDL.
func text(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// list writes a list of strings.
func list(all []string) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = text(s)
	}
	return "{" + strings.Join(words, ", ") + "}"
}

// startFile is what the job runs: sandboxes do not keep modes.
const startFile = "start.sh"

// WriteSubmitFile implements batch.System: a job description in JDL.
func (s *System) WriteSubmitFile(jobs []batch.Job) (string, error) {
	j := &jobs[0]
	start := "#!/bin/sh\n"
	sandbox := []string{filepath.Join(j.Directory, startFile), j.Script}
	for _, name := range j.Files {
		start += "chmod 600 " + batch.Quote("./"+name) + " || exit 1\n"
		sandbox = append(sandbox, filepath.Join(j.Directory, name))
	}
	start += "exec /bin/sh " + batch.Quote("./"+filepath.Base(j.Script)) + "\n"
	if err := os.WriteFile(sandbox[0], []byte(start), 0o700); err != nil {
		return "", fmt.Errorf("write submit file: %w", err)
	}
	all := []attribute{
		{"Type", text("Job")},
		{"JobType", text("Normal")},
		{"Executable", text("/bin/sh")},
		{"Arguments", text(startFile)},
		{"StdOutput", text(batch.Output)},
		{"StdError", text(batch.Output)},
		{"InputSandbox", list(sandbox)},
		{"OutputSandbox", list([]string{batch.Output})},
	}
	if j.Account != "" {
		all = append(all, attribute{"VirtualOrganisation", text(j.Account)})
	}
	own, err := s.requirements(j)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.name, err)
	}
	var b bytes.Buffer
	b.WriteString("[\n")
	for _, a := range append(all, own...) {
		if !sets(j.Directives, a.name) {
			fmt.Fprintf(&b, "  %s = %s;\n", a.name, a.value)
		}
	}
	for _, d := range j.Directives {
		fmt.Fprintf(&b, "  %s;\n", strings.TrimSuffix(strings.TrimSpace(d), ";"))
	}
	b.WriteString("]\n")
	return batch.SaveSubmitFile(jobs, "submit.jdl", b.Bytes())
}

// sets tells whether a site's directives have an attribute already, whose names are
// the same in capitals.
func sets(directives []string, name string) bool {
	for _, d := range directives {
		if own, _, ok := strings.Cut(d, "="); ok && strings.EqualFold(strings.TrimSpace(own), name) {
			return true
		}
	}
	return false
}

// glue are conditions on what elements publish of themselves: the memory of a node in
// MB, the longest walltime of a queue in minutes.
func glue(j *batch.Job) (conditions []string) {
	if j.Memory > 0 {
		conditions = append(conditions, fmt.Sprintf("other.GlueHostMainMemoryRAMSize >= %d", (int64(j.Memory)+999_999)/1_000_000))
	}
	if j.Walltime > 0 {
		conditions = append(conditions, fmt.Sprintf("other.GlueCEPolicyMaxWallClockTime >= %d", int64((j.Walltime+time.Minute-1)/time.Minute)))
	}
	return conditions
}

// slots are the attributes for several cores of one node.
func slots(j *batch.Job) []attribute {
	if j.Cores < 2 {
		return nil
	}
	n := fmt.Sprint(j.Cores)
	return []attribute{{"CPUNumber", n}, {"SMPGranularity", n}, {"WholeNodes", "false"}}
}
