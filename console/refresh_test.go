package console

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// browser notes when a live page is refreshed.
type browser struct {
	*httptest.ResponseRecorder
	refreshed func()
}

func (b browser) SetReadDeadline(time.Time) error  { return nil }
func (b browser) SetWriteDeadline(time.Time) error { return nil }

func (b browser) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("data:")) {
		b.refreshed()
	}
	return len(p), nil
}

// However many pages are live, their refreshes have a bounded rate.
func TestLiveEvents_manyPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pages = 50
		c := New(Options{Logger: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		var mu sync.Mutex
		var times []time.Time
		note := func() {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
		}
		var open sync.WaitGroup
		for range pages {
			open.Go(func() {
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/live", nil)
				c.liveEvents(browser{httptest.NewRecorder(), note}, r)
			})
		}
		open.Wait()
		if len(times) < 2*pages {
			t.Fatalf("%d refreshes of %d pages in a minute", len(times), pages)
		}
		slices.SortFunc(times, time.Time.Compare)
		for i, at := range times[1:] {
			if between := at.Sub(times[i]); between < refreshInterval-time.Millisecond {
				t.Fatalf("two refreshes are %v apart, at least %v are wanted", between, refreshInterval)
			}
		}
	})
}

// A live page ends with its session: after a logout, and when the session is too old.
func TestLiveEvents_sessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token = "0123456789abcdef0123456789abcdef"
		c := New(Options{Token: token, Logger: slog.New(slog.DiscardHandler)})
		ask := func(w http.ResponseWriter, method, path string, cookie *http.Cookie) {
			r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
			r.AddCookie(cookie)
			c.ServeHTTP(w, r)
		}
		ended := make(chan struct{}, 2)
		open := func(cookie *http.Cookie) {
			for _, path := range []string{"/live", "/live?calls=all"} { // one that always has an event, and one without any
				go func() {
					ask(browser{httptest.NewRecorder(), func() {}}, http.MethodGet, path, cookie)
					ended <- struct{}{}
				}()
			}
		}
		left, stays := c.access.begin(false), c.access.begin(false)
		open(left)
		time.Sleep(time.Minute)
		if len(ended) > 0 {
			t.Fatal("a live page has ended before the logout")
		}
		ask(httptest.NewRecorder(), http.MethodPost, "/logout", left)
		time.Sleep(25 * time.Second)
		if len(ended) != 2 {
			t.Fatalf("%d of 2 live pages have ended after the logout", len(ended))
		}
		<-ended
		<-ended
		time.Sleep(sessionLife - 3*time.Minute)
		open(stays)
		time.Sleep(time.Minute)
		if len(ended) > 0 {
			t.Fatal("a live page has ended before its session")
		}
		time.Sleep(time.Minute)
		if len(ended) != 2 {
			t.Fatalf("%d of 2 live pages have ended with their session", len(ended))
		}
	})
}
