// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/minigate/minigate/module/provider"
)

// errorNode is where refusals are that are not in the method's own node.
const errorNode = "error_response"

// twins is what is wrong with an answer of which another reader, who heeds no
// case, could read something else.
const twins = "two names differ in case only"

// What can be wrong with an answer whose parts are all there.
var (
	errSignature = errors.New("verifying the answer: it is not signed with the key that alipay_public_key or alipay_cert holds")
	errUnsigned  = errors.New("verifying the answer: it has no signature")
)

// certSN is the form of a certificate's serial number.
var certSN = regexp.MustCompile(`^[0-9a-f]{32}$`)

// envelope is the outside of an answer.
type envelope struct {
	name   string          // of the node
	node   json.RawMessage // byte for byte as it came
	sign   string          // empty if the answer is not signed
	certSN string          // empty if the answer does not name one
}

// open takes an answer out of its envelope. There must be one node, and no name
// that another reader could take for another's: what is read must be what is
// signed.
//
// https://opendocs.alipay.com/common/02mse7
func (r *reply) open() (*envelope, error) {
	if !r.isUTF8() {
		return nil, r.unusable("it is not in UTF-8")
	}
	fields, err := r.Fields()
	if err != nil {
		return nil, err
	}
	if hasTwins(fields) {
		return nil, r.unusable(twins)
	}
	e := new(envelope)
	for name, value := range fields {
		if !strings.HasSuffix(strings.ToLower(name), "_response") {
			continue
		}
		if e.name != "" {
			return nil, r.unusable("it has two nodes")
		}
		e.name, e.node = name, value
	}
	if e.name != strings.ReplaceAll(r.method, ".", "_")+"_response" && e.name != errorNode {
		return nil, r.unusable("it has no node of its method")
	}
	if e.sign, err = fields.Text("sign"); err != nil {
		return nil, err
	}
	e.certSN, err = fields.Text("alipay_cert_sn")
	if err == nil && e.certSN != "" && !certSN.MatchString(e.certSN) {
		return nil, r.unusable("alipay_cert_sn has a wrong form")
	}
	return e, err
}

// isUTF8 reports whether the answer is in the charset that was asked for. The
// platform falls back to GBK.
func (r *reply) isUTF8() bool {
	if _, attributes, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil {
		if name := attributes["charset"]; name != "" && !strings.EqualFold(name, charset) && !strings.EqualFold(name, "utf8") {
			return false
		}
	}
	return utf8.Valid(r.Body)
}

// unusable is the error for an answer that is not the platform's own. With a
// status of 5xx it is a load balancer's.
func (r *reply) unusable(why string) *provider.Error {
	e := &provider.Error{Reason: provider.PlatformFault, Err: errors.New("reading the answer: " + why)}
	if r.Status >= 500 {
		e.Reason = provider.Unavailable
	}
	return e
}

// fields decodes a node.
func (r *reply) fields(node json.RawMessage) (provider.Fields, error) {
	fields, err := provider.DecodeFields(node)
	if err == nil && hasTwins(fields) {
		return nil, r.unusable(twins)
	}
	return fields, err
}

// hasTwins reports whether two names are the same but for their case.
func hasTwins(fields provider.Fields) bool {
	seen := make(map[string]bool, len(fields))
	for name := range fields {
		folded := strings.ToLower(strings.ToUpper(name))
		if seen[folded] {
			return true
		}
		seen[folded] = true
	}
	return false
}

// readGrant turns the platform's answer into a grant and the user's access token.
func (c *client) readGrant(ctx context.Context, r *reply) (grant provider.Grant, token string, err error) {
	fields, err := c.judge(ctx, r)
	if err == nil {
		grant, token, err = grantOf(fields)
	}
	if err != nil {
		return provider.Grant{}, "", r.traced(err)
	}
	return grant, token, nil
}

// judge returns the fields of an answer that is a success, or says why it is
// none. The order counts: nothing is believed, and no certificate is asked for,
// before the signature is known to be good; the one thing that need not be signed
// is a refusal, as nobody gains anything by it.
func (c *client) judge(ctx context.Context, r *reply) (provider.Fields, error) {
	e, err := r.open()
	if err != nil {
		return nil, err
	}
	node := e.node
	if e.sign != "" {
		if node, err = c.verify(ctx, e); err != nil {
			return nil, err
		}
	}
	fields, err := r.fields(node)
	if err != nil {
		return nil, err
	}
	refused, err := c.refusal(r, e, fields)
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return nil, refused
	case e.sign == "":
		return nil, &provider.Error{Reason: provider.PlatformFault, Err: errUnsigned}
	}
	return fields, nil
}

// verify returns the node as it was signed. Where the signature was made before
// the text got its escaped slashes, that is the text without them, as the
// platform's own SDK has it.
func (c *client) verify(ctx context.Context, e *envelope) (json.RawMessage, error) {
	key, err := c.keys.publicKey(ctx, e.certSN)
	if err != nil {
		return nil, err
	}
	if isSigned(key, e.node, e.sign) {
		return e.node, nil
	}
	if plain := bytes.ReplaceAll(e.node, []byte(`\/`), []byte("/")); len(plain) < len(e.node) && isSigned(key, plain, e.sign) {
		return plain, nil
	}
	return nil, &provider.Error{Reason: provider.PlatformFault, Err: errSignature}
}

// grantOf reads the grant of a node whose signature is good, and the access token.
// The user has an open_id, a user_id, or both.
func grantOf(node provider.Fields) (grant provider.Grant, token string, err error) {
	for _, field := range []struct {
		name  string
		value *string
	}{
		{"access_token", &token},
		{"open_id", &grant.OpenID},
		{"user_id", &grant.UserID},
		{"union_id", &grant.UnionID},
	} {
		if *field.value, err = node.Text(field.name); err != nil {
			return grant, "", err
		}
		if field.value != &token && *field.value != "" && !provider.IsID(*field.value) {
			return grant, "", unreadable(field.name + " has a wrong form")
		}
	}
	switch {
	case token == "":
		return grant, "", unreadable("access_token is missing")
	case grant.OpenID == "" && grant.UserID == "":
		return grant, "", unreadable("open_id and user_id are missing")
	}
	grant.Renames = true
	return grant, token, nil
}

// unreadable is the error for an answer that is the platform's and says nothing
// that can be used.
func unreadable(why string) *provider.Error {
	return &provider.Error{Reason: provider.PlatformFault, Err: errors.New("reading the answer: " + why)}
}
