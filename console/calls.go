package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// callsPerPage is how many calls a page lists.
	callsPerPage = 50
	// listLife is how long a list is shown again without another reading, so that all
	// browsers at one list cost one reading in that time. maxLists of them are kept.
	listLife = 3 * time.Second
	maxLists = 32
)

// callsView is the content of the list of calls.
type callsView struct {
	Filter callsFilter
	Calls  []callRow
	Older  string // address of the next page
	Newest string // address of the first page, when this is another
	Back   time.Time
	Types  []string
	States []replay.State
}

// callsFilter is the query of the list as it was asked for.
type callsFilter struct{ Since, Until, Type, Resource, State, Outcome, Before string }

type callRow struct {
	Began    time.Time
	Duration time.Duration
	State    replay.State
	Events   int
	Failures int
	Legs     int
	Latest   string
	Outcome  string // codes in words
	Failed   bool   // that outcome is of a failure
	Resource string
	ID       string // of its first connection
}

var callStates = []replay.State{replay.Active, replay.Ended, replay.Failed, replay.Silent, replay.Partial}

func (c *Console) callsPage(r *http.Request) (*page, error) {
	q := r.URL.Query()
	if id := strings.TrimSpace(q.Get("id")); id != "" {
		return nil, redirectError("/calls/" + url.PathEscape(id))
	}
	f := callsFilter{q.Get("since"), q.Get("until"), q.Get("type"), q.Get("resource"), q.Get("state"), q.Get("outcome"), q.Get("before")}
	selection, err := f.page(time.Now())
	if err != nil {
		return nil, usageError{err}
	}
	recent, err := c.recent(r.Context(), f, selection)
	if err != nil {
		return nil, err
	}
	v := &callsView{Filter: f, Back: recent.Back, States: callStates}
	for _, t := range schemas.Types() {
		v.Types = append(v.Types, t.Name)
	}
	slices.Sort(v.Types)
	now := time.Now()
	for _, call := range recent.Calls {
		v.Calls = append(v.Calls, newCallRow(call, now))
	}
	if recent.Next > 0 {
		older := f
		older.Before = strconv.FormatUint(recent.Next, 10)
		v.Older = older.address()
	}
	p := &page{Title: "Calls", Template: "calls", Content: v, Commands: []string{f.command()}}
	if f.Before == "" && f.Until == "" {
		p.Live = "/live?calls=all"
	} else {
		newest := f
		newest.Before = ""
		v.Newest = newest.address()
	}
	return p, nil
}

// page reads the filter.
func (f callsFilter) page(now time.Time) (replay.Page, error) {
	p := replay.Page{Resource: f.Resource, Type: f.Type, State: replay.State(f.State), Outcome: f.Outcome, Calls: callsPerPage}
	if f.State != "" && !slices.Contains(callStates, p.State) {
		return p, fmt.Errorf("a call is not %s", printable(f.State))
	}
	for _, bound := range []struct {
		text string
		at   *time.Time
	}{{f.Since, &p.Since}, {f.Until, &p.Until}} {
		if bound.text == "" {
			continue
		}
		position, err := replay.ParsePosition(bound.text, now)
		if err != nil || position.Sequence != 0 {
			return p, fmt.Errorf("%s is not a duration such as 10m, or a time such as 2026-03-01T14:30", printable(bound.text))
		}
		*bound.at = position.Time
	}
	if f.Before != "" {
		before, err := strconv.ParseUint(f.Before, 10, 64)
		if err != nil {
			return p, fmt.Errorf("%s is not a sequence", printable(f.Before))
		}
		p.Before = before
	}
	return p, nil
}

// address is the list's own.
func (f callsFilter) address() string {
	q := make(url.Values)
	for name, value := range map[string]string{
		"since": f.Since, "until": f.Until, "type": f.Type, "resource": f.Resource, "state": f.State, "outcome": f.Outcome, "before": f.Before,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return "/calls"
	}
	return "/calls?" + q.Encode()
}

// command shows the same calls, but for the filters that it does not have.
func (f callsFilter) command() string {
	command := "acsbridge calls --since " + quoted(cmp.Or(f.Since, "1h"))
	if f.Resource != "" {
		command += " --resource " + quoted(f.Resource)
	}
	if f.Outcome != "" {
		command += " --outcome " + quoted(f.Outcome)
	}
	return command
}

// quoted is a word for a POSIX shell.
func quoted(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:./") == "" && word[0] != '-' {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func newCallRow(call *replay.Summary, now time.Time) callRow {
	row := callRow{
		Began: call.First(), Duration: call.Last().Sub(call.First()), State: call.State(now),
		Events: call.Events, Failures: call.Failures, Latest: call.Latest,
	}
	row.Outcome, row.Failed = call.Outcome()
	first := call.Legs[0]
	for _, leg := range call.Legs {
		if !leg.Connects() {
			continue
		}
		if row.Legs++; row.Legs == 1 {
			first = leg
		}
	}
	row.ID, row.Resource = first.ID, first.Resource
	return row
}

// recent reads a page of calls, or returns one that was read just now.
func (c *Console) recent(ctx context.Context, f callsFilter, selection replay.Page) (recent *replay.Recent, err error) {
	entry := c.lists.entry(f)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.recent != nil && time.Since(entry.at) < listLife {
		return entry.recent, nil
	}
	began := time.Now()
	err = c.read(ctx, func(reader *replay.Reader) error {
		recent, err = reader.Recent(ctx, selection, time.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	entry.recent, entry.at = recent, began
	return recent, nil
}

// cache has the lists that were read last.
type cache struct {
	mu      sync.Mutex
	entries map[callsFilter]*cacheEntry
}

// cacheEntry is one list. Its lock is held while the list is read.
type cacheEntry struct {
	mu     sync.Mutex
	at     time.Time // when the reading began
	recent *replay.Recent
	used   time.Time // guarded by the lock of the cache
}

func (l *cache) entry(f callsFilter) *cacheEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries = make(map[callsFilter]*cacheEntry)
	}
	e := l.entries[f]
	if e == nil {
		e = &cacheEntry{}
		if len(l.entries) >= maxLists {
			l.removeOldest()
		}
		l.entries[f] = e
	}
	e.used = time.Now()
	return e
}

func (l *cache) removeOldest() {
	var oldest callsFilter
	var at time.Time
	for f, e := range l.entries {
		if at.IsZero() || e.used.Before(at) {
			oldest, at = f, e.used
		}
	}
	delete(l.entries, oldest)
}
