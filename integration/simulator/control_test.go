// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// A sign-in from beginning to end, by HTTP alone, as another program's tests do
// it.
func TestControlSurface(t *testing.T) {
	s, _ := newTest(t)
	user := `"program":"` + testApp + `","user":"alice"`

	code, _ := callJSON(t, s, http.MethodPost, "/simulator/login", `{`+user+`}`)["code"].(string)
	session := callJSON(t, s, http.MethodGet, loginURL(code), "")
	wantErrcode(t, session, 0)

	encrypted := callJSON(t, s, http.MethodPost, "/simulator/encrypt",
		`{`+user+`,"data":{"nickName":"Band"},"user_info":true,"watermark":{"timestamp":1,"appid":"wx1"}}`)
	key, _ := session["session_key"].(string)
	iv, _ := encrypted["iv"].(string)
	data, _ := encrypted["encrypted_data"].(string)
	plain, err := openOpenData(key, iv, data)
	if err != nil || string(plain) != `{"nickName":"Band","watermark":{"timestamp":1,"appid":"wx1"}}` {
		t.Errorf("encrypted data is %q, error %v", plain, err)
	}
	if encrypted["raw_data"] != `{"nickName":"Band"}` || encrypted["signature"] != rawDataSignature(`{"nickName":"Band"}`, key) {
		t.Errorf("answer is %v", encrypted)
	}

	code, _ = callJSON(t, s, http.MethodPost, "/simulator/phone", `{`+user+`,"phone":"13580006666"}`)["code"].(string)
	target := weChatPhonePath + "?access_token=" + stableToken(t, s)
	wantErrcode(t, callJSON(t, s, http.MethodPost, target, phoneBody(code, "")), 0)

	if total := callJSON(t, s, http.MethodGet, "/simulator/calls", "")["total"]; total != 3.0 {
		t.Errorf("total is %v", total)
	}
	if total := callJSON(t, s, http.MethodDelete, "/simulator/calls", "")["total"]; total != 0.0 {
		t.Errorf("total is %v", total)
	}
}

func TestControlFaults(t *testing.T) {
	s, _ := newTest(t)
	// An errcode may be a number or a string.
	for _, code := range []string{`40226`, `"40226"`} {
		body := `{"kind":"errcode","program":"` + testApp + `","path":"/sns/jscode2session","code":` + code + `,"times":2}`
		callJSON(t, s, http.MethodPost, "/simulator/fault", body)
		wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL("x"), ""), 40226)
		list := do(s, http.MethodGet, "/simulator/fault", "").Body.String()
		want := `{"faults":[{"kind":"errcode","program":"` + testApp +
			`","path":"/sns/jscode2session","times":1,"code":"40226"}]}` + "\n"
		if list != want {
			t.Errorf("faults are %s, want %s", list, want)
		}
		if cleared := do(s, http.MethodDelete, "/simulator/fault", "").Body.String(); cleared != `{"faults":[]}`+"\n" {
			t.Errorf("answer is %s", cleared)
		}
		wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL("x"), ""), 40029)
	}
	callJSON(t, s, http.MethodPost, "/simulator/fault", `{"kind":"slow","delay":"1.5s"}`)
	if list := do(s, http.MethodGet, "/simulator/fault", "").Body.String(); !strings.Contains(list, `"delay":"1.5s"`) {
		t.Errorf("faults are %s", list)
	}
}

// Bad input is an error in JSON with a status of its own, and never a silent
// default: a fault that is misspelt would make a test pass that tests nothing.
func TestControlRefusesInput(t *testing.T) {
	s, _ := newTest(t)
	user := `"program":"` + testApp + `","user":"alice"`
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		word               string
	}{
		"unknown path":        {"POST", "/simulator/logni", `{}`, 404, "not_found"},
		"root":                {"GET", "/simulator/", ``, 404, "not_found"},
		"GET a code":          {"GET", "/simulator/login", ``, 405, "method_not_allowed"},
		"PUT a fault":         {"PUT", "/simulator/fault", `{}`, 405, "method_not_allowed"},
		"no body":             {"POST", "/simulator/login", ``, 400, "invalid_request"},
		"a form":              {"POST", "/simulator/login", `program=wx`, 400, "invalid_request"},
		"a list":              {"POST", "/simulator/login", `[]`, 400, "invalid_request"},
		"two objects":         {"POST", "/simulator/login", `{` + user + `}{}`, 400, "invalid_request"},
		"unknown member":      {"POST", "/simulator/login", `{` + user + `,"usr":"bob"}`, 400, "invalid_request"},
		"wrong type":          {"POST", "/simulator/login", `{"program":1}`, 400, "invalid_request"},
		"no program":          {"POST", "/simulator/login", `{"user":"alice"}`, 400, "invalid_request"},
		"unknown program":     {"POST", "/simulator/login", `{"program":"wx0","user":"alice"}`, 404, "unknown_program"},
		"no user":             {"POST", "/simulator/login", `{"program":"` + testApp + `"}`, 400, "invalid_request"},
		"long user":           {"POST", "/simulator/login", `{"program":"` + testApp + `","user":"` + strings.Repeat("a", 257) + `"}`, 400, "invalid_request"},
		"too large":           {"POST", "/simulator/login", strings.Repeat(" ", maxBody+1), 413, "request_too_large"},
		"no session key":      {"POST", "/simulator/encrypt", `{` + user + `,"data":{}}`, 409, "no_session_key"},
		"no data":             {"POST", "/simulator/encrypt", `{` + user + `}`, 400, "invalid_request"},
		"data is null":        {"POST", "/simulator/encrypt", `{` + user + `,"data":null}`, 400, "invalid_request"},
		"data is a list":      {"POST", "/simulator/encrypt", `{` + user + `,"data":[]}`, 400, "invalid_request"},
		"data is a string":    {"POST", "/simulator/encrypt", `{` + user + `,"data":"x"}`, 400, "invalid_request"},
		"second watermark":    {"POST", "/simulator/encrypt", `{` + user + `,"data":{"watermark":{}}}`, 400, "invalid_request"},
		"no phone":            {"POST", "/simulator/phone", `{` + user + `}`, 400, "invalid_request"},
		"phone as a number":   {"POST", "/simulator/phone", `{` + user + `,"phone":13580006666}`, 400, "invalid_request"},
		"unknown kind":        {"POST", "/simulator/fault", `{"kind":"slwo"}`, 400, "invalid_request"},
		"delay as a number":   {"POST", "/simulator/fault", `{"kind":"slow","delay":5}`, 400, "invalid_request"},
		"delay without unit":  {"POST", "/simulator/fault", `{"kind":"slow","delay":"5"}`, 400, "invalid_request"},
		"code as a list":      {"POST", "/simulator/fault", `{"kind":"errcode","code":[]}`, 400, "invalid_request"},
		"code with fractions": {"POST", "/simulator/fault", `{"kind":"errcode","code":1.5}`, 400, "invalid_request"},
		"fault of nobody":     {"POST", "/simulator/fault", `{"kind":"garbage","program":"wx0"}`, 404, "unknown_program"},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := do(s, test.method, test.path, test.body)
			var object struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal(recorder.Body.Bytes(), &object); err != nil {
				t.Fatalf("answer is %s: %v", recorder.Body, err)
			}
			if recorder.Code != test.status || object.Error != test.word || object.Description == "" {
				t.Errorf("answer is %d %s, want %d %s", recorder.Code, recorder.Body, test.status, test.word)
			}
			if test.status == http.StatusMethodNotAllowed && recorder.Header().Get("Allow") == "" {
				t.Error("405 does not say what is allowed")
			}
		})
	}
	if len(s.Faults()) != 0 || s.Calls().Total != 0 {
		t.Error("refused input had an effect")
	}
}

// The README shows every path and every kind of fault.
func TestReadmeIsComplete(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newTest(t)
	var wanted []string
	for path := range s.routes {
		wanted = append(wanted, path)
	}
	for path, methods := range control {
		for method := range methods {
			wanted = append(wanted, method+" "+path)
		}
	}
	for kind, fields := range faultFields {
		wanted = append(wanted, `"kind":"`+string(kind)+`"`)
		wanted = append(wanted, fields...)
	}
	for _, want := range wanted {
		if !strings.Contains(string(readme), want) {
			t.Errorf("README.md does not mention %s", want)
		}
	}
}
