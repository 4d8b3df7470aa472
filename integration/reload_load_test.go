// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// reloadLoad sends requests to a gateway that is reloaded all the time, whose store
// is now one, now another.
type reloadLoad struct {
	g       *gateway
	tokens  map[string]map[string]string // by store and user
	quit    chan struct{}
	running sync.WaitGroup

	// The store in use, and a number that is odd while it changes.
	mu    sync.RWMutex
	store string
	epoch atomic.Int64

	served, logins, dropped, resent, between atomic.Int64
}

func newReloadLoad(g *gateway) *reloadLoad {
	return &reloadLoad{g: g, tokens: make(map[string]map[string]string), quit: make(chan struct{})}
}

// signIn signs users in with the store in use, which is called name.
func (l *reloadLoad) signIn(name string) {
	l.tokens[name] = make(map[string]string)
	for i := range 20 {
		user := fmt.Sprint("user-", i)
		l.tokens[name][user] = l.g.login(programA, user)
	}
}

// round returns what the upstream is told of the configuration.
func (l *reloadLoad) round() string {
	store, _ := l.inUse()
	_, body := l.send(fresh(), http.MethodGet, "/", "", "Bearer "+l.tokens[store]["user-0"])
	return strings.Join(identities(body, "X-Round"), ",")
}

// storeIs has the store changed to the one called name. For a moment after it, the
// old configuration may still serve a connection that it has accepted.
func (l *reloadLoad) storeIs(name string, change func()) {
	l.epoch.Add(1)
	change()
	time.Sleep(20 * time.Millisecond)
	l.mu.Lock()
	l.store = name
	l.mu.Unlock()
	l.epoch.Add(1)
}

// inUse returns the store in use and its epoch.
func (l *reloadLoad) inUse() (store string, epoch int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.store, l.epoch.Load()
}

// start begins to send requests: on connections of their own and on kept ones, of
// users who are signed in and of those who sign in.
func (l *reloadLoad) start() {
	kept := func() *http.Client {
		return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: patience}
	}
	for i, client := range []*http.Client{fresh(), fresh(), fresh(), kept(), kept(), kept()} {
		l.running.Go(func() {
			for n := i; !l.over(); n++ {
				l.get(client, fmt.Sprint("user-", n%20))
			}
			client.CloseIdleConnections()
		})
	}
	l.running.Go(func() {
		client := fresh()
		for n := 0; !l.over(); n++ {
			l.signInOnce(client, fmt.Sprint("visitor-", n%50))
			time.Sleep(5 * time.Millisecond) // they are not the point
		}
	})
}

// fresh returns a client that makes a connection for each request.
func fresh() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

func (l *reloadLoad) over() bool {
	select {
	case <-l.quit:
		return true
	default:
		return l.g.t.Failed()
	}
}

// stop ends the load and tells what it was. It may be called again.
func (l *reloadLoad) stop() {
	if l.over() {
		l.running.Wait()
		return
	}
	close(l.quit)
	l.running.Wait()
	l.g.t.Logf("%d requests served and %d sign-ins; %d were dropped before anything was done, and sent again; %d on kept connections were sent again by net/http; %d came while the store was changed",
		l.served.Load(), l.logins.Load(), l.dropped.Load(), l.resent.Load(), l.between.Load())
}

// get makes a request as a user who is signed in. It fails the test unless the user
// is served, or the store was changed meanwhile.
func (l *reloadLoad) get(client *http.Client, user string) {
	store, epoch := l.inUse()
	if epoch%2 == 1 {
		time.Sleep(time.Millisecond)
		return
	}
	status, body := l.send(client, http.MethodGet, "/", "", "Bearer "+l.tokens[store][user])
	got := identities(body, "X-User-Openid")
	switch {
	case status == http.StatusOK && (len(got) != 1 || got[0] != l.g.openID(programA, user)):
		l.g.t.Errorf("%s is seen as %q", user, got)
	case status == http.StatusOK:
		l.served.Add(1)
	case status == http.StatusUnauthorized && l.epoch.Load() != epoch:
		l.between.Add(1)
	default:
		l.g.t.Errorf("%s, of store %s, is answered %d %s", user, store, status, body)
	}
}

// signInOnce signs a user in.
func (l *reloadLoad) signInOnce(client *http.Client, user string) {
	code, err := l.g.platform.Login(programA, user)
	if err != nil {
		l.g.t.Error(err)
		return
	}
	status, body := l.send(client, http.MethodPost, "/miniprogram/login", `{"program":"`+programA+`","code":"`+code+`"}`, "")
	if status != http.StatusOK {
		l.g.t.Errorf("a sign-in is answered %d %s", status, body)
		return
	}
	l.logins.Add(1)
}

// resendings is how often a request is sent again that was dropped, while reloads come
// without a pause between them.
const resendings = 10

// send sends a request, and again if the connection was closed without an answer:
// net/http drops a request that it has read, but not begun with, when its server is
// shut down, which is what Caddy does to the one of the old configuration. That it
// can be sent again shows that nothing had been done: a code is good for once.
func (l *reloadLoad) send(client *http.Client, method, path, body, authorization string) (status int, answer string) {
	for attempt := 0; ; attempt++ {
		request, err := http.NewRequest(method, "http://"+l.g.address+path, strings.NewReader(body))
		if err != nil {
			l.g.t.Error(err)
			return 0, ""
		}
		connections := 0
		request = request.WithContext(httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { connections++ },
		}))
		request.Header.Set("Content-Type", "application/json")
		if authorization != "" {
			request.Header.Set("Authorization", authorization)
		}
		response, err := client.Do(request)
		if connections > 1 {
			l.resent.Add(1)
		}
		if err != nil && attempt < resendings && errors.Is(err, io.EOF) {
			l.dropped.Add(1)
			continue
		}
		if err != nil {
			l.g.t.Errorf("a request fails: %v", err)
			return 0, ""
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil {
			l.g.t.Errorf("an answer is cut off: %v", err)
		}
		return response.StatusCode, string(data)
	}
}

// check looks at every session of the store in use, and of the other one.
func (l *reloadLoad) check() {
	l.g.t.Helper()
	for range 2 {
		store, _ := l.inUse()
		for user := range l.tokens[store] {
			l.get(fresh(), user)
		}
		other := map[string]int{"a": storeEvery, "b": 0}[store]
		l.storeIs(storeOf(other), func() { l.g.mustReload(reloaded(other)) })
	}
}
