// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childPath is the variable of the environment that tells a test that it runs
// in a process of its own, started by the test of the same name, and with
// which file.
const childPath = "MINIGATE_FILE_TEST_PATH"

// child is the command that runs t again.
func child(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childPath+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a child. What it prints is to be read from the result.
func start(t *testing.T, cmd *exec.Cmd) io.Reader {
	t.Helper()
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return output
}

func TestOpenInOtherProcess(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		openTest(t, path, options{})
		fmt.Println("open")
		select {} // until it is killed
	}
	path := newPath(t)
	cmd := child(t, path)
	line, err := bufio.NewReader(start(t, cmd)).ReadString('\n')
	if line != "open\n" {
		t.Fatalf("the child says %q, error %v", line, err)
	}
	_, err = openBolt(context.Background(), path, options{lockTimeout: time.Millisecond})
	if err == nil || err.Error() != "opening store file "+path+": another process has it open" {
		t.Errorf("error %v, want that another process has it open", err)
	}
	// One that ends within the second that Open waits makes it succeed.
	time.AfterFunc(100*time.Millisecond, func() { _ = cmd.Process.Kill() })
	openTest(t, path, options{lockTimeout: 30 * time.Second})
}

// writeForEver writes from many goroutines, and prints what was acknowledged,
// until the process is killed.
func writeForEver(t *testing.T, path string) {
	s := openTest(t, path, options{})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if err := writeAndTell(s, fmt.Sprintf("key/%d/%d/", os.Getpid(), worker), i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// writeAndTell does one round of writing. Each line is one write to stdout, so
// that being killed cuts none short.
func writeAndTell(s *boltStore, prefix string, i int) error {
	ctx := context.Background()
	key, deleted := prefix+strconv.Itoa(i), prefix+strconv.Itoa(i-1)
	if err := s.Put(ctx, key, []byte(key), 0); err != nil {
		return err
	}
	fmt.Print("put " + key + "\n")
	if i%3 == 2 {
		fmt.Print("deleting " + deleted + "\n") // it may be done and not told
		if err := s.Delete(ctx, deleted); err != nil {
			return err
		}
		fmt.Print("delete " + deleted + "\n")
	}
	count := 0
	err := s.Update(ctx, "counter", func(old []byte) ([]byte, time.Duration, error) {
		count = 1
		if old != nil {
			n, err := strconv.Atoi(string(old))
			if err != nil {
				return nil, 0, err
			}
			count += n
		}
		return strconv.AppendInt(nil, int64(count), 10), 0, nil
	})
	if err == nil {
		fmt.Print("count " + strconv.Itoa(count) + "\n")
	}
	return err
}

// TestKill kills a process that writes, again and again, each time somewhere
// else, and looks for everything that it acknowledged.
func TestKill(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		writeForEver(t, path)
		return
	}
	path := newPath(t)
	present := make(map[string]bool) // what was acknowledged: is it there?
	counted, acknowledged := 0, 0
	for round := range 8 {
		cmd := child(t, path)
		lines := bufio.NewScanner(start(t, cmd))
		for n := 0; lines.Scan(); n++ {
			what, value, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "put", "delete":
				present[value] = what == "put"
			case "deleting":
				delete(present, value)
			case "count":
				count, err := strconv.Atoi(value)
				if err != nil {
					t.Fatal(err)
				}
				counted = max(counted, count)
			default:
				t.Fatalf("the child says %q", lines.Text())
			}
			if acknowledged++; n == 50+round*211 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()

		s := openTest(t, path, options{})
		for key, want := range present {
			value, err := s.Get(context.Background(), key)
			if want && (err != nil || string(value) != key) {
				t.Errorf("round %d: %q was acknowledged, and is %q, error %v", round, key, value, err)
			}
			if !want && err == nil {
				t.Errorf("round %d: %q is there, though it was deleted", round, key)
			}
		}
		value, err := s.Get(context.Background(), "counter")
		if count, _ := strconv.Atoi(string(value)); err != nil || count < counted {
			t.Errorf("round %d: the counter is %q, error %v; %d was acknowledged", round, value, err, counted)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d operations were acknowledged", acknowledged)
}

// TestDiskFull is TestFull on a disk of 2 MiB, mounted in a process that has
// its own view of what is mounted.
func TestDiskFull(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		onFullDisk(t, path)
		return
	}
	cmd := child(t, newPath(t))
	cmd.Stderr = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 { // only as another root, where the system allows that
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	output, err := cmd.CombinedOutput()
	if os.Getuid() != 0 && (errors.Is(err, os.ErrPermission) || strings.Contains(string(output), "mounting: ")) {
		t.Log("not tested: this system lets only root mount")
		return
	}
	if err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
}

func onFullDisk(t *testing.T, path string) {
	if err := syscall.Mount("tmpfs", filepath.Dir(path), "tmpfs", 0, "size=2m,mode=700"); err != nil {
		t.Fatalf("mounting: %v", err)
	}
	s := openTest(t, path, options{})
	stored := fill(t, s)
	if stored < 1000 {
		t.Errorf("the disk is full after %d records", stored)
	}
	err := s.Put(context.Background(), "huge", make([]byte, 900_000), 0)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "writing store file "+path) {
		t.Errorf("Put: error %v, want that the disk is full", err)
	}
	wantStored(t, s, stored)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path, options{}) // on a disk that is still full
	wantStored(t, s, stored)
	makeRoom(t, s, stored)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A file that cannot even be begun.
	err = os.WriteFile(path+".ballast", make([]byte, 2<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	other := path + ".other"
	_, err = openBolt(context.Background(), other, options{})
	if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "opening store file "+other+": ") {
		t.Errorf("creating a store on a full disk: error %v", err)
	}
	for _, name := range []string{path, path + ".ballast"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	s = openTest(t, other, options{})
	mustPut(t, s, "key", "value", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A disk that was made read-only, as Linux does after an error.
	for _, name := range []string{other, path} {
		onReadOnly(t, name)
	}
}

func onReadOnly(t *testing.T, path string) {
	if err := syscall.Mount("", filepath.Dir(path), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("mounting read-only: %v", err)
	}
	_, err := openBolt(context.Background(), path, options{})
	if !errors.Is(err, syscall.EROFS) || !strings.HasPrefix(err.Error(), "opening store file "+path+": ") {
		t.Errorf("opening on a read-only disk: error %v", err)
	}
	if err := syscall.Mount("", filepath.Dir(path), "", syscall.MS_REMOUNT, "size=2m"); err != nil {
		t.Fatalf("mounting for writing: %v", err)
	}
}

// asNobody runs do with the rights of a user who owns nothing, where the test
// has more.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Getuid() != 0 {
		do()
		return
	}
	// Files are opened with the rights of the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	do()
	if err := syscall.Setfsuid(0); err != nil {
		t.Fatal(err)
	}
}

// TestOpenForbidden checks what is said about files and folders that belong to
// others.
func TestOpenForbidden(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{filepath.Dir(base), base} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(base, "sessions.db")
	filled(t, path)
	mode := func(name string, mode os.FileMode) {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(path, what string) {
		t.Helper()
		asNobody(t, func() {
			_, err := openBolt(context.Background(), path, options{})
			if !errors.Is(err, os.ErrPermission) || !strings.HasPrefix(err.Error(), "opening store file "+path+": ") {
				t.Errorf("%s: error %v", what, err)
			}
		})
	}
	mode(path, 0o444)
	refused(path, "read-only file")
	mode(path, 0o000)
	refused(path, "file without any rights")
	mode(base, 0o555)
	refused(filepath.Join(base, "new.db"), "new file in a read-only folder")
	refused(filepath.Join(base, "a", "b", "new.db"), "new folder in a read-only folder")
	mode(base, 0o000)
	refused(path, "folder without any rights")
	mode(base, 0o755)
	mode(path, 0o600)
	openTest(t, path, options{})
}
