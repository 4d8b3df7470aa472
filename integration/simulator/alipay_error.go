// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"regexp"
)

// alipayError is a sub_code of Alipay, with a text of its own or the usual one
// (https://opendocs.alipay.com/common/02km9f).
type alipayError struct{ subCode, subMsg string }

// alipayMessages are the msgs of the codes.
var alipayMessages = map[string]string{
	"10000": "Success",
	"20000": "Service Currently Unavailable",
	"20001": "Insufficient Token Permissions",
	"40001": "Missing Required Arguments",
	"40002": "Invalid Arguments",
	"40003": "Insufficient Conditions",
	"40004": "Business Failed",
	"40005": "Call Limited",
	"40006": "Insufficient Permissions",
}

const (
	alipayCharsetMissing = "验签出错，请确认charset参数放在了URL查询字符串中且各参数值使用charset参数指示的字符集编码"
	alipaySignatureWrong = "验签出错，建议检查签名字符串或签名私钥与应用公钥是否匹配，网关生成的验签字符串为："
)

// alipayCode is the code above a sub_code, and its usual text.
type alipayCode struct{ code, subMsg string }

// alipayCodes are the sub_codes: those of the gateway
// (https://opendocs.alipay.com/common/02km9f) and those of the APIs
// (https://opendocs.alipay.com/open/02ailc,
// https://opendocs.alipay.com/open/02aild).
var alipayCodes = map[string]alipayCode{
	"isp.unknow-error": {"20000", "系统繁忙"},
	"aop.unknow-error": {"20000", "系统繁忙"},

	"aop.invalid-auth-token":            {"20001", "无效的访问令牌"},
	"aop.auth-token-time-out":           {"20001", "访问令牌已过期"},
	"aop.invalid-app-auth-token":        {"20001", "无效的应用授权令牌"},
	"aop.app-auth-token-time-out":       {"20001", "应用授权令牌已过期"},
	"aop.invalid-app-auth-token-no-api": {"20001", "应用授权令牌未授权当前接口"},
	"aop.no-product-reg-by-partner":     {"20001", "商户未签约产品"},

	"isv.missing-method":         {"40001", "缺少方法名参数"},
	"isv.missing-signature":      {"40001", "缺少签名参数"},
	"isv.missing-signature-type": {"40001", "缺少签名类型参数"},
	"isv.missing-signature-key":  {"40001", "缺少签名配置"},
	"isv.missing-app-id":         {"40001", "缺少AppID参数"},
	"isv.missing-timestamp":      {"40001", "缺少时间戳参数"},
	"isv.missing-version":        {"40001", "缺少版本参数"},

	"isv.code-invalid":                {"40002", "授权码code无效"},
	"isv.grant-type-invalid":          {"40002", "授权类型grant_type无效"},
	"isv.refresh-token-invalid":       {"40002", "刷新令牌refresh_token无效"},
	"isv.refresh-token-time-out":      {"40002", "刷新令牌refresh_token已过期"},
	"isv.refreshed-token-invalid":     {"40002", "刷新出来的令牌无效"},
	"isv.unmatched-app-id":            {"40002", "应用ID不匹配"},
	"isv.invalid-parameter":           {"40002", "参数无效"},
	"isv.invalid-method":              {"40002", "不存在的方法名"},
	"isv.invalid-format":              {"40002", "无效的数据格式"},
	"isv.invalid-signature-type":      {"40002", "无效的签名类型"},
	"isv.invalid-signature":           {"40002", "无效签名"},
	"isv.invalid-app-id":              {"40002", "无效的AppID参数"},
	"isv.invalid-timestamp":           {"40002", "非法的时间戳参数"},
	"isv.invalid-charset":             {"40002", "字符集错误"},
	"isv.suspected-attack":            {"40002", "可疑的攻击请求"},
	"isv.forbidden-api":               {"40002", "不允许访问该类型的接口"},
	"isv.app-cert-not-exist":          {"40002", "应用公钥证书不存在"},
	"isv.app-cert-expired":            {"40002", "应用公钥证书已过期"},
	"isv.alipay-cert-not-exist":       {"40002", "支付宝公钥证书不存在"},
	"isv.missing-app-cert-sn":         {"40002", "缺少应用公钥证书序列号"},
	"isv.missing-alipay-root-cert-sn": {"40002", "缺少支付宝根证书序列号"},
	"isv.invalid-alipay-root-cert-sn": {"40002", "无效的支付宝根证书序列号"},
	"not-online-app":                  {"40002", "应用未上线"},
	"invalid-openid":                  {"40002", "无效的openid"},

	"isv.missing-signature-config":               {"40003", "验签出错, 未配置对应签名算法的公钥或者证书"},
	"isv.decryption-error-not-valid-encrypt-key": {"40003", "解密出错，不合法的密钥"},
	"invalid-auth-relations":                     {"40003", "无效的授权关系"},

	"isv.app-call-limited":    {"40005", "应用调用次数超限"},
	"isv.method-call-limited": {"40005", "接口调用次数超限"},

	"isv.insufficient-isv-permissions":  {"40006", "ISV权限不足"},
	"isv.insufficient-user-permissions": {"40006", "用户权限不足"},
	"isv.self-invoke-forbidden":         {"40006", "此用户不允许自调用"},
	"isv.ip-forbidden":                  {"40006", "请求IP不在白名单中"},
}

// Error implements error.
func (e alipayError) Error() string { return e.subCode }

// alipayFailure is the node of an error, in the order of the wire.
type alipayFailure struct {
	Code    string `json:"code"`
	Msg     string `json:"msg"`
	SubCode string `json:"sub_code"`
	SubMsg  string `json:"sub_msg"`
}

// failure returns what Alipay says. A sub_code that is not in the list is one
// of the business.
func (e alipayError) failure() alipayFailure {
	known, found := alipayCodes[e.subCode]
	if !found {
		known = alipayCode{code: "40004", subMsg: e.subCode}
	}
	return alipayFailure{
		Code:    known.code,
		Msg:     alipayMessages[known.code],
		SubCode: e.subCode,
		SubMsg:  orDefault(e.subMsg, known.subMsg),
	}
}

// refusal answers an error. alipay.system.oauth.token has its errors in
// error_response, where the other APIs have their own nodes
// (https://opendocs.alipay.com/open/02ailc). To a program that it does not know
// Alipay answers in the node of the API and does not sign.
func (a *alipay) refusal(r *alipayRequest, err error) answer {
	failure := alipayError{subCode: "isp.unknow-error"}
	errors.As(err, &failure)
	reply := &alipayReply{
		program: a.programs[r.params["app_id"]],
		success: alipayNode(r.params["method"]),
		name:    alipayErrorNode,
		node:    encodeJSON(failure.failure()),
	}
	if failure.subCode == "isv.invalid-app-id" {
		reply.program = nil
	}
	if known := alipayMethods[r.params["method"]] != nil; known &&
		(reply.program == nil || r.params["method"] != alipayTokenMethod) {
		reply.name = reply.success
	}
	return reply.answer()
}

// alipayCodeForm is the form of a sub_code.
var alipayCodeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9._-]+)?$`)

// checkCode implements platform.
func (a *alipay) checkCode(code string) error {
	if !alipayCodeForm.MatchString(code) {
		return fmt.Errorf("a sub_code of Alipay is a word such as isv.code-invalid, not %q", code)
	}
	return nil
}

// refuse implements platform.
func (a *alipay) refuse(c *call, code, message string) answer {
	return a.refusal(parseAlipayRequest(c), alipayError{code, message})
}
