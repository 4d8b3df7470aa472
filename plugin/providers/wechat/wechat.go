// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package wechat signs in the users of a WeChat mini-program.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/login.html
package wechat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/minigate/minigate/caddyfile/arg"
	"github.com/minigate/minigate/module/provider"
)

// longestAppID is the most bytes of an AppID. WeChat's have 18.
const longestAppID = 64

// defaultAPI are the platform's general host and its second site.
//
// https://developers.weixin.qq.com/doc/offiaccount/Basic_Information/Interface_field_description.html
var defaultAPI = []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com"}

func init() {
	caddy.RegisterModule(Provider{})
}

// Provider exchanges the code of wx.login for the user's openid, and for the
// unionid if the mini-program is bound to an account of the WeChat Open Platform.
// It opens the data that the platform gives to the mini-program for its server,
// and asks the platform for telephone numbers and about session keys.
type Provider struct {
	// The AppID of the mini-program, such as wx0123456789abcdef. Required.
	ID string `json:"app_id,omitempty"`

	// The AppSecret of the mini-program. Required. A placeholder such as
	// {env.WECHAT_SECRET} keeps it out of the configuration.
	Secret string `json:"secret,omitempty"`

	// The base URLs of the platform's interface. Default:
	// https://api.weixin.qq.com and https://api2.weixin.qq.com. A later one is
	// called when an earlier one gives no connection. They must be https, except
	// on a loopback host.
	API []string `json:"api,omitempty"`

	client *client
}

// CaddyModule returns the Caddy module information.
func (Provider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "miniprogram.providers.wechat",
		New: func() caddy.Module { return new(Provider) },
	}
}

// Provision sets the default and makes the client. It calls nobody.
func (p *Provider) Provision(caddy.Context) error {
	if len(p.API) == 0 {
		p.API = slices.Clone(defaultAPI)
	}
	api, err := provider.NewClient(p.API)
	if err != nil {
		return fmt.Errorf("setting up api: %w", err)
	}
	p.client = &client{api: api, appID: p.ID, secret: p.Secret}
	return nil
}

// Validate reports a configuration that can never work.
func (p *Provider) Validate() error {
	switch {
	case p.ID == "":
		return errors.New("app_id is required")
	case !provider.IsWord(p.ID, longestAppID):
		return fmt.Errorf("app_id must have 1 to %d letters, digits, _ or -", longestAppID)
	case p.Secret == "":
		return errors.New("secret is required")
	case !isVisible(p.Secret):
		return errors.New("secret must have visible ASCII characters only, without spaces and line breaks")
	}
	return nil
}

// AppID implements provider.Provider.
func (p *Provider) AppID() string { return p.ID }

// Exchange implements provider.Provider.
func (p *Provider) Exchange(ctx context.Context, code string) (provider.Grant, error) {
	return p.client.exchange(ctx, code)
}

// Decrypt implements provider.OpenData.
func (p *Provider) Decrypt(holder provider.Holder, data, iv string) ([]byte, error) {
	return decrypt(p.ID, holder, data, iv, time.Now())
}

// Verify implements provider.OpenData.
func (p *Provider) Verify(holder provider.Holder, rawData, signature string) error {
	return verify(holder, rawData, signature)
}

// UserInfo implements provider.OpenData.
func (p *Provider) UserInfo(plain []byte) (provider.UserInfo, error) { return userInfo(plain) }

// PhoneNumber implements provider.OpenData.
func (p *Provider) PhoneNumber(plain []byte) (provider.PhoneNumber, error) {
	return plainPhoneNumber(plain)
}

// AppToken implements provider.AppTokens.
func (p *Provider) AppToken(ctx context.Context) (token string, lifetime time.Duration, err error) {
	return p.client.token(ctx)
}

// PhoneByCode implements provider.PhoneCodes.
func (p *Provider) PhoneByCode(ctx context.Context, appToken, code, openID string) (provider.PhoneNumber, error) {
	return p.client.phoneByCode(ctx, appToken, code, openID)
}

// CheckSessionKey implements provider.SessionKeys.
func (p *Provider) CheckSessionKey(ctx context.Context, appToken string, holder provider.Holder) error {
	return p.client.checkSessionKey(ctx, appToken, holder)
}

// ResetSessionKey implements provider.SessionKeys.
func (p *Provider) ResetSessionKey(ctx context.Context, appToken string, holder provider.Holder) (string, error) {
	return p.client.resetSessionKey(ctx, appToken, holder)
}

// Cleanup closes the connections to the platform.
func (p *Provider) Cleanup() error {
	if p.client != nil {
		p.client.api.CloseIdleConnections()
	}
	return nil
}

// UnmarshalCaddyfile sets up the provider from Caddyfile tokens. Syntax:
//
//	wechat <app id> {
//	    secret <secret>
//	    api    <url>...
//	}
func (p *Provider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume provider name
	if !d.AllArgs(&p.ID) {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		var err error
		switch d.Val() {
		case "secret":
			err = arg.String(d, &p.Secret)
		case "api":
			err = arg.Strings(d, &p.API)
		default:
			err = arg.Unrecognized(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module          = (*Provider)(nil)
	_ caddy.Provisioner     = (*Provider)(nil)
	_ caddy.Validator       = (*Provider)(nil)
	_ caddy.CleanerUpper    = (*Provider)(nil)
	_ caddyfile.Unmarshaler = (*Provider)(nil)
	_ provider.Provider     = (*Provider)(nil)
	_ provider.OpenData     = (*Provider)(nil)
	_ provider.AppTokens    = (*Provider)(nil)
	_ provider.PhoneCodes   = (*Provider)(nil)
	_ provider.SessionKeys  = (*Provider)(nil)
)
