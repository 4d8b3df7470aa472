// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
)

// alipaySkew is how far the timestamp of a call may be from now. Alipay does
// not publish its own.
const alipaySkew = 10 * time.Minute

// alipayRequest is a call with its parameters.
type alipayRequest struct {
	// params are the parameters of the query and of the body together.
	params map[string]string
	// query are those of the query alone.
	query url.Values
	// repeated is set where a parameter is there twice.
	repeated bool
	// program is whoever calls, and owner is whose users it is about: another
	// program where the caller is a third-party application.
	program, owner *alipayProgram
}

// parseAlipayRequest reads as much of a call as has been read of its body.
func parseAlipayRequest(c *call) *alipayRequest {
	request := &alipayRequest{params: make(map[string]string), query: c.query}
	request.add(c.query)
	contentType := c.request.Header.Get("Content-Type")
	if mediaType, _, err := mime.ParseMediaType(contentType); err == nil && mediaType == "application/x-www-form-urlencoded" {
		// What cannot be parsed is left out, and then the signature is wrong.
		form, _ := url.ParseQuery(string(c.body))
		request.add(form)
	}
	return request
}

// add enters parameters.
func (r *alipayRequest) add(values url.Values) {
	for name, list := range values {
		if _, found := r.params[name]; found || len(list) > 1 {
			r.repeated = true
		}
		r.params[name] = list[0]
	}
}

// authenticate checks the public parameters and the signature, and finds the
// program. Alipay looks at the app id before the signature; the public
// parameters are described at https://opendocs.alipay.com/open/02ailc.
func (a *alipay) authenticate(r *alipayRequest) error {
	if r.params["app_id"] == "" {
		return alipayError{subCode: "isv.missing-app-id"}
	}
	if r.program = a.programs[r.params["app_id"]]; r.program == nil {
		return alipayError{subCode: "isv.invalid-app-id"}
	}
	if err := r.checkPublic(a.now()); err != nil {
		return err
	}
	if err := r.checkSerials(); err != nil {
		return err
	}
	if err := r.checkSignature(); err != nil {
		return err
	}
	return a.findOwner(r)
}

// checkPublic checks the public parameters but the signature.
func (r *alipayRequest) checkPublic(now time.Time) error {
	switch {
	case r.repeated:
		return alipayError{subCode: "isv.suspected-attack"}
	case r.params["method"] == "":
		return alipayError{subCode: "isv.missing-method"}
	case alipayMethods[r.params["method"]] == nil:
		return alipayError{subCode: "isv.invalid-method"}
	// Without it, Alipay reads everything as GBK. It must stand in the address
	// (https://opensupport.alipay.com/support/helpcenter/192/201602472810).
	case r.query.Get("charset") == "":
		return alipayError{"isv.invalid-signature", alipayCharsetMissing}
	case !strings.EqualFold(r.query.Get("charset"), "utf-8"):
		return alipayError{subCode: "isv.invalid-charset"}
	case r.params["format"] != "" && !strings.EqualFold(r.params["format"], "json"):
		return alipayError{subCode: "isv.invalid-format"}
	case r.params["sign_type"] == "":
		return alipayError{subCode: "isv.missing-signature-type"}
	case r.params["sign_type"] != "RSA2":
		return alipayError{subCode: "isv.invalid-signature-type"}
	case r.params["timestamp"] == "":
		return alipayError{subCode: "isv.missing-timestamp"}
	case r.params["version"] == "":
		return alipayError{subCode: "isv.missing-version"}
	case r.params["version"] != "1.0":
		return alipayError{subCode: "isv.invalid-parameter"}
	case r.params["sign"] == "":
		return alipayError{subCode: "isv.missing-signature"}
	}
	stamp, err := time.ParseInLocation(alipayTime, r.params["timestamp"], alipayZone)
	if err != nil || now.Sub(stamp).Abs() > alipaySkew {
		return alipayError{subCode: "isv.invalid-timestamp"}
	}
	return nil
}

// checkSerials checks the serial numbers, which a program in certificate mode
// sends with every call (https://opendocs.alipay.com/common/056zub).
func (r *alipayRequest) checkSerials() error {
	app, root := r.params["app_cert_sn"], r.params["alipay_root_cert_sn"]
	switch chain := r.program.chain; {
	case chain == nil && app == "" && root == "":
		return nil
	case chain == nil:
		return alipayError{subCode: "isv.app-cert-not-exist"}
	case app == "":
		return alipayError{subCode: "isv.missing-app-cert-sn"}
	case root == "":
		return alipayError{subCode: "isv.missing-alipay-root-cert-sn"}
	case app != chain.appSN:
		return alipayError{subCode: "isv.app-cert-not-exist"}
	case root != chain.rootSN:
		return alipayError{subCode: "isv.invalid-alipay-root-cert-sn"}
	}
	return nil
}

// checkSignature checks the signature with the program's public key: RSA PKCS#1
// v1.5 with SHA-256 (https://opendocs.alipay.com/common/02kf5q).
func (r *alipayRequest) checkSignature() error {
	content := r.signContent()
	if err := verifyAlipay(r.program.appKey, content, r.params["sign"]); err != nil {
		return alipayError{"isv.invalid-signature", alipaySignatureWrong + alipayHTML.Replace(content)}
	}
	return nil
}

// signContent returns what the caller should have signed: all parameters with
// a value but the signature, sorted by name, not encoded
// (https://opendocs.alipay.com/common/057k53).
func (r *alipayRequest) signContent() string {
	var content strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.params)) {
		if name == "" || name == "sign" || r.params[name] == "" {
			continue
		}
		if content.Len() > 0 {
			content.WriteByte('&')
		}
		content.WriteString(name + "=" + r.params[name])
	}
	return content.String()
}

// alipayHTML escapes text as Alipay does in a sub_msg.
var alipayHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// verifyAlipay checks an RSA2 signature in base64.
func verifyAlipay(key *rsa.PublicKey, content, signature string) error {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return errors.New("the signature is not base64")
	}
	digest := sha256.Sum256([]byte(content))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw)
}

// signAlipay makes an RSA2 signature in base64.
func signAlipay(key *rsa.PrivateKey, content []byte) string {
	digest := sha256.Sum256(content)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		panic("signing as Alipay: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(signature)
}
