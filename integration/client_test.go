// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// word returns the error word of an answer, in either form.
func (a answer) word() string {
	var body struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal([]byte(a.body), &body)
	if word, _, ok := strings.Cut(body.Message, ":"); ok {
		return word
	}
	return body.Error
}

// do sends a request. Lines are header lines. A connection that waits to be
// accepted is reset by a reload, also one that fails, unless the socket was handed
// over (see docs/failure-modes.md): such a request is sent again.
func (g *gateway) do(method, path, body string, lines ...string) answer {
	g.t.Helper()
	for tries := 1; ; tries++ {
		a, err := g.try(method, path, body, lines...)
		if err == nil {
			return a
		}
		if cut := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF); !cut || tries == 3 {
			g.t.Fatalf("%s %s: %v\n%s", method, path, err, g.log)
		}
	}
}

// try sends a request once.
func (g *gateway) try(method, path, body string, lines ...string) (answer, error) {
	g.t.Helper()
	request, err := http.NewRequest(method, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		if request.Header.Add(name, strings.TrimSpace(value)); name == "Host" {
			request.Host = strings.TrimSpace(value)
		}
	}
	request.Close = true // a reload closes connections that wait
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(data)}, err
}

// get sends a GET request with header lines.
func (g *gateway) get(path string, lines ...string) answer {
	g.t.Helper()
	return g.do(http.MethodGet, path, "", lines...)
}

// post sends JSON with header lines.
func (g *gateway) post(path, body string, lines ...string) answer {
	g.t.Helper()
	return g.do(http.MethodPost, path, body, append([]string{"Content-Type: application/json"}, lines...)...)
}

// code returns a login code of a user's phone.
func (g *gateway) code(program, user string) string {
	g.t.Helper()
	code, err := g.platform.Login(program, user)
	if err != nil {
		g.t.Fatal(err)
	}
	return code
}

// loginBody is the body of POST /login for a new code of a user.
func (g *gateway) loginBody(program, user string) string {
	g.t.Helper()
	return `{"program":"` + program + `","code":"` + g.code(program, user) + `"}`
}

// login signs a user in and returns the session token.
func (g *gateway) login(program, user string, lines ...string) string {
	g.t.Helper()
	a := g.post("/miniprogram/login", g.loginBody(program, user), lines...)
	return g.token(a)
}

// token returns the session token in the answer to a login.
func (g *gateway) token(a answer) string {
	g.t.Helper()
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != http.StatusOK || body.AccessToken == "" {
		g.t.Fatalf("login: %d %s\n%s", a.status, a.body, g.log)
	}
	return body.AccessToken
}

// bearer is the header line that shows a token.
func bearer(token string) string { return "Authorization: Bearer " + token }

// openID returns the openid of a user.
func (g *gateway) openID(program, user string) string {
	g.t.Helper()
	identity, err := g.platform.Identity(program, user)
	if err != nil {
		g.t.Fatal(err)
	}
	return identity.OpenID
}

// raw sends bytes as they are on a connection of their own and returns the
// answer. Lines end in "\n" in the text and in CR LF on the wire; the host x
// becomes the gateway's own.
func (g *gateway) raw(text string) answer {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	text = strings.NewReplacer("\nHost: x\n", "\r\nHost: "+g.address+"\r\n", "\n", "\r\n").Replace(text)
	if _, err := io.WriteString(conn, text); err != nil {
		g.t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		g.t.Fatalf("reading the answer to %q: %v", text, err)
	}
	defer response.Body.Close()
	var data []byte
	if response.StatusCode == http.StatusSwitchingProtocols {
		data, err = io.ReadAll(reader)
	} else {
		data, err = io.ReadAll(response.Body)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(data)}
}

// expect fails the test unless an answer has this status and error word.
func (a answer) expect(t *testing.T, status int, word string) {
	t.Helper()
	if a.status != status || a.word() != word {
		t.Errorf("answer is %d %s, want %d with error %q", a.status, a.body, status, word)
	}
}
