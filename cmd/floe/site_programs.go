package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"floe/protocol"
	"floe/protocol/software"

	"github.com/google/renameio/v2"
)

// sitePrograms are the published pilots of a site (glidein.Programs), in
// pilots/DIGEST/floe-pilot of its directory. None is removed: pilot jobs that wait in
// the batch system name the one that they were submitted with.
type sitePrograms struct {
	api    *client
	dir    string
	trust  *software.Trust
	logger *slog.Logger
}

// usedFile says what was launched last, by platform.
const usedFile = "used.json"

// usedProgram is a program that was verified.
type usedProgram struct {
	Version string          `json:"version"`
	Path    string          `json:"path"`
	Digest  protocol.Digest `json:"digest"` // of the program
}

// Program implements glidein.Programs.
func (s *sitePrograms) Program(ctx context.Context, version, platform string, tags []string) (string, error) {
	proof, err := s.api.proof(ctx, protocol.PilotSoftware, version, "")
	if err != nil {
		return "", err
	}
	x, err := choosePilot(proof, platform, tags)
	if err != nil {
		return "", err
	}
	if _, err := s.trust.Proven(proof, x); err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, "pilots", x.Build.Digest.Hex())
	program := filepath.Join(dir, protocol.PilotSoftware)
	err = s.api.placePilot(ctx, x, program)
	if errors.Is(err, errOtherPilot) {
		// It is not run again; who runs it has it open.
		s.logger.Warn("a pilot on disk is damaged, and fetched again", "name", program, "err", err)
		if err = os.RemoveAll(dir); err == nil {
			err = s.api.placePilot(ctx, x, program)
		}
	}
	if err != nil {
		return "", err
	}
	d, _, err := hashOf(program)
	if err != nil {
		return "", err
	}
	if err := s.remember(platform, usedProgram{version, program, d}); err != nil {
		s.logger.Warn("not remembered which pilot was launched", "err", err)
	}
	return program, nil
}

// Last implements glidein.Programs.
func (s *sitePrograms) Last(platform string) string {
	last, known := s.used()[platform]
	if !known {
		return ""
	}
	if d, _, err := hashOf(last.Path); err != nil || d != last.Digest {
		return ""
	}
	return last.Path
}

func (s *sitePrograms) used() map[string]usedProgram {
	all := map[string]usedProgram{}
	b, err := os.ReadFile(filepath.Join(s.dir, "pilots", usedFile))
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.logger.Warn("not known which pilot was launched last", "err", err)
		return map[string]usedProgram{}
	}
	return all
}

func (s *sitePrograms) remember(platform string, p usedProgram) error {
	all := s.used()
	if all[platform] == p {
		return nil
	}
	all[platform] = p
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(s.dir, "pilots", usedFile), append(b, '\n'), 0o600)
}

// choosePilot is the build for the nodes of a queue. Where their platform is not known
// they are taken to be as this machine, unless there is one build only.
func choosePilot(proof *protocol.SoftwareProof, platform string, tags []string) (*protocol.SignedBuild, error) {
	var builds []protocol.SignedBuild
	for i := range proof.Software {
		if proof.Software[i].Retired == 0 {
			builds = append(builds, proof.Software[i].SignedBuild)
		}
	}
	if len(builds) == 0 {
		return nil, withExit(exitNotFound, errors.New("every build of it is retired"))
	}
	if platform == "" && len(builds) == 1 {
		return &builds[0], nil
	}
	if platform == "" {
		machine, known := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
		if !known {
			machine = runtime.GOARCH
		}
		platform = protocol.AnyLinux + "-" + machine
	}
	best, why := software.Choose(builds, &software.Node{Platform: platform, Tags: tags})
	if best == nil {
		return nil, withExit(exitNotFound, fmt.Errorf("no build runs on %s: %s", platform, strings.Join(why, "; ")))
	}
	return best, nil
}
