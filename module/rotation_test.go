// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

// Scan makes mapStore complete enough to be sealed anew.
func (s *mapStore) Scan(_ context.Context, prefix string, visit func(store.Entry) error) error {
	for key, value := range s.values {
		if strings.HasPrefix(key, prefix) {
			if err := visit(store.Entry{Key: key, Value: value}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Seal keys are rotated by a file, in front the new one, then without the old
// one: what is kept for good must have been sealed anew by then, or all users
// become strangers.
func TestLastingRecordsSurviveRotation(t *testing.T) {
	d, s := newDirectory(t)
	old, next := keyring.NewMaster(), keyring.NewMaster()
	if err := d.keys.Replace(old); err != nil {
		t.Fatal(err)
	}
	user := identity.Identity{Platform: "alipay", Program: "2021", OpenID: "o"}
	grant := provider.Grant{OpenID: "o", Renames: true}
	if _, err := d.identify(t.Context(), "alipay", "2021", provider.Grant{UserID: "u", OpenID: "o", Renames: true}); err != nil {
		t.Fatal(err)
	}
	p := &pseudonyms{store: s, keys: d.keys}
	before, err := p.of(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}

	if err := d.keys.Replace(next, old); err != nil {
		t.Fatal(err)
	}
	n, err := reseal(t.Context(), s, d.keys)
	if err != nil || n != 3 {
		t.Fatalf("%d records sealed anew, %v", n, err)
	}
	if n, err = reseal(t.Context(), s, d.keys); err != nil || n != 0 {
		t.Errorf("and again %d, %v", n, err)
	}
	if err := d.keys.Replace(next); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*pseudonyms{"this process": p, "another": {store: s, keys: d.keys}} {
		if after, err := p.of(t.Context(), user); err != nil || after != before {
			t.Errorf("%s: pseudonym %q, then %q, %v", name, before, after, err)
		}
	}
	if who, err := d.identify(t.Context(), "alipay", "2021", grant); err != nil || who.FirstID() != "u" {
		t.Errorf("%+v, %v", who, err)
	}
	if err := d.keys.Replace(keyring.NewMaster()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.of(t.Context(), user); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("without any of its keys: %v", err)
	}
}

// The breaker goes by what the platform does, not by what clients send.
func TestBreakerCounts(t *testing.T) {
	for name, test := range map[string]struct {
		err                error
		answered, excluded bool
	}{
		"success":       {nil, true, false},
		"malformed":     {&provider.Error{Reason: provider.CodeMalformed}, true, true},
		"mock code":     {&provider.Error{Reason: provider.CodeInvalid}, true, true},
		"used":          {&provider.Error{Reason: provider.CodeUsed, PlatformCode: "40163"}, true, false},
		"busy":          {&provider.Error{Reason: provider.Unavailable, PlatformCode: "-1"}, true, false},
		"no answer":     {&provider.Error{Reason: provider.Unavailable}, false, false},
		"garbage":       {&provider.Error{Reason: provider.PlatformFault}, false, false},
		"foreign error": {errors.New("x"), false, false},
	} {
		if answered, excluded := answered(test.err), uncalled(test.err); answered != test.answered || excluded != test.excluded {
			t.Errorf("%s: answered %v, excluded %v", name, answered, excluded)
		}
	}
}

// Names that cannot carry an identity, however they are spelled.
func TestHeaderNames(t *testing.T) {
	for name, good := range map[string]bool{
		"X-Tenant": true, "x-9": true, "Remote-Groups": true,
		"": false, "-": false, "X_Tenant": false, "X Tenant": false, "X-Tenant:": false, "X-小": false,
		"Authorization": false, "authorization": false, "Cookie": false, "Content--Type": false, "Te": false, "X-WX-Skey": false,
		"XWxCode": false, "X-Forwarded-For": false,
	} {
		if err := checkHeaderName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := newHeaderSet(nil, []ExtraHeader{{"X-Tenant", "a\nb"}}); err == nil {
		t.Error("a value with a line break is accepted")
	}
}
