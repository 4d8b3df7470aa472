// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// outcome is an exchange that ends as told.
func outcome(token string, err error, calls *atomic.Int64) func(context.Context) (signedIn, error) {
	return func(context.Context) (signedIn, error) {
		calls.Add(1)
		return signedIn{token: token}, err
	}
}

// alone is a gateway that shares its store with nobody.
func alone(e *exchanges) *runtime { return &runtime{state: &state{exchanges: e}} }

func TestExchangesAnswerOnce(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	e := newExchanges(t.Context())
	e.now = func() time.Time { return now }
	var calls atomic.Int64
	ask := func(program, code, client, token string) string {
		t.Helper()
		result, err := once(t.Context(), alone(e), forLogin, program, code, client, outcome(token, nil, &calls))
		if err != nil {
			return err.Error()
		}
		return result.token
	}
	for _, step := range []struct {
		program, code, client, token string
		after                        time.Duration
		want                         string
	}{
		{"wxA", "c", "ip1", "first", 0, "first"},
		{"wxA", "c", "ip1", "second", 9 * time.Second, "first"},
		{"wxA", "c", "ip2", "second", 0, errForeignCode.Error()},
		{"wxB", "c", "ip1", "other program", 0, "other program"},
		{"wx", "Ac", "ip1", "no concatenation", 0, "no concatenation"},
		{"wxA", "c", "ip1", "third", time.Second, "third"},
	} {
		e.wait()
		now = now.Add(step.after)
		if got := ask(step.program, step.code, step.client, step.token); got != step.want {
			t.Errorf("%+v: %q", step, got)
		}
	}
	e.wait()
	now = now.Add(time.Minute)
	ask("wxZ", "z", "ip", "")
	e.wait()
	if len(e.attempts) != 1 || len(e.ended) != 1 {
		t.Errorf("%d attempts are kept", len(e.attempts))
	}
}

// What the platform has not seen can be tried again; what it may have seen
// cannot.
func TestExchangesForgetWhatWasNotSent(t *testing.T) {
	e := newExchanges(t.Context())
	for name, test := range map[string]struct {
		err   error
		again bool
	}{
		"not sent":  {fmt.Errorf("exchanging: %w", notSentError{errors.New("busy")}), true},
		"malformed": {&provider.Error{Reason: provider.CodeMalformed}, true},
		"no answer": {&provider.Error{Reason: provider.Unavailable}, false},
		"used":      {&provider.Error{Reason: provider.CodeUsed}, false},
		"unknown":   {errors.New("unknown"), false},
	} {
		var calls atomic.Int64
		for range 2 {
			if _, err := once(t.Context(), alone(e), forLogin, "wxA", name, "ip", outcome("", test.err, &calls)); !errors.Is(err, test.err) {
				t.Errorf("%s: %v", name, err)
			}
			e.wait()
		}
		if again := calls.Load() == 2; again != test.again {
			t.Errorf("%s: %d exchanges", name, calls.Load())
		}
	}
}

// A guest that panics takes nobody with it.
func TestExchangesContainPanics(t *testing.T) {
	e := newExchanges(t.Context())
	_, err := once(t.Context(), alone(e), forLogin, "wxA", "c", "ip", func(context.Context) (signedIn, error) { panic("boom") })
	if err == nil {
		t.Error("no error")
	}
}

// Whoever gives up does not end the exchange of the others.
func TestExchangesOutliveTheirRequest(t *testing.T) {
	e := newExchanges(t.Context())
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := once(ctx, alone(e), forLogin, "wxA", "c", "ip", func(ctx context.Context) (signedIn, error) {
			<-release
			return signedIn{token: "t"}, ctx.Err()
		})
		first <- err
	}()
	var waiting sync.WaitGroup
	waiting.Go(func() {
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who gave up: %v", err)
		}
		close(release)
	})
	waiting.Wait()
	result, err := once[signedIn](t.Context(), alone(e), forLogin, "wxA", "c", "ip", nil)
	if err != nil || result.token != "t" {
		t.Errorf("the other: %v, %v", result, err)
	}
}
