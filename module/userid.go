// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// What a site can choose as the id of its users.
const (
	userIDOpenID    = "openid"
	userIDUnionID   = "unionid"
	userIDPseudonym = "pseudonym"
)

var userIDs = []string{userIDOpenID, userIDUnionID, userIDPseudonym}

// userID returns the id by which the upstream knows the user, or why the site
// does not serve him. err means that the store could not answer.
func (h *Handler) userID(ctx context.Context, rt *runtime, user identity.Identity) (id string, failure *Error, err error) {
	switch h.UserID {
	case userIDUnionID:
		if user.UnionID == "" {
			return "", errUnionIDMissing, nil
		}
		return user.UnionID, nil, nil
	case userIDPseudonym:
		id, err = rt.pseudonyms.of(ctx, user)
		return id, nil, err
	default:
		return user.FirstID(), nil, nil
	}
}

// pseudonyms gives users ids that say nothing about them and that nobody else
// can compute. The ids depend on a secret of their own, which is kept sealed in
// the store: they stay the same when seal keys change.
type pseudonyms struct {
	store store.Store
	keys  *keyring.Ring

	mu         sync.Mutex
	secret     []byte
	sealedWith string // the id of the key that it is sealed with
}

// pseudonymKey is the store key of the secret.
const pseudonymKey = "key/pseudonym"

// pseudonymSecret is the record of the secret.
type pseudonymSecret struct {
	// Name is the store key, so that no other sealed record can take its place.
	Name   string `json:"name"`
	Secret []byte `json:"secret"`
}

// of returns the pseudonym of a user: 22 characters of URL-safe base64.
func (p *pseudonyms) of(ctx context.Context, user identity.Identity) (string, error) {
	secret, err := p.load(ctx)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(user.Subject()))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]), nil
}

// load returns the secret, and makes it the first time. It is sealed anew with
// the active key, so that older seal keys can be taken away.
func (p *pseudonyms) load(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	active := p.keys.ActiveID()
	if p.secret != nil && p.sealedWith == active {
		return p.secret, nil
	}
	var record pseudonymSecret
	err := p.store.Update(ctx, pseudonymKey, func(old []byte) ([]byte, time.Duration, error) {
		record = pseudonymSecret{Name: pseudonymKey, Secret: keyring.NewMaster()}
		if old != nil {
			plain, err := p.keys.Open(old)
			if err != nil {
				return nil, 0, err // a new secret would make strangers of all users
			}
			if err := json.Unmarshal(plain, &record); err != nil {
				return nil, 0, err
			}
			if record.Name != pseudonymKey || len(record.Secret) != keyring.KeySize {
				return nil, 0, errors.New("it is another record")
			}
		}
		plain, err := json.Marshal(record)
		if err != nil {
			return nil, 0, err
		}
		sealed, err := p.keys.Seal(plain)
		return sealed, 0, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the secret of pseudonyms: %w", err)
	}
	p.secret, p.sealedWith = record.Secret, active
	return p.secret, nil
}
