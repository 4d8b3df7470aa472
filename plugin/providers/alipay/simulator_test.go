// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package alipay

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
	"github.com/minigate/minigate/module/provider"
)

const alice = "alice"

// simulated are programs of the simulator, in key mode and in certificate mode.
var simulated = map[string]simulator.Program{
	"keys":         {Platform: "alipay", AppID: "2021000000000021", Secret: simulator.DemoSecret},
	"certificates": {Platform: "alipay", AppID: "2021000000000022", Secret: simulator.DemoSecret, Certificates: true},
}

// simulate runs a simulator with a program in each mode, and the provider of each,
// and tests them.
func simulate(t *testing.T, test func(t *testing.T, s *simulator.Simulator, p *Provider)) {
	for mode, program := range simulated {
		t.Run(mode, func(t *testing.T) {
			s, err := simulator.New(simulator.Config{Programs: []simulator.Program{program}})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			test(t, s, start(t, configured(t, s, program.AppID, server.URL+"/gateway.do")))
		})
	}
}

// configured is the provider of a simulated program, before it is provisioned.
func configured(t *testing.T, s *simulator.Simulator, appID, base string) *Provider {
	t.Helper()
	keys, err := s.AlipayKeys(appID)
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{ID: appID, PrivateKey: keys.AppPrivateKey, AESKey: keys.AESKey, API: []string{base}}
	if p.AppCert, p.AlipayCert, p.AlipayRootCert = keys.AppCert, keys.AlipayCert, keys.AlipayRootCert; p.AppCert == "" {
		p.AlipayPublicKey = keys.AlipayPublicKey
	}
	return p
}

// codeOf is a code of alice's.
func codeOf(t *testing.T, s *simulator.Simulator, p *Provider, scopes ...string) string {
	t.Helper()
	code, err := s.Login(p.ID, alice, scopes...)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestSimulatedUserInfo(t *testing.T) {
	simulate(t, func(t *testing.T, s *simulator.Simulator, p *Provider) {
		identity, err := s.Identity(p.ID, alice)
		if err != nil {
			t.Fatal(err)
		}
		for stage, want := range map[simulator.Migration]provider.Grant{
			simulator.MigrationUserID: {UserID: identity.UserID, Renames: true},
			simulator.MigrationBoth:   {UserID: identity.UserID, OpenID: identity.OpenID, UnionID: identity.UnionID, Renames: true},
			simulator.MigrationOpenID: {OpenID: identity.OpenID, UnionID: identity.UnionID, Renames: true},
		} {
			if err := s.SetMigration(p.ID, alice, stage); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				profile map[string]string
				want    provider.UserInfo
			}{
				{map[string]string{}, provider.UserInfo{}},
				{
					map[string]string{
						"nick_name": `张"}三\`, "avatar": "http://tfs.alipayobjects.com/a.png", "gender": "M", "country_code": "CN",
						"province": "浙江省", "city": "杭州市", "email": "a@b.cn", "mobile": "852-51234567", "user_type": "2",
					},
					provider.UserInfo{
						Nickname: `张"}三\`, AvatarURL: "https://tfs.alipayobjects.com/a.png", Gender: "male", Country: "CN",
						Province: "浙江省", City: "杭州市", Email: "a@b.cn", PhoneNumber: "51234567", CountryCode: "852",
					},
				},
				{map[string]string{"mobile": "138****8000", "email": "a**@b.cn", "nick_name": "x\u202ey"}, provider.UserInfo{}},
			} {
				if err := s.SetProfile(p.ID, alice, test.profile); err != nil {
					t.Fatal(err)
				}
				code := codeOf(t, s, p, "auth_user")
				grant, info, err := p.UserInfoByCode(t.Context(), code)
				if err != nil || grant != want || info != test.want {
					t.Fatalf("%s: got %+v %+v %v", stage, grant, info, err)
				}
				// A code is a code: it works once, for a login, too.
				_, _, err = p.UserInfoByCode(t.Context(), code)
				if e := errorOf(t, err); e.Reason != provider.CodeInvalid || e.PlatformCode != "isv.code-invalid" || e.TraceID == "" {
					t.Errorf("got %v", err)
				}
			}
		}
		for _, scopes := range [][]string{nil, {"auth_base"}} {
			_, info, err := p.UserInfoByCode(t.Context(), codeOf(t, s, p, scopes...))
			if e := errorOf(t, err); e.Reason != provider.ConsentMissing || e.PlatformCode != "isv.insufficient-user-permissions" || info != (provider.UserInfo{}) {
				t.Errorf("got %+v %v", info, err)
			}
		}
	})
}

// Whatever becomes of the second call, it is not made again, nor is the first.
func TestSimulatedFaults(t *testing.T) {
	forged := json.RawMessage(`{"code":"10000","msg":"Success","nick_name":"forged"}`)
	simulate(t, func(t *testing.T, s *simulator.Simulator, p *Provider) {
		for name, test := range map[string]struct {
			fault simulator.Fault
			want  string // the reason, empty if all is well
		}{
			"reset":           {simulator.Fault{Kind: simulator.FaultReset, After: true}, "unavailable"},
			"garbage":         {simulator.Fault{Kind: simulator.FaultGarbage}, "platform_fault"},
			"huge":            {simulator.Fault{Kind: simulator.FaultHuge, Bytes: 1 << 20}, "platform_fault"},
			"502":             {simulator.Fault{Kind: simulator.FaultStatus, Status: 502}, "unavailable"},
			"redirect":        {simulator.Fault{Kind: simulator.FaultRedirect}, "platform_fault"},
			"busy":            {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isp.unknow-error"}, "unavailable"},
			"not bound":       {simulator.Fault{Kind: simulator.FaultErrcode, Code: "isv.insufficient-isv-permissions"}, "misconfigured"},
			"token expired":   {simulator.Fault{Kind: simulator.FaultErrcode, Code: "aop.auth-token-time-out"}, "consent_missing"},
			"not signed":      {simulator.Fault{Kind: simulator.FaultUnsigned}, "platform_fault"},
			"refused so":      {simulator.Fault{Kind: simulator.FaultUnsigned, Code: "aop.invalid-auth-token"}, "consent_missing"},
			"wrong signature": {simulator.Fault{Kind: simulator.FaultWrongSignature}, "platform_fault"},
			"other signature": {simulator.Fault{Kind: simulator.FaultOtherSignature}, "platform_fault"},
			"forged node":     {simulator.Fault{Kind: simulator.FaultForgedNode, Value: forged}, "platform_fault"},
			"forged first":    {simulator.Fault{Kind: simulator.FaultForgedNode, Value: forged, First: true}, "platform_fault"},
			"duplicate node":  {simulator.Fault{Kind: simulator.FaultDuplicateNode, Value: forged}, "platform_fault"},
			"case node":       {simulator.Fault{Kind: simulator.FaultCaseNode, Value: forged}, "platform_fault"},
			"twin names":      {simulator.Fault{Kind: simulator.FaultExtraFields, Value: json.RawMessage(`{"Nick_Name":"forged"}`)}, "platform_fault"},
			"id not told":     {simulator.Fault{Kind: simulator.FaultExtraFields, Value: json.RawMessage(`{"user_id":"2088999999999999"}`)}, ""},
			"GBK":             {simulator.Fault{Kind: simulator.FaultGBK}, "platform_fault"},
			"no fields":       {simulator.Fault{Kind: simulator.FaultMissingFields, Fields: []string{"code"}}, "platform_fault"},
			"id of no type":   {simulator.Fault{Kind: simulator.FaultWrongTypes, Fields: []string{"open_id"}}, "platform_fault"},
			"name of no type": {simulator.Fault{Kind: simulator.FaultWrongTypes, Fields: []string{"province"}}, ""},
			"new fields":      {simulator.Fault{Kind: simulator.FaultExtraFields, Value: json.RawMessage(`{"new":{"a":[1]}}`)}, ""},
			"sign first":      {simulator.Fault{Kind: simulator.FaultSignFirst}, ""},
			"white space":     {simulator.Fault{Kind: simulator.FaultWhiteSpace}, ""},
			"slashes":         {simulator.Fault{Kind: simulator.FaultEscapedSlashes}, ""},
		} {
			s.ClearFaults()
			test.fault.Path = methodInfo
			if err := s.SetFault(test.fault); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			code := codeOf(t, s, p, "auth_user")
			logins, calls := s.Calls().Count(p.ID, methodToken), s.Calls().Count(p.ID, methodInfo)
			_, info, err := p.UserInfoByCode(t.Context(), code)
			if logins, calls = s.Calls().Count(p.ID, methodToken)-logins, s.Calls().Count(p.ID, methodInfo)-calls; logins != 1 || calls != 1 {
				t.Errorf("%s: %d logins, %d calls", name, logins, calls)
			}
			if test.want == "" {
				if err != nil || info.Nickname != alice {
					t.Errorf("%s: got %+v %v", name, info, err)
				}
				continue
			}
			if e := errorOf(t, err); e.Reason.String() != test.want || info != (provider.UserInfo{}) || !provider.MayHaveSeen(err) {
				t.Errorf("%s: got %+v %v", name, info, err)
			}
			if strings.Contains(err.Error(), "authusrB") || strings.Contains(err.Error(), code) {
				t.Errorf("%s: the error shows a secret: %v", name, err)
			}
		}
	})
}

func TestSimulatedPhoneNumbers(t *testing.T) {
	simulate(t, func(t *testing.T, s *simulator.Simulator, p *Provider) {
		for _, want := range []provider.PhoneNumber{{Number: "13800138000", CountryCode: "86"}, {Number: "1234432112", CountryCode: "1"}} {
			data, err := s.SharePhone(simulator.Phone{Program: p.ID, User: alice, Number: want.Number, CountryCode: want.CountryCode})
			if err != nil {
				t.Fatal(err)
			}
			signed, err := p.OpenSigned(t.Context(), []byte(data))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.PhoneNumber(signed.Plain); err != nil || got != want {
				t.Errorf("got %+v %v", got, err)
			}
		}
		const refusal = `{"code":"40003","msg":"m","subCode":"isv.invalid-auth-relations"}`
		for _, test := range []struct {
			form, data string
			want       string // of the error
		}{
			{simulator.FormSigned, goodPhone, ""},
			{simulator.FormSigned, refusal, "consent missing: platform code isv.invalid-auth-relations: m"},
			{simulator.FormUnsigned, goodPhone, errNotSigned.Error()},
			{simulator.FormUnsigned, refusal, errNotSigned.Error()},
			{simulator.FormPlain, goodPhone, errNotSigned.Error() + "; it says 10000"},
			{simulator.FormPlain, refusal, errNotSigned.Error() + "; it says isv.invalid-auth-relations"},
			{simulator.FormWrongSignature, goodPhone, errNotAlipay.Error()},
			{simulator.FormUnquoted, goodPhone, errNotAlipay.Error()},
		} {
			data, err := s.Encrypt(simulator.Encryption{Program: p.ID, User: alice, Data: json.RawMessage(test.data), Form: test.form})
			if err != nil {
				t.Fatal(err)
			}
			signed, err := p.OpenSigned(t.Context(), []byte(data.Response))
			if test.want == "" && (err != nil || string(signed.Plain) != test.data) || test.want != "" && (err == nil || err.Error() != test.want || signed.Plain != nil) {
				t.Errorf("%s of %s: got %s %v", test.form, test.data, signed.Plain, err)
			}
		}
		if n := s.Calls().Total; n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}

// A program opens what is another's no more than what nobody signed.
func TestPhoneNumbersOfAnotherProgram(t *testing.T) {
	programs := []simulator.Program{simulated["keys"], {Platform: "alipay", AppID: "2021000000000023", Secret: simulator.GenerateSecret, Seed: "another"}}
	s, err := simulator.New(simulator.Config{Programs: programs})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, configured(t, s, programs[0].AppID, "http://127.0.0.1:1/gateway.do"))
	data, err := s.SharePhone(simulator.Phone{Program: programs[1].AppID, User: alice, Number: "13800138000"})
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := p.OpenSigned(t.Context(), []byte(data)); !errors.Is(err, provider.ErrData) {
		t.Errorf("got %s %v", signed.Plain, err)
	}
}

// A telephone number names no certificate. After Alipay changed its own, what is
// signed with the new one opens once the answer of a login has made it known, what
// was signed with the old one still does, and no client can make the gateway call
// Alipay.
func TestSimulatedRotation(t *testing.T) {
	program := simulated["certificates"]
	s, err := simulator.New(simulator.Config{Programs: []simulator.Program{program}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	p := start(t, configured(t, s, program.AppID, server.URL+"/gateway.do"))
	share := func() []byte {
		t.Helper()
		data, err := s.SharePhone(simulator.Phone{Program: p.ID, User: alice, Number: "13800138000"})
		if err != nil {
			t.Fatal(err)
		}
		return []byte(data)
	}
	before := share()
	if _, err := s.Rotate(p.ID, simulator.DownloadGenuine); err != nil {
		t.Fatal(err)
	}
	after := share()
	if _, err := p.OpenSigned(t.Context(), after); !errors.Is(err, provider.ErrData) || s.Calls().Total != 0 {
		t.Errorf("got %v after %d calls", err, s.Calls().Total)
	}
	// Reading and downloading at once.
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 200 {
				if _, err := p.OpenSigned(t.Context(), before); err != nil {
					t.Errorf("got %v", err)
					return
				}
			}
		})
	}
	if _, _, err := p.UserInfoByCode(t.Context(), codeOf(t, s, p, "auth_user")); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	for _, data := range [][]byte{before, after} {
		if _, err := p.OpenSigned(t.Context(), data); err != nil {
			t.Errorf("got %v", err)
		}
	}
	if n := s.Calls().Count(p.ID, methodDownload); n != 1 {
		t.Errorf("%d downloads", n)
	}
}
