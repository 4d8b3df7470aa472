// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/minigate/minigate/module/store"
)

// migrationSide is one of the two stores that the migrate command is given.
type migrationSide struct {
	text     string          // as it was given
	raw      json.RawMessage // the configuration of the store
	config   []byte          // all of it, if it was given as a configuration
	sealKeys []string        // of that
	opener   store.Opener    // nil until loaded
	name     string
}

// keyed reports whether the side has a seal key in its configuration.
func (s *migrationSide) keyed() bool { return len(s.sealKeys) > 0 }

// readSide reads what a side was given as.
func readSide(text, adapter string) (*migrationSide, error) {
	kind, rest, _ := strings.Cut(text, ":")
	var config any
	switch {
	case kind == "file" && rest != "":
		path, err := filepath.Abs(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		config = map[string]any{"store": kind, "path": path}
	case kind == "redis" && rest != "":
		addresses := strings.Split(rest, ",")
		config = map[string]any{"store": kind, "addresses": addresses, "cluster": len(addresses) > 1}
	case text == "memory:":
		config = map[string]any{"store": "memory"}
	case kind == "file" || kind == "redis":
		return nil, fmt.Errorf("%q does not say where it is", text)
	default:
		return readSideConfig(text, adapter)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return &migrationSide{text: text, raw: raw, name: kind}, nil
}

// readSideConfig reads the configuration at path.
func readSideConfig(path, adapter string) (*migrationSide, error) {
	config, _, _, err := caddycmd.LoadConfig(path, adapter)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var parsed struct {
		Apps struct {
			Miniprogram *App `json:"miniprogram"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	app := parsed.Apps.Miniprogram
	if app == nil {
		return nil, fmt.Errorf("%s does not configure miniprogram", path)
	}
	g, err := parseGuest("miniprogram.stores", "store", app.storeConfig())
	if err != nil {
		return nil, fmt.Errorf("%s: store: %w", path, err)
	}
	return &migrationSide{text: path, raw: app.storeConfig(), config: config, sealKeys: app.SealKeys, name: g.name}, nil
}

// load makes ready to open the store.
func (s *migrationSide) load(ctx caddy.Context) (err error) {
	if s.opener, _, err = loadOpener(ctx, s.raw); err != nil {
		return fmt.Errorf("%s: %w", s.text, err)
	}
	if _, lasting := s.opener.(store.Existing); !lasting && !isShared(s.opener) {
		return fmt.Errorf("%s: what store %s has is in the memory of its gateway, which --live asks to copy it", s.text, s.name)
	}
	return nil
}

// open opens the store, which is loaded. One that is to be there already is not
// made.
func (s *migrationSide) open(ctx context.Context, there bool) (store.Store, error) {
	existing, lasting := s.opener.(store.Existing)
	if there && lasting {
		found, err := existing.Exists()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.text, err)
		}
		if !found {
			return nil, fmt.Errorf("%s: there is no %s, as this user and in this environment; if a gateway uses it, add --live", s.text, s.opener.Identity())
		}
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	opened, err := s.opener.Open(opening)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; run this as the user of the gateway, or add --live", err)
	}
	return opened, err
}

// ask has the gateway that uses the source do the work.
func (r *migrationRun) ask(ctx context.Context, from, to *migrationSide) (result migrationResult, err error) {
	flags := r.cmd.Flags()
	if from.config != nil && !flags.Changed("address") && !flags.Changed("config") {
		if err := flags.Set("config", from.text); err != nil {
			return result, err
		}
	}
	client, err := newAdminClient(r.cmd)
	if err != nil {
		return result, err
	}
	call := func(method string, body any) (status migrationStatus, err error) {
		data, err := client.do(ctx, method, migrationAction, body)
		if err == nil {
			err = json.Unmarshal(data, &status)
		}
		return status, err
	}
	defer r.every(func() {
		status, err := call(http.MethodGet, nil)
		if n := status.Counts; err == nil && n != nil {
			fmt.Fprintf(r.progress, "%s: %d read, %d written, %d verified\n", status.State, n.Read, n.Written, n.Verified)
		}
	})()
	result.migrationStatus, err = call(http.MethodPost, migrationRequest{To: to.raw, From: from.raw, SealKeys: to.sealKeys})
	if ctx.Err() != nil {
		return result, errors.New("interrupted; the gateway gives the migration up")
	}
	return result, err
}
