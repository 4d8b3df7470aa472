// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/minigate/minigate/module/provider"
)

const (
	// downloadTimeout bounds a download, which no login's deadline ends.
	downloadTimeout = 10 * time.Second

	// downloadPause is how long nothing is downloaded after a download that gave
	// no certificate, whatever its serial number; and forgedFor how long not the
	// same. Else whoever could forge answers could make a call of each login.
	downloadPause = 10 * time.Second
	forgedFor     = 5 * time.Minute
)

// certificates are the platform's certificates: the configured one, and those
// that it changed to since. They are found by their serial numbers.
type certificates struct {
	pinned  *x509.Certificate
	between *x509.CertPool // between pinned and the root
	roots   *rootFile
	own     *rsa.PublicKey // the app's
	sandbox bool
	fetch   func(ctx context.Context, sn string) ([]byte, error)
	now     func() time.Time
	logger  *zap.Logger

	life    context.Context // of the provider
	end     context.CancelFunc
	flights sync.WaitGroup

	mu     sync.Mutex
	keys   map[string]*rsa.PublicKey
	flight chan struct{} // closed when the download under way has ended; nil if there is none
	failed map[string]failure
	quiet  time.Time // until when nothing is downloaded
}

// failure is a download that gave no certificate.
type failure struct {
	reason provider.Reason
	err    error
	until  time.Time
}

// newCertificates makes a key source that holds one certificate. It has to be
// closed.
func newCertificates(pinned *x509.Certificate, between *x509.CertPool, roots *rootFile, own *rsa.PublicKey) *certificates {
	c := &certificates{
		pinned: pinned, between: between, roots: roots, own: own,
		keys:   make(map[string]*rsa.PublicKey),
		failed: make(map[string]failure),
	}
	c.life, c.end = context.WithCancel(context.Background())
	if key, ok := pinned.PublicKey.(*rsa.PublicKey); ok {
		c.keys[serialNumber(pinned)] = key
		c.keys[""] = key // an answer that names none
	}
	return c
}

// close ends a download that is under way. There is none after it.
func (c *certificates) close() {
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	c.flights.Wait()
}

// publicKey implements keySource. A certificate that is not held is downloaded,
// by one call for all logins that wait for it.
func (c *certificates) publicKey(ctx context.Context, sn string) (*rsa.PublicKey, error) {
	for {
		c.mu.Lock()
		key, held := c.keys[sn]
		err := c.refused(sn)
		if !held && err == nil && c.flight == nil {
			flight := make(chan struct{})
			c.flight = flight
			c.flights.Go(func() { c.download(sn, flight) })
		}
		flight := c.flight
		c.mu.Unlock()
		switch {
		case held:
			return key, nil
		case err != nil:
			return nil, err
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, certificateError(provider.Unavailable, sn, ctx.Err())
		}
	}
}

// known implements keySource. The configured certificate's key comes first.
func (c *certificates) known() []*rsa.PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := []*rsa.PublicKey{c.keys[""]}
	for _, key := range c.keys {
		if !key.Equal(keys[0]) {
			keys = append(keys, key)
		}
	}
	return keys
}

// refused returns the error of a certificate that is not to be downloaded now.
func (c *certificates) refused(sn string) error {
	if err := c.life.Err(); err != nil {
		return certificateError(provider.Unavailable, sn, err)
	}
	now := c.now()
	if f, ok := c.failed[sn]; ok && now.Before(f.until) {
		return certificateError(f.reason, sn, f.err)
	}
	if now.Before(c.quiet) {
		return certificateError(provider.PlatformFault, sn, errors.New("another download failed a moment ago"))
	}
	return nil
}

// download gets a certificate and remembers what came of it.
func (c *certificates) download(sn string, flight chan struct{}) {
	ctx, cancel := context.WithTimeout(c.life, downloadTimeout)
	defer cancel()
	cert, err := c.get(ctx, sn)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flight = nil
	close(flight)
	if err == nil {
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok {
			c.keys[sn] = key
		}
		c.logger.Warn("the platform has a new certificate; replace the file of alipay_cert",
			zap.String("alipay_cert_sn", sn), zap.Time("expires", cert.NotAfter))
		return
	}
	c.remember(sn, err)
}

// remember keeps the failure of a download for a while, longer if the platform
// has answered.
func (c *certificates) remember(sn string, err error) {
	now := c.now()
	for name, f := range c.failed {
		if !now.Before(f.until) {
			delete(c.failed, name)
		}
	}
	reason, pause := provider.PlatformFault, forgedFor
	var e *provider.Error
	if errors.As(err, &e) && (e.Reason == provider.Unavailable || e.Reason == provider.RateLimited) {
		reason, pause = provider.Unavailable, downloadPause
	}
	c.quiet = now.Add(downloadPause)
	c.failed[sn] = failure{reason, err, now.Add(pause)}
	c.logger.Warn("certificate of the platform cannot be had", zap.String("alipay_cert_sn", sn), zap.Error(err))
}

// get downloads a certificate and checks it. The answer itself is not signed by
// anybody whom we know, so that all depends on the chain; and because the platform
// certifies the apps of others under the same roots, on who is below the root.
func (c *certificates) get(ctx context.Context, sn string) (*x509.Certificate, error) {
	if c.sandbox {
		return nil, errors.New("the certificates of the sandbox cannot be checked: download alipay_cert in its console")
	}
	content, err := c.fetch(ctx, sn)
	if err != nil {
		return nil, err
	}
	cert, between, err := parseCertificate(string(content))
	if err != nil {
		return nil, err
	}
	switch {
	case serialNumber(cert) != sn:
		return nil, errors.New("it is another certificate than the one asked for")
	case c.own.Equal(cert.PublicKey):
		return nil, errors.New("it is the app's own certificate")
	case !bytes.Equal(cert.RawIssuer, c.pinned.RawIssuer):
		return nil, errors.New("its issuer is not that of alipay_cert: if it is genuine, download alipay_cert in the console")
	}
	if err := checkDates(cert, c.now()); err != nil {
		return nil, err
	}
	return cert, checkChain(cert, between, c.roots.pool, c.now())
}

// certificateError is the error of a login that lacks a certificate. The cause is
// text: that a download was not sent does not mean that the code was not.
func certificateError(reason provider.Reason, sn string, cause error) *provider.Error {
	return &provider.Error{Reason: reason, Err: fmt.Errorf("getting certificate %s of the platform: %s", sn, cause.Error())}
}

// fetchCertificate downloads the file of a certificate of the platform. It is the
// one answer whose signature is not checked, because the certificate to do so is
// what is asked for.
//
// https://opendocs.alipay.com/common/06ue2z
func (c *client) fetchCertificate(ctx context.Context, sn string) ([]byte, error) {
	query, err := json.Marshal(map[string]string{"alipay_cert_sn": sn})
	if err != nil {
		return nil, err
	}
	r, err := c.call(ctx, methodDownload, nil, params{"biz_content": string(query)})
	if err != nil {
		return nil, err
	}
	content, err := c.readCertificate(r)
	return content, r.traced(err)
}

// readCertificate reads the file in the answer.
func (c *client) readCertificate(r *reply) ([]byte, error) {
	e, err := r.open()
	if err != nil {
		return nil, err
	}
	fields, err := r.fields(e.node)
	if err != nil {
		return nil, err
	}
	refused, err := c.refusal(r, e, fields)
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return nil, refused
	}
	text, err := fields.Text("alipay_cert_content")
	if err != nil {
		return nil, err
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(content) == 0 {
		return nil, r.unusable("alipay_cert_content is missing or not base64")
	}
	return content, nil
}

// Interface guard
var _ keySource = (*certificates)(nil)
