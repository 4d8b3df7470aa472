// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/plugin/stores/memory"
)

// tokenPlatform hands out tokens, of which the newest alone is good unless all
// are bad.
type tokenPlatform struct {
	provider.Provider // nothing of it is used

	mu       sync.Mutex
	issued   int
	lifetime time.Duration
	stable   bool // hand out the same one again
	allBad   bool
	down     atomic.Bool
	calls    atomic.Int32
}

func (p *tokenPlatform) AppToken(context.Context) (string, time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down.Load() {
		return "", 0, &provider.Error{Reason: provider.Unavailable}
	}
	if !p.stable || p.issued == 0 {
		p.issued++
	}
	return fmt.Sprint("token-", p.issued), p.lifetime, nil
}

// use is a call with a token.
func (p *tokenPlatform) use(_ context.Context, token string) (string, error) {
	p.calls.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.allBad || token != fmt.Sprint("token-", p.issued) {
		return "", &provider.Error{Reason: provider.TokenRejected, PlatformCode: "40001"}
	}
	return token, nil
}

// kill makes the newest token bad, as somebody does who fetches one elsewhere.
func (p *tokenPlatform) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.issued++
}

// newNode returns the runtime and the program, of platform, of a node on a store.
func newNode(t *testing.T, st *state, keys *keyring.Ring, platform provider.Provider) (*runtime, *program) {
	t.Helper()
	p := &program{
		platform: "wechat", appID: "wxA", timeout: time.Second, logger: zap.NewNop(),
		slots: make(chan struct{}, 100), token: appToken{gate: make(chan struct{}, 1)},
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{IsSuccessful: answered, IsExcluded: uncalled}),
	}
	p.provider.Store(&handover{current: platform})
	return &runtime{state: st, keys: keys}, p
}

func newSharedState(t *testing.T) (*state, *keyring.Ring) {
	t.Helper()
	opened, err := new(memory.Opener).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st := newState(opened)
	t.Cleanup(func() { _ = st.Destruct() })
	keys, err := keyring.New(keyring.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	return st, keys
}

// Tokens that kill one another: two nodes that each fetch their own make each
// other's bad for ever. They share one, however many calls there are at once.
func TestAppTokenIsFetchedOnce(t *testing.T) {
	st, keys := newSharedState(t)
	platform := &tokenPlatform{lifetime: 2 * time.Hour}
	var calls sync.WaitGroup
	for range 3 {
		rt, p := newNode(t, st, keys, platform)
		for range 50 {
			calls.Go(func() {
				if token, err := withAppToken(t.Context(), rt, p, platform.use); err != nil || token != "token-1" {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
	}
	calls.Wait()
	if platform.issued != 1 {
		t.Errorf("%d tokens were fetched", platform.issued)
	}
	sealed, err := st.store.Get(t.Context(), "token/wechat/wxA")
	if err != nil || strings.Contains(string(sealed), "token-1") {
		t.Errorf("stored as %q, %v", sealed, err)
	}
}

// A token that was killed elsewhere is replaced once, not once for each of the
// calls that it spoils, and not by the node that has the new one already.
func TestAppTokenIsReplacedOnce(t *testing.T) {
	st, keys := newSharedState(t)
	platform := &tokenPlatform{lifetime: 2 * time.Hour}
	rtA, nodeA := newNode(t, st, keys, platform)
	rtB, nodeB := newNode(t, st, keys, platform)
	for _, node := range []struct {
		rt *runtime
		p  *program
	}{{rtA, nodeA}, {rtB, nodeB}} {
		if _, err := withAppToken(t.Context(), node.rt, node.p, platform.use); err != nil {
			t.Fatal(err)
		}
	}
	platform.kill() // token-2 is good, and nobody has it
	platform.calls.Store(0)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if token, err := withAppToken(t.Context(), rtA, nodeA, platform.use); err != nil || token != "token-3" {
				t.Errorf("A: %q, %v", token, err)
			}
		})
	}
	calls.Wait()
	if token, err := withAppToken(t.Context(), rtB, nodeB, platform.use); err != nil || token != "token-3" {
		t.Errorf("B: %q, %v", token, err)
	}
	if platform.issued != 3 {
		t.Errorf("%d tokens were fetched", platform.issued-1)
	}
	if n := platform.calls.Load(); n > 42 {
		t.Errorf("%d calls for 21", n)
	}
}

// A platform that refuses the token which it hands out must not be asked for
// ever: WeChat counts, and blocks.
func TestAppTokenThatIsAlwaysRefused(t *testing.T) {
	for name, platform := range map[string]*tokenPlatform{
		"the same again": {lifetime: 2 * time.Hour, stable: true, allBad: true},
		"always another": {lifetime: 2 * time.Hour, allBad: true},
	} {
		t.Run(name, func(t *testing.T) {
			st, keys := newSharedState(t)
			rt, p := newNode(t, st, keys, platform)
			_, err := withAppToken(t.Context(), rt, p, platform.use)
			var e *provider.Error
			if !errors.As(err, &e) || e.Reason != provider.Unavailable || e.RetryAfter == 0 {
				t.Errorf("error is %v", err)
			}
			if n := platform.calls.Load(); n > 2 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// The platform is down when the token is due for another: the old one is good
// for minutes more, and those are used.
func TestAppTokenOutlivesAnOutage(t *testing.T) {
	st, keys := newSharedState(t)
	platform := &tokenPlatform{lifetime: 20 * time.Second} // used for all of that, at least
	rt, p := newNode(t, st, keys, platform)
	if _, err := withAppToken(t.Context(), rt, p, platform.use); err != nil {
		t.Fatal(err)
	}
	due := *p.token.known.Load()
	due.RefreshAt = time.Now().Unix() - 1
	if err := saveToken(t.Context(), rt, due.Key, &due); err != nil {
		t.Fatal(err)
	}
	p.token.known.Store(nil)
	platform.down.Store(true)
	if token, err := withAppToken(t.Context(), rt, p, platform.use); err != nil || token != "token-1" {
		t.Errorf("%q, %v", token, err)
	}
	platform.down.Store(false)
	if token, err := withAppToken(t.Context(), rt, p, platform.use); err != nil || token != "token-2" {
		t.Errorf("after the outage: %q, %v", token, err)
	}
}

// A platform that hands out no token is not asked by every request that needs one.
func TestAppTokenFailureIsRemembered(t *testing.T) {
	st, keys := newSharedState(t)
	platform := &tokenPlatform{lifetime: 2 * time.Hour}
	platform.down.Store(true)
	rt, p := newNode(t, st, keys, platform)
	if _, err := withAppToken(t.Context(), rt, p, platform.use); !isReason(err, provider.Unavailable) {
		t.Fatal(err)
	}
	platform.down.Store(false)
	p.token.failureUntil = time.Now().Add(time.Hour) // however slow this machine is
	for range 20 {
		if _, err := withAppToken(t.Context(), rt, p, platform.use); !isReason(err, provider.Unavailable) {
			t.Fatal(err)
		}
	}
	if platform.issued != 0 {
		t.Error("the platform was asked")
	}
	p.token.failureUntil = time.Now()
	if _, err := withAppToken(t.Context(), rt, p, platform.use); err != nil {
		t.Error(err)
	}
}

// A record of another key, or one that was damaged, is no token.
func TestAppTokenRecordThatIsNone(t *testing.T) {
	st, keys := newSharedState(t)
	platform := &tokenPlatform{lifetime: 2 * time.Hour}
	rt, p := newNode(t, st, keys, platform)
	if err := saveToken(t.Context(), rt, "token/wechat/wxA", &appTokenRecord{
		Key: "token/wechat/wxB", Token: "foreign", RefreshAt: time.Now().Add(time.Hour).Unix(), ExpiresAt: time.Now().Add(time.Hour).Unix(),
	}); err != nil {
		t.Fatal(err)
	}
	if token, err := withAppToken(t.Context(), rt, p, platform.use); err != nil || token != "token-1" {
		t.Errorf("%q, %v", token, err)
	}
	if err := st.store.Put(t.Context(), "token/wechat/wxA", []byte("damaged"), 0); err != nil {
		t.Fatal(err)
	}
	p.token.known.Store(nil)
	if token, err := withAppToken(t.Context(), rt, p, platform.use); err != nil || token != "token-2" {
		t.Errorf("%q, %v", token, err)
	}
}
