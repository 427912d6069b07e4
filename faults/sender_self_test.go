package faults_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
)

// recorded is a request that the server of these tests got, and its answer.
type recorded struct {
	path, query, token, body string
	status                   int
}

// server answers with statuses in turn, then with 200. Zero breaks the connection.
type server struct {
	mu       sync.Mutex
	statuses []int
	got      []recorded
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	status := http.StatusOK
	if len(s.statuses) > 0 {
		status, s.statuses = s.statuses[0], s.statuses[1:]
	}
	s.got = append(s.got, recorded{r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"), string(body), status})
	s.mu.Unlock()
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
}

func (s *server) received() []recorded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// newServer starts a server, and makes a sender of one call for it.
func newServer(t *testing.T, m mix, statuses ...int) (*server, *sender) {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]token, purseSize)
	for i := range tokens {
		tokens[i] = token{id: string(rune('A' + i)), text: "text-of-" + string(rune('A'+i))}
	}
	h := &server{statuses: statuses}
	listening := httptest.NewServer(h)
	t.Cleanup(listening.Close)
	s := newSender(t, &purse{issuer: issuer, tokens: tokens}, load{calls: 1, rate: 1000, mix: m}, 1, trueCanary)
	s.aim(target{"bridge", listening.URL + "/callbacks"})
	return h, s
}

// TestSender_retries until 200, with the same bytes and a new token, and notes every
// attempt.
func TestSender_retries(t *testing.T) {
	h, s := newServer(t, mix{size: [2]int{0, 500}, batch: 2}, 503, 0, 500, 200)
	c := s.authors[0].next()
	s.deliver(t.Context(), c)
	s.attempt(c, true)
	received := h.received()
	if len(received) != 5 || len(c.attempts) != 5 {
		t.Fatalf("the server got %d, the sender noted %d, want 5 of each", len(received), len(c.attempts))
	}
	tokens := make(map[string]bool)
	for i, got := range received {
		a := c.attempts[i]
		if want := (recorded{"/callbacks/" + c.path, c.query, "Bearer text-of-" + a.token, string(c.body()), a.status}); got != want {
			t.Errorf("attempt %d was %+v, want %+v", i, got, want)
		}
		if (a.status == 0) != (a.err != "") || a.sent.IsZero() || a.answered.Before(a.sent) || a.bridge != "bridge" || a.again != (i == 4) {
			t.Errorf("attempt %d: noted %+v", i, a)
		}
		tokens[a.token] = true
	}
	if len(tokens) != 5 {
		t.Errorf("5 attempts had %d tokens", len(tokens))
	}
}

// TestSender_final: bad callbacks and final answers are not retried.
func TestSender_final(t *testing.T) {
	for name, test := range map[string]struct {
		mix      mix
		statuses []int
		kind     kind
		want     int
	}{
		"good, 401":        {mix{}, []int{401}, good, 1},
		"good, 400":        {mix{}, []int{503, 400}, good, 2},
		"forged, 401":      {mix{forged: 1}, []int{401}, forged, 1},
		"forged, 503":      {mix{forged: 1}, []int{503}, forged, 1},
		"astray, 404":      {mix{astray: 1}, []int{404}, astray, 1},
		"astray, no reply": {mix{astray: 1}, []int{0}, astray, 1},
	} {
		h, s := newServer(t, test.mix, test.statuses...)
		c := s.authors[0].next()
		s.deliver(t.Context(), c)
		received := h.received()
		if c.kind != test.kind || len(received) != test.want || (c.kind == astray) != (received[0].path == "/callbacks-of-no-route/"+c.path) {
			t.Errorf("%s: a %s callback was sent %d times, to %s", name, c.kind, len(received), received[0].path)
		}
	}
}

// TestSender_targets: a failure changes the bridge, and a duplicate goes to the first.
func TestSender_targets(t *testing.T) {
	_, s := newServer(t, mix{}, 503)
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

// TestSender_halt: callbacks that have begun are posted until they are answered 200.
func TestSender_halt(t *testing.T) {
	h, s := newServer(t, mix{}, 503, 503, 503, 503)
	s.run()
	until(t, 10*time.Second, "a callback has begun", func() bool { return len(h.received()) > 0 })
	sent := s.halt()[0]
	if len(sent) == 0 {
		t.Error("no callback was noted")
	}
	for _, c := range sent {
		if _, answered := c.stored(); !answered {
			t.Errorf("callback %d was not answered 200", c.number)
		}
	}
}

// TestAuthor_seed: one seed makes the same events, except for their times.
func TestAuthor_seed(t *testing.T) {
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
