package auth

import (
	"fmt"
	"os"
	"path/filepath"

	"floe/protocol"
)

// RenewEpoch draws a new key for passkeys in the folder of a coordinator that does
// not run: what was derived from the old one is worth nothing any more. All
// coordinators of a cluster must hold the same, so it is for the only one that is
// left.
func RenewEpoch(dir string) error {
	file := filepath.Join(dir, secretsFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("renew epoch key: %w", err)
	}
	s, err := parseSecrets(b)
	if err != nil {
		return fmt.Errorf("renew epoch key: %w", err)
	}
	s.Epoch = drawKey()
	if b, err = protocol.Marshal(s); err != nil {
		return fmt.Errorf("renew epoch key: %w", err)
	}
	return writeFile(file, b)
}
