// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minigate/minigate/integration/chaos/redisserver"
	"github.com/minigate/minigate/integration/chaos/toxic"
)

// clock is the wall clock of a running process, which can be set. Its monotonic
// clock goes on as if nothing had happened, as when an operator or NTP sets the
// clock of a machine.
//
// The Go runtime reads clocks by a function that the kernel puts into the memory of
// each process. This replaces it by one that adds an offset.
type clock struct {
	t      *testing.T
	memory *os.File
	offset int64 // where the offset is
}

// clockCode is clock_gettime by a system call, with the eight bytes that follow it
// added to the seconds of CLOCK_REALTIME.
var clockCode = []byte{
	0xb8, syscall.SYS_CLOCK_GETTIME, 0, 0, 0, // mov eax, SYS_CLOCK_GETTIME
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi
	0x75, 0x0a, // jne to ret
	0x48, 0x8b, 0x0d, 0x04, 0, 0, 0, // mov rcx, [rip+4]
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3, // ret
}

// takeClock takes hold of the clock of a process.
func takeClock(t *testing.T, process *os.Process) *clock {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var begin, end int64
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &begin, &end); err != nil {
				t.Fatal(err)
			}
		}
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", process.Pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { memory.Close() })
	image := make([]byte, end-begin)
	if _, err := memory.ReadAt(image, begin); err != nil {
		t.Fatal(err)
	}
	// The second function is not called by Go, and is long enough.
	entry, room := vdsoFunction(t, image, "__vdso_clock_gettime", 5), vdsoFunction(t, image, "__vdso_gettimeofday", len(clockCode)+8)
	jump := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(room-entry-5)))
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it stops", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
		return err == nil && strings.Contains(string(status), ") T ")
	})
	for at, code := range map[int64][]byte{begin + room: append(bytes.Clone(clockCode), make([]byte, 8)...), begin + entry: jump} {
		if _, err := memory.WriteAt(code, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	return &clock{t, memory, begin + room + int64(len(clockCode))}
}

// vdsoFunction returns where a function of at least so many bytes begins.
func vdsoFunction(t *testing.T, image []byte, name string, size int) int64 {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, symbol := range symbols {
		if symbol.Name == name && symbol.Size >= uint64(size) {
			return int64(symbol.Value)
		}
	}
	t.Fatalf("the kernel has no %s of at least %d bytes", name, size)
	return 0
}

// set puts the clock ahead of the true time, or behind it.
func (c *clock) set(ahead time.Duration) {
	c.t.Helper()
	if _, err := c.memory.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(ahead/time.Second))), c.offset); err != nil {
		c.t.Fatal(err)
	}
}

// The clock of a machine is wrong, and is set right. Sessions end by it as if the
// time had passed, never for another reason; one that begins in the future is no
// reason to refuse anybody, and all is well when the clock is.
func TestFailureClock(t *testing.T) {
	t.Parallel()
	g := start(t, setup{options: "session {\nidle 1h\n}\n" + withAlipay})
	c := takeClock(t, g.process.Process)
	early := g.login(programA, "alice")
	unused := g.login(programA, "bob")

	const updates = `caddy_miniprogram_store_seconds_count{op="update"}`
	before := g.metric(updates)
	c.set(30 * time.Minute)
	g.served(early, "alice")
	eventually(t, "that she was there is written down", func() bool { return g.metric(updates) > before })
	c.set(80 * time.Minute)
	g.served(early, "alice") // used 50 minutes ago
	g.get("/", bearer(unused)).expect(t, 401, "session_expired")
	g.counts(requestsExpired)
	future := g.login(programA, "carol")
	if a := g.post("/miniprogram/login", g.loginBody(programC, "dave")); a.status != 500 || a.word() != "program_misconfigured" {
		t.Errorf("Alipay, which wants the time: %d %s", a.status, a.body)
	}
	g.logs("program is misconfigured")

	since := time.Now()
	c.set(0)
	g.served(early, "alice")
	g.served(unused, "bob")
	g.served(future, "carol")
	g.served(g.login(programA, "carol"), "carol")
	g.post("/miniprogram/logout", "", bearer(future)).expectStatus(t, 204)
	g.get("/", bearer(future)).expect(t, 401, "session_revoked")
	g.login(programC, "dave")
	g.recovered(since)

	c.set(-24 * time.Hour)
	g.served(early, "alice")
	g.recovered(time.Now())
	c.set(0)
	g.served(early, "alice")
}

// A clock that is set while Redis is away: for how long nobody can tell of
// revocations is not a matter of what the clock says.
func TestFailureClockWithoutRedis(t *testing.T) {
	if !installed(t, redisserver.Programs...) {
		return
	}
	t.Parallel()
	server := redisServer(t)
	network := proxied(t, server.Address)
	g := start(t, setup{options: inRedis(network.Address())})
	c := takeClock(t, g.process.Process)
	token := g.login(programA, "alice")
	g.warm(token)
	network.Set(toxic.Condition{Refused: true})
	g.logs("store does not tell about changes")
	c.set(10 * time.Minute)
	g.served(token, "alice")
	c.set(-10 * time.Minute)
	g.served(token, "alice")
	c.set(0)
	network.Set(toxic.Condition{})
	g.recovered(time.Now())
}
