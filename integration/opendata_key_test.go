// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// signInElsewhere exchanges a login code of the user past the gateway, as another
// server of the same program would: the session key that the gateway has is void.
func (g *gateway) signInElsewhere(program, secret, user string) {
	g.t.Helper()
	before := g.sessionKey(program, user)
	query := url.Values{"appid": {program}, "secret": {secret}, "js_code": {g.code(program, user)}, "grant_type": {"authorization_code"}}
	response, err := http.Get(g.platURL + "/sns/jscode2session?" + query.Encode())
	if err != nil {
		g.t.Fatal(err)
	}
	response.Body.Close()
	if g.sessionKey(program, user) == before {
		g.t.Fatal("the session key is still the same")
	}
}

// "Pad block corrupted", the most frequent complaint: the user signed in again
// between encrypting and sending, so that the key is another one. What was
// encrypted with the key before opens in all sessions of his.
func TestDecryptWithPreviousKey(t *testing.T) {
	g := start(t, setup{})
	first := g.login(programA, "alice")
	old := dataBody(g.handed(programA, "alice", phoneData))
	if a := g.post("/miniprogram/decrypt", old, bearer(first)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	second := g.login(programA, "alice")
	fresh := dataBody(g.handed(programA, "alice", stepsData))
	for name, token := range map[string]string{"first session": first, "second session": second} {
		for body, want := range map[string]string{old: "13580006666", fresh: "stepInfoList"} {
			if a := g.post("/miniprogram/decrypt", body, bearer(token)); a.status != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	}
	// A wrong key is no reason to end a session, nor to forget the right one.
	g.login(programA, "bob")
	g.post("/miniprogram/decrypt", dataBody(g.handed(programA, "bob", phoneData)), bearer(second)).expect(t, 422, "data_invalid")
	if a := g.post("/miniprogram/decrypt", fresh, bearer(second)); a.status != http.StatusOK {
		t.Errorf("after bad data: %d %s", a.status, a.body)
	}
	// Keys are not kept for ever, neither in number: a few sign-ins later the
	// first one is forgotten.
	for range 10 {
		second = g.login(programA, "alice")
	}
	g.post("/miniprogram/decrypt", old, bearer(second)).expect(t, 422, "data_invalid")
	// Keys survive a restart.
	fresh = dataBody(g.handed(programA, "alice", stepsData))
	g.stop()
	g.run()
	if a := g.post("/miniprogram/decrypt", fresh, bearer(second)); a.status != http.StatusOK {
		t.Errorf("after a restart: %d %s", a.status, a.body)
	}
}

// A key that another server of the program made void: with recheck the platform
// is asked and the client is told to sign in again, which helps; without, nobody
// is asked and the data is invalid. The session itself goes on.
func TestDecryptWithStaleKey(t *testing.T) {
	const check = "/wxa/checksession"
	g := start(t, setup{options: "session {\nrecheck 1ns\n}"})
	token := g.login(programA, "alice")
	if a := g.post("/miniprogram/decrypt", dataBody(g.handed(programA, "alice", phoneData)), bearer(token)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if n := g.platform.Calls().Count(programA, check); n == 0 {
		t.Error("the platform was not asked")
	}
	g.signInElsewhere(programA, secretA, "alice")
	body := dataBody(g.handed(programA, "alice", phoneData))
	for range 2 {
		g.post("/miniprogram/decrypt", body, bearer(token)).expect(t, 409, "session_key_stale")
		g.post("/miniprogram/phone", body, bearer(token)).expect(t, 409, "session_key_stale")
	}
	asked := g.platform.Calls().Count(programA, check)
	g.post("/miniprogram/decrypt", body, bearer(token)).expect(t, 409, "session_key_stale")
	if n := g.platform.Calls().Count(programA, check); n != asked {
		t.Error("the platform is asked about a key that was given up")
	}
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("the session ended with the key: %d %s", a.status, a.body)
	}
	again := g.login(programA, "alice")
	body = dataBody(g.handed(programA, "alice", phoneData))
	for _, session := range []string{again, token} {
		if a := g.post("/miniprogram/decrypt", body, bearer(session)); a.status != http.StatusOK {
			t.Errorf("after a new sign-in: %d %s", a.status, a.body)
		}
	}
	// A platform that is down says nothing of a key.
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultErrcode, Code: "-1", Path: check}); err != nil {
		t.Fatal(err)
	}
	if a := g.post("/miniprogram/decrypt", body, bearer(again)); a.status != http.StatusOK {
		t.Errorf("the platform is down: %d %s", a.status, a.body)
	}

	off := start(t, setup{})
	token = off.login(programA, "alice")
	off.signInElsewhere(programA, secretA, "alice")
	off.platform.ResetCalls()
	off.post("/miniprogram/decrypt", dataBody(off.handed(programA, "alice", phoneData)), bearer(token)).expect(t, 422, "data_invalid")
	if n := off.platform.Calls().Total; n != 0 {
		t.Errorf("%d calls though recheck is off", n)
	}
}

// Data may come with the login code, as wafer clients and many others send it.
// Good data is answered and kept; with bad data nobody is signed in, and what
// was known before stays.
func TestLoginWithData(t *testing.T) {
	g := start(t, setup{options: withAlipayData})
	login := func(program, user string, pairs ...string) answer {
		t.Helper()
		return g.post("/miniprogram/login", object(append([]string{"program", program, "code", g.code(program, user)}, pairs...)...))
	}
	userInfo := func(user string) simulator.Encrypted {
		t.Helper()
		g.code(programA, user) // his phone has a session key from now on
		return g.encrypt(simulator.Encryption{Program: programA, User: user, Data: json.RawMessage(userInfoData), UserInfo: true, WithOpenID: true})
	}
	e := userInfo("alice")
	a := login(programA, "alice", "encryptedData", e.EncryptedData, "iv", e.IV, "rawData", e.RawData, "signature", e.Signature)
	token := g.token(a)
	if !strings.Contains(a.body, `"data":{"nickName":"Band"`) || !strings.Contains(a.body, `"openId":"`+g.openID(programA, "alice")+`"`) {
		t.Errorf("the data is not answered: %s", a.body)
	}
	if p := g.profile(token); p.Version != 1 || p.Verified["nickname"] != "Band" || p.Verified["city"] != "Guangzhou" || len(p.Stated) != 0 {
		t.Errorf("the data is not kept: %+v", p)
	}
	e = userInfo("bob")
	if p := g.profile(g.token(login(programA, "bob", "raw_data", e.RawData, "signature", e.Signature))); p.Verified["nickname"] != "Band" {
		t.Errorf("signed data is not kept: %+v", p)
	}
	e = g.handed(programA, "bob", phoneData) // with the key of the sign-in before
	a = login(programA, "bob", "encrypted_data", e.EncryptedData, "iv", e.IV)
	if p := g.profile(g.token(a)); p.Verified["phone_number"] != "13580006666" || p.Verified["nickname"] != "Band" {
		t.Errorf("the number is not kept: %+v", p)
	}
	e = g.handed(programA, "bob", stepsData)
	if a = login(programA, "bob", "encrypted_data", e.EncryptedData, "iv", e.IV); !strings.Contains(a.body, "stepInfoList") || g.profile(g.token(a)).Version != 2 {
		t.Errorf("steps: %d %s", a.status, a.body)
	}
	response, err := g.platform.SharePhone(simulator.Phone{Program: programC, User: "alice", Number: "13580006666"})
	if err != nil {
		t.Fatal(err)
	}
	if p := g.profile(g.token(login(programC, "alice", "encryptedData", response))); p.Verified["phone_number"] != "13580006666" {
		t.Errorf("the number of Alipay is not kept: %+v", p)
	}

	before := g.profile(token)
	sessions := g.exported(programA).Sessions
	ofBob := userInfo("bob")
	mine := g.handed(programA, "alice", phoneData)
	for name, test := range map[string]struct {
		pairs  []string
		status int
		word   string
	}{
		"another user's":      {[]string{"encryptedData", ofBob.EncryptedData, "iv", ofBob.IV}, 422, "data_invalid"},
		"another's signature": {[]string{"rawData", ofBob.RawData, "signature", ofBob.Signature}, 422, "data_invalid"},
		"no base64":           {[]string{"encryptedData", "%%", "iv", mine.IV}, 422, "data_invalid"},
		"one good, one bad":   {[]string{"encryptedData", mine.EncryptedData, "iv", mine.IV, "rawData", "{}", "signature", "x"}, 422, "data_invalid"},
		"without iv":          {[]string{"encryptedData", mine.EncryptedData}, 400, "invalid_request"},
		"without signature":   {[]string{"rawData", ofBob.RawData}, 400, "invalid_request"},
	} {
		a := login(programA, "alice", test.pairs...)
		a.expect(t, test.status, test.word)
		checkErrorForm(t, a)
		if now := g.exported(programA).Sessions; len(now) != len(sessions) {
			t.Errorf("%s: there are %d sessions, not %d", name, len(now), len(sessions))
		}
		if now := g.profile(token); now.Version != before.Version {
			t.Errorf("%s: the profile is now %+v", name, now)
		}
	}
}

// A sign-in that is refused for its data has exchanged the code: the platform has
// another session key from then on. Who was signed in before must not pay for that
// with data that does not open any more.
func TestRefusedLoginKeepsKey(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	before := g.sessionKey(programA, "alice")
	old := dataBody(g.handed(programA, "alice", phoneData))
	body := object("program", programA, "code", g.code(programA, "alice"), "encryptedData", "AAAA", "iv", "AAAA")
	g.post("/miniprogram/login", body).expect(t, 422, "data_invalid")
	if g.sessionKey(programA, "alice") == before {
		t.Fatal("the platform has the same key")
	}
	for name, body := range map[string]string{"old key": old, "new key": dataBody(g.handed(programA, "alice", phoneData))} {
		if a := g.post("/miniprogram/decrypt", body, bearer(token)); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}
