// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package file keeps the gateway's records in one file: no server to run, and
// a login that was answered survives kill -9 and a loss of power.
package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/minigate/minigate/caddyfile/arg"
	"github.com/minigate/minigate/module/store"
)

func init() { caddy.RegisterModule(Opener{}) }

// Opener keeps the gateway's records in one file, for a gateway that is one
// process. Every write is on the disk before it is answered; writes that come
// at the same time share one flush of the disk.
type Opener struct {
	// The path of the file. Default: `miniprogram/sessions.db` in Caddy's data
	// directory. Placeholders are replaced when the configuration is loaded. A
	// missing file is created with mode 0600, a missing folder with mode 0700.
	// Only one process at a time can have the file open.
	Path string `json:"path,omitempty"`

	// real returns where the file is: absolute, without symbolic links. It
	// answers the same for as long as this configuration is in use, whatever
	// becomes of the links. Set by Provision.
	real func() string
}

// CaddyModule returns the Caddy module information.
func (Opener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "miniprogram.stores.file",
		New: func() caddy.Module { return new(Opener) },
	}
}

// Provision replaces placeholders in the path and sets the default. It does
// not look at the file.
func (o *Opener) Provision(caddy.Context) error {
	path := filepath.Join(caddy.AppDataDir(), "miniprogram", "sessions.db")
	if o.Path != "" {
		var err error
		if path, err = caddy.NewReplacer().ReplaceOrErr(o.Path, true, true); err != nil {
			return fmt.Errorf("replacing placeholders in path: %w", err)
		}
	}
	o.real = sync.OnceValue(func() string { return realPath(path) })
	return nil
}

// Identity implements store.Opener: two paths that lead to one file are one
// store.
func (o *Opener) Identity() string {
	if o.real == nil {
		return "file:" + o.Path
	}
	return "file:" + o.real()
}

// Open implements store.Opener. It creates the file if it does not exist, and
// reads all of one that does, so that a damaged file is found now and not when
// a user comes. It waits a second for another process to close the file.
func (o *Opener) Open(ctx context.Context) (store.Store, error) {
	if o.real == nil {
		return nil, errors.New("opening store file: it is not provisioned")
	}
	s, err := openBolt(ctx, o.real(), options{})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Exists implements store.Existing.
func (o *Opener) Exists() (bool, error) {
	if o.real == nil {
		return false, errors.New("looking for store file: it is not provisioned")
	}
	path := o.real()
	_, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for store file %s: %w", path, withoutPath(err))
	}
	return true, nil
}

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store file [<path>]
func (o *Opener) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if d.CountRemainingArgs() > 0 {
		return arg.String(d, &o.Path)
	}
	var seen bool
	return arg.Flag(d, &seen)
}

// realPath returns path absolute and without symbolic links, also where the
// file or its folders do not exist yet.
func realPath(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return withoutLinks(path, 40) // as many links as Linux follows
}

func withoutLinks(path string, links int) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	dir, name := filepath.Split(path)
	if dir = filepath.Clean(dir); name == "" || links == 0 {
		return path
	}
	// A link to what does not exist yet: opening it creates what it leads to.
	if target, err := os.Readlink(path); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		return withoutLinks(target, links-1)
	}
	return filepath.Join(withoutLinks(dir, links), name)
}

// Interface guards
var (
	_ caddy.Module          = (*Opener)(nil)
	_ caddy.Provisioner     = (*Opener)(nil)
	_ caddyfile.Unmarshaler = (*Opener)(nil)
	_ store.Opener          = (*Opener)(nil)
	_ store.Existing        = (*Opener)(nil)
)
