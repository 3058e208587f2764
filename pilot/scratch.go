package pilot

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// nodeFile is the file of a scratch directory that names its node: a lock says
// nothing about pilots of other nodes that share the file system.
const nodeFile = "node"

// makeScratch makes a pilot's own directory below dir, and removes those of pilots
// of this node that were killed. Each holds a lock on its own for as long as its
// process lives.
func makeScratch(dir string, id protocol.PilotID, logger *slog.Logger) (path string, lock *os.File, err error) {
	path = filepath.Join(dir, string(id))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", nil, err
	}
	if lock, err = os.Open(path); err != nil {
		return "", nil, err
	}
	host, err := os.Hostname()
	if err != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return path, lock, nil //nolint:nilerr // nobody finds it then, and this pilot removes it itself
	}
	// Written under the lock: a directory without it is not anybody's to remove.
	if err := os.WriteFile(filepath.Join(path, nodeFile), []byte(host), 0o600); err != nil {
		_ = lock.Close()
		return "", nil, err
	}
	removeAbandoned(dir, host, logger)
	return path, lock, nil
}

func removeAbandoned(dir, host string, logger *slog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		logger.Warn("left scratch directories not looked for", "err", err)
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), "p-") {
			continue
		}
		if err := removeIfAbandoned(filepath.Join(dir, e.Name()), host, logger); err != nil {
			logger.Warn("scratch directory of an earlier pilot stays", "err", err)
		}
	}
}

// removeIfAbandoned removes a pilot's directory whose lock nobody holds.
func removeIfAbandoned(path, host string, logger *slog.Logger) error {
	node, err := os.ReadFile(filepath.Join(path, nodeFile))
	if err != nil || string(node) != host {
		return nil // not finished being made, being removed, or another node's
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil // another pilot was quicker
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // its pilot lives
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	logger.Info("removed the scratch directory of a pilot that was killed", "path", path)
	return nil
}
