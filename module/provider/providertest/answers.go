// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/minigate/minigate/module/provider"
)

// unusable are the reasons of an answer that is not the platform's own. Which of
// the two it is may depend on its status.
var unusable = []provider.Reason{provider.PlatformFault, provider.Unavailable}

func testUnusableAnswers(t *testing.T, s Suite) {
	bodies := slices.Concat([]string{
		"",
		" ",
		"\x00\xff\xfe garbage \x1b[31m",
		"null",
		"true",
		"0",
		`""`,
		"[]",
		"{}",
		"{",
		`{"a":`,
		"[{}]",
		"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
		strings.Repeat("[", 60<<10),
		strings.Repeat(`{"a":`, 12<<10),
		`{"` + strings.Repeat("a", 60<<10) + `":1}`,
		strings.Repeat("{}", 30<<10),
	}, s.Unusable)
	for _, status := range []int{200, 400, 404, 500, 503} {
		platform := start(t, s, func(w http.ResponseWriter, r *http.Request, n int) {
			if n < 0 {
				s.succeed(w, r, n)
				return
			}
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, bodies[n])
		})
		second := start(t, s, s.succeed)
		p := s.New(t, []string{platform.URL, second.URL})
		for n, body := range bodies {
			grant, err := s.exchange(t, p, s.Code(n))
			if err == nil {
				t.Errorf("status %d, body %.60q: got %+v", status, body, grant)
				continue
			}
			allowed := unusable
			if status == 200 {
				allowed = unusable[:1]
			}
			s.fails(t, err, s.Code(n), allowed...)
			platform.sawOnce(t, n)
		}
		second.isUntouched(t)
	}
}

// sawAtMostOnce is sawOnce for a provider that may have failed before it sent
// the code.
func (p *platform) sawAtMostOnce(t testing.TB, n int) {
	t.Helper()
	if got := p.sightings(n); got > 1 {
		t.Errorf("code %d was sent %d times", n, got)
	}
}

// A redirect is not followed, and is no answer even if it has one in its body.
func testRedirects(t *testing.T, s Suite) {
	elsewhere := start(t, s, s.succeed)
	for n, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		platform := start(t, s, func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Location", elsewhere.URL+r.URL.RequestURI())
			w.WriteHeader(status)
			s.succeed(w, r, n)
		})
		_, err := s.exchange(t, s.New(t, []string{platform.URL}), s.Code(n))
		s.fails(t, err, s.Code(n), provider.PlatformFault)
		platform.sawAtMostOnce(t, n)
	}
	if n := elsewhere.connections.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// A refusal may say anything: no secret, no control character and no flood of
// text gets into the error.
func testRefusals(t *testing.T, s Suite) {
	code := s.Code(0)
	secrets := strings.Join(append(slices.Clone(s.Secrets), code), " ")
	for _, message := range []string{
		"",
		"no",
		strings.Repeat("long ", 2000),
		"line\r\nfeed \x00 \x1b[31m red \u202e reversed",
		"echo: " + secrets,
		strings.Repeat("x", 200) + secrets,
		"rid: " + code + " hints: [ req_id: " + code + " ]",
		strings.Join(strings.Split(code, ""), "\x00"),
	} {
		platform := start(t, s, func(w http.ResponseWriter, r *http.Request, _ int) { s.Refuse(w, r, message) })
		_, err := s.exchange(t, s.New(t, []string{platform.URL}), code)
		s.fails(t, err, code)
	}
}

// A server that sends back what it got must not bring it into an error.
func testEchoes(t *testing.T, s Suite) {
	code := s.Code(0)
	for name, how := range map[string]func(w http.ResponseWriter, request string){
		"body": func(w http.ResponseWriter, request string) { _, _ = io.WriteString(w, request) },
		"json": func(w http.ResponseWriter, request string) {
			_ = json.NewEncoder(w).Encode(map[string]string{request: request})
		},
		"location": func(w http.ResponseWriter, request string) {
			w.Header().Set("Location", "https://echo.example/?"+strings.ReplaceAll(request, "\r\n", " "))
			w.WriteHeader(http.StatusFound)
		},
		"no head": func(w http.ResponseWriter, request string) { speak(w, request) },
		"status":  func(w http.ResponseWriter, request string) { speak(w, "HTTP/1.1 "+request) },
		"length": func(w http.ResponseWriter, request string) {
			line, _, _ := strings.Cut(request, "\r\n")
			speak(w, "HTTP/1.1 200 OK\r\nContent-Length: "+line+"\r\n\r\n")
		},
		"header": func(w http.ResponseWriter, request string) {
			speak(w, "HTTP/1.1 200 OK\r\n"+request+"\r\n\r\n")
		},
		"chunk": func(w http.ResponseWriter, request string) {
			speak(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+request)
		},
		"encoding": func(w http.ResponseWriter, request string) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, request)
		},
	} {
		t.Run(name, func(t *testing.T) {
			platform := start(t, s, func(w http.ResponseWriter, r *http.Request, _ int) {
				request, err := httputil.DumpRequest(r, true)
				if err != nil {
					panic(err)
				}
				how(w, string(request))
			})
			_, err := s.exchange(t, s.New(t, []string{platform.URL}), code)
			s.fails(t, err, code, unusable...)
		})
	}
}

// speak answers with bytes that need not be HTTP.
func speak(w http.ResponseWriter, answer string) {
	conn := take(w)
	_, _ = io.WriteString(conn, answer)
	_ = conn.Close()
}

// However much the platform sends, the provider keeps little of it.
func testEndlessAnswers(t *testing.T, s Suite) {
	const (
		endless = 1 << 30
		little  = 16 << 20
	)
	block := make([]byte, 32<<10)
	for i := range block {
		block[i] = ' ' // white space is what JSON may have any amount of
	}
	flood := func(w io.Writer, size int) {
		for range size / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	for name, how := range map[string]func(w http.ResponseWriter){
		"announced": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", fmt.Sprint(endless))
			flood(w, endless)
		},
		"chunked": func(w http.ResponseWriter) { flood(w, endless) },
		"packed": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			pack, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
			if err != nil {
				panic(err)
			}
			flood(pack, endless)
		},
		"header": func(w http.ResponseWriter) {
			conn := take(w)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Endless: ")
			flood(conn, endless)
			_ = conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			platform := start(t, s, func(w http.ResponseWriter, _ *http.Request, _ int) { how(w) })
			p := s.New(t, []string{platform.URL})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := s.exchange(t, p, s.Code(0))
			runtime.ReadMemStats(&after)
			s.fails(t, err, s.Code(0), provider.PlatformFault)
			if got := after.TotalAlloc - before.TotalAlloc; got > little {
				t.Errorf("%d MiB were allocated for one answer", got>>20)
			}
		})
	}
}
