// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// guest is the configuration of a guest module, before its placeholders are
// resolved.
type guest struct {
	id     string // the module ID
	name   string // its last part
	config map[string]any
}

// parseGuest reads the configuration of a guest of namespace, whose name stands
// under inlineKey.
func parseGuest(namespace, inlineKey string, raw json.RawMessage) (*guest, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	config := make(map[string]any)
	if err := decoder.Decode(&config); err != nil {
		return nil, fmt.Errorf("decoding module config: %w", err)
	}
	name, ok := config[inlineKey].(string)
	if !ok || name == "" {
		return nil, fmt.Errorf("%q, the name of the module, is missing", inlineKey)
	}
	delete(config, inlineKey)
	return &guest{id: namespace + "." + name, name: name, config: config}, nil
}

// resolved returns the configuration with its placeholders resolved.
func (g *guest) resolved() (json.RawMessage, error) {
	config, err := resolveValue(g.config, "")
	if err != nil {
		return nil, err
	}
	return json.Marshal(config)
}

// load makes a new instance of the guest, which lives as long as ctx.
func (g *guest) load(ctx caddy.Context) (any, error) {
	config, err := g.resolved()
	if err != nil {
		return nil, err
	}
	return ctx.LoadModuleByID(g.id, config)
}

// watchable reports whether the configuration names a file.
func (g *guest) watchable() bool {
	config, err := json.Marshal(g.config)
	return err == nil && strings.Contains(string(config), "{file.")
}

// resolveValue returns value with the placeholders in all strings resolved.
// path is where value stands, for the error.
func resolveValue(value any, path string) (any, error) {
	switch v := value.(type) {
	case string:
		text, err := resolve(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return text, nil
	case []any:
		items := make([]any, len(v))
		for i, item := range v {
			var err error
			if items[i], err = resolveValue(item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return nil, err
			}
		}
		return items, nil
	case map[string]any:
		members := make(map[string]any, len(v))
		for name, member := range v {
			where := name
			if path != "" {
				where = path + "." + name
			}
			var err error
			if members[name], err = resolveValue(member, where); err != nil {
				return nil, err
			}
		}
		return members, nil
	default:
		return value, nil
	}
}

// resolve returns text with its placeholders resolved, and refuses one that is
// unknown or empty: a secret that is not set must not go unnoticed. The error
// names the placeholder, never a value.
func resolve(text string) (string, error) {
	if !strings.Contains(text, "{") {
		return text, nil
	}
	resolved, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(resolved) == "" {
		return "", errors.New("is empty")
	}
	return strings.TrimSpace(resolved), nil
}
