// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/minigate/minigate/module/session"
	"github.com/minigate/minigate/module/store"
)

// Due reports whether Refresh has something to do for a profile that Get or
// Change returned: less than 90 % of the time is left for which profiles are
// kept, or that time was changed since the profile was written. It looks at
// nothing but the clock.
func (m *Manager) Due(p *Profile) bool { return p.kept() && m.due(p.end, m.Now().Unix()) }

// Refresh extends the life of a user's profile p, if that is due, and leaves
// its version and all else as it is. A profile that is gone, or was erased,
// stays away. Like Change, it is done though the client goes away.
func (m *Manager) Refresh(ctx context.Context, subject string, p *Profile) error {
	if !m.Due(p) {
		return nil
	}
	err := m.update(ctx, subject, func(rec *record, unreadable error) error {
		if unreadable != nil {
			return unreadable
		}
		now := m.Now().Unix()
		if rec.Known == nil || !m.due(rec.Known.End, now) {
			return errUnchanged // gone, or another request has done it
		}
		rec.Known.End = m.end(now)
		return nil
	})
	if err != nil {
		return fmt.Errorf("extending the life of a profile: %w", err)
	}
	return nil
}

// Sweep brings the records of all profiles up to date, and returns how many it
// wrote or deleted: those sealed with another key than the active one are
// sealed anew; those without an end get one, counted from now because nobody knows
// when their users were last seen, or lose it, according to Keep; those past their
// end are deleted. What cannot be read is left alone and told to Warn, once with
// the count.
//
// Changes and erasures may go on meanwhile, and several sweeps at once do no
// harm. An error means that the store could not do its work, or ctx is done;
// the next sweep goes on.
func (m *Manager) Sweep(ctx context.Context) (n int, err error) {
	var outdated []string
	unreadable := failures{}
	err = m.Store.Scan(ctx, session.RecordPrefix, func(e store.Entry) error {
		key, value := e.Key, e.Value
		subject, ok := strings.CutSuffix(key[len(session.RecordPrefix):], keyEnd)
		if !ok {
			return nil // sessions
		}
		now := m.Now().Unix()
		rec, err := openRecord(m.Keys, subject, value, now)
		switch {
		case err != nil:
			unreadable.add(subject, err)
		case m.adjust(rec, now):
			outdated = append(outdated, subject)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("looking through the profiles: %w", err)
	}
	for _, subject := range outdated {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		done, err := m.sweep(ctx, subject)
		if err != nil {
			return n, fmt.Errorf("bringing a profile up to date: %w", err)
		}
		if done {
			n++
		}
	}
	if unreadable.count > 0 {
		m.Warn(m.Keys.Digest(unreadable.subject),
			fmt.Errorf("%d profiles cannot be read and stay as they are; the first: %w", unreadable.count, unreadable.err))
	}
	return n, nil
}

// sweep brings the record of one user up to date, and reports whether that was
// still needed.
func (m *Manager) sweep(ctx context.Context, subject string) (done bool, err error) {
	err = m.update(ctx, subject, func(rec *record, unreadable error) error {
		done = unreadable == nil && m.adjust(rec, m.Now().Unix())
		if !done {
			return errUnchanged
		}
		return nil
	})
	return done && err == nil, err
}

// adjust gives a record the end that it should have, and reports whether the
// store holds something else.
func (m *Manager) adjust(rec *record, now int64) bool {
	if rec.Known == nil {
		return rec.stale
	}
	end := rec.Known.End
	switch latest := m.end(now); {
	case latest == 0:
		end = 0
	case end == 0:
		end = latest // nobody knows when the user was last seen
	case end > latest:
		end = latest // profiles are kept for a shorter time than before
	}
	if end != rec.Known.End {
		rec.Known.End, rec.stale = end, true
		rec.expire(now)
	}
	return rec.stale
}

// end returns when a profile ends that was changed or used at the time from, as
// a unix time; 0 for never.
func (m *Manager) end(from int64) int64 {
	if m.Keep <= 0 {
		return 0
	}
	return from + m.keepSeconds()
}

// due reports whether a profile that ends at end should end later, or earlier.
func (m *Manager) due(end, now int64) bool {
	switch keep := m.keepSeconds(); {
	case m.Keep <= 0:
		return end != 0
	case end == 0:
		return true
	default:
		left := end - now
		return left*10 < keep*9 || left*10 > keep*11 // some slack, for the clocks of nodes differ
	}
}

// keepSeconds returns Keep in whole seconds, rounded up.
func (m *Manager) keepSeconds() int64 {
	return int64((m.Keep + time.Second - 1) / time.Second)
}

// failures counts what could not be read, and remembers the first.
type failures struct {
	count   int
	subject string
	err     error
}

func (f *failures) add(subject string, err error) {
	if f.count == 0 {
		f.subject, f.err = subject, err
	}
	f.count++
}
