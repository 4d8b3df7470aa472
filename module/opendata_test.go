// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Every client library wraps what the platform gave it in its own way.
func TestReadOpenData(t *testing.T) {
	const signed = `{"response":"YWJj","sign":"c2ln","sign_type":"RSA2"}`
	quoted, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		body                  string
		encrypted, verifiable bool
		signed                string
	}{
		"nothing":             {body: `{}`},
		"another's":           {body: `{"orders":[1,2],"note":"iv"}`},
		"WeChat":              {body: `{"encryptedData":"YQ==","iv":"aXY="}`, encrypted: true},
		"our spelling":        {body: `{"encrypted_data":"YQ==","iv":"aXY="}`, encrypted: true},
		"both, the same":      {body: `{"encrypted_data":"YQ==","encryptedData":"YQ==","iv":"aXY="}`, encrypted: true},
		"without iv":          {body: `{"encryptedData":"YQ=="}`},
		"raw data":            {body: `{"rawData":"{}","signature":"00"}`, verifiable: true},
		"raw data, ours":      {body: `{"raw_data":"{}","signature":"00"}`, verifiable: true},
		"wx.getUserInfo":      {body: `{"encryptedData":"YQ==","iv":"aXY=","rawData":"{}","signature":"00"}`, encrypted: true, verifiable: true},
		"Alipay, as body":     {body: signed, signed: signed},
		"Alipay, as response": {body: `{"response":` + string(quoted) + `}`, signed: signed},
		"Alipay, as data":     {body: `{"encryptedData":` + string(quoted) + `}`, signed: signed},
		"Alipay, a failure":   {body: `{"response":{"code":"40001"}}`, signed: `{"response":{"code":"40001"}}`},
		"Alipay, unsigned":    {body: `{"response":"YWJj"}`, signed: `{"response":"YWJj"}`},
	} {
		t.Run(name, func(t *testing.T) {
			d, failure := readOpenData([]byte(test.body))
			if failure != nil {
				t.Fatal(failure)
			}
			if d.isEncrypted() != test.encrypted || d.isVerifiable() != test.verifiable || string(d.signed) != test.signed {
				t.Errorf("encrypted %v, verifiable %v, signed %q", d.isEncrypted(), d.isVerifiable(), d.signed)
			}
		})
	}
	for _, body := range []string{
		`{"encryptedData":"YQ==","encrypted_data":"Yg==","iv":"aXY="}`, `{"rawData":"{}","raw_data":"[]"}`,
		`{"iv":1}`, `{"encryptedData":["YQ=="]}`, `{"sign":{}}`,
	} {
		if _, failure := readOpenData([]byte(body)); failure != errInvalidRequest {
			t.Errorf("%s: %v", body, failure)
		}
	}
}

func FuzzReadOpenData(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"encryptedData":"YQ==","iv":"aXY="}`, `{"response":"YWJj","sign":"c2ln"}`, `{"response":"{\"response\":1}"}`,
		`{"response":null,"sign":"x"}`, `{"response":{}}`, `{"encryptedData":" {"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, failure := readOpenData(body)
		if failure != nil {
			return
		}
		if d.signed != nil && !bytes.HasPrefix(bytes.TrimLeft(d.signed, " \t\r\n"), []byte("{")) {
			t.Errorf("signed is %q", d.signed)
		}
	})
}

// A version that is half understood is a lost update, or a refusal that nobody
// can explain.
func TestReadIfMatch(t *testing.T) {
	for line, matches := range map[string]map[int64]bool{
		`"7"`: {7: true, 0: false, 8: false},
		`"0"`: {0: true, 1: false},
		`*`:   {0: false, 1: true, 9: true},
	} {
		c, failure := readIfMatch(http.Header{"If-Match": {line}})
		if failure != nil {
			t.Errorf("%s: %v", line, failure)
			continue
		}
		for version, want := range matches {
			if got := c.matches(version); got != want {
				t.Errorf("%s matches %d: %v", line, version, got)
			}
		}
	}
	if c, failure := readIfMatch(http.Header{}); failure != nil || !c.matches(0) || !c.matches(7) {
		t.Errorf("without: %v, %v", c, failure)
	}
	for _, lines := range [][]string{{""}, {"7"}, {`"7`}, {`"-1"`}, {`W/"7"`}, {`"7", "8"`}, {`"99999999999999999999"`}, {`"7"`, `"8"`}, {`"x"`}} {
		if _, failure := readIfMatch(http.Header{"If-Match": lines}); failure != errInvalidRequest {
			t.Errorf("%q: %v", lines, failure)
		}
	}
}

// What is looked at on its way must arrive as it was sent, to the last byte, and
// what is too much to be looked at must not be held up.
func TestBodyData(t *testing.T) {
	jsonHeader := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	for name, test := range map[string]struct {
		body    string
		header  http.Header
		length  int64 // as announced; 0: that of body
		failure *Error
	}{
		"open data":             {body: `{"encryptedData":"YQ==","iv":"aXY="}`, header: jsonHeader},
		"other JSON":            {body: `{"a":1}` + "\n", header: jsonHeader},
		"a list":                {body: `[1]`, header: jsonHeader, failure: errInvalidRequest},
		"broken":                {body: `{"a":`, header: jsonHeader, failure: errInvalidRequest},
		"a name twice":          {body: `{"iv":"a","iv":"b"}`, header: jsonHeader, failure: errInvalidRequest},
		"a form":                {body: `a=1`, header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, failure: errMediaType},
		"no type":               {body: `{"a":1}`, header: http.Header{}, failure: errMediaType},
		"encoded":               {body: `{"a":1}`, header: http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, failure: errMediaType},
		"of unknown length":     {body: `{"a":1}`, header: jsonHeader, length: -1, failure: errInvalidRequest},
		"large":                 {body: `{"a":"` + strings.Repeat("x", maxDataBody) + `"}`, header: jsonHeader, failure: errDataTooLarge},
		"large by announcement": {body: `{"a":1}`, header: jsonHeader, length: 1 << 40, failure: errDataTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(test.body))
			r.Header = test.header
			if test.length != 0 {
				r.ContentLength = test.length
			}
			if _, failure := bodyData(r); failure != test.failure {
				t.Errorf("failure is %v, want %v", failure, test.failure)
			}
			if data, err := io.ReadAll(r.Body); err != nil || string(data) != test.body {
				t.Errorf("%d bytes arrive, %v", len(data), err)
			}
		})
	}
}

// A client that goes away in the middle of its body must not look like one that
// sent a short one.
func TestBodyDataOfABrokenConnection(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(`{"a":`), failing{io.ErrUnexpectedEOF}))
	r.ContentLength = 100
	r.Header.Set("Content-Type", "application/json")
	if _, failure := bodyData(r); failure != errInvalidRequest {
		t.Errorf("failure is %v", failure)
	}
	data, err := io.ReadAll(r.Body)
	if string(data) != `{"a":` || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", data, err)
	}
}
