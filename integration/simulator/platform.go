// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// newPlatform returns what makes the surface of the platform called name from a
// complete configuration that holds only the programs of that platform; nil if
// there is no such platform.
func newPlatform(name string) func(Config) (platform, error) {
	switch name {
	case "alipay":
		return newAlipay
	case "wechat":
		return newWeChat
	default:
		return nil
	}
}

// platform is the surface of one platform with all its programs. Its methods
// may be called concurrently, and are only called with programs of its own.
type platform interface {
	// endpoints returns what the platform serves, by path.
	endpoints() map[string]endpoint
	// checkCode returns an error where the platform has no error codes of this
	// form.
	checkCode(code string) error
	// refuse makes the answer by which the platform refuses a call with an error
	// code of its own, which passed checkCode. Without a message it is the usual
	// one.
	refuse(c *call, code, message string) answer
	// rewrite changes the JSON of an answer that serve made.
	rewrite(a answer, change func(any) any) answer

	// The rest is what happens on the phone of a user.

	login(program, user string, scopes []string) (string, error)
	sharePhone(phone Phone) (string, error)
	encrypt(encryption Encryption) (Encrypted, error)
	identity(program, user string) Identity
	sessionKey(program, user string) (string, error)
}

// route is a path in service.
type route struct {
	platform platform
	endpoint endpoint
}

// endpoint is one server interface of a platform.
type endpoint struct {
	// program returns the app id that the call names, unchecked. It looks at as
	// much of the body as has been read.
	program func(*call) string
	// inBody says that the app id, or the name of the API, stands in the body.
	inBody bool
	// apis are the names of the APIs where several share the path, and api
	// returns the one that a call names, or nothing.
	apis []string
	api  func(*call) string
	// serve carries out the call, whose body has been read.
	serve func(*call) answer
}

// apiOf returns the name of the API that a call names, or nothing where it is
// none of the path's.
func (e endpoint) apiOf(c *call) string {
	if e.api == nil {
		return ""
	}
	if name := e.api(c); slices.Contains(e.apis, name) {
		return name
	}
	return ""
}

// maxBody is how much of a call's body is read; the platforms' calls are small.
const maxBody = 1 << 20

// call is one call of a platform's interface. It belongs to one goroutine.
type call struct {
	request  *http.Request
	query    url.Values
	body     []byte
	bodyRead bool
}

// newCall takes a request without reading its body.
func newCall(r *http.Request) *call {
	return &call{request: r, query: r.URL.Query()}
}

// path returns the path of the call.
func (c *call) path() string { return c.request.URL.Path }

// readBody reads the body, once. What goes beyond maxBody is left out, and a
// body that is broken off is none.
func (c *call) readBody() {
	if c.bodyRead {
		return
	}
	c.bodyRead = true
	if body, err := io.ReadAll(io.LimitReader(c.request.Body, maxBody)); err == nil {
		c.body = body
	}
}

// record describes the call as it was received.
func (c *call) record(now time.Time, api, program string) Call {
	query, queryCut := cut(c.request.URL.RawQuery)
	body, bodyCut := cut(string(c.body))
	return Call{
		Time:        now,
		Method:      c.request.Method,
		Path:        c.path(),
		API:         api,
		Program:     program,
		Query:       query,
		ContentType: c.request.Header.Get("Content-Type"),
		Body:        body,
		Cut:         queryCut || bodyCut,
	}
}

// maxRecorded is how many bytes of a query or body are recorded, so that the
// record of calls is bounded in bytes too.
const maxRecorded = 4096

// cut shortens text to what is recorded of it.
func cut(text string) (string, bool) {
	if len(text) <= maxRecorded {
		return text, false
	}
	return strings.Clone(text[:maxRecorded]), true
}

// answer is what a platform answers to a call.
type answer struct {
	status      int
	contentType string
	body        []byte
	// traceID is a header that Alipay sends.
	traceID string
	// reply is what an answer of Alipay was made from.
	reply *alipayReply
}

// writeHeaders sends all but the body.
func (a answer) writeHeaders(w http.ResponseWriter) {
	w.Header().Set("Content-Type", a.contentType)
	if a.traceID != "" {
		w.Header().Set("trace_id", a.traceID)
	}
	w.WriteHeader(a.status)
}

// write sends the answer. That the client has gone away is not our concern.
func (a answer) write(w http.ResponseWriter) {
	a.writeHeaders(w)
	_, _ = w.Write(a.body)
}

// encodeJSON returns v as JSON in the way the platforms write it: on one line
// and without \u escapes for the characters of HTML. v must be encodable.
func encodeJSON(v any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("encoding an answer of the simulator: " + err.Error())
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
}
