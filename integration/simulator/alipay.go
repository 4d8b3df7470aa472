// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// alipayPath is where the v2 gateway of Alipay is: in production, in both
	// sandboxes and here
	// (https://opendocs.alipay.com/common/02kkv7).
	alipayPath = "/gateway.do"
	// defaultAlipayCodeLifetime is the shortest that Alipay gives a code
	// (https://opendocs.alipay.com/mini/api/openapi-authorize).
	defaultAlipayCodeLifetime = 3 * time.Minute
)

// alipayZone is the zone of all times that Alipay reads and writes, GMT+8. It has no summer time.
var alipayZone = time.FixedZone("CST", 8*60*60)

// alipayStatus is the HTTP status of all that the gateway says.
const alipayStatus = http.StatusOK

// alipayTime is the form of all times that Alipay reads and writes.
const alipayTime = "2006-01-02 15:04:05"

// alipay is openapi.alipay.com as far as the servers of mini-programs sign in
// users through it.
type alipay struct {
	now      func() time.Time
	programs map[string]*alipayProgram
	grants   alipayGrants
}

// alipayProgram is a mini-program with all that Alipay knows about it.
type alipayProgram struct {
	Program
	alipayCredentials

	mu      sync.Mutex
	codes   codeBook[alipayConsent]
	access  codeBook[alipayConsent]
	refresh codeBook[alipayConsent]
	users   map[string]alipayUser
	limit   int
	// migration is the stage of the program; that of a user can differ.
	migration Migration
	// signer signs what Alipay says, since the last rotation.
	signer *alipaySigner
	// downloads are the files of Alipay's certificates, by serial number.
	downloads map[string]string
	rotations int
}

// newAlipay makes Alipay with the programs of config.
func newAlipay(config Config) (platform, error) {
	a := &alipay{now: config.Now, programs: make(map[string]*alipayProgram)}
	for _, program := range config.Programs {
		credentials, err := newAlipayCredentials(program)
		if err != nil {
			return nil, fmt.Errorf("program %q: %w", program.AppID, err)
		}
		a.programs[program.AppID] = &alipayProgram{
			Program:           program,
			alipayCredentials: credentials,
			codes:             newCodeBook[alipayConsent](program.CodeLifetime, config.MaxCodes),
			access:            newCodeBook[alipayConsent](alipayTokenLifetime, config.MaxCodes),
			refresh:           newCodeBook[alipayConsent](alipayRefreshLifetime, config.MaxCodes),
			users:             make(map[string]alipayUser),
			limit:             config.MaxUsers,
			migration:         program.Migration,
			signer:            credentials.first,
			downloads:         map[string]string{credentials.first.sn: credentials.first.file},
		}
	}
	return a, nil
}

// alipayMethods are the APIs of the gateway, by the name in the parameter
// method.
var alipayMethods = map[string]func(*alipay, *alipayRequest) (any, error){
	alipayTokenMethod:    (*alipay).token,
	alipayUserMethod:     (*alipay).userInfo,
	alipayCertMethod:     (*alipay).downloadCert,
	alipayAppTokenMethod: (*alipay).appToken,
}

// endpoints implements platform. The parameters may stand in the query or in
// the body.
func (a *alipay) endpoints() map[string]endpoint {
	return map[string]endpoint{alipayPath: {
		program: func(c *call) string { return parseAlipayRequest(c).params["app_id"] },
		inBody:  true,
		apis:    slices.Sorted(maps.Keys(alipayMethods)),
		api:     func(c *call) string { return parseAlipayRequest(c).params["method"] },
		serve:   a.serve,
	}}
}

// serve carries out a call.
func (a *alipay) serve(c *call) answer {
	request := parseAlipayRequest(c)
	if err := a.authenticate(request); err != nil {
		return a.refusal(request, err)
	}
	result, err := alipayMethods[request.params["method"]](a, request)
	if err != nil {
		return a.refusal(request, err)
	}
	reply := &alipayReply{
		program: request.program,
		success: alipayNode(request.params["method"]),
		name:    alipayNode(request.params["method"]),
		node:    alipayText(result),
	}
	if _, isDownload := result.(alipayDownload); isDownload {
		reply.program = nil // whoever asks for a certificate cannot verify yet
	}
	return reply.answer()
}

// login implements platform. The code has 32 characters, as seen on phones,
// and is of the program that asked for it
// (https://opendocs.alipay.com/mini/api/openapi-authorize).
func (a *alipay) login(program, user string, scopes []string) (string, error) {
	if len(scopes) == 0 {
		scopes = []string{alipayScopeBase}
	}
	if err := checkAlipayScopes(scopes); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	p := a.programs[program]
	code, now := randomText(alphanumeric, 32), a.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes.issue(now, code, alipayConsent{user: user, scopes: slices.Clone(scopes), given: now})
	return code, nil
}

// rewrite implements platform. What is changed is signed again: Alipay would
// have signed it.
func (a *alipay) rewrite(genuine answer, change func(any) any) answer {
	if genuine.reply == nil {
		return genuine
	}
	reply := *genuine.reply
	reply.node = rewriteJSON(reply.node, change)
	return reply.answer()
}

// identity implements platform.
func (a *alipay) identity(program, user string) Identity {
	return a.programs[program].identityOf(user)
}

// sessionKey implements platform.
func (a *alipay) sessionKey(string, string) (string, error) {
	return "", fmt.Errorf("%w: Alipay has no session keys", ErrInvalid)
}

// Migration says by which ids Alipay names the users of a program
// (https://opendocs.alipay.com/mini/0ai2i6).
type Migration string

// The stages of the migration from user ids to open ids, in their order.
const (
	// MigrationUserID tells the user id alone, as to programs of old.
	MigrationUserID Migration = "user_id"
	// MigrationBoth tells both ids.
	MigrationBoth Migration = "both"
	// MigrationOpenID tells the open id alone, as to new programs.
	MigrationOpenID Migration = "open_id"
)

// check returns an error where there is no such stage.
func (m Migration) check() error {
	switch m {
	case MigrationUserID, MigrationBoth, MigrationOpenID:
		return nil
	default:
		return fmt.Errorf("migration must be user_id, both or open_id, not %q", string(m))
	}
}

// alipayDefaults checks a program of Alipay and returns it complete.
func (p Program) alipayDefaults() (Program, error) {
	if p.SessionKeyPeriod != 0 || p.SessionKeyLifetime != 0 {
		return p, errors.New("a program of Alipay has no session keys")
	}
	if p.Seed != "" && p.Secret == DemoSecret {
		return p, errors.New("the demo keys have no seed")
	}
	p.Certificates = p.Certificates || p.Sandbox
	p.CodeLifetime = orDefault(p.CodeLifetime, defaultAlipayCodeLifetime)
	p.Migration = orDefault(p.Migration, MigrationOpenID)
	return p, p.Migration.check()
}

// hasAlipayOptions reports whether a program has options that only one of
// Alipay can have.
func (p Program) hasAlipayOptions() bool {
	return p.Migration != "" || p.Certificates || p.Sandbox || p.Seed != "" || p.AESKey != ""
}

// alipayOf returns the platform and the program of this app id, if it is one of
// Alipay.
func (s *Simulator) alipayOf(program string) (*alipay, *alipayProgram, error) {
	if s.programs[program] == nil {
		return nil, nil, ErrUnknownProgram
	}
	a, isAlipay := s.programs[program].(*alipay)
	if !isAlipay {
		return nil, nil, fmt.Errorf("%w: %q is not a program of Alipay", ErrInvalid, program)
	}
	return a, a.programs[program], nil
}

// Interface guard
var _ platform = (*alipay)(nil)
