// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package alipay signs in the users of an Alipay mini-program.
//
// https://opendocs.alipay.com/mini/introduce/authcode
package alipay

import (
	"context"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/minigate/minigate/caddyfile/arg"
	"github.com/minigate/minigate/module/provider"
)

const (
	// longestAppID is the most bytes of an app id. Alipay's have 16.
	longestAppID = 64

	// longestToken is the most bytes of an app_auth_token. Alipay's have 40.
	longestToken = 128
)

// defaultAPI is the platform's gateway.
var defaultAPI = []string{"https://openapi.alipay.com/gateway.do"}

// sandboxes are the hosts of the platform's test systems, the new and the old one.
//
// https://opendocs.alipay.com/common/02kkv7
var sandboxes = []string{"openapi-sandbox.dl.alipaydev.com", "openapi.alipaydev.com"}

func init() {
	caddy.RegisterModule(Provider{})
}

// Provider exchanges the code of my.getAuthCode for the user's open_id, or for the
// user_id of a program that has not changed to open_ids.
//
// The platform's answers are verified either with its public key, or with its
// certificate: then app_cert, alipay_cert and alipay_root_cert are required.
type Provider struct {
	// The app id of the mini-program, such as 2021000000000000. Required.
	ID string `json:"app_id,omitempty"`

	// The app's private key, RSA of 2048 bits: PKCS #1 or PKCS #8, in PEM or in
	// bare base64. Required. A placeholder such as {file./run/secrets/alipay.pem}
	// keeps it out of the configuration.
	PrivateKey string `json:"private_key,omitempty"`

	// Alipay's public key as the console shows it, in PEM or in bare base64. It is
	// not the app's own public key. Required without certificates.
	AlipayPublicKey string `json:"alipay_public_key,omitempty"`

	// The path of the app's certificate (appCertPublicKey_….crt), or itself in PEM.
	AppCert string `json:"app_cert,omitempty"`

	// The path of Alipay's certificate (alipayCertPublicKey_RSA2.crt), or itself in
	// PEM. One that Alipay changes to later is downloaded and checked.
	AlipayCert string `json:"alipay_cert,omitempty"`

	// The path of Alipay's root certificates (alipayRootCert.crt), or themselves in
	// PEM.
	AlipayRootCert string `json:"alipay_root_cert,omitempty"`

	// The key of the interface content encryption, 16 bytes in base64: it opens
	// the telephone numbers that my.getPhoneNumber gives to the mini-program. With
	// app_auth_token it is the key of the merchant's mini-program. Optional.
	// Without it no telephone number can be read.
	AESKey string `json:"aes_key,omitempty"`

	// The token by which a merchant authorized a third-party app to act for its
	// mini-program. Optional.
	AppAuthToken string `json:"app_auth_token,omitempty"`

	// The URLs of the platform's gateway. Default:
	// https://openapi.alipay.com/gateway.do. A later one is called when an earlier
	// one gives no connection. They must be https, except on a loopback host.
	API []string `json:"api,omitempty"`

	client       *client
	certificates *certificates // nil without certificates
	appCert      *x509.Certificate
	alipayKey    *rsa.PublicKey
	aes          cipher.Block // nil without aes_key
}

// CaddyModule returns the Caddy module information.
func (Provider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "miniprogram.providers.alipay",
		New: func() caddy.Module { return new(Provider) },
	}
}

// Provision sets the default, reads keys and certificates, and makes the client.
// It calls nobody.
func (p *Provider) Provision(ctx caddy.Context) error {
	if len(p.API) == 0 {
		p.API = slices.Clone(defaultAPI)
	}
	if err := p.checkMode(); err != nil {
		return err
	}
	api, err := provider.NewClient(p.API)
	if err != nil {
		return fmt.Errorf("setting up api: %w", err)
	}
	p.client = &client{api: api, appID: p.ID, appAuthToken: p.AppAuthToken, now: time.Now}
	for _, secret := range []string{p.PrivateKey, p.AESKey, p.AppAuthToken} {
		if secret != "" {
			p.client.secrets = append(p.client.secrets, secret)
		}
	}
	if p.AESKey != "" {
		if p.aes, err = parseAESKey(p.AESKey); err != nil {
			return err
		}
	}
	if p.client.key, err = parsePrivateKey(p.PrivateKey); err != nil {
		return fmt.Errorf("reading private_key: %w", err)
	}
	if p.AlipayPublicKey == "" {
		return p.provisionCertificates(ctx.Logger())
	}
	if p.alipayKey, err = parsePublicKey(p.AlipayPublicKey); err != nil {
		return fmt.Errorf("reading alipay_public_key: %w", err)
	}
	p.client.keys = fixedKey{p.alipayKey}
	return nil
}

// checkMode reports what is missing, and what does not go together.
func (p *Provider) checkMode() error {
	missing := ""
	given := 0
	for _, option := range []struct{ name, value string }{
		{"app_cert", p.AppCert}, {"alipay_cert", p.AlipayCert}, {"alipay_root_cert", p.AlipayRootCert},
	} {
		if option.value != "" {
			given++
		} else if missing == "" {
			missing = option.name
		}
	}
	switch {
	case p.PrivateKey == "":
		return errors.New("private_key is required")
	case p.AlipayPublicKey != "" && given > 0:
		return errors.New("alipay_public_key and certificates exclude one another")
	case p.AlipayPublicKey == "" && given == 0:
		return errors.New("alipay_public_key is required, or app_cert, alipay_cert and alipay_root_cert")
	case given > 0 && missing != "":
		return fmt.Errorf("%s is required with the other certificates", missing)
	}
	return nil
}

// provisionCertificates reads the three certificate files.
func (p *Provider) provisionCertificates(logger *zap.Logger) error {
	texts := make(map[string]string)
	for name, configured := range map[string]string{"app_cert": p.AppCert, "alipay_cert": p.AlipayCert, "alipay_root_cert": p.AlipayRootCert} {
		var err error
		if texts[name], err = readText(configured); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	roots, err := parseRoots(texts["alipay_root_cert"])
	if err != nil {
		return fmt.Errorf("reading alipay_root_cert: %w", err)
	}
	if p.appCert, _, err = parseCertificate(texts["app_cert"]); err != nil {
		return fmt.Errorf("reading app_cert: %w", err)
	}
	pinned, between, err := parseCertificate(texts["alipay_cert"])
	if err != nil {
		return fmt.Errorf("reading alipay_cert: %w", err)
	}
	c := newCertificates(pinned, between, roots, &p.client.key.PublicKey)
	c.sandbox = p.sandboxes() > 0
	c.fetch, c.logger, c.now = p.client.fetchCertificate, logger, p.client.now
	p.certificates, p.client.keys = c, c
	p.client.appCertSN, p.client.rootCertSN = serialNumber(p.appCert), roots.sn
	p.alipayKey, _ = pinned.PublicKey.(*rsa.PublicKey)
	logger.Info("certificates read",
		zap.String("program", p.ID),
		zap.String("app_cert_sn", p.client.appCertSN), zap.Time("app_cert_expires", p.appCert.NotAfter),
		zap.String("alipay_cert_sn", serialNumber(pinned)), zap.Time("alipay_cert_expires", pinned.NotAfter),
		zap.String("alipay_root_cert_sn", roots.sn))
	if c.sandbox {
		logger.Warn("the sandbox's certificates cannot be checked against a root; only alipay_cert itself is trusted", zap.String("program", p.ID))
	}
	return nil
}

// sandboxes returns how many URLs are those of the platform's test systems.
func (p *Provider) sandboxes() int {
	n := 0
	for _, raw := range p.API {
		if u, err := url.Parse(raw); err == nil && slices.Contains(sandboxes, strings.ToLower(u.Hostname())) {
			n++
		}
	}
	return n
}

// Validate reports a configuration that can never work.
func (p *Provider) Validate() error {
	switch {
	case p.ID == "":
		return errors.New("app_id is required")
	case !provider.IsWord(p.ID, longestAppID):
		return fmt.Errorf("app_id must have 1 to %d letters, digits, _ or -", longestAppID)
	case p.AppAuthToken != "" && !provider.IsWord(p.AppAuthToken, longestToken):
		return fmt.Errorf("app_auth_token must have 1 to %d letters, digits, _ or -", longestToken)
	case p.sandboxes() != 0 && p.sandboxes() != len(p.API):
		return errors.New("api must not have the sandbox beside other hosts: its keys are not theirs")
	}
	if p.certificates != nil {
		if err := p.checkCertificates(p.client.now()); err != nil {
			return err
		}
	}
	return p.checkKeys()
}

// checkKeys finds out the commonest mistake, which otherwise shows as a bad
// signature of every answer: the console has two public keys, and the app's own
// is no use here.
func (p *Provider) checkKeys() error {
	const text = "a text to be signed"
	signature, err := sign(p.client.key, text)
	if err != nil {
		return err
	}
	if !isSigned(p.alipayKey, []byte(text), signature) {
		return nil
	}
	if p.certificates != nil {
		return errors.New("alipay_cert has the app's own public key: it must be Alipay's certificate (alipayCertPublicKey_RSA2.crt)")
	}
	return errors.New("alipay_public_key is the app's own public key: it must be Alipay's, which the console shows beside it")
}

// checkCertificates refuses certificates that the platform, or we, would.
func (p *Provider) checkCertificates(now time.Time) error {
	c := p.certificates
	if err := checkDates(p.appCert, now); err != nil {
		return fmt.Errorf("checking app_cert: %w", err)
	}
	if !p.client.key.PublicKey.Equal(p.appCert.PublicKey) {
		return errors.New("checking app_cert: it is not the certificate of private_key")
	}
	if err := checkDates(c.pinned, now); err != nil {
		return fmt.Errorf("checking alipay_cert: %w", err)
	}
	if c.sandbox {
		return nil
	}
	if err := checkChain(c.pinned, c.between, c.roots.pool, now); err != nil {
		return fmt.Errorf("checking alipay_cert: %w", err)
	}
	return nil
}

// AppID implements provider.Provider.
func (p *Provider) AppID() string { return p.ID }

// Exchange implements provider.Provider.
func (p *Provider) Exchange(ctx context.Context, code string) (provider.Grant, error) {
	grant, _, err := p.client.exchange(ctx, code)
	return grant, err
}

// Cleanup ends a download and closes the connections to the platform.
func (p *Provider) Cleanup() error {
	if p.certificates != nil {
		p.certificates.close()
	}
	if p.client != nil {
		p.client.api.CloseIdleConnections()
	}
	return nil
}

// UnmarshalCaddyfile sets up the provider from Caddyfile tokens. Syntax:
//
//	alipay <app id> {
//	    private_key       <key>
//	    alipay_public_key <key>
//	    app_cert          <path>
//	    alipay_cert       <path>
//	    alipay_root_cert  <path>
//	    aes_key           <base64>
//	    app_auth_token    <token>
//	    api               <url>...
//	}
func (p *Provider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume provider name
	if !d.AllArgs(&p.ID) {
		return d.ArgErr()
	}
	texts := map[string]*string{
		"private_key":       &p.PrivateKey,
		"alipay_public_key": &p.AlipayPublicKey,
		"app_cert":          &p.AppCert,
		"alipay_cert":       &p.AlipayCert,
		"alipay_root_cert":  &p.AlipayRootCert,
		"aes_key":           &p.AESKey,
		"app_auth_token":    &p.AppAuthToken,
	}
	for d.NextBlock(0) {
		var err error
		if text, ok := texts[d.Val()]; ok {
			err = arg.String(d, text)
		} else if d.Val() == "api" {
			err = arg.Strings(d, &p.API)
		} else {
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

	_ provider.UserInfoCodes = (*Provider)(nil)
	_ provider.SignedData    = (*Provider)(nil)
)
