// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// The query is recorded as it was sent, so that a test sees whether a caller
// escapes what a client gave it: unescaped, this code would name another app.
func TestCallsRecordQueriesAsSent(t *testing.T) {
	s, clock := newTest(t)
	const query = "appid=" + testApp + "&js_code=a%26appid%3D" + otherApp + "+%2B"
	do(s, http.MethodGet, weChatLoginPath+"?"+query, "")
	want := []Call{{
		Time: clock.Now(), Method: http.MethodGet, Path: weChatLoginPath, Program: testApp, Query: query,
	}}
	if got := s.Calls().Recorded; !reflect.DeepEqual(got, want) {
		t.Errorf("recorded calls are %+v, want %+v", got, want)
	}
}

func TestCallsCount(t *testing.T) {
	s, _ := newTest(t)
	for range 3 {
		do(s, http.MethodGet, loginURL("x"), "")
	}
	do(s, http.MethodPost, weChatStableTokenPath, stableBody)
	do(s, http.MethodGet, weChatLoginPath+"?appid="+otherApp, "")
	do(s, http.MethodGet, weChatLoginPath+"?appid=unknown", "")
	login(t, s, testApp, "alice")
	setFault(t, s, Fault{Kind: FaultGarbage, Times: 1})
	do(s, http.MethodGet, loginURL("x"), "")

	calls := s.Calls()
	for _, test := range []struct {
		program, path string
		want          int
	}{
		{"", "", 7},
		{testApp, "", 5},
		{testApp, weChatLoginPath, 4},
		{"", weChatLoginPath, 6},
		{otherApp, "", 1},
		{"unknown", "", 0},
	} {
		if got := calls.Count(test.program, test.path); got != test.want {
			t.Errorf("count of %q %q is %d, want %d", test.program, test.path, got, test.want)
		}
	}
	if calls.Total != 7 || len(calls.Recorded) != 7 || calls.Recorded[3].Body != stableBody {
		t.Errorf("calls are %+v", calls)
	}
	s.ResetCalls()
	if calls := s.Calls(); calls.Total != 0 || len(calls.Counts) != 0 || len(calls.Recorded) != 0 {
		t.Errorf("calls are %+v after a reset", calls)
	}
}

// The record keeps the latest calls, in order, and at most 4096 bytes of each
// query and body: nobody fills the memory through it.
func TestCallsAreBounded(t *testing.T) {
	s, _ := newTest(t, func(c *Config) { c.RecordedCalls = 3 })
	for _, query := range []string{"a", "b", "c", "d", "e"} {
		do(s, http.MethodGet, weChatLoginPath+"?"+query, "")
	}
	calls := s.Calls()
	var queries string
	for _, call := range calls.Recorded {
		queries += call.Query
	}
	if calls.Total != 5 || queries != "cde" {
		t.Errorf("%d calls are counted, and the last are %s", calls.Total, queries)
	}
	do(s, http.MethodPost, weChatStableTokenPath+"?"+strings.Repeat("q", 5000), strings.Repeat("b", 2<<20))
	last := s.Calls().Recorded[2]
	if len(last.Query) != 4096 || len(last.Body) != 4096 || !last.Cut {
		t.Errorf("%d bytes of the query and %d of the body are recorded", len(last.Query), len(last.Body))
	}
}
