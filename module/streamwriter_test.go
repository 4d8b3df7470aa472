// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/session"
)

// newVisitorForTest returns a visitor whose connections are validated by nobody.
func newVisitorForTest(tb testing.TB) *visitor {
	tb.Helper()
	r := newConnections(connectionOptions{
		ctx:           tb.Context(),
		run:           func(func()) bool { return false },
		validate:      func(context.Context, string) (time.Time, error) { return time.Time{}, errors.ErrUnsupported },
		believedUntil: time.Now,
		ended:         func(string, string) {},
		metrics:       processMetrics,
	})
	return &visitor{connections: r, session: &session.Session{Subject: "alice"}}
}

// serverWriter is a writer that, like the server's, has a fast way to send files.
type serverWriter struct {
	*httptest.ResponseRecorder
	fast bool
}

func (w *serverWriter) ReadFrom(r io.Reader) (int64, error) {
	w.fast = true
	return w.ResponseRecorder.Body.ReadFrom(r)
}

// What goes on is found, whatever way the handler takes; what does not is left
// alone, and keeps the server's fast way.
func TestStreamWriterFindsWhatGoesOn(t *testing.T) {
	ways := map[string]func(http.ResponseWriter) error{
		"header": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
			return nil
		},
		"write": func(w http.ResponseWriter) error {
			_, err := io.WriteString(w, "body")
			return err
		},
		"copy": func(w http.ResponseWriter) error {
			_, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("body")})
			return err
		},
		"flush": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
	}
	for name, answer := range ways {
		for contentType, goesOn := range map[string]int64{
			"text/event-stream":                 1,
			"Text/Event-Stream; charset=utf-8":  1,
			"text/event-stream-of-another-kind": 0,
			"application/json":                  0,
			"":                                  0,
		} {
			v := newVisitorForTest(t)
			server := &serverWriter{ResponseRecorder: httptest.NewRecorder()}
			w, r := newStreamWriter(server, httptest.NewRequest(http.MethodGet, "/", http.NoBody), v, "token")
			if contentType != "" {
				w.Header().Set("Content-Type", contentType)
			}
			if err := answer(w); err != nil {
				t.Fatal(err)
			}
			if r.Context() != context.Background() && contentType == "" {
				t.Error("the request is another")
			}
			if n := v.connections.count.Load(); n != goesOn {
				t.Errorf("%s, %q: %d connections are open, want %d", name, contentType, n, goesOn)
			}
			if want := name == "copy" && goesOn == 0; server.fast != want {
				t.Errorf("%s, %q: the fast way is taken: %v", name, contentType, server.fast)
			}
			w.finish()
			if n := v.connections.count.Load(); n != 0 {
				t.Errorf("%s, %q: %d connections are left", name, contentType, n)
			}
		}
	}
}

// After the end of an event stream no handler gets a word out, and the server's
// writer is not touched any more once it has it back.
func TestEventStreamEnds(t *testing.T) {
	for _, finished := range []bool{false, true} {
		v := newVisitorForTest(t)
		recorder := httptest.NewRecorder()
		w, _ := newStreamWriter(recorder, httptest.NewRequest(http.MethodGet, "/", http.NoBody), v, "token")
		w.Header().Set("Content-Type", "text/event-stream")
		if _, err := io.WriteString(w, "data: 1\n\n"); err != nil {
			t.Fatal(err)
		}
		if finished {
			w.finish()
		}
		before := recorder.Body.Len()
		w.stream.end(sessionRevoked)
		if finished && recorder.Body.Len() != before {
			t.Errorf("written after the request was served: %q", recorder.Body)
		}
		before = recorder.Body.Len()
		_, writeErr := io.WriteString(w, "data: 2\n\n")
		_, copyErr := io.Copy(w, strings.NewReader("data: 3\n\n"))
		if flushErr := http.NewResponseController(w).Flush(); !errors.Is(writeErr, errEnded) || !errors.Is(copyErr, errEnded) || !errors.Is(flushErr, errEnded) {
			t.Errorf("write: %v, copy: %v, flush: %v", writeErr, copyErr, flushErr)
		}
		if recorder.Body.Len() != before {
			t.Errorf("written after the end: %q", recorder.Body)
		}
	}
}

// Every request of every user pays for this.
func TestStreamWriterCostsOneAllocation(t *testing.T) {
	v := newVisitorForTest(t)
	request := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(http.StatusOK)
	body := []byte("body")
	if n := testing.AllocsPerRun(100, func() {
		w, _ := newStreamWriter(recorder, request, v, "token")
		defer w.finish()
		recorder.Body.Reset()
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// A proxy that goes on copying when the request has been served does not write to
// what the server has given to another.
func TestTunnelAfterItsRequest(t *testing.T) {
	v := newVisitorForTest(t)
	recorder := httptest.NewRecorder()
	w, r := newStreamWriter(recorder, httptest.NewRequest(http.MethodConnect, "/", strings.NewReader("from the client")), v, "token")
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(textFrame(3)); err != nil || v.connections.count.Load() != 1 {
		t.Fatalf("%d connections are open, %v", v.connections.count.Load(), err)
	}
	if said, err := io.ReadAll(r.Body); err != nil || string(said) != "from the client" {
		t.Errorf("the upstream hears %q, %v", said, err)
	}
	w.finish()
	before := recorder.Body.Len()
	if _, err := w.Write(textFrame(3)); !errors.Is(err, errEnded) {
		t.Errorf("write: %v", err)
	}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, errEnded) {
		t.Errorf("flush: %v", err)
	}
	w.stream.tunnel.end(sessionRevoked)
	if recorder.Body.Len() != before || r.Context().Err() == nil {
		t.Errorf("written: %q", recorder.Body.Bytes()[before:])
	}
}
