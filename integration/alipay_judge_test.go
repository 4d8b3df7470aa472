// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// An outside judge: Alipay's own SDK, in the place of the platform, verifies
// what the gateway signs, and the gateway verifies what the SDK signs.
func TestAlipaySDKAsJudge(t *testing.T) {
	if !installed(t, "node", "npm") {
		return
	}
	folder, ok := installPackages(t, "alipay", "package.json", "package-lock.json", "judge.js")
	if !ok {
		return
	}
	judge := exec.Command("node", filepath.Join(folder, "judge.js"), programC, simulator.DemoAlipayPrivateKey)
	first := startServer(t, `(?m)^({"port":.*})$`, judge)
	var port int
	var publicKey string
	if _, err := fmt.Sscanf(strings.ReplaceAll(first, `"`, " "), "{ port :%d, alipayPublicKey : %s", &port, &publicKey); err != nil {
		t.Fatalf("%v: %s", err, first)
	}
	g := start(t, setup{
		directive: "programs " + programC,
		options: fmt.Sprintf("program alipay %s {\nprivate_key %s\nalipay_public_key %s\napi http://127.0.0.1:%d/gateway.do\n}",
			programC, simulator.DemoAlipayPrivateKey, publicKey, port),
	})
	for i := range 5 {
		code := fmt.Sprintf("code%d", i)
		a := g.post("/miniprogram/login", `{"code":"`+code+`"}`)
		if a.status != http.StatusOK || !strings.Contains(a.body, `"openid":"open-`+code+`"`) {
			t.Fatalf("%d %s\n%s\n%s", a.status, a.body, judge.Stdout, g.log)
		}
	}
	if said := fmt.Sprint(judge.Stdout); strings.Count(said, `{"ok":true,"why":""}`) != 5 || strings.Contains(said, `"ok":false`) {
		t.Errorf("the judge says:\n%s", said)
	}
}
