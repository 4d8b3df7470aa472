// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a user may expect of his profile, without stores and seals.
type model struct {
	nickname, avatar string
	version          int64
	kept             bool
	ends             int64 // 0: never
	ended            map[string]bool
	remembered       int64 // until when ended is
}

// pass lets time do its work.
func (m *model) pass(now int64) {
	if m.kept && m.ends != 0 && now >= m.ends {
		m.kept, m.nickname, m.avatar = false, "", ""
	}
	if len(m.ended) > 0 && now >= m.remembered {
		m.ended = nil
	}
	if !m.kept && now >= m.remembered {
		m.version = 0
	}
}

func (m *model) extend(now int64, keep time.Duration) {
	m.ends = 0
	if keep > 0 {
		m.ends = now + int64(keep/time.Second)
	}
}

// Whatever is done in whatever order, the profile is what the model says.
func TestAgainstModel(t *testing.T) {
	sessions := []string{"s1", "s2", "s3", ""}
	rapid.Check(t, func(r *rapid.T) {
		keep := rapid.SampledFrom([]time.Duration{0, 30 * time.Minute, 3 * time.Hour}).Draw(r, "keep")
		f := newFixture(t, keep)
		m := &model{}
		f.tb = t
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) {
				m.pass(f.clock.Load())
				p := f.get()
				if p.Stated.Nickname != m.nickname || p.Avatar != m.avatar || p.Version != m.version || p.kept() != m.kept {
					r.Fatalf("the profile is %+v, want %+v", p, m)
				}
			},
			"change": func(r *rapid.T) {
				session := rapid.SampledFrom(sessions).Draw(r, "session")
				nickname := rapid.SampledFrom([]string{"", "Al", "Bo"}).Draw(r, "nickname")
				avatar := rapid.SampledFrom([]string{"", "a.png", "b.jpg"}).Draw(r, "avatar")
				before := f.get()
				p, err := f.Change(t.Context(), author(session), func(p *Profile) error {
					if p.Version != before.Version {
						r.Errorf("version %d in a change, %d before", p.Version, before.Version)
					}
					p.Stated.Nickname, p.Avatar = nickname, avatar
					return nil
				})
				if m.ended[session] {
					if !errors.Is(err, ErrErased) || p != nil {
						r.Fatalf("a change by a session that an erasure ended: %v, %v", p, err)
					}
					return
				}
				if err != nil {
					r.Fatal(err)
				}
				if nickname != m.nickname || avatar != m.avatar {
					m.nickname, m.avatar, m.kept = nickname, avatar, true
					m.version++
					m.extend(f.clock.Load(), keep)
				}
				if *p != *f.get() {
					r.Fatalf("Change returned %+v, Get %+v", p, f.get())
				}
			},
			"refuse": func(r *rapid.T) {
				refusal := errors.New("refused")
				session := rapid.SampledFrom(sessions).Draw(r, "session")
				_, err := f.Change(t.Context(), author(session), func(p *Profile) error {
					p.Stated.Nickname = "refused"
					return refusal
				})
				if want := map[bool]error{true: ErrErased, false: refusal}[m.ended[session]]; !errors.Is(err, want) {
					r.Fatalf("error %v, want %v", err, want)
				}
			},
			"erase": func(r *rapid.T) {
				gone := rapid.SliceOfDistinct(rapid.SampledFrom(sessions[:3]), rapid.ID).Draw(r, "sessions")
				if avatar := f.erase(gone...); avatar != m.avatar {
					r.Fatalf("the picture is %q, want %q", avatar, m.avatar)
				}
				if m.ended == nil {
					m.ended = make(map[string]bool)
				}
				for _, id := range gone {
					m.ended[id] = true
				}
				m.nickname, m.avatar, m.kept = "", "", false
				m.version++
				m.remembered = f.clock.Load() + 3600
			},
			"refresh": func(*rapid.T) {
				p := f.get()
				due := f.Due(p)
				f.refresh(p)
				if due {
					m.extend(f.clock.Load(), keep)
				}
			},
			"sweep": func(r *rapid.T) {
				if _, err := f.Sweep(t.Context()); err != nil {
					r.Fatal(err)
				}
				if !m.kept && m.version == 0 && f.raw() != nil {
					r.Fatal("something is left")
				}
			},
			"rotate": func(r *rapid.T) {
				if _, err := f.Sweep(t.Context()); err != nil {
					r.Fatal(err)
				}
				if len(f.Keys.IDs()) == 1 {
					f.Keys = ring(t, 2, 1)
				} else {
					f.Keys = ring(t, 2)
				}
				if f.Keys.ActiveID() != ring(t, 2).ActiveID() {
					r.Fatal("wrong key")
				}
			},
			"wait": func(r *rapid.T) {
				minutes := rapid.IntRange(0, 70).Draw(r, "minutes")
				f.clock.advance(time.Duration(minutes) * time.Minute)
			},
		})
	})
}
