// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// startEverywhere starts a gateway with one site in clear and one with TLS, both
// for HTTP/1.1 and HTTP/2, in front of an app that talks. secure is the address of
// the site with TLS.
func startEverywhere(t *testing.T) (g *gateway, app *liveApp, secure string) {
	t.Helper()
	app = startLiveApp(t)
	secure = freeAddress(t)
	_, port, err := net.SplitHostPort(secure)
	if err != nil {
		t.Fatal(err)
	}
	site := "reverse_proxy " + app.address
	g = start(t, setup{
		global: "skip_install_trust\nauto_https disable_redirects\nservers {\nprotocols h1 h2 h2c\n}",
		routes: site + "\n}\nhttps://localhost:" + port + " {\nbind 127.0.0.1\ntls internal\nminiprogram\n" + site,
	})
	eventually(t, "there is a certificate", func() bool {
		conn, err := tls.Dial("tcp", secure, localhost)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return g, app, secure
}

// localhost is for connections to a server with a certificate of its own making.
var localhost = &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}

// client returns an HTTP client that speaks one version.
func client(t *testing.T, version int) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetHTTP2(version == 2)
	protocols.SetUnencryptedHTTP2(version == 2)
	transport := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: localhost.Clone(),
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Event streams end with the session, too, whether or not the app sends anything;
// the app learns it, and the client is refused when it comes again.
func TestLogoutEndsEventStreams(t *testing.T) {
	g, app, secure := startEverywhere(t)
	for name, test := range map[string]struct {
		url     string
		version int
	}{
		"HTTP 1.1":          {"http://" + g.address, 1},
		"HTTP 2":            {"http://" + g.address, 2},
		"HTTP 1.1 with TLS": {"https://" + secure, 1},
		"HTTP 2 with TLS":   {"https://" + secure, 2},
	} {
		t.Run(name, func(t *testing.T) {
			browser := client(t, test.version)
			open := func(query, token string) (*http.Response, *bufio.Reader) {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				t.Cleanup(cancel)
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, test.url+"/events?"+query, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Host = "localhost"
				if strings.HasPrefix(test.url, "http:") {
					request.Host = g.address
				}
				request.Header.Set("Authorization", "Bearer "+token)
				response, err := browser.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				if response.ProtoMajor != test.version {
					t.Fatalf("the answer comes in %s", response.Proto)
				}
				return response, bufio.NewReader(response.Body)
			}
			for _, query := range []string{"name=silent", "name=chatty&chatty"} {
				user := name + query
				token, tablet := g.login(programA, user), g.login(programA, user)
				response, events := open(query, token)
				other, otherEvents := open("name=other", tablet)
				for _, r := range []*bufio.Reader{events, otherEvents} {
					if line, err := r.ReadString('\n'); err != nil || line != "data: 0\n" {
						t.Fatalf("%q, %v", line, err)
					}
				}
				before := g.closed("session_revoked")
				g.logout(token)
				begun := time.Now()
				_, err := io.Copy(io.Discard, events)
				response.Body.Close()
				if ctx := response.Request.Context(); ctx.Err() != nil {
					t.Fatalf("%s: it does not end: %v", query, err)
				}
				if took := time.Since(begun); took > time.Second {
					t.Errorf("%s: it ended %s after the session", query, took)
				}
				app.ended(t, strings.TrimSuffix(strings.TrimPrefix(query, "name="), "&chatty"))
				if refused, _ := open(query, token); refused.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: when it comes again it is answered %s", query, refused.Status)
				}
				if closed := g.closed("session_revoked") - before; closed != 1 {
					t.Errorf("%s: %v connections closed", query, closed)
				}
				if app.count("other") != 1 {
					t.Errorf("%s: another session's stream ended", query)
				}
				other.Body.Close()
				app.ended(t, "other")
			}
		})
	}
	eventually(t, "no connection is open", func() bool { return g.metric("caddy_miniprogram_connections_open") == 0 })
}

// A server stops to watch a connection on which it has been sent more than one
// request: whoever sends a byte too many must not keep the app believing that he is
// there.
func TestLogoutEndsEventStreamsOfThoseWhoSendMore(t *testing.T) {
	g, app := startLive(t, setup{})
	token := g.login(programA, "alice")
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /events?name=alice HTTP/1.1\r\nHost: "+g.address+"\r\n"+bearer(token)+"\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	events := bufio.NewReader(response.Body)
	if line, err := events.ReadString('\n'); err != nil || line != "data: 0\n" {
		t.Fatalf("%q, %v", line, err)
	}
	io.WriteString(conn, "G")
	g.get("/miniprogram/session", bearer(token)) // it has had the time to arrive
	g.logout(token)
	app.ended(t, "alice")
	if rest, _ := io.ReadAll(events); string(rest) != "\n" {
		t.Errorf("there is more: %q", rest)
	}
}

// A WebSocket inside TLS: what goes over the wire is not what is written.
func TestLogoutClosesWebSocketsWithTLS(t *testing.T) {
	g, app, secure := startEverywhere(t)
	token := g.login(programA, "alice")
	conn, err := tls.Dial("tcp", secure, localhost)
	if err != nil {
		t.Fatal(err)
	}
	ws := g.openWebSocket(conn, "localhost", "name=alice", bearer(token))
	ws.lives("hello")
	g.logout(token)
	ws.isClosed(4401, "session_revoked")
	app.ended(t, "alice")
}
