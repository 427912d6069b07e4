package resend_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// receiver is an application's callback handler, without a socket.
type receiver struct {
	answer func(w http.ResponseWriter, r *http.Request, body string)
	err    error

	mu   sync.Mutex
	got  []*http.Request
	body []string
}

func (h *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.got, h.body = append(h.got, r), append(h.body, string(body))
	h.mu.Unlock()
	if h.err != nil {
		return nil, h.err
	}
	w := httptest.NewRecorder()
	if h.answer != nil {
		h.answer(w, r, string(body))
	}
	return w.Result(), nil
}

func (h *receiver) posts(t *testing.T, target string) *resend.Posts {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &resend.Posts{URL: u, ID: "r-1", Client: webhook.Client{Transport: h}}
}

// TestPosts compares a post with a callback of ACS.
func TestPosts(t *testing.T) {
	var h receiver
	p := h.posts(t, "http://app.test/api/callbacks?code=1")
	p.Token = func(*replay.StoredMessage) (string, error) { return "token", nil }
	p.AppendPath = true
	list := messages(2, 2)
	list[1].Header.Set(schemas.HeaderPath, "9f1e%2Fa/b")
	list[1].Header.Set(schemas.HeaderQuery, "callerId=%2B1555")
	sender := resend.Sender{Target: p, MaxInFlight: 1}
	if err := sender.Send(t.Context(), inOrder(list)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`[{"id":"0"}]`, `[{"id":"1"}]`}, h.body); diff != "" {
		t.Error(diff)
	}
	first, second := h.got[0], h.got[1]
	want := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Authorization": {"Bearer token"}, "Acs-Replay-Id": {"r-1"}, "Acs-Replay-Of": {"ACS/1"}}
	if diff := cmp.Diff(want, first.Header); diff != "" || first.Method != http.MethodPost || first.URL.String() != "http://app.test/api/callbacks?code=1" {
		t.Errorf("%s %s, headers (-want +got):\n%s", first.Method, first.URL, diff)
	}
	if got, want := second.URL.String(), "http://app.test/api/callbacks/9f1e%2Fa/b?code=1&callerId=%2B1555"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPosts_exactURL: without AppendPath the path and the query of the original callback
// change nothing, also when they are not known in whole.
func TestPosts_exactURL(t *testing.T) {
	var h receiver
	m := messages(1, 1)[0]
	m.Header.Set(schemas.HeaderPath, "a/../b")
	m.Header.Set(schemas.HeaderQuery, "callerId=%2B15")
	m.Header.Set(schemas.HeaderTruncated, schemas.HeaderQuery)
	sender := resend.Sender{Target: h.posts(t, "http://app.test/api/callbacks/?code=1")}
	if err := sender.Send(t.Context(), inOrder([]*replay.StoredMessage{m})); err != nil || sender.Progress().Accepted != 1 {
		t.Fatalf("error %v, %+v", err, sender.Progress())
	}
	if got, want := h.got[0].URL.String(), "http://app.test/api/callbacks/?code=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPosts_eventGrid compares posts with deliveries of Event Grid in its two schemas.
func TestPosts_eventGrid(t *testing.T) {
	list := messages(3, 3)
	for _, m := range list[1:] {
		m.Header.Set(schemas.HeaderEventType, schemas.TypeIncomingCall)
		m.Header.Set(schemas.HeaderPath, "of-no-callback")
		m.Header.Set(schemas.HeaderGridSubscription, "CALLS")
		m.Header.Set(schemas.HeaderGridDeliveryCount, "0")
	}
	list[1].Header.Set(schemas.HeaderContentType, schemas.ContentTypeEvent)
	list[2].Header.Set(schemas.HeaderContentType, schemas.ContentTypeGridEvent)
	list[2].Header.Set(schemas.HeaderGridDataVersion, "1.0")
	list[2].Header.Set(schemas.HeaderGridMetadataVersion, "1")

	var h receiver
	p := h.posts(t, "http://app.test/callbacks")
	p.ID, p.AppendPath = "", true
	var err error
	if p.EventGrid, err = url.Parse("http://app.test/events?code=1"); err != nil {
		t.Fatal(err)
	}
	sender := resend.Sender{Target: p, Sequential: true}
	if err := sender.Send(t.Context(), inOrder(list)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`[{"id":"0"}]`, `{"id":"1"}`, `[{"id":"2"}]`}, h.body); diff != "" {
		t.Error(diff)
	}
	for i, want := range []http.Header{
		{"Content-Type": {"application/json; charset=utf-8"}},
		{"Content-Type": {"application/cloudevents+json; charset=utf-8"}, "Aeg-Event-Type": {"Notification"}, "Aeg-Subscription-Name": {"CALLS"}, "Aeg-Delivery-Count": {"0"}},
		{"Content-Type": {"application/json; charset=utf-8"}, "Aeg-Event-Type": {"Notification"}, "Aeg-Subscription-Name": {"CALLS"}, "Aeg-Delivery-Count": {"0"}, "Aeg-Data-Version": {"1.0"}, "Aeg-Metadata-Version": {"1"}},
	} {
		if diff := cmp.Diff(want, h.got[i].Header); diff != "" {
			t.Errorf("post %d (-want +got):\n%s", i, diff)
		}
		if got, want := h.got[i].URL.String(), []string{"http://app.test/callbacks", "http://app.test/events?code=1"}[min(i, 1)]; got != want {
			t.Errorf("post %d: got %s, want %s", i, got, want)
		}
	}

	p.EventGrid = nil
	if _, err := p.Post(t.Context(), list[1]); !errors.Is(err, resend.ErrEventGrid) || len(h.got) != 3 {
		t.Errorf("without a URL for them: %v, %d posts", err, len(h.got))
	}
}

// TestPosts_noAnswer ends the sending within seconds, and not once for each message.
func TestPosts_noAnswer(t *testing.T) {
	for _, test := range []struct {
		name     string
		answered int // posts that are answered before
		within   time.Duration
	}{
		{"never", 0, 2 * time.Second},
		{"at first", 3, 20 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &receiver{}
				h.answer = func(http.ResponseWriter, *http.Request, string) {
					if len(h.got) >= test.answered {
						h.err = errors.New("unreachable")
					}
				}
				if test.answered == 0 {
					h.err = errors.New("unreachable")
				}
				sender := resend.Sender{Target: h.posts(t, "http://app.test:8080/path?secret=1"), Sequential: true}
				began := time.Now()
				err := sender.Send(t.Context(), inOrder(messages(5000, 10)))
				if took := time.Since(began); !errors.Is(err, resend.ErrNoAnswer) || took > test.within {
					t.Errorf("after %v: %v", took, err)
				}
				if want := "nothing answers at http://app.test:8080: unreachable"; err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
				if p := sender.Progress(); p.Accepted != test.answered || p.Rejected != 0 || p.Next != uint64(test.answered+1) {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

// TestPosts_oneWithoutAnswer does not take a receiver for dead that answers others.
func TestPosts_oneWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h receiver
		p := h.posts(t, "http://app.test/")
		p.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get(schemas.HeaderReplayOf) == "ACS/4" {
				return nil, errors.New("unreachable")
			}
			return h.RoundTrip(r)
		})
		sender := resend.Sender{Target: p, Pace: resend.Pace{Rate: 1}}
		if err := sender.Send(t.Context(), inOrder(messages(30, 30))); err != nil {
			t.Fatal(err)
		}
		if p := sender.Progress(); p.Accepted != 29 || p.Rejected != 1 {
			t.Errorf("%+v", p)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPosts_path rejects a path that leads elsewhere, without a post.
func TestPosts_path(t *testing.T) {
	var h receiver
	m := messages(1, 1)[0]
	m.Header.Set(schemas.HeaderPath, "a/../../admin")
	posts := h.posts(t, "http://app.test/api")
	posts.AppendPath = true
	sender := resend.Sender{Target: posts}
	if err := sender.Send(t.Context(), inOrder([]*replay.StoredMessage{m})); err != nil || sender.Progress().Rejected != 1 || len(h.got) > 0 {
		t.Errorf("error %v, %+v, %d posts", err, sender.Progress(), len(h.got))
	}
}

// TestPosts_truncatedURL does not post to a URL that was cut. This does not count as
// a fault of the receiver.
func TestPosts_truncatedURL(t *testing.T) {
	for _, test := range []struct {
		cut      string
		postAll  bool
		posted   int
		rejected int
	}{
		{schemas.HeaderQuery, false, 2, 28},
		{schemas.HeaderPath, false, 2, 28},
		{"ce-source," + schemas.HeaderPath + "," + schemas.HeaderQuery, false, 2, 28},
		{schemas.HeaderQuery, true, 30, 0},
		{schemas.HeaderTokenClaims + ",ce-id", false, 30, 0}, // which a post does not have
	} {
		var h receiver
		posts := h.posts(t, "http://app.test/api/callbacks")
		posts.AppendPath, posts.PostTruncated = true, test.postAll
		list := messages(30, 3)
		for _, m := range list[1:29] {
			m.Header.Set(schemas.HeaderQuery, "callerId=%2B15")
			m.Header.Set(schemas.HeaderTruncated, test.cut)
		}
		var last error
		sender := resend.Sender{Target: posts, MaxInFlight: 1, OnDone: func(_ *replay.StoredMessage, err error) {
			if err != nil {
				last = err
			}
		}}
		if err := sender.Send(t.Context(), inOrder(list)); err != nil {
			t.Fatal(err)
		}
		p := sender.Progress()
		if len(h.got) != test.posted || p.Accepted != test.posted || p.Rejected != test.rejected || p.Truncated != test.rejected {
			t.Errorf("%+v: %d posts, %+v", test, len(h.got), p)
		}
		if test.rejected > 0 != errors.Is(last, resend.ErrTruncatedURL) {
			t.Errorf("%+v: %v", test, last)
		}
	}
}

// TestPosts_retry posts again as often as that can help, with pauses.
func TestPosts_retry(t *testing.T) {
	for _, test := range []struct {
		name     string
		statuses []int // one an attempt, the last one for all that follow
		attempts int
		want     string // of the error
		atLeast  time.Duration
	}{
		{"accepted", []int{200}, 1, "", 0},
		{"accepted without a body", []int{204}, 1, "", 0},
		{"accepted at last", []int{503, 500, 429, 408, 202}, 5, "", 1500 * time.Millisecond},
		{"never accepted", []int{503}, 6, "sequence 1: 503 Service Unavailable, 6 times", 3 * time.Second},
		{"refused", []int{401}, 1, "sequence 1: 401 Unauthorized", 0},
		{"redirected", []int{307}, 1, "sequence 1: 307 Temporary Redirect", 0},
		{"asked to wait", []int{-1, 200}, 2, "", 7 * time.Second},
		{"asked to wait long", []int{-2, 200}, 2, "", 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &receiver{}
				attempts := 0
				h.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
					status := test.statuses[min(attempts, len(test.statuses)-1)]
					switch attempts++; status {
					case -1:
						w.Header().Set("Retry-After", "7")
						status = 503
					case -2:
						w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
						status = 429
					}
					w.Header().Set("Location", "http://elsewhere.test/")
					w.WriteHeader(status)
				}
				var got string
				began := time.Now()
				sender := resend.Sender{Target: h.posts(t, "http://app.test/?secret=1"), OnDone: func(_ *replay.StoredMessage, err error) {
					if err != nil {
						got = err.Error()
					}
				}}
				if err := sender.Send(t.Context(), inOrder(messages(1, 1))); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				if got != test.want || len(h.got) != test.attempts || took < test.atLeast || took > 2*test.atLeast+10*time.Second {
					t.Errorf("%d attempts in %v: %q", len(h.got), took, got)
				}
			})
		})
	}
}
