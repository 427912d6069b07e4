package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/webhook"
)

func TestBelow(t *testing.T) {
	for _, test := range []struct{ base, path, query, want string }{
		{"http://app.test/api?code=1", "", "", "http://app.test/api?code=1"},
		{"http://app.test/api?code=1", "9f1e%2Fa/b", "callerId=%2B1555", "http://app.test/api/9f1e%2Fa/b?code=1&callerId=%2B1555"},
		{"http://app.test", "a", "b=1", "http://app.test/a?b=1"},
		{"http://app.test/api", "..", "", ""},
		{"http://app.test/api", "../admin", "", ""},
		{"http://app.test/api", "a/../../admin", "", ""},
		{"http://app.test/api", "%2e%2e/admin", "", ""},
		{"http://app.test/api", "a/.", "", ""},
		{"http://app.test/api", "%zz", "", ""},
	} {
		base, err := url.Parse(test.base)
		if err != nil {
			t.Fatal(err)
		}
		u, err := webhook.Below(base, test.path, test.query)
		if (err != nil) != (test.want == "") || err == nil && u.String() != test.want {
			t.Errorf("%s below %s: %v, error %v", test.path, test.base, u, err)
		}
	}
}

func TestClientDo(t *testing.T) {
	const secret = "callerId=%2B15551234567"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.Header().Set("Location", "http://elsewhere.test/")
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = w.Write([]byte(strings.Repeat("x", 100<<10)))
	}))
	defer server.Close()
	target, err := url.Parse(server.URL + "/?" + secret)
	if err != nil {
		t.Fatal(err)
	}
	newRequest := func() *http.Request {
		r, err := webhook.NewRequest(target, webhook.ContentType, []byte("[]"), "")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ended, end := context.WithCancel(t.Context())
	end()
	a := webhook.Client{}.Do(ended, newRequest())
	if a.Status != http.StatusTemporaryRedirect || a.RetryAfter != 10*time.Second || len(a.Body) != 64<<10 || a.OK() || a.Retryable() {
		t.Errorf("status %d, retry after %v, %d bytes, error %v", a.Status, a.RetryAfter, len(a.Body), a.Err)
	}
	if a := (webhook.Client{MaxRetryAfter: time.Hour}).Do(ended, newRequest()); a.RetryAfter != time.Hour {
		t.Errorf("retry after %v", a.RetryAfter)
	}
	if a := (webhook.Client{}).DoContext(ended, newRequest()); a.Status != 0 || !errors.Is(a.Err, context.Canceled) {
		t.Errorf("cut off: %v", a)
	}
	refused := errors.New("refused")
	a = webhook.Client{Transport: failing{refused}}.Do(t.Context(), newRequest())
	if !errors.Is(a.Err, refused) || strings.Contains(a.String(), secret) || !a.Retryable() {
		t.Errorf("answer %v", a)
	}
	if _, err := webhook.NewRequest(&url.URL{Scheme: "http", Host: "app.test", RawQuery: secret + "\n"}, "", nil, ""); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
