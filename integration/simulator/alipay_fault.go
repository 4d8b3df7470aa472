// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
)

// The kinds of faults that a signed answer can have. They are of Alipay. Without
// a Code the call is carried out and its answer disguised; with one, it is the
// refusal with this code that is disguised. [All: Code, Message, After]
const (
	// FaultUnsigned leaves the signature out.
	FaultUnsigned FaultKind = "unsigned"
	// FaultWrongSignature breaks the signature.
	FaultWrongSignature FaultKind = "wrong_signature"
	// FaultOtherSignature puts Alipay's signature of another node in its place.
	FaultOtherSignature FaultKind = "other_signature"
	// FaultForgedNode puts a forged node, not signed, where the caller expects
	// success, and what is genuine and signed, whatever it is, into
	// error_response. [Value: the forged node, by default a success; First]
	FaultForgedNode FaultKind = "forged_node"
	// FaultDuplicateNode puts a forged node of the same name beside the signed
	// one. [Value; First]
	FaultDuplicateNode FaultKind = "duplicate_node"
	// FaultCaseNode puts a forged node beside the signed one, whose name differs
	// in case alone. [Value; First]
	FaultCaseNode FaultKind = "case_node"
	// FaultExtraFields puts members at the end of the node before it is signed:
	// unknown ones, the same again, or names that differ in case alone. [Value:
	// required, an object]
	FaultExtraFields FaultKind = "extra_fields"
	// FaultSignFirst puts the signature before the node, which is genuine.
	FaultSignFirst FaultKind = "sign_first"
	// FaultWhiteSpace puts white space wherever JSON has room for it. The node is
	// signed as it is sent.
	FaultWhiteSpace FaultKind = "white_space"
	// FaultEscapedSlashes writes slashes as \/, but signs the text without the
	// backslashes. A node without slashes gets one.
	FaultEscapedSlashes FaultKind = "escaped_slashes"
	// FaultGBK writes and signs in GBK. A node without Chinese gets some.
	FaultGBK FaultKind = "gbk"
)

// isAlipay reports whether only answers of Alipay can have a fault of this kind.
func (k FaultKind) isAlipay() bool { return disguises[k] != nil }

// disguises make the answers of the kinds above, from the reply that would be
// sent without them.
var disguises = map[FaultKind]func(Fault, alipayReply) answer{
	FaultUnsigned: func(_ Fault, r alipayReply) answer {
		r.program = nil
		return r.answer()
	},
	FaultWrongSignature: func(_ Fault, r alipayReply) answer { return r.brokenSeal() },
	FaultOtherSignature: func(_ Fault, r alipayReply) answer {
		return r.sealed([]byte(`{"code":"10000","msg":"Success"}`))
	},
	FaultForgedNode: func(f Fault, r alipayReply) answer {
		forged := r.success
		r.name = alipayErrorNode
		return r.beside(f, forged)
	},
	FaultDuplicateNode: func(f Fault, r alipayReply) answer { return r.beside(f, r.name) },
	FaultCaseNode:      func(f Fault, r alipayReply) answer { return r.beside(f, strings.ToUpper(r.name)) },
	FaultExtraFields: func(f Fault, r alipayReply) answer {
		r.node = joinObjects(r.node, f.Value)
		return r.answer()
	},
	FaultSignFirst: func(_ Fault, r alipayReply) answer {
		return r.wrap(append(r.seals(r.node), alipayMember{r.name, r.node}))
	},
	FaultWhiteSpace:     func(_ Fault, r alipayReply) answer { return r.spaced() },
	FaultEscapedSlashes: func(_ Fault, r alipayReply) answer { return r.escaped() },
	FaultGBK:            func(_ Fault, r alipayReply) answer { return r.gbk() },
}

// disguise gives an answer of Alipay the fault.
func (f Fault) disguise(genuine answer) answer {
	if genuine.reply == nil {
		return genuine
	}
	return disguises[f.Kind](f, *genuine.reply)
}

// brokenSeal answers with one byte of the signature changed.
func (r *alipayReply) brokenSeal() answer {
	members := []alipayMember{{r.name, r.node}}
	for _, member := range r.seals(r.node) {
		if member.name == "sign" {
			member.value = encodeJSON(breakSignature(member.value))
		}
		members = append(members, member)
	}
	return r.wrap(members)
}

// breakSignature changes a byte in the middle of a signature in JSON.
func breakSignature(text []byte) string {
	var signature string
	if err := json.Unmarshal(text, &signature); err != nil {
		panic("reading a signature of the simulator: " + err.Error())
	}
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		panic("reading a signature of the simulator: " + err.Error())
	}
	raw[len(raw)/2] ^= 1
	return base64.StdEncoding.EncodeToString(raw)
}

// forgedNode is a success that Alipay never said.
const forgedNode = `{"code":"10000","msg":"Success","access_token":"authusrBforged000000000000000000000000X01",` +
	`"auth_start":"2026-01-02 03:04:06","expires_in":1296000,"re_expires_in":2592000,` +
	`"refresh_token":"authusrBforged000000000000000000000000X02",` +
	`"open_id":"099forged-forged-forged-forged-forged-forged-01","user_id":"2088999999999999","nick_name":"forged"}`

// beside answers with a forged node beside what is genuine.
func (r *alipayReply) beside(f Fault, name string) answer {
	forged := alipayMember{name, []byte(forgedNode)}
	if len(f.Value) > 0 {
		forged.value = f.Value
	}
	members := []alipayMember{{r.name, r.node}, forged}
	if f.First {
		members[0], members[1] = members[1], members[0]
	}
	return r.wrap(append(members, r.seals(r.node)...))
}

// joinObjects puts the members of two JSON objects, neither of them empty, into
// one.
func joinObjects(a, b []byte) []byte {
	joined := bytes.TrimSuffix(bytes.Clone(a), []byte("}"))
	joined = append(joined, ',')
	return append(joined, bytes.TrimPrefix(bytes.TrimSpace(b), []byte("{"))...)
}

// indentedName is the name of a member at the beginning of a line.
var indentedName = regexp.MustCompile(`(?m)^(\s*"[A-Za-z_]+"): `)

// spaced answers with white space everywhere.
func (r *alipayReply) spaced() answer {
	var node bytes.Buffer
	if err := json.Indent(&node, r.node, " \t", "\r\n "); err != nil {
		panic("indenting an answer of the simulator: " + err.Error())
	}
	r.node = indentedName.ReplaceAll(node.Bytes(), []byte("$1\n: \t"))
	body := []byte("\r\n \t{ ")
	for i, member := range append([]alipayMember{{r.name, r.node}}, r.seals(r.node)...) {
		if i > 0 {
			body = append(body, " \n,\t"...)
		}
		body = append(body, encodeJSON(member.name)...)
		body = append(body, " \n:\t\r "...)
		body = append(body, member.value...)
	}
	return r.send(append(body, "\n} \r\n\t"...))
}

// escaped answers with escaped slashes, of which the signature knows nothing.
func (r *alipayReply) escaped() answer {
	plain := bytes.ReplaceAll(r.node, []byte(`\/`), []byte("/"))
	if !bytes.Contains(plain, []byte("/")) {
		plain = appendMember(bytes.Clone(plain), "avatar", "https://tfs.alipayobjects.com/images/partner/a.png")
	}
	r.node = bytes.ReplaceAll(plain, []byte("/"), []byte(`\/`))
	return r.sealed(plain)
}

// gbk answers in GBK, as to a caller whose charset Alipay did not see
// (https://opensupport.alipay.com/support/helpcenter/192/201602472810).
func (r *alipayReply) gbk() answer {
	if isASCII(r.node) {
		r.node = appendMember(bytes.Clone(r.node), "nick_name", "张三")
	}
	r.node = toGBK(r.node)
	a := r.answer()
	a.contentType = "text/html;charset=GBK"
	return a
}
