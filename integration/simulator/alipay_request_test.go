// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// The vectors were made with other programs: the official SDK and OpenSSL. The
// keys in them are for tests alone.
func alipayVectors(t testing.TB) map[string]map[string]string {
	t.Helper()
	data, err := os.ReadFile("testdata/alipay.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name   string            `json:"name"`
		Fields map[string]string `json:"fields"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	vectors := make(map[string]map[string]string)
	for _, vector := range list {
		name, _, _ := strings.Cut(vector.Name, " ")
		vectors[name] = vector.Fields
	}
	return vectors
}

const vectorApp = "2021000000000001"

// newVectorTest makes a simulator with the keys of the vectors, at their time.
func newVectorTest(t testing.TB) (*Simulator, *alipayProgram, map[string]map[string]string) {
	t.Helper()
	vectors := alipayVectors(t)
	s, err := New(Config{
		Programs: []Program{{
			Platform: "alipay", AppID: vectorApp,
			Secret: vectors["K0"]["app_public"], AESKey: vectors["K0"]["aes_key"], Seed: "test",
		}},
		Now: func() time.Time { return time.Date(2026, 1, 1, 19, 4, 5, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := s.alipayOf(vectorApp)
	if err != nil {
		t.Fatal(err)
	}
	if p.signer.key, err = parseAlipayPrivateKey(vectors["K0"]["alipay_private_pkcs8"]); err != nil {
		t.Fatal(err)
	}
	if public := clientOf(t, s, vectorApp).keys.AlipayPublicKey; public != vectors["K0"]["alipay_public"] {
		t.Fatalf("Alipay's public key is %s", public)
	}
	return s, p, vectors
}

// The signed requests of the official SDK are accepted; one that is changed
// anywhere is not.
func TestAlipayVectorsOfRequests(t *testing.T) {
	const unknown = `"sub_code":"isv.invalid-signature"`
	for name, want := range map[string]string{
		"R1": `"open_id":`, "R2": `"open_id":`, "R3": "aop.invalid-app-auth-token", "R4": `"nick_name":`,
	} {
		for changed, reject := range map[string]bool{"": false, "sign": true, "timestamp": true} {
			s, p, vectors := newVectorTest(t)
			if name == "R2" {
				p.chain = &alipayChain{
					appSN:  "866efef280dec9137a87d047ac446315",
					rootSN: "687b59193f3f462dd5336e5abf83c5d8_02941eef3187dddf3d3b83462e1dfcf6",
				}
			}
			now := s.now()
			consent := alipayConsent{user: "alice", scopes: []string{"auth_user"}, given: now}
			p.codes.issue(now, "4b203fe6c11548bcabd8da5bb087a83b", consent)
			p.access.issue(now, "authusrB0123456789abcdef0123456789abcX01", consent)
			query := url.Values{"sign": {vectors[name]["sign"]}}
			for pair := range strings.SplitSeq(vectors[name]["string_to_sign"], "&") {
				key, value, _ := strings.Cut(pair, "=")
				query.Set(key, value)
			}
			switch changed {
			case "timestamp":
				query.Set(changed, "2026-01-02 03:04:06")
			case "sign":
				query.Set(changed, "AAAA"+query.Get(changed)[4:])
			}
			recorder := do(s, http.MethodPost, alipayPath+"?"+query.Encode(), "")
			body := recorder.Body.String()
			if rejected := strings.Contains(body, unknown); rejected != reject || strings.Contains(body, want) == reject {
				t.Errorf("%s, changed %q: answer is %s", name, changed, body)
			}
		}
	}
}

// What the simulator sends is, byte for byte, what others computed.
func TestAlipayVectorsOfAnswers(t *testing.T) {
	_, p, vectors := newVectorTest(t)
	disguised := func(kind FaultKind, change ...func(*Fault)) func(*alipayReply) answer {
		fault := Fault{Kind: kind}
		for _, c := range change {
			c(&fault)
		}
		return func(r *alipayReply) answer { return fault.disguise(r.answer()) }
	}
	plain := func(r *alipayReply) answer { return r.answer() }
	const user = "alipay_user_info_share_response"
	for name, test := range map[string]struct {
		node, text string
		make       func(*alipayReply) answer
	}{
		"S1": {tokenNode, vectors["S1"]["signed_bytes"], plain},
		"S2": {user, vectors["S2"]["signed_bytes"], func(r *alipayReply) answer {
			p.signer.sn = "7513daaaa48aa3ba2e4018d84402479c"
			defer func() { p.signer.sn = "" }()
			return r.answer()
		}},
		"S3": {alipayErrorNode, vectors["S3"]["signed_bytes"], plain},
		"S4": {tokenNode, string(encodeJSON(alipayError{subCode: "isv.invalid-app-id"}.failure())), disguised(FaultUnsigned)},
		"S5": {tokenNode, vectors["S1"]["signed_bytes"], disguised(FaultUnsigned)},
		"S6": {user, vectors["S6"]["signed_bytes_as_received"], disguised(FaultEscapedSlashes)},
		"S7": {tokenNode, vectors["S1"]["signed_bytes"], disguised(FaultSignFirst)},
		"S8": {tokenNode, vectors["S1"]["signed_bytes"], disguised(FaultDuplicateNode, func(f *Fault) {
			f.Value = json.RawMessage(`{"access_token":"evil","user_id":"2088000000000000"}`)
		})},
	} {
		got := test.make(&alipayReply{program: p, success: test.node, name: test.node, node: []byte(test.text)})
		if string(got.body) != vectors[name]["body"] {
			t.Errorf("%s is %s, want %s", name, got.body, vectors[name]["body"])
		}
	}
}

func TestAlipayVectorsOfOpenData(t *testing.T) {
	s, p, vectors := newVectorTest(t)
	response, err := s.SharePhone(Phone{Program: vectorApp, User: "alice", Number: "13800138000"})
	if err != nil || response != vectors["P1"]["res.response"] {
		t.Errorf("P1 is %s, error %v", response, err)
	}
	encrypt := func(plain, form string) alipayOpenData {
		t.Helper()
		encrypted, err := s.Encrypt(Encryption{Program: vectorApp, User: "alice", Data: json.RawMessage(plain), Form: form})
		if err != nil {
			t.Fatal(err)
		}
		var data alipayOpenData
		if err := json.Unmarshal([]byte(encrypted.Response), &data); err != nil {
			t.Fatal(err)
		}
		return data
	}
	if data := encrypt(vectors["P1"]["plaintext"], FormUnquoted); data.Sign != vectors["P2"]["sign"] {
		t.Errorf("P2 is %+v", data)
	}
	if data := encrypt(vectors["P3"]["plaintext"], ""); data.Response != vectors["P3"]["ciphertext"] || data.Sign != vectors["P3"]["sign"] {
		t.Errorf("P3 is %+v", data)
	}
	if data := encrypt(vectors["P3"]["plaintext"], FormUnsigned); data.Response != vectors["P3"]["ciphertext"] || data.Sign != "" {
		t.Errorf("unsigned data is %+v", data)
	}
	if data := encrypt(vectors["P3"]["plaintext"], FormWrongSignature); data.Sign == vectors["P3"]["sign"] || len(data.Sign) != 344 {
		t.Errorf("data with a wrong signature is %+v", data)
	}
	plain := p.openData([]byte(`{"code":"40001","msg":"Missing Required Arguments","subCode":"isv.missing-encrypt-key","subMsg":"缺少加密配置"}`), FormPlain)
	if plain != vectors["P4"]["res.response"] {
		t.Errorf("P4 is %s", plain)
	}
	if response, err := s.SharePhone(Phone{Program: vectorApp, User: "alice", Number: "1234432112", CountryCode: "1"}); err != nil ||
		!strings.Contains(response, sealAlipay(p.aesKey, []byte(`{"code":"10000","msg":"Success","mobile":"1-1234432112"}`))) {
		t.Errorf("foreign number is %s, error %v", response, err)
	}
	if cipher := sealAlipay(mustBase64(t, "aa4BtZ4tspm2wnXLb1ThQA=="), []byte("test1234567")); cipher != "ILpoMowjIQjfYMR847rnFQ==" {
		t.Errorf("cipher text is %s", cipher)
	}
}

func mustBase64(t testing.TB, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Serial numbers of Alipay's own certificates, by their issuers.
func TestAlipayVectorsOfSerialNumbers(t *testing.T) {
	const class = "CN=Ant Financial Certification Authority Class %,OU=Certification Authority,O=Ant Financial,C=CN"
	for want, parts := range map[string][2]string{
		"866efef280dec9137a87d047ac446315": {strings.Replace(class, "%", "1 R1", 1), "42701552708448241360226107228231049510"},
		"7513daaaa48aa3ba2e4018d84402479c": {strings.Replace(class, "%", "2 R1", 1), "42701552432456004857627230056898180491"},
		"687b59193f3f462dd5336e5abf83c5d8": {strings.Replace(class, "Class %", "R1", 1), "2292228364100439313"},
		"02941eef3187dddf3d3b83462e1dfcf6": {
			"CN=iTrusChina Class 2 Root CA - G3,OU=China Trust Network,O=iTrusChina,C=CN",
			"95790491425698859646659490580052089075020051350",
		},
		"9e64d67d36446de33aae13a33a89e5a7": {"CN=ROOTCA,O=NRCAC,C=CN", "7629940819692799611"},
	} {
		if got := alipaySN(parts[0], parts[1]); got != want {
			t.Errorf("serial number of %s is %s, want %s", parts[0], got, want)
		}
	}
}

// Each check of the gateway, in its order: what is wrong first is what is said.
func TestAlipayRequestErrors(t *testing.T) {
	s, _ := newAlipayTest(t)
	key, certs := clientOf(t, s, alipayApp), clientOf(t, s, alipayCerts)
	value := func(name, value string) url.Values { return url.Values{name: {value}} }
	for name, test := range map[string]struct {
		client        alipayClient
		changes       url.Values
		code, subCode string
	}{
		"no method":            {key, value("method", ""), "40001", "isv.missing-method"},
		"unknown method":       {key, value("method", "alipay.trade.pay"), "40002", "isv.invalid-method"},
		"no charset":           {key, value("charset", ""), "40002", "isv.invalid-signature"},
		"GBK":                  {key, value("charset", "GBK"), "40002", "isv.invalid-charset"},
		"XML":                  {key, value("format", "XML"), "40002", "isv.invalid-format"},
		"no sign type":         {key, value("sign_type", ""), "40001", "isv.missing-signature-type"},
		"RSA":                  {key, value("sign_type", "RSA"), "40002", "isv.invalid-signature-type"},
		"no timestamp":         {key, value("timestamp", ""), "40001", "isv.missing-timestamp"},
		"timestamp in seconds": {key, value("timestamp", "1767294245"), "40002", "isv.invalid-timestamp"},
		"timestamp in UTC":     {key, value("timestamp", "2026-03-01 12:00:00"), "40002", "isv.invalid-timestamp"},
		"slow clock":           {key, value("timestamp", "2026-03-01 19:49:59"), "40002", "isv.invalid-timestamp"},
		"fast clock":           {key, value("timestamp", "2026-03-01 20:10:01"), "40002", "isv.invalid-timestamp"},
		"rather slow clock":    {key, value("timestamp", "2026-03-01 19:50:00"), "40002", "isv.code-invalid"},
		"no version":           {key, value("version", ""), "40001", "isv.missing-version"},
		"version 2":            {key, value("version", "2.0"), "40002", "isv.invalid-parameter"},
		"no sign":              {key, value("sign", ""), "40001", "isv.missing-signature"},
		"no base64":            {key, value("sign", "!"), "40002", "isv.invalid-signature"},
		"parameter twice":      {key, value("grant_type", "authorization_code"), "40002", "isv.suspected-attack"},
		"format not given":     {key, value("format", ""), "40002", "isv.code-invalid"},
		"empty parameter":      {key, nil, "40002", "isv.code-invalid"},
		"certificates":         {key, value("app_cert_sn", "866efef280dec9137a87d047ac446315"), "40002", "isv.app-cert-not-exist"},
		"no certificate":       {certs, value("app_cert_sn", ""), "40002", "isv.missing-app-cert-sn"},
		"other certificate":    {certs, value("app_cert_sn", "866efef280dec9137a87d047ac446315"), "40002", "isv.app-cert-not-exist"},
		"no root":              {certs, value("alipay_root_cert_sn", ""), "40002", "isv.missing-alipay-root-cert-sn"},
		"other root":           {certs, value("alipay_root_cert_sn", "02941eef3187dddf3d3b83462e1dfcf6"), "40002", "isv.invalid-alipay-root-cert-sn"},
		"all right":            {certs, nil, "40002", "isv.code-invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			client := alipayClient{t, s, test.client.keys}
			query := client.query(alipayTokenMethod, test.changes)
			switch name {
			case "no sign":
				query["sign"] = []string{""}
			case "empty parameter":
				query["app_auth_token"] = []string{""}
			}
			client.wantSubCode(client.send(query, codeForm("x")), test.code, test.subCode)
		})
	}
	client := clientOf(t, s, alipayApp)
	client.wantSubCode(client.send(client.query(alipayTokenMethod, nil), url.Values{"code": {"x"}}), "40002", "isv.grant-type-invalid")
}

// To somebody that it does not know, Alipay answers in the node of the API and
// signs nothing, whatever else is wrong.
func TestAlipayUnknownApp(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	for _, changes := range []url.Values{{"app_id": {"2021"}}, {"app_id": {"2021"}, "sign": {"x"}}, {"app_id": {testApp}}} {
		got := c.send(c.query(alipayTokenMethod, changes), codeForm("x")).Body.String()
		want := `{"` + tokenNode + `":{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.invalid-app-id","sub_msg":"无效的AppID参数"}}`
		if got != want {
			t.Errorf("answer is %s", got)
		}
	}
	got := c.send(c.query(alipayTokenMethod, url.Values{"app_id": {""}}), codeForm("x")).Body.String()
	if !strings.Contains(got, `"code":"40001"`) || !strings.Contains(got, "isv.missing-app-id") || strings.Contains(got, "sign") {
		t.Errorf("answer is %s", got)
	}
}

// The text of a wrong signature shows what should have been signed, escaped as
// for a page.
func TestAlipaySignatureText(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	other := clientOf(t, s, alipayOther)
	c.keys.AppPrivateKey = other.keys.AppPrivateKey
	recorder := c.exchange(`a<"b`)
	want := "网关生成的验签字符串为：app_id=2021000000000000&amp;charset=utf-8&amp;code=a&lt;&quot;b&amp;format=JSON&amp;" +
		"grant_type=authorization_code&amp;method=alipay.system.oauth.token&amp;sign_type=RSA2&amp;timestamp=2026-03-01 20:00:00&amp;version=1.0"
	if node := c.open(recorder.Body.Bytes(), alipayErrorNode); !strings.HasSuffix(node["sub_msg"].(string), want) {
		t.Errorf("node is %v", node)
	}
	// Without the charset in the address, the text is the well-known riddle.
	query := clientOf(t, s, alipayApp).query(alipayTokenMethod, url.Values{"charset": {""}})
	form := codeForm("x")
	form.Set("charset", "utf-8")
	node := c.open(c.send(query, form).Body.Bytes(), alipayErrorNode)
	if !strings.Contains(node["sub_msg"].(string), "请确认charset参数放在了URL查询字符串中") {
		t.Errorf("node is %v", node)
	}
}

// All parameters but the charset may stand in the body, or all in the query;
// what stands in a body of another type does not count.
func TestAlipayParameterPlaces(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	key, err := parseAlipayPrivateKey(c.keys.AppPrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		contentType string
		inBody      bool
		want        string
	}{
		"body":  {"application/x-www-form-urlencoded", true, tokenNode},
		"query": {"", false, tokenNode},
		"JSON":  {"application/json", true, "isv.missing-app-id"},
	} {
		all := c.query(alipayTokenMethod, nil)
		all.Set("grant_type", "authorization_code")
		all.Set("code", login(t, s, alipayApp, "alice"))
		request := alipayRequest{params: make(map[string]string)}
		request.add(all)
		all.Set("sign", signAlipay(key, []byte(request.signContent())))
		query, form := all, url.Values{}
		if test.inBody {
			query, form = url.Values{"charset": {"utf-8"}}, all
			form.Del("charset")
		}
		r := httptest.NewRequest(http.MethodPost, alipayPath+"?"+query.Encode(), bytes.NewReader([]byte(form.Encode())))
		r.Header.Set("Content-Type", test.contentType)
		recorder := httptest.NewRecorder()
		s.ServeHTTP(recorder, r)
		if !strings.Contains(recorder.Body.String(), test.want) {
			t.Errorf("%s: answer is %s", name, recorder.Body)
		}
	}
}
