// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/minigate/minigate/integration/simulator"
	"github.com/minigate/minigate/module"
	_ "github.com/minigate/minigate/plugin"
)

const (
	benchProgram = "wx0123456789abcdef"
	benchSecret  = "simulated-secret"
	benchAlipay  = "2021000000000000"
)

// world is a gateway in this process, with a simulated platform.
type world struct {
	testing.TB
	platform *simulator.Simulator
	handler  *module.Handler
	server   *caddyhttp.Server
}

// newWorld provisions an app with the given store and a handler.
func newWorld(tb testing.TB, storeJSON, handlerJSON string) *world {
	tb.Helper()
	platform, err := simulator.New(simulator.Config{Programs: []simulator.Program{
		{Platform: "wechat", AppID: benchProgram, Secret: benchSecret},
		{Platform: "alipay", AppID: benchAlipay, Secret: simulator.DemoSecret},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(platform)
	tb.Cleanup(server.Close)
	config := new(caddy.Config)
	if err := json.Unmarshal(fmt.Appendf(nil, `{
		"admin": {"disabled": true},
		"logging": {"logs": {"default": {"level": "ERROR"}}},
		"storage": {"module": "file_system", "root": %q},
		"apps": {"miniprogram": {
			"programs": [
				{"provider": "wechat", "app_id": %q, "secret": %q, "api": [%q]},
				{"provider": "alipay", "app_id": %q, "private_key": %q, "alipay_public_key": %q, "api": [%q]}
			],
			"store": %s
		}}
	}`, tb.TempDir(), benchProgram, benchSecret, server.URL,
		benchAlipay, simulator.DemoAlipayPrivateKey, simulator.DemoAlipayPublicKey, server.URL+"/gateway.do",
		storeJSON), config); err != nil {
		tb.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		tb.Fatal(err)
	}
	app, err := ctx.App("miniprogram")
	if err != nil {
		tb.Fatal(err)
	}
	started, ok := app.(*module.App)
	if !ok {
		tb.Fatal("the app is of another type")
	}
	if err := started.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := started.Stop(); err != nil {
			tb.Error(err)
		}
		if err := started.Cleanup(); err != nil {
			tb.Error(err)
		}
	})
	loaded, err := ctx.LoadModuleByID("http.handlers.miniprogram", json.RawMessage(handlerJSON))
	if err != nil {
		tb.Fatal(err)
	}
	handler, ok := loaded.(*module.Handler)
	if !ok {
		tb.Fatal("the handler is of another type")
	}
	return &world{TB: tb, platform: platform, handler: handler, server: new(caddyhttp.Server)}
}

// request returns a request with the header lines of a mini-program on a phone,
// prepared as the server does. Like net/http, it makes the map with room for as
// many fields as there are lines, Host among them.
func (w *world) request(method, path, body, token string) (*httptest.ResponseRecorder, *http.Request) {
	recorder := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header = make(http.Header, 9)
	for _, line := range [...][2]string{
		{"Connection", "keep-alive"},
		{"Content-Type", "application/json"},
		{"Charset", "utf-8"},
		{"Accept-Encoding", "gzip,compress,br,deflate"},
		{"Accept", "*/*"},
		{"User-Agent", "Mozilla/5.0 MicroMessenger/8.0.50 MiniProgramEnv/android"},
		{"Referer", "https://servicewechat.com/wx0123456789abcdef/0/page-frame.html"},
	} {
		r.Header[line[0]] = []string{line[1]}
	}
	if token != "" {
		r.Header["Authorization"] = []string{"Bearer " + token}
	}
	return recorder, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), recorder, w.server)
}

func (w *world) login(program, user string) string {
	w.Helper()
	code, err := w.platform.Login(program, user)
	if err != nil {
		w.Fatal(err)
	}
	recorder, r := w.request(http.MethodPost, "/miniprogram/login", `{"program":"`+program+`","code":"`+code+`"}`, "")
	if err := w.handler.ServeHTTP(recorder, r, nobody); err != nil {
		w.Fatal(err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || answer.AccessToken == "" {
		w.Fatalf("login: %d %s", recorder.Code, recorder.Body)
	}
	return answer.AccessToken
}

var (
	next   = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	nobody = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("a request that must not reach the upstream did")
	})
)

const memoryStore = `{"store":"memory"}`

// serve runs handler on b.N requests that show token. Only the handler is timed:
// requests are made in batches, because stopping the clock for each one costs
// more than the handler does.
func (w *world) serve(b *testing.B, token string, handler func(*httptest.ResponseRecorder, *http.Request)) {
	const batch = 64
	recorders := make([]*httptest.ResponseRecorder, batch)
	requests := make([]*http.Request, batch)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		n := min(batch, b.N-done)
		b.StopTimer()
		for i := range n {
			recorders[i], requests[i] = w.request(http.MethodGet, "/orders", "", token)
		}
		b.StartTimer()
		for i := range n {
			handler(recorders[i], requests[i])
		}
		done += n
	}
}

// BenchmarkServeHTTP is what the gateway adds to a request of a signed-in user:
// guard, session, headers and placeholders.
func BenchmarkServeHTTP(b *testing.B) {
	for name, config := range map[string]string{
		"user":     "{}",
		"cloudrun": `{"headers":["cloudrun"]}`,
		"template": `{"extra_headers":[{"name":"X-Tenant","value":"{http.auth.user.program}/{http.auth.user.platform}"}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, memoryStore, config)
			w.serve(b, w.login(benchProgram, "alice"), func(recorder *httptest.ResponseRecorder, r *http.Request) {
				if err := w.handler.ServeHTTP(recorder, r, next); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkForgedToken is what a token costs that someone made up.
func BenchmarkForgedToken(b *testing.B) {
	w := newWorld(b, memoryStore, "{}")
	token := []byte(w.login(benchProgram, "alice"))
	token[len(token)-5] ^= 1
	w.serve(b, string(token), func(recorder *httptest.ResponseRecorder, r *http.Request) {
		if err := w.handler.ServeHTTP(recorder, r, nobody); err != nil || recorder.Code != http.StatusUnauthorized {
			b.Fatal(recorder.Code, err)
		}
	})
}

// BenchmarkLogin is a whole login: the exchange with a simulated platform in
// this process, over loopback, and a session that is stored durably.
func BenchmarkLogin(b *testing.B) { benchmarkLogin(b, benchProgram) }

// BenchmarkAlipayLogin is the same with Alipay: one RSA signature and one
// verification more, and as much again in the simulated platform.
func BenchmarkAlipayLogin(b *testing.B) { benchmarkLogin(b, benchAlipay) }

func benchmarkLogin(b *testing.B, program string) {
	w := newWorld(b, fmt.Sprintf(`{"store":"file","path":%q}`, b.TempDir()+"/sessions.db"), "{}")
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			w.login(program, fmt.Sprintf("user-%p-%d", pb, n))
		}
	})
}

// BenchmarkWarmSession is how much memory a warm session takes up, with what a
// site keeps of it, for users of whom nothing else is known and for those with a
// profile. Its time says nothing.
func BenchmarkWarmSession(b *testing.B) {
	const sessions = 5_000
	for name, body := range map[string]string{"ids only": "", "profile": `{"nickname":"Alice","city":"Guangzhou","email":"alice@example.com"}`} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, fmt.Sprintf(`{"store":"file","path":%q}`, b.TempDir()+"/sessions.db"), "{}")
			for range b.N {
				tokens := make([]string, sessions)
				for i := range tokens {
					user := fmt.Sprint("user-", i)
					tokens[i] = w.login(benchProgram, user)
					// The outcome of a login is kept for a while. Another one makes
					// the session be read again, so that nothing else refers to it.
					w.login(benchProgram, user)
					if body == "" {
						continue
					}
					recorder, r := w.request(http.MethodPut, "/miniprogram/profile", body, tokens[i])
					if err := w.handler.ServeHTTP(recorder, r, nobody); err != nil || recorder.Code != http.StatusOK {
						b.Fatal(recorder.Code, err)
					}
				}
				each := func(method, path string, status int) {
					for _, token := range tokens {
						recorder, r := w.request(method, path, "", token)
						if err := w.handler.ServeHTTP(recorder, r, next); err != nil || recorder.Code != status {
							b.Fatal(recorder.Code, err)
						}
					}
				}
				each(http.MethodGet, "/orders", http.StatusOK)
				warm := heap()
				each(http.MethodPost, "/miniprogram/logout", http.StatusNoContent)
				each(http.MethodGet, "/orders", http.StatusUnauthorized) // out of the cache
				b.ReportMetric(float64(warm-heap())/sessions, "B/session")
				goruntime.KeepAlive(tokens)
			}
		})
	}
}

// heap returns the bytes that are in use on the heap.
func heap() int64 {
	var stats goruntime.MemStats
	goruntime.GC()
	goruntime.GC()
	goruntime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
