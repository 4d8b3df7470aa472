// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/session"
)

// signIn is a sign-in of somebody who brought a login code.
type signIn struct {
	code string
	// client is the address it came from.
	client string
	// login holds what is known of it before.
	login session.Login
	// data is open data that came with the code; nil without.
	data *openData
	// serves says why the site does not serve a user, or nil if it does.
	serves func(identity.Identity) *Error
}

// signedIn is the outcome of a sign-in that succeeded.
type signedIn struct {
	session *session.Session
	token   string
	// data is what was inside of the open data; nil without.
	data *opened
}

// MarshalJSON encodes what another gateway cannot find out by itself.
func (s signedIn) MarshalJSON() ([]byte, error) {
	encoded := encodedSignIn{Token: s.token}
	if s.data != nil {
		encoded.Data = s.data.plain
	}
	return json.Marshal(encoded)
}

// UnmarshalJSON is the inverse of MarshalJSON. The session is found by the token.
func (s *signedIn) UnmarshalJSON(text []byte) error {
	var encoded encodedSignIn
	if err := json.Unmarshal(text, &encoded); err != nil {
		return err
	}
	*s = signedIn{token: encoded.Token}
	if encoded.Data != nil {
		s.data = &opened{plain: encoded.Data}
	}
	return nil
}

// encodedSignIn is the JSON of signedIn.
type encodedSignIn struct {
	Token string          `json:"token"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// signIn exchanges a login code and makes a session of what the platform says.
func (a *App) signIn(ctx context.Context, rt *runtime, p *program, in signIn) (signedIn, *Error) {
	result, err := once(ctx, rt, forLogin, p.appID, in.code, in.client, func(ctx context.Context) (signedIn, error) {
		return a.exchange(ctx, rt, p, in)
	})
	if err == nil {
		// The outcome may be some seconds old, and the session ended since.
		var s *session.Session
		if s, _, err = rt.sessions.Validate(ctx, result.token); err == nil {
			result.session = s
		} else if failure, operational := sessionError(err); !operational {
			p.logger.Info("code refused", zap.String("error", errCodeUsed.Word), zap.String("session", failure.Word))
			p.metrics.login(errCodeUsed.Word)
			return signedIn{}, errCodeUsed
		} else {
			err = &storeError{err}
		}
	}
	if err == nil {
		p.metrics.login("ok")
		a.logger.Debug("user signed in", zap.String("platform", p.platform), zap.String("program", p.appID),
			zap.String("user", rt.keys.Digest(result.session.Subject)))
		return result, nil
	}
	failure := p.callFailure(err)
	p.metrics.login(failure.Word)
	return signedIn{}, failure
}

// exchange does what signIn does for a code that is new. What a client can do
// wrong is found before there is a session, which nobody would be told of.
func (a *App) exchange(ctx context.Context, rt *runtime, p *program, in signIn) (result signedIn, err error) {
	grant, err := p.exchange(ctx, in.code)
	if err != nil {
		return result, err
	}
	login := in.login
	login.PlatformKey = grant.SessionKey
	if login.User, err = rt.directory.identify(ctx, p.platform, p.appID, grant); err != nil {
		return result, &storeError{err}
	}
	failure := in.serves(login.User)
	if failure == nil && in.data.isFor(p.abilities()) {
		result.data, failure = a.openAtLogin(ctx, rt, p, login, in.data)
	}
	if failure != nil {
		// The platform has replaced the session key all the same.
		if err := rt.sessions.LearnKey(ctx, login.User.Subject(), grant.SessionKey); err != nil {
			return result, &storeError{err}
		}
		return result, failure
	}
	if result.session, result.token, err = rt.sessions.Create(ctx, login); err != nil {
		return result, &storeError{err}
	}
	if result.data != nil {
		if failure := rt.remember(ctx, p, author(result.session), result.data); failure != nil {
			return result, failure
		}
	}
	return result, nil
}

// openAtLogin opens data that came with a login code: with the session key that
// the code brought, or one of those before it.
func (a *App) openAtLogin(ctx context.Context, rt *runtime, p *program, login session.Login, d *openData) (*opened, *Error) {
	o := &opener{app: a, rt: rt, p: p, user: login.User}
	from, ok := p.abilities().(provider.OpenData)
	if !ok {
		return o.open(ctx, d)
	}
	if !d.isEncrypted() && !d.isVerifiable() {
		return nil, errInvalidRequest
	}
	keys, err := rt.sessions.StoredKeys(ctx, login.User.Subject())
	if err != nil {
		return nil, p.storeFailure(err)
	}
	keys = append([]session.PlatformKey{{Key: login.PlatformKey}}, keys...)
	return o.tried(func() (*opened, *Error) {
		if plain := tryKeys(from, login.User.OpenID, keys, d); plain != nil {
			return &opened{plain, from}, nil
		}
		return nil, errDataInvalid
	})
}

// storeError says that the platform's grant could not be kept.
type storeError struct{ cause error }

func (e *storeError) Error() string { return e.cause.Error() }
func (e *storeError) Unwrap() error { return e.cause }

// callFailure translates what went wrong with a code, or another call to the
// platform, and tells the operator as loudly as he has to act.
func (p *program) callFailure(err error) *Error {
	var unstored *storeError
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &unstored):
		p.logger.Error("store cannot be used", zap.Error(err))
		return errStore.retryAfter(0)
	case errors.Is(err, errForeignCode):
		p.logger.Info("code refused", zap.Error(err))
		return errCodeUsed
	case errors.Is(err, context.Canceled):
		return errPlatformDown.retryAfter(0)
	}
	failure := platformError(err)
	fields := []zap.Field{zap.String("error", failure.Word), zap.NamedError("cause", err)}
	var e *provider.Error
	if errors.As(err, &e) && e.TraceID != "" {
		fields = append(fields, zap.String("platform_trace_id", e.TraceID))
	}
	switch {
	case failure == errMisconfigured:
		p.logger.Error("program is misconfigured", fields...)
	case failure.Status >= 500:
		p.logger.Warn("platform call failed", fields...)
	default:
		p.logger.Info("platform refused", fields...)
	}
	return failure
}
