// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// answer is what came of a request.
type answer struct {
	gateway *gateway
	begun   time.Time
	status  int    // 0 if there was no answer
	word    string // the error word
	token   string // of a login
	seen    seen   // by the upstream
}

// kind names an answer that is not the one that was wanted.
func (a *answer) kind() string {
	switch {
	case a.status == 0:
		return "no answer"
	case a.word != "":
		return a.word
	default:
		return http.StatusText(a.status)
	}
}

// client is an HTTP client of one user's phone. It keeps connections.
type client struct{ http.Client }

func newClient() *client {
	return &client{http.Client{
		// Longer than the gateway takes to give something up.
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends a request to a gateway. Lines are header lines.
func (c *client) do(g *gateway, method, path, body string, lines ...string) *answer {
	a := &answer{gateway: g, begun: time.Now()}
	request, err := http.NewRequest(method, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		return a
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	response, err := c.Do(request)
	if err != nil {
		return a
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return a // nobody knows what it was going to say
	}
	var told struct {
		seen

		Error       string `json:"error"`
		AccessToken string `json:"access_token"`
	}
	if len(data) > 0 && json.Unmarshal(data, &told) != nil {
		told.Error = "an answer that is no JSON"
	}
	a.status, a.word, a.token, a.seen = response.StatusCode, told.Error, told.AccessToken, told.seen
	if token, ok := strings.CutPrefix(response.Header.Get("Authorization"), "Bearer "); ok {
		a.token = token
	}
	return a
}

func (c *client) get(g *gateway, token string, lines ...string) *answer {
	return c.do(g, http.MethodGet, "/", "", append(lines, "Authorization: Bearer "+token)...)
}

func (c *client) login(g *gateway, code string) *answer {
	return c.do(g, http.MethodPost, "/miniprogram/login", `{"program":"`+program+`","code":"`+code+`"}`)
}

func (c *client) logout(g *gateway, token string, everywhere bool) *answer {
	body := `{"everywhere":false}`
	if everywhere {
		body = `{"everywhere":true}`
	}
	return c.do(g, http.MethodPost, "/miniprogram/logout", body, "Authorization: Bearer "+token)
}
