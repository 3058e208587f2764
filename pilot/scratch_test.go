package pilot

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"floe/protocol"
)

func TestScratchOfKilledPilotsIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	logger := slog.New(slog.DiscardHandler)
	make1 := func(id string) (string, *os.File) {
		t.Helper()
		path, lock, err := makeScratch(dir, protocol.PilotID("p-"+id), logger)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "output"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path, lock
	}
	killed, lock := make1("killed")
	if err := lock.Close(); err != nil { // as the end of a process does
		t.Fatal(err)
	}
	living, livingLock := make1("living")
	defer livingLock.Close()
	elsewhere, lock := make1("elsewhere")
	if err := os.WriteFile(filepath.Join(elsewhere, nodeFile), []byte("another node"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	foreign := filepath.Join(dir, "notes")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	_, next := make1("next")
	defer next.Close()
	if _, err := os.Stat(killed); err == nil {
		t.Error("the directory of a killed pilot is left")
	}
	for _, path := range []string{living, elsewhere, foreign} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s was removed", filepath.Base(path))
		}
	}
}
