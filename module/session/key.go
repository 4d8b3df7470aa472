// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// PlatformKey is a session key of the platform.
type PlatformKey struct {
	Key string
	// Vouched is when the platform last said that this is the user's key: when
	// it was handed out, or when it was asked.
	Vouched time.Time
}

// PlatformKeys returns the platform's session keys of the user of s, the current
// one first, then those that were replaced a few minutes ago at most. They are
// read from the store once and kept with s.
func (m *Manager) PlatformKeys(ctx context.Context, s *Session) ([]PlatformKey, error) {
	kept := s.keys.Load()
	if kept == nil {
		keys, err := m.readKeys(ctx, s.Subject)
		if err != nil {
			return nil, err
		}
		kept = &keys
		s.keys.Store(kept)
	}
	return m.usable(*kept), nil
}

// StoredKeys returns the platform's session keys of a user as the store has
// them, like PlatformKeys.
func (m *Manager) StoredKeys(ctx context.Context, subject string) ([]PlatformKey, error) {
	keys, err := m.readKeys(ctx, subject)
	if err != nil {
		return nil, err
	}
	return m.usable(keys), nil
}

func (m *Manager) readKeys(ctx context.Context, subject string) ([]platformKey, error) {
	rec, err := m.read(ctx, subject)
	if rec == nil || err != nil {
		return nil, err
	}
	return rec.Keys, nil
}

// usable returns those of keys that are not too old by now.
func (m *Manager) usable(keys []platformKey) []PlatformKey {
	keys = youngKeys(keys, m.Now().Unix())
	result := make([]PlatformKey, len(keys))
	for i, key := range keys {
		result[i] = PlatformKey{key.Key, time.Unix(max(key.Since, key.Checked), 0)}
	}
	return result
}

// VouchKey notes that the platform said that key is the user's.
func (m *Manager) VouchKey(ctx context.Context, subject, key string) error {
	return m.changeKeys(ctx, subject, func(rec *record, i int) { rec.Keys[i].Checked = m.Now().Unix() }, key)
}

// DropKey forgets a key that the platform does not know any more, and those
// before it.
func (m *Manager) DropKey(ctx context.Context, subject, key string) error {
	return m.changeKeys(ctx, subject, func(rec *record, i int) { rec.Keys = rec.Keys[:i] }, key)
}

// ReplaceKey notes that the platform replaced key by another one, so that data
// which anybody made with it, or an older one, is not opened any more. If key is
// not the user's, a newer one has come, and nothing changes.
func (m *Manager) ReplaceKey(ctx context.Context, subject, key, by string) error {
	return m.changeKeys(ctx, subject, func(rec *record, i int) {
		rec.Keys = append(slices.Clone(rec.Keys[:i]), platformKey{Key: by, Since: m.Now().Unix()})
	}, key)
}

// LearnKey notes the session key that came with a sign-in of which nothing else
// became: the user's other sessions go on with it, because the platform has
// replaced the one before.
func (m *Manager) LearnKey(ctx context.Context, subject, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := m.update(ctx, subject, func(rec *record) error {
		if len(rec.Sessions) == 0 || !rec.addKey(key, m.Now().Unix()) {
			return errUnchanged
		}
		return nil
	})
	m.settle(subject, err)
	if err != nil {
		return fmt.Errorf("changing session keys: %w", err)
	}
	return nil
}

// changeKeys changes the record of a user whose i-th key is the one called key.
// It does nothing where there is no such key.
func (m *Manager) changeKeys(ctx context.Context, subject string, change func(rec *record, i int), key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := m.update(ctx, subject, func(rec *record) error {
		i := slices.IndexFunc(rec.Keys, func(k platformKey) bool { return k.Key == key })
		if i < 0 {
			return errUnchanged
		}
		change(rec, i)
		return nil
	})
	m.settle(subject, err)
	if err != nil {
		return fmt.Errorf("changing session keys: %w", err)
	}
	return nil
}

// addKey makes key the newest platform session key and reports whether it was
// not so before.
func (rec *record) addKey(key string, now int64) bool {
	rec.Keys = youngKeys(rec.Keys, now)
	if key == "" {
		return false
	}
	if len(rec.Keys) > 0 && rec.Keys[0].Key == key {
		rec.Keys[0].Checked = now // it was handed out again
		return false
	}
	kept := slices.DeleteFunc(slices.Clone(rec.Keys), func(k platformKey) bool { return k.Key == key })
	rec.Keys = append([]platformKey{{Key: key, Since: now}}, kept...)
	if len(rec.Keys) > keptKeys {
		rec.Keys = rec.Keys[:keptKeys]
	}
	return true
}

// youngKeys returns keys without those that were replaced too long ago.
func youngKeys(keys []platformKey, now int64) []platformKey {
	for i := 1; i < len(keys); i++ {
		if now-keys[i-1].Since > int64(keyGrace/time.Second) {
			return keys[:i]
		}
	}
	return keys
}
