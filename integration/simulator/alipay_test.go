// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	alipayApp   = "2021000000000000"
	alipayOther = "2021000000000009"
	alipayCerts = "2021000000000007"
)

// newAlipayTest makes a simulator of a program with the demo keys, one with keys
// from a seed and one in certificate mode, and one of WeChat.
func newAlipayTest(t testing.TB, changes ...func(*Config)) (*Simulator, *testClock) {
	t.Helper()
	programs := func(c *Config) {
		c.Programs = []Program{
			{Platform: "alipay", AppID: alipayApp, Secret: DemoSecret},
			{Platform: "alipay", AppID: alipayOther, Secret: GenerateSecret, Seed: "test"},
			{Platform: "alipay", AppID: alipayCerts, Secret: GenerateSecret, Seed: "test", Certificates: true},
			{Platform: "wechat", AppID: testApp, Secret: testSecret},
		}
	}
	return newTest(t, append([]func(*Config){programs}, changes...)...)
}

// alipayClient calls the gateway as the server of a program does.
type alipayClient struct {
	t    testing.TB
	s    *Simulator
	keys AlipayKeys
}

// clientOf makes the server of a program.
func clientOf(t testing.TB, s *Simulator, program string) alipayClient {
	t.Helper()
	keys, err := s.AlipayKeys(program)
	if err != nil {
		t.Fatal(err)
	}
	return alipayClient{t, s, keys}
}

// query returns the public parameters, with those of changes in their place;
// an empty one is left out.
func (c alipayClient) query(method string, changes url.Values) url.Values {
	query := url.Values{
		"app_id": {c.keys.AppID}, "method": {method}, "format": {"JSON"}, "charset": {"utf-8"},
		"sign_type": {"RSA2"}, "version": {"1.0"},
		"timestamp": {c.s.now().In(alipayZone).Format(alipayTime)},
	}
	if c.keys.AppCertSN != "" {
		query["app_cert_sn"], query["alipay_root_cert_sn"] = []string{c.keys.AppCertSN}, []string{c.keys.AlipayRootCertSN}
	}
	for name, values := range changes {
		query[name] = values
		if len(values) == 1 && values[0] == "" {
			delete(query, name)
		}
	}
	return query
}

// send signs a call and sends it.
func (c alipayClient) send(query, form url.Values) *httptest.ResponseRecorder {
	c.t.Helper()
	target, form := c.signed(query, form)
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=utf-8")
	recorder := httptest.NewRecorder()
	c.s.ServeHTTP(recorder, r)
	return recorder
}

// signed returns the address and the body of a call. A signature in the query
// stays.
func (c alipayClient) signed(query, form url.Values) (string, url.Values) {
	c.t.Helper()
	all := alipayRequest{params: make(map[string]string)}
	all.add(query)
	all.add(form)
	key, err := parseAlipayPrivateKey(c.keys.AppPrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, given := query["sign"]; !given {
		query.Set("sign", signAlipay(key, []byte(all.signContent())))
	}
	return alipayPath + "?" + query.Encode(), form
}

// sendForm signs a call and sends all but the charset in the body.
func (c alipayClient) sendForm(form url.Values) string {
	c.t.Helper()
	all := alipayRequest{params: map[string]string{"charset": "utf-8"}}
	all.add(form)
	key, err := parseAlipayPrivateKey(c.keys.AppPrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	form.Set("sign", signAlipay(key, []byte(all.signContent())))
	r := httptest.NewRequest(http.MethodPost, alipayPath+"?charset=utf-8", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	recorder := httptest.NewRecorder()
	c.s.ServeHTTP(recorder, r)
	return recorder.Body.String()
}

// codeForm is the body that exchanges a code.
func codeForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}}
}

// exchange exchanges a code.
func (c alipayClient) exchange(code string) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.send(c.query(alipayTokenMethod, nil), codeForm(code))
}

// topLevel returns the members of an answer in their order.
func topLevel(t testing.TB, body []byte) []alipayMember {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); token != json.Delim('{') || err != nil {
		t.Fatalf("the answer begins with %v, error %v: %q", token, err, body)
	}
	var members []alipayMember
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			t.Fatalf("error %v in %q", err, body)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			t.Fatalf("error %v in %q", err, body)
		}
		members = append(members, alipayMember{name.(string), value})
	}
	return members
}

// find returns the last member called name, as a map would.
func find(members []alipayMember, name string) []byte {
	var value []byte
	for _, member := range members {
		if member.name == name {
			value = member.value
		}
	}
	return value
}

// isSealed reports whether the signature of an answer is Alipay's of content.
func (c alipayClient) isSealed(members []alipayMember, content []byte) bool {
	c.t.Helper()
	key, _, err := parseAlipayAppKey(c.keys.AlipayPublicKey)
	if err != nil {
		c.t.Fatal(err)
	}
	var sign string
	if err := json.Unmarshal(find(members, "sign"), &sign); err != nil {
		return false
	}
	return verifyAlipay(key, string(content), sign) == nil
}

// open returns the node of an answer, which must be alone and signed.
func (c alipayClient) open(body []byte, name string) map[string]any {
	c.t.Helper()
	members := topLevel(c.t, body)
	node := find(members, name)
	if node == nil || members[0].name != name || !c.isSealed(members, node) {
		c.t.Fatalf("there is no signed node %s in %s", name, body)
	}
	var object map[string]any
	if err := json.Unmarshal(node, &object); err != nil {
		c.t.Fatal(err)
	}
	return object
}

// wantSubCode checks an error of alipay.system.oauth.token.
func (c alipayClient) wantSubCode(recorder *httptest.ResponseRecorder, code, subCode string) {
	c.t.Helper()
	node := c.open(recorder.Body.Bytes(), alipayErrorNode)
	if node["code"] != code || node["sub_code"] != subCode || node["msg"] == "" || node["sub_msg"] == "" || len(node) != 4 {
		c.t.Errorf("node is %v, want %s %s", node, code, subCode)
	}
}

// signIn exchanges a code of alice and returns the node.
func (c alipayClient) signIn(scopes ...string) map[string]any {
	c.t.Helper()
	code, err := c.s.Login(c.keys.AppID, "alice", scopes...)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.open(c.exchange(code).Body.Bytes(), alipayNode(alipayTokenMethod))
}

const tokenNode = "alipay_system_oauth_token_response"

// The answer of an openid program, as seen on the wire: numbers as numbers, no
// code, no msg, no user_id, labelled as HTML.
func TestAlipayToken(t *testing.T) {
	s, _ := newAlipayTest(t, func(c *Config) { c.Programs[0].NoUnionID = true })
	c := clientOf(t, s, alipayApp)
	code := login(t, s, alipayApp, "alice")
	if !regexp.MustCompile(`^[0-9A-Za-z]{32}$`).MatchString(code) {
		t.Errorf("code is %q", code)
	}
	recorder := c.exchange(code)
	if recorder.Code != http.StatusOK || recorder.Header().Get("Content-Type") != "text/html;charset=utf-8" ||
		!regexp.MustCompile(`^[0-9a-f]{30}$`).MatchString(recorder.Header().Get("trace_id")) {
		t.Errorf("answer is %d %v", recorder.Code, recorder.Header())
	}
	form := regexp.MustCompile(`^\{"` + tokenNode + `":\{"access_token":"authbseB[0-9A-Za-z]{32}",` +
		`"auth_start":"2026-03-01 20:00:00","expires_in":1296000,"re_expires_in":2592000,` +
		`"refresh_token":"authbseB[0-9A-Za-z]{32}","open_id":"(0[0-9]{2}[0-9A-Za-z_-]{44})"\},"sign":"[0-9A-Za-z+/]{342}=="\}$`)
	parts := form.FindStringSubmatch(recorder.Body.String())
	if parts == nil {
		t.Fatalf("answer is %s", recorder.Body)
	}
	c.open(recorder.Body.Bytes(), tokenNode)
	identity, err := s.Identity(alipayApp, "alice")
	if err != nil || identity.OpenID != parts[1] || !regexp.MustCompile(`^2088[0-9]{12}$`).MatchString(identity.UserID) {
		t.Errorf("identity is %+v, error %v, answer %s", identity, err, recorder.Body)
	}
	other, err := s.Identity(alipayOther, "alice")
	if err != nil || other.UserID != identity.UserID || other.OpenID == identity.OpenID {
		t.Errorf("identity in another program is %+v, error %v", other, err)
	}
}

// A code is dead after use, after three minutes and everywhere else, and nobody
// is told which.
func TestAlipayCodes(t *testing.T) {
	s, clock := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	used := login(t, s, alipayApp, "alice")
	c.open(c.exchange(used).Body.Bytes(), tokenNode)
	expired := login(t, s, alipayApp, "alice")
	clock.advance(3 * time.Minute)
	foreign := login(t, s, alipayOther, "alice")
	for name, code := range map[string]string{
		"used": used, "expired": expired, "foreign": foreign, "empty": "", "unknown": strings.Repeat("0", 32),
		"10 KB": strings.Repeat("x", 10<<10), "hostile": "a&b=c%\x00\x1f\"\n<é>+ ",
	} {
		t.Run(name, func(t *testing.T) {
			alipayClient{t, s, c.keys}.wantSubCode(c.exchange(code), "40002", "isv.code-invalid")
		})
	}
	// The right program can still use its code.
	other := clientOf(t, s, alipayOther)
	other.open(other.exchange(foreign).Body.Bytes(), tokenNode)
}

// A code is for one exchange, whoever is first.
func TestAlipayOneCodeManyExchanges(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	code := login(t, s, alipayApp, "alice")
	var successes, invalid atomic.Int32
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			switch body := c.exchange(code).Body.String(); {
			case strings.Contains(body, "access_token"):
				successes.Add(1)
			case strings.Contains(body, "isv.code-invalid"):
				invalid.Add(1)
			}
		})
	}
	group.Wait()
	if successes.Load() != 1 || invalid.Load() != 99 {
		t.Errorf("%d exchanges succeeded and %d found the code invalid, want 1 and 99", successes.Load(), invalid.Load())
	}
	for _, name := range []string{alipayPath, alipayTokenMethod} {
		if n := s.Calls().Count(alipayApp, name); n != 100 {
			t.Errorf("%d calls of %s counted, want 100", n, name)
		}
	}
}

// Both tokens are replaced, the old ones die, and the end of it all stays where
// it is.
func TestAlipayRefresh(t *testing.T) {
	s, clock := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	refresh := func(token any) *httptest.ResponseRecorder {
		return c.send(c.query(alipayTokenMethod, nil),
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}})
	}
	first := c.signIn("auth_user", "auth_zhima")
	if token := first["access_token"].(string); !strings.HasPrefix(token, "composeB") || len(token) != 40 {
		t.Errorf("token is %q", token)
	}
	clock.advance(24 * time.Hour)
	second := c.open(refresh(first["refresh_token"]).Body.Bytes(), tokenNode)
	if second["access_token"] == first["access_token"] || second["open_id"] != first["open_id"] ||
		second["expires_in"] != 1296000.0 || second["re_expires_in"] != 2592000.0-86400 {
		t.Errorf("answer is %v", second)
	}
	c.wantSubCode(refresh(first["refresh_token"]), "40002", "isv.refresh-token-invalid")
	c.wantSubCode(refresh("x"), "40002", "isv.refresh-token-invalid")
	c.wantUserInfoError(first["access_token"], "20001", "aop.auth-token-time-out")
	clock.advance(29 * 24 * time.Hour)
	c.wantSubCode(refresh(second["refresh_token"]), "40002", "isv.refresh-token-time-out")
}

// Everything at once, for the race detector.
func TestAlipayConcurrentUse(t *testing.T) {
	s, _ := newAlipayTest(t, func(c *Config) { c.RecordedCalls, c.MaxUsers, c.MaxCodes = 10, 20, 50 })
	clients := []alipayClient{clientOf(t, s, alipayApp), clientOf(t, s, alipayCerts)}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			user, c := "user"+strconv.Itoa(i), clients[i%2]
			for j := range 5 {
				code, err := s.Login(c.keys.AppID, user, "auth_user")
				if err != nil {
					t.Error(err)
				}
				if body := c.exchange(code).Body.String(); !strings.Contains(body, "access_token") {
					t.Errorf("answer is %s", body)
				}
				stage := []Migration{MigrationUserID, MigrationBoth, MigrationOpenID}[j%3]
				if err := s.SetMigration(c.keys.AppID, user, stage); err != nil {
					t.Error(err)
				}
				if _, err := s.Grant(alipayApp, alipayOther); err != nil {
					t.Error(err)
				}
				if _, err := s.SharePhone(Phone{Program: alipayApp, User: user, Number: "13800138000"}); err != nil {
					t.Error(err)
				}
				if i == 1 {
					if _, err := s.Rotate(alipayCerts, ""); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkAlipaySignIn is one code obtained and exchanged: one verification and
// one signature, and one signature of the caller's.
func BenchmarkAlipaySignIn(b *testing.B) {
	s, _ := newAlipayTest(b)
	c := clientOf(b, s, alipayApp)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			code, err := s.Login(alipayApp, "user"+strconv.Itoa(i%10_000))
			if err != nil {
				b.Error(err)
				return
			}
			if recorder := c.exchange(code); !strings.Contains(recorder.Body.String(), "open_id") {
				b.Errorf("answer is %s", recorder.Body)
				return
			}
		}
	})
}
