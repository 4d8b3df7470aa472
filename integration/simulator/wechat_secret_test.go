// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"net/http"
	"testing"
)

// A secret that was reset in the console is of no use from that moment; the code
// that was shown with it is not spent.
func TestResetSecret(t *testing.T) {
	s, _ := newTest(t)
	code := login(t, s, testApp, "alice")
	recorder := do(s, http.MethodPost, "/simulator/wechat/secret", `{"program":"`+testApp+`","secret":"another"}`)
	if recorder.Code != http.StatusOK {
		t.Fatalf("%d %s", recorder.Code, recorder.Body)
	}
	wantErrcode(t, callJSON(t, s, http.MethodGet, loginURL(code), ""), 40125)
	if err := s.ResetSecret(testApp, testSecret); err != nil {
		t.Fatal(err)
	}
	if answer := callJSON(t, s, http.MethodGet, loginURL(code), ""); answer["openid"] == nil {
		t.Errorf("answer is %v", answer)
	}
	for name, err := range map[string]error{
		"nobody's":  s.ResetSecret("wx0000000000000000", "x"),
		"no secret": s.ResetSecret(testApp, ""),
	} {
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknownProgram) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}
