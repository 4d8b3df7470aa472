// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/store"
)

// newGateways returns gateways that share a store, each with exchanges of its own.
func newGateways(t *testing.T, n int) []*runtime {
	t.Helper()
	st, keys := newSharedState(t)
	gateways := make([]*runtime, n)
	for i := range gateways {
		gateways[i] = alone(newExchanges(t.Context()))
		gateways[i].cluster = &cluster{store: st.store, keys: keys, logger: zap.NewNop()}
	}
	return gateways
}

// A retransmitted login reaches another gateway, while the first is at it or
// after: the code must not be exchanged again, which the platform would refuse.
func TestCodeIsExchangedOnceInTheCluster(t *testing.T) {
	gateways := newGateways(t, 3)
	var calls atomic.Int64
	var waiting sync.WaitGroup
	for i := range 60 {
		waiting.Go(func() {
			result, err := once(t.Context(), gateways[i%3], forLogin, "wxA", "c", "ip", func(context.Context) (signedIn, error) {
				calls.Add(1)
				return signedIn{token: "t", data: &opened{plain: []byte(`{"a":1}`)}}, nil
			})
			if err != nil || result.token != "t" || string(result.data.plain) != `{"a":1}` {
				t.Errorf("%+v %v", result, err)
			}
		})
	}
	waiting.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("%d exchanges", n)
	}
}

// Whoever brings the code of somebody else to another gateway has no part in it.
func TestForeignCodeInTheCluster(t *testing.T) {
	gateways := newGateways(t, 2)
	var calls atomic.Int64
	if _, err := once(t.Context(), gateways[0], forLogin, "wxA", "c", "ip1", outcome("t", nil, &calls)); err != nil {
		t.Fatal(err)
	}
	_, err := once(t.Context(), gateways[1], forLogin, "wxA", "c", "ip2", outcome("t", nil, &calls))
	if !errors.Is(err, errForeignCode) || calls.Load() != 1 {
		t.Errorf("%v after %d exchanges", err, calls.Load())
	}
	for _, other := range []struct {
		use           codeUse
		program, code string
	}{{forPhone, "wxA", "c"}, {forLogin, "wxB", "c"}, {forLogin, "wxA", "d"}} {
		before := calls.Load()
		if _, err := once(t.Context(), gateways[1], other.use, other.program, other.code, "ip2", outcome("t", nil, &calls)); err != nil || calls.Load() != before+1 {
			t.Errorf("%+v: %v", other, err)
		}
	}
}

// Each failure is the same on the gateway that did not see it happen; what the
// platform has not seen is tried again.
func TestFailuresInTheCluster(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		again bool
		want  *Error
	}{
		"refused by the site":  {err: errUnionIDMissing, want: errUnionIDMissing},
		"wait":                 {err: errRateLimited.retryAfter(7 * time.Second), want: errRateLimited.retryAfter(7 * time.Second)},
		"bad code":             {err: &provider.Error{Reason: provider.CodeInvalid, PlatformCode: "40029"}, want: errCodeInvalid},
		"platform asks for it": {err: &provider.Error{Reason: provider.RateLimited, RetryAfter: time.Minute}, want: errRateLimited.retryAfter(time.Minute)},
		"nobody knows":         {err: errors.New("secret detail"), want: errPlatform},
		"session not stored":   {err: fmt.Errorf("x: %w", &storeError{errors.New("full")}), want: errStore.retryAfter(0)},
		"not sent":             {err: notSentError{errors.New("too many")}, again: true, want: errPlatformDown.retryAfter(0)},
	} {
		t.Run(name, func(t *testing.T) {
			gateways := newGateways(t, 2)
			_, p := newNode(t, nil, nil, nil)
			var calls atomic.Int64
			for i, gateway := range gateways {
				_, err := once(t.Context(), gateway, forLogin, "wxA", "c", "ip", outcome("", test.err, &calls))
				if got := p.callFailure(err); *got != *test.want {
					t.Errorf("gateway %d: %v", i, got)
				}
			}
			if again := calls.Load() == 2; again != test.again {
				t.Errorf("%d exchanges", calls.Load())
			}
		})
	}
}

// brokenStore fails as told.
type brokenStore struct {
	store.Store
	lock, get, put error
}

func (s *brokenStore) Lock(ctx context.Context, name string) (func(), error) {
	if s.lock != nil {
		return nil, s.lock
	}
	return s.Store.Lock(ctx, name)
}

func (s *brokenStore) Get(ctx context.Context, key string) ([]byte, error) {
	if s.get != nil {
		return nil, s.get
	}
	return s.Store.Get(ctx, key)
}

func (s *brokenStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if s.put != nil {
		return s.put
	}
	return s.Store.Put(ctx, key, value, ttl)
}

// Where the store cannot say whether a code was exchanged, the code is kept for
// another try. Where the outcome cannot be stored, it still counts.
func TestStoreFailsDuringAnExchange(t *testing.T) {
	down := errors.New("down")
	for name, test := range map[string]struct {
		broken brokenStore
		fails  bool
	}{
		"lock": {brokenStore{lock: down}, true},
		"get":  {brokenStore{get: down}, true},
		"put":  {brokenStore{put: down}, false},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newGateways(t, 1)[0]
			working := gateway.cluster.store
			test.broken.Store = working
			gateway.cluster.store = &test.broken
			var calls atomic.Int64
			_, err := once(t.Context(), gateway, forLogin, "wxA", "c", "ip", outcome("t", nil, &calls))
			_, p := newNode(t, nil, nil, nil)
			if test.fails {
				if got := p.callFailure(err); got.Word != errStore.Word || calls.Load() != 0 {
					t.Fatalf("%v after %d exchanges", err, calls.Load())
				}
			} else if err != nil {
				t.Fatal(err)
			}
			gateway.cluster.store = working
			result, err := once(t.Context(), gateway, forLogin, "wxA", "c", "ip", outcome("t", nil, &calls))
			if err != nil || result.token != "t" || calls.Load() != 1 {
				t.Errorf("%+v %v after %d exchanges", result, err, calls.Load())
			}
		})
	}
}

// Somebody with a hand in the store moves an outcome, or damages it: it is no
// way to another user's token.
func TestOutcomeInTheWrongPlace(t *testing.T) {
	gateways := newGateways(t, 2)
	var calls atomic.Int64
	if _, err := once(t.Context(), gateways[0], forLogin, "wxA", "victim", "ip", outcome("victim's", nil, &calls)); err != nil {
		t.Fatal(err)
	}
	victim, mine := newExchangeKey(forLogin, "wxA", "victim").storeKey(), newExchangeKey(forLogin, "wxA", "mine").storeKey()
	shared := gateways[0].cluster.store
	sealed, err := shared.Get(t.Context(), victim)
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.Put(t.Context(), mine, sealed, 0); err != nil {
		t.Fatal(err)
	}
	if result, err := once(t.Context(), gateways[1], forLogin, "wxA", "mine", "ip", outcome("mine", nil, &calls)); err == nil {
		t.Errorf("a moved outcome is taken: %q", result.token)
	}
}

// What a gateway tells the others must arrive whole.
func TestOutcomesSurviveEncoding(t *testing.T) {
	gateways := newGateways(t, 2)
	told := toldInfo{
		Grant: provider.Grant{OpenID: "o", UserID: "2088", Renames: true, UnionID: "u"},
		Info:  identity.UserInfo{Nickname: "阿里", PhoneNumber: "13580006666", CountryCode: "86"},
	}
	number := provider.PhoneNumber{Number: "13580006666", CountryCode: "86"}
	for _, gateway := range gateways {
		got, err := once(t.Context(), gateway, forProfile, "a", "c", "ip", func(context.Context) (toldInfo, error) { return told, nil })
		if err != nil || got != told {
			t.Errorf("%+v %v", got, err)
		}
		phone, err := once(t.Context(), gateway, forPhone, "a", "c", "ip", func(context.Context) (provider.PhoneNumber, error) { return number, nil })
		if err != nil || phone != number {
			t.Errorf("%+v %v", phone, err)
		}
	}
}

// A gateway without the key cannot read the outcome, and must not exchange a
// code that may be spent.
func TestOutcomeOfAnotherKey(t *testing.T) {
	gateways := newGateways(t, 2)
	var calls atomic.Int64
	if _, err := once(t.Context(), gateways[0], forLogin, "wxA", "c", "ip", outcome("t", nil, &calls)); err != nil {
		t.Fatal(err)
	}
	other, err := keyring.New(keyring.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	gateways[1].cluster.keys = other
	if _, err := once(t.Context(), gateways[1], forLogin, "wxA", "c", "ip", outcome("t", nil, &calls)); err == nil || calls.Load() != 1 {
		t.Errorf("%v after %d exchanges", err, calls.Load())
	}
}
