// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

// programsAnswer is the body of the answer to GET /miniprogram/programs.
type programsAnswer struct {
	Programs []programAnswer `json:"programs"`
}

// programAnswer tells how a program does, as this node knows it.
type programAnswer struct {
	Platform string `json:"platform"`
	Program  string `json:"program"`
	// Breaker is closed, half-open or open; while it is open the platform is left
	// alone.
	Breaker string `json:"breaker"`
	// CallsUnderWay is of Concurrency, beyond which clients are refused.
	CallsUnderWay int `json:"calls_under_way"`
	Concurrency   int `json:"concurrency"`
	// LastSuccess is when the platform last answered as it should, be it that a
	// code is not good.
	LastSuccess time.Time `json:"last_success,omitzero"`
	// LastFailure is when platform or operator last failed.
	LastFailure *failureAnswer `json:"last_failure,omitempty"`
	// AppToken is left out where the platform has no such thing.
	AppToken  *appTokenAnswer `json:"app_token,omitempty"`
	Abilities []string        `json:"abilities"`
}

type failureAnswer struct {
	Error string    `json:"error"`
	At    time.Time `json:"at"`
}

// appTokenAnswer tells of an app token, but not which it is.
type appTokenAnswer struct {
	Known bool      `json:"known"`
	Until time.Time `json:"until,omitzero"`
}

// sortedPrograms returns the programs by platform and app id.
func (a *App) sortedPrograms() []*program {
	return slices.SortedFunc(maps.Values(a.programs), func(p, q *program) int {
		return strings.Compare(p.platform+"/"+p.appID, q.platform+"/"+q.appID)
	})
}

// showPrograms answers GET /miniprogram/programs.
func showPrograms(c *adminCall) (any, error) {
	answer := &programsAnswer{Programs: []programAnswer{}}
	for _, p := range c.app.sortedPrograms() {
		one := programAnswer{
			Platform: p.platform, Program: p.appID, Breaker: p.breaker.State().String(),
			CallsUnderWay: len(p.slots), Concurrency: cap(p.slots),
			LastSuccess: p.health.lastAnswer().UTC(), Abilities: p.abilityNames(),
		}
		if failed := p.health.failed.Load(); failed != nil {
			one.LastFailure = &failureAnswer{failed.word, failed.at.UTC()}
		}
		if _, ok := p.abilities().(provider.AppTokens); ok {
			one.AppToken = new(appTokenAnswer)
			if t := p.token.known.Load(); t != nil && time.Now().Unix() < t.ExpiresAt {
				one.AppToken.Known, one.AppToken.Until = true, time.Unix(t.ExpiresAt, 0).UTC()
			}
		}
		answer.Programs = append(answer.Programs, one)
	}
	return answer, nil
}

// checkAnswer is the body of the answer to POST /miniprogram/check.
type checkAnswer struct {
	OK       bool             `json:"ok"`
	Store    checkedPart      `json:"store"`
	Keys     keysAnswer       `json:"keys"`
	Programs []checkedProgram `json:"programs"`
}

// checkedPart says what is wrong with something, if anything is.
type checkedPart struct {
	OK    bool   `json:"ok"`
	Cause string `json:"cause,omitempty"`
}

// checkedProgram says whether the platform takes the secret of a program:
// accepted, failed, or unknown where nobody can tell without a user.
type checkedProgram struct {
	Platform string `json:"platform"`
	Program  string `json:"program"`
	Secret   string `json:"secret"`
	Error    string `json:"error,omitempty"`
	Cause    string `json:"cause,omitempty"`
}

// checkGateway answers POST /miniprogram/check: it writes to the store and calls
// the platforms.
func checkGateway(c *adminCall) (any, error) {
	if err := c.readStrict(&struct{}{}, true); err != nil {
		return nil, err
	}
	answer := &checkAnswer{OK: true, Store: checkedPart{OK: true}, Programs: []checkedProgram{}}
	if err := tryStore(c.Context(), c.state.store, c.keys); err != nil {
		answer.OK, answer.Store = false, checkedPart{Cause: err.Error()}
	}
	answer.Keys = c.describeKeys()
	for _, p := range c.app.sortedPrograms() {
		one := checkedProgram{Platform: p.platform, Program: p.appID, Secret: "unknown"}
		if _, ok := p.abilities().(provider.AppTokens); ok {
			one.Secret = "accepted"
			if err := p.newToken(c.Context(), c.runtime); err != nil {
				answer.OK = false
				one.Secret, one.Error, one.Cause = "failed", p.callFailure(err).Word, err.Error()
			}
		}
		answer.Programs = append(answer.Programs, one)
	}
	c.tell(zap.Bool("ok", answer.OK))
	return answer, nil
}

const (
	// checkPrefix begins the store keys of what tryStore writes.
	checkPrefix = "check/"
	// checkTimeout bounds tryStore.
	checkTimeout = 10 * time.Second
)

// tryStore writes a record, reads it and deletes it.
func tryStore(ctx context.Context, s store.Store, keys *keyring.Ring) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	name := keyring.EncodeMaster(keyring.NewMaster())
	key := checkPrefix + keys.Digest(name)
	if err := s.Put(ctx, key, []byte(name), time.Minute); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	value, err := s.Get(ctx, key)
	if err == nil && !bytes.Equal(value, []byte(name)) {
		err = errors.New("it is not what was written")
	}
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if err := s.Delete(ctx, key); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	return nil
}
