// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// tokenWriter gives the client the token of the session that its request began.
// It does so at once, for an answer that somebody else writes after an error,
// and again when the answer begins, so that nothing an upstream sends takes its
// place.
type tokenWriter struct {
	*caddyhttp.ResponseWriterWrapper
	token string
	wrote bool
}

func newTokenWriter(w http.ResponseWriter, token string) *tokenWriter {
	t := &tokenWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, token: token}
	t.set()
	return t
}

func (w *tokenWriter) set() {
	w.Header().Set("Authorization", "Bearer "+w.token)
	w.Header().Set("Cache-Control", "no-store")
}

// WriteHeader implements http.ResponseWriter.
func (w *tokenWriter) WriteHeader(status int) {
	if !w.wrote {
		w.wrote = status >= 200 || status == http.StatusSwitchingProtocols
		w.set()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// begin begins the answer if nobody has.
func (w *tokenWriter) begin() {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
}

// Write implements http.ResponseWriter.
func (w *tokenWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements io.ReaderFrom, which the wrapped writer would otherwise
// do without a word to this one.
func (w *tokenWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError flushes the answer, as http.ResponseController wants it.
func (w *tokenWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Interface guards
var (
	_ http.ResponseWriter = (*tokenWriter)(nil)
	_ io.ReaderFrom       = (*tokenWriter)(nil)
)
