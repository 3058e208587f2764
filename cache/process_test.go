package cache_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"floe/cache"
	"floe/protocol"
)

// roles are what the test binary does when a test runs it once more.
var roles = map[string]func(dir string) error{
	"race": raceOnce, "churn": churn, "hold": hold, "stall": stall, "neighbour": neighbour, "full disk": fullDisk,
}

const roleVariable, dirVariable = "CACHE_TEST_ROLE", "CACHE_TEST_DIR"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](os.Getenv(dirVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// process is this test binary in a role. It is killed when the test ends.
func process(t *testing.T, role, dir string, env ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir), env...)
	c.Stderr = new(bytes.Buffer)
	return c
}

func openRole(c cache.Config) (*cache.Store, error) {
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return cache.Open(c)
}

// sourceFile is a source that notes each opening in a file beside.
func sourceFile(path string) cache.Source {
	return cache.Source{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) {
		log, err := os.OpenFile(path+".opened", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		if _, err := log.WriteString("x"); err != nil {
			return nil, err
		}
		if err := log.Close(); err != nil {
			return nil, err
		}
		return os.Open(path)
	}}
}

func raceOnce(dir string) error {
	origin := filepath.Join(dir, "origin.tar")
	b, err := os.ReadFile(origin)
	if err != nil {
		return err
	}
	s, err := openRole(cache.Config{Dir: filepath.Join(dir, "cache")})
	if err != nil {
		return err
	}
	e, err := s.Tree(context.Background(), protocol.DigestOf(b), []cache.Source{sourceFile(origin)})
	if err != nil {
		return err
	}
	defer e.Release()
	_, err = os.Stat(filepath.Join(e.Path, "bin/run"))
	return err
}

func TestRacingProcessesFetchOnce(t *testing.T) {
	dir := t.TempDir()
	origin := filepath.Join(dir, "origin.tar")
	if err := os.WriteFile(origin, tarball(t, member{name: "bin/run", body: strings.Repeat("payload", 1000), mode: 0o755}), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := process(t, "race", dir)
			if err := c.Run(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, c.Stderr)
			}
		})
	}
	wg.Wait()
	if log, err := os.ReadFile(origin + ".opened"); string(log) != "x" {
		t.Errorf("the origin was opened %d times (%v), want once", len(log), err)
	}
}

// churnQuota is what the processes of TestKilledProcesses may fill together.
const churnQuota = 600 * protocol.KB

// churnBytes are the bytes of one of the files that they fetch.
func churnBytes(i uint64) []byte {
	random := rand.New(rand.NewPCG(i, 0))
	b := make([]byte, 20_000+random.IntN(60_000))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// slowly gives bytes in small pieces, so that processes are killed in between.
type slowly struct{ io.Reader }

func (s slowly) Read(b []byte) (int, error) { return s.Reader.Read(b[:min(len(b), 1000)]) }

func churnTarball(i uint64) []byte {
	var members []member
	for j := range uint64(5) {
		members = append(members, member{name: fmt.Sprintf("d%d/f", j), body: string(churnBytes(100*i + j)[:5000])})
	}
	b, err := packed(members)
	if err != nil {
		panic(err)
	}
	return b
}

// churn fetches, uses and forgets blobs and trees until it is killed.
func churn(dir string) error {
	s, err := openRole(cache.Config{Dir: dir, Quota: churnQuota})
	if err != nil {
		return err
	}
	for {
		i := rand.Uint64N(12)
		b, get := churnBytes(i), s.Blob
		if i%2 == 0 {
			b, get = churnTarball(i), s.Tree
		}
		source := cache.Source{Name: "origin", Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(slowly{bytes.NewReader(b)}), nil
		}}
		e, err := get(context.Background(), protocol.DigestOf(b), []cache.Source{source})
		switch {
		case errors.Is(err, cache.ErrNoSpace): // others hold it
		case err != nil:
			return err
		default:
			e.Release()
		}
	}
}

// TestKilledProcesses has processes share a cache that is too small for them, and
// kills them at any point of fetching, unpacking, checking and evicting. They never
// take more than the quota, and what they leave is right.
func TestKilledProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	watch := open(t, dir, churnQuota)
	for round := range rounds {
		var alive []*exec.Cmd
		for range 3 {
			c := process(t, "churn", dir)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			alive = append(alive, c)
		}
		// The rounds end at different points of the processes' work: after so many
		// entries were seen to change.
		var last []protocol.Digest
		for changes := 0; changes < 2+round%5; {
			held := watch.Held(1)
			if fmt.Sprint(held) != fmt.Sprint(last) {
				changes, last = changes+1, held
			}
			freeze(t, alive)
			if size := onDisk(dir); size > churnQuota {
				t.Fatalf("round %d: the directory takes %v, the quota is %v", round, size, churnQuota)
			}
			for _, c := range alive {
				_ = c.Process.Signal(syscall.SIGCONT) // one that has ended is seen below
			}
		}
		for _, c := range alive {
			_ = c.Process.Kill()
			_ = c.Wait() // it was killed
			if text := fmt.Sprint(c.Stderr); strings.Contains(text, "damaged") || c.ProcessState.Exited() {
				t.Fatalf("round %d: %v\n%s", round, c.ProcessState, text)
			}
		}
		v, err := open(t, dir, churnQuota).Verify(t.Context())
		if err != nil || len(v.Bad) > 0 {
			t.Fatalf("round %d: %d of %d entries are damaged: %v", round, len(v.Bad), v.Entries, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*", "*")); len(left) > 0 {
			t.Fatalf("round %d: dead processes' files stay: %v", round, left)
		}
	}
	if st := watch.Stats(); st.Quarantined > 0 {
		t.Errorf("%d entries went to quarantine", st.Quarantined)
	}
}

// freeze stops processes, so that what they share can be looked at.
func freeze(t *testing.T, all []*exec.Cmd) {
	t.Helper()
	for _, c := range all {
		var status syscall.WaitStatus
		if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatalf("%v\n%s", err, c.Stderr)
		}
		if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("process ended: %v, %v\n%s", status, err, c.Stderr)
		}
	}
}

// onDisk is what the cache's entries and what is being written take.
func onDisk(dir string) (total protocol.ByteSize) {
	for _, part := range []string{"blobs", "trees", "tmp", "quarantine"} {
		_ = filepath.WalkDir(filepath.Join(dir, part), func(_ string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil //nolint:nilerr // what is removed meanwhile takes nothing
			}
			if info, err := d.Info(); err == nil {
				st, _ := info.Sys().(*syscall.Stat_t)
				total += protocol.ByteSize(st.Blocks) * 512
			}
			return nil
		})
	}
	return total
}

// hold uses what another process fetched until its input ends.
func hold(dir string) error {
	s, err := openRole(cache.Config{Dir: dir})
	if err != nil {
		return err
	}
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	e, err := s.Tree(context.Background(), protocol.DigestOf(b), nil)
	if err != nil {
		return err
	}
	defer e.Release()
	fmt.Println("held")
	select {}
}

func TestWhatAnotherProcessUsesIsNotEvicted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	b := tarball(t, member{name: "a", body: "a"})
	e, err := s.Tree(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
	if err != nil {
		t.Fatal(err)
	}
	e.Release()
	c := process(t, "hold", dir)
	c.Stdin = bytes.NewReader(b)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
		t.Fatalf("%v\n%s", err, c.Stderr)
	}
	if err := s.Trim(t.Context(), 0); err != nil || len(s.Held(1)) != 1 {
		t.Fatalf("trimming took what another process uses: %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it was killed
	if err := s.Trim(t.Context(), 0); err != nil || len(s.Held(1)) != 0 {
		t.Errorf("the use of a dead process lasts: %v", err)
	}
}

// stall fetches something of which the rest never comes.
func stall(dir string) error {
	s, err := openRole(cache.Config{Dir: dir, Quota: 10 * protocol.MB})
	if err != nil {
		return err
	}
	_, err = s.Blob(context.Background(), protocol.Digest{1}, []cache.Source{{Name: "stdin", Open: func(context.Context) (io.ReadCloser, error) {
		return promised{os.Stdin, 8 * protocol.MB}, nil
	}}})
	return err
}

// promised is a source that says how long it is.
type promised struct {
	io.ReadCloser
	size protocol.ByteSize
}

func (p promised) Size() protocol.ByteSize { return p.size }

func TestAReservationEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 10*protocol.MB)
	c := process(t, "stall", dir)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: once it is written, the process has begun to read.
	if _, err := in.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("x"), 3_000_000)
	if _, err := s.Blob(t.Context(), protocol.DigestOf(big), []cache.Source{source(big)}); !errors.Is(err, cache.ErrNoSpace) {
		t.Fatalf("3 MB beside 8 MB reserved of 10: %v, want ErrNoSpace", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it was killed
	e, err := s.Blob(t.Context(), protocol.DigestOf(big), []cache.Source{source(big)})
	if err != nil {
		t.Fatalf("after the process with the reservation was killed: %v", err)
	}
	e.Release()
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*", "blob-*")); len(left) != 0 {
		t.Errorf("what it had written stays: %v", left)
	}
}

// neighbour is another user, who has nothing but what others share.
func neighbour(dir string) error {
	s, err := openRole(cache.Config{Dir: filepath.Join(dir, "own"), From: []string{filepath.Join(dir, "theirs")}})
	if err != nil {
		return err
	}
	for i, variable := range []string{"CACHE_TEST_SOFTWARE", "CACHE_TEST_PRIVATE"} {
		b, err := hex.DecodeString(os.Getenv(variable))
		if err != nil {
			return err
		}
		get := s.Tree
		if i == 1 {
			get = s.Blob
		}
		e, err := get(context.Background(), protocol.Digest(b), nil)
		if i == 1 {
			if !errors.Is(err, cache.ErrNoSource) {
				return fmt.Errorf("a private input: %w, want ErrNoSource", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		if st := s.Stats(); st.NeighbourBytes == 0 || st.FarBytes != 0 {
			return fmt.Errorf("stats: %+v", st)
		}
		e.Release()
	}
	_, err = openRole(cache.Config{Dir: filepath.Join(dir, "theirs")})
	if !errors.Is(err, cache.ErrOwner) && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("another user's directory as one's own: %w, want ErrOwner", err)
	}
	return nil
}

func TestAnotherUsersSoftwareIsCopied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	software, input := tarball(t, member{name: "a", body: "a"}), []byte("private")
	s := openWith(t, cache.Config{Dir: filepath.Join(dir, "theirs"), Share: true})
	for i, b := range [][]byte{software, input} {
		get := s.Tree
		if i == 1 {
			get = s.Blob
		}
		e, err := get(t.Context(), protocol.DigestOf(b), []cache.Source{source(b)})
		if err != nil {
			t.Fatal(err)
		}
		e.Release()
	}
	const nobody = 65534
	own := filepath.Join(dir, "own")
	if err := errors.Join(os.Mkdir(own, 0o700), os.Chown(own, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	// The test binary stands where only its user may go.
	program := filepath.Join(dir, "program")
	text, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(program, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	c := process(t, "neighbour", dir, "CACHE_TEST_SOFTWARE="+protocol.DigestOf(software).Hex(), "CACHE_TEST_PRIVATE="+protocol.DigestOf(input).Hex())
	c.Path, c.Dir = program, dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := c.Run(); err != nil {
		t.Errorf("%v\n%s", err, c.Stderr)
	}
}

// fullDisk runs where dir can be a disk of its own.
func fullDisk(dir string) error {
	if err := syscall.Mount("floe", dir, "tmpfs", 0, "size=8M,mode=0700"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	s, err := openRole(cache.Config{Dir: filepath.Join(dir, "cache")})
	if err != nil {
		return err
	}
	get := func(n int, seed byte) (*cache.Entry, error) {
		b := bytes.Repeat([]byte{seed}, n)
		return s.Blob(context.Background(), protocol.DigestOf(b), []cache.Source{source(b)})
	}
	first, err := get(5_000_000, 1)
	if err != nil {
		return err
	}
	if _, err := get(5_000_000, 2); !errors.Is(err, cache.ErrNoSpace) {
		return fmt.Errorf("10 MB in use on a disk of 8: %w, want ErrNoSpace", err)
	}
	big, err := packed([]member{{name: "a", body: strings.Repeat("x", 4_000_000)}})
	if err != nil {
		return err
	}
	if _, err := s.Tree(context.Background(), protocol.DigestOf(big), []cache.Source{source(big)}); !errors.Is(err, cache.ErrNoSpace) {
		return fmt.Errorf("a tree on a full disk: %w, want ErrNoSpace", err)
	}
	// A file that somebody else leaves there fills the disk to the last byte.
	if err := os.WriteFile(filepath.Join(dir, "theirs"), make([]byte, 8_000_000), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("filling the disk: %w", err)
	}
	if _, err := get(100_000, 3); !errors.Is(err, cache.ErrNoSpace) {
		return fmt.Errorf("not a byte left: %w, want ErrNoSpace", err)
	}
	if err := os.Remove(filepath.Join(dir, "theirs")); err != nil {
		return err
	}
	first.Release()
	second, err := get(5_000_000, 2)
	if err != nil {
		return fmt.Errorf("what nobody uses was not evicted for it: %w", err)
	}
	second.Release()
	return nil
}

func TestAFullDiskIsNoSpace(t *testing.T) {
	c := process(t, "full disk", t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := c.Run()
	if text := fmt.Sprint(c.Stderr); strings.HasPrefix(text, "mount: ") || err != nil && text == "" {
		t.Skipf("no disk of its own here: %v %s", err, text)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, c.Stderr)
	}
}
