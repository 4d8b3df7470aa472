// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// Interfaces of WeChat that a telephone number takes.
const (
	phonePath = "/wxa/business/getuserphonenumber"
	tokenPath = "/cgi-bin/stable_token"
)

// phoneCode returns what the user's phone hands out of his number: a code, or on
// Alipay a text.
func (g *gateway) phoneCode(program, user, number string, country ...string) string {
	g.t.Helper()
	code, err := g.platform.SharePhone(simulator.Phone{Program: program, User: user, Number: number, CountryCode: strings.Join(country, "")})
	if err != nil {
		g.t.Fatal(err)
	}
	return code
}

// fault makes something go wrong with the platform.
func (g *gateway) fault(f simulator.Fault) {
	g.t.Helper()
	if err := g.platform.SetFault(f); err != nil {
		g.t.Fatal(err)
	}
}

// phones is a site that tells its upstream all that there is of a number.
var phones = setup{options: withAlipayData, directive: `headers user
	header X-Phone {http.auth.user.phone}
	header X-E164 {http.auth.user.phone_e164}
	header X-Number {http.auth.user.verified.phone_number}
	header X-Stated {http.auth.user.stated.phone_number}`}

// seesPhone fails the test unless the upstream is told this number.
func (g *gateway) seesPhone(token, phone, e164, number string) {
	g.t.Helper()
	raw := g.get("/orders", bearer(token), "X-User-Phone: 110", "X-Phone: 110", "X-E164: 110", "X_Number: 110").body
	for name, want := range map[string]string{"X-User-Phone": phone, "X-Phone": phone, "X-E164": e164, "X-Number": number, "X-Stated": ""} {
		if got := identities(raw, name); strings.Join(got, "|") != want {
			g.t.Errorf("upstream sees %s: %q, want %q", name, got, want)
		}
	}
}

// The number arrives at the upstream with the very next request of all sessions,
// by a code as by encrypted data, of China as of elsewhere, and is gone with
// nothing but the profile.
func TestPhone(t *testing.T) {
	g := start(t, phones)
	other := g.login(programA, "alice")
	token := g.login(programA, "alice")
	alipay := g.login(programC, "alice")
	g.seesPhone(token, "", "", "")
	for _, test := range []struct {
		name, token, body, answer string
		phone, e164, number       string
	}{
		{
			"code", token, object("code", g.phoneCode(programA, "alice", "13580006666")),
			`{"phone_number":"13580006666","country_code":"86","e164":"+8613580006666"}`, "13580006666", "+8613580006666", "13580006666",
		},
		{
			"foreign", token, object("code", g.phoneCode(programA, "alice", "2025550123", "1")),
			`{"phone_number":"2025550123","country_code":"1","e164":"+12025550123"}`, "+12025550123", "+12025550123", "2025550123",
		},
		{
			"encrypted", token, dataBody(g.handed(programA, "alice", `{"phoneNumber":"13900001111","purePhoneNumber":"13900001111","countryCode":"86"}`)),
			`{"phone_number":"13900001111","country_code":"86","e164":"+8613900001111"}`, "13900001111", "+8613900001111", "13900001111",
		},
		{
			"encrypted, code a number", token, dataBody(g.handed(programA, "alice", `{"phoneNumber":"85251234567","purePhoneNumber":"51234567","countryCode":852}`)),
			`{"phone_number":"51234567","country_code":"852","e164":"+85251234567"}`, "+85251234567", "+85251234567", "51234567",
		},
		{
			"Alipay", alipay, g.phoneCode(programC, "alice", "13800138000"),
			`{"phone_number":"13800138000","country_code":"86","e164":"+8613800138000"}`, "13800138000", "+8613800138000", "13800138000",
		},
		{
			"Alipay, foreign", alipay, g.phoneCode(programC, "alice", "2025550123", "1"),
			`{"phone_number":"2025550123","country_code":"1","e164":"+12025550123"}`, "+12025550123", "+12025550123", "2025550123",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := g.post("/miniprogram/phone", test.body, bearer(test.token))
			if a.status != http.StatusOK || a.body != test.answer || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %s", a.status, a.body)
			}
			g.seesPhone(test.token, test.phone, test.e164, test.number)
			if p := g.profile(test.token); p.Verified["phone_number"] != test.number || p.Stated["phone_number"] != "" {
				t.Errorf("the profile is %+v", p)
			}
		})
	}
	// What a user states is not what the platform verified.
	if a := g.put(`{"phone_number":"110110","country_code":"86"}`, token); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if raw := g.get("/", bearer(token)).body; strings.Join(identities(raw, "X-User-Phone"), "") != "+85251234567" || strings.Join(identities(raw, "X-Stated"), "") != "110110" {
		t.Errorf("upstream sees\n%s", raw)
	}
	g.put(`{"phone_number":null,"country_code":null}`, token)
	g.seesPhone(other, "+85251234567", "+85251234567", "51234567")
	g.stop()
	g.run()
	g.seesPhone(token, "+85251234567", "+85251234567", "51234567")
}

// Network stacks of phones send a request again on their own, and a code works
// once: however many posts of it come, the platform is asked once, and for the
// token of the program once in hours.
func TestPhoneCodeIsSpentOnce(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	body := object("code", g.phoneCode(programA, "alice", "13580006666"))
	answers := make([]answer, 100)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = g.post("/miniprogram/phone", body, bearer(token)) })
	}
	all.Wait()
	for _, a := range answers {
		if a.status != http.StatusOK || a.body != answers[0].body || !strings.Contains(a.body, "+8613580006666") {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	calls := g.platform.Calls()
	if phone, token := calls.Count(programA, phonePath), calls.Count(programA, tokenPath); phone != 1 || token != 1 {
		t.Errorf("%d calls for the number, %d for a token", phone, token)
	}
	if a := g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580007777")), bearer(token)); !strings.Contains(a.body, "13580007777") {
		t.Errorf("another code: %d %s", a.status, a.body)
	}
	// The token outlives the process.
	g.stop()
	g.run()
	if a := g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580008888")), bearer(token)); !strings.Contains(a.body, "13580008888") {
		t.Errorf("after a restart: %d %s", a.status, a.body)
	}
	calls = g.platform.Calls()
	if phone, token := calls.Count(programA, phonePath), calls.Count(programA, tokenPath); phone != 3 || token != 1 {
		t.Errorf("in the end %d calls for numbers, %d for a token", phone, token)
	}
	g.post("/miniprogram/phone", body, bearer(token)).expect(t, 401, "code_invalid") // spent, and not remembered
}

// A number that is not the user's own, by whatever code or data, must not become
// his: accounts are found by it.
func TestPhoneRefuses(t *testing.T) {
	g := start(t, phones)
	alice, bob, alipay := g.login(programA, "alice"), g.login(programA, "bob"), g.login(programC, "alice")
	if a := g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580006666")), bearer(alice)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	userInfo := g.encrypt(simulator.Encryption{Program: programA, User: "alice", Data: []byte(userInfoData), UserInfo: true})
	ofBob := g.phoneCode(programA, "bob", "13911112222")
	good := g.handed(programA, "alice", phoneData)
	for name, test := range map[string]struct {
		body   string
		status int
		word   string
	}{
		"code of another user":    {object("code", ofBob), 401, "code_invalid"},
		"code of another program": {object("code", g.phoneCode(programB, "alice", "13911112222")), 401, "code_invalid"},
		"login code":              {object("code", g.code(programA, "alice")), 401, "code_invalid"},
		"unknown code":            {object("code", strings.Repeat("0", 64)), 401, "code_invalid"},
		"malformed code":          {object("code", "a&openid=b"), 400, "invalid_request"},
		"code of 10 kB":           {object("code", strings.Repeat("a", 10<<10)), 400, "invalid_request"},
		"line break in code":      {object("code", "a\r\nb"), 400, "invalid_request"},
		"code a number":           {`{"code":7}`, 400, "invalid_request"},
		"nothing":                 {`{}`, 400, "invalid_request"},
		"plain number":            {`{"phone_number":"13911112222","country_code":"86"}`, 400, "invalid_request"},
		"plain, as in wx":         {phoneData, 400, "invalid_request"},
		"code and data":           {`{"code":"` + ofBob + `",` + dataBody(good)[1:], 400, "invalid_request"},
		"no number in it":         {dataBody(g.handed(programA, "alice", stepsData)), 422, "data_invalid"},
		"user information":        {object("rawData", userInfo.RawData, "signature", userInfo.Signature), 422, "data_invalid"},
		"letters":                 {dataBody(g.handed(programA, "alice", `{"purePhoneNumber":"1391111x222","countryCode":"86"}`)), 422, "data_invalid"},
		"line break":              {dataBody(g.handed(programA, "alice", `{"purePhoneNumber":"139\r\nX-User-Id: evil","countryCode":"86"}`)), 422, "data_invalid"},
		"no country":              {dataBody(g.handed(programA, "alice", `{"purePhoneNumber":"13911112222"}`)), 422, "data_invalid"},
		"two numbers":             {dataBody(g.handed(programA, "alice", `{"purePhoneNumber":"13580006666","purePhoneNumber":"13911112222","countryCode":"86"}`)), 422, "data_invalid"},
		"another user's data":     {dataBody(g.handed(programA, "bob", phoneData)), 422, "data_invalid"},
		"of Alipay":               {g.phoneCode(programC, "alice", "13911112222"), 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.post("/miniprogram/phone", test.body, bearer(alice))
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
		})
	}
	g.seesPhone(alice, "13580006666", "+8613580006666", "13580006666")
	g.seesPhone(bob, "", "", "")
	g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "bob", "13911112222"))).expect(t, 401, "session_missing")
	g.post("/miniprogram/phone", object("code", "abc"), bearer(alipay)).expect(t, 400, "invalid_request")
	g.get("/miniprogram/phone", bearer(alice)).expect(t, 405, "method_not_allowed")
}

// "access_token invalid": another server of the program fetched one and so
// killed ours. It is fetched once more, and the call goes through.
func TestRejectedAppToken(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	share := func() answer {
		return g.post("/miniprogram/phone", object("code", g.phoneCode(programA, "alice", "13580006666")), bearer(token))
	}
	if a := share(); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	response, err := http.Post(g.platURL+tokenPath, "application/json",
		strings.NewReader(`{"grant_type":"client_credential","appid":"`+programA+`","secret":"`+secretA+`","force_refresh":true}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	g.platform.ResetCalls()
	if a := share(); a.status != http.StatusOK {
		t.Errorf("the token was killed: %d %s", a.status, a.body)
	}
	if phone, tokens := g.platform.Calls().Count(programA, phonePath), g.platform.Calls().Count(programA, tokenPath); phone != 2 || tokens != 1 {
		t.Errorf("%d calls for the number, %d for a token", phone, tokens)
	}

	for _, errcode := range []string{"40001", "40014", "42001"} {
		g.platform.ClearFaults()
		g.fault(simulator.Fault{Kind: simulator.FaultErrcode, Code: errcode, Path: phonePath})
		g.platform.ResetCalls()
		a := share()
		a.expect(t, 503, "platform_unavailable")
		checkErrorForm(t, a)
		if n := g.platform.Calls().Total; n > 4 {
			t.Errorf("%s: %d calls: %+v", errcode, n, g.platform.Calls().Counts)
		}
	}
	g.platform.ClearFaults()
	if a := share(); a.status != http.StatusOK {
		t.Errorf("when all is well again: %d %s", a.status, a.body)
	}
	for name, test := range map[string]struct {
		fault  simulator.Fault
		status int
		word   string
	}{
		"busy":          {simulator.Fault{Kind: simulator.FaultErrcode, Code: "-1", Path: phonePath}, 503, "platform_unavailable"},
		"quota":         {simulator.Fault{Kind: simulator.FaultErrcode, Code: "45011", Path: phonePath}, 429, "rate_limited"},
		"not allowed":   {simulator.Fault{Kind: simulator.FaultErrcode, Code: "48001", Path: phonePath}, 500, "program_misconfigured"},
		"garbage":       {simulator.Fault{Kind: simulator.FaultGarbage, Path: phonePath}, 502, "platform_error"},
		"no number":     {simulator.Fault{Kind: simulator.FaultMissingFields, Fields: []string{"purePhoneNumber"}, Path: phonePath}, 502, "platform_error"},
		"of another":    {simulator.Fault{Kind: simulator.FaultWrongTypes, Fields: []string{"appid"}, Value: []byte(`"` + programB + `"`), Path: phonePath}, 502, "platform_error"},
		"empty country": {simulator.Fault{Kind: simulator.FaultWrongTypes, Fields: []string{"countryCode"}, Value: []byte(`""`), Path: phonePath}, 502, "platform_error"},
	} {
		g.platform.ClearFaults()
		g.fault(test.fault)
		a := share()
		if a.status != test.status || a.word() != test.word {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		checkErrorForm(t, a)
	}
	if log := g.log.String(); strings.Contains(log, "13580006666") || strings.Contains(log, "access_token=") {
		t.Error("the log shows a number or a token")
	}
}
