package hardware

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
)

// Container is a program that starts containers.
type Container struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Usable says that this user can start containers with it, as far as can be told
	// without doing so; Reason is why not, or by what.
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
}

var versionNumber = regexp.MustCompile(`[0-9]+(\.[0-9]+)+[-+.0-9A-Za-z]*`)

// containers lists what can start containers on this node. None is started.
func (m *measurement) containers(ctx context.Context) []Container {
	namespaces := m.userNamespaces()
	var found []Container
	ask := func(name string, args ...string) (c Container, failure string, ok bool) {
		out, err := m.Run(ctx, name, args...)
		if errors.Is(err, exec.ErrNotFound) {
			return c, "", false
		}
		c = Container{Name: name, Version: versionNumber.FindString(string(out))}
		if err != nil {
			failure = err.Error()
		}
		return c, failure, true
	}
	note := func(c Container) {
		found = append(found, c)
		value := strings.TrimSpace(c.Name + " " + c.Version)
		if !c.Usable {
			value += ", not usable"
		}
		m.find("container", value, c.Reason)
		if c.Usable {
			m.features = append(m.features, c.Name)
		}
	}
	for _, name := range []string{"apptainer", "singularity"} {
		c, failure, ok := ask(name, "--version")
		switch starter := m.setuidStarter(); {
		case !ok:
			continue
		case failure != "":
			c.Reason = failure
		case namespaces == "":
			c.Usable, c.Reason = true, "user namespaces"
		case starter != "":
			c.Usable, c.Reason = true, starter
		default:
			c.Reason = namespaces + ", and it is not installed setuid"
		}
		note(c)
	}
	for _, name := range []string{"podman", "bwrap"} {
		c, failure, ok := ask(name, "--version")
		switch {
		case !ok:
			continue
		case failure != "":
			c.Reason = failure
		case namespaces == "":
			c.Usable, c.Reason = true, "user namespaces"
		default:
			c.Reason = namespaces
		}
		note(c)
	}
	// Only the daemon can tell whether it lets this user in.
	if c, failure, ok := ask("docker", "version", "--format", "{{.Server.Version}}"); ok {
		c.Usable, c.Reason = failure == "", failure
		if c.Usable {
			c.Reason = "its daemon answers"
		}
		note(c)
	}
	return found
}

// userNamespaces says why a user without privileges cannot make namespaces; empty
// where nothing forbids it.
func (m *measurement) userNamespaces() string {
	for _, setting := range []struct{ file, forbids, text string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts user namespaces"},
	} {
		if m.read(setting.file) == setting.forbids {
			return setting.text
		}
	}
	return ""
}

// setuidStarter returns where an installation of apptainer or singularity keeps the
// program that root has made setuid.
func (m *measurement) setuidStarter() string {
	for _, dir := range []string{"/usr/libexec/apptainer", "/usr/libexec/singularity", "/usr/local/libexec/apptainer", "/usr/local/libexec/singularity", "/usr/lib/x86_64-linux-gnu/singularity"} {
		if file := dir + "/bin/starter-suid"; m.exists(file) {
			return file
		}
	}
	return ""
}
