package glidein

import (
	"fmt"
	"regexp"
	"strings"
)

// Login is where a batch system is that is reached by ssh: [user@]host[:directory].
// The host is one of ssh's configuration, the directory is taken from the home
// directory there unless it is absolute.
type Login string

// defaultLogin is the directory there when none is said.
const defaultLogin = "floe"

var (
	loginHost = regexp.MustCompile(`^([A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// loginDirectory is of characters that no shell takes for anything else.
	loginDirectory = regexp.MustCompile(`^/?[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*$`)
)

// Check says what is wrong with a login.
func (l Login) Check() error {
	if !loginHost.MatchString(l.Host()) {
		return fmt.Errorf("ssh %q: want user@host or user@host:directory; a port, a jump host and the like belong into ~/.ssh/config", string(l))
	}
	if !loginDirectory.MatchString(l.Directory()) {
		return fmt.Errorf("ssh %q: the directory: want letters, digits and ./_+- alone", string(l))
	}
	return nil
}

// Host is the host, with the user if one is said.
func (l Login) Host() string {
	host, _, _ := strings.Cut(string(l), ":")
	return host
}

// Directory is the site's directory there.
func (l Login) Directory() string {
	_, dir, said := strings.Cut(string(l), ":")
	if !said {
		return defaultLogin
	}
	return strings.TrimSuffix(strings.TrimPrefix(dir, "~/"), "/")
}
