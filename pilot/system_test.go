package pilot

import (
	"strings"
	"testing"

	"floe/protocol"
)

func TestSystemIsWhatTheSiteSays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	says := func(a *Attempt) {
		a.System = systemParameters(map[string]string{"downloads": "/data/in", "slots": "4", "hostname": "a lie"})
	}
	report := b.run(t.Context(), document("test $system(downloads) = /data/in && test $eval($system(slots)+1) = 5 && test $system(hostname) = $(hostname)", ""), says)
	if report.Verdict != protocol.VerdictOK {
		t.Errorf("%v: %s\n%s", report.Verdict, report.Evidence, b.log)
	}
	report = b.run(t.Context(), document("echo $system(download)", ""), says)
	if report.Verdict != protocol.VerdictPayload || !strings.Contains(report.Evidence, `$system(download): this site says nothing of "download"`) ||
		!strings.Contains(report.Evidence, "it says downloads, hostname, remaining_walltime, slots") || !strings.Contains(report.Evidence, `did you mean "downloads"?`) {
		t.Errorf("a name that the site does not say: %v: %s", report.Verdict, report.Evidence)
	}
	// The header's own are what a site need not say.
	report = b.run(t.Context(), "steering: {system: {download: /tmp}}\n"+document("test $system(download) = /tmp", ""), says)
	if report.Verdict != protocol.VerdictOK {
		t.Errorf("with a default: %v: %s\n%s", report.Verdict, report.Evidence, b.log)
	}
}
