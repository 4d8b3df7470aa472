// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"

	"github.com/minigate/minigate/integration/simulator"
)

// The mini-program and its user.
const (
	benchProgram = "wxbbbbbbbbbbbbbbbb"
	benchSecret  = "secret-of-the-bench"
	benchUser    = "alice"
)

// platform is the simulated platform that the user signs in on.
type platform struct {
	*simulator.Simulator
	server   *httptest.Server
	identity simulator.Identity
}

// startPlatform starts the platform on a loopback port.
func startPlatform() (*platform, error) {
	s, err := simulator.New(simulator.Config{Programs: []simulator.Program{
		{Platform: "wechat", AppID: benchProgram, Secret: benchSecret},
	}})
	if err != nil {
		return nil, fmt.Errorf("starting the platform: %w", err)
	}
	identity, err := s.Identity(benchProgram, benchUser)
	if err != nil {
		return nil, fmt.Errorf("starting the platform: %w", err)
	}
	return &platform{Simulator: s, server: httptest.NewServer(s), identity: identity}, nil
}

// login signs the user in through a gateway and returns the session token.
func (p *platform) login(ctx context.Context, address string) (string, error) {
	code, err := p.Login(benchProgram, benchUser)
	if err != nil {
		return "", fmt.Errorf("getting a login code: %w", err)
	}
	body := `{"program":"` + benchProgram + `","code":"` + code + `"}`
	status, text, err := do(ctx, http.MethodPost, "http://"+address+"/miniprogram/login", body, "Content-Type: application/json")
	if err != nil {
		return "", fmt.Errorf("signing in: %w", err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK || answer.AccessToken == "" {
		return "", fmt.Errorf("signing in: the answer is %d %s", status, text)
	}
	return answer.AccessToken, nil
}

// verify makes sure that a target does what it is measured for. It is sent a
// session token and a forged identity: a target that identifies the user
// replaces both, one that does not hands on both. Without a session, only a
// guard refuses.
func (p *platform) verify(ctx context.Context, t *target, token string) error {
	base, bearer := "http://"+t.address, "Bearer "+token
	anonymous := http.StatusOK
	if t.guarded() {
		anonymous = http.StatusUnauthorized
	}
	if _, err := expect(ctx, base+"/orders", anonymous); err != nil {
		return fmt.Errorf("without a token: %w", err)
	}
	body, err := expect(ctx, base+"/orders", http.StatusOK, "Authorization: "+bearer)
	if err != nil {
		return err
	}
	if body != upstreamBody {
		return fmt.Errorf("the answer is %q, want the upstream's", body)
	}
	if body, err = expect(ctx, base+echoPath, http.StatusOK, "Authorization: "+bearer, "X-User-Id: forged"); err != nil {
		return err
	}
	received := map[string]string{"Authorization": bearer, "X-User-Id": "forged"}
	if t.identifies() {
		received = map[string]string{
			"Authorization": "", "X-User-Id": p.identity.OpenID, "X-User-Platform": "wechat", "X-User-Program": benchProgram,
			"X-User-Openid": p.identity.OpenID, "X-User-Unionid": p.identity.UnionID,
		}
	}
	for name, want := range received {
		if got := strings.Join(headerValues(body, name), ", "); got != want {
			return fmt.Errorf("the upstream received %s %q, want %q", name, got, want)
		}
	}
	return nil
}

// expect sends a GET request with header lines and returns the body of the
// answer, which must have this status.
func expect(ctx context.Context, url string, status int, lines ...string) (string, error) {
	got, body, err := do(ctx, http.MethodGet, url, "", lines...)
	if err == nil && got != status {
		err = fmt.Errorf("the answer is %d %s, want %d", got, body, status)
	}
	return body, err
}

// headerValues returns the values of a header in lines of text.
func headerValues(lines, name string) []string {
	var values []string
	for line := range strings.Lines(lines) {
		key, value, _ := strings.Cut(line, ":")
		if textproto.CanonicalMIMEHeaderKey(key) == name {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// do sends a request with header lines, on a connection of its own, and returns
// status and body of the answer.
func do(ctx context.Context, method, url, body string, lines ...string) (int, string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("no answer in time"))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Close = true
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		request.Header.Add(name, strings.TrimSpace(value))
	}
	response, err := (&http.Transport{}).RoundTrip(request) // no proxy, no redirects
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}
