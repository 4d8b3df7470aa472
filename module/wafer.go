// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/minigate/minigate/module/session"
)

// clientWafer is the name of the session protocols of Tencent's wafer SDKs, of
// both generations: npm wafer-client-sdk (first) and wafer2-client-sdk (second).
// They are legacy, but their clients are in the field.
const clientWafer = "wafer"

// Header fields of the wafer protocols.
const (
	waferCode          = "X-Wx-Code"
	waferID            = "X-Wx-Id" // first generation only
	waferSkey          = "X-Wx-Skey"
	waferEncryptedData = "X-Wx-Encrypted-Data"
	waferEncryptData   = "X-Wx-Encrypt-Data" // before 0.8 of the first generation
	waferIV            = "X-Wx-Iv"
)

var waferHeaders = []string{waferCode, waferID, waferSkey, waferEncryptedData, waferEncryptData, waferIV}

// waferCredential is what a wafer client shows.
type waferCredential struct {
	// id names the session; sent by the first generation only.
	id string
	// login is set if the request brings a login code. The clients send it to
	// whatever URL their developer chose.
	login bool
}

// matches reports whether the credential names s.
func (c *waferCredential) matches(s *session.Session) bool { return c.id == "" || c.id == s.ID }

// readWafer reads the credential of a wafer client, if h has one.
func (c *credential) readWafer(h http.Header) *Error {
	code, skey := h[waferCode], h[waferSkey]
	if code == nil && skey == nil && h[waferID] == nil {
		return nil
	}
	if c.scheme != "" || len(code) > 1 || len(skey) > 1 || len(h[waferID]) > 1 {
		return errAmbiguous
	}
	c.wafer = &waferCredential{id: h.Get(waferID), login: code != nil}
	c.code, c.token = h.Get(waferCode), h.Get(waferSkey)
	return nil
}

func removeWafer(h http.Header) {
	for _, name := range waferHeaders {
		delete(h, name)
	}
}

// waferLoginAnswer is an answer to a login that clients of both generations
// take: each looks at its own members only.
type waferLoginAnswer struct {
	Magic   int          `json:"F2C224D4-2BCE-4C64-AF9F-A6D872000D1A"`
	Session waferSession `json:"session"`
	Code    int          `json:"code"`
	Data    waferData    `json:"data"`
}

// waferSession is what the first generation keeps.
type waferSession struct {
	ID   string `json:"id"`
	Skey string `json:"skey"`
}

// waferData is what the second generation keeps. Its client refuses an answer
// without userinfo.
type waferData struct {
	Skey     string         `json:"skey"`
	UserInfo map[string]any `json:"userinfo"`
	Time     int64          `json:"time"`
}

// waferFailure tells clients of both generations that there is no session. The
// first looks at the magic member and at the error word, the second at code.
type waferFailure struct {
	Magic     int    `json:"F2C224D4-2BCE-4C64-AF9F-A6D872000D1A"`
	Code      int    `json:"code"`
	Error     string `json:"error"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
}

// Error words of the wafer protocols.
const (
	waferInvalidSession = "ERR_INVALID_SESSION" // the client signs in again and repeats the request
	waferLoginFailed    = "ERR_LOGIN_FAILED"
)

// waferJoin is for how long wafer clients that sign in again get the session
// they have. They do not show it when they sign in, and sign in once for each
// request that was refused.
const waferJoin = 10 * time.Second

// waferLogin answers the login request of a wafer client.
func (h *Handler) waferLogin(w http.ResponseWriter, r *http.Request, cred *credential) error {
	fail := func(failure *Error) error {
		setErrorHeader(w.Header(), failure)
		return writeJSON(w, failure.Status, waferFailure{
			Magic: 1, Code: -1, Error: waferLoginFailed,
			Message: failure.Word + ": " + failure.Description, RequestID: requestID(r),
		})
	}
	if cred.code == "" {
		return fail(errInvalidRequest)
	}
	in := signIn{code: cred.code, login: session.Login{Replaces: h.shownSession(r, cred), Join: waferJoin}}
	result, rt, failure := h.signIn(r, cred.program, in)
	if failure != nil {
		return fail(failure)
	}
	if _, failure := h.visitor(r, rt, result.session); failure != nil {
		return fail(failure)
	}
	return writeJSON(w, http.StatusOK, waferLoginAnswer{
		Magic:   1,
		Session: waferSession{ID: result.session.ID, Skey: result.token},
		Data: waferData{
			Skey:     result.token,
			UserInfo: h.waferUserInfo(r, rt, result.session),
			Time:     result.session.IssuedAt().Unix(),
		},
	})
}

// waferUserInfo returns what a client is told about its user: what the platform
// encrypted on the phone, if that came along and is in order, and the proven
// ids in any case.
func (h *Handler) waferUserInfo(r *http.Request, rt *runtime, s *session.Session) map[string]any {
	info := h.waferOpenData(r, rt, s)
	if stated, ok := info["openId"]; info == nil || (ok && stated != s.Identity.OpenID) {
		info = make(map[string]any)
	}
	delete(info, "unionId")
	info["openId"] = s.Identity.OpenID
	if s.Identity.UnionID != "" {
		info["unionId"] = s.Identity.UnionID
	}
	return info
}

// waferOpenData returns the user information that a login request carries in
// encrypted form, or nil, and keeps it.
func (h *Handler) waferOpenData(r *http.Request, rt *runtime, s *session.Session) (info map[string]any) {
	d := &openData{encrypted: r.Header.Get(waferEncryptedData), iv: r.Header.Get(waferIV)}
	if !d.isEncrypted() {
		return nil
	}
	data, failure := h.opener(&userRequest{runtime: rt, session: s}).open(r.Context(), d)
	if failure == nil {
		failure = rt.remember(r.Context(), h.allowed[s.Identity.Program], author(s), data)
	}
	if failure != nil {
		h.logger.Info("user information of a wafer client is left out", zap.String("error", failure.Word))
		return nil
	}
	if json.Unmarshal(data.plain, &info) != nil {
		return nil
	}
	return info
}

// waferRefuse answers a request that shows no valid session, in a form in which
// clients of both generations sign in again by themselves.
//
// The first generation looks at the body only and was always answered 200; the
// second goes by the status. A client that shows nothing may be either.
func (h *Handler) waferRefuse(w http.ResponseWriter, r *http.Request, cred *credential, failure *Error) error {
	if cred.wafer == nil && cred.scheme != "" {
		return writeError(w, r, failure) // no wafer client
	}
	status := failure.Status
	if cred.wafer != nil && cred.wafer.id != "" {
		status = http.StatusOK
	}
	setErrorHeader(w.Header(), failure)
	return writeJSON(w, status, waferFailure{
		Magic: 1, Code: -1, Error: waferInvalidSession,
		Message: failure.Word + ": " + failure.Description, RequestID: requestID(r),
	})
}

// warnAboutWaferLogs warns that logs need a filter: Caddy redacts the headers
// Authorization, Cookie and Set-Cookie in them, but knows nothing of those in
// which wafer clients send their credentials. Access logs have the header of
// every request; error logs, which are always written, have that of a request
// that failed after it was let through, as it was received.
func (h *Handler) warnAboutWaferLogs(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.logger.Warn("logs will hold credentials of wafer clients unless a filter deletes them; see the documentation of the option clients",
		zap.Strings("headers", waferHeaders),
		zap.Bool("access_logs", ok && server.Logs != nil))
}
