package cache_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"floe/cache"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// noLocks is a file system that refuses locks, as NFS without its lock daemon does.
type noLocks struct{ fuse.RawFileSystem }

func (noLocks) SetLk(<-chan struct{}, *fuse.LkIn) fuse.Status  { return fuse.Status(37) } // ENOLCK
func (noLocks) SetLkw(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.Status(37) }

func TestADirectoryWithoutLocksIsRefused(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs FUSE and root")
	}
	root, err := fs.NewLoopbackRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	server, err := fuse.NewServer(noLocks{fs.NewNodeFS(root, &fs.Options{})}, dir, &fuse.MountOptions{DirectMount: true, FsName: "nolocks", EnableLocks: true})
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	go server.Serve()
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(cache.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, cache.ErrLocks) {
		t.Errorf("open: %v, want ErrLocks", err)
	}
}
