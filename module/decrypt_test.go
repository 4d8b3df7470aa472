// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/simulator"
)

// BenchmarkDecrypt is what the gateway adds to a request whose body is decrypted
// on the way: guard, session, decryption, checks, the new body and headers. The
// failures are to take the same time among themselves.
func BenchmarkDecrypt(b *testing.B) {
	w := newWorld(b, memoryStore, `{"decrypt":[{"match":[{"path":["/orders"]}]}]}`)
	token := w.login(benchProgram, "alice")
	mallory := w.login(benchProgram, "mallory")
	data, err := w.platform.Encrypt(simulator.Encryption{
		Program: benchProgram, User: "alice", WithOpenID: true,
		Data: []byte(`{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN",` +
			`"avatarUrl":"https://thirdwx.qlogo.cn/mmopen/vi_32/` + strings.Repeat("a", 80) + `/132"}`),
	})
	if err != nil {
		b.Fatal(err)
	}
	old, err := w.platform.Encrypt(simulator.Encryption{
		Program: benchProgram, User: "alice", Watermark: simulator.Watermark{Timestamp: 1477314187}, Data: []byte(`{"nickName":"` + strings.Repeat("a", 300) + `"}`),
	})
	if err != nil {
		b.Fatal(err)
	}
	padding, err := base64.StdEncoding.DecodeString(data.EncryptedData)
	if err != nil {
		b.Fatal(err)
	}
	padding[len(padding)-17] ^= 0xff // is the last byte of the text
	for _, test := range []struct {
		name, token, data, iv string
		status                int
	}{
		{"good", token, data.EncryptedData, data.IV, http.StatusOK},
		{"bad key", mallory, data.EncryptedData, data.IV, http.StatusUnprocessableEntity},
		{"bad padding", token, base64.StdEncoding.EncodeToString(padding), data.IV, http.StatusUnprocessableEntity},
		{"bad JSON", token, data.EncryptedData, "AAAAAAAAAAAAAAAAAAAAAA==", http.StatusUnprocessableEntity},
		{"bad watermark", token, old.EncryptedData, old.IV, http.StatusUnprocessableEntity},
	} {
		b.Run(test.name, func(b *testing.B) {
			body := fmt.Sprintf(`{"encryptedData":%q,"iv":%q}`, test.data, test.iv)
			const batch = 16 // as many as may be refused
			recorders := make([]*httptest.ResponseRecorder, batch)
			requests := make([]*http.Request, batch)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				n := min(batch, b.N-done)
				b.StopTimer()
				w.handler.ForgetRefusals()
				for i := range n {
					recorders[i], requests[i] = w.request(http.MethodPost, "/orders", body, test.token)
				}
				b.StartTimer()
				for i := range n {
					if err := w.handler.ServeHTTP(recorders[i], requests[i], next); err != nil || recorders[i].Code != test.status {
						b.Fatal(recorders[i].Code, recorders[i].Body, err)
					}
				}
				done += n
			}
		})
	}
}
