// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	opener   store.Opener    // nil until open
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

// open opens the store. One that is to be there already is not made.
func (s *migrationSide) open(ctx caddy.Context, there bool) (store.Store, error) {
	var err error
	if s.opener, _, err = loadOpener(ctx, s.raw); err != nil {
		return nil, fmt.Errorf("%s: %w", s.text, err)
	}
	existing, lasting := s.opener.(store.Existing)
	if !lasting && !isShared(s.opener) {
		return nil, fmt.Errorf("%s: what store %s has is in its gateway's own memory; use --live", s.text, s.name)
	}
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
	configured := ""
	if from.config != nil {
		configured = from.text
	}
	address, err := caddycmd.DetermineAdminAPIAddress(r.address, from.config, configured, r.adapter)
	if err != nil {
		return result, err
	}
	body, err := json.Marshal(migrationRequest{To: to.raw, From: from.raw, SealKeys: to.sealKeys})
	if err != nil {
		return result, err
	}
	type answer struct {
		status migrationStatus
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		status, err := callMigration(address, http.MethodPost, strings.NewReader(string(body)))
		answered <- answer{status, err}
	}()
	stop := r.every(func() {
		status, err := callMigration(address, http.MethodGet, nil)
		if n := status.Counts; err == nil && n != nil {
			fmt.Fprintf(r.progress, "%s: %d read, %d written, %d verified\n", status.State, n.Read, n.Written, n.Verified)
		}
	})
	defer stop()
	select {
	case a := <-answered:
		result.migrationStatus = a.status
		return result, a.err
	case <-ctx.Done():
		return result, errors.New("interrupted; the gateway gives the migration up")
	}
}

// callMigration calls the admin endpoint at address.
func callMigration(address, method string, body io.Reader) (status migrationStatus, err error) {
	response, err := caddycmd.AdminAPIRequest(address, method, migrationPath, nil, body)
	if err != nil {
		return status, fmt.Errorf("the gateway at %s: %w; give its address with --address", address, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("reading the answer of the gateway: %w", err)
	}
	return status, nil
}
