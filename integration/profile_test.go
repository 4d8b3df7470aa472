// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"
)

// What a user states is kept, field by field, apart from what the platform told,
// in all his sessions and across restarts.
func TestProfile(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	a := g.get("/miniprogram/profile", bearer(token))
	empty := `"verified":{},"stated":{},"version":0}`
	if !strings.HasSuffix(a.body, empty) || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Etag") != "" {
		t.Errorf("the empty profile: %d %v %s", a.status, a.header, a.body)
	}
	if p := a.profile(t); p.User["openid"] != g.openID(programA, "alice") || p.User["platform"] != "wechat" || p.User["program"] != programA {
		t.Errorf("the user is %v", p.User)
	}
	all := map[string]string{
		"nickname": "张三 O'Neil 🐼", "avatar_url": "https://cdn.example.com/a.png?x=1", "gender": "female", "country": "中国",
		"province": "广东", "city": "广州", "language": "zh_CN", "email": "a.b+c@example.com", "phone_number": "13580006666", "country_code": "86",
	}
	var pairs []string
	for name, value := range all {
		pairs = append(pairs, name, value)
	}
	if p := g.put(object(pairs...), token).profile(t); !same(p.Stated, all) || p.Version != 1 || len(p.Verified) != 0 {
		t.Errorf("after PUT: %+v", p)
	}
	if p := g.put(object(pairs...), token).profile(t); p.Version != 1 {
		t.Errorf("the same again: version %d", p.Version)
	}
	post := func(body string) profileBody {
		t.Helper()
		return g.post("/miniprogram/profile", body, bearer(token)).profile(t)
	}
	if p := post(`{"city":null,"province":"","gender":"male"}`); p.Stated["gender"] != "male" || p.Version != 2 || len(p.Stated) != len(all)-2 {
		t.Errorf("after POST: %+v", p)
	}
	if p := post(`{}`); p.Version != 2 {
		t.Errorf("after nothing: %+v", p)
	}
	// The platform's word stands beside the user's.
	e := g.handed(programA, "alice", userInfoData)
	p := g.post("/miniprogram/profile/refresh", dataBody(e), bearer(token)).profile(t)
	if p.Verified["nickname"] != "Band" || p.Verified["city"] != "Guangzhou" || p.Stated["nickname"] != all["nickname"] || p.Stated["city"] != "" || p.Version != 3 {
		t.Errorf("after a refresh: %+v", p)
	}
	if q := post(`{"nickname":null}`); q.Verified["nickname"] != "Band" || q.Stated["nickname"] != "" {
		t.Errorf("without a stated name: %+v", q)
	}
	want := g.profile(token)
	second := g.login(programA, "alice")
	g.post("/miniprogram/logout", "{}", bearer(token))
	g.stop()
	g.run()
	if got := g.profile(second); !same(got.Verified, want.Verified) || !same(got.Stated, want.Stated) || got.Version != want.Version {
		t.Errorf("after logout and restart %+v, want %+v", got, want)
	}
	g.post("/miniprogram/logout", `{"everywhere":true}`, bearer(second))
	if got := g.profile(g.login(programA, "alice")); got.Version != want.Version {
		t.Errorf("after a logout everywhere: %+v", got)
	}
	if got := g.profile(g.login(programA, "bob")); got.Version != 0 {
		t.Errorf("another user has %+v", got)
	}
	if got := g.profile(g.login(programB, "alice")); got.Version != 0 {
		t.Errorf("another program has %+v", got)
	}
}

// The bad inputs, and others by which a value could become another header,
// another log line, a script or a mail to strangers: refused with its word, and
// what is kept stays.
func TestProfileRefuses(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	if a := g.put(`{"nickname":"before"}`, token); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, test := range map[string]struct {
		body   string
		status int
		word   string
	}{
		"CR LF":                {object("nickname", "a\r\nX-User-Id: evil"), 400, "invalid_request"},
		"LF":                   {object("city", "a\nb"), 400, "invalid_request"},
		"NUL":                  {object("nickname", "a\x00b"), 400, "invalid_request"},
		"escape":               {object("nickname", "a\x1b[31m"), 400, "invalid_request"},
		"DEL":                  {object("nickname", "a\x7f"), 400, "invalid_request"},
		"line separator":       {`{"nickname":"a\u2028b"}`, 400, "invalid_request"},
		"text to the left":     {`{"nickname":"a\u202egnp.exe"}`, 400, "invalid_request"},
		"lone surrogate":       {`{"nickname":"a\ud800"}`, 400, "invalid_request"},
		"not Unicode":          {"{\"nickname\":\"a\xff\"}", 400, "invalid_request"},
		"65 characters":        {object("nickname", strings.Repeat("张", 65)), 400, "invalid_request"},
		"only spaces":          {object("nickname", "  "), 400, "invalid_request"},
		"nothing to be seen":   {`{"nickname":"\u200b\u200d"}`, 400, "invalid_request"},
		"1 MB":                 {object("nickname", strings.Repeat("a", 1<<20)), 413, "request_too_large"},
		"javascript":           {object("avatar_url", "javascript:alert(1)"), 400, "invalid_request"},
		"data":                 {object("avatar_url", "data:image/svg+xml,<svg/>"), 400, "invalid_request"},
		"http":                 {object("avatar_url", "http://cdn.example.com/a.png"), 400, "invalid_request"},
		"no host":              {object("avatar_url", "https:///a.png"), 400, "invalid_request"},
		"without scheme":       {object("avatar_url", "//cdn.example.com/a.png"), 400, "invalid_request"},
		"user in address":      {object("avatar_url", "https://bank.example@evil.example/a.png"), 400, "invalid_request"},
		"out of an attribute":  {object("avatar_url", `https://cdn.example.com/"onerror="x`), 400, "invalid_request"},
		"space in address":     {object("avatar_url", "https://cdn.example.com/a b"), 400, "invalid_request"},
		"picture of others":    {object("avatar_url", "http://"+g.address+"/miniprogram/avatar/AAAAAAAAAAAAAAAAAAAAAA.png"), 400, "invalid_request"},
		"bad e-mail":           {object("email", "a@b"), 400, "invalid_request"},
		"named e-mail":         {object("email", "Al <a@example.com>"), 400, "invalid_request"},
		"two e-mails":          {object("email", "a@example.com,b@example.com"), 400, "invalid_request"},
		"e-mail with a header": {object("email", "a@example.com\r\nBcc: b@example.com"), 400, "invalid_request"},
		"bad gender":           {object("gender", "1"), 400, "invalid_request"},
		"bad language":         {object("language", "zh CN"), 400, "invalid_request"},
		"bad number":           {object("phone_number", "+8613580006666"), 400, "invalid_request"},
		"bad country code":     {object("country_code", "+86"), 400, "invalid_request"},
		"unknown field":        {object("nickname", "x", "openid", "y"), 400, "invalid_request"},
		"version":              {`{"version":9}`, 400, "invalid_request"},
		"verified":             {`{"verified":{"phone_number":"110110"}}`, 400, "invalid_request"},
		"prototype":            {`{"__proto__":"x"}`, 400, "invalid_request"},
		"capital":              {object("Nickname", "x"), 400, "invalid_request"},
		"number":               {`{"nickname":7}`, 400, "invalid_request"},
		"boolean":              {`{"nickname":true}`, 400, "invalid_request"},
		"object":               {`{"nickname":{}}`, 400, "invalid_request"},
		"list":                 {`{"nickname":["x"]}`, 400, "invalid_request"},
		"array":                {`[{"nickname":"x"}]`, 400, "invalid_request"},
		"null":                 {"null", 400, "invalid_request"},
		"twice":                {`{"nickname":"x","nickname":"y"}`, 400, "invalid_request"},
		"twice, one null":      {`{"nickname":"x","nickname":null}`, 400, "invalid_request"},
		"twice in capital":     {`{"nickname":"x","NICKNAME":"y"}`, 400, "invalid_request"},
		"rest":                 {`{"nickname":"x"}x`, 400, "invalid_request"},
		"cut":                  {`{"nickname":"x"`, 400, "invalid_request"},
		"good and bad":         {`{"city":"good","email":"bad"}`, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.large("/miniprogram/profile", "application/json", test.body, token)
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
			if p := g.profile(token); p.Version != 1 || !same(p.Stated, map[string]string{"nickname": "before"}) {
				t.Errorf("the profile is now %+v", p)
			}
		})
	}
	g.do(http.MethodPut, "/miniprogram/profile", "nickname=x", "Content-Type: application/x-www-form-urlencoded", bearer(token)).
		expect(t, 415, "unsupported_media_type")
	g.put(`{"nickname":"x"}`, "").expect(t, 401, "session_missing")
	g.do(http.MethodPatch, "/miniprogram/profile", `{"nickname":"x"}`, bearer(token)).expect(t, 405, "method_not_allowed")
}

// Two devices of one user: who names the version that he has seen overwrites
// nothing that he has not.
func TestProfileIfMatch(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	for i, test := range []struct {
		condition, body string
		status          int
		word            string
		version         int64
	}{
		{"*", `{"city":"a"}`, 409, "version_conflict", 0}, // there is nothing yet
		{`"1"`, `{"city":"a"}`, 409, "version_conflict", 0},
		{`"0"`, `{"city":"a"}`, 200, "", 1},
		{`"0"`, `{"city":"b"}`, 409, "version_conflict", 1},
		{`"1"`, `{"city":"b"}`, 200, "", 2},
		{"*", `{"city":"c"}`, 200, "", 3},
		{`"2"`, `{"city":"c"}`, 409, "version_conflict", 3}, // though nothing would change
		{`"3"`, `{"email":"bad"}`, 400, "invalid_request", 3},
		{"3", `{"city":"d"}`, 400, "invalid_request", 3},
		{`W/"3"`, `{"city":"d"}`, 400, "invalid_request", 3},
		{`"3", "4"`, `{"city":"d"}`, 400, "invalid_request", 3},
		{`"-1"`, `{"city":"d"}`, 400, "invalid_request", 3},
		{`"3`, `{"city":"d"}`, 400, "invalid_request", 3},
		{`""`, `{"city":"d"}`, 400, "invalid_request", 3},
		{`"99999999999999999999"`, `{"city":"d"}`, 400, "invalid_request", 3},
		{"", `{"city":"d"}`, 400, "invalid_request", 3},
		{"\"3\"\nIf-Match: \"3\"", `{"city":"d"}`, 400, "invalid_request", 3},
	} {
		lines := strings.Split("If-Match: "+test.condition, "\n")
		a := g.put(test.body, token, lines...)
		if a.status != test.status || a.word() != test.word {
			t.Errorf("%d: If-Match: %s: %d %s", i, test.condition, a.status, a.body)
		}
		if p := g.profile(token); p.Version != test.version {
			t.Errorf("%d: If-Match: %s: version is %d, not %d", i, test.condition, p.Version, test.version)
		}
	}
}

// The upstream gets any field by a line of configuration. Whatever a user calls
// himself, it is one value of one header, and the one whose name it is under.
func TestProfileHeaders(t *testing.T) {
	g := start(t, setup{directive: `headers user remote_user
	header X-Nick {http.auth.user.nickname}
	header X-Email {http.auth.user.stated.email}
	header X-Real-Email {http.auth.user.verified.email}
	header X-Real-Nick {http.auth.user.verified.nickname}
	header X-Picture {http.auth.user.avatar_url}
	header X-Card "{http.auth.user.nickname} <{http.auth.user.stated.email}>"`})
	token := g.login(programA, "alice")
	sees := func(want map[string]string) {
		t.Helper()
		raw := g.get("/", bearer(token), "X-Nick: evil", "X_EMAIL: evil", "X-Real-Email: evil", "Remote_Name: evil", "X-Card: evil", "X-Picture~: evil").body
		for _, name := range []string{"X-Nick", "X-Email", "X-Real-Email", "X-Real-Nick", "X-Picture", "X-Card", "Remote-Name"} {
			if got := identities(raw, name); strings.Join(got, "|") != want[name] {
				t.Errorf("upstream sees %s: %q, want %q", name, got, want[name])
			}
		}
		if strings.Contains(raw, "evil") || len(identities(raw, "X-User-Id")) != 1 {
			t.Errorf("upstream sees\n%s", raw)
		}
	}
	sees(nil)
	g.put(`{"nickname":"张三","email":"a+b@example.com","avatar_url":"https://cdn.example.com/%E5%BC%A0?a=b&c"}`, token).profile(t)
	sees(map[string]string{
		"X-Nick": "%E5%BC%A0%E4%B8%89", "Remote-Name": "%E5%BC%A0%E4%B8%89", "X-Email": "a+b@example.com",
		"X-Card": "%E5%BC%A0%E4%B8%89 <a+b@example.com>", "X-Picture": "https://cdn.example.com/%25E5%25BC%25A0?a=b&c",
	})
	g.put(`{"nickname":"{http.auth.user.openid} {env.HOME}","email":null,"avatar_url":null}`, token).profile(t)
	sees(map[string]string{
		"X-Nick": "{http.auth.user.openid}%20{env.HOME}", "Remote-Name": "{http.auth.user.openid}%20{env.HOME}",
		"X-Card": "{http.auth.user.openid}%20{env.HOME} <>",
	})
	// What the platform tells goes through the same eye of the needle.
	g.put(`{"nickname":null}`, token).profile(t)
	refresh := func(data string) {
		t.Helper()
		g.post("/miniprogram/profile/refresh", dataBody(g.handed(programA, "alice", data)), bearer(token)).profile(t)
	}
	refresh(`{"nickName":"李四","avatarUrl":"https://wx.qlogo.cn/x"}`)
	want := map[string]string{
		"X-Nick": "%E6%9D%8E%E5%9B%9B", "X-Real-Nick": "%E6%9D%8E%E5%9B%9B", "Remote-Name": "%E6%9D%8E%E5%9B%9B",
		"X-Picture": "https://wx.qlogo.cn/x", "X-Card": "%E6%9D%8E%E5%9B%9B <>",
	}
	sees(want)
	refresh(`{"nickName":"a\r\nX-User-Id: evil","avatarUrl":"javascript:evil","gender":1}`)
	sees(want)
}

// Pages ask for the profile all the time: from a warm session it is answered, and
// told to upstreams, without a look into the store.
func TestWarmProfileNeedsNoStore(t *testing.T) {
	g := start(t, setup{directive: "header X-Nick {http.auth.user.nickname}\ndecrypt {\npath /api/phone\n}"})
	token := g.login(programA, "alice")
	g.put(object("nickname", "Al"), token).expectStatus(t, http.StatusOK)
	data := dataBody(g.handed(programA, "alice", phoneData))
	use := func() {
		t.Helper()
		g.get("/miniprogram/profile", bearer(token)).expectStatus(t, http.StatusOK)
		if a := g.get("/", bearer(token)); strings.Join(identities(a.body, "X-Nick"), ",") != "Al" {
			t.Errorf("%d %s", a.status, a.body)
		}
		g.post("/api/phone", data, bearer(token)).expectStatus(t, http.StatusOK)
	}
	use()
	before := g.metric(`caddy_miniprogram_store_seconds_count{op="get"}`)
	for range 10 {
		use()
	}
	if now := g.metric(`caddy_miniprogram_store_seconds_count{op="get"}`); now != before || before == 0 {
		t.Errorf("the store was read %v times", now-before)
	}
}
