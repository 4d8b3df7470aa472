// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/provider"
	"github.com/minigate/minigate/module/session"
)

// openData is data of a platform's as a client hands it over: encrypted, or
// signed, or both. A client may use the platform's names, or the same with
// underscores.
type openData struct {
	encrypted, iv      string // WeChat's encryptedData and iv
	rawData, signature string // WeChat's rawData and signature

	// signed is the JSON text that Alipay signed, as its my.getPhoneNumber gave it
	// to the client; nil without.
	signed []byte
}

// readOpenData reads what body, a JSON object in which no name stands twice, has of
// open data.
func readOpenData(body []byte) (*openData, *Error) {
	fields, err := provider.DecodeFields(body)
	if err != nil {
		return nil, errInvalidRequest
	}
	d := new(openData)
	for _, member := range [...]struct {
		text        *string
		name, alias string
	}{
		{&d.encrypted, "encryptedData", "encrypted_data"},
		{&d.iv, "iv", ""},
		{&d.rawData, "rawData", "raw_data"},
		{&d.signature, "signature", ""},
	} {
		text, err := fields.Text(member.name)
		other, otherErr := fields.Text(member.alias)
		if err != nil || otherErr != nil || (text != "" && other != "" && text != other) {
			return nil, errInvalidRequest
		}
		*member.text = cmp.Or(text, other)
	}
	sign, err := fields.Text("sign")
	if err != nil {
		return nil, errInvalidRequest
	}
	d.signed = signedText(body, fields, d.encrypted, sign)
	return d, nil
}

// signedText returns the text that my.getPhoneNumber gave to the client. Clients
// send it as their body, or as a text in a member of their own body.
func signedText(body []byte, fields provider.Fields, encrypted, sign string) []byte {
	text := encrypted
	if fields.Has("response") {
		var err error
		if text, err = fields.Text("response"); err != nil || sign != "" {
			return body
		}
	}
	if text = strings.TrimSpace(text); strings.HasPrefix(text, "{") {
		return []byte(text)
	}
	if fields.Has("response") {
		return body // not signed, as it will turn out
	}
	return nil
}

// isEncrypted reports whether there is data that a session key opens.
func (d *openData) isEncrypted() bool { return d.encrypted != "" && d.iv != "" }

// isVerifiable reports whether there is plain data with a signature.
func (d *openData) isVerifiable() bool { return d.rawData != "" && d.signature != "" }

// isFor reports whether there is open data, whole or in part, of the kind that
// the platform with these abilities makes. It is safe on nil.
func (d *openData) isFor(platform any) bool {
	if d == nil {
		return false
	}
	switch platform.(type) {
	case provider.OpenData:
		return d.encrypted != "" || d.rawData != "" || d.signature != ""
	case provider.SignedData:
		return d.signed != nil
	default:
		return false
	}
}

// isMeantFor reports whether a request to an upstream carries data that is to be
// opened: encryptedData is the name of nothing else, and Alipay's response is so
// on its platform only. A signature may be of anything.
func (d *openData) isMeantFor(platform any) bool {
	_, signs := platform.(provider.SignedData)
	return d.encrypted != "" || (signs && d.signed != nil)
}

// opened is what was inside of open data.
type opened struct {
	plain []byte // a JSON object
	from  any    // the provider
}

// phone reads a telephone number.
func (o *opened) phone() (provider.PhoneNumber, *Error) {
	if reader, ok := o.from.(provider.PhoneData); ok {
		if number, err := reader.PhoneNumber(o.plain); err == nil {
			return number, nil
		}
	}
	return provider.PhoneNumber{}, errDataInvalid
}

// userInfo reads user information.
func (o *opened) userInfo() (identity.UserInfo, *Error) {
	if reader, ok := o.from.(provider.OpenData); ok {
		if info, err := reader.UserInfo(o.plain); err == nil {
			return info, nil
		}
	}
	return identity.UserInfo{}, errDataInvalid
}

// opener opens the open data of one user.
type opener struct {
	app  *App
	rt   *runtime
	p    *program
	user identity.Identity
	// session is the one that the client showed.
	session *session.Session
}

// opener returns what opens the open data of a user's.
func (h *Handler) opener(user *userRequest) *opener {
	s := user.session
	return &opener{app: h.app, rt: user.runtime, p: h.allowed[s.Identity.Program], user: s.Identity, session: s}
}

// What a user may hand over that is refused. Data in CBC without a checksum can be
// read, and in the end be made, by who may try a million times; a client that is
// as it should be fails once, when its session key has changed.
const (
	maxRefusals   = 20
	refusalWindow = 10 * time.Minute
)

// tried runs an attempt to open data by a session key, unless the user has failed
// too often.
func (o *opener) tried(attempt func() (*opened, *Error)) (*opened, *Error) {
	refusals, subject := o.rt.state.refusals, o.user.Subject()
	if wait, ok := refusals.take(subject); !ok {
		return nil, errRateLimited.retryAfter(wait)
	}
	data, failure := attempt()
	if failure != errDataInvalid {
		refusals.giveBack(subject)
	}
	return data, failure
}

// open verifies and opens d.
func (o *opener) open(ctx context.Context, d *openData) (*opened, *Error) {
	switch from := o.p.abilities().(type) {
	case provider.OpenData:
		if !d.isEncrypted() && !d.isVerifiable() {
			return nil, errInvalidRequest
		}
		return o.tried(func() (*opened, *Error) { return o.openByKey(ctx, from, d) })
	case provider.SignedData:
		if d.signed == nil {
			return nil, errInvalidRequest
		}
		return o.openSigned(ctx, d)
	default:
		return nil, errInvalidRequest
	}
}

// openByKey opens data with the session keys that the user has, and had until a
// few minutes ago.
func (o *opener) openByKey(ctx context.Context, from provider.OpenData, d *openData) (*opened, *Error) {
	keys, err := o.rt.sessions.PlatformKeys(ctx, o.session)
	if err != nil {
		return nil, o.p.storeFailure(err)
	}
	keys = o.recheck(ctx, keys)
	if len(keys) == 0 {
		return nil, errKeyStale
	}
	if plain := tryKeys(from, o.user.OpenID, keys, d); plain != nil {
		return &opened{plain, from}, nil
	}
	if o.wentStale(ctx, keys[0]) {
		return nil, errKeyStale
	}
	return nil, errDataInvalid
}

// tryKeys opens d with one of keys; nil if none fits. Data that is wrong in any
// way is tried with all of them, and so takes the same time.
func tryKeys(from provider.OpenData, openID string, keys []session.PlatformKey, d *openData) []byte {
	for _, key := range keys {
		if plain := openWith(from, provider.Holder{OpenID: openID, SessionKey: key.Key}, d); plain != nil {
			return plain
		}
	}
	return nil
}

// openWith opens d with one session key. Where d has both forms of data, both
// must be good, and the encrypted one counts, which says more.
func openWith(from provider.OpenData, holder provider.Holder, d *openData) []byte {
	var plain []byte
	if d.isVerifiable() {
		if from.Verify(holder, d.rawData, d.signature) != nil {
			return nil
		}
		plain = []byte(d.rawData)
	}
	if d.isEncrypted() {
		decrypted, err := from.Decrypt(holder, d.encrypted, d.iv)
		if err != nil {
			return nil
		}
		plain = decrypted
	}
	return plain
}

// signedFreshness is how old a session may be whose user hands over data that
// the platform signed without saying for whom, or when.
const signedFreshness = 10 * time.Minute

// openSigned opens data that the platform signed.
func (o *opener) openSigned(ctx context.Context, d *openData) (*opened, *Error) {
	if o.session != nil && time.Since(o.session.IssuedAt()) > signedFreshness {
		return nil, errKeyStale
	}
	var signed provider.Signed
	var from any
	var err error
	for _, candidate := range o.p.provider.Load().order(time.Now()) {
		if opener, ok := candidate.(provider.SignedData); ok {
			from = candidate
			if signed, err = opener.OpenSigned(ctx, d.signed); err == nil {
				break
			}
		}
	}
	if err != nil {
		return nil, o.p.openFailure(err)
	}
	first, err := o.rt.bringers.first(ctx, o.p.platform, signed.Signed, o.user.Subject())
	switch {
	case err != nil:
		return nil, o.p.storeFailure(err)
	case !first:
		o.p.logger.Warn("data that another user brought before was refused", zap.String("user", o.rt.keys.Digest(o.user.Subject())))
		return nil, errDataInvalid
	}
	return &opened{signed.Plain, from}, nil
}

// openFailure translates an error of opening data, and tells the operator what
// he has to know of it.
func (p *program) openFailure(err error) *Error {
	if errors.Is(err, provider.ErrData) {
		p.logger.Info("open data refused", zap.NamedError("cause", err))
		return errDataInvalid
	}
	return p.callFailure(err)
}

// storeFailure tells the operator that the store could not be used.
func (p *program) storeFailure(err error) *Error {
	p.logger.Error("store cannot be used", zap.Error(err))
	return errStore.retryAfter(0)
}

// decryptAnswer is the body of the answer of POST /decrypt.
type decryptAnswer struct {
	Data json.RawMessage `json:"data"`
}

// serveDecrypt answers POST /decrypt.
func (h *Handler) serveDecrypt(w http.ResponseWriter, r *http.Request, user *userRequest) error {
	_, d, failure := readData(r)
	if failure != nil {
		return writeError(w, r, failure)
	}
	o, failure := h.opener(user).open(r.Context(), d)
	if failure != nil {
		return writeError(w, r, failure)
	}
	return writeJSON(w, http.StatusOK, decryptAnswer{o.plain})
}

// readData reads the body of a request that may have a code or open data.
func readData(r *http.Request) (code string, d *openData, failure *Error) {
	body, failure := readObject(r, false)
	if failure != nil {
		return "", nil, failure
	}
	var withCode struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &withCode) != nil {
		return "", nil, errInvalidRequest
	}
	d, failure = readOpenData(body)
	return withCode.Code, d, failure
}
