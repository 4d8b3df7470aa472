// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// Canaries: what must be found nowhere.
const (
	canaryPhone   = "13912345678"
	canaryForeign = "2025550147"
	canaryName    = "Canary金丝雀"
	canaryStated  = "Stated金丝雀"
	canaryEmail   = "canary@leak.example.com"
	canaryCity    = "Canarytown"
	canaryAlipay  = "13887654321"
	canaryBad     = "canary-bad-input\x01"
)

// spellings are the ways in which a text is written into logs, headers and JSON.
func spellings(text string) []string {
	quoted := strconv.QuoteToASCII(text)
	all := []string{text, url.QueryEscape(text), url.PathEscape(text), quoted[1 : len(quoted)-1], base64.StdEncoding.EncodeToString([]byte(text))}
	if encoded, err := json.Marshal(text); err == nil {
		all = append(all, string(encoded[1:len(encoded)-1]))
	}
	return all
}

// What the gateway knows of users is in no log, with debug on, in no metric, in no
// configuration, and in the store only sealed: whoever reads the disk or the logs
// of a gateway learns nobody's number.
func TestUserInfoLeaksNowhere(t *testing.T) {
	g := start(t, setup{
		global: "debug", options: withAlipayData + "\nsession {\nrecheck 1ns\n}", directive: "headers user remote_user\nheader X-City {http.auth.user.verified.city}\ndecrypt {\npath /api/*\n}",
		routes: "log {\noutput file DIR/access.log\n}\nreverse_proxy UPSTREAM",
	})
	canaries := map[string]string{
		"phone": canaryPhone, "foreign phone": canaryForeign, "nickname": canaryName, "stated nickname": canaryStated, "e-mail": canaryEmail, "city": canaryCity,
		"phone of Alipay": canaryAlipay, "openid": g.openID(programA, "alice"), "openid of Alipay": g.openID(programC, "alice"), "bad input": canaryBad[:len(canaryBad)-1],
	}
	alice, err := g.platform.Identity(programA, "alice")
	if err != nil {
		t.Fatal(err)
	}
	canaries["unionid"] = alice.UnionID
	use := g.useEverything(canaries)
	g.stop()
	for _, call := range g.platform.Calls().Recorded {
		if values, err := url.ParseQuery(call.Query); err == nil {
			for _, name := range []string{"access_token", "signature", "auth_token", "sign"} {
				if value := values.Get(name); value != "" {
					canaries[name+" of "+call.Path] = value
				}
			}
		}
	}
	access, err := os.ReadFile(g.dir + "/access.log")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(g.dir + "/sessions.db")
	if err != nil {
		t.Fatal(err)
	}
	autosaved, err := os.ReadFile(g.dir + "/config/caddy/autosave.json")
	if err != nil {
		t.Fatal(err)
	}
	// The id of the user in the access log is Caddy's own, and the design's.
	accessText := strings.NewReplacer(`"user_id":"`+g.openID(programA, "alice")+`"`, "", `"user_id":"`+g.openID(programC, "alice")+`"`, "").Replace(string(access))
	if accessText == string(access) {
		t.Error("the access log does not name the user: is it the right file?")
	}
	for what, canary := range canaries {
		for _, text := range slices.Compact(slices.Sorted(slices.Values(spellings(canary)))) {
			for where, all := range map[string]string{
				"log": g.log.String(), "access log": accessText, "store": string(stored), "metrics": use.metrics, "configuration": use.config, "saved configuration": string(autosaved),
			} {
				if allowed := where == "log" && upstreamSays(all, text); strings.Contains(all, text) && !allowed {
					t.Errorf("%s (%q) is in the %s: %s", what, text, where, around(all, text))
				}
			}
		}
	}
}

// around is the first line of a text in which another one stands.
func around(text, part string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, part) && !strings.Contains(line, `"logger":"http.handlers.reverse_proxy"`) {
			return line
		}
	}
	return ""
}

// adminTexts is what the admin endpoint tells when everything was used.
type adminTexts struct{ metrics, config string }

// useEverything uses every endpoint well and badly, and adds to the canaries what
// only exists then.
func (g *gateway) useEverything(canaries map[string]string) adminTexts {
	t := g.t
	t.Helper()
	ok := func(a answer) {
		t.Helper()
		if a.status >= 300 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	bad := func(a answer) {
		t.Helper()
		if a.status < 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
		if text := a.body; strings.Contains(text, "canary-bad") || strings.Contains(text, canaryPhone) {
			t.Errorf("the answer shows its input: %s", text)
		}
	}
	canaries["login code"] = g.code(programA, "alice")
	info := g.encrypt(simulator.Encryption{
		Program: programA, User: "alice", Data: []byte(`{"nickName":"` + canaryName + `","city":"` + canaryCity + `","gender":1}`), UserInfo: true, WithOpenID: true,
	})
	canaries["first session key"] = g.sessionKey(programA, "alice")
	token := g.token(g.post("/miniprogram/login", object("program", programA, "code", canaries["login code"], "rawData", info.RawData, "signature", info.Signature)))
	canaries["token"] = token
	alipay := g.login(programC, "alice")
	phone := g.handed(programA, "alice", `{"phoneNumber":"`+canaryPhone+`","purePhoneNumber":"`+canaryPhone+`","countryCode":"86"}`)
	canaries["encrypted data"], canaries["iv"], canaries["signature"] = phone.EncryptedData, phone.IV, info.Signature
	canaries["phone code"] = g.phoneCode(programA, "alice", canaryForeign, "1")
	canaries["code of Alipay"] = g.consentCode("alice", "auth_user")
	response := g.phoneCode(programC, "alice", canaryAlipay)

	info = g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: []byte(`{"nickName":"` + canaryName + `"}`), UserInfo: true, WithOpenID: true})
	ok(g.post("/miniprogram/decrypt", dataBody(phone), bearer(token)))
	ok(g.post("/miniprogram/phone", object("code", canaries["phone code"]), bearer(token)))
	ok(g.get("/orders", bearer(token)))
	ok(g.post("/miniprogram/phone", dataBody(phone), bearer(token)))
	ok(g.post("/miniprogram/phone", response, bearer(alipay)))
	ok(g.post("/miniprogram/profile/refresh", dataBody(info), bearer(token)))
	ok(g.post("/miniprogram/profile/refresh", object("code", canaries["code of Alipay"]), bearer(alipay)))
	ok(g.put(object("nickname", canaryStated, "email", canaryEmail), token))
	picture := g.uploaded(token, pngFile(t, 8, 8))
	ok(g.get(picture))
	ok(g.get("/miniprogram/profile", bearer(token)))
	ok(g.get("/orders", bearer(token)))
	ok(g.post("/api/phone", dataBody(phone), bearer(token)))
	ok(g.post("/api/phone", response, bearer(alipay)))

	cut := object("encryptedData", phone.EncryptedData[4:], "iv", phone.IV)
	for _, path := range []string{"/miniprogram/decrypt", "/miniprogram/phone", "/miniprogram/profile/refresh", "/api/phone"} {
		bad(g.post(path, cut, bearer(token)))
		bad(g.post(path, dataBody(phone), bearer(token+"x")))
		bad(g.post(path, strings.Replace(response, "RSA2", "RSA", 1), bearer(alipay)))
		bad(g.post(path, object("encryptedData", canaryBad, "iv", canaryBad), bearer(token)))
		bad(g.post(path, object("response", canaryBad, "sign", canaryBad), bearer(alipay)))
	}
	bad(g.post("/miniprogram/decrypt", `{"encryptedData":"`+canaryPhone+`"`, bearer(token)))
	bad(g.post("/miniprogram/phone", object("code", canaryBad), bearer(token)))
	bad(g.post("/miniprogram/phone", object("code", canaries["login code"]), bearer(token)))
	bad(g.post("/miniprogram/profile/refresh", object("code", canaries["login code"]), bearer(alipay)))
	bad(g.post("/miniprogram/login", object("program", programA, "code", g.code(programA, "alice"), "encryptedData", phone.EncryptedData[4:], "iv", phone.IV)))
	bad(g.put(object("nickname", canaryBad), token))
	bad(g.put(object("email", canaryPhone), token))
	bad(g.put(object("canary-bad-input", canaryPhone), token))
	bad(g.put(`{"nickname":"`+canaryPhone, token))
	bad(g.put(object("nickname", canaryStated), token, `If-Match: "99"`))
	bad(g.upload(token, form(part{"canary-bad-input", "canary-bad-input", "canary-bad-input/x", canaryPhone})))
	for _, fault := range []simulator.Fault{
		{Kind: simulator.FaultErrcode, Code: "99999", Message: "no number of " + g.openID(programA, "alice"), Path: phonePath},
		{Kind: simulator.FaultWrongTypes, Fields: []string{"countryCode"}, Path: phonePath},
		{Kind: simulator.FaultReset, After: true, Path: phonePath},
	} {
		g.platform.ClearFaults()
		g.fault(fault)
		bad(g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", canaryPhone)), bearer(token)))
	}
	g.platform.ClearFaults()
	openID := g.openID(programA, "alice")
	g.login(programA, "alice")
	ok(g.askUser("export", programA, openID))
	ok(g.askUser("reset_session_key", programA, openID))
	canaries["session key"] = g.sessionKey(programA, "alice")
	bad(g.askUser("export", programB, openID))
	bad(g.askUser("erase", "wxunknown", openID))
	bad(g.ask(http.MethodPost, "/miniprogram/users/erase", `{"openid":"`+openID))
	metrics := g.ask(http.MethodGet, "/metrics", "")
	config := g.ask(http.MethodGet, "/config/", "")
	ok(metrics)
	ok(config)
	ok(g.post("/miniprogram/profile/delete", "", bearer(g.login(programB, "alice"))))
	return adminTexts{metrics.body, config.body}
}
