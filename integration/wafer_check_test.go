// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// called fails the test unless exactly these callbacks were called.
func (o waferOutcome) called(t *testing.T, callbacks ...string) {
	t.Helper()
	if !slices.Equal(o.Called, callbacks) {
		t.Errorf("callbacks called are %q, want %q; value %s, error %+v, sent %+v", o.Called, callbacks, o.Value, o.Error, o.Sent)
	}
}

// sent fails the test unless the phone sent exactly these requests. Each is a
// status and a path, such as "200 /orders".
func (o waferOutcome) sent(t *testing.T, requests ...string) {
	t.Helper()
	var got []string
	for _, request := range o.Sent {
		u, err := url.Parse(request.URL)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(request.Status, " ", u.Path))
	}
	if !slices.Equal(got, requests) {
		t.Errorf("requests are %q, want %q", got, requests)
	}
}

// failed fails the test unless the client reported one error, of this type and
// with these texts in its message.
func (o waferOutcome) failed(t *testing.T, errorType string, texts ...string) {
	t.Helper()
	if o.Error.Type != errorType {
		t.Errorf("error is %+v, want type %q", o.Error, errorType)
	}
	for _, text := range texts {
		if !strings.Contains(o.Error.Message, text) {
			t.Errorf("error is %+v, want a message with %q", o.Error, text)
		}
	}
	count := 0
	for _, callback := range o.Called {
		if callback != "complete" {
			count++
		}
	}
	if count != 1 || o.Called[0] != "fail" {
		t.Errorf("callbacks called are %q, want one failure", o.Called)
	}
}

// response returns the answer that the mini-program was given.
func (o waferOutcome) response(t *testing.T) (status int, data json.RawMessage) {
	t.Helper()
	o.called(t, "success", "complete")
	var response struct {
		StatusCode int
		Data       json.RawMessage
	}
	if err := json.Unmarshal(o.Value, &response); err != nil {
		t.Fatalf("response %s: %v", o.Value, err)
	}
	return response.StatusCode, response.Data
}

// reached fails the test unless the call reached the app as the phone's user,
// and returns what the app received.
func (o waferOutcome) reached(p *waferPhone) string {
	t := p.world.t
	t.Helper()
	status, data := o.response(t)
	var raw string
	if err := json.Unmarshal(data, &raw); err != nil || status != http.StatusOK {
		t.Fatalf("%s: response is %d %s, want what the app received", p.Name, status, data)
	}
	for name, want := range map[string]string{
		"X-User-Openid":   p.openID(),
		"X-User-Program":  p.Program,
		"X-User-Platform": "wechat",
	} {
		if got := identities(raw, name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: the app sees %s %q, want %q", p.Name, name, got, want)
		}
	}
	return raw
}

// codes returns the login codes that the platform was asked to exchange, and
// fails the test if one of them came twice.
func (w *waferWorld) codes() []string {
	w.t.Helper()
	var codes []string
	for _, call := range w.platform.Calls().Recorded {
		query, err := url.ParseQuery(call.Query)
		if err != nil {
			w.t.Fatal(err)
		}
		code := query.Get("js_code")
		if code == "" || slices.Contains(codes, code) {
			w.t.Errorf("login code %q was exchanged twice, or is none", code)
		}
		codes = append(codes, code)
	}
	return codes
}

// exchanged fails the test unless the platform was asked to exchange this many
// codes since the last count, each once.
func (w *waferWorld) exchanged(want int) {
	w.t.Helper()
	total := len(w.codes())
	if got := total - w.exchanges; got != want {
		w.t.Errorf("%d codes were exchanged, want %d", got, want)
	}
	w.exchanges = total
}

// exchangedUpTo fails the test if the platform was asked to exchange more codes
// than that since the last count, or one of them twice. How many calls of one
// client sign in by themselves is a matter of chance.
func (w *waferWorld) exchangedUpTo(limit int) {
	w.t.Helper()
	total := len(w.codes())
	if got := total - w.exchanges; got > limit {
		w.t.Errorf("%d codes were exchanged, want %d at most", got, limit)
	}
	w.exchanges = total
}

// appReceived fails the test unless this many requests reached the app so far.
func (w *waferWorld) appReceived(want int) {
	w.t.Helper()
	if got := w.upstream.count(); got != want {
		w.t.Errorf("%d requests reached the app, want %d", got, want)
	}
}

// checkLeaks fails the test if the app was shown a credential, or the log holds
// one.
func (w *waferWorld) checkLeaks() {
	w.t.Helper()
	secrets := slices.Concat(w.codes(), w.tokens)
	secrets = slices.DeleteFunc(secrets, func(secret string) bool { return secret == "" })
	check := func(where, text string) {
		for line := range strings.Lines(text) {
			if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(line, secret) }) {
				w.t.Errorf("%s holds a credential: %s", where, line)
			}
		}
	}
	check("the log", w.log.String())
	w.upstream.mu.Lock()
	defer w.upstream.mu.Unlock()
	for _, raw := range w.upstream.requests {
		check("a request to the app", raw)
		for _, name := range []string{"X-WX-Code", "X-WX-Id", "X-WX-Skey", "X-WX-Encrypted-Data", "X-WX-IV"} {
			if got := identities(raw, name); got != nil {
				w.t.Errorf("the app was shown %s: %q", name, got)
			}
		}
	}
}
