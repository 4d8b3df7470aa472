// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/minigate/minigate/caddyfile/arg"
)

const directive = "miniprogram_simulator"

func init() {
	caddy.RegisterModule(Handler{})
	httpcaddyfile.RegisterHandlerDirective(directive, parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "respond")
}

// simulators hold the codes, keys and tokens of simulated platforms, so that a
// user who is signing in does not notice a config reload. The key is the
// configuration of the handler, by digest.
var simulators = caddy.NewUsagePool()

// Handler serves a simulation of the platforms that run mini-programs: their
// server interfaces and, below `/simulator/`, a control surface for tests. It
// answers every request itself.
//
// Codes, session keys and access tokens survive a config reload for as long as
// the handler's own configuration stays the same; handlers with the same
// configuration share them.
//
// The control surface asks for no credentials: whoever reaches the site can
// sign in as any user of the simulated programs. Bind it to loopback.
type Handler struct {
	// The mini-programs known to the simulated platforms. At least one.
	Programs []HandlerProgram `json:"programs,omitempty"`
	// How many of the latest platform calls are kept for `/simulator/calls`.
	// Default: 1000.
	RecordedCalls int `json:"recorded_calls,omitempty"`

	simulator *Simulator
	// key is set while this instance holds a reference to the simulator.
	key string
}

// HandlerProgram is one mini-program of a simulated platform.
type HandlerProgram struct {
	// The platform: `wechat` or `alipay`. Required.
	Platform string `json:"platform,omitempty"`
	// The app id. Required. Placeholders are resolved when the config is loaded.
	AppID string `json:"app_id,omitempty"`
	// What the program's server proves itself with. On WeChat, the secret. On
	// Alipay, the app's public key or certificate, in PEM or as one line of
	// base64; or `demo` for the published demo keys; or `generate`, so that the
	// simulator makes the app's key pair and tells it at
	// `/simulator/alipay/keys`. Required. Placeholders are resolved when the
	// config is loaded.
	Secret string `json:"secret,omitempty"`
	// How long a login code or phone code works. Default: 5m, on Alipay 3m.
	CodeLifetime caddy.Duration `json:"code_lifetime,omitempty"`
	// The shortest time between two session keys of one user. Default: 0, so
	// that every sign-in makes a new key.
	SessionKeyPeriod caddy.Duration `json:"session_key_period,omitempty"`
	// How long a session key works after the user's last sign-in. Default: 72h.
	SessionKeyLifetime caddy.Duration `json:"session_key_lifetime,omitempty"`
	// Tell no unionid, as if the program were not bound to an Open Platform
	// account or in a group of apps. Default: false.
	NoUnionID bool `json:"no_unionid,omitempty"`
	// By which ids Alipay names users: `user_id`, `both` or `open_id`. Default:
	// `open_id`.
	Migration Migration `json:"migration,omitempty"`
	// Put a program of Alipay into certificate mode. Default: false, unless the
	// secret is a certificate.
	Certificates bool `json:"certificates,omitempty"`
	// Certificate mode as in the sandbox of Alipay, where certificates do not
	// reach the root. Default: false.
	Sandbox bool `json:"sandbox,omitempty"`
	// Make the keys that the simulator generates for a program of Alipay from
	// this text, so that they are the same in every run. Default: random keys.
	// Placeholders are resolved when the config is loaded.
	Seed string `json:"seed,omitempty"`
	// The key that encrypts open data of Alipay: 16 bytes in base64. Default: a
	// generated one. Placeholders are resolved when the config is loaded.
	AESKey string `json:"aes_key,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.miniprogram_simulator",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision resolves placeholders and finds or makes the simulator.
func (h *Handler) Provision(caddy.Context) error {
	config, err := h.config()
	if err != nil {
		return err
	}
	key, err := poolKey(config)
	if err != nil {
		return err
	}
	value, _, err := simulators.LoadOrNew(key, func() (caddy.Destructor, error) {
		simulator, err := New(config)
		return pooled{simulator}, err
	})
	if err != nil {
		return fmt.Errorf("making the simulator: %w", err)
	}
	h.key = key
	h.simulator = value.(pooled).Simulator
	return nil
}

// config returns what the simulator is made from.
func (h *Handler) config() (Config, error) {
	config := Config{RecordedCalls: h.RecordedCalls}
	replacer := caddy.NewReplacer()
	for _, p := range h.Programs {
		program := Program{
			Platform:           p.Platform,
			CodeLifetime:       time.Duration(p.CodeLifetime),
			SessionKeyPeriod:   time.Duration(p.SessionKeyPeriod),
			SessionKeyLifetime: time.Duration(p.SessionKeyLifetime),
			NoUnionID:          p.NoUnionID,
			Migration:          p.Migration,
			Certificates:       p.Certificates,
			Sandbox:            p.Sandbox,
		}
		for _, text := range []struct {
			name, value string
			target      *string
		}{
			{"app_id", p.AppID, &program.AppID},
			{"secret", p.Secret, &program.Secret},
			{"seed", p.Seed, &program.Seed},
			{"aes_key", p.AESKey, &program.AESKey},
		} {
			if text.value == "" {
				continue
			}
			resolved, err := replacer.ReplaceOrErr(text.value, true, true)
			if err != nil {
				return config, fmt.Errorf("program %q: resolving %s: %w", p.AppID, text.name, err)
			}
			*text.target = resolved
		}
		config.Programs = append(config.Programs, program)
	}
	return config, nil
}

// poolKey names a simulator by a digest of its whole configuration: a reload
// that changes the programs must neither change the simulator that is serving
// nor find one with the old secrets.
func poolKey(config Config) (string, error) {
	text, err := json.Marshal(struct {
		Programs      []Program
		RecordedCalls int
	}{config.Programs, config.RecordedCalls})
	if err != nil {
		return "", fmt.Errorf("encoding the configuration: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// pooled is a simulator in the pool. There is nothing to end: it has no
// goroutines and no connections.
type pooled struct{ *Simulator }

// Destruct implements caddy.Destructor.
func (pooled) Destruct() error { return nil }

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	h.simulator.ServeHTTP(w, r)
	return nil
}

// Cleanup gives up the reference to the simulator, if this instance has one.
func (h *Handler) Cleanup() error {
	if h.key == "" {
		return nil
	}
	key := h.key
	h.key = ""
	if _, err := simulators.Delete(key); err != nil {
		return fmt.Errorf("releasing the simulator: %w", err)
	}
	return nil
}

// parseCaddyfile reads the directive.
func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	miniprogram_simulator {
//	    program wechat <app id> <secret> {
//	        code_lifetime <duration>
//	        session_key_period <duration>
//	        session_key_lifetime <duration>
//	        no_unionid
//	    }
//	    program alipay <app id> demo|generate|<public key>|<certificate> {
//	        code_lifetime <duration>
//	        no_unionid
//	        migration user_id|both|open_id
//	        certificates
//	        sandbox
//	        seed <text>
//	        aes_key <base64>
//	    }
//	    recorded_calls <number>
//	}
//
// program is needed at least once; its block and all options are optional.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := h.unmarshalOption(d); err != nil {
			return err
		}
	}
	if len(h.Programs) == 0 {
		return d.Errf("%s needs at least one program", directive)
	}
	return nil
}

// unmarshalOption reads one line of the directive's block.
func (h *Handler) unmarshalOption(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "program":
		return h.unmarshalProgram(d)
	case "recorded_calls":
		return arg.Int(d, &h.RecordedCalls, 1)
	default:
		return arg.Unrecognized(d)
	}
}

// unmarshalProgram reads a program with its block.
func (h *Handler) unmarshalProgram(d *caddyfile.Dispenser) error {
	var p HandlerProgram
	values := d.RemainingArgs()
	if len(values) != 3 || slices.Contains(values, "") {
		return d.ArgErr()
	}
	p.Platform, p.AppID, p.Secret = values[0], values[1], values[2]
	if newPlatform(p.Platform) == nil {
		return d.Errf("unknown platform %q", p.Platform)
	}
	if slices.ContainsFunc(h.Programs, func(q HandlerProgram) bool { return q.AppID == p.AppID }) {
		return d.Errf("program %q is already set", p.AppID)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := p.unmarshalOption(d); err != nil {
			return err
		}
	}
	h.Programs = append(h.Programs, p)
	return nil
}

// unmarshalOption reads one line of a program's block.
func (p *HandlerProgram) unmarshalOption(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "code_lifetime":
		return arg.Duration(d, &p.CodeLifetime)
	case "no_unionid":
		return arg.Flag(d, &p.NoUnionID)
	}
	if p.Platform == "alipay" {
		return p.unmarshalAlipay(d)
	}
	switch d.Val() {
	case "session_key_period":
		return arg.Duration(d, &p.SessionKeyPeriod)
	case "session_key_lifetime":
		return arg.Duration(d, &p.SessionKeyLifetime)
	default:
		return arg.Unrecognized(d)
	}
}

// unmarshalAlipay reads one line of the block of a program of Alipay.
func (p *HandlerProgram) unmarshalAlipay(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "migration":
		if err := arg.String(d, (*string)(&p.Migration)); err != nil {
			return err
		}
		if err := p.Migration.check(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	case "certificates":
		return arg.Flag(d, &p.Certificates)
	case "sandbox":
		return arg.Flag(d, &p.Sandbox)
	case "seed":
		return arg.String(d, &p.Seed)
	case "aes_key":
		return arg.String(d, &p.AESKey)
	default:
		return arg.Unrecognized(d)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddy.Destructor            = pooled{}
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
