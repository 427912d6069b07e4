package faults_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
)

// recorded is what the server of the sender's test got.
type recorded struct {
	path, query, token string
	body               []byte
	status             int
}

// script is a server that answers with statuses in turn, zero being a
// connection that breaks, and 200 when they are used up.
type script struct {
	mu       sync.Mutex
	statuses []int
	got      []recorded
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	status := http.StatusOK
	if len(s.statuses) > 0 {
		status, s.statuses = s.statuses[0], s.statuses[1:]
	}
	s.got = append(s.got, recorded{r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"), body, status})
	s.mu.Unlock()
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
}

// received is what came so far.
func (s *script) received() []recorded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// newScript starts the server, and a sender of one call that sends to it.
func newScript(t *testing.T, m mix, statuses ...int) (*script, *sender) {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server := &script{statuses: statuses}
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	s := newSender(t, &purse{issuer: issuer, tokens: fewTokens()}, load{calls: 1, rate: 1000, mix: m}, 1, trueCanary)
	s.aim(target{"bridge", listening.URL + "/callbacks"})
	return server, s
}

// fewTokens are no tokens, but differ.
func fewTokens() []token {
	list := make([]token, purseSize)
	for i := range list {
		list[i] = token{id: string(rune('A' + i)), text: "text-of-" + string(rune('A'+i))}
	}
	return list
}

// TestSenderRepeats until 200, with the same bytes and another token each time,
// and writes down every attempt as it was.
func TestSenderRepeats(t *testing.T) {
	server, s := newScript(t, mix{size: [2]int{0, 500}, batch: 2}, 503, 0, 500, 200)
	c := s.authors[0].next()
	s.deliver(t.Context(), c)
	s.attempt(c, true)
	received := server.received()
	if len(received) != 5 || len(c.attempts) != 5 {
		t.Fatalf("the server got %d, the sender noted %d, want 5 of each", len(received), len(c.attempts))
	}
	tokens := make(map[string]bool)
	for i, got := range received {
		a := c.attempts[i]
		if string(got.body) != string(c.body()) || got.path != "/callbacks/"+c.path || got.query != c.query {
			t.Errorf("attempt %d was %s?%s %q", i, got.path, got.query, got.body)
		}
		if got.status != a.status || (a.status == 0) != (a.err != "") {
			t.Errorf("attempt %d: answered %d, noted %d %q", i, got.status, a.status, a.err)
		}
		if a.sent.IsZero() || a.answered.Before(a.sent) || a.bridge != "bridge" || a.again != (i == 4) {
			t.Errorf("attempt %d: noted %+v", i, a)
		}
		if got.token != "Bearer text-of-"+a.token {
			t.Errorf("attempt %d: sent %q, noted %q", i, got.token, a.token)
		}
		tokens[a.token] = true
	}
	if len(tokens) != 5 {
		t.Errorf("5 attempts had %d tokens", len(tokens))
	}
	for _, e := range c.events {
		if !bytes.Contains(received[0].body, e.payload) {
			t.Errorf("%q was not sent", e.payload)
		}
	}
}

// TestSenderGivesUp on what no repetition can change, and on what is hostile.
func TestSenderGivesUp(t *testing.T) {
	for name, test := range map[string]struct {
		mix      mix
		statuses []int
		kind     kind
		want     int
	}{
		"good and refused":       {mix{}, []int{401}, good, 1},
		"good and malformed":     {mix{}, []int{503, 400}, good, 2},
		"forged and refused":     {mix{forged: 1}, []int{401}, forged, 1},
		"forged and turned away": {mix{forged: 1}, []int{503}, forged, 1},
		"astray":                 {mix{astray: 1}, []int{404}, astray, 1},
		"astray and cut off":     {mix{astray: 1}, []int{0}, astray, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server, s := newScript(t, test.mix, test.statuses...)
			c := s.authors[0].next()
			s.deliver(t.Context(), c)
			received := server.received()
			if c.kind != test.kind || len(received) != test.want {
				t.Fatalf("a %s callback was sent %d times, want %s and %d", c.kind, len(received), test.kind, test.want)
			}
			if path := received[0].path; (c.kind == astray) != (path == "/callbacks-of-nobody/"+c.path) {
				t.Errorf("a %s callback went to %s", c.kind, path)
			}
		})
	}
}

// TestSenderTurns to the next bridge when one fails, and stays with the first
// one otherwise.
func TestSenderTurns(t *testing.T) {
	_, s := newScript(t, mix{}, 503)
	url := s.targets[0].url
	s.aim(target{"one", url}, target{"two", url})
	c := s.authors[0].next()
	s.deliver(t.Context(), c)
	s.attempt(c, true)
	var got []string
	for _, a := range c.attempts {
		got = append(got, a.bridge)
	}
	if want := []string{"one", "two", "one"}; !slices.Equal(got, want) {
		t.Errorf("went to %v, want %v", got, want)
	}
}

// TestSenderHalts: what has begun is sent until it is answered.
func TestSenderHalts(t *testing.T) {
	server, s := newScript(t, mix{}, 503, 503, 503, 503)
	s.run()
	until(t, 10*time.Second, "a callback has begun", func() bool { return len(server.received()) > 0 })
	sent := s.halt()[0]
	if len(sent) == 0 {
		t.Error("nothing was noted")
	}
	for _, c := range sent {
		if _, answered := c.stored(); !answered {
			t.Errorf("callback %d was left without an answer 200", c.number)
		}
	}
}

// TestEventsRepeat: one seed, one sequence of events but for their times.
func TestEventsRepeat(t *testing.T) {
	a, b, other := newAuthor(1, 2, usual, "x"), newAuthor(1, 2, usual, "x"), newAuthor(2, 2, usual, "x")
	for range 50 {
		one, two, three := a.next(), b.next(), other.next()
		if one.kind != two.kind || len(one.events) != len(two.events) || one.path != two.path {
			t.Fatalf("one seed made %+v and %+v", one, two)
		}
		for i := range one.events {
			if one.events[i].msgID != two.events[i].msgID || len(one.events[i].payload) == 0 {
				t.Fatalf("one seed made %s and %s", one.events[i].msgID, two.events[i].msgID)
			}
		}
		if one.events[0].msgID == three.events[0].msgID {
			t.Fatal("two seeds made one event")
		}
	}
}
