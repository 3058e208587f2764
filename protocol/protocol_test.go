package protocol_test

import (
	"crypto/ed25519"
	"fmt"
	"math"
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestIdentitiesRoundTrip(t *testing.T) {
	task := protocol.TaskID{Dataset: 12, Job: 4294967295, Task: 7}
	if got, err := protocol.ParseTaskID(task.String()); err != nil || got != task {
		t.Errorf("ParseTaskID(%q) = %v, %v; want %v", task.String(), got, err, task)
	}
	lease := protocol.LeaseID{Index: 0x7f3a, Ordinal: 2}
	if got, err := protocol.ParseLeaseID("7f3a-2"); err != nil || got != lease {
		t.Errorf("ParseLeaseID(7f3a-2) = %v, %v; want %v", got, err, lease)
	}
	for _, bad := range []string{"", "1.2", "0.1.1", "1.2.70000", "1.x.2", "1.2.3.4"} {
		if _, err := protocol.ParseTaskID(bad); err == nil {
			t.Errorf("ParseTaskID(%q) accepted", bad)
		}
	}
	for _, bad := range []string{"", "7f3a", "zz-1", "1-100000000"} {
		if _, err := protocol.ParseLeaseID(bad); err == nil {
			t.Errorf("ParseLeaseID(%q) accepted", bad)
		}
	}
}

func TestLeasesSortByAge(t *testing.T) {
	old, young := protocol.LeaseID{Index: 9, Ordinal: 300}, protocol.LeaseID{Index: 10}
	if old.Compare(young) >= 0 || young.Compare(old) <= 0 || old.Compare(old) != 0 {
		t.Errorf("Compare does not order %v before %v", old, young)
	}
	a, b := old.Bytes(), young.Bytes()
	if string(a[:]) >= string(b[:]) {
		t.Errorf("Bytes of %v do not sort before those of %v", old, young)
	}
}

func TestDigestForms(t *testing.T) {
	d := protocol.DigestOf([]byte("ice"))
	for _, text := range []string{d.String(), d.Hex()} {
		if got, err := protocol.ParseDigest(text); err != nil || got != d {
			t.Errorf("ParseDigest(%q) = %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "sha256:", "md5:00", d.Hex()[1:], strings.Repeat("z", 64)} {
		if _, err := protocol.ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) accepted", bad)
		}
	}
	for _, v := range []protocol.Digest{d, {}} {
		b, err := protocol.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back protocol.Digest
		if err := protocol.Unmarshal(b, &back); err != nil || back != v {
			t.Errorf("CBOR of %v came back as %v, %v", v, back, err)
		}
	}
}

func TestDecodingIsStrict(t *testing.T) {
	whole, err := protocol.Marshal(protocol.HeldLease{Lease: protocol.LeaseID{Index: 1}, Phase: protocol.PhaseRunning})
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := protocol.Marshal(map[int]any{3: 1, 99: "new"})
	if err != nil {
		t.Fatal(err)
	}
	var held protocol.HeldLease
	for name, b := range map[string][]byte{
		"trailing byte": append(whole[:len(whole):len(whole)], 0),
		"unknown key":   unknown,
		"duplicate key": {0xa2, 0x03, 0x01, 0x03, 0x02},
		"indefinite":    {0xbf, 0x03, 0x01, 0xff},
		"cut":           whole[:len(whole)-1],
	} {
		if err := protocol.Unmarshal(b, &held); err == nil {
			t.Errorf("Unmarshal accepted a message with a %s", name)
		}
	}
	if err := protocol.UnmarshalReply(unknown, &held); err != nil || held.Phase != 1 {
		t.Errorf("UnmarshalReply of a newer message = %v, phase %d; want the known field", err, held.Phase)
	}
}

func TestReadMessageNamesTheLimit(t *testing.T) {
	var held protocol.HeldLease
	err := protocol.ReadMessage(strings.NewReader(strings.Repeat("x", 11)), 11, 10, &held)
	if protocol.CodeOf(err) != protocol.CodeTooLarge {
		t.Errorf("11 bytes under a limit of 10: %v, want too-large", err)
	}
	if err := protocol.ReadMessage(strings.NewReader("x"), -1, 10, &held); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("garbage: %v, want bad-request", err)
	}
}

func TestSignedReport(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	report := &protocol.Report{
		Lease: protocol.LeaseID{Index: 5, Ordinal: 1}, Task: protocol.TaskID{Dataset: 1}, Pilot: "p-x",
		Verdict: protocol.VerdictOK, Statistics: []protocol.Statistic{{Name: "events", Value: 12.5}},
	}
	signed, err := protocol.SignReport(report, private)
	if err != nil {
		t.Fatal(err)
	}
	if !signed.Verify(public) {
		t.Error("own signature does not verify")
	}
	back, err := signed.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(report, back); d != "" {
		t.Errorf("report changed on the way (-sent +got):\n%s", d)
	}
	signed.Body[3] ^= 1
	if signed.Verify(public) {
		t.Error("a changed body verifies")
	}
	if signed.Verify(nil) {
		t.Error("an empty key verifies")
	}
}

func TestReportLimits(t *testing.T) {
	good := func() *protocol.Report {
		return &protocol.Report{Lease: protocol.LeaseID{Index: 5}, Verdict: protocol.VerdictOK}
	}
	if err := good().Check(); err != nil {
		t.Fatalf("a plain report: %v", err)
	}
	stat := func(name string, v float64) func(*protocol.Report) {
		return func(r *protocol.Report) {
			r.Statistics = append(r.Statistics, protocol.Statistic{Name: name, Value: v})
		}
	}
	for name, spoil := range map[string]func(*protocol.Report){
		"no lease":       func(r *protocol.Report) { r.Lease = protocol.LeaseID{} },
		"lost":           func(r *protocol.Report) { r.Verdict = protocol.VerdictLost },
		"withdrawn":      func(r *protocol.Report) { r.Verdict = protocol.VerdictWithdrawn },
		"NaN":            stat("x", math.NaN()),
		"infinite":       stat("x", math.Inf(-1)),
		"empty name":     stat("", 1),
		"escape in name": stat("a\x1b[31m", 1),
		"same name":      func(r *protocol.Report) { stat("x", 1)(r); stat("x", 2)(r) },
		"output without digest": func(r *protocol.Report) {
			r.Outputs = []protocol.FileRecord{{Type: protocol.FileJobTemp, Name: "a", URL: "file:///a"}}
		},
		"long evidence": func(r *protocol.Report) { r.Evidence = strings.Repeat("e", protocol.MaxEvidence+1) },
	} {
		r := good()
		spoil(r)
		if err := r.Check(); err == nil {
			t.Errorf("Check accepted a report with %s", name)
		}
	}
}

func TestParseJobs(t *testing.T) {
	for _, c := range []struct {
		in   string
		jobs uint32
		want []protocol.JobRange
	}{
		{"", 10, []protocol.JobRange{{0, 9}}},
		{"all", 3, []protocol.JobRange{{0, 2}}},
		{"7", 10, []protocol.JobRange{{7, 7}}},
		{"5-6, 0-3,4", 10, []protocol.JobRange{{0, 6}}},
		{"8-,0", 10, []protocol.JobRange{{0, 0}, {8, 9}}},
		{"", 0, nil},
	} {
		got, err := protocol.ParseJobs(c.in, c.jobs)
		if err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("ParseJobs(%q, %d) = %v, %v; want %v", c.in, c.jobs, got, err, c.want)
		}
	}
	for _, bad := range []string{"x", "3-1", "10", "1,,2", "-", "1-99"} {
		if got, err := protocol.ParseJobs(bad, 10); err == nil {
			t.Errorf("ParseJobs(%q, 10) = %v, want an error", bad, got)
		}
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	key := protocol.Passkey("hunter2")
	for _, s := range []string{key.String(), key.GoString(), key.LogValue().String()} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("passkey printed as %q", s)
		}
	}
	if !key.Matches("hunter2") || key.Matches("hunter3") || protocol.Passkey("").Matches("") {
		t.Error("Matches is wrong")
	}
}

// TestEnumWords holds the words and numbers of every enum: they are part of the
// record and of the wire, and may only be appended to.
func TestEnumWords(t *testing.T) {
	var got []string
	for _, s := range protocol.TaskStates {
		got = append(got, s.String())
	}
	for _, s := range protocol.JobStates {
		got = append(got, s.String())
	}
	for _, v := range protocol.Verdicts {
		got = append(got, v.String())
	}
	want := strings.Fields(`waiting queued processing copied ok error suspended
		queued processing ok error suspended
		ok payload memory walltime disk node site data software preempted lost framework withdrawn`)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("enum words changed (-want +got):\n%s", d)
	}
	var s protocol.TaskState
	if err := s.UnmarshalText([]byte("qeued")); err == nil || !strings.Contains(err.Error(), "queued") {
		t.Errorf("a misspelt state: %v, want an error that lists the words", err)
	}
}

func FuzzReport(f *testing.F) {
	seed, err := protocol.Marshal(&protocol.Report{Lease: protocol.LeaseID{Index: 5}, Verdict: protocol.VerdictOK})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		signed := protocol.SignedReport{Body: b}
		r, err := signed.Decode()
		if err != nil {
			return
		}
		again, err := protocol.Marshal(r)
		if err != nil {
			t.Fatalf("a decoded report does not encode: %v", err)
		}
		if _, err := (&protocol.SignedReport{Body: again}).Decode(); err != nil {
			t.Fatalf("an encoded report does not decode: %v", err)
		}
	})
}

func FuzzExchange(f *testing.F) {
	seed, err := protocol.Marshal(&protocol.ExchangeRequest{Want: 1, Held: []protocol.HeldLease{{Phase: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var request protocol.ExchangeRequest
		if protocol.Unmarshal(b, &request) == nil {
			if _, err := protocol.Marshal(request); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Where a site stands never changes: a release that goes to some sites goes to the
// same ones on every coordinator, and after every restart.
func TestShareOfSites(t *testing.T) {
	for site, want := range map[protocol.SiteID]uint8{"dale": 17, "mill": 49, "pond": 83} {
		if got := site.Share(); got != want {
			t.Errorf("Share of %s = %d, want %d", site, got, want)
		}
	}
	below := 0
	for i := range 10000 {
		if protocol.SiteID(fmt.Sprint("site-", i)).Share() < 25 {
			below++
		}
	}
	if below < 2300 || below > 2700 {
		t.Errorf("%d of 10000 sites are below 25, want about 2500", below)
	}
}
