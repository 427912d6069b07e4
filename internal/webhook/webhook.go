// Package webhook posts events to an HTTP endpoint, as ACS posts its callbacks.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// ContentType is that of a callback of ACS.
const ContentType = "application/json; charset=utf-8"

const (
	defaultTimeout  = 30 * time.Second
	idleConnTimeout = time.Minute
	// dialTimeout bounds the wait for a connection, so that an address that drops
	// packets is soon reported.
	dialTimeout       = 5 * time.Second
	defaultRetryAfter = 10 * time.Second // at most
	// maxAnswerBody is how much of an answer's body is read, so that its connection
	// can be used again. Answers to callbacks have next to none.
	maxAnswerBody = 64 << 10
)

// Client sends requests to endpoints. It is safe for concurrent use.
type Client struct {
	// Transport carries the requests. Nil means [http.DefaultTransport].
	Transport http.RoundTripper
	// Timeout bounds the wait for one answer. Zero means 30 seconds.
	Timeout time.Duration
	// MaxRetryAfter bounds the pause that an answer can ask for. Zero means 10 seconds.
	MaxRetryAfter time.Duration
}

// NewTransport returns a transport that keeps a connection open for each of so many
// requests at a time.
func NewTransport(requests int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.IdleConnTimeout = requests, requests, idleConnTimeout
	t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	return t
}

// NewRequest makes a POST. An empty token means none. Its errors do not hold the
// URL, whose query may have a phone number or a key.
func NewRequest(target *url.URL, contentType string, body []byte, token string) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	r.Header.Set("Content-Type", contentType)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r, nil
}

// Below returns the URL of a path below a base and with a query added to the base's
// own, both as they are escaped in a URL. A path with a dot segment, which could
// lead elsewhere, is an error.
func Below(base *url.URL, path, query string) (*url.URL, error) {
	u := *base
	if path != "" {
		for segment := range strings.SplitSeq(path, "/") {
			if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
				return nil, errors.New("the path is not one below the URL")
			}
		}
		u = *u.JoinPath(path)
	}
	if u.RawQuery != "" && query != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += query
	return &u, nil
}

// Answer is the answer to one request.
type Answer struct {
	Status     int           // zero when there was no answer
	Latency    time.Duration // until the answer's headers
	RetryAfter time.Duration // the pause that it asks for
	Header     http.Header
	Body       []byte // its beginning, or what could be read of it
	Err        error  // why there is no answer
}

// OK reports whether the receiver has the event.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Retryable reports whether the same request may be accepted later: after no
// answer, overload, or a fault of the receiver.
func (a Answer) Retryable() bool {
	return a.Status == 0 || a.Status == http.StatusRequestTimeout || a.Status == http.StatusTooManyRequests ||
		a.Status >= http.StatusInternalServerError
}

// String is the status in words, or why there is none.
func (a Answer) String() string {
	if a.Status == 0 {
		return fmt.Sprintf("no answer: %v", a.Err)
	}
	return fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
}

// Do sends one request. The end of ctx does not cut it off: only its answer says
// whether the receiver has the event.
func (c Client) Do(ctx context.Context, request *http.Request) Answer {
	return c.DoContext(context.WithoutCancel(ctx), request)
}

// DoContext is [Client.Do], but the end of ctx cuts the request off.
func (c Client) DoContext(ctx context.Context, request *http.Request) (a Answer) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, defaultTimeout))
	defer cancel()
	ctx, span := startSpan(ctx, request)
	defer func() { endSpan(span, a) }()
	client := http.Client{
		Transport: c.Transport,
		// A callback is never to be redirected (CloudEvents HTTP webhook, section
		// 2.1), so a redirect counts as the answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	response, err := client.Do(request.WithContext(ctx))
	a.Latency = time.Since(began)
	if err != nil {
		a.Err = withoutURL(err)
		return a
	}
	defer response.Body.Close()
	a.Status, a.Header = response.StatusCode, response.Header
	a.RetryAfter = backoff.RetryAfter(response.Header.Get("Retry-After"), time.Now(), cmp.Or(c.MaxRetryAfter, defaultRetryAfter))
	// A body that cannot be read costs the connection and nothing else.
	a.Body, _ = io.ReadAll(io.LimitReader(response.Body, maxAnswerBody))
	return a
}

// withoutURL returns an error of net/http or net/url without the URL.
func withoutURL(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return outer.Err
	}
	return err
}

// NewLocalTransport is [NewTransport] for the application of a developer: it accepts any
// certificate from a loopback host, for which no public authority makes one, and with
// skipVerify from every host.
func NewLocalTransport(requests int, skipVerify bool) http.RoundTripper {
	unverified := NewTransport(requests)
	unverified.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	if skipVerify {
		return unverified
	}
	return localTransport{loopback: unverified, others: NewTransport(requests)}
}

type localTransport struct{ loopback, others *http.Transport }

func (t localTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if host := r.URL.Hostname(); strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback() {
		return t.loopback.RoundTrip(r)
	}
	return t.others.RoundTrip(r)
}
