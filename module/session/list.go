// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/minigate/minigate/module/identity"
	"github.com/minigate/minigate/module/keyring"
	"github.com/minigate/minigate/module/store"
)

// Query says which sessions to list. Zero values let all pass.
type Query struct {
	Platform, Program string
	// Subject is the user whose sessions to list.
	Subject string
	// Since and Until bound the time of sign-in, both included.
	Since, Until time.Time
	// UsedBefore is a time at or after which a session was not used, as far as
	// the store knows: that is written with some delay.
	UsedBefore time.Time
	// Limit is how many sessions a page has at most. Required.
	Limit int
	// After is Page.Next of the page before.
	After string
}

// Page is a part of the sessions that a Query is for. All pages together have each
// session once that was there all the time.
type Page struct {
	Sessions []Listed
	// Unreadable is how many records in the range of this page could not be read.
	Unreadable int
	// Next is Query.After of the next page; empty on the last one.
	Next string
}

// Listed is a session in a Page. All are valid.
type Listed struct {
	Identity identity.Identity
	DescribedSession
}

// ErrCursor says that Query.After is not what a Page said.
var ErrCursor = errors.New("it is not where a page ended")

// cursor is a place in the order of all sessions: by the subject of the user, by
// sign-in, by id. An unreadable record is at the very beginning of its user's.
type cursor struct {
	Subject  string `json:"s"`
	IssuedAt int64  `json:"t"`
	ID       string `json:"i"`
}

func (c cursor) compare(other cursor) int {
	return cmp.Or(strings.Compare(c.Subject, other.Subject), cmp.Compare(c.IssuedAt, other.IssuedAt), strings.Compare(c.ID, other.ID))
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil || c.Subject == "" {
		return c, ErrCursor
	}
	return c, nil
}

func (c cursor) String() string {
	data, err := json.Marshal(c)
	if err != nil {
		return "" // strings can always be encoded
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// listItem is a session that is found, or a record that is unreadable.
type listItem struct {
	at      cursor
	session *Listed // nil if unreadable
}

// listHeap holds the first items that are found, the last of them on top.
type listHeap []listItem

func (h listHeap) Len() int           { return len(h) }
func (h listHeap) Less(i, j int) bool { return h[i].at.compare(h[j].at) > 0 }
func (h listHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *listHeap) Push(x any) {
	if item, ok := x.(listItem); ok {
		*h = append(*h, item)
	}
}

// Pop implements heap.Interface.
func (h *listHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// subjectBytes are the bytes that a subject consists of, in their order.
const subjectBytes = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

// List returns a page of the sessions that are valid. A store has no order, and
// what is in it is sealed: without a subject, List looks through one part of the
// store after the other until the page is full, for each page. It holds one page
// in memory, and opens a record only if it belongs before what is found already.
func (m *Manager) List(ctx context.Context, q Query) (*Page, error) {
	after, err := parseCursor(q.After)
	if err != nil {
		return nil, err
	}
	cut, err := m.cutoffs(ctx, m.Cache.epoch.Load())
	if err != nil {
		return nil, err
	}
	found := make(listHeap, 0, q.Limit+2)
	// One item more than the page has says that there is a next page.
	full := func() bool { return len(found) == q.Limit+1 }
	visit := func(subject string, sealed []byte) error {
		if subject < after.Subject || full() && subject > found[0].at.Subject {
			return nil
		}
		for _, item := range m.items(subject, sealed, q, cut) {
			if item.at.compare(after) <= 0 {
				continue
			}
			if heap.Push(&found, item); len(found) > q.Limit+1 {
				heap.Pop(&found)
			}
		}
		return nil
	}
	if q.Subject != "" {
		err = m.one(ctx, q.Subject, visit)
	} else {
		for i := 0; i < len(subjectBytes) && err == nil && !full(); i++ {
			if part := subjectBytes[i : i+1]; after.Subject == "" || part >= after.Subject[:1] {
				err = m.scan(ctx, part, visit)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b listItem) int { return a.at.compare(b.at) })
	page := &Page{Sessions: []Listed{}}
	if full() {
		found = found[:q.Limit]
		page.Next = found[q.Limit-1].at.String()
	}
	for _, item := range found {
		if item.session == nil {
			page.Unreadable++
			continue
		}
		page.Sessions = append(page.Sessions, *item.session)
	}
	return page, nil
}

// items returns what a record has for a query.
func (m *Manager) items(subject string, sealed []byte, q Query, cut *cutoffs) []listItem {
	rec, err := openRecord(m.Keys, subject, sealed)
	if err != nil {
		return []listItem{{at: cursor{Subject: subject}}}
	}
	if q.Platform != "" && rec.Identity.Platform != q.Platform || q.Program != "" && rec.Identity.Program != q.Program {
		return nil
	}
	var items []listItem
	for i := range rec.Sessions {
		s := m.describe(rec, &rec.Sessions[i], cut)
		switch {
		case s.State != StateValid:
		case !q.Since.IsZero() && s.IssuedAt.Before(q.Since):
		case !q.Until.IsZero() && s.IssuedAt.After(q.Until):
		case !q.UsedBefore.IsZero() && !s.LastUsed.Before(q.UsedBefore):
		default:
			items = append(items, listItem{cursor{subject, s.IssuedAt.Unix(), s.ID}, &Listed{rec.Identity, s}})
		}
	}
	return items
}

// errFound ends a scan.
var errFound = errors.New("found")

// Find returns the user who has a session called id, and looks through the whole
// store for him; "" if there is none.
func (m *Manager) Find(ctx context.Context, id string) (subject string, err error) {
	var elsewhere error
	err = m.scan(ctx, "", func(candidate string, sealed []byte) error {
		rec, err := openRecord(m.Keys, candidate, sealed)
		if errors.Is(err, keyring.ErrElsewhere) {
			elsewhere = err
		}
		if err == nil && rec.find(id) != nil {
			subject = candidate
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	if subject == "" && err == nil {
		err = elsewhere // it may be in what cannot be read here
	}
	return subject, err
}

// one visits the record of a user.
func (m *Manager) one(ctx context.Context, subject string, visit func(subject string, sealed []byte) error) error {
	sealed, err := m.stored(ctx, subject)
	if sealed == nil || err != nil {
		return err
	}
	return visit(subject, sealed)
}

// scan visits the records of all users whose subjects begin with part.
func (m *Manager) scan(ctx context.Context, part string, visit func(subject string, sealed []byte) error) error {
	err := m.Store.Scan(ctx, RecordPrefix+part, func(e store.Entry) error {
		subject := strings.TrimPrefix(e.Key, RecordPrefix)
		if strings.Contains(subject, "/") {
			return nil // something else that is kept of the user
		}
		return visit(subject, e.Value)
	})
	if err != nil && !errors.Is(err, errFound) {
		return fmt.Errorf("looking through session records: %w", err)
	}
	return err
}
