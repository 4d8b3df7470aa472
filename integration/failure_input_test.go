// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/session"
)

// Addresses, keys and kinds of servers that are not what the operator thinks: the
// configuration is refused, with an error that says what to do, before anything has
// changed.
func TestFailureConfigRefused(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	single := redisServer(t)
	node := redisServer(t, "--cluster-enabled", "yes")
	g := start(t, setup{})
	short := keyring.EncodeMaster(make([]byte, 32))[:30]
	for name, test := range map[string]struct {
		options string
		words   []string
	}{
		"address that does not resolve": {inRedis("redis.invalid:6379"), []string{"redis.invalid"}},
		"nobody listens":                {inRedis("127.0.0.1:1"), []string{"127.0.0.1:1", "refused"}},
		"cluster as one server":         {inRedis(node.Address), []string{node.Address, "add the option cluster"}},
		"one server as cluster":         {inRedis(single.Address, "cluster"), []string{single.Address, "remove the option cluster"}},
		"one server as sentinel":        {inRedis(single.Address, "sentinel primary"), []string{single.Address, "is not a sentinel"}},
		"short seal_key":                {"seal_key " + short, []string{"seal_key 1", "32 bytes"}},
		"seal_key that is no base64":    {"seal_key passphrase!", []string{"seal_key 1", "base64"}},
		"unset seal_key":                {"seal_key {env.MINIGATE_NOT_SET}", []string{"seal_key 1", "MINIGATE_NOT_SET"}},
		"missing seal_key":              {"store redis " + single.Address, []string{"seal_key is required"}},
	} {
		t.Run(name, func(t *testing.T) {
			g.refusesToLoad(setup{options: test.options}, test.words...)
			if err := g.reload(setup{options: test.options}); strings.Contains(fmt.Sprint(err), short) || strings.Contains(fmt.Sprint(err), "passphrase!") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
	if out, err := single.Do("dbsize"); err != nil || out != "0" {
		t.Errorf("a configuration that was refused has left something: %q, %v", out, err)
	}
}

// recordKey is the key in Redis of a user's record of sessions.
func (g *gateway) recordKey(user string) string {
	g.t.Helper()
	who := identity.Identity{Platform: "wechat", Program: programA, OpenID: g.openID(programA, user)}
	return "minigate:{" + session.RecordPrefix + who.Subject() + "}"
}

// redisBytes reads or, with a value, writes a key. redis-cli is for text.
func redisBytes(t *testing.T, address, key string, value []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	command := fmt.Sprintf("*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
	if value != nil {
		command = fmt.Sprintf("*4\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$7\r\nKEEPTTL\r\n", len(key), key, len(value), value)
	}
	if _, err := io.WriteString(conn, command+"*1\r\n$4\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	answer = bytes.TrimSuffix(answer, []byte("+OK\r\n"))
	if value != nil {
		if string(answer) != "+OK\r\n" {
			t.Fatalf("SET: %q", answer)
		}
		return nil
	}
	_, answer, _ = bytes.Cut(answer, []byte("\r\n"))
	return bytes.TrimSuffix(answer, []byte("\r\n"))
}

// Memory or a disk flips one bit, anywhere in a record: its user signs in again,
// nobody gets in by it, nobody else notices, and the operator is told.
func TestFailureRecordBit(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	g := start(t, setup{options: inRedis(server.Address)})
	bystander := g.login(programA, "bob")
	key := g.recordKey("alice")
	token := g.login(programA, "alice")
	length := len(redisBytes(t, server.Address, key, nil))
	if length < 100 {
		t.Fatalf("the record has %d bytes", length)
	}
	for at := 0; at < length-1; at += 13 {
		record := redisBytes(t, server.Address, key, nil)
		record[min(at, len(record)-2)] ^= 1 << (at % 6)
		redisBytes(t, server.Address, key, record)
		var a answer
		eventually(t, "the session is refused", func() bool {
			a = g.get("/", bearer(token))
			return a.status != http.StatusOK
		})
		a.expect(t, 401, "session_invalid")
		g.served(bystander, "bob")
		token = g.login(programA, "alice")
		g.served(token, "alice")
	}
	g.logs("session record")
	g.counts(requestsInvalid)
}

// A gateway of a later version shares the store, and then it is taken out again:
// what it has written is neither misread nor overwritten.
func TestFailureNewerRecord(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	g := start(t, setup{options: inRedis(server.Address)})
	token, bystander := g.login(programA, "alice"), g.login(programA, "bob")
	master, err := keyring.ParseMaster(sealKey('a'))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.New(master)
	if err != nil {
		t.Fatal(err)
	}
	key := g.recordKey("alice")
	old := redisBytes(t, server.Address, key, nil)
	plain, err := ring.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := ring.Seal(bytes.Replace(plain, []byte(`"v":1`), []byte(`"v":99`), 1))
	if err != nil {
		t.Fatal(err)
	}
	redisBytes(t, server.Address, key, newer)
	var a answer
	eventually(t, "the session is refused", func() bool {
		a = g.get("/", bearer(token))
		return a.status != http.StatusOK
	})
	a.expect(t, 503, "store_unavailable")
	g.tryLogin("alice").expect(t, 503, "store_unavailable")
	g.served(bystander, "bob")
	if !bytes.Equal(redisBytes(t, server.Address, key, nil), newer) {
		t.Error("the record is overwritten")
	}
	g.logs("store cannot be used")
	if !strings.Contains(g.log.String(), "written by a newer version") {
		t.Error("the log does not say why")
	}
	g.counts(requestsWithoutStore)
	redisBytes(t, server.Address, key, old)
	eventually(t, "the session is good again", func() bool { return g.get("/", bearer(token)).status == http.StatusOK })
}

// Somebody else has keys under the prefix of the gateway, of any kind and with any
// content: they are not taken for users, not touched, and harm nobody.
func TestFailureForeignKeys(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	foreign := map[string]string{
		"minigate:{user/somebody}": "rubbish", "minigate:{user/somebody}/profile": "rubbish", "minigate:{known/x}": "{}",
		"minigate:{code/x}": "", "minigate:users": "1", "minigate:": "x", "minigate:{user/\xff\xfe}": "x",
	}
	for key, value := range foreign {
		redisDo(t, server, "OK", "set", key, value)
	}
	redisDo(t, server, "1", "hset", "minigate:{user/hash}", "a", "b")
	redisDo(t, server, "1", "rpush", "minigate:{user/list}", "a")
	redisDo(t, server, "1", "sadd", "minigate:{key/set}", "a")
	// Two keys, so that there is maintenance, which goes through what is stored.
	g := start(t, setup{options: inRedis(server.Address) + " " + sealKey('b'), directive: "user_id pseudonym"})
	token := g.login(programA, "alice")
	if a := g.get("/", bearer(token)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	for key, value := range foreign {
		if out, err := server.Do("get", key); err != nil || out != value {
			t.Errorf("%q is %q, %v", key, out, err)
		}
	}
	g.logs("not everything that is stored is up to date; keep older seal keys")
	if strings.Contains(g.log.String(), "WRONGTYPE") {
		t.Errorf("they keep the gateway from going through its own\n%s", g.log)
	}
	redisDo(t, server, "OK", "set", g.recordKey("carol"), "rubbish")
	g.login(programA, "carol")
	redisDo(t, server, "1", "hset", g.recordKey("dave"), "a", "b")
	g.tryLogin("dave").expect(t, 503, "store_unavailable")
	g.logs("store cannot be used")
	g.counts(loginsWithoutStore)
	g.login(programA, "erin")
	redisDo(t, server, "1", "del", g.recordKey("dave"))
	g.login(programA, "dave")
}
