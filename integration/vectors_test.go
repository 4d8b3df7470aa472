// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// The vectors that WeChat and the users of its SDKs published, through the real
// server: what the platform signed is taken; what a lenient reader of paddings takes
// for text is not, and neither is a text of 2016.
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func TestPublishedVectors(t *testing.T) {
	const (
		rawData   = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}`
		signature = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
	)
	g := start(t, setup{directive: "decrypt {\npath /api/phone\n}"})
	signedIn := func(user, key string) string {
		t.Helper()
		if err := g.platform.SetFault(simulator.Fault{
			Kind: simulator.FaultWrongTypes, Path: "/sns/jscode2session", Fields: []string{"session_key"}, Value: json.RawMessage(`"` + key + `"`), Times: 1,
		}); err != nil {
			t.Fatal(err)
		}
		return g.login(programA, user)
	}

	token := signedIn("alice", "HyVFkGl5F5OQWJZZaNzBBg==")
	body := object("rawData", rawData, "signature", signature)
	if a := g.post("/miniprogram/decrypt", body, bearer(token)); a.status != http.StatusOK || a.body != `{"data":`+rawData+`}` {
		t.Errorf("raw data: %d %s", a.status, a.body)
	}
	if p := g.post("/miniprogram/profile/refresh", body, bearer(token)).profile(t); p.Verified["nickname"] != "Band" || !strings.HasPrefix(p.Verified["avatar_url"], "https://wx.qlogo.cn/") {
		t.Errorf("profile: %+v", p)
	}
	g.post("/miniprogram/decrypt", object("rawData", rawData+" ", "signature", signature), bearer(token)).expect(t, 422, "data_invalid")

	for name, vector := range map[string]struct{ key, data, iv string }{
		"lenient padding": {
			"7MG7jbTToVVRWRXVA885rg==",
			"BY6VOgcWbwGcyrunK0ECWI8rnDsT69DucZ+M78tc1aL9aM/3bEAHFYd4fu7kRjWhD4YfjObw44T9vUqKyHIjbKs6hvtEasZZEIW35x4a91xVgN48ZqZ7MTQqUlP13kDUlkuwYh+/8g8yceu4kNbjowYrhihx+SV7CfjKCveJ7TSepr5Z7aLv1o+rfeelfOwn++WN/YoQsuZ6S3L4fWlWe5DAAUnFUI6cJvxxCohVzbrVXhyH2AqQdSjH2WnMYFeaGFIbcoxMznlk7oEwFn+hBj63dyT/swdYQfEdzuyCBmKXy8d6l1RKVX6Y65coTD8kIlbr+FKsqYrXVUIUBSwehqYuOdhYWZ9Bntl5DWU1oqzAPCnMn2cAIoQpQPKP7IGSxMOvCNAMhVXbE7BvnWuVuGF+AM5tXAa9IVUhcMImGwLQqm4iV5uBd+5OcFObh3A4VJk9iBCBWSkBHa/rV9CVoY0bFv2F9/2Hv82++Ybl274=",
			"TarMFjnzHVxy8pdS93wQbw==",
		},
		"of 2016": {
			"tiihtNczf5v6AKRyjwEUhQ==",
			"CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==",
			"r7BXXKkLb8qrSNn05n0qiA==",
		},
	} {
		token := signedIn(name[:2], vector.key)
		body := object("encryptedData", vector.data, "iv", vector.iv)
		for _, path := range []string{"/miniprogram/decrypt", "/miniprogram/phone", "/miniprogram/profile/refresh", "/api/phone"} {
			g.post(path, body, bearer(token)).expect(t, 422, "data_invalid")
		}
	}
	if n := g.upstream.count(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
