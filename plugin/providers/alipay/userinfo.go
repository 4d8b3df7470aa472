// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"

	"github.com/minigate/minigate/module/provider"
)

const (
	// longestURL is the most bytes of the address of a picture.
	longestURL = 1024

	// pictures is the domain of the platform's pictures, which it also names by
	// addresses of http.
	pictures = "alipayobjects.com"

	// urlCharacters are those that a URL has (RFC 3986, section 2), beside letters
	// and digits.
	urlCharacters = "-._~:/?#[]@!$&'()*+,;=%"
)

// UserInfoByCode implements provider.UserInfoCodes. The code must be of the scope
// auth_user. There are two calls within the time of ctx: one for the grant, and
// with its access token, which is dropped then, one for the information. Neither is
// made again.
//
// https://opendocs.alipay.com/mini/api/openapi-authorize
func (p *Provider) UserInfoByCode(ctx context.Context, code string) (provider.Grant, provider.UserInfo, error) {
	grant, token, err := p.client.exchange(ctx, code)
	if err != nil {
		return provider.Grant{}, provider.UserInfo{}, err
	}
	info, err := p.client.userInfo(ctx, grant, code, token)
	if err != nil {
		return provider.Grant{}, provider.UserInfo{}, spent(err)
	}
	return grant, info, nil
}

// userInfo asks for what the user consented to be told.
//
// https://opendocs.alipay.com/open/02aild
func (c *client) userInfo(ctx context.Context, grant provider.Grant, code, token string) (provider.UserInfo, error) {
	r, err := c.call(ctx, methodInfo, params{"auth_token": token}, params{"app_auth_token": c.appAuthToken})
	if err != nil {
		return provider.UserInfo{}, err
	}
	r.hidden = append(r.hidden, code, token)
	return c.readInfo(ctx, r, grant)
}

// readInfo turns the platform's answer into what is known of the user of a grant.
func (c *client) readInfo(ctx context.Context, r *reply, grant provider.Grant) (provider.UserInfo, error) {
	fields, err := c.judge(ctx, r)
	if err == nil {
		err = checkInfo(fields, grant)
	}
	if err != nil {
		return provider.UserInfo{}, r.traced(err)
	}
	return infoOf(fields), nil
}

// checkInfo refuses an answer that does not say of itself that it is a success,
// unlike that of a login, or is about another user than the grant: whoever could
// put an old answer in the place of the true one would else give a user the name
// and the telephone number of another. An id that only one of them has says
// nothing, for the platform may have begun to tell it in between.
func checkInfo(fields provider.Fields, grant provider.Grant) error {
	code, err := label(fields, "code")
	if err != nil {
		return err
	}
	if code != success {
		return unreadable("it does not say that it is a success")
	}
	for name, granted := range map[string]string{"open_id": grant.OpenID, "user_id": grant.UserID, "union_id": grant.UnionID} {
		id, err := fields.Text(name)
		if err != nil {
			return err
		}
		if id != "" && granted != "" && id != granted {
			return unreadable("its " + name + " is not that of the user who gave the code")
		}
	}
	return nil
}

// spent says of an error after the exchange that the platform may have seen the
// code, whatever became of the call that failed.
func spent(err error) error {
	var none *provider.NoAnswerError
	if !errors.As(err, &none) || none.Sent {
		if e, ok := errors.AsType[*provider.Error](err); ok {
			e.Spent = true
		}
		return err
	}
	return &provider.Error{
		Reason: provider.Unavailable,
		Err:    &provider.NoAnswerError{Sent: true, Err: fmt.Errorf("%w (the code was exchanged before)", none.Err)},
	}
}

// infoOf reads user information. Every field may be absent, as those are that the
// user never set; what has no sane form is left out.
func infoOf(fields provider.Fields) provider.UserInfo {
	info := provider.UserInfo{
		Nickname:  fields.Line("nick_name"),
		AvatarURL: pictureOf(fields),
		Country:   fields.Line("country_code"),
		Province:  fields.Line("province"),
		City:      fields.Line("city"),
	}
	switch fields.Line("gender") {
	case "F":
		info.Gender = "female"
	case "M":
		info.Gender = "male"
	}
	if email := fields.Line("email"); isEmail(email) {
		info.Email = email
	}
	if number, ok := parsePhone(fields.Line("mobile")); ok {
		info.PhoneNumber, info.CountryCode = number.Number, number.CountryCode
	}
	return info
}

// pictureOf returns the https address of the user's picture.
func pictureOf(fields provider.Fields) string {
	text, err := fields.Text("avatar")
	if err != nil || len(text) > longestURL || strings.ContainsFunc(text, isForeignToURLs) {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" || u.Scheme == "http" && (host == pictures || strings.HasSuffix(host, "."+pictures)) {
		return "https" + text[len(u.Scheme):]
	}
	return ""
}

// isForeignToURLs reports whether no URL has r.
func isForeignToURLs(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune(urlCharacters, r)
}

// isEmail reports whether text looks like an address of e-mail that is told in
// full. The platform puts asterisks in the place of what it hides.
func isEmail(text string) bool {
	address, err := mail.ParseAddress(text)
	if err != nil || address.Name != "" || address.Address != text || strings.Contains(text, "*") {
		return false
	}
	_, domain, _ := strings.Cut(text, "@")
	return strings.Contains(strings.Trim(domain, "."), ".") && !strings.ContainsAny(domain, "[@")
}
