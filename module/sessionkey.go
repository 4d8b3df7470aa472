// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/session"
)

// How often the platform is asked about the keys of one user, whatever comes of
// it: clients can bring that about.
const (
	maxQuestions = 6
	recheckPause = time.Minute
)

// recheck asks the platform about the current key if nobody has vouched for it
// for the configured time, and returns keys without it if it is stale.
func (o *opener) recheck(ctx context.Context, keys []session.PlatformKey) []session.PlatformKey {
	after := time.Duration(o.app.Session.Recheck)
	if after <= 0 || len(keys) == 0 || o.session == nil || time.Since(keys[0].Vouched) < after {
		return keys
	}
	if o.isStale(ctx, keys[0]) {
		return nil // those before it are older still
	}
	return keys
}

// wentStale reports whether data did not open because the key is stale, if the
// platform may be asked about that.
func (o *opener) wentStale(ctx context.Context, key session.PlatformKey) bool {
	if o.app.Session.Recheck <= 0 || o.session == nil || time.Since(key.Vouched) < recheckPause {
		return false
	}
	return o.isStale(ctx, key)
}

// isStale asks the platform about a key and notes what it says. A key of which
// it says nothing is not stale.
func (o *opener) isStale(ctx context.Context, key session.PlatformKey) bool {
	platform, ok := o.p.abilities().(provider.SessionKeys)
	if !ok {
		return false
	}
	if _, ok := o.rt.state.questions.take(o.session.Subject); !ok {
		return false
	}
	holder := provider.Holder{OpenID: o.user.OpenID, SessionKey: key.Key}
	_, err := withAppToken(ctx, o.rt, o.p, func(ctx context.Context, token string) (struct{}, error) {
		return struct{}{}, platform.CheckSessionKey(ctx, token, holder)
	})
	subject := o.session.Subject
	stale := isReason(err, provider.KeyStale)
	switch {
	case stale:
		err = o.rt.sessions.DropKey(ctx, subject, key.Key)
	case err == nil:
		err = o.rt.sessions.VouchKey(ctx, subject, key.Key)
	}
	if err != nil {
		o.p.logger.Warn("session key is not checked", zap.String("user", o.rt.keys.Digest(subject)), zap.NamedError("cause", err))
	}
	return stale
}

// errNoKey says that there is no session key to replace.
var errNoKey = errors.New("the user has no session key")

// errUnable says that the platform of a program cannot do what was asked.
var errUnable = errors.New("the platform of this program does not have that")

// resetKey has the platform replace a user's session key.
func (o *opener) resetKey(ctx context.Context, subject string) error {
	platform, ok := o.p.abilities().(provider.SessionKeys)
	if !ok {
		return errUnable
	}
	keys, err := o.rt.sessions.StoredKeys(ctx, subject)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return errNoKey
	}
	holder := provider.Holder{OpenID: o.user.OpenID, SessionKey: keys[0].Key}
	fresh, err := withAppToken(ctx, o.rt, o.p, func(ctx context.Context, token string) (string, error) {
		return platform.ResetSessionKey(ctx, token, holder)
	})
	if isReason(err, provider.KeyStale) {
		if dropped := o.rt.sessions.DropKey(ctx, subject, keys[0].Key); dropped != nil {
			return dropped
		}
	}
	if err != nil {
		return err
	}
	return o.rt.sessions.ReplaceKey(ctx, subject, keys[0].Key, fresh)
}
