// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Each fault has exactly the shape that it announces, whether the answer is a
// success or a refusal.
func TestAlipayFaults(t *testing.T) {
	names := func(members []alipayMember) string {
		var list []string
		for _, member := range members {
			list = append(list, member.name)
		}
		return strings.Join(list, " ")
	}
	const upper = "ALIPAY_SYSTEM_OAUTH_TOKEN_RESPONSE"
	for name, test := range map[string]struct {
		fault          Fault
		success, error string // the names of the members
		genuine        int    // which member is signed, -1 for none
	}{
		"unsigned":         {Fault{Kind: FaultUnsigned}, tokenNode, "error_response", -1},
		"wrong signature":  {Fault{Kind: FaultWrongSignature}, tokenNode + " sign", "error_response sign", -1},
		"other signature":  {Fault{Kind: FaultOtherSignature}, tokenNode + " sign", "error_response sign", -1},
		"forged after":     {Fault{Kind: FaultForgedNode}, "error_response " + tokenNode + " sign", "error_response " + tokenNode + " sign", 0},
		"forged before":    {Fault{Kind: FaultForgedNode, First: true}, tokenNode + " error_response sign", tokenNode + " error_response sign", 1},
		"duplicate after":  {Fault{Kind: FaultDuplicateNode}, tokenNode + " " + tokenNode + " sign", "error_response error_response sign", 0},
		"duplicate before": {Fault{Kind: FaultDuplicateNode, First: true}, tokenNode + " " + tokenNode + " sign", "error_response error_response sign", 1},
		"case after":       {Fault{Kind: FaultCaseNode}, tokenNode + " " + upper + " sign", "error_response ERROR_RESPONSE sign", 0},
		"case before":      {Fault{Kind: FaultCaseNode, First: true}, upper + " " + tokenNode + " sign", "ERROR_RESPONSE error_response sign", 1},
		"sign first":       {Fault{Kind: FaultSignFirst}, "sign " + tokenNode, "sign error_response", 1},
		"white space":      {Fault{Kind: FaultWhiteSpace}, tokenNode + " sign", "error_response sign", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newAlipayTest(t)
			c := clientOf(t, s, alipayApp)
			setFault(t, s, test.fault)
			for _, fails := range []bool{false, true} {
				code, want := login(t, s, alipayApp, "alice"), test.success
				if fails {
					code, want = "x", test.error
				}
				recorder := c.exchange(code)
				if recorder.Code != http.StatusOK || recorder.Header().Get("Content-Type") != alipayContentType {
					t.Errorf("answer is %d %v", recorder.Code, recorder.Header())
				}
				members := topLevel(t, recorder.Body.Bytes())
				if got := names(members); got != want {
					t.Fatalf("members are %s, want %s", got, want)
				}
				for i, member := range members {
					if sealed := c.isSealed(members, member.value); sealed != (i == test.genuine) {
						t.Errorf("%s is signed: %v", member.name, sealed)
					}
				}
				if test.genuine < 0 {
					continue
				}
				genuine := string(members[test.genuine].value)
				if strings.Contains(genuine, "forged") || strings.Contains(genuine, "isv.code-invalid") != fails {
					t.Errorf("the signed node is %s", genuine)
				}
			}
		})
	}
}

// A signature of the platform's over another node does verify, for that node.
func TestAlipayFaultOtherSignature(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	setFault(t, s, Fault{Kind: FaultOtherSignature})
	if members := topLevel(t, c.exchange("x").Body.Bytes()); !c.isSealed(members, []byte(`{"code":"10000","msg":"Success"}`)) {
		t.Errorf("answer is %s", members)
	}
}

// What is added is signed, the second of two equal names included.
func TestAlipayFaultExtraFields(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	setFault(t, s, Fault{Kind: FaultExtraFields, Value: json.RawMessage(` {"OPEN_ID":"evil","access_token":"again"} `)})
	members := topLevel(t, c.exchange(login(t, s, alipayApp, "alice")).Body.Bytes())
	if node := string(members[0].value); !strings.HasSuffix(node, `","OPEN_ID":"evil","access_token":"again"}`) ||
		!strings.HasPrefix(node, `{"access_token":"authbse`) || !c.isSealed(members, members[0].value) {
		t.Errorf("node is %s", node)
	}
	for _, value := range []string{``, `{}`, `[1]`, `{"a"`} {
		if err := s.SetFault(Fault{Kind: FaultExtraFields, Value: json.RawMessage(value)}); err == nil {
			t.Errorf("%q was accepted", value)
		}
	}
}

func TestAlipayFaultWhiteSpace(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	setFault(t, s, Fault{Kind: FaultWhiteSpace})
	body := c.exchange(login(t, s, alipayApp, "alice")).Body.String()
	for _, want := range []string{"\r\n \t{", `response" ` + "\n:\t\r {", "\"access_token\"\n: \t\"", " \n,\t\"sign\"", "} \r\n\t"} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %q in %q", want, body)
		}
	}
	if err := s.SetProfile(alipayApp, "alice", map[string]string{"nick_name": `": "`}); err != nil {
		t.Fatal(err)
	}
	s.ClearFaults()
	token := c.signIn("auth_user")["access_token"]
	setFault(t, s, Fault{Kind: FaultWhiteSpace})
	if info := c.open(c.userInfo(token), "alipay_user_info_share_response"); info["nick_name"] != `": "` {
		t.Errorf("node is %v", info)
	}
	if node := find(topLevel(t, []byte(body)), tokenNode); !bytes.HasPrefix(node, []byte("{\r\n")) && !bytes.HasPrefix(node, []byte("{\n")) {
		t.Errorf("node is %q", node)
	}
}

// The second chance of the official SDK: the text as sent does not verify, the
// text without the backslashes does.
func TestAlipayFaultEscapedSlashes(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	token := c.signIn("auth_user")["access_token"]
	setFault(t, s, Fault{Kind: FaultEscapedSlashes})
	for _, body := range [][]byte{c.exchange(login(t, s, alipayApp, "alice")).Body.Bytes(), c.userInfo(token)} {
		members := topLevel(t, body)
		node := members[0].value
		plain := bytes.ReplaceAll(node, []byte(`\/`), []byte("/"))
		if !bytes.Contains(node, []byte(`\/`)) || c.isSealed(members, node) || !c.isSealed(members, plain) {
			t.Errorf("answer is %s", body)
		}
	}
}

// GBK is no UTF-8, and its signature is over the bytes as sent.
func TestAlipayFaultGBK(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	setFault(t, s, Fault{Kind: FaultGBK})
	for code, want := range map[string]string{
		"x": "\"\xca\xda\xc8\xa8\xc2\xebcode\xce\xde\xd0\xa7\"", login(t, s, alipayApp, "alice"): "\"\xd5\xc5\xc8\xfd\"",
	} {
		recorder := c.exchange(code)
		body := recorder.Body.Bytes()
		members := topLevel(t, body)
		if utf8.Valid(body) || !bytes.Contains(body, []byte(want)) || recorder.Header().Get("Content-Type") != "text/html;charset=GBK" {
			t.Errorf("answer is %v %q", recorder.Header(), body)
		}
		if !c.isSealed(members, members[0].value) {
			t.Errorf("the signature is wrong: %q", body)
		}
	}
	for subCode := range alipayCodes {
		if text := toGBK(encodeJSON(alipayError{subCode: subCode}.failure())); bytes.ContainsRune(text, '?') {
			t.Errorf("%s cannot be written in GBK: %q", subCode, text)
		}
	}
	if got := toGBK([]byte("a龘b")); string(got) != "a?b" {
		t.Errorf("it is %q", got)
	}
}

// Any sub_code comes with its code and msg in the node in which the API has its
// errors, and spends nothing unless it is told to.
func TestAlipayFaultErrcode(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	for subCode, known := range alipayCodes {
		setFault(t, s, Fault{Kind: FaultErrcode, Path: alipayPath, Code: subCode, Times: 2})
		for method, node := range map[string]string{
			alipayTokenMethod: alipayErrorNode, alipayUserMethod: "alipay_user_info_share_response",
		} {
			body := c.send(c.query(method, nil), codeForm("x")).Body.Bytes()
			if subCode == "isv.invalid-app-id" {
				continue // not signed
			}
			object := c.open(body, node)
			if object["code"] != known.code || object["sub_code"] != subCode || object["sub_msg"] != known.subMsg ||
				object["msg"] != alipayMessages[known.code] || object["msg"] == "" {
				t.Errorf("answer is %s", body)
			}
		}
		s.ClearFaults()
	}
	for _, after := range []bool{false, true} {
		code := login(t, s, alipayApp, "alice")
		setFault(t, s, Fault{Kind: FaultErrcode, Program: alipayApp, Code: "ACQ.STRANGE", Message: "奇怪", After: after, Times: 1})
		object := c.open(c.exchange(code).Body.Bytes(), alipayErrorNode)
		if object["code"] != "40004" || object["msg"] != "Business Failed" || object["sub_msg"] != "奇怪" {
			t.Errorf("node is %v", object)
		}
		if fresh := strings.Contains(c.exchange(code).Body.String(), "access_token"); fresh == after {
			t.Errorf("after %v: the code is fresh: %v", after, fresh)
		}
	}
	// An error that nobody signed.
	code := login(t, s, alipayApp, "alice")
	setFault(t, s, Fault{Kind: FaultUnsigned, Code: "isv.code-invalid", Times: 1})
	want := `{"error_response":{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.code-invalid","sub_msg":"授权码code无效"}}`
	if body := c.exchange(code).Body.String(); body != want {
		t.Errorf("answer is %s", body)
	}
	c.open(c.exchange(code).Body.Bytes(), tokenNode)
}

// What is rewritten is signed again, so that only its shape is wrong.
func TestAlipayFaultRewrites(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	for name, test := range map[string]struct {
		fault Fault
		want  func(map[string]any) bool
	}{
		"string numbers": {Fault{Kind: FaultStringNumbers}, func(o map[string]any) bool {
			return o["expires_in"] == "1296000" && o["re_expires_in"] == "2592000"
		}},
		"no ids": {Fault{Kind: FaultMissingFields, Fields: []string{"open_id", "union_id"}}, func(o map[string]any) bool {
			return o["open_id"] == nil && o["access_token"] != nil
		}},
		"nothing": {Fault{Kind: FaultMissingFields}, func(o map[string]any) bool { return len(o) == 0 }},
		"wrong type": {Fault{Kind: FaultWrongTypes, Fields: []string{"open_id"}, Value: json.RawMessage(`7`)}, func(o map[string]any) bool {
			return o["open_id"] == 7.0
		}},
	} {
		s.ClearFaults()
		setFault(t, s, test.fault)
		if object := c.signIn(); !test.want(object) {
			t.Errorf("%s: node is %v", name, object)
		}
	}
}

// A fault may be for one API of those that share the path, wherever the name of
// the API stands.
func TestAlipayFaultScope(t *testing.T) {
	s, _ := newAlipayTest(t)
	c := clientOf(t, s, alipayApp)
	token := c.signIn("auth_user")["access_token"]
	calls := map[string]func() string{
		"token": func() string { return c.exchange("x").Body.String() },
		"user":  func() string { return string(c.userInfo(token)) },
		"other": func() string { return clientOf(t, s, alipayOther).exchange("x").Body.String() },
		"body": func() string {
			query := c.query(alipayTokenMethod, nil)
			all := codeForm("x")
			for name, values := range query {
				if name != "charset" {
					all[name] = values
				}
			}
			return c.sendForm(all)
		},
		"wechat": func() string { return do(s, http.MethodGet, loginURL("x"), "").Body.String() },
	}
	for name, test := range map[string]struct {
		fault Fault
		hits  []string
	}{
		"API":       {Fault{Kind: FaultErrcode, Path: alipayTokenMethod}, []string{"token", "other", "body"}},
		"other API": {Fault{Kind: FaultErrcode, Path: alipayUserMethod}, []string{"user"}},
		"program":   {Fault{Kind: FaultErrcode, Program: alipayApp}, []string{"token", "user", "body"}},
		"both":      {Fault{Kind: FaultErrcode, Program: alipayOther, Path: alipayTokenMethod}, []string{"other"}},
		"path":      {Fault{Kind: FaultErrcode, Path: alipayPath}, []string{"token", "user", "other", "body"}},
		"disguise":  {Fault{Kind: FaultUnsigned}, []string{"token", "user", "other", "body"}},
	} {
		s.ClearFaults()
		test.fault.Code = "isv.app-call-limited"
		setFault(t, s, test.fault)
		for call, make := range calls {
			if hit := strings.Contains(make(), "isv.app-call-limited"); hit != slices.Contains(test.hits, call) {
				t.Errorf("%s: the call of %s is hit: %v", name, call, hit)
			}
		}
	}
	for name, fault := range map[string]Fault{
		"disguise of WeChat":   {Kind: FaultUnsigned, Program: testApp},
		"disguise of a path":   {Kind: FaultGBK, Path: weChatLoginPath},
		"errcode of WeChat":    {Kind: FaultErrcode, Program: alipayApp, Code: "not a code"},
		"sub_code to everyone": {Kind: FaultErrcode, Code: "isv.code-invalid"},
		"unknown API":          {Kind: FaultGarbage, Path: "alipay.trade.pay"},
		"API of another":       {Kind: FaultGarbage, Path: alipayTokenMethod, Program: testApp},
		"first of unsigned":    {Kind: FaultUnsigned, First: true},
		"forged garbage":       {Kind: FaultForgedNode, Value: json.RawMessage(`{`)},
	} {
		if err := s.SetFault(fault); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	// Calls are counted by API.
	s.ResetCalls()
	for _, make := range calls {
		make()
	}
	if n, m := s.Calls().Count("", alipayTokenMethod), s.Calls().Count("", alipayPath); n != 3 || m != 4 {
		t.Errorf("%d and %d calls counted", n, m)
	}
}
