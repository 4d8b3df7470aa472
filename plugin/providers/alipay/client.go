// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minigate/minigate/module/provider"
)

const (
	// longestCode is the most bytes of a login code. Those seen have 32; the
	// platform promises at most 40.
	longestCode = 64

	// charset is spelled alike in the query and in the text that is signed.
	charset = "utf-8"

	methodToken    = "alipay.system.oauth.token"
	methodInfo     = "alipay.user.info.share"
	methodDownload = "alipay.open.app.alipaycert.download"
)

// platformTime is the time zone of timestamps, GMT+8. It is not loaded by name,
// because a small image has no time zone data.
var platformTime = time.FixedZone("GMT+8", 8*60*60)

// client calls the platform for one mini-program. Its methods may be called
// concurrently.
type client struct {
	api          *provider.Client
	appID        string
	appAuthToken string
	key          *rsa.PrivateKey
	appCertSN    string // empty without certificates
	rootCertSN   string
	keys         keySource
	secrets      []string // what no error may show
	now          func() time.Time
}

// keySource knows the platform's public keys.
type keySource interface {
	// publicKey returns the key of the certificate with the given serial number,
	// which is empty if the answer names none.
	publicKey(ctx context.Context, certSN string) (*rsa.PublicKey, error)

	// known returns all keys that are held, for what names no certificate and is
	// handed over by a client, who must not be able to make calls to the platform.
	known() []*rsa.PublicKey
}

// fixedKey is the one public key of a program without certificates.
type fixedKey struct{ key *rsa.PublicKey }

// publicKey implements keySource.
func (k fixedKey) publicKey(context.Context, string) (*rsa.PublicKey, error) { return k.key, nil }

// known implements keySource.
func (k fixedKey) known() []*rsa.PublicKey { return []*rsa.PublicKey{k.key} }

// params are the parameters of a call. Those that are empty are neither signed
// nor sent.
type params map[string]string

// reply is the platform's answer to a call.
type reply struct {
	*provider.Answer
	method string
	hidden []string // what the platform may repeat and no error may show
}

// exchange trades a login code for a grant, and for the user's access token, which
// is a secret.
//
// https://opendocs.alipay.com/open/02ailc
func (c *client) exchange(ctx context.Context, code string) (grant provider.Grant, token string, err error) {
	if !isCode(code) {
		return provider.Grant{}, "", &provider.Error{
			Reason: provider.CodeMalformed,
			Err:    errors.New("checking the code: it must have 1 to 64 letters and digits"),
		}
	}
	r, err := c.call(ctx, methodToken, nil, params{
		"grant_type":     "authorization_code",
		"code":           code,
		"app_auth_token": c.appAuthToken,
	})
	if err != nil {
		return provider.Grant{}, "", err
	}
	r.hidden = append(r.hidden, code)
	return c.readGrant(ctx, r)
}

// isCode reports whether s can be a login code.
func isCode(s string) bool {
	if s == "" || len(s) > longestCode {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		default:
			return false
		}
	}
	return true
}

// call signs and sends a request. The public parameters are in the query, where
// the platform must find charset before it can read anything, and with them what
// it wants to find there; the body has the parameters of the method, which are no
// business of a proxy's log.
func (c *client) call(ctx context.Context, method string, more, body params) (*reply, error) {
	query := params{
		"app_id":              c.appID,
		"method":              method,
		"format":              "JSON",
		"charset":             charset,
		"sign_type":           "RSA2",
		"timestamp":           c.now().In(platformTime).Format(time.DateTime),
		"version":             "1.0",
		"app_cert_sn":         c.appCertSN,
		"alipay_root_cert_sn": c.rootCertSN,
	}
	maps.Copy(query, more)
	all := maps.Clone(query)
	maps.Copy(all, body)
	signature, err := sign(c.key, all.text())
	if err != nil {
		return nil, &provider.Error{Reason: provider.Misconfigured, Err: err}
	}
	query["sign"] = signature
	answer, err := c.api.Post(ctx, "", query.values(), "application/x-www-form-urlencoded;charset="+charset, []byte(body.values().Encode()))
	if err != nil {
		return nil, err
	}
	return &reply{Answer: answer, method: method, hidden: append(slices.Clone(c.secrets), signature)}, nil
}

// text is what is signed: the parameters in the order of their names, as they
// are before they are encoded for the wire.
//
// https://opendocs.alipay.com/common/02kf5q
func (p params) text() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if name == "" || p[name] == "" || name == "sign" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(p[name])
	}
	return b.String()
}

// values are the parameters for the wire.
func (p params) values() url.Values {
	values := make(url.Values, len(p))
	for name, value := range p {
		if name != "" && value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// sign signs a text by RSA2, which is RSASSA-PKCS1-v1_5 with SHA-256.
func sign(key *rsa.PrivateKey, text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", errors.New("signing: private_key cannot sign")
	}
	return base64.StdEncoding.EncodeToString(signature), nil
}

// isSigned reports whether signature is that of text by the owner of key.
func isSigned(key *rsa.PublicKey, text []byte, signature string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	sum := sha256.Sum256(text)
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw) == nil
}

// Interface guard
var _ keySource = fixedKey{}
