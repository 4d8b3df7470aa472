// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// The main job: sign in, call the app. The app needs no wafer server SDK and
// sees neither skey nor id nor code (wafer2-startup#10, #153 and #168 are about
// setting those servers up).
func waferLoginAndCall(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for i, sdk := range wafers {
		p := w.phone(sdk, programA, "user of "+sdk)
		o := p.signIn()
		o.called(t, "success")
		o.sent(t, "200 /weapp/login")
		var user struct{ OpenID, NickName string }
		if err := json.Unmarshal(o.Value, &user); err != nil {
			t.Fatal(err)
		}
		// The first generation gives the app what the phone knows of the user,
		// the second what the server says.
		if sdk == wafer1 && user.NickName == "" || sdk == wafer2 && user.OpenID != p.openID() {
			t.Errorf("%s: the mini-program is told that the user is %s", sdk, o.Value)
		}

		o = p.call(waferRequest{Path: "/orders", Data: map[string]string{"page": "2"}})
		o.sent(t, "200 /orders")
		if raw := o.reached(p); !strings.HasPrefix(raw, "GET /orders?page=2 HTTP/1.1\r\n") {
			t.Errorf("%s: the app received %s", sdk, raw)
		}
		p.skey()
		w.appReceived(i + 1)
		w.exchanged(1)
	}
}

// A call without a login: the client signs in by itself and repeats the call.
// The app receives it once, with its body: what was bought twice is paid twice.
func waferCallWithoutLogin(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for i, sdk := range wafers {
		p := w.phone(sdk, programA, "user of "+sdk)
		o := p.call(waferRequest{Path: "/orders", Method: "POST", Data: map[string]any{"item": 7}})
		o.sent(t, "401 /orders", "200 /weapp/login", "200 /orders")
		if raw := o.reached(p); !strings.HasPrefix(raw, "POST /orders HTTP/1.1\r\n") || !strings.HasSuffix(raw, `{"item":7}`) {
			t.Errorf("%s: the app received %s", sdk, raw)
		}
		w.appReceived(i + 1)
		w.exchanged(1)
	}
}

// The option login of the function request: the second generation gets a new
// code for every call, the first asks the phone whether that is needed. Neither
// may lose the user, however many sessions that makes.
func waferLoginEveryTime(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{options: "session {\nper_user 3\n}"})
	for _, sdk := range wafers {
		p := w.phone(sdk, programA, "user of "+sdk)
		const calls = 5
		for range calls {
			p.call(waferRequest{Path: "/orders", Login: true}).reached(p)
		}
		want := calls
		if sdk == wafer1 {
			want = 1
		}
		w.exchanged(want)
	}
	w.appReceived(10)
}

// Attack: a user who controls his phone adds headers that say that he is
// somebody else.
func waferForgedHeaders(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{directive: "headers user cloudrun"})
	for _, sdk := range wafers {
		alice, bob := w.phone(sdk, programA, "alice"), w.phone(sdk, programA, "bob")
		alice.signIn()
		bob.signIn()
		id := alice.openID()
		raw := bob.call(waferRequest{Path: "/orders", Header: map[string]string{
			"X-User-Openid": id, "X-WX-OPENID": id, "X_User_Id": id, "x-user.unionid": id, "X-Forwarded-User": id,
			"Connection": "close, X-User-Openid, X-WX-Openid",
		}}).reached(bob)
		if strings.Contains(raw, id) {
			t.Errorf("the app received the identity that was claimed:\n%s", raw)
		}
		if got := identities(raw, "X-WX-Openid"); len(got) != 1 || got[0] != bob.openID() {
			t.Errorf("X-WX-Openid is %q", got)
		}
	}
}

// Two users at once, on phones of both generations and in two programs: with
// many calls under way at the same time nobody is taken for somebody else.
func waferManyUsers(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	var phones []*waferPhone
	for _, sdk := range wafers {
		for _, program := range []string{programA, programB} {
			phones = append(phones, w.phone(sdk, program, "alice"), w.phone(sdk, program, "bob"))
		}
	}
	logins := make([]waferStep, len(phones))
	for i, p := range phones {
		logins[i] = waferStep{waferPhone: p, Do: "login"}
	}
	for _, o := range w.take(logins...) {
		o.called(t, "success")
	}
	w.exchanged(len(phones))

	var calls []waferStep
	for i := range 40 {
		for _, p := range phones {
			calls = append(calls, p.calling(waferRequest{Path: fmt.Sprintf("/%s/%s?call=%d", p.SDK, p.User, i)}))
		}
	}
	for i, o := range w.take(calls...) {
		p := calls[i].waferPhone
		if raw := o.reached(p); !strings.HasPrefix(raw, "GET "+calls[i].Request.Path+" ") {
			t.Errorf("%s received the answer to another request: %s", p.Name, raw)
		}
	}
	w.appReceived(len(calls))
	w.exchanged(0)
}

// The app's first page sends as many calls at once as the runtime lets it, and
// nobody is signed in: N answers of 401, N logins, and the last one wins
// (IvinWu/weRequest#36). Here each of them holds, and each call arrives once.
func waferParallelStart(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	const parallel = 40 // more than the sessions a user can have
	for _, sdk := range wafers {
		p := w.phone(sdk, programA, "user of "+sdk)
		calls := make([]waferStep, parallel)
		for i := range calls {
			calls[i] = p.calling(waferRequest{Path: fmt.Sprint("/page/", i)})
		}
		received := w.upstream.count()
		for _, o := range w.take(calls...) {
			o.reached(p)
		}
		w.appReceived(received + parallel)
		w.exchangedUpTo(parallel)
		p.call(waferRequest{Path: "/page/after"}).reached(p)
		w.exchangedUpTo(1)
	}
}

// The network stack of a phone sends a request again when an answer is lost or
// late, also that with the code, which the platform takes once (errcode 40163).
func waferRequestsSentAgain(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for _, sdk := range wafers {
		p := w.phone(sdk, programA, "user of "+sdk)
		p.set("resends", true)
		p.signIn().called(t, "success")
		p.call(waferRequest{Path: "/orders"}).reached(p)
		w.exchanged(1)

		other := w.phone(sdk, programB, "user of "+sdk)
		other.set("resends", true)
		o := other.call(waferRequest{Path: "/orders"})
		o.sent(t, "401 /orders", "200 /weapp/login", "200 /orders")
		o.reached(other)
		w.exchanged(1)
	}
}
