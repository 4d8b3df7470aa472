// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestParsePrograms(t *testing.T) {
	config, err := parsePrograms([]string{"wechat:wx1:secret", "wechat:wx2:a:b"})
	want := []Program{
		{Platform: "wechat", AppID: "wx1", Secret: "secret"},
		{Platform: "wechat", AppID: "wx2", Secret: "a:b"},
	}
	if err != nil || len(config.Programs) != 2 || config.Programs[0] != want[0] || config.Programs[1] != want[1] {
		t.Errorf("programs are %+v, error %v", config.Programs, err)
	}
}

// The control surface has no password, so the command stays on loopback unless
// it is told otherwise in so many words.
func TestCheckLoopback(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:9801":          true,
		"127.8.8.8:9801":          true,
		"[::1]:9801":              true,
		"localhost:9801":          true,
		":9801":                   false,
		"0.0.0.0:9801":            false,
		"[::]:9801":               false,
		"10.0.0.1:9801":           false,
		"example.com:9801":        false,
		"127.0.0.1.nip.io:9801":   false,
		"localhost.evil.com:9801": false,
		"9801":                    false,
		"":                        false,
	} {
		if err := checkLoopback(address); (err == nil) != allowed {
			t.Errorf("%q: error is %v", address, err)
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		simulation simulation
		want       string
	}{
		"remote":           {simulation{listen: "0.0.0.0:0", programs: []string{defaultProgram}}, "--allow-remote"},
		"bad program":      {simulation{listen: "127.0.0.1:0", programs: []string{"wechat:wx1"}}, "--program 1"},
		"unknown platform": {simulation{listen: "127.0.0.1:0", programs: []string{"qq:1:s"}}, "unknown platform"},
		"bad port":         {simulation{listen: "127.0.0.1:x", programs: []string{defaultProgram}}, "listening"},
		// With --allow-remote it is the bad port that is refused.
		"remote, allowed": {
			simulation{listen: "0.0.0.0:x", programs: []string{defaultProgram}, allowRemote: true}, "listening",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.simulation.run(t.Context(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// The command says where it serves, its example works, and it ends at once when
// it is told to, whatever answer it is holding back.
func TestCommandServesAndStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	stopped := make(chan error, 1)
	go func() {
		s := simulation{listen: "127.0.0.1:0", programs: []string{defaultProgram}}
		stopped <- s.run(ctx, writer)
		_ = writer.Close() // ends the reading below if the command failed
	}()
	output := bufio.NewReader(reader)
	var lines string
	for range 3 {
		line, err := output.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		lines += line
	}
	example := regexp.MustCompile(`curl -d '(\{.*\})' http://127\.0\.0\.1:(\d+)(/simulator/login)`).FindStringSubmatch(lines)
	if example == nil || !strings.Contains(lines, "wechat for program wx0123456789abcdef") {
		t.Fatalf("output is %s", lines)
	}
	base := "http://127.0.0.1:" + example[2]
	response, err := http.Post(base+example[3], "application/x-www-form-urlencoded", strings.NewReader(example[1]))
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, response); !strings.HasPrefix(body, `{"code":"0`) {
		t.Errorf("answer is %s", body)
	}

	// A drip sends its headers first, so that the call is known to be under way.
	response, err = http.Post(base+"/simulator/fault", "", strings.NewReader(`{"kind":"drip","delay":"1h"}`))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, response)
	response, err = http.Get(base + loginURL("x"))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	cancel()
	if err := <-stopped; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if took := time.Since(start); took > stopTimeout {
		t.Errorf("stopping took %v", took)
	}
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("the answer that was held back is whole")
	}
	closeBody(t, response)
}

func TestCommandFlags(t *testing.T) {
	cmd := newCommand()
	if cmd.Name() != "simulate" {
		t.Errorf("the command is called %s", cmd.Name())
	}
	for flag, want := range map[string]string{
		"listen":       "127.0.0.1:9801",
		"program":      "[wechat:wx0123456789abcdef:simulated-secret]",
		"allow-remote": "false",
	} {
		if f := cmd.Flags().Lookup(flag); f == nil || f.DefValue != want {
			t.Errorf("flag %s is %+v", flag, f)
		}
	}
	// The demo program goes as soon as one is named.
	if err := cmd.Flags().Parse([]string{"--program", "wechat:wx1:s", "--program", "wechat:wx2:s"}); err != nil {
		t.Fatal(err)
	}
	programs, err := cmd.Flags().GetStringArray("program")
	if err != nil || len(programs) != 2 {
		t.Errorf("programs are %v, error %v", programs, err)
	}
}
