// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Packages that are compared, below the module's root.
const (
	stockPackage    = "./integration/bench/stockcaddy"
	minigatePackage = "./cmd/minigate"
)

// moduleRoot returns the folder of this module, from anywhere inside it.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	path, dir, _ := strings.Cut(out, " ")
	if path != "github.com/minigate/minigate" {
		return "", fmt.Errorf("run this inside the repository of github.com/minigate/minigate, not %s", path)
	}
	return dir, nil
}

// build compiles a package of the module as `go build` does without flags. What
// it leaves while it works is in dir, too.
func build(ctx context.Context, root, pkg, dir string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(pkg))
	cmd := command(ctx, "go", "build", "-o", binary, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOTMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// Subject says what was measured, and where.
type Subject struct {
	Revision  string `json:"revision"` // of the repository, with + if it had changes
	Caddy     string `json:"caddy"`
	Go        string `json:"go"`
	Wrk       string `json:"wrk"`
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Memory    string `json:"memory"`
	Kernel    string `json:"kernel"`
}

// describe finds out what is measured. What cannot be found out is left empty.
func describe(ctx context.Context, root, wrk, binary string) Subject {
	s := Subject{
		Go:        runtime.Version(),
		Processor: fileField("/proc/cpuinfo", "model name"),
		Cores:     runtime.NumCPU(),
		Memory:    fileField("/proc/meminfo", "MemTotal"),
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		s.Kernel = strings.TrimSpace(string(kernel))
	}
	s.Revision, _ = output(ctx, root, "git", "rev-parse", "--short", "HEAD")
	if changes, err := output(ctx, root, "git", "status", "--porcelain"); err == nil && changes != "" {
		s.Revision += "+"
	}
	// wrk says who it is, and then that this is not how it is used.
	version, _ := output(ctx, "", wrk, "--version")
	s.Wrk, _, _ = strings.Cut(version, " [")
	if info, err := buildinfo.ReadFile(binary); err == nil {
		s.Go = info.GoVersion
		for _, module := range info.Deps {
			if module.Path == "github.com/caddyserver/caddy/v2" {
				s.Caddy = module.Version
			}
		}
	}
	return s
}

// output returns what a command prints, also if it fails.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := command(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// fileField returns the value of the first line `name : value` of a file.
func fileField(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
