// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// alipayPhone is a number as Alipay encrypts it.
const alipayPhone = `{"code":"10000","msg":"Success","mobile":"13800138000"}`

// response returns data of Alipay's in one of its forms.
func (g *gateway) response(data, form string) string {
	g.t.Helper()
	return g.encrypt(simulator.Encryption{Program: programC, User: "alice", Data: []byte(data), Form: form}).Response
}

// Developers hand over what my.getPhoneNumber gave them in every way that there
// is. What Alipay did not sign is never believed.
func TestAlipayPhoneForms(t *testing.T) {
	g := start(t, phones)
	signed := g.response(alipayPhone, simulator.FormSigned)
	for name, body := range map[string]string{
		"the text as body":   signed,
		"response as text":   object("response", signed),
		"encryptedData":      object("encryptedData", signed),
		"encrypted_data":     object("encrypted_data", signed),
		"with more about it": `{"from":"button","response":` + object("x", signed)[len(`{"x":`):],
		"spaces around it":   object("response", " \n"+signed+"\n"),
		"plus as space":      strings.ReplaceAll(signed, "+", " "),
	} {
		t.Run(name, func(t *testing.T) {
			token := g.login(programC, "alice")
			g.seesPhone(token, "", "", "")
			if a := g.post("/miniprogram/phone", body, bearer(token)); a.status != http.StatusOK || !strings.Contains(a.body, `"e164":"+8613800138000"`) {
				t.Errorf("%d %s", a.status, a.body)
			}
			g.seesPhone(token, "13800138000", "+8613800138000", "13800138000")
			g.do(http.MethodDelete, "/miniprogram/profile", "", bearer(token))
		})
	}

	token := g.login(programC, "alice")
	refusals := make(map[string]bool)
	for name, body := range map[string]string{
		"unsigned":         g.response(alipayPhone, simulator.FormUnsigned),
		"plain":            g.response(alipayPhone, simulator.FormPlain),
		"wrong signature":  g.response(alipayPhone, simulator.FormWrongSignature),
		"without quotes":   g.response(alipayPhone, simulator.FormUnquoted),
		"sign empty":       object("response", "AAAA", "sign", ""),
		"of another text":  strings.Replace(signed, `{"response":"`, `{"response":"AAAA`, 1),
		"no phone in it":   g.response(`{"code":"10000","msg":"Success"}`, simulator.FormSigned),
		"masked":           g.response(`{"code":"10000","msg":"Success","mobile":"138****8000"}`, simulator.FormSigned),
		"plain refusal":    g.response(`{"code":"40003","msg":"Insufficient Conditions","subCode":"isv.invalid-auth-relations"}`, simulator.FormPlain),
		"response twice":   `{"response":"AAAA",` + signed[1:],
		"sign in capitals": strings.Replace(signed, `"sign"`, `"SIGN"`, 1),
		"SHA-1":            strings.Replace(signed, "RSA2", "RSA", 1),
	} {
		t.Run(name, func(t *testing.T) {
			for _, sent := range []string{body, object("response", body), object("encryptedData", body)} {
				a := g.post("/miniprogram/phone", sent, bearer(token))
				if sent == body && name == "response twice" {
					a.expect(t, 400, "invalid_request") // anybody can see it
					continue
				}
				a.expect(t, 422, "data_invalid")
				checkErrorForm(t, a)
				refusals[a.withoutID()] = true
			}
		})
	}
	if len(refusals) != 1 {
		t.Errorf("there are several refusals: %v", refusals)
	}
	g.seesPhone(token, "", "", "")

	// The platform says, and signs, that the user does not consent any more.
	refused := g.response(`{"code":"40003","msg":"Insufficient Conditions","subCode":"isv.invalid-auth-relations","subMsg":"无效的授权关系"}`, simulator.FormSigned)
	g.post("/miniprogram/phone", refused, bearer(token)).expect(t, 409, "consent_required")
	g.post("/miniprogram/decrypt", refused, bearer(token)).expect(t, 409, "consent_required")
	missing := g.response(`{"code":"40001","msg":"Missing","subCode":"isv.missing-encrypt-key"}`, simulator.FormSigned)
	g.post("/miniprogram/phone", missing, bearer(token)).expect(t, 500, "program_misconfigured")
}

// Alipay signs no user and no time: whoever gets hold of another user's data
// must not get his number by it, wherever he brings it, and however it is dressed.
func TestAlipayPhoneReplay(t *testing.T) {
	g := start(t, setup{options: withAlipayData, directive: phones.directive + "\ndecrypt {\npath /api/*\n}"})
	signed := g.phoneCode(programC, "alice", "13800138000")
	alice, bob := g.login(programC, "alice"), g.login(programC, "bob")
	if a := g.post("/miniprogram/phone", signed, bearer(alice)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	before := g.upstream.count()
	for range 2 {
		for _, path := range []string{"/miniprogram/phone", "/miniprogram/decrypt", "/miniprogram/profile/refresh", "/api/phone"} {
			for _, body := range []string{signed, object("response", signed), strings.Replace(signed, "{", `{"x":1,`, 1)} {
				g.post(path, body, bearer(bob)).expect(t, 422, "data_invalid")
			}
		}
		body := object("program", programC, "code", g.code(programC, "bob"), "encryptedData", signed)
		g.post("/miniprogram/login", body).expect(t, 422, "data_invalid")
		g.stop() // who brought it first is known after a restart
		g.run()
	}
	if g.upstream.count() != before {
		t.Error("the data reached the upstream")
	}
	g.seesPhone(bob, "", "", "")
	g.seesPhone(alice, "13800138000", "+8613800138000", "13800138000")
	// The same user may: the platform gives the same text each time.
	if a := g.post("/miniprogram/phone", signed, bearer(g.login(programC, "alice"))); a.status != http.StatusOK {
		t.Errorf("again: %d %s", a.status, a.body)
	}
}

// Whose number it was is remembered beyond an erasure, so that nobody else can
// bring the same data. Its owner can, when he is back.
func TestAlipayPhoneAfterErasure(t *testing.T) {
	g := start(t, phones)
	signed := g.phoneCode(programC, "alice", "13800138000")
	token := g.login(programC, "alice")
	g.post("/miniprogram/phone", signed, bearer(token)).expectStatus(t, 200)
	g.post("/miniprogram/profile/delete", "", bearer(token)).expectStatus(t, 204)
	g.post("/miniprogram/phone", signed, bearer(g.login(programC, "bob"))).expect(t, 422, "data_invalid")
	token = g.login(programC, "alice")
	g.seesPhone(token, "", "", "")
	g.post("/miniprogram/phone", signed, bearer(token)).expectStatus(t, 200)
	g.seesPhone(token, "13800138000", "+8613800138000", "13800138000")
}
