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
	"testing/synctest"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/plugin/stores/memory"
)

// farStore is a store on another machine, which can go away.
type farStore struct {
	store.Store
	away atomic.Bool // it does not answer
	deaf atomic.Bool // it does not tell about changes
	asks atomic.Int64
}

var errAway = errors.New("the store is away")

func (s *farStore) Get(ctx context.Context, key string) ([]byte, error) {
	s.asks.Add(1)
	if s.away.Load() {
		return nil, errAway
	}
	return s.Store.Get(ctx, key)
}

func (s *farStore) Watch(ctx context.Context, _ string, observer store.Observer) error {
	if s.deaf.Load() {
		return errAway
	}
	observer.Started()
	for !s.deaf.Load() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return errAway
}

// openWorld is a state with its store, in a bubble of its own time.
type openWorld struct {
	*testing.T
	*state
	store    *farStore
	sessions *session.Manager
}

// inOpenWorld runs a test in a world whose sessions last as long as options say.
func inOpenWorld(t *testing.T, options session.Options, test func(w *openWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opened, err := new(memory.Opener).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		far := &farStore{Store: opened}
		s := newState(far)
		keys, err := keyring.New(keyring.NewMaster())
		if err != nil {
			t.Fatal(err)
		}
		options.Store, options.Keys, options.Cache = far, keys, s.cache
		w := &openWorld{T: t, state: s, store: far, sessions: session.NewManager(options)}
		s.latest.Store(w.sessions)
		test(w)
		if err := s.Destruct(); err != nil {
			t.Error(err)
		}
		w.sessions.Wait()
		s.connections.mu.Lock()
		defer s.connections.mu.Unlock()
		if n := len(s.connections.users); n > 0 || s.connections.count.Load() != 0 {
			t.Errorf("%d users have connections, %d in all", n, s.connections.count.Load())
		}
	})
}

// fakeConnection is a connection that notes how it is ended.
type fakeConnection struct {
	*connection
	token string
	ended atomic.Pointer[ending]
}

// open opens a connection with a new session of a user.
func (w *openWorld) open(user string) *fakeConnection {
	w.Helper()
	s, token, err := w.sessions.Create(w.Context(), session.Login{User: identity.Identity{Platform: "p", Program: "x", OpenID: user}})
	if err != nil {
		w.Fatal(err)
	}
	f := &fakeConnection{token: token}
	f.connection = w.connections.add(s.Subject, token, func(e ending) {
		if f.ended.Swap(&e) != nil {
			w.Error("it is ended twice")
		}
	})
	return f
}

// is fails the test unless connections were ended with this word and code; the
// empty word is for those that go on.
func (w *openWorld) is(word string, code uint16, connections ...*fakeConnection) {
	w.Helper()
	synctest.Wait()
	for i, f := range connections {
		switch e := f.ended.Load(); {
		case e == nil && word != "":
			w.Errorf("connection %d goes on, want %s", i, word)
		case e != nil && (e.word != word || e.code != code):
			w.Errorf("connection %d is ended with %d %s, want %d %s", i, e.code, e.word, code, word)
		}
	}
}

// revoke ends the session of a connection.
func (w *openWorld) revoke(f *fakeConnection) {
	w.Helper()
	s, _, err := w.sessions.Validate(w.Context(), f.token)
	if err == nil {
		err = w.sessions.Revoke(w.Context(), s)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// A session that is revoked closes what it opened, and nothing else.
func TestRevocationEndsConnections(t *testing.T) {
	inOpenWorld(t, session.Options{}, func(w *openWorld) {
		phone, tablet, bob := w.open("alice"), w.open("alice"), w.open("bob")
		w.is("", 0, phone, tablet, bob)
		w.revoke(phone)
		w.is("session_revoked", 4401, phone)
		w.is("", 0, tablet, bob)
		if err := w.sessions.RevokeAll(w.Context(), tablet.subject); err != nil {
			t.Fatal(err)
		}
		w.is("session_revoked", 4401, tablet)
		w.is("", 0, bob)
		if !bob.remove() || bob.remove() {
			t.Error("a connection is closed never, or twice")
		}
		w.revoke(bob)
		w.is("", 0, bob)
	})
}

// The user signs out while his WebSocket is being opened: between the request, which
// was let through, and the connection, nobody is there to be told.
func TestRevokedWhileItWasOpened(t *testing.T) {
	inOpenWorld(t, session.Options{}, func(w *openWorld) {
		first := w.open("alice")
		w.is("", 0, first)
		w.revoke(first)
		late := &fakeConnection{}
		late.connection = w.connections.add(first.subject, first.token, func(e ending) { late.ended.Store(&e) })
		w.is("session_revoked", 4401, first, late)
	})
}

// Sessions end by themselves; one that has a connection is in use, without a word
// of the client's.
func TestEndOfSessionsWithConnections(t *testing.T) {
	inOpenWorld(t, session.Options{Lifetime: time.Hour, Idle: 10 * time.Minute}, func(w *openWorld) {
		alice := w.open("alice")
		_, unused, err := w.sessions.Create(w.Context(), session.Login{User: identity.Identity{Platform: "p", Program: "x", OpenID: "bob"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		w.is("", 0, alice)
		if _, _, err := w.sessions.Validate(w.Context(), alice.token); err != nil {
			t.Errorf("with a connection: %v", err)
		}
		if _, _, err := w.sessions.Validate(w.Context(), unused); !errors.Is(err, session.ErrExpired) {
			t.Errorf("without one: %v", err)
		}
		time.Sleep(time.Minute + time.Second)
		w.is("session_expired", 4401, alice)
	})
}

// The store goes away: connections go on for as long as requests do, half a minute
// from when it stops to tell about changes, and are then to try again elsewhere.
func TestStoreIsAway(t *testing.T) {
	inOpenWorld(t, session.Options{}, func(w *openWorld) {
		connections := make([]*fakeConnection, 300)
		for i := range connections {
			connections[i] = w.open(fmt.Sprint("user-", i))
		}
		w.is("", 0, connections...)
		w.store.away.Store(true)
		w.store.deaf.Store(true)
		time.Sleep(29 * time.Second)
		w.is("", 0, connections...)
		time.Sleep(5 * time.Second)
		w.is("store_unavailable", 1013, connections...)
	})
}

// It comes back in time: nobody notices.
func TestStoreIsBack(t *testing.T) {
	inOpenWorld(t, session.Options{}, func(w *openWorld) {
		alice, bob := w.open("alice"), w.open("bob")
		w.store.away.Store(true)
		w.store.deaf.Store(true)
		time.Sleep(20 * time.Second)
		// Alice's session is looked up; that there is no answer is no reason yet.
		w.cache.Invalidate(alice.subject)
		time.Sleep(5 * time.Second)
		w.store.away.Store(false)
		w.store.deaf.Store(false)
		time.Sleep(time.Hour)
		w.is("", 0, alice, bob)
	})
}

// A store that answers and does not tell about changes is asked. When it tells
// again, it is asked once more, for what was missed in between.
func TestMissedRevocations(t *testing.T) {
	inOpenWorld(t, session.Options{}, func(w *openWorld) {
		alice, bob, carol := w.open("alice"), w.open("bob"), w.open("carol")
		w.is("", 0, alice, bob, carol)
		missed := func(f *fakeConnection) { // the other node's cache is told, ours is not
			other := w.sessions.Options
			other.Cache = session.NewCache()
			if err := session.NewManager(other).RevokeAll(w.Context(), f.subject); err != nil {
				t.Fatal(err)
			}
		}
		w.store.deaf.Store(true)
		missed(alice)
		time.Sleep(20 * time.Second)
		w.is("", 0, alice, bob, carol)
		time.Sleep(12 * time.Second)
		w.is("session_revoked", 4401, alice)
		missed(bob)
		time.Sleep(12 * time.Second)
		w.is("session_revoked", 4401, bob)
		w.is("", 0, carol)
		w.store.deaf.Store(false)
		missed(carol)
		time.Sleep(2 * time.Second)
		w.is("session_revoked", 4401, carol)

		dora := w.open("dora")
		w.is("", 0, dora)
		asks := w.store.asks.Load()
		time.Sleep(50 * time.Second)
		w.is("", 0, dora)
		if n := w.store.asks.Load() - asks; n > 2 {
			t.Errorf("it is asked %d times, though it tells about changes", n)
		}
	})
}

// What is still open when nobody can answer for it any more is closed, and so is
// what is opened later.
func TestConnectionsEndWithTheirState(t *testing.T) {
	inOpenWorld(t, session.Options{}, func(w *openWorld) {
		alice := w.open("alice")
		w.is("", 0, alice)
		w.connections.close()
		w.is("shutdown", 1001, alice)
		w.is("shutdown", 1001, w.open("bob"))
	})
}

// newSlowConnections returns connections that are validated by a function, and what
// they have under way.
func newSlowConnections(t *testing.T, validate func(token string) (time.Time, error)) (*connections, *sync.WaitGroup) {
	t.Helper()
	tasks := new(sync.WaitGroup)
	return newConnections(connectionOptions{
		ctx: t.Context(),
		run: func(task func()) bool {
			tasks.Go(task)
			return true
		},
		validate:      func(_ context.Context, token string) (time.Time, error) { return validate(token) },
		believedUntil: func() time.Time { return time.Now().Add(time.Hour) },
		ended:         func(string, string) {},
		metrics:       processMetrics,
	}), tasks
}

// A change that is reported while a session is being looked up may be newer than
// what was found.
func TestChangeDuringACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan error)
		r, tasks := newSlowConnections(t, func(string) (time.Time, error) { return time.Now().Add(time.Hour), <-answers })
		ended := make(chan ending, 1)
		r.add("alice", "token", func(e ending) { ended <- e })
		synctest.Wait()
		r.changed("alice")
		answers <- nil
		synctest.Wait()
		select {
		case answers <- session.ErrRevoked:
		default:
			t.Fatal("the session is not looked up again")
		}
		tasks.Wait()
		if e := <-ended; e.word != "session_revoked" {
			t.Errorf("it is ended with %s", e.word)
		}
	})
}

// A store that hangs: the watch is not held up, no more than 64 users are looked up
// at once, and none of them twice.
func TestChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var most, running int
		asking := make(map[string]bool)
		answer := make(chan struct{})
		r, tasks := newSlowConnections(t, func(token string) (time.Time, error) {
			mu.Lock()
			running++
			most = max(most, running)
			if asking[token] {
				t.Error("the store is asked twice at once about one user")
			}
			asking[token] = true
			mu.Unlock()
			<-answer
			mu.Lock()
			defer mu.Unlock()
			running--
			asking[token] = false
			return time.Now().Add(time.Hour), nil
		})
		var open []*connection
		for i := range 500 {
			name := fmt.Sprint(i)
			open = append(open, r.add(name, name, func(ending) {}))
		}
		for range 3 {
			for _, c := range open {
				r.changed(c.subject)
			}
			r.checkAll()
		}
		synctest.Wait()
		close(answer)
		synctest.Wait()
		for _, c := range open {
			c.remove()
		}
		tasks.Wait()
		if most != maxChecks {
			t.Errorf("%d are looked up at once", most)
		}
		if r.workers != 0 || r.queue != nil || r.urgent != nil || len(r.users) > 0 {
			t.Errorf("%d workers, %d and %d queued, %d users", r.workers, len(r.queue), len(r.urgent), len(r.users))
		}
	})
}
