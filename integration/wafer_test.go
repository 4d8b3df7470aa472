// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The client SDKs of both generations of wafer, as published.
const (
	wafer1 = "wafer-client-sdk"
	wafer2 = "wafer2-client-sdk"
)

var wafers = []string{wafer1, wafer2}

// waferLoginPath is the URL at which the mini-programs of these tests sign in.
// It is of their developer's choice; the gateway knows nothing of it.
const waferLoginPath = "/weapp/login"

// Apps written for Tencent's wafer SDKs keep working, with the SDK files that
// are inside them: npm wafer-client-sdk 0.8.4 and wafer2-client-sdk 2.1.0,
// unmodified.
func TestWafer(t *testing.T) {
	if !installed(t, "node", "npm") {
		return
	}
	folder, ok := installWafer(t)
	if !ok {
		return
	}
	for _, scenario := range []struct {
		name string
		test func(t *testing.T, folder string)
	}{
		{"LoginAndCall", waferLoginAndCall},
		{"CallWithoutLogin", waferCallWithoutLogin},
		{"LoginEveryTime", waferLoginEveryTime},
		{"ForgedHeaders", waferForgedHeaders},
		{"RevokedElsewhere", waferRevokedElsewhere},
		{"GatewayForgot", waferGatewayForgot},
		{"SessionKeyExpired", waferSessionKeyExpired},
		{"ManyUsers", waferManyUsers},
		{"RevokedAmongMany", waferRevokedAmongMany},
		{"ParallelStart", waferParallelStart},
		{"RequestsSentAgain", waferRequestsSentAgain},
		{"LoginRefused", waferLoginRefused},
		{"CallRefused", waferCallRefused},
		{"PlatformDown", waferPlatformDown},
		{"StoreDown", waferStoreDown},
		{"AppDown", waferAppDown},
	} {
		t.Run(scenario.name, func(t *testing.T) { scenario.test(t, folder) })
	}
}

// installWafer installs the SDKs, each checked against the digest in the lock
// file, and returns the folder with them and the script that runs them.
func installWafer(t *testing.T) (folder string, ok bool) {
	t.Helper()
	return installPackages(t, "wafer", "package.json", "package-lock.json", "wx.js", "run.js")
}

// waferWorld is a gateway with phones in front of it.
type waferWorld struct {
	*gateway
	lines chan []byte
	input io.Writer
	// tokens are the session tokens that were seen, exchanges is how many
	// exchanges of codes were accounted for.
	tokens    []string
	exchanges int
}

// newWafer starts a gateway that speaks the wafer protocols, and the process in
// which the phones are. When the test ends, it looks for credentials where they
// must not be.
func newWafer(t *testing.T, folder string, s setup) *waferWorld {
	t.Helper()
	s.directive += "\nclients wafer"
	w := &waferWorld{gateway: start(t, s), lines: make(chan []byte)}
	log := new(logBuffer)
	node := exec.Command("node", filepath.Join(folder, "run.js"), "http://"+w.address, w.platURL, waferLoginPath)
	node.Stderr = log
	input, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	w.input = input
	go func() {
		defer close(w.lines)
		scanner := bufio.NewScanner(output)
		scanner.Buffer(nil, 1<<24)
		for scanner.Scan() {
			w.lines <- slices.Clone(scanner.Bytes())
		}
	}()
	t.Cleanup(func() {
		input.Close()
		killer := time.AfterFunc(patience, func() { _ = node.Process.Kill() })
		for range w.lines { // until the process ends
		}
		err := node.Wait()
		if killer.Stop(); err != nil {
			t.Errorf("phones: %v\n%s", err, log)
		}
		w.checkLeaks()
	})
	var first struct{ SDKs map[string]string }
	w.read(&first)
	if want := map[string]string{wafer1: "0.8.4", wafer2: "2.1.0"}; !maps.Equal(first.SDKs, want) {
		t.Fatalf("the SDKs are %v, want %v", first.SDKs, want)
	}
	return w
}

// read reads a line of the phones.
func (w *waferWorld) read(v any) {
	w.t.Helper()
	select {
	case line, ok := <-w.lines:
		if !ok {
			w.t.Fatal("the phones are gone")
		}
		if err := json.Unmarshal(line, v); err != nil {
			w.t.Fatalf("phones say %s: %v", line, err)
		}
	case <-time.After(patience):
		w.t.Fatalf("the phones say nothing\n%s", w.log)
	}
}

// waferPhone is a user's phone with a mini-program on it.
type waferPhone struct {
	world   *waferWorld
	Name    string `json:"phone"`
	SDK     string `json:"sdk"`
	Program string `json:"program"`
	User    string `json:"user"`
}

// phone returns the phone of a user on which a program uses an SDK.
func (w *waferWorld) phone(sdk, program, user string) *waferPhone {
	return &waferPhone{w, sdk + " " + program + " " + user, sdk, program, user}
}

// waferStep is something that a mini-program does. Its members are those of run.js.
type waferStep struct {
	*waferPhone
	ID      int            `json:"id"`
	Do      string         `json:"do"`
	Request *waferRequest  `json:"request,omitempty"`
	Set     map[string]any `json:"set,omitempty"`
}

// waferRequest is what a mini-program gives to the function request of an SDK.
type waferRequest struct {
	Path   string            `json:"path"`
	Method string            `json:"method,omitempty"`
	Data   any               `json:"data,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	// Login is the SDK's option to sign in before the request.
	Login bool `json:"login,omitempty"`
}

// waferOutcome is what came of a step.
type waferOutcome struct {
	ID     int             `json:"id"`
	Called []string        `json:"called"`
	Value  json.RawMessage `json:"value"`
	Error  struct{ Kind, Type, Message string }
	Sent   []struct {
		Method, URL string
		Status      int
	}
	Logins int
	Thrown []string
}

// take has phones take steps at the same time and returns what came of each.
func (w *waferWorld) take(steps ...waferStep) []waferOutcome {
	w.t.Helper()
	outcomes := make([]waferOutcome, len(steps))
	for i := range steps {
		steps[i].ID = i
	}
	line, err := json.Marshal(map[string]any{"steps": steps})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.input.Write(append(line, '\n')); err != nil {
		w.t.Fatal(err)
	}
	for range steps {
		var o waferOutcome
		w.read(&o)
		if len(o.Thrown) > 0 {
			w.t.Errorf("%s %s: thrown where nobody catches it: %q", steps[o.ID].Name, steps[o.ID].Do, o.Thrown)
		}
		outcomes[o.ID] = o
	}
	return outcomes
}

// signIn has the mini-program sign in as its developer was told to.
func (p *waferPhone) signIn() waferOutcome {
	p.world.t.Helper()
	return p.world.take(waferStep{waferPhone: p, Do: "login"})[0]
}

// call has the mini-program send a request.
func (p *waferPhone) call(r waferRequest) waferOutcome {
	p.world.t.Helper()
	return p.world.take(p.calling(r))[0]
}

// calling is the step of a request.
func (p *waferPhone) calling(r waferRequest) waferStep {
	return waferStep{waferPhone: p, Do: "request", Request: &r}
}

// set changes the state of the phone.
func (p *waferPhone) set(name string, value any) {
	p.world.t.Helper()
	p.world.take(waferStep{waferPhone: p, Do: "set", Set: map[string]any{name: value}})
}

// skey returns the session token that the mini-program keeps, "" if it keeps
// none.
func (p *waferPhone) skey() string {
	p.world.t.Helper()
	var kept struct{ Skey string }
	if err := json.Unmarshal(p.world.take(waferStep{waferPhone: p, Do: "session"})[0].Value, &kept); err != nil {
		p.world.t.Fatal(err)
	}
	p.world.tokens = append(p.world.tokens, kept.Skey)
	return kept.Skey
}

// openID returns the openid of the phone's user.
func (p *waferPhone) openID() string {
	p.world.t.Helper()
	return p.world.gateway.openID(p.Program, p.User)
}
