// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// However a handler begins its answer, the token is in it, and nothing that the
// handler sets takes its place.
func TestTokenWriter(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter) error{
		"header": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusTeapot)
			return nil
		},
		"write": func(w http.ResponseWriter) error {
			_, err := io.WriteString(w, "body")
			return err
		},
		"copy": func(w http.ResponseWriter) error {
			_, err := io.Copy(w, strings.NewReader("body"))
			return err
		},
		"flush": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"somebody else": func(w http.ResponseWriter) error {
			below := newTokenWriter(httptest.NewRecorder(), "token")
			if below.Header().Get("Authorization") != "Bearer token" {
				t.Error("an answer that is written below lacks the token")
			}
			w.WriteHeader(http.StatusBadGateway)
			return nil
		},
		"early hints": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Authorization", "Bearer evil")
			w.WriteHeader(http.StatusOK)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			w := newTokenWriter(recorder, "token")
			recorder.Header().Set("Authorization", "Bearer evil")
			recorder.Header().Set("Cache-Control", "public")
			if err := answer(w); err != nil {
				t.Fatal(err)
			}
			header := recorder.Result().Header
			if got := header.Values("Authorization"); len(got) != 1 || got[0] != "Bearer token" || header.Get("Cache-Control") != "no-store" {
				t.Errorf("header is %v", header)
			}
		})
	}
}
