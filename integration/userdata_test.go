// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// profileBody is what GET /profile answers.
type profileBody struct {
	User     map[string]string `json:"user"`
	Verified map[string]string `json:"verified"`
	Stated   map[string]string `json:"stated"`
	Version  int64             `json:"version"`
}

// profile returns what is known of the user of a session.
func (g *gateway) profile(token string) profileBody {
	g.t.Helper()
	return g.get("/miniprogram/profile", bearer(token)).profile(g.t)
}

// profile reads an answer that tells a profile.
func (a answer) profile(t *testing.T) profileBody {
	t.Helper()
	var p profileBody
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != http.StatusOK || p.Verified == nil || p.Stated == nil {
		t.Fatalf("profile: %d %s", a.status, a.body)
	}
	return p
}

// put states something about the user of a session.
func (g *gateway) put(body, token string, lines ...string) answer {
	g.t.Helper()
	return g.do(http.MethodPut, "/miniprogram/profile", body, append([]string{"Content-Type: application/json", bearer(token)}, lines...)...)
}

// send sends a head, whose lines end in "\n", and a body, which goes as it is. The
// host x becomes the gateway's own. The answer is read meanwhile, for the gateway
// may have had enough before all has been sent.
func (g *gateway) send(head, body string) answer {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	head = strings.NewReplacer("\nHost: x\n", "\r\nHost: "+g.address+"\r\n", "\n", "\r\n").Replace(head + "\n")
	go func() { _, _ = io.WriteString(conn, head+body) }() // what the gateway does not want to read, it need not get
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		g.t.Fatalf("reading the answer to %q with %d bytes: %v", head, len(body), err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(data)}
}

// large posts a body that may be too large to be read to its end.
func (g *gateway) large(path, contentType, body, token string) answer {
	g.t.Helper()
	return g.send(fmt.Sprintf("POST %s HTTP/1.1\nHost: x\nContent-Type: %s\nContent-Length: %d\n%s\n", path, contentType, len(body), bearer(token)), body)
}

// same reports whether two sets of fields are equal.
func same(a, b map[string]string) bool {
	for name, value := range a {
		if b[name] != value {
			return false
		}
	}
	return len(a) == len(b)
}

// exportBody is what the export of the admin endpoint answers.
type exportBody struct {
	User     map[string]string `json:"user"`
	Sessions []struct {
		ID string `json:"id"`
	} `json:"sessions"`
	PlatformKeys int `json:"platform_session_keys"`
	Profile      *struct {
		Verified map[string]string `json:"verified"`
		Stated   map[string]string `json:"stated"`
		Version  int64             `json:"version"`
	} `json:"profile"`
	Avatar *struct {
		Type string `json:"type"`
		Data []byte `json:"data"`
	} `json:"avatar"`
}

// ask calls the admin endpoint, whatever it answers.
func (g *gateway) ask(method, path, body string) answer {
	g.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", g.dir+"/admin.sock")
		},
	}}
	request, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(data)}
}

// askUser has the admin endpoint do something with a user.
func (g *gateway) askUser(action, program, openID string) answer {
	g.t.Helper()
	return g.ask(http.MethodPost, "/miniprogram/users/"+action, object("program", program, "openid", openID))
}

// exported returns what is kept of alice.
func (g *gateway) exported(program string) exportBody {
	g.t.Helper()
	return g.askUser("export", program, g.openID(program, "alice")).exported(g.t)
}

// exported reads the answer of an export.
func (a answer) exported(t *testing.T) exportBody {
	t.Helper()
	var e exportBody
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != http.StatusOK || e.Sessions == nil {
		t.Fatalf("export: %d %s", a.status, a.body)
	}
	return e
}
