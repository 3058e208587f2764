package batch

import (
	"bytes"
	"regexp"
	"strings"
)

// Submitted finds the id that a tool printed for what it was handed in: the first
// group of form, which is a whole line, in the last line that has it; warnings may
// come before it. An id that was printed is a job, whatever the exit status. Without
// one, the error is ErrTransient if the tool said that all is well, said nothing, or
// said one of what time may mend (passing), and ErrRefused otherwise.
func (a *Answer) Submitted(form *regexp.Regexp, passing ...string) (string, error) {
	id := ""
	for line := range strings.Lines(string(a.Stdout)) {
		if m := form.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			id = m[1]
		}
	}
	switch {
	case id != "":
		return id, nil
	case a.Exit == 0:
		return "", a.Garbled(a.Said())
	case a.Mentions(passing...) || len(bytes.TrimSpace(a.Stderr)) == 0:
		return "", a.Fail(ErrTransient)
	}
	return "", a.Fail(ErrRefused)
}

// Numbered are the ids of jobs that were handed in together: that of the submission
// for one alone, otherwise what member makes of each index.
func Numbered(jobs []Job, id string, member func(index int) JobID) []JobID {
	if len(jobs) == 1 {
		return []JobID{JobID(id)}
	}
	ids := make([]JobID, len(jobs))
	for i := range ids {
		ids[i] = member(i)
	}
	return ids
}
