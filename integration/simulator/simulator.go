// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

// Package simulator stands in for the platforms that run mini-programs, so
// that a gateway or an app can be tried, tested and measured without a phone,
// an account or the internet.
//
// It answers the platforms' server interfaces as the platforms do: login codes
// that work once and expire, session keys that rotate, access tokens that kill
// each other, the platform's own error codes. Below /simulator/ it has what
// only a test needs: a phone to obtain a code from, a client that encrypts
// data, faults on demand and a record of the calls received.
//
// It is written from the platforms' documentation and shares no code with the
// gateway's providers, so that a mistake in one of them is seen by the other.
//
// Whoever can reach it can sign in as anyone: it is for loopback and for tests.
package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	defaultCodeLifetime       = 5 * time.Minute
	defaultSessionKeyLifetime = 72 * time.Hour
	defaultRecordedCalls      = 1000
	defaultMaxCodes           = 1 << 18
	defaultMaxUsers           = 100_000
)

// Config says what a Simulator stands in for.
type Config struct {
	// Programs are the mini-programs known to the platforms. At least one.
	Programs []Program
	// Now tells the time. Tests set it to move the clock; it may then be called
	// by several goroutines at once. Default: time.Now.
	Now func() time.Time
	// RecordedCalls is how many of the latest platform calls are kept in full.
	// Default: 1000. All are counted.
	RecordedCalls int
	// MaxCodes is how many unexpired codes of each kind a program remembers,
	// used ones included. The oldest is forgotten first and is then unknown to
	// the platform. Default: 262144.
	MaxCodes int
	// MaxUsers is how many users of a program have a session key. The one that
	// signed in longest ago loses it first. Default: 100000.
	MaxUsers int
}

// Program is one mini-program as its platform knows it. Its users are
// unlimited and need no registration: any name is a user.
type Program struct {
	// Platform is the platform that runs the program: "wechat" or "alipay".
	Platform string
	// AppID names the program. It is unique within a Simulator.
	AppID string
	// Secret is by what the program's server proves itself. On WeChat it is the
	// AppSecret, on Alipay the app's public key or certificate (in PEM or in
	// base64 without lines), DemoSecret or GenerateSecret.
	Secret string
	// CodeLifetime is how long a login code or phone code works. Default: 5
	// minutes, as on WeChat, or 3 minutes on Alipay.
	CodeLifetime time.Duration
	// SessionKeyPeriod is the shortest time between two session keys of one
	// user: a user who signs in again sooner keeps the key. Default: zero, so
	// that every exchange of a code makes a new key and kills the old one.
	SessionKeyPeriod time.Duration
	// SessionKeyLifetime is how long a session key works after the user's last
	// sign-in. Default: 72 hours; WeChat does not publish its own.
	SessionKeyLifetime time.Duration
	// NoUnionID says that the program is not bound to an Open Platform account
	// or, on Alipay, not in a group of apps, so that the platform tells no
	// unionid.
	NoUnionID bool

	// The rest is for programs of Alipay.

	// Migration says by which ids Alipay names users. Default: MigrationOpenID.
	Migration Migration
	// Certificates puts the program into certificate mode. A certificate as
	// Secret does so, too.
	Certificates bool
	// Sandbox is certificate mode as in Alipay's sandbox, where certificates do
	// not reach the root.
	Sandbox bool
	// Seed makes the keys that the simulator generates the same in every run.
	// Whoever knows it has them.
	Seed string
	// AESKey encrypts open data: 16 bytes in base64. Default: the simulator
	// generates one.
	AESKey string
}

// Errors of the functions that tests call, and of the control surface.
var (
	// ErrInvalid says that what was asked for makes no sense; the text says why.
	ErrInvalid = errors.New("invalid request")
	// ErrUnknownProgram says that no such program is configured.
	ErrUnknownProgram = errors.New("unknown program")
	// ErrNoSessionKey says that the user has no session key in force: no login
	// code of the user was exchanged yet, or that was too long ago.
	ErrNoSessionKey = errors.New("the user has no session key; exchange a login code first")
)

// Simulator is the platforms' server interfaces and the control surface in one
// handler. All methods may be called concurrently. It keeps its state in
// memory, runs no goroutines and needs no closing.
type Simulator struct {
	now      func() time.Time
	programs map[string]platform
	routes   map[string]route
	faults   faultList
	calls    *callLog
}

// New makes a Simulator. The error says what is wrong with the configuration,
// and holds no secret.
func New(config Config) (*Simulator, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		now:      config.Now,
		programs: make(map[string]platform),
		routes:   make(map[string]route),
		calls:    newCallLog(config.RecordedCalls),
	}
	groups := make(map[string][]Program)
	for _, program := range config.Programs {
		groups[program.Platform] = append(groups[program.Platform], program)
	}
	for name, programs := range groups {
		group := config
		group.Programs = programs
		p, err := newPlatform(name)(group)
		if err != nil {
			return nil, err
		}
		s.add(p, programs)
	}
	return s, nil
}

// add puts a platform and its programs into service.
func (s *Simulator) add(p platform, programs []Program) {
	for _, program := range programs {
		s.programs[program.AppID] = p
	}
	for path, endpoint := range p.endpoints() {
		s.routes[path] = route{platform: p, endpoint: endpoint}
	}
}

// withDefaults checks a configuration and returns it complete.
func (c Config) withDefaults() (Config, error) {
	if len(c.Programs) == 0 {
		return c, errors.New("a simulator needs at least one program")
	}
	if c.RecordedCalls < 0 || c.MaxCodes < 0 || c.MaxUsers < 0 {
		return c, errors.New("the limits of a simulator must not be negative")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.RecordedCalls = orDefault(c.RecordedCalls, defaultRecordedCalls)
	c.MaxCodes = orDefault(c.MaxCodes, defaultMaxCodes)
	c.MaxUsers = orDefault(c.MaxUsers, defaultMaxUsers)

	seen := make(map[string]bool)
	programs := make([]Program, 0, len(c.Programs))
	for _, program := range c.Programs {
		program, err := program.withDefaults()
		if err != nil {
			return c, fmt.Errorf("program %q: %w", program.AppID, err)
		}
		if seen[program.AppID] {
			return c, fmt.Errorf("program %q is configured twice", program.AppID)
		}
		seen[program.AppID] = true
		programs = append(programs, program)
	}
	c.Programs = programs
	return c, nil
}

// withDefaults checks a program and returns it complete.
func (p Program) withDefaults() (Program, error) {
	if newPlatform(p.Platform) == nil {
		return p, fmt.Errorf("unknown platform %q", p.Platform)
	}
	if p.AppID == "" {
		return p, errors.New("the app id is missing")
	}
	if p.Secret == "" {
		return p, errors.New("the secret is missing")
	}
	if p.CodeLifetime < 0 || p.SessionKeyPeriod < 0 || p.SessionKeyLifetime < 0 {
		return p, errors.New("a duration must not be negative")
	}
	if p.Platform == "alipay" {
		return p.alipayDefaults()
	}
	if p.hasAlipayOptions() {
		return p, errors.New("migration, certificates, seed and aes key are for programs of Alipay")
	}
	p.CodeLifetime = orDefault(p.CodeLifetime, defaultCodeLifetime)
	p.SessionKeyLifetime = orDefault(p.SessionKeyLifetime, defaultSessionKeyLifetime)
	return p, nil
}

// orDefault returns value, or fallback in the place of zero.
func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// ServeHTTP implements http.Handler. To reset a connection on demand, it needs
// a ResponseWriter that can be hijacked, and panics with http.ErrAbortHandler
// where it is none (HTTP/2, httptest.ResponseRecorder).
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.serveControl(w, r)
		return
	}
	route, found := s.routes[r.URL.Path]
	if !found {
		writeControlError(w, http.StatusNotFound, "not_found", "no platform has an interface at this path")
		return
	}
	s.servePlatform(w, newCall(r), route)
}

// servePlatform answers one call of a platform's interface. The body is left
// unread where a fault resets the connection first.
func (s *Simulator) servePlatform(w http.ResponseWriter, c *call, route route) {
	if route.endpoint.inBody && s.faults.wantBody(c.path()) {
		c.readBody()
	}
	program, api := s.programOf(c, route), route.endpoint.apiOf(c)
	fault, faulty := s.faults.take(c.path(), api, program)
	if faulty && fault.Kind == FaultReset && !fault.After {
		s.calls.add(c.record(s.now(), api, program))
		resetConnection(w)
		return
	}
	c.readBody()
	if route.endpoint.inBody {
		program, api = s.programOf(c, route), route.endpoint.apiOf(c)
	}
	s.calls.add(c.record(s.now(), api, program))
	if faulty {
		s.serveFault(w, c, route, fault)
		return
	}
	route.endpoint.serve(c).write(w)
}

// programOf returns the app id that a call names, or nothing where it names
// none that is configured.
func (s *Simulator) programOf(c *call, route route) string {
	appID := route.endpoint.program(c)
	if s.programs[appID] == nil {
		return ""
	}
	return appID
}

// Interface guard
var _ http.Handler = (*Simulator)(nil)
