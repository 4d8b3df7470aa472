// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// grantTest makes a merchant's leave for a third-party application.
func grantTest(t testing.TB) (*Simulator, *testClock, alipayClient, Grant) {
	t.Helper()
	s, clock := newAlipayTest(t)
	grant, err := s.Grant(alipayApp, alipayOther)
	if err != nil {
		t.Fatal(err)
	}
	return s, clock, clientOf(t, s, alipayOther), grant
}

// A third-party application signs in the users of its merchant, with its own
// keys: the codes, open ids and profiles are those of the merchant's program.
func TestAlipayGrant(t *testing.T) {
	s, _, isv, grant := grantTest(t)
	with := url.Values{"app_auth_token": {grant.AppAuthToken}}
	code, err := s.Login(alipayApp, "alice", "auth_user")
	if err != nil {
		t.Fatal(err)
	}
	isv.wantSubCode(isv.exchange(code), "40002", "isv.code-invalid")
	node := isv.open(isv.send(isv.query(alipayTokenMethod, with), codeForm(code)).Body.Bytes(), tokenNode)
	identity, err := s.Identity(alipayApp, "alice")
	if err != nil || node["open_id"] != identity.OpenID {
		t.Errorf("node is %v, error %v", node, err)
	}
	query := isv.query(alipayUserMethod, with)
	query.Set("auth_token", node["access_token"].(string))
	info := isv.open(isv.send(query, nil).Body.Bytes(), "alipay_user_info_share_response")
	if info["open_id"] != identity.OpenID {
		t.Errorf("node is %v", info)
	}
	own := login(t, s, alipayOther, "alice")
	isv.wantSubCode(isv.send(isv.query(alipayTokenMethod, with), codeForm(own)), "40002", "isv.code-invalid")

	// The token is for nobody else, and no other is for the merchant.
	for _, c := range []struct {
		client alipayClient
		token  string
	}{{clientOf(t, s, alipayApp), grant.AppAuthToken}, {isv, "202601BB0123456789abcdef0123456789abcX01"}} {
		query := c.client.query(alipayTokenMethod, url.Values{"app_auth_token": {c.token}})
		c.client.wantSubCode(c.client.send(query, codeForm("x")), "20001", "aop.invalid-app-auth-token")
	}
}

// The code of a merchant works once and for a day; the token can be renewed.
func TestAlipayAppToken(t *testing.T) {
	s, clock, isv, grant := grantTest(t)
	ask := func(c alipayClient, content string) map[string]any {
		t.Helper()
		form := url.Values{"biz_content": {content}}
		return c.open(c.send(c.query(alipayAppTokenMethod, nil), form).Body.Bytes(), "alipay_open_auth_token_app_response")
	}
	byCode := func(code string) string { return `{"grant_type":"authorization_code","code":"` + code + `"}` }
	if node := ask(clientOf(t, s, alipayCerts), byCode(grant.AppAuthCode)); node["sub_code"] != "isv.code-invalid" {
		t.Errorf("node is %v", node)
	}
	node := ask(isv, byCode(grant.AppAuthCode))
	tokens, _ := node["tokens"].([]any)
	if len(tokens) != 1 {
		t.Fatalf("node is %v", node)
	}
	first, _ := tokens[0].(map[string]any)
	for _, object := range []map[string]any{node, first} {
		if object["app_auth_token"] != grant.AppAuthToken || object["auth_app_id"] != alipayApp || object["expires_in"] != 31536000.0 {
			t.Errorf("token is %v", object)
		}
	}
	renewed := ask(isv, `{"grant_type":"refresh_token","refresh_token":"`+first["app_refresh_token"].(string)+`"}`)
	if renewed["app_auth_token"] != grant.AppAuthToken || node["code"] != "10000" {
		t.Errorf("node is %v", renewed)
	}
	late, err := s.Grant(alipayApp, alipayOther)
	if err != nil {
		t.Fatal(err)
	}
	clock.advance(24 * time.Hour)
	for content, want := range map[string]string{
		byCode(grant.AppAuthCode):            "isv.code-invalid",
		byCode(late.AppAuthCode):             "isv.code-invalid",
		byCode(""):                           "isv.code-invalid",
		`{"grant_type":"refresh_token"}`:     "isv.refresh-token-invalid",
		`{"grant_type":"client_credential"}`: "isv.grant-type-invalid",
		`grant_type=authorization_code`:      "isv.invalid-parameter",
		``:                                   "isv.invalid-parameter",
	} {
		if node := ask(isv, content); node["sub_code"] != want || node["code"] != "40002" {
			t.Errorf("%s: node is %v", content, node)
		}
	}
	for _, pair := range [][2]string{{alipayApp, alipayApp}, {testApp, alipayApp}, {alipayApp, testApp}, {"1", alipayApp}, {alipayApp, "1"}} {
		if _, err := s.Grant(pair[0], pair[1]); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknownProgram) {
			t.Errorf("%v: error is %v", pair, err)
		}
	}
}

// A sign-in from beginning to end, by HTTP alone.
func TestAlipayControl(t *testing.T) {
	s, _ := newAlipayTest(t)
	post := func(path, body string) map[string]any {
		t.Helper()
		return callJSON(t, s, http.MethodPost, "/simulator/"+path, body)
	}
	program := `"program":"` + alipayApp + `"`
	alice := program + `,"user":"alice"`

	var keys AlipayKeys
	if err := json.Unmarshal(do(s, http.MethodPost, "/simulator/alipay/keys", `{`+program+`}`).Body.Bytes(), &keys); err != nil {
		t.Fatal(err)
	}
	c := alipayClient{t, s, keys}
	post("alipay/migration", `{`+program+`,"migration":"both"}`)
	post("alipay/migration", `{`+alice+`,"migration":"user_id"}`)
	post("alipay/profile", `{`+alice+`,"profile":{"nick_name":"张三"}}`)
	code, _ := post("login", `{`+alice+`,"scopes":["auth_user"]}`)["code"].(string)
	node := c.open(c.exchange(code).Body.Bytes(), tokenNode)
	if node["open_id"] != nil || node["user_id"] == nil || !strings.HasPrefix(node["access_token"].(string), "authusrB") {
		t.Errorf("node is %v", node)
	}
	if info := c.open(c.userInfo(node["access_token"]), "alipay_user_info_share_response"); info["nick_name"] != "张三" {
		t.Errorf("node is %v", info)
	}

	response, _ := post("phone", `{`+alice+`,"phone":"13800138000"}`)["response"].(string)
	var data alipayOpenData
	if err := json.Unmarshal([]byte(response), &data); err != nil || data.Sign == "" {
		t.Errorf("response is %s, error %v", response, err)
	}
	plain, _ := post("encrypt", `{`+alice+`,"data":{"code":"40003"},"form":"plain"}`)["response"].(string)
	if plain != `{"response":{"code":"40003"}}` {
		t.Errorf("response is %s", plain)
	}
	if rotated := post("alipay/rotate", `{"program":"`+alipayCerts+`","download":"expired"}`); rotated["alipay_cert_sn"] == nil {
		t.Errorf("answer is %v", rotated)
	}
	if grant := post("alipay/grant", `{"merchant":"`+alipayApp+`","app":"`+alipayOther+`"}`); grant["app_auth_token"] == nil {
		t.Errorf("answer is %v", grant)
	}
	for path, body := range map[string]string{
		"alipay/keys":      `{"program":"` + testApp + `"}`,
		"alipay/migration": `{` + program + `,"migration":"openid"}`,
		"alipay/profile":   `{` + alice + `,"profile":{"code":"10000"}}`,
		"alipay/rotate":    `{` + program + `,"download":"foreign"}`,
		"alipay/grant":     `{"merchant":"` + alipayApp + `","app":"` + alipayApp + `"}`,
		"login":            `{` + alice + `,"scopes":["auth_user","auth_user"]}`,
		"encrypt":          `{` + alice + `,"data":{},"form":"strange"}`,
	} {
		if answer := post(path, body); answer["error"] != "invalid_request" {
			t.Errorf("%s: answer is %v", path, answer)
		}
	}
	for name, encryption := range map[string]Encryption{
		"watermark of WeChat": {Program: alipayApp, User: "alice", Data: json.RawMessage(`{}`), Watermark: Watermark{Omit: true}},
		"form of Alipay":      {Program: testApp, User: "alice", Data: json.RawMessage(`{}`), Form: FormSigned},
	} {
		if _, err := s.Encrypt(encryption); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// A whole call over a connection, with what only a connection shows: the reset
// before and after, and the program named in the body.
func TestAlipayOverHTTP(t *testing.T) {
	s, _ := newAlipayTest(t)
	server, client := serveHTTP(t, s)
	c := clientOf(t, s, alipayApp)
	for _, after := range []bool{false, true} {
		code := login(t, s, alipayApp, "alice")
		target, form := c.signed(c.query(alipayTokenMethod, nil), codeForm(code))
		setFault(t, s, Fault{Kind: FaultReset, Path: alipayTokenMethod, Program: alipayApp, After: after, Times: 1})
		response, err := client.PostForm(server.URL+target, form)
		if err == nil {
			t.Fatalf("after %v: there was an answer: %s", after, readAll(t, response))
		}
		if spent := strings.Contains(c.exchange(code).Body.String(), "isv.code-invalid"); spent != after {
			t.Errorf("after %v: the code is spent: %v", after, spent)
		}
	}
	setFault(t, s, Fault{Kind: FaultDrip, Delay: time.Microsecond, Program: alipayApp})
	query := c.query(alipayTokenMethod, nil)
	response, err := client.PostForm(server.URL+alipayPath+"?"+query.Encode(), codeForm("x"))
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, response); !strings.Contains(body, "isv.missing-signature") || response.Header.Get("trace_id") == "" {
		t.Errorf("answer is %v %s", response.Header, body)
	}
}

func TestAlipayProgramsOfTheCommand(t *testing.T) {
	config, err := parsePrograms([]string{"alipay:" + alipayApp + ":demo", defaultProgram})
	if err != nil || config.Programs[0] != (Program{Platform: "alipay", AppID: alipayApp, Secret: DemoSecret}) {
		t.Fatalf("programs are %v, error %v", config.Programs, err)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	clientOf(t, s, alipayApp).signIn()
}
