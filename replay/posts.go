package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/schemas"
)

// Posts sends each message as ACS sends a callback: an array of one event, to
// the URL and what the original callback URL had of path and query below it. The
// headers acs-replay-id and acs-replay-of are added.
type Posts struct {
	URL *url.URL
	ID  string // of the replay; empty adds no headers

	// Attempts is how often a message is posted at most. Zero means 6, which with
	// their pauses ride out some seconds.
	Attempts int

	// PostTruncated posts also a message whose path or query was cut at its bound,
	// and so to another URL than that of the original callback. Otherwise such a
	// message is not taken, with [ErrTruncatedURL].
	PostTruncated bool

	// Token makes a token for each post. Nil sends none.
	Token func() (string, error)

	// Answered is told of each post, from several goroutines at a time. Nil means
	// nobody wants to know.
	Answered func(*Message, Answer)

	// Transport carries the requests. Nil means [http.DefaultTransport].
	Transport http.RoundTripper
}

// ErrTruncatedURL reports a message whose callback URL is not known in whole.
var ErrTruncatedURL = errors.New("the path or query of its callback URL was cut at its bound")

// TruncatedURL reports whether path or query of the original callback URL were cut
// at their bounds.
func (m *Message) TruncatedURL() bool {
	return slices.ContainsFunc(truncated(m.Header), func(name string) bool { return slices.Contains(personalHeaders, name) })
}

// truncated returns the names of the headers that were cut.
func truncated(h nats.Header) []string {
	return strings.FieldsFunc(h.Get(schemas.HeaderTruncated), func(r rune) bool { return r == ',' || r == ' ' })
}

// Answer is what came of one post.
type Answer struct {
	Status  int           // zero when there was no answer
	Latency time.Duration // until the answer's headers
	Err     error         // why there is no answer

	retryAfter time.Duration
	unsent     bool // the message cannot be made a post
}

// OK reports whether the receiver has the event.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

func (a Answer) String() string {
	if a.unsent {
		return fmt.Sprintf("not posted: %v", a.Err)
	}
	if a.Status == 0 {
		return fmt.Sprintf("no answer: %v", a.Err)
	}
	return fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
}

const (
	postAttempts   = 6
	postWithin     = 30 * time.Second
	maxRetryAfter  = 10 * time.Second
	maxAnswerBody  = 64 << 10
	contentTypeACS = "application/json; charset=utf-8"
)

var betweenPosts = backoff.Doubling{First: 200 * time.Millisecond, Last: 10 * time.Second}

// Send posts a message in another goroutine.
func (p *Posts) Send(ctx context.Context, m *Message, done func(error)) {
	go func() { done(p.send(ctx, m)) }()
}

// Flush has nothing to do: what was answered is with the receiver.
func (p *Posts) Flush() error { return nil }

// send posts a message until it gets an answer that stands.
func (p *Posts) send(ctx context.Context, m *Message) error {
	attempts := p.Attempts
	if attempts == 0 {
		attempts = postAttempts
	}
	for attempt := 1; ; attempt++ {
		a := p.Post(ctx, m)
		switch {
		case a.OK():
			return nil
		case a.unsent:
			return &RejectedError{m.Sequence, fmt.Errorf("not posted: %w", a.Err)}
		case !a.mayChange() || attempts == 1:
			return &RejectedError{m.Sequence, errors.New(a.String())}
		case attempt == attempts:
			return &RejectedError{m.Sequence, fmt.Errorf("%s, %d times", a, attempt)}
		}
		if err := pause(ctx, max(betweenPosts.After(attempt), a.retryAfter)); err != nil {
			return err
		}
	}
}

// mayChange reports whether the same post may fare better later.
func (a *Answer) mayChange() bool {
	switch a.Status {
	case 0:
		return !a.unsent
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return a.Status >= http.StatusInternalServerError
}

// Post sends a message once. A post under way is not cut off when ctx ends: its
// answer says whether the receiver has the event.
func (p *Posts) Post(ctx context.Context, m *Message) (a Answer) {
	if p.Answered != nil {
		defer func() { p.Answered(m, a) }()
	}
	request, err := p.request(m)
	if err != nil {
		return Answer{Err: err, unsent: true}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), postWithin)
	defer cancel()
	client := http.Client{
		Transport: p.Transport,
		// A callback is never to be redirected (CloudEvents HTTP webhook, section
		// 2.1), so a redirect counts as the answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	response, err := client.Do(request.WithContext(ctx))
	a.Latency = time.Since(began)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // without the URL, whose query may hold a phone number
		}
		a.Err = err
		return a
	}
	defer response.Body.Close()
	a.Status = response.StatusCode
	a.retryAfter = backoff.RetryAfter(response.Header.Get("Retry-After"), time.Now(), maxRetryAfter)
	// What cannot be read costs the connection and nothing else.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswerBody)
	return a
}

// request makes the post of a message.
func (p *Posts) request(m *Message) (*http.Request, error) {
	if m.TruncatedURL() && !p.PostTruncated {
		return nil, ErrTruncatedURL
	}
	target, err := p.target(m)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, len(m.Data)+2)
	body = append(append(append(body, '['), m.Data...), ']')
	request, err := http.NewRequest(http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil { // whose text has the query
		return nil, fmt.Errorf("headers %s and %s make no URL", schemas.HeaderPath, schemas.HeaderQuery)
	}
	request.Header.Set("Content-Type", contentTypeACS)
	if p.ID != "" {
		request.Header.Set(schemas.HeaderReplayID, p.ID)
		request.Header.Set(schemas.HeaderReplayOf, m.Stream+"/"+strconv.FormatUint(m.Sequence, 10))
	}
	if p.Token != nil {
		token, err := p.Token()
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

// target is where a message is posted. What comes from the original callback URL
// can lead nowhere but below the configured one.
func (p *Posts) target(m *Message) (*url.URL, error) {
	u := *p.URL
	if below := m.Header.Get(schemas.HeaderPath); below != "" {
		for segment := range strings.SplitSeq(below, "/") {
			if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
				return nil, fmt.Errorf("header %s is no path", schemas.HeaderPath)
			}
		}
		u = *u.JoinPath(below)
	}
	if query := m.Header.Get(schemas.HeaderQuery); query != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += query
	}
	return &u, nil
}
