// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/minigate/minigate/module/provider"
)

const downloadNode = "alipay_open_app_alipaycert_download_response"

// rotating is a platform that signs with a certificate other than the configured
// one, which can be downloaded.
type rotating struct {
	sn      func() string // of each login's answer
	file    func(sn string) string
	answer  download // if not as it should be
	logins  atomic.Int32
	fetched atomic.Int32
}

// download answers a download.
type download func(w http.ResponseWriter, r *http.Request, form url.Values)

// next is the certificate that the platform changes to.
var next = sync.OnceValues(func() (sn, file string) {
	pki := testCertificates()
	leaf := pki.platforms.issue("Alipay", 201, &pki.nextKey.PublicKey, nil)
	return snOf(leaf), pki.platforms.chain(leaf)
})

func snOf(der []byte) string {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return serialNumber(cert)
}

// ServeHTTP implements http.Handler.
func (p *rotating) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form := formOf(r) // to its end, or the server does not see that the client leaves
	if r.URL.Query().Get("method") == methodDownload {
		p.fetched.Add(1)
		if p.answer != nil {
			p.answer(w, r, form)
			return
		}
		var query struct {
			SN string `json:"alipay_cert_sn"`
		}
		if err := json.Unmarshal([]byte(form.Get("biz_content")), &query); err != nil {
			panic(err)
		}
		_, _ = io.WriteString(w, downloadAnswer(p.file(query.SN)))
		return
	}
	p.logins.Add(1)
	node := nodeOf(testGrant(1))
	signature, err := sign(testCertificates().nextKey, node)
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintf(w, `{%q:%s,"alipay_cert_sn":%q,"sign":%q}`, tokenNode, node, p.sn(), signature)
}

func downloadAnswer(file string) string {
	return fmt.Sprintf(`{%q:{"code":"10000","msg":"Success","alipay_cert_content":%q}}`, downloadNode, base64.StdEncoding.EncodeToString([]byte(file)))
}

// newRotating makes a platform that changed to the next certificate as it should.
func newRotating() *rotating {
	sn, file := next()
	return &rotating{sn: func() string { return sn }, file: func(string) string { return file }}
}

// provider makes a provider that calls the platform, with its log.
func (p *rotating) provider(t testing.TB) (*Provider, *observer.ObservedLogs) {
	t.Helper()
	made := start(t, withCertificates([]string{serve(t, p.ServeHTTP)}))
	core, logs := observer.New(zap.InfoLevel)
	made.certificates.logger = zap.New(core)
	return made, logs
}

// In certificate mode every call names both certificates, also the download.
// (go-pay/gopay#452: one call did not.)
func TestCertificateModeConforms(t *testing.T) {
	pki := testCertificates()
	cert, _, err := parseCertificate(pki.platform)
	if err != nil {
		t.Fatal(err)
	}
	conform(t, fmt.Sprintf(`"alipay_cert_sn":%q,`, serialNumber(cert)), func(t testing.TB, bases []string) provider.Provider {
		p := withCertificates(bases)
		p.AESKey, p.AppAuthToken = testAESKey, testToken
		return start(t, p)
	})
}

func TestRotation(t *testing.T) {
	platform := newRotating()
	var queries sync.Map
	platform.answer = func(w http.ResponseWriter, r *http.Request, form url.Values) {
		queries.Store("body", form.Get("biz_content"))
		if form.Has("code") || form.Has("app_auth_token") || len(form) != 1 {
			t.Errorf("the download has %v", form)
		}
		query := r.URL.Query()
		if query.Get("app_cert_sn") == "" || query.Get("alipay_root_cert_sn") == "" || query.Get("charset") != "utf-8" {
			t.Errorf("the download has the query %v", query)
		}
		all := params{"biz_content": form.Get("biz_content")}
		for name, value := range query {
			all[name] = value[0]
		}
		if !isSigned(&appKey.PublicKey, []byte(all.text()), query.Get("sign")) {
			t.Error("the download is not signed")
		}
		_, file := next()
		_, _ = io.WriteString(w, downloadAnswer(file))
	}
	p, logs := platform.provider(t)
	var logins sync.WaitGroup
	for n := range 20 {
		logins.Go(func() {
			if grant, err := p.Exchange(t.Context(), testCode(n)); err != nil || grant != testGrant(1) {
				t.Errorf("got %+v %v", grant, err)
			}
		})
	}
	logins.Wait()
	if n := platform.fetched.Load(); n != 1 {
		t.Errorf("%d downloads", n)
	}
	sn, _ := next()
	if body, _ := queries.Load("body"); body != `{"alipay_cert_sn":"`+sn+`"}` {
		t.Errorf("the download asks for %v", body)
	}
	if got := logs.FilterMessage("the platform has a new certificate; replace the file of alipay_cert").Len(); got != 1 {
		t.Errorf("the log is %v", logs.All())
	}
	// The configured one is still good, for a while both are in use.
	body := signed(tokenNode, nodeOf(testGrant(2)), fmt.Sprintf(`"alipay_cert_sn":%q,`, serialNumber(p.certificates.pinned)))
	if grant, _, err := p.client.readGrant(t.Context(), replyOf(body)); err != nil || grant != testGrant(2) {
		t.Errorf("got %+v %v", grant, err)
	}
	// An answer that names no certificate is by the configured one or by nobody.
	if grant, _, err := p.client.readGrant(t.Context(), replyOf(signed(tokenNode, nodeOf(testGrant(2)), ""))); err != nil || grant != testGrant(2) {
		t.Errorf("got %+v %v", grant, err)
	}
}

// Nobody vouches for the answer to a download but the root.
func TestDownloadedCertificatesAreChecked(t *testing.T) {
	pki := testCertificates()
	issue := func(a authority, change func(*x509.Certificate)) string {
		return a.chain(a.issue("Alipay", 202, &pki.nextKey.PublicKey, change))
	}
	_, good := next()
	for _, test := range []struct {
		name, file, err string
		asked           string // if not the number of file
	}{
		{"another than asked for", good, "it is another certificate than the one asked for", "0123456789abcdef0123456789abcdef"},
		{"of another root", issue(pki.stranger, nil), "its issuer is not that of alipay_cert: if it is genuine, download alipay_cert in the console", ""},
		{"of another root of the same name", issue(pki.stranger.below("Ant Financial Certification Authority Class 2 R1", 22), nil), "the chain of the certificate does not reach a root of alipay_root_cert", ""},
		{"of another app", issue(pki.apps, nil), "its issuer is not that of alipay_cert: if it is genuine, download alipay_cert in the console", ""},
		{"expired", issue(pki.platforms, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Unix(0, 0), time.Unix(1, 0) }), "the certificate has expired on 1970-01-01", ""},
		{"not yet valid", issue(pki.platforms, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Unix(5e9, 0), time.Unix(6e9, 0) }), "the certificate is not valid before 2128-06-11", ""},
		{"of EC", pki.ec, "the certificate is not of RSA", "0123456789abcdef0123456789abcdef"},
		{"of SM2", pki.sm2, "the certificate is broken, or not of RSA", "0123456789abcdef0123456789abcdef"},
		{"no PEM", "canary", "there is no certificate in it, or its PEM is broken", "0123456789abcdef0123456789abcdef"},
		{"the app's own", pki.platforms.chain(pki.platforms.issue("app", 203, &appKey.PublicKey, nil)), "it is the app's own certificate", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			sn := test.asked
			if sn == "" {
				cert, _, err := parseCertificate(test.file)
				if err != nil {
					t.Fatal(err)
				}
				sn = serialNumber(cert)
			}
			platform := &rotating{sn: func() string { return sn }, file: func(string) string { return test.file }}
			p, logs := platform.provider(t)
			for n := range 3 {
				grant, err := p.Exchange(t.Context(), testCode(n))
				want := "platform fault: getting certificate " + sn + " of the platform: " + test.err
				if e := errorOf(t, err); err.Error() != want || e.Reason != provider.PlatformFault || grant != (provider.Grant{}) {
					t.Errorf("got %+v %v\nwant %s", grant, err, want)
				}
			}
			if n := platform.fetched.Load(); n != 1 || logs.Len() != 1 {
				t.Errorf("%d downloads, log %v", n, logs.All())
			}
		})
	}
}

// Somebody who can forge answers, which nobody signed, must not be able to make
// the gateway call the platform for each of them.
func TestForgedSerialNumbersAreNotAskedFor(t *testing.T) {
	var n atomic.Int64
	platform := newRotating()
	platform.sn = func() string { return fmt.Sprintf("%032x", n.Add(1)) }
	p, _ := platform.provider(t)
	now := time.Now()
	var clock atomic.Int64
	p.certificates.now = func() time.Time { return now.Add(time.Duration(clock.Load())) }
	var logins sync.WaitGroup
	for i := range 50 {
		logins.Go(func() {
			if grant, err := p.Exchange(t.Context(), testCode(i)); err == nil {
				t.Errorf("got %+v", grant)
			}
		})
	}
	logins.Wait()
	if got := platform.fetched.Load(); got != 1 || platform.logins.Load() != 50 {
		t.Errorf("%d downloads for %d logins", got, platform.logins.Load())
	}
	// For a while. What is remembered does not grow.
	for i := range 100 {
		clock.Add(int64(downloadPause))
		if grant, err := p.Exchange(t.Context(), testCode(i)); err == nil {
			t.Errorf("got %+v", grant)
		}
	}
	if got := platform.fetched.Load(); got != 101 {
		t.Errorf("%d downloads", got)
	}
	if got := len(p.certificates.failed); got > int(forgedFor/downloadPause)+1 {
		t.Errorf("%d failures are remembered", got)
	}
	// A true rotation comes through afterwards.
	clock.Add(int64(downloadPause))
	sn, _ := next()
	platform.sn = func() string { return sn }
	if grant, err := p.Exchange(t.Context(), testCode(0)); err != nil || grant != testGrant(1) {
		t.Errorf("got %+v %v", grant, err)
	}
}

// A refusal without a signature, and a serial number that is none, ask for nothing.
func TestNothingIsDownloadedForNothing(t *testing.T) {
	platform := newRotating()
	p, _ := platform.provider(t)
	for _, body := range []string{
		`{"error_response":` + refusalNode("40002", "isv.code-invalid", "") + `,"alipay_cert_sn":"0123456789abcdef0123456789abcdef"}`,
		`{"error_response":{},"alipay_cert_sn":"0123456789ABCDEF0123456789ABCDEF","sign":"x"}`,
		`{"error_response":{},"alipay_cert_sn":"x","sign":"x"}`,
		`{"error_response":{},"sign":"x"}`,
		`{"` + tokenNode + `":` + nodeOf(testGrant(1)) + `,"alipay_cert_sn":"0123456789abcdef0123456789abcdef"}`,
	} {
		if grant, _, err := p.client.readGrant(t.Context(), replyOf(body)); err == nil {
			t.Errorf("%s: got %+v", body, grant)
		}
	}
	if n := platform.fetched.Load(); n != 0 {
		t.Errorf("%d downloads", n)
	}
}

// The code is spent by then, whatever becomes of the download.
func TestFailedDownloads(t *testing.T) {
	for name, test := range map[string]struct {
		answer download
		want   provider.Reason
		text   string
	}{
		"refused":         {answerWith(`{"` + downloadNode + `":{"code":"40004","sub_code":"isv.cert-not-exist","sub_msg":"no"}}`), provider.PlatformFault, "platform code isv.cert-not-exist: no"},
		"busy":            {answerWith(`{"error_response":{"code":"20000","sub_code":"isp.unknow-error"}}`), provider.Unavailable, "isp.unknow-error"},
		"limited":         {answerWith(`{"error_response":{"code":"40005","sub_code":"isv.app-call-limited"}}`), provider.Unavailable, "isv.app-call-limited"},
		"nothing in it":   {answerWith(`{"` + downloadNode + `":{"code":"10000"}}`), provider.PlatformFault, "alipay_cert_content is missing or not base64"},
		"no base64":       {answerWith(`{"` + downloadNode + `":{"code":"10000","alipay_cert_content":"%"}}`), provider.PlatformFault, "alipay_cert_content is missing or not base64"},
		"not text":        {answerWith(`{"` + downloadNode + `":{"code":"10000","alipay_cert_content":7}}`), provider.PlatformFault, "not a string"},
		"of a login":      {answerWith(signed(tokenNode, nodeOf(testGrant(1)), "")), provider.PlatformFault, "it has no node of its method"},
		"twins":           {answerWith(`{"` + downloadNode + `":{"code":"10000","CODE":"10000"}}`), provider.PlatformFault, "two names differ in case only"},
		"HTML":            {answerWith("<html>"), provider.PlatformFault, "not an object"},
		"a closed door":   {func(http.ResponseWriter, *http.Request, url.Values) { panic(http.ErrAbortHandler) }, provider.Unavailable, "no answer from"},
		"a load balancer": {func(w http.ResponseWriter, _ *http.Request, _ url.Values) { w.WriteHeader(http.StatusBadGateway) }, provider.Unavailable, "answer with status 502"},
	} {
		t.Run(name, func(t *testing.T) {
			platform := newRotating()
			platform.answer = test.answer
			p, _ := platform.provider(t)
			for n := range 3 {
				_, err := p.Exchange(t.Context(), testCode(n))
				if e := errorOf(t, err); e.Reason != test.want || !strings.Contains(err.Error(), test.text) || !provider.MayHaveSeen(err) {
					t.Errorf("got %v", err)
				}
			}
			if n := platform.fetched.Load(); n != 1 {
				t.Errorf("%d downloads", n)
			}
		})
	}
}

func answerWith(body string) download {
	return func(w http.ResponseWriter, _ *http.Request, _ url.Values) { _, _ = io.WriteString(w, body) }
}

// A login does not wait longer than it may, and its end does not end the download
// that others wait for. The end of the provider does.
func TestEndsOfDownloads(t *testing.T) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	platform := newRotating()
	platform.answer = func(w http.ResponseWriter, r *http.Request, _ url.Values) {
		arrived <- struct{}{}
		select {
		case <-release:
			_, file := next()
			_, _ = io.WriteString(w, downloadAnswer(file))
		case <-r.Context().Done():
		}
	}
	p, _ := platform.provider(t)
	ctx, cancel := context.WithCancel(t.Context())
	sn, _ := next()
	go func() {
		<-arrived
		cancel()
	}()
	_, err := p.certificates.publicKey(ctx, sn)
	if e := errorOf(t, err); e.Reason != provider.Unavailable || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("got %v", err)
	}
	close(release)
	if _, err := p.Exchange(t.Context(), testCode(0)); err != nil || platform.fetched.Load() != 1 {
		t.Errorf("%v after %d downloads", err, platform.fetched.Load())
	}

	stuck := newRotating()
	stuck.answer = func(_ http.ResponseWriter, r *http.Request, _ url.Values) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}
	p, _ = stuck.provider(t)
	failed := make(chan error, 1)
	go func() {
		_, err := p.certificates.publicKey(t.Context(), sn)
		failed <- err
	}()
	<-arrived
	if err := p.Cleanup(); err != nil {
		t.Error(err)
	}
	if err := <-failed; errorOf(t, err).Reason != provider.Unavailable {
		t.Errorf("got %v", err)
	}
	if _, err := p.certificates.publicKey(t.Context(), "0123456789abcdef0123456789abcdef"); err == nil || stuck.fetched.Load() != 1 {
		t.Errorf("%v after %d downloads", err, stuck.fetched.Load())
	}
}

// What the sandbox certifies cannot be checked.
func TestSandboxCertificatesArePinned(t *testing.T) {
	platform := newRotating()
	p, _ := platform.provider(t)
	p.certificates.sandbox = true
	if _, err := p.Exchange(t.Context(), testCode(0)); err == nil || !strings.Contains(err.Error(), "download alipay_cert in its console") || platform.fetched.Load() != 0 {
		t.Errorf("%v after %d downloads", err, platform.fetched.Load())
	}
}
