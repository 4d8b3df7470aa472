// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"bytes"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// reasons are the sub_codes of the call, and those that every call of the
// platform may give, without the part before the first dot, which differs between
// versions of the interface.
//
// https://opendocs.alipay.com/common/02km9f
var reasons = map[string]provider.Reason{
	// The client needs a new code. There is one sub_code for a code that is
	// unknown, expired, used, or of another program.
	"code-invalid":            provider.CodeInvalid,
	"refresh-token-invalid":   provider.CodeInvalid,
	"refresh-token-time-out":  provider.CodeInvalid,
	"refreshed-token-invalid": provider.CodeInvalid,
	"invalid-auth-token":      provider.CodeInvalid,
	"auth-token-time-out":     provider.CodeInvalid,

	"unknow-error":  provider.Unavailable, // so spelled
	"unknown-error": provider.Unavailable,

	"app-call-limited":    provider.RateLimited,
	"method-call-limited": provider.RateLimited,

	// The operator, or the merchant for whom he acts, must do something.
	"app-auth-token-time-out":       provider.Misconfigured,
	"app-cert-expired":              provider.Misconfigured,
	"app-cert-not-exist":            provider.Misconfigured,
	"app-openid-not-match":          provider.Misconfigured,
	"forbidden-api":                 provider.Misconfigured,
	"grant-type-invalid":            provider.Misconfigured,
	"insufficient-isv-permissions":  provider.Misconfigured,
	"insufficient-user-permissions": provider.Misconfigured,
	"invalid-app-auth-token":        provider.Misconfigured,
	"invalid-app-auth-token-no-api": provider.Misconfigured,
	"invalid-app-id":                provider.Misconfigured,
	"invalid-auth-relations":        provider.Misconfigured,
	"invalid-charset":               provider.Misconfigured,
	"invalid-format":                provider.Misconfigured,
	"invalid-method":                provider.Misconfigured,
	"invalid-openid":                provider.Misconfigured,
	"invalid-signature":             provider.Misconfigured,
	invalidTimestamp:                provider.Misconfigured,
	"ip-forbidden":                  provider.Misconfigured,
	"missing-alipay-root-cert-sn":   provider.Misconfigured,
	"missing-app-cert-sn":           provider.Misconfigured,
	"missing-app-id":                provider.Misconfigured,
	"missing-method":                provider.Misconfigured,
	"missing-signature":             provider.Misconfigured,
	"missing-signature-config":      provider.Misconfigured,
	"missing-signature-key":         provider.Misconfigured,
	"missing-signature-type":        provider.Misconfigured,
	"missing-timestamp":             provider.Misconfigured,
	"missing-version":               provider.Misconfigured,
	"no-product-reg-by-partner":     provider.Misconfigured,
	"not-online-app":                provider.Misconfigured,
	"self-invoke-forbidden":         provider.Misconfigured,
	"suspected-attack":              provider.Misconfigured,
	"unmatched-app-id":              provider.Misconfigured,
	decryptionError:                 provider.Misconfigured,
}

// infoReasons are the sub_codes that mean something else, or more, where user
// information is asked for: the token was made a moment ago, so that it is the user's
// consent which is not there, or not any more.
//
// https://opendocs.alipay.com/open/02aild
var infoReasons = map[string]provider.Reason{
	"invalid-auth-token":            provider.ConsentMissing,
	"auth-token-time-out":           provider.ConsentMissing,
	"invalid-auth-relations":        provider.ConsentMissing,
	"insufficient-user-permissions": provider.ConsentMissing,
}

// codes are the codes that say enough where the sub_code says nothing known.
var codes = map[string]provider.Reason{
	"20000": provider.Unavailable,
	"40005": provider.RateLimited,
}

const (
	// success is the code of a node that is no refusal. That of the login has none.
	success = "10000"

	invalidTimestamp = "invalid-timestamp"

	// decryptionError begins a family of sub_codes.
	decryptionError = "decryption-error"
)

// traceID is the form of the platform's name for a call.
var traceID = regexp.MustCompile(`^[0-9A-Za-z_.-]{1,64}$`)

// refusal returns the error that a node says it is, nil if it is none. It is
// one if it says so in any way.
func (c *client) refusal(r *reply, e *envelope, node provider.Fields) (*provider.Error, error) {
	code, err := label(node, "code")
	if err != nil {
		return nil, err
	}
	subCode, err := label(node, "sub_code")
	if err != nil {
		return nil, err
	}
	if e.name != errorNode && subCode == "" && (code == "" || code == success) {
		return nil, nil
	}
	message := node.Message("sub_msg", r.hidden...)
	if message == "" {
		message = node.Message("msg", r.hidden...)
	}
	refused := &provider.Error{
		Reason:          reasonOf(r.method, code, subCode),
		PlatformCode:    provider.Clean(subCode, r.hidden...),
		PlatformMessage: message,
	}
	if subCode == "" {
		refused.PlatformCode = provider.Clean(code, r.hidden...)
	}
	var remarks []string
	if bare(subCode) == invalidTimestamp {
		remarks = append(remarks, clockRemark(c.now(), r.Header))
	}
	if e.sign == "" {
		remarks = append(remarks, "the answer is not signed, so that it may not be the platform's")
	}
	if len(remarks) > 0 {
		refused.Err = errors.New(strings.Join(remarks, "; "))
	}
	return refused, nil
}

// label returns a field that is a word or, as some write it, a number.
func label(fields provider.Fields, name string) (string, error) {
	if raw := bytes.TrimSpace(fields[name]); len(raw) > 0 && raw[0] >= '0' && raw[0] <= '9' {
		return string(raw), nil
	}
	return fields.Text(name)
}

// reasonOf says what the refusal of a call means.
func reasonOf(method, code, subCode string) provider.Reason {
	name := bare(subCode)
	if reason, ok := infoReasons[name]; ok && method == methodInfo {
		return reason
	}
	if strings.HasPrefix(name, decryptionError) {
		name = decryptionError
	}
	if reason, ok := reasons[name]; ok {
		return reason
	}
	return codes[code] // PlatformFault for one that is unknown
}

// bare returns a sub_code without the part that says who is to blame.
func bare(subCode string) string {
	name := strings.ToLower(subCode)
	for _, prefix := range []string{"isv.", "aop.", "isp."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest
		}
	}
	return name
}

// clockRemark says what an operator should look at whose timestamps are refused.
// The platform's clock is in the answer, to the second.
func clockRemark(now time.Time, header http.Header) string {
	const remark = "the clock or the time zone of this host may be wrong"
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return remark
	}
	switch offset := now.Sub(date).Round(time.Second); {
	case offset > 0:
		return remark + ": it is " + offset.String() + " ahead of the date of the answer"
	case offset < 0:
		return remark + ": it is " + (-offset).String() + " behind the date of the answer"
	default:
		return remark + ", although it agrees with the date of the answer"
	}
}

// traced adds the platform's name for the call to an error.
func (r *reply) traced(err error) error {
	var e *provider.Error
	if errors.As(err, &e) && e.TraceID == "" {
		if id := provider.Clean(r.Header.Get("Trace_id"), r.hidden...); traceID.MatchString(id) {
			e.TraceID = id
		}
	}
	return err
}
