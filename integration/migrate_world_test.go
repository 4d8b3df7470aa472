// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// migration is what the migrate command and the admin endpoint tell.
type migration struct {
	State   string  `json:"state"`
	From    string  `json:"from"`
	To      string  `json:"to"`
	Error   string  `json:"error"`
	Seconds float64 `json:"seconds"`
	Counts  struct {
		Read, Written, Unchanged, Removed, Verified, Late, Failed, Followed int
	} `json:"counts"`
}

// migrateCommand returns a run of `minigate miniprogram migrate` that is not
// started yet, in the world of g.
func (g *gateway) migrateCommand(args ...string) *exec.Cmd {
	g.t.Helper()
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	command := exec.Command(self, append([]string{"miniprogram", "migrate"}, args...)...)
	command.Env = append(os.Environ(), runAsGateway+"=1", "HOME="+g.dir, "XDG_DATA_HOME="+g.dir+"/data", "GORACE=halt_on_error=1")
	return command
}

// migrate runs `minigate miniprogram migrate --json`, and returns what it prints,
// its progress and its exit code.
func (g *gateway) migrate(args ...string) (result migration, progress string, code int) {
	g.t.Helper()
	command := g.migrateCommand(append(args, "--json")...)
	var out, progressed bytes.Buffer
	command.Stdout, command.Stderr = &out, &progressed
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil && command.ProcessState.ExitCode() == 0 {
		g.t.Fatalf("it prints %q: %v", &out, err)
	}
	if strings.Contains(progressed.String(), "DATA RACE") {
		g.t.Errorf("a race: %s", &progressed)
	}
	return result, progressed.String(), command.ProcessState.ExitCode()
}

// migrated is migrate for a run that must succeed.
func (g *gateway) migrated(args ...string) migration {
	g.t.Helper()
	result, progress, code := g.migrate(args...)
	if code != 0 || result.Error != "" || result.Counts.Failed != 0 {
		g.t.Fatalf("exit code %d, %+v\n%s", code, result, progress)
	}
	return result
}

// configFile writes the configuration of s to a file, and returns its path.
func (g *gateway) configFile(name string, s setup) string {
	g.t.Helper()
	path := g.dir + "/" + name + ".Caddyfile"
	if err := os.WriteFile(path, []byte(g.caddyfile(s)), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// migrationState returns what the admin endpoint tells of the migration.
func (g *gateway) migrationState() (m migration) {
	g.t.Helper()
	a := g.ask(http.MethodGet, "/miniprogram/store/migrate", "")
	a.expectStatus(g.t, http.StatusOK)
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		g.t.Fatal(err, a.body)
	}
	return m
}

// crowd are users who sign in, make requests and sign out, several phones each,
// until they are told to stop. It knows who must be signed in and who must not.
type crowd struct {
	g    *gateway
	quit chan struct{}
	wg   sync.WaitGroup

	logins, logouts, requests, refused, broken atomic.Int64

	mu      sync.Mutex
	alive   map[string]string // token to user
	revoked map[string]string
}

const (
	crowdUsers  = 12
	crowdPhones = 2
)

func gather(g *gateway) *crowd {
	c := &crowd{g: g, quit: make(chan struct{}), alive: make(map[string]string), revoked: make(map[string]string)}
	for user := range crowdUsers {
		for range crowdPhones {
			c.wg.Go(func() { c.phone(fmt.Sprint("user-", user)) })
		}
	}
	return c
}

// stop has everybody stop, and returns when they have.
func (c *crowd) stop() {
	close(c.quit)
	c.wg.Wait()
}

// progress waits until so many more sign-ins were acknowledged.
func (c *crowd) progress(logins int64) {
	c.g.t.Helper()
	from := c.logins.Load()
	eventually(c.g.t, "people sign in", func() bool { return c.logins.Load() >= from+logins || c.g.t.Failed() })
}

// phone is one phone of a user. It keeps a few sessions.
func (c *crowd) phone(user string) {
	var mine []string
	for {
		select {
		case <-c.quit:
			return
		default:
		}
		code, err := c.g.platform.Login(programA, user)
		if err != nil {
			c.g.t.Error(err)
			return
		}
		status, body := c.send(http.MethodPost, "/miniprogram/login", `{"program":"`+programA+`","code":"`+code+`"}`, "")
		var session struct {
			AccessToken string `json:"access_token"`
		}
		if json.Unmarshal([]byte(body), &session) == nil && status == http.StatusOK {
			c.logins.Add(1)
			c.note(session.AccessToken, user, true)
			mine = append(mine, session.AccessToken)
		}
		for _, token := range mine {
			if status, body := c.send(http.MethodGet, "/", "", token); status == http.StatusUnauthorized {
				c.g.t.Errorf("%s was signed in, and is answered %s", user, body)
				return
			}
		}
		if len(mine) < 3 {
			continue
		}
		i := rand.IntN(len(mine))
		token := mine[i]
		mine = append(mine[:i:i], mine[i+1:]...)
		c.forget(token) // if no answer comes, nobody knows
		if status, _ := c.send(http.MethodPost, "/miniprogram/logout", "", token); status != http.StatusNoContent {
			continue
		}
		c.logouts.Add(1)
		c.note(token, user, false)
		if status, body := c.send(http.MethodGet, "/", "", token); status == http.StatusOK {
			c.g.t.Errorf("%s was signed out, and is answered %s", user, body)
			return
		}
	}
}

func (c *crowd) note(token, user string, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if alive {
		c.alive[token] = user
	} else {
		c.revoked[token] = user
	}
}

func (c *crowd) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.alive, token)
}

// send sends a request; status is 0 where no answer comes, because a reload
// closes the connection.
func (c *crowd) send(method, path, body, token string) (status int, answer string) {
	request, err := http.NewRequest(method, "http://"+c.g.address+path, strings.NewReader(body))
	if err != nil {
		c.g.t.Error(err)
		return 0, ""
	}
	request.Close = true
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	c.requests.Add(1)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		c.broken.Add(1)
		return 0, err.Error()
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		c.broken.Add(1)
		return 0, err.Error()
	}
	if response.StatusCode >= 500 {
		c.refused.Add(1)
	}
	return response.StatusCode, string(data)
}

// count counts, at a gateway, who was acknowledged and is not signed in, and who
// was signed out and is.
func (c *crowd) count(t *testing.T, g *gateway) (lost, undead int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for token, user := range c.alive {
		if a := g.get("/", bearer(token)); a.status != http.StatusOK {
			t.Errorf("%s is lost: %d %s", user, a.status, a.body)
			lost++
		} else if got := identities(a.body, "X-User-Openid"); len(got) != 1 || got[0] != g.openID(programA, user) {
			t.Errorf("%s is taken for %q", user, got)
		}
	}
	for token, user := range c.revoked {
		if a := g.get("/", bearer(token)); a.status != http.StatusUnauthorized {
			t.Errorf("%s is undead: %d", user, a.status)
			undead++
		}
	}
	return lost, undead
}

// report logs what the crowd has done.
func (c *crowd) report(t *testing.T, lost, undead int, took time.Duration) {
	t.Helper()
	t.Logf("%d sign-ins and %d sign-outs acknowledged, %d requests in %v, %d refused (5xx), %d without an answer; %d sessions to be alive: %d lost; %d revoked: %d alive",
		c.logins.Load(), c.logouts.Load(), c.requests.Load(), took.Round(time.Millisecond), c.refused.Load(), c.broken.Load(),
		len(c.alive), lost, len(c.revoked), undead)
}
