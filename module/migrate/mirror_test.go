// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/minigate/minigate/module/migrate"
	"github.com/minigate/minigate/module/store"
	"github.com/minigate/minigate/module/store/storetest"
)

// The gateway works on a mirror at all times: it must keep the contract when
// nothing is migrated, while a copy follows, and after it has moved there.
func TestMirrorKeepsTheContract(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *migrate.Mirror, store.Store, store.Store){
		"alone": func(*testing.T, *migrate.Mirror, store.Store, store.Store) {},
		"followed": func(t *testing.T, m *migrate.Mirror, from, to store.Store) {
			// The suite closes the source under load: then nothing can be followed.
			if err := m.Follow(migrate.New(from, to, nil)); err != nil {
				t.Fatal(err)
			}
		},
		"back": func(t *testing.T, m *migrate.Mirror, from, to store.Store) {
			there, back := newCopier(t, from, to), newCopier(t, to, from)
			follow(t, m, there)
			move(t, m, there, nil)
			follow(t, m, back)
			move(t, m, back, migrate.New(from, to, nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				from, to := memories(t)
				m := migrate.NewMirror(from)
				prepare(t, m, from, to)
				return m
			})
		})
	}
}

func follow(t testing.TB, m *migrate.Mirror, c *migrate.Copier) {
	t.Helper()
	if err := m.Follow(c); err != nil {
		t.Fatal(err)
	}
}

func move(t testing.TB, m *migrate.Mirror, c, next *migrate.Copier) {
	t.Helper()
	if err := m.Move(c, next, nil, func() {}); err != nil {
		t.Fatal(err)
	}
}

// What a phone is told is done, in whatever order it comes with the copy, a
// removal or another write: after it the copy is equal, and what was removed at
// the source does not come back.
func TestWritesDuringTheCopy(t *testing.T) {
	forPairs(t, func(t *testing.T, from, to store.Store) {
		rapid.Check(t, func(rt *rapid.T) {
			clear := func(s store.Store) {
				for key := range contents(t, s) {
					if err := s.Delete(bounded(t), key); err != nil {
						rt.Fatal(err)
					}
				}
			}
			clear(from)
			clear(to)
			some := func(label string, s store.Store) {
				for key, value := range rapid.MapOf(names, rapid.SampledFrom([]string{"", "a", "b"})).Draw(rt, label) {
					put(t, s, key, value, 0)
				}
			}
			some("source", from)
			some("destination", to)
			m := migrate.NewMirror(from)
			c := migrate.New(from, to, func(err error) { rt.Errorf("broken: %v", err) })
			writers := rapid.SliceOfN(rapid.SliceOfN(writes, 1, 20), 1, 4).Draw(rt, "writers")
			begin := rapid.IntRange(0, 20).Draw(rt, "writes before the migration")
			var wg sync.WaitGroup
			done := make(chan struct{}, 100)
			for _, ops := range writers {
				wg.Go(func() {
					for _, op := range ops {
						if err := op.do(t, m); err != nil {
							rt.Errorf("%s: %v", op.kind, err)
						}
						done <- struct{}{}
					}
				})
			}
			total := 0
			for _, ops := range writers {
				total += len(ops)
			}
			for range min(begin, total) {
				<-done
			}
			if err := m.Follow(c); err != nil {
				rt.Fatal(err)
			}
			if err := c.Copy(bounded(t)); err != nil {
				rt.Fatal(err)
			}
			wg.Wait()
			compare(rt, contents(t, from), contents(t, to))
			m.Leave(c)
		})
	})
}

// names are few, so that writes meet.
var names = rapid.SampledFrom([]string{"user/1", "user/2", "user/1/profile", "known/x", "key/~"})

// writeOp is a write of one key.
type writeOp struct{ kind, key, value string }

var writes = rapid.Custom(func(rt *rapid.T) writeOp {
	return writeOp{
		rapid.SampledFrom([]string{"put", "put-ttl", "update", "append", "remove", "refuse", "delete"}).Draw(rt, "kind"),
		names.Draw(rt, "key"), rapid.SampledFrom([]string{"1", "22", "333"}).Draw(rt, "value"),
	}
})

var errRefused = errors.New("refused")

func (op writeOp) do(t *testing.T, s store.Store) error {
	ctx := bounded(t)
	update := func(change store.Change) error { return s.Update(ctx, op.key, change) }
	var err error
	switch op.kind {
	case "put":
		err = s.Put(ctx, op.key, []byte(op.value), 0)
	case "put-ttl":
		err = s.Put(ctx, op.key, []byte(op.value), time.Hour)
	case "update":
		err = update(func([]byte) ([]byte, time.Duration, error) { return []byte(op.value), time.Minute, nil })
	case "append":
		err = update(func(old []byte) ([]byte, time.Duration, error) { return append(old, op.value...), 0, nil })
	case "remove":
		err = update(func([]byte) ([]byte, time.Duration, error) { return nil, 0, nil })
	case "refuse":
		if err = update(func([]byte) ([]byte, time.Duration, error) { return nil, 0, errRefused }); errors.Is(err, errRefused) {
			err = nil
		}
	case "delete":
		err = s.Delete(ctx, op.key)
	}
	return err
}

// A user signs out, or in again, while what he did before is on its way to the
// destination: what he did last must be what is there in the end.
func TestWritesOfOneKeyStayInOrder(t *testing.T) {
	for name, last := range map[string]func(t *testing.T, m store.Store) error{
		"": func(t *testing.T, m store.Store) error { return m.Delete(bounded(t), "user/alice") },
		"once more": func(t *testing.T, m store.Store) error {
			return m.Put(bounded(t), "user/alice", []byte("once more"), 0)
		},
		"first last": func(t *testing.T, m store.Store) error { return writeOp{"append", "user/alice", " last"}.do(t, m) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := memories(t)
			inHand, proceed := make(chan struct{}), make(chan struct{})
			var once sync.Once
			m := migrate.NewMirror(from)
			c := newCopier(t, from, &faulty{to, func(context.Context, string) error {
				once.Do(func() {
					close(inHand)
					<-proceed
				})
				return nil
			}})
			follow(t, m, c)
			if err := c.Copy(bounded(t)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 2)
			go func() { done <- m.Put(bounded(t), "user/alice", []byte("first"), 0) }()
			<-inHand
			go func() { done <- last(t, m) }()
			eventually(t, "the source has it", func() bool {
				got, _ := from.Get(bounded(t), "user/alice")
				return string(got) == name
			})
			// Whoever does not wait gets past the first one now.
			select {
			case <-done:
				t.Error("the second is answered before the first is at the destination")
				done <- nil
			case <-time.After(50 * time.Millisecond):
			}
			close(proceed)
			if err := errors.Join(<-done, <-done); err != nil {
				t.Fatal(err)
			}
			if got, _ := to.Get(bounded(t), "user/alice"); string(got) != name {
				t.Errorf("the destination has %q", got)
			}
		})
	}
}

// The destination goes down while it is followed. Nobody at the gateway notices:
// every write stands, one of them waits, the operator is told once.
func TestFollowingBreaks(t *testing.T) {
	for name, fault := range map[string]func(context.Context) error{
		"refuses": func(context.Context) error { return errDown },
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := memories(t)
			var down atomic.Bool
			var calls, told atomic.Int64
			m := migrate.NewMirror(from)
			c := migrate.New(from, &faulty{to, func(ctx context.Context, _ string) error {
				if !down.Load() {
					return nil
				}
				calls.Add(1)
				return fault(ctx)
			}}, func(error) { told.Add(1) })
			follow(t, m, c)
			put(t, m, "user/before", "1", 0)
			if err := c.Copy(bounded(t)); err != nil || c.Broken() != nil {
				t.Fatal(err, c.Broken())
			}
			down.Store(true)
			begin := time.Now()
			for i := range 20 {
				put(t, m, fmt.Sprint("user/", i), "1", 0)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("20 writes took %v", took)
			}
			if calls.Load() != 1 || told.Load() != 1 || !errors.Is(c.Broken(), errDown) && !errors.Is(c.Broken(), context.DeadlineExceeded) {
				t.Errorf("%d calls, told %d times, broken: %v", calls.Load(), told.Load(), c.Broken())
			}
			if got := contents(t, from); len(got) != 21 {
				t.Errorf("the source has %d records", len(got))
			}
			if err := m.Move(c, nil, nil, func() {}); err == nil {
				t.Error("it moves to a copy that is not one")
			}
			m.Leave(c)
			put(t, m, "user/after", "1", 0)
		})
	}
}

// Gateways are reloaded under load. A counter that several clients count up is
// right in the end, whatever moves below it: no write is lost, none is done twice.
func TestMoveUnderLoad(t *testing.T) {
	forPairs(t, func(t *testing.T, from, to store.Store) {
		const clients, keys = 16, 5
		m := migrate.NewMirror(from)
		var acknowledged [keys]atomic.Int64
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for client := range clients {
			wg.Go(func() {
				for i := client; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := m.Update(bounded(t), key(i%keys), countUp); err != nil {
						t.Errorf("counting: %v", err)
						return
					}
					acknowledged[i%keys].Add(1)
				}
			})
		}
		at, other := from, to
		for range 6 {
			c := newCopier(t, at, other)
			follow(t, m, c)
			if err := c.Copy(bounded(t)); err != nil {
				t.Fatal(err)
			}
			seen := acknowledged[0].Load()
			eventually(t, "clients go on", func() bool { return acknowledged[0].Load() > seen+20 })
			move(t, m, c, nil)
			at, other = other, at
		}
		close(stop)
		wg.Wait()
		for i := range keys {
			got, err := at.Get(bounded(t), key(i))
			if want := strconv.FormatInt(acknowledged[i].Load(), 10); err != nil || string(got) != want {
				t.Errorf("counter %d is %s, and was counted up %s times, error %v", i, got, want, err)
			}
		}
	})
}

func key(i int) string { return "user/" + strconv.Itoa(i) }

func countUp(old []byte) ([]byte, time.Duration, error) {
	n := 0
	if old != nil {
		var err error
		if n, err = strconv.Atoi(string(old)); err != nil {
			return nil, 0, err
		}
	}
	return []byte(strconv.Itoa(n + 1)), time.Hour, nil
}

// A watcher must not go on to believe a place that nobody writes to any more.
func TestWatchEndsWithAMove(t *testing.T) {
	from, to := memories(t)
	m := migrate.NewMirror(from)
	watch := func(ctx context.Context) (ended chan error, started chan struct{}) {
		ended, started = make(chan error, 1), make(chan struct{})
		go func() {
			ended <- m.Watch(ctx, "user/", store.Observer{Started: func() { close(started) }, Changed: func(string) {}})
		}()
		return ended, started
	}
	ended, started := watch(t.Context())
	<-started
	there := newCopier(t, from, to)
	follow(t, m, there)
	var told []string
	if err := m.Move(there, nil, func(key string) { told = append(told, key) }, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, migrate.ErrMoved) {
		t.Errorf("error %v", err)
	}
	put(t, m, "user/1", "x", 0)
	if err := m.Delete(bounded(t), "user/2"); err != nil || len(told) != 2 {
		t.Errorf("others are told of %v, error %v", told, err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended, started = watch(brief)
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	case <-started:
		t.Error("the watch of a store that others use was started")
	}
	back := newCopier(t, to, from)
	follow(t, m, back)
	put(t, m, "user/3", "x", 0)
	if len(told) != 3 {
		t.Errorf("others are told of %v", told)
	}
	move(t, m, back, nil)
	_, started = watch(t.Context())
	<-started
}

// What it costs to be ready to migrate.
func BenchmarkMirror(b *testing.B) {
	from, _ := kinds["memory"](b)
	for name, s := range map[string]store.Store{"store": from, "mirror": migrate.NewMirror(from)} {
		value := make([]byte, 400)
		put(b, s, "user/1", string(value), 0)
		b.Run(name+"/get", func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Get(b.Context(), "user/1"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/put", func(b *testing.B) {
			for b.Loop() {
				if err := s.Put(b.Context(), "user/1", value, time.Hour); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
