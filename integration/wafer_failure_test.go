// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// survives fails the test unless the phone, whose session is no longer good,
// reaches the app by itself: one refusal, one login, one repetition.
func (p *waferPhone) survives() {
	t := p.world.t
	t.Helper()
	refused := "401 /orders"
	if p.SDK == wafer1 {
		refused = "200 /orders" // that client never looks at the status
	}
	received := p.world.upstream.count()
	o := p.call(waferRequest{Path: "/orders"})
	o.sent(t, refused, "200 /weapp/login", "200 /orders")
	o.reached(p)
	p.world.appReceived(received + 1)
	p.world.exchanged(1)

	// From then on it does nothing out of the ordinary.
	o = p.call(waferRequest{Path: "/orders"})
	o.sent(t, "200 /orders")
	o.reached(p)
	p.world.exchanged(0)
}

// The session is ended where the client does not see it, alone or with all
// others of the user: it must sign in again by itself. An answer that it does
// not understand leaves the app signed out for good (wafer2-startup#132: the
// phone says that the session is fine for ever).
func waferRevokedElsewhere(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for _, sdk := range wafers {
		for _, body := range []string{`{"everywhere":true}`, `{}`} {
			p := w.phone(sdk, programA, "user of "+sdk+body)
			p.signIn().called(t, "success")
			w.exchanged(1)
			old := p.skey()
			if a := w.post("/miniprogram/logout", body, bearer(old)); a.status != http.StatusNoContent {
				t.Fatalf("logout: %d %s", a.status, a.body)
			}
			p.survives()
			if p.skey() == old {
				t.Error("the client still has the session that was ended")
			}
			w.get("/orders", bearer(old)).expect(t, http.StatusUnauthorized, "session_revoked")
		}
	}
}

// The gateway is started again and knows no session any more.
func waferGatewayForgot(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{options: "store memory"})
	phones := []*waferPhone{w.phone(wafer1, programA, "alice"), w.phone(wafer2, programA, "bob")}
	for _, p := range phones {
		p.signIn().called(t, "success")
	}
	w.exchanged(2)
	w.stop()
	w.run()
	for _, p := range phones {
		p.survives()
	}
}

// The platform says that the session key is no longer valid: the first
// generation drops its session and signs in again.
func waferSessionKeyExpired(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	p := w.phone(wafer1, programA, "alice")
	p.signIn().sent(t, "200 /weapp/login")
	p.signIn().sent(t)
	p.set("keyExpired", true)
	p.signIn().sent(t, "200 /weapp/login")
	w.exchanged(2)
	p.call(waferRequest{Path: "/orders"}).reached(p)
}

// One user's session is ended while many calls of others are under way: nobody
// else notices.
func waferRevokedAmongMany(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for _, sdk := range wafers {
		alice, bob := w.phone(sdk, programA, "alice"), w.phone(sdk, programA, "bob")
		alice.signIn().called(t, "success")
		bob.signIn().called(t, "success")
		w.exchanged(2)
		w.post("/miniprogram/logout", `{"everywhere":true}`, bearer(alice.skey()))

		var calls []waferStep
		for i := range 5 {
			for _, p := range []*waferPhone{alice, bob} {
				calls = append(calls, p.calling(waferRequest{Path: fmt.Sprint("/page/", i)}))
			}
		}
		received := w.upstream.count()
		logins := 0
		for i, o := range w.take(calls...) {
			o.reached(calls[i].waferPhone)
			if calls[i].waferPhone == bob {
				logins += o.Logins
			}
		}
		w.appReceived(received + len(calls))
		if logins > 0 {
			t.Errorf("%s: bob signed in %d times", sdk, logins)
		}
		w.exchangedUpTo(5)
	}
}

// waferRefusals are the ways in which the platform refuses a code, and what the
// clients are told.
var waferRefusals = []struct {
	code, word string
	status     int
}{
	{"40029", "code_invalid", http.StatusUnauthorized},
	{"40163", "code_used", http.StatusUnauthorized},
	{"40226", "user_blocked", http.StatusForbidden},
}

// fault makes something go wrong at the platform.
func (w *waferWorld) fault(f simulator.Fault) {
	w.t.Helper()
	if err := w.platform.SetFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// A login that the platform refuses: the client reports the error that its
// documentation names, once, and tries nothing by itself (wafer2-node-sdk#59:
// ERR_GET_SESSION_KEY with the platform's raw answer).
func waferLoginRefused(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for _, sdk := range wafers {
		for _, refusal := range waferRefusals {
			p := w.phone(sdk, programA, "user of "+sdk+refusal.code)
			w.fault(simulator.Fault{Kind: simulator.FaultErrcode, Program: programA, Code: refusal.code, Times: 1})
			o := p.signIn()
			o.sent(t, fmt.Sprint(refusal.status, " /weapp/login"))
			if sdk == wafer1 {
				o.failed(t, "ERR_LOGIN_MISSING_SESSION", "登录失败(ERR_LOGIN_FAILED)："+refusal.word)
			} else {
				o.failed(t, "", "响应错误，{", `"error":"ERR_LOGIN_FAILED"`, refusal.word)
			}
			if strings.Contains(o.Error.Message, refusal.code) {
				t.Errorf("the client is told what the platform said: %s", o.Error.Message)
			}
			w.exchanged(1)
			if kept := p.skey(); kept != "" {
				t.Errorf("the client keeps the session %q", kept)
			}
			p.signIn().called(t, "success")
			w.exchanged(1)
			p.call(waferRequest{Path: "/orders"}).reached(p)
		}
	}
}

// A call without a session, and the login that the client tries then is
// refused: one login, no repetition of the call, one error.
func waferCallRefused(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	for _, sdk := range wafers {
		for _, refusal := range waferRefusals {
			p := w.phone(sdk, programA, "user of "+sdk+refusal.code)
			w.fault(simulator.Fault{Kind: simulator.FaultErrcode, Program: programA, Code: refusal.code, Times: 1})
			o := p.call(waferRequest{Path: "/orders"})
			o.sent(t, "401 /orders", fmt.Sprint(refusal.status, " /weapp/login"))
			o.called(t, "fail", "complete")
			if sdk == wafer1 {
				o.failed(t, "ERR_LOGIN_MISSING_SESSION", refusal.word)
			} else {
				o.failed(t, "", "用户未登录过，请先使用 login() 登录")
			}
			w.exchanged(1)
		}
	}
	w.appReceived(0)
}

// The platform is down: who is signed in notices nothing. A login fails once
// and takes no session away: clients of the second generation sign in again
// after every answer with code -1, those of the first drop their session when
// an answer bears the magic word.
func waferPlatformDown(t *testing.T, folder string) {
	for name, fault := range map[string]simulator.Fault{
		"refuses":  {Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable},
		"hangs up": {Kind: simulator.FaultReset, After: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWafer(t, folder, setup{})
			for _, sdk := range wafers {
				known, stranger := w.phone(sdk, programA, "known"), w.phone(sdk, programA, "stranger")
				known.signIn().called(t, "success")
				w.exchanged(1)
				skey := known.skey()

				w.fault(fault)
				known.call(waferRequest{Path: "/orders"}).reached(known)
				w.exchanged(0)

				o := known.call(waferRequest{Path: "/orders", Login: true})
				if sdk == wafer1 { // knows that it is signed in
					o.reached(known)
					w.exchanged(0)
				} else {
					o.sent(t, "503 /weapp/login")
					o.called(t, "fail", "complete")
					w.exchanged(1)
				}
				if known.skey() != skey {
					t.Errorf("%s: the client lost its session", sdk)
				}

				o = stranger.call(waferRequest{Path: "/orders"})
				o.sent(t, "401 /orders", "503 /weapp/login")
				o.called(t, "fail", "complete")
				w.exchanged(1)

				w.platform.ClearFaults()
				known.call(waferRequest{Path: "/orders"}).reached(known)
				w.exchanged(0)
				stranger.call(waferRequest{Path: "/orders"}).reached(stranger)
				w.exchanged(1)
			}
		})
	}
}

// The store is of no use, so that the gateway cannot say whether a session is
// good: 503, and both clients keep it. After the repair it is good again.
func waferStoreDown(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{})
	phones := []*waferPhone{w.phone(wafer1, programA, "alice"), w.phone(wafer2, programA, "bob")}
	for _, p := range phones {
		p.signIn().called(t, "success")
	}
	w.exchanged(2)
	w.stop()
	w.run() // and has no session in memory
	path := w.dir + "/sessions.db"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	for _, p := range phones {
		skey := p.skey()
		o := p.call(waferRequest{Path: "/orders"})
		o.sent(t, "503 /orders")
		status, data := o.response(t)
		if status != http.StatusServiceUnavailable || !strings.Contains(string(data), "store_unavailable") {
			t.Errorf("%s: answer is %d %s", p.Name, status, data)
		}
		if p.skey() != skey {
			t.Errorf("%s: the client lost its session", p.Name)
		}
	}
	w.appReceived(0)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range phones {
		o := p.call(waferRequest{Path: "/orders"})
		o.sent(t, "200 /orders")
		o.reached(p)
	}
	w.exchanged(0)
}

// waferLogFilter keeps the credentials of wafer clients out of logs. Caddy
// redacts the headers that it knows of, in access logs and error logs, but not
// these.
const waferLogFilter = `log {
	format filter {
		request>headers>X-Wx-Code delete
		request>headers>X-Wx-Id delete
		request>headers>X-Wx-Skey delete
		request>headers>X-Wx-Encrypted-Data delete
		request>headers>X-Wx-Encrypt-Data delete
		request>headers>X-Wx-Iv delete
	}
}`

// The app itself is down: that is no reason to sign in again. Caddy logs such a
// request as it was received, also where no access log was asked for; the
// gateway warns of that, and with the filter no credential is in any log.
func waferAppDown(t *testing.T, folder string) {
	w := newWafer(t, folder, setup{
		global: waferLogFilter,
		routes: "log\nreverse_proxy " + freeAddress(t),
	})
	for _, sdk := range wafers {
		p := w.phone(sdk, programA, "user of "+sdk)
		p.signIn().called(t, "success")
		skey := p.skey()
		o := p.call(waferRequest{Path: "/orders"})
		o.sent(t, "502 /orders")
		o.called(t, "success", "complete")
		if p.skey() != skey {
			t.Errorf("%s: the client lost its session", sdk)
		}
	}
	w.exchanged(2)
	for _, text := range []string{"logs will hold credentials of wafer clients", "connection refused", "handled request"} {
		if !strings.Contains(w.log.String(), text) {
			t.Errorf("the log does not say %q:\n%s", text, w.log)
		}
	}
}
