package ingest_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/ingest"
)

// statusFor has a handler answer a request and returns the status.
func statusFor(h *ingest.Handler, r *http.Request) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// TestHandler_arrivals records a request with a nonce and stores nothing of it. From any
// address, and without its key, it is neither a callback nor a refusal.
func TestHandler_arrivals(t *testing.T) {
	publisher := &fakePublisher{}
	h := newHandler(t, ingest.Config{
		Publisher: publisher, SourceRanges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		CallbackKeys: []ingest.CallbackKey{{Name: "first", Secret: "0123456789abcdef0123456789abcdef"}},
	})
	nonce := h.Expect()
	r := httptest.NewRequest(http.MethodPost, "/callbacks/a%20b?x=1&acsbridge-key=wrong", http.NoBody)
	r.RemoteAddr = "198.51.100.7:1234"
	r.Header.Set(ingest.ArrivalHeader, nonce)
	if got := statusFor(h, r); got != http.StatusOK {
		t.Fatalf("answered %d", got)
	}
	r.Header.Del(ingest.ArrivalHeader)
	r.Header.Set("Authorization", "Bearer "+nonce)
	if got := statusFor(h, r); got != http.StatusOK {
		t.Fatalf("answered %d", got)
	}
	first := ingest.Arrival{
		Method: "POST", Path: "/callbacks/a%20b", Route: "callbacks", QueryHash: ingest.HashText("x=1"), BodyHash: ingest.HashText(""),
		Authorization: "missing", KeyAsked: true, Protocol: "HTTP/1.1", Peer: "198.51.100.7", Client: "198.51.100.7",
	}
	second := first
	second.Authorization = "unchanged"
	if diff := cmp.Diff([]ingest.Arrival{first, second}, h.Arrivals(nonce)); diff != "" {
		t.Errorf("arrivals (-want +got):\n%s", diff)
	}
	if a := h.Activity(); !a.LastCallback.IsZero() || !a.LastRefused.IsZero() || len(a.Refused) > 0 || len(publisher.deliveries) > 0 {
		t.Errorf("it counts: %+v, %d stored", a, len(publisher.deliveries))
	}
}

// TestHandler_arrivalsBounded knows few nonces, and each for a minute; a request with
// another one is any other request.
func TestHandler_arrivalsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, ingest.Config{SourceRanges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
		with := func(nonce string) int { return statusFor(h, callback(defaultBody, ingest.ArrivalHeader+": "+nonce)) }
		first := h.Expect()
		for range 16 {
			h.Expect()
		}
		last := h.Expect()
		for nonce, want := range map[string]int{"": 403, "guessed": 403, first: 403, last: 200} {
			if got := with(nonce); got != want {
				t.Errorf("nonce %q is answered %d, want %d", nonce, got, want)
			}
		}
		for range 8 {
			with(last)
		}
		if got := len(h.Arrivals(last)); got != 4 {
			t.Errorf("%d arrivals are kept, want 4", got)
		}
		time.Sleep(time.Minute + time.Second)
		if got := with(last); got != 403 || h.Arrivals(last) != nil {
			t.Errorf("after a minute it is answered %d, want 403", got)
		}
	})
}
