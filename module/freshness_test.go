// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/session"
)

// signing is a platform that signs everything.
type signing struct{ provider.Provider }

func (signing) OpenSigned(_ context.Context, data []byte) (provider.Signed, error) {
	return provider.Signed{Plain: data, Signed: data}, nil
}

func (signing) PhoneNumber([]byte) (provider.PhoneNumber, error) {
	return provider.PhoneNumber{Number: "13800138000", CountryCode: "86"}, nil
}

// Data that the platform signed without saying when is good for those who have just
// signed in: a captured one must not serve whoever holds an old session.
func TestSignedDataNeedsAFreshSession(t *testing.T) {
	st, keys := newSharedState(t)
	p := &program{platform: "alipay", appID: "2021", logger: zap.NewNop()}
	p.provider.Store(&handover{current: signing{}})
	rt := &runtime{state: st, keys: keys, bringers: &bringers{store: st.store, keys: keys}}
	user := identity.Identity{Platform: "alipay", Program: "2021", OpenID: "o1"}
	for age, want := range map[time.Duration]*Error{0: nil, signedFreshness - time.Minute: nil, signedFreshness + time.Minute: errKeyStale} {
		sessions := session.NewManager(session.Options{
			Store: st.store, Keys: keys, Cache: st.cache, Now: func() time.Time { return time.Now().Add(-age) },
		})
		s, _, err := sessions.Create(t.Context(), session.Login{User: user})
		if err != nil {
			t.Fatal(err)
		}
		o := &opener{app: new(App), rt: rt, p: p, user: user, session: s}
		if _, failure := o.open(t.Context(), &openData{signed: []byte(`{}`)}); failure != want {
			t.Errorf("in a session of %s: %v, want %v", age, failure, want)
		}
	}
}
