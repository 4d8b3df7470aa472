// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testApp    = "wx0123456789abcdef"
	testSecret = "simulated-secret"
	otherApp   = "wxfedcba9876543210"
)

// testClock is a clock that only a test moves.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newTest makes a simulator of two programs with a clock that stands still.
func newTest(t testing.TB, changes ...func(*Config)) (*Simulator, *testClock) {
	t.Helper()
	clock := &testClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	config := Config{
		Now: clock.Now,
		Programs: []Program{
			{Platform: "wechat", AppID: testApp, Secret: testSecret},
			{Platform: "wechat", AppID: otherApp, Secret: "other-secret"},
		},
	}
	for _, change := range changes {
		change(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s, clock
}

// do sends one request to a handler.
func do(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(method, target, strings.NewReader(body)))
	return recorder
}

// callJSON sends one request and decodes the JSON object of the answer.
func callJSON(t testing.TB, h http.Handler, method, target, body string) map[string]any {
	t.Helper()
	var object map[string]any
	text := do(h, method, target, body).Body.Bytes()
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatalf("%s %s answered %q: %v", method, target, text, err)
	}
	return object
}

// wantErrcode checks the errcode of an answer. Zero: that there is none, or 0.
func wantErrcode(t testing.TB, object map[string]any, want int) {
	t.Helper()
	got, _ := object["errcode"].(float64)
	if int(got) != want {
		t.Errorf("errcode is %v, want %d, in %v", object["errcode"], want, object)
	}
}

// login obtains a login code.
func login(t testing.TB, s *Simulator, program, user string) string {
	t.Helper()
	code, err := s.Login(program, user)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// loginURL is the call of code2Session for the test program.
func loginURL(code string) string {
	return weChatLoginPath + "?" + url.Values{
		"appid":      {testApp},
		"secret":     {testSecret},
		"js_code":    {code},
		"grant_type": {"authorization_code"},
	}.Encode()
}

// signIn exchanges a login code of user and returns the session key.
func signIn(t testing.TB, s *Simulator, user string) string {
	t.Helper()
	object := callJSON(t, s, http.MethodGet, loginURL(login(t, s, testApp, user)), "")
	key, _ := object["session_key"].(string)
	if key == "" {
		t.Fatalf("no session key in %v", object)
	}
	return key
}

func TestNewRefusesConfigurations(t *testing.T) {
	good := Program{Platform: "wechat", AppID: testApp, Secret: testSecret}
	with := func(change func(*Program)) Config {
		program := good
		change(&program)
		return Config{Programs: []Program{program}}
	}
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"no program":       {Config{}, "at least one program"},
		"unknown platform": {with(func(p *Program) { p.Platform = "wechta" }), `unknown platform "wechta"`},
		"no app id":        {with(func(p *Program) { p.AppID = "" }), "app id is missing"},
		"no secret":        {with(func(p *Program) { p.Secret = "" }), "secret is missing"},
		"negative life":    {with(func(p *Program) { p.CodeLifetime = -1 }), "must not be negative"},
		"negative limit":   {Config{Programs: []Program{good}, MaxUsers: -1}, "must not be negative"},
		"duplicate":        {Config{Programs: []Program{good, good}}, "configured twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.config)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error is %v, want one with %q", err, test.want)
			}
			// An error is shown to the operator and logged.
			if strings.Contains(err.Error(), testSecret) {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func TestUnknownPathIsJSON(t *testing.T) {
	s, _ := newTest(t)
	recorder := do(s, http.MethodGet, "/sns/jscode2sesion", "")
	if recorder.Code != http.StatusNotFound || !strings.Contains(recorder.Body.String(), `"not_found"`) {
		t.Errorf("answer is %d %s", recorder.Code, recorder.Body)
	}
	if s.Calls().Total != 0 {
		t.Error("a path that no platform has was counted as a platform call")
	}
}

// A code is for one exchange, whoever is first: two winners would be two
// sessions from one code.
func TestOneCodeManyExchanges(t *testing.T) {
	s, _ := newTest(t)
	target := loginURL(login(t, s, testApp, "alice"))
	var successes, used atomic.Int32
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			body := do(s, http.MethodGet, target, "").Body.String()
			switch {
			case strings.Contains(body, "session_key"):
				successes.Add(1)
			case strings.Contains(body, "40163"):
				used.Add(1)
			}
		})
	}
	group.Wait()
	if successes.Load() != 1 || used.Load() != 99 {
		t.Errorf("%d exchanges succeeded and %d found the code used, want 1 and 99", successes.Load(), used.Load())
	}
	if n := s.Calls().Count(testApp, weChatLoginPath); n != 100 {
		t.Errorf("%d calls counted, want 100", n)
	}
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	s, clock := newTest(t, func(c *Config) { c.RecordedCalls, c.MaxUsers, c.MaxCodes = 10, 5, 20 })
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			user := "user" + strconv.Itoa(i)
			for range 50 {
				code, err := s.Login(testApp, user)
				if err != nil {
					t.Error(err)
				}
				do(s, http.MethodGet, loginURL(code), "")
				_, err = s.Encrypt(Encryption{Program: testApp, User: user, Data: json.RawMessage(`{}`)})
				if err != nil && !errors.Is(err, ErrNoSessionKey) {
					t.Error(err)
				}
				if err := s.SetFault(Fault{Kind: FaultGarbage, Program: otherApp, Times: 1}); err != nil {
					t.Error(err)
				}
				s.Calls()
				s.Faults()
				s.ClearFaults()
				clock.advance(time.Second)
			}
		})
	}
	group.Wait()
	if calls := s.Calls(); calls.Total != 400 || len(calls.Recorded) != 10 {
		t.Errorf("%d calls counted and %d recorded, want 400 and 10", calls.Total, len(calls.Recorded))
	}
}

// BenchmarkSignIn is one login code obtained and exchanged.
func BenchmarkSignIn(b *testing.B) {
	s, _ := newTest(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			code, err := s.Login(testApp, "user"+strconv.Itoa(i%10_000))
			if err != nil {
				b.Error(err)
				return
			}
			recorder := do(s, http.MethodGet, loginURL(code), "")
			if recorder.Body.Len() < 100 {
				b.Errorf("answer is %s", recorder.Body)
				return
			}
		}
	})
}

// readAll reads an answer that came over a connection.
func readAll(t testing.TB, response *http.Response) string {
	t.Helper()
	defer closeBody(t, response)
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// closeBody ends the reading of an answer.
func closeBody(t testing.TB, response *http.Response) {
	t.Helper()
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
}
