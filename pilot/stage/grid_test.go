package stage_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/pilot/stage"
	"floe/protocol"
)

// gridFTP starts a GridFTP server with an authority of its own, and returns the URL
// of its directory and that directory. The environment has a credential for it.
func gridFTP(t *testing.T) (address, dir string) {
	t.Helper()
	for _, program := range []string{"globus-gridftp-server", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine", program)
		}
	}
	base := t.TempDir()
	dir = filepath.Join(base, "data")
	authorities := filepath.Join(base, "authorities")
	path := func(name string) string { return filepath.Join(base, name) }
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("openssl", args...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(authorities, 0o755)); err != nil {
		t.Fatal(err)
	}
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path("ca.key"), "-out", path("ca.pem"), "-days", "2", "-subj", "/O=Floe/CN=Test CA")
	hash := filepath.Join(authorities, run("x509", "-hash", "-noout", "-in", path("ca.pem")))
	write(hash+".0", read("ca.pem"), 0o644)
	write(hash+".signing_policy", "access_id_CA X509 '/O=Floe/CN=Test CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/O=Floe/*\"'\n", 0o644)
	write(path("names"), "subjectAltName=DNS:localhost\n", 0o600)
	for _, name := range []string{"localhost", "ada"} {
		run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", path(name+".key"), "-out", path(name+".csr"), "-subj", "/O=Floe/CN="+name)
		run("x509", "-req", "-in", path(name+".csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial", "-out", path(name+".pem"), "-days", "2", "-extfile", path("names"))
		if err := os.Chmod(path(name+".key"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	write(path("proxy"), read("ada.pem")+read("ada.key"), 0o600)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	write(path("gridmap"), fmt.Sprintf("\"/O=Floe/CN=ada\" %s\n", me.Username), 0o600)
	port := freePort(t)
	server := exec.Command("globus-gridftp-server", "-allow-root", "-no-detach", "-p", port, "-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1", "-logfile", path("log"))
	server.Dir = base
	server.Env = append(os.Environ(), "X509_CERT_DIR="+authorities, "GRIDMAP="+path("gridmap"), "X509_USER_CERT="+path("localhost.pem"), "X509_USER_KEY="+path("localhost.key"))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			_ = c.Close()
			break
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the GridFTP server does not answer")
		}
	}
	t.Setenv("X509_CERT_DIR", authorities)
	t.Setenv("X509_USER_PROXY", path("proxy"))
	t.Setenv("GLOBUS_HOSTNAME", "localhost")
	return "gsiftp://localhost:" + port + dir, dir
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// onlyPrograms leaves these programs on PATH.
func onlyPrograms(t *testing.T, names ...string) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range names {
		full, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("no %s on this machine", name)
		}
		if err := os.Symlink(full, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
}

func TestGridFTP(t *testing.T) {
	for client, programs := range map[string][]string{
		"gfal": {"gfal-copy", "gfal-rename", "gfal-rm"}, "globus": {"globus-url-copy"},
	} {
		t.Run(client, func(t *testing.T) {
			address, dir := gridFTP(t)
			onlyPrograms(t, programs...)
			m := newMover()
			m.Temp = t.TempDir()
			work := t.TempDir()
			write(t, work, "out", "result")
			lease := protocol.LeaseID{Index: 7}
			record, err := m.Store(t.Context(), stage.Output{Name: "o", Local: "out", URL: address + "/new/folder/o"}, work, lease)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // publishing twice is no error
				if err := m.Publish(t.Context(), record); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(filepath.Join(dir, "new/folder/o")); err != nil || string(got) != "result" {
				t.Errorf("published: %q, %v", got, err)
			}
			in := stage.Input{URL: address + "/new/folder/o", Local: "in", Checksum: record.Digest.String()}
			if _, err := m.Fetch(t.Context(), in, work); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(filepath.Join(work, "in")); err != nil || string(got) != "result" {
				t.Errorf("fetched: %q, %v", got, err)
			}
			in.URL = address + "/none"
			if _, err := m.Fetch(t.Context(), in, work); !errors.Is(err, stage.ErrInput) {
				t.Errorf("a file that is not there: %v, want ErrInput", err)
			}
			gone := protocol.FileRecord{URL: address + "/new/folder/o"}
			if err := m.Discard(t.Context(), []protocol.FileRecord{gone}); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(filepath.Join(dir, "new/folder/o")); err == nil && info.Size() > 0 {
				t.Error("a file that was discarded is there")
			}
			if err := m.Discard(t.Context(), []protocol.FileRecord{gone}); err != nil {
				t.Errorf("discarding twice: %v", err)
			}
			// Without a credential it is the site that cannot, not the input that is bad.
			t.Setenv("X509_USER_PROXY", filepath.Join(work, "none"))
			t.Setenv("X509_USER_CERT", filepath.Join(work, "none"))
			if _, err := m.Fetch(t.Context(), in, work); stage.Verdict(err) != protocol.VerdictSite {
				t.Errorf("no credential: %v, verdict %v, want site", err, stage.Verdict(err))
			}
			if left, err := os.ReadDir(m.Temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			ended, stop := context.WithCancel(t.Context())
			stop()
			if _, err := m.Fetch(ended, in, work); !errors.Is(err, context.Canceled) {
				t.Errorf("a context that ended: %v", err)
			}
		})
	}
}

func TestGridFTPWithoutClients(t *testing.T) {
	onlyPrograms(t)
	_, err := newMover().Fetch(t.Context(), stage.Input{URL: "gsiftp://host.example/x", Local: "x"}, t.TempDir())
	if stage.Verdict(err) != protocol.VerdictSite || !strings.Contains(err.Error(), "neither gfal-copy, gfal-rename and gfal-rm nor globus-url-copy") {
		t.Errorf("no client: %v, verdict %v, want site", err, stage.Verdict(err))
	}
}
