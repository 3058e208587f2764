package arc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
)

// dialect are the verbs of the REST interface in place of tools.
var dialect = batchtest.Dialect{Submit: "new", Status: "list", Remove: "kill"}

// newFake serves the REST interface as ARC 6.17 was seen to, over a fake that keeps
// session directories, and makes it the one that New reaches.
func newFake(t *testing.T, slots int) (*batchtest.Fake, *System) {
	t.Helper()
	f := batchtest.NewFake(t, slots)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(f.Dir, w, r) }))
	t.Cleanup(server.Close)
	certs, token := t.TempDir(), filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(certs, "test.0"), pemOf(server), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("X509_CERT_DIR", certs)
	t.Setenv("X509_USER_PROXY", "")
	t.Setenv("BEARER_TOKEN_FILE", token)
	s, err := New(server.URL + "/arex/")
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

func serve(dir string, w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/arex/rest/1.0/jobs")
	if !ok || r.Header.Get("Authorization") != "Bearer sesame" {
		http.Error(w, "not for you", http.StatusForbidden)
		return
	}
	verb := r.URL.Query().Get("action")
	switch {
	case verb != "":
	case path == "" && r.Header.Get("Accept") == "application/xml":
		verb = "list-xml"
	case path == "":
		verb = "list"
	default:
		verb = strings.ToLower(r.Method)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f := &batchtest.Fake{Dir: dir}
	var fault batchtest.Fault
	status, answer := 0, []byte(nil)
	if err := f.Locked(func() error {
		if f.Tool == verb || f.Tool == "" {
			fault = f.Fault
		}
		switch fault {
		case batchtest.Hangs, batchtest.Garbage, batchtest.Down, batchtest.Empty:
		default:
			status, answer = do(f, verb, path, body)
		}
		return nil
	}); err != nil {
		http.Error(w, err.Error(), 599)
		return
	}
	switch fault {
	case batchtest.Hangs:
		<-r.Context().Done()
		return
	case batchtest.Garbage:
		status, answer = 200, []byte("<html><title>Welcome to the hotel's network</title>\x00{]")
	case batchtest.Empty:
		status = 200
	case batchtest.Down, batchtest.Silent:
		panic(http.ErrAbortHandler)
	case batchtest.Fails:
		status = 500
	case batchtest.Cut:
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		answer = answer[:len(answer)/2]
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

var relation = regexp.MustCompile(`\((\w+)=((?:"(?:[^"]|"")*"|[^()])*|(?:\((?:"(?:[^"]|"")*"|[^()])*\))*)\)`)

func do(f *batchtest.Fake, verb, path string, body []byte) (int, []byte) {
	reply := func(status int, jobs ...map[string]any) (int, []byte) {
		var v any = map[string]any{}
		switch len(jobs) {
		case 0:
		case 1:
			v = map[string]any{"job": jobs[0]} // a single one is no list
		default:
			v = map[string]any{"job": jobs}
		}
		b, _ := json.Marshal(v)
		return status, b
	}
	id := func(j *batchtest.Job) string { return fmt.Sprintf("J%dD", j.Number) }
	switch verb {
	case "list":
		var all []map[string]any
		for _, j := range f.Jobs {
			if j.Asked["cleaned"] == "" {
				all = append(all, map[string]any{"id": id(j)})
				if f.Fault == batchtest.Twice {
					all = append(all, map[string]any{"id": id(j)})
				}
			}
		}
		if len(all) == 0 {
			return 200, nil
		}
		return reply(200, all...)
	case "list-xml": // asked for only to know that there is none
		return 200, []byte("<jobs/>")
	case "new":
		j := batchtest.Job{Asked: map[string]string{}, Reason: "uploads"}
		for _, m := range relation.FindAllStringSubmatch(string(body), -1) {
			v := m[2]
			if !strings.HasPrefix(v, "(") { // not a list
				v = strings.ReplaceAll(strings.Trim(v, `"`), `""`, `"`)
			}
			j.Asked[strings.ToLower(m[1])] = v
		}
		if j.Asked["queue"] == "nope" {
			return reply(201, map[string]any{"status-code": "500", "reason": "Requested queue nope is not allowed for this user"})
		}
		j.Name = j.Asked["jobname"]
		number := f.Submit(j)
		one := f.Find(number, -1)[0]
		one.Dir = filepath.Join(f.Dir, fmt.Sprint("session-", number))
		_ = os.Mkdir(one.Dir, 0o700)
		one.Output = filepath.Join(one.Dir, j.Asked["stdout"])
		one.Script = "exec /bin/sh '" + j.Asked["arguments"] + "'\n"
		return reply(201, map[string]any{"status-code": "201", "reason": "Created", "id": id(one), "state": "ACCEPTING"})
	}
	if rest, ok := strings.CutPrefix(path, "/"); ok {
		name, file, _ := strings.Cut(rest, "/session/")
		for _, j := range f.Jobs {
			if id(j) != name {
				continue
			}
			if verb == "get" {
				b, err := os.ReadFile(filepath.Join(j.Dir, file))
				if err != nil {
					return 404, []byte("no such file")
				}
				return 200, b
			}
			if os.WriteFile(filepath.Join(j.Dir, file), body, 0o600) != nil {
				return 500, nil
			}
			// All that the description names is there: it may start.
			missing := false
			for _, m := range regexp.MustCompile(`\("([^"]+)" ""\)`).FindAllStringSubmatch(j.Asked["inputfiles"], -1) {
				_, err := os.Stat(filepath.Join(j.Dir, m[1]))
				missing = missing || err != nil
			}
			if !missing {
				j.Reason = ""
			}
			return 200, nil
		}
		return 404, nil
	}
	var asked struct {
		Jobs []struct {
			ID string `json:"id"`
		} `json:"job"`
	}
	if json.Unmarshal(body, &asked) != nil {
		return 400, []byte("bad JSON")
	}
	here := map[string]*batchtest.Job{}
	for _, j := range f.Jobs {
		if j.Asked["cleaned"] == "" {
			here[id(j)] = j
		}
	}
	var all []map[string]any
	for _, a := range asked.Jobs {
		answer := map[string]any{"status-code": "404", "reason": "Job not found", "id": a.ID, "state": "None"}
		if j := here[a.ID]; j != nil {
			answer = map[string]any{"status-code": "200", "reason": "OK", "id": a.ID}
			switch verb {
			case "status":
				answer["state"] = map[batchtest.JobState]string{
					batchtest.Queued: "QUEUING", batchtest.Running: "RUNNING", batchtest.Held: "HELD", batchtest.Ended: "FINISHED",
				}[j.State]
			case "info":
				answer["info_document"] = map[string]any{"ComputingActivity": map[string]any{"Name": j.Name}}
			case "kill":
				answer["status-code"], answer["reason"] = "202", "Queued for killing"
				if j.State != batchtest.Ended {
					f.Remove(j)
				}
			case "clean":
				answer["status-code"], answer["reason"] = "202", "Queued for cleaning"
				j.Asked["cleaned"] = "yes"
			}
		}
		all = append(all, answer)
	}
	return reply(201, all...)
}

var _ batch.System = (*System)(nil)
