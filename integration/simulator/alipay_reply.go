// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"strings"
)

// alipayErrorNode is where alipay.system.oauth.token has its errors.
const alipayErrorNode = "error_response"

// alipayContentType is what Alipay calls its JSON.
const alipayContentType = "text/html;charset=utf-8"

// alipayNode returns the name of the node in which an API answers
// (https://opendocs.alipay.com/common/02mse7).
func alipayNode(method string) string {
	return strings.ReplaceAll(method, ".", "_") + "_response"
}

// alipayReply is what Alipay says, before it is signed.
type alipayReply struct {
	// program is to whom it is said; nil where nothing is signed.
	program *alipayProgram
	// success is the name of the node if all is well, and name what it is.
	success, name string
	// node is the text of the node.
	node []byte
}

// alipayMember is a member of the top level of an answer, its value in JSON.
type alipayMember struct {
	name  string
	value []byte
}

// answer signs the reply. The signature is over the text of the node as it is
// sent, from brace to brace (https://opendocs.alipay.com/common/02mse7).
func (r *alipayReply) answer() answer {
	return r.sealed(r.node)
}

// sealed makes the answer with a signature over content.
func (r *alipayReply) sealed(content []byte) answer {
	members := []alipayMember{{r.name, r.node}}
	return r.wrap(append(members, r.seals(content)...))
}

// seals returns the members that vouch for content. In certificate mode, the
// serial number of Alipay's certificate stands before the signature.
func (r *alipayReply) seals(content []byte) []alipayMember {
	if r.program == nil {
		return nil
	}
	signer := r.program.currentSigner()
	sign := alipayMember{"sign", encodeJSON(signAlipay(signer.key, content))}
	if signer.sn == "" {
		return []alipayMember{sign}
	}
	return []alipayMember{{"alipay_cert_sn", encodeJSON(signer.sn)}, sign}
}

// wrap writes the top level.
func (r *alipayReply) wrap(members []alipayMember) answer {
	body := []byte{'{'}
	for i, member := range members {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, encodeJSON(member.name)...)
		body = append(body, ':')
		body = append(body, member.value...)
	}
	return r.send(append(body, '}'))
}

// send makes the answer of a body. The trace id is for questions to Alipay's
// support.
func (r *alipayReply) send(body []byte) answer {
	return answer{
		status:      alipayStatus,
		contentType: alipayContentType,
		body:        body,
		traceID:     randomText(hexadecimal, 30),
		reply:       r,
	}
}

// alipayText writes the result of an API. Alipay writes the slashes of some
// addresses as \/ and signs them so.
func alipayText(result any) []byte {
	text := encodeJSON(result)
	if _, isProfile := result.(alipayProfile); isProfile {
		text = bytes.ReplaceAll(text, []byte("/"), []byte(`\/`))
	}
	return text
}
