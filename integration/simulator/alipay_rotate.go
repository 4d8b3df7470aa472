// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
)

const alipayCertMethod = "alipay.open.app.alipaycert.download"

// Download says what alipay.open.app.alipaycert.download answers about the
// certificate of a rotation.
type Download string

// The downloads. All but the first are what an attacker, or a mistake of
// Alipay's, would look like.
const (
	// DownloadGenuine answers the certificate.
	DownloadGenuine Download = "genuine"
	// DownloadWrongSerial answers another one: that of before.
	DownloadWrongSerial Download = "wrong_serial"
	// DownloadExpired answers the certificate, which has expired.
	DownloadExpired Download = "expired"
	// DownloadForeign answers the certificate, which does not reach the root.
	DownloadForeign Download = "foreign"
	// DownloadGarbage answers something that is no certificate.
	DownloadGarbage Download = "garbage"
	// DownloadRefused answers an error.
	DownloadRefused Download = "refused"
)

// Rotate gives Alipay a new key pair for a program, and in certificate mode a
// certificate for it. It signs with it from now on. Without a download it is
// DownloadGenuine; outside of certificate mode there is no other. It returns
// the keys as they are then. The error wraps ErrInvalid or ErrUnknownProgram.
func (s *Simulator) Rotate(program string, download Download) (AlipayKeys, error) {
	_, p, err := s.alipayOf(program)
	if err != nil {
		return AlipayKeys{}, err
	}
	if err := p.rotate(orDefault(download, DownloadGenuine)); err != nil {
		return AlipayKeys{}, err
	}
	return s.AlipayKeys(program)
}

// rotate makes the next signer.
func (p *alipayProgram) rotate(download Download) error {
	key, err := p.maker.rsaKey("alipay " + strconv.Itoa(p.nextRotation()))
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	signer := &alipaySigner{key: key}
	if p.chain == nil {
		if download != DownloadGenuine {
			return fmt.Errorf("%w: the program is not in certificate mode", ErrInvalid)
		}
	} else if signer, err = p.newCert(key, download); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch before := p.signer; download {
	case DownloadWrongSerial:
		p.downloads[signer.sn] = before.file
	case DownloadGarbage:
		p.downloads[signer.sn] = "no certificate"
	case DownloadRefused:
	default:
		p.downloads[signer.sn] = signer.file
	}
	p.signer = signer
	return nil
}

// nextRotation counts rotations.
func (p *alipayProgram) nextRotation() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rotations++
	return p.rotations
}

// newCert makes the certificate of a rotation. Its serial number is random.
func (p *alipayProgram) newCert(key *rsa.PrivateKey, download Download) (*alipaySigner, error) {
	template := alipayTemplate(keyMaker{}, "alipay", "Simulated Alipay-2088000000000000")
	chain := p.chain
	switch download {
	case DownloadGenuine, DownloadWrongSerial, DownloadGarbage, DownloadRefused:
	case DownloadExpired:
		template.NotAfter = alipayExpired
	case DownloadForeign:
		foreign, err := chain.foreign()
		if err != nil {
			return nil, err
		}
		chain = foreign
	default:
		return nil, fmt.Errorf("%w: unknown download %q", ErrInvalid, string(download))
	}
	return chain.issueFrom(template, key)
}

// alipayDownload is the answer of alipay.open.app.alipaycert.download.
type alipayDownload struct {
	Code    string `json:"code"`
	Msg     string `json:"msg"`
	Content string `json:"alipay_cert_content"`
}

// downloadCert is alipay.open.app.alipaycert.download: the file of one of
// Alipay's certificates, in base64. The answer is not signed
// (https://opendocs.alipay.com/apis/api_9/alipay.open.app.alipaycert.download).
func (a *alipay) downloadCert(r *alipayRequest) (any, error) {
	var content struct {
		SN string `json:"alipay_cert_sn"`
	}
	if err := json.Unmarshal([]byte(r.params["biz_content"]), &content); err != nil || content.SN == "" {
		return nil, alipayError{subCode: "isv.invalid-parameter"}
	}
	r.program.mu.Lock()
	defer r.program.mu.Unlock()
	file := r.program.downloads[content.SN]
	if file == "" {
		return nil, alipayError{subCode: "isv.alipay-cert-not-exist"}
	}
	return alipayDownload{"10000", alipayMessages["10000"], base64.StdEncoding.EncodeToString([]byte(file))}, nil
}
