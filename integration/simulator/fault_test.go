// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// setFault puts a fault into force.
func setFault(t testing.TB, s *Simulator, fault Fault) {
	t.Helper()
	if err := s.SetFault(fault); err != nil {
		t.Fatal(err)
	}
}

// serveHTTP serves the simulator over real connections.
func serveHTTP(t testing.TB, s *Simulator) (*httptest.Server, *http.Client) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return server, client
}

// Faults that need no connection: what the client sees, and what is left of
// the code.
func TestFaultAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		fault       Fault
		status      int
		contentType string
		body        string
		spent       bool
	}{
		"garbage":       {Fault{Kind: FaultGarbage}, 200, "text/plain", `{"openid":`, false},
		"garbage after": {Fault{Kind: FaultGarbage, After: true}, 200, "text/plain", `{"openid":`, true},
		"status":        {Fault{Kind: FaultStatus}, 500, "text/html", "<h1>500 Internal Server Error</h1>", false},
		"status 502":    {Fault{Kind: FaultStatus, Status: 502, After: true}, 502, "text/html", "<html>", true},
		"captive":       {Fault{Kind: FaultStatus, Status: 200}, 200, "text/html", "<html>", false},
		"errcode": {
			Fault{Kind: FaultErrcode, Code: "45011"},
			200, "text/plain",
			`{"errcode":45011,"errmsg":"api minute-quota reach limit, mustslower, retry next minute, rid: `, false,
		},
		"busy, code spent": {
			Fault{Kind: FaultErrcode, Code: "-1", After: true},
			200, "text/plain",
			`{"errcode":-1,"errmsg":"system error, rid: `, true,
		},
		"errcode of our own": {
			Fault{Kind: FaultErrcode, Code: "12345", Message: "strange"},
			200, "text/plain",
			`{"errcode":12345,"errmsg":"strange, rid: `, false,
		},
		"errcode that nobody knows": {
			Fault{Kind: FaultErrcode, Code: "12345"},
			200, "text/plain",
			`{"errcode":12345,"errmsg":"error 12345, rid: `, false,
		},
		"all fields missing": {Fault{Kind: FaultMissingFields}, 200, "text/plain", `{}`, true},
		"openid missing": {
			Fault{Kind: FaultMissingFields, Fields: []string{"openid", "unionid"}},
			200, "text/plain",
			`{"session_key":"`, true,
		},
		"wrong types": {
			Fault{Kind: FaultWrongTypes}, 200, "text/plain", `{"openid":["o`, true,
		},
		"null openid": {
			Fault{Kind: FaultWrongTypes, Fields: []string{"openid"}, Value: json.RawMessage(`null`)},
			200, "text/plain",
			`{"openid":null,"session_key":"`, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTest(t)
			target := loginURL(login(t, s, testApp, "alice"))
			test.fault.Times = 1
			setFault(t, s, test.fault)
			recorder := do(s, http.MethodGet, target, "")
			if recorder.Code != test.status || recorder.Header().Get("Content-Type") != test.contentType ||
				!strings.Contains(recorder.Body.String(), test.body) {
				t.Errorf("answer is %d %v %s", recorder.Code, recorder.Header(), recorder.Body)
			}
			// The next call sees the truth again, and whether the code is spent.
			want := 0
			if test.spent {
				want = 40163
			}
			wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), want)
		})
	}
}

func TestGarbageIsNotText(t *testing.T) {
	if utf8.ValidString(garbage) || json.Valid([]byte(garbage)) {
		t.Error("the garbage makes sense")
	}
}

// One example of the platform's own pages shows errcode as a string.
func TestStringNumbers(t *testing.T) {
	s, _ := newTest(t)
	setFault(t, s, Fault{Kind: FaultStringNumbers})
	object := callJSON(t, s, http.MethodGet, loginURL("0712cDoV0cfty22AeloV0daMoV02cDog"), "")
	if object["errcode"] != "40029" {
		t.Errorf("answer is %v", object)
	}
	object = callJSON(t, s, http.MethodGet, tokenURL, "")
	if object["expires_in"] != "7200" {
		t.Errorf("answer is %v", object)
	}
	s.ClearFaults()
	token := stableToken(t, s)
	setFault(t, s, Fault{Kind: FaultStringNumbers})
	code := sharePhone(t, s, Phone{Program: testApp, User: "alice", Number: "13580006666"})
	object = callJSON(t, s, http.MethodPost, weChatPhonePath+"?access_token="+token, phoneBody(code, ""))
	info, _ := object["phone_info"].(map[string]any)
	watermark, _ := info["watermark"].(map[string]any)
	if stamp, isString := watermark["timestamp"].(string); !isString || stamp == "" {
		t.Errorf("answer is %v", object)
	}
}

// A fault is for the program and the path that it names. The program may be in
// the query, in the body or behind a token.
func TestFaultScope(t *testing.T) {
	s, _ := newTest(t)
	token := stableToken(t, s)
	calls := map[string]struct{ method, target, body string }{
		weChatLoginPath:       {http.MethodGet, loginURL("x"), ""},
		weChatTokenPath:       {http.MethodGet, tokenURL, ""},
		weChatStableTokenPath: {http.MethodPost, weChatStableTokenPath, stableBody},
		weChatPhonePath:       {http.MethodPost, weChatPhonePath + "?access_token=" + token, phoneBody("x", "")},
	}
	for name, test := range map[string]struct {
		program, path string
		hits          []string
	}{
		"everything":    {"", "", []string{weChatLoginPath, weChatTokenPath, weChatStableTokenPath, weChatPhonePath}},
		"program":       {testApp, "", []string{weChatLoginPath, weChatTokenPath, weChatStableTokenPath, weChatPhonePath}},
		"other program": {otherApp, "", nil},
		"path":          {"", weChatPhonePath, []string{weChatPhonePath}},
		"both":          {testApp, weChatStableTokenPath, []string{weChatStableTokenPath}},
		"neither":       {otherApp, weChatLoginPath, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s.ClearFaults()
			setFault(t, s, Fault{Kind: FaultErrcode, Code: "48001", Program: test.program, Path: test.path})
			for path, call := range calls {
				body := do(s, call.method, call.target, call.body).Body.String()
				if hit := strings.Contains(body, "48001"); hit != slices.Contains(test.hits, path) {
					t.Errorf("the call of %s is hit: %v", path, hit)
				}
			}
		})
	}
}

// What is set in a row happens in a row; without times, until it is cleared.
func TestFaultsInARow(t *testing.T) {
	s, _ := newTest(t)
	setFault(t, s, Fault{Kind: FaultErrcode, Code: "-1", Times: 2})
	setFault(t, s, Fault{Kind: FaultStatus, Status: 503, Times: 1})
	setFault(t, s, Fault{Kind: FaultErrcode, Code: "40226"})
	if left := s.Faults(); len(left) != 3 || left[0].Times != 2 {
		t.Errorf("faults are %v", left)
	}
	for i, want := range []string{`:-1,`, `:-1,`, "503", "40226", "40226", "40226"} {
		if body := do(s, http.MethodGet, loginURL("x"), "").Body.String(); !strings.Contains(body, want) {
			t.Errorf("answer %d is %s, want %s", i, body, want)
		}
	}
	s.ClearFaults()
	wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL("x"), ""), 40029)
}

func TestSetFaultRefusesInput(t *testing.T) {
	s, _ := newTest(t)
	for name, test := range map[string]struct {
		fault Fault
		want  string
	}{
		"no kind":              {Fault{}, "unknown kind"},
		"unknown kind":         {Fault{Kind: "slwo"}, "unknown kind"},
		"unknown program":      {Fault{Kind: FaultGarbage, Program: "wx0"}, "unknown program"},
		"unknown path":         {Fault{Kind: FaultGarbage, Path: "/sns/jscode2sesion"}, "no platform has an interface"},
		"negative times":       {Fault{Kind: FaultGarbage, Times: -1}, "times"},
		"slow without delay":   {Fault{Kind: FaultSlow}, "needs a delay"},
		"negative delay":       {Fault{Kind: FaultSlow, Delay: -1}, "delay must be"},
		"endless delay":        {Fault{Kind: FaultSlow, Delay: 2 * time.Hour}, "delay must be"},
		"huge without size":    {Fault{Kind: FaultHuge}, "bytes must be"},
		"huge beyond measure":  {Fault{Kind: FaultHuge, Bytes: 1<<30 + 1}, "bytes must be"},
		"no status":            {Fault{Kind: FaultStatus, Status: 99}, "status must be"},
		"redirect to nowhere":  {Fault{Kind: FaultRedirect, Status: 200}, "status of a redirect"},
		"errcode without code": {Fault{Kind: FaultErrcode}, "needs a code"},
		"code of Alipay":       {Fault{Kind: FaultErrcode, Code: "isv.code-invalid"}, "whole number"},
		"bad value":            {Fault{Kind: FaultWrongTypes, Value: json.RawMessage(`{`)}, "value must be JSON"},
		"foreign field":        {Fault{Kind: FaultGarbage, Status: 500}, "kind garbage has no status"},
		"slow before":          {Fault{Kind: FaultSlow, Delay: 1, After: true}, "kind slow has no after"},
		"message, no errcode":  {Fault{Kind: FaultReset, Message: "x"}, "kind reset has no message"},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.SetFault(test.fault)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknownProgram) {
				t.Errorf("error %v is of no known kind", err)
			}
		})
	}
	if left := s.Faults(); len(left) != 0 {
		t.Errorf("refused faults are in force: %v", left)
	}
}

// Faults are bounded like everything that comes from the network.
func TestFaultsAreBounded(t *testing.T) {
	s, _ := newTest(t)
	for range maxFaults {
		setFault(t, s, Fault{Kind: FaultGarbage})
	}
	if err := s.SetFault(Fault{Kind: FaultGarbage}); !errors.Is(err, ErrInvalid) {
		t.Errorf("error is %v", err)
	}
}

// The connection is reset: before the call, so that the code is fresh, or after
// it, so that the code is spent and nobody has the session. A caller cannot
// tell these two apart, which is why it must not send the code again.
func TestFaultReset(t *testing.T) {
	for _, after := range []bool{false, true} {
		s, _ := newTest(t)
		server, client := serveHTTP(t, s)
		target := loginURL(login(t, s, testApp, "alice"))
		setFault(t, s, Fault{Kind: FaultReset, After: after, Times: 1})
		response, err := client.Post(server.URL+target, "text/plain", strings.NewReader("body"))
		if err == nil {
			t.Fatalf("after %v: there was an answer: %s", after, readAll(t, response))
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			t.Errorf("after %v: error is %v", after, err)
		}
		want, body := 0, ""
		if after {
			want, body = 40163, "body"
		}
		wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), want)
		// The body was read if and only if the call was carried out.
		if first := s.Calls().Recorded[0]; first.Body != body || first.Program != testApp {
			t.Errorf("after %v: recorded call is %+v", after, first)
		}
	}
}

// Where there is no connection to reset, the handler ends in the way that
// servers take for a reset.
func TestFaultResetWithoutConnection(t *testing.T) {
	s, _ := newTest(t)
	setFault(t, s, Fault{Kind: FaultReset})
	defer func() {
		if got, ok := recover().(error); !ok || !errors.Is(got, http.ErrAbortHandler) {
			t.Errorf("the handler panicked with %v", got)
		}
	}()
	do(s, http.MethodGet, loginURL("x"), "")
}

// A caller that follows the redirect shows as a second call.
func TestFaultRedirect(t *testing.T) {
	s, _ := newTest(t)
	server, client := serveHTTP(t, s)
	target := loginURL(login(t, s, testApp, "alice"))
	setFault(t, s, Fault{Kind: FaultRedirect, Times: 1})
	setFault(t, s, Fault{Kind: FaultRedirect, Status: 307, Location: "http://192.0.2.1/", Times: 1})
	for _, want := range []struct {
		status   int
		location string
	}{{302, target}, {307, "http://192.0.2.1/"}} {
		response, err := client.Get(server.URL + target)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, response)
		if response.StatusCode != want.status || response.Header.Get("Location") != want.location {
			t.Errorf("answer is %d to %s", response.StatusCode, response.Header.Get("Location"))
		}
	}
	wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), 0)
}

// The answer has exactly the size asked for and does not announce it, so that
// only a limit on reading protects the caller.
func TestFaultHuge(t *testing.T) {
	s, _ := newTest(t)
	server, client := serveHTTP(t, s)
	for _, size := range []int64{1, 12, 13, 100_000, 64 << 20} {
		s.ClearFaults()
		setFault(t, s, Fault{Kind: FaultHuge, Bytes: size})
		response, err := client.Get(server.URL + loginURL("x"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		if err != nil || n != size {
			t.Errorf("%d bytes were sent, error %v, want %d", n, err, size)
		}
		if size > 4096 && response.ContentLength != -1 {
			t.Errorf("content length is %d", response.ContentLength)
		}
		closeBody(t, response)
	}
	s.ClearFaults()
	setFault(t, s, Fault{Kind: FaultHuge, Bytes: 1000})
	if body := do(s, http.MethodGet, loginURL("x"), "").Body; !json.Valid(body.Bytes()) {
		t.Errorf("answer is %s", body)
	}
}

// The bytes come one by one; together they are the true answer.
func TestFaultDrip(t *testing.T) {
	s, _ := newTest(t)
	server, client := serveHTTP(t, s)
	setFault(t, s, Fault{Kind: FaultDrip, Delay: time.Millisecond})
	response, err := client.Get(server.URL + loginURL(login(t, s, testApp, "alice")))
	if err != nil {
		t.Fatal(err)
	}
	defer closeBody(t, response)
	buffer := make([]byte, 1024)
	if n, err := response.Body.Read(buffer); err != nil || n > 100 {
		t.Errorf("the first read has %d bytes, error %v", n, err)
	}
	rest, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(rest), `"}`) {
		t.Errorf("the rest is %q, error %v", rest, err)
	}
}

// A byte a second is the default: nobody waits for the end of that.
func TestFaultDripDefault(t *testing.T) {
	s, _ := newTest(t)
	setFault(t, s, Fault{Kind: FaultDrip})
	if faults := s.Faults(); faults[0].Delay != time.Second {
		t.Errorf("fault is %+v", faults[0])
	}
}

// The call is carried out although the caller gives up: its code is spent.
func TestFaultSlow(t *testing.T) {
	s, _ := newTest(t)
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		s.ServeHTTP(w, r)
	}))
	defer server.Close()
	target := loginURL(login(t, s, testApp, "alice"))
	setFault(t, s, Fault{Kind: FaultSlow, Delay: time.Hour, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := server.Client().Do(request)
		result <- err
	}()
	<-arrived
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	// Close waits for the handler, which must not wait for an hour.
	server.Close()
	wantErrcode(t, callJSON(t, s, http.MethodGet, target, ""), 40163)
}

// After its delay, a slow answer is the true one.
func TestFaultSlowAnswers(t *testing.T) {
	s, _ := newTest(t)
	setFault(t, s, Fault{Kind: FaultSlow, Delay: time.Millisecond})
	wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL(login(t, s, testApp, "alice")), ""), 0)
}
