// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/simulator"
)

// checkErrorForm fails the test unless an answer is one of the gateway's errors
// in every respect: JSON, not cached, not guessed at, no redirect, no HTML.
func checkErrorForm(t *testing.T, a answer) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || len(body) != 3 ||
		body["error"] == "" || body["error_description"] == "" || body["request_id"] == "" {
		t.Errorf("body is %s", a.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Location": "", "Etag": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	challenge := a.header.Get("Www-Authenticate")
	if want := `Bearer error="` + body["error"] + `"`; (a.status == http.StatusUnauthorized) != (challenge == want) {
		t.Errorf("status %d comes with WWW-Authenticate %q", a.status, challenge)
	}
	if waits := a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable; waits != (a.header.Get("Retry-After") != "") {
		t.Errorf("status %d comes with Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
}

// Bad input to POST /login: each gets its word, and the platform is not bothered.
func TestLoginRefusesBadInput(t *testing.T) {
	g := start(t, setup{directive: "programs " + programA})
	padded := func(size int) string {
		body := `{"program":"` + programA + `","code":"x","padding":"`
		return body + strings.Repeat("x", size-len(body)-2) + `"}`
	}
	withCode := func(code string) string {
		quoted, err := json.Marshal(code)
		if err != nil {
			t.Fatal(err)
		}
		return `{"program":"` + programA + `","code":` + string(quoted) + "}"
	}
	for name, test := range map[string]struct {
		body   string
		status int
		word   string
	}{
		"no body":              {"", 415, "unsupported_media_type"},
		"white space":          {"  ", 400, "invalid_request"},
		"not json":             {"program=x&code=y", 400, "invalid_request"},
		"array":                {`[{"code":"x"}]`, 400, "invalid_request"},
		"string":               {`"code"`, 400, "invalid_request"},
		"null":                 {"null", 400, "invalid_request"},
		"two values":           {`{"code":"x"}{"code":"y"}`, 400, "invalid_request"},
		"rest":                 {`{"code":"x"} x`, 400, "invalid_request"},
		"duplicate":            {`{"code":"x","code":"y"}`, 400, "invalid_request"},
		"duplicate in capital": {`{"code":"x","Code":"y"}`, 400, "invalid_request"},
		"code is a number":     {`{"code":5}`, 400, "invalid_request"},
		"deep":                 {`{"code":"x","a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}", 400, "invalid_request"},
		"cut":                  {`{"code":"x"`, 400, "invalid_request"},
		"no code":              {`{"program":"` + programA + `"}`, 400, "invalid_request"},
		"empty code":           {withCode(""), 400, "invalid_request"},
		"long code":            {withCode(strings.Repeat("a", 10<<10)), 400, "invalid_request"},
		"injected parameter":   {withCode("x&appid=" + programB + "&grant_type=y"), 400, "invalid_request"},
		"line break":           {withCode("x\r\nHost: evil"), 400, "invalid_request"},
		"nul":                  {withCode("x\x00"), 400, "invalid_request"},
		"unknown program":      {`{"program":"wxunknown","code":"x"}`, 400, "unknown_program"},
		"program of others":    {`{"program":"` + programB + `","code":"x"}`, 403, "program_not_allowed"},
		"mock code":            {withCode("the code is a mock one"), 401, "code_invalid"},
		"64 KiB and 1":         {padded(64<<10 + 1), 413, "request_too_large"},
		"200 KiB":              {padded(200 << 10), 413, "request_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.post("/miniprogram/login", test.body)
			if name == "no body" {
				a = g.do(http.MethodPost, "/miniprogram/login", "")
			}
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
		})
	}
	if calls := g.platform.Calls(); calls.Total != 0 {
		t.Errorf("the platform was called %d times: %+v", calls.Total, calls.Recorded)
	}
	t.Run("64 KiB", func(t *testing.T) { g.post("/miniprogram/login", padded(64<<10)).expect(t, 401, "code_invalid") })
	t.Run("form", func(t *testing.T) {
		g.do(http.MethodPost, "/miniprogram/login", "code=x", "Content-Type: application/x-www-form-urlencoded").
			expect(t, 415, "unsupported_media_type")
	})
}

// Bad credentials on a proxied route: T21, T22, T26, T27, and the two lines of
// T09.
func TestRefusesBadCredentials(t *testing.T) {
	g := start(t, setup{directive: "programs " + programA})
	token := g.login(programA, "alice")
	other := start(t, setup{})
	parts := strings.Split(token, ".")
	for name, test := range map[string]struct {
		lines  []string
		status int
		word   string
	}{
		"none":             {nil, 401, "session_missing"},
		"empty bearer":     {[]string{"Authorization: Bearer"}, 401, "session_missing"},
		"basic":            {[]string{"Authorization: Basic YTpi"}, 401, "session_missing"},
		"cut":              {[]string{bearer(token[:len(token)-1])}, 401, "session_invalid"},
		"extended":         {[]string{bearer(token + "A")}, 401, "session_invalid"},
		"payload changed":  {[]string{bearer(parts[0] + ".e30." + parts[2])}, 401, "session_invalid"},
		"alg none":         {[]string{bearer("eyJhbGciOiJub25lIn0." + parts[1] + ".")}, 401, "session_invalid"},
		"another gateway":  {[]string{bearer(other.login(programA, "alice"))}, 401, "session_invalid"},
		"8 KB":             {[]string{bearer(strings.Repeat("a.", 4<<10))}, 401, "session_invalid"},
		"two lines":        {[]string{bearer(token), bearer(token)}, 400, "ambiguous_credentials"},
		"code without it":  {[]string{"Authorization: MiniProgram program=\"" + programA + "\""}, 400, "invalid_request"},
		"code twice":       {[]string{`Authorization: MiniProgram code="a", code="b"`}, 400, "invalid_request"},
		"code unfinished":  {[]string{`Authorization: MiniProgram code="a`}, 400, "invalid_request"},
		"unknown program":  {[]string{`Authorization: MiniProgram program="wxunknown", code="a"`}, 400, "unknown_program"},
		"foreign program":  {[]string{`Authorization: MiniProgram program="` + programB + `", code="a"`}, 403, "program_not_allowed"},
		"unknown code":     {[]string{`Authorization: MiniProgram code=abcdef`}, 401, "code_invalid"},
		"forwarded method": {[]string{"X-Forwarded-Uri: /healthz", "User-Agent: kube-probe/1.0"}, 401, "session_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			before := g.upstream.count()
			a := g.get("/orders", test.lines...)
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
			if g.upstream.count() != before {
				t.Error("the request reached the upstream")
			}
		})
	}
	if a := g.get("/orders", bearer(strings.Repeat("a", 1<<20))); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a token of 1 MB: %d", a.status)
	}
}

// Each thing that a platform can do instead of answering: the client gets its
// word, nobody waits for long, and the gateway goes on.
func TestPlatformFailures(t *testing.T) {
	g := start(t, setup{options: "exchange {\ntimeout 1s\n}"})
	fault := func(kind simulator.FaultKind, change func(*simulator.Fault)) simulator.Fault {
		f := simulator.Fault{Kind: kind, Path: "/sns/jscode2session", Times: 1}
		if change != nil {
			change(&f)
		}
		return f
	}
	errcode := func(code string) simulator.Fault {
		return fault(simulator.FaultErrcode, func(f *simulator.Fault) { f.Code = code })
	}
	for name, test := range map[string]struct {
		fault  simulator.Fault
		status int
		word   string
	}{
		"garbage":      {fault(simulator.FaultGarbage, nil), 502, "platform_error"},
		"html 500":     {fault(simulator.FaultStatus, nil), 503, "platform_unavailable"},
		"html 200":     {fault(simulator.FaultStatus, func(f *simulator.Fault) { f.Status = 200 }), 502, "platform_error"},
		"redirect":     {fault(simulator.FaultRedirect, nil), 502, "platform_error"},
		"1 GB":         {fault(simulator.FaultHuge, func(f *simulator.Fault) { f.Bytes = 1 << 30 }), 502, "platform_error"},
		"drip":         {fault(simulator.FaultDrip, nil), 503, "platform_unavailable"},
		"slow":         {fault(simulator.FaultSlow, func(f *simulator.Fault) { f.Delay = 10 * time.Second }), 503, "platform_unavailable"},
		"reset":        {fault(simulator.FaultReset, nil), 503, "platform_unavailable"},
		"wrong types":  {fault(simulator.FaultWrongTypes, nil), 502, "platform_error"},
		"no fields":    {fault(simulator.FaultMissingFields, nil), 502, "platform_error"},
		"busy":         {errcode("-1"), 503, "platform_unavailable"},
		"bad code":     {errcode("40029"), 401, "code_invalid"},
		"used code":    {errcode("40163"), 401, "code_used"},
		"blocked":      {errcode("40226"), 403, "user_blocked"},
		"frozen":       {errcode("50002"), 403, "user_blocked"},
		"minute quota": {errcode("45011"), 429, "rate_limited"},
		"bad secret":   {errcode("40125"), 500, "program_misconfigured"},
		"ip list":      {errcode("40164"), 500, "program_misconfigured"},
		"frozen key":   {errcode("40243"), 500, "program_misconfigured"},
		"unknown code": {errcode("99999"), 502, "platform_error"},
	} {
		t.Run(name, func(t *testing.T) {
			g.platform.ClearFaults()
			if err := g.platform.SetFault(test.fault); err != nil {
				t.Fatal(err)
			}
			code := g.code(programA, "alice")
			g.platform.ResetCalls()
			begun := time.Now()
			a := g.post("/miniprogram/login", `{"program":"`+programA+`","code":"`+code+`"}`)
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
			if n := g.platform.Calls().Total; n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
	g.platform.ClearFaults()
	if err := g.platform.SetFault(fault(simulator.FaultStringNumbers, nil)); err != nil {
		t.Fatal(err)
	}
	g.login(programA, "alice")
	for _, canary := range []string{secretA, "session_key"} {
		if strings.Contains(g.log.String(), canary) {
			t.Errorf("%s is in the log", canary)
		}
	}
}

// A platform that does not answer is left alone for a while, and is tried again.
func TestBreaker(t *testing.T) {
	g := start(t, setup{})
	if err := g.platform.SetFault(simulator.Fault{Kind: simulator.FaultReset, Times: 10}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		g.post("/miniprogram/login", g.loginBody(programA, "alice")).expect(t, 503, "platform_unavailable")
	}
	g.platform.ResetCalls()
	body := g.loginBody(programA, "alice")
	g.post("/miniprogram/login", body).expect(t, 503, "platform_unavailable")
	if n := g.platform.Calls().Total; n != 0 {
		t.Errorf("the platform was called %d times", n)
	}
	// The code was not sent, so the same one is good when the platform is back.
	eventually(t, "the breaker closes", func() bool { return g.post("/miniprogram/login", body).status == http.StatusOK })
}

// Methods and paths of the endpoints.
func TestEndpoints(t *testing.T) {
	g := start(t, setup{directive: "endpoints /auth/v1/"})
	token := g.token(g.post("/auth/v1/login", g.loginBody(programA, "alice")))
	before := g.upstream.count()
	for _, test := range []struct {
		method, path string
		lines        []string
		status       int
		word, allow  string
	}{
		{"GET", "/auth/v1/login", nil, 405, "method_not_allowed", "POST"},
		{"PUT", "/auth/v1/session", []string{bearer(token)}, 405, "method_not_allowed", "GET, HEAD"},
		{"GET", "/auth/v1/logout", []string{bearer(token)}, 405, "method_not_allowed", "POST"},
		{"GET", "/auth/v1/", nil, 404, "not_found", ""},
		{"GET", "/auth/v1/login/", nil, 404, "not_found", ""},
		{"GET", "/auth/v1/session", nil, 401, "session_missing", ""},
		{"POST", "/auth/v1/logout", nil, 401, "session_missing", ""},
		{"GET", "/miniprogram/session", nil, 401, "session_missing", ""},
	} {
		a := g.do(test.method, test.path, "", test.lines...)
		a.expect(t, test.status, test.word)
		checkErrorForm(t, a)
		if got := a.header.Get("Allow"); got != test.allow {
			t.Errorf("%s %s: Allow is %q, want %q", test.method, test.path, got, test.allow)
		}
	}
	a := g.get("/auth/v1/session", bearer(token))
	if a.status != http.StatusOK || !strings.Contains(a.body, g.openID(programA, "alice")) || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if g.upstream.count() != before {
		t.Error("a request to an endpoint reached the upstream")
	}
}
