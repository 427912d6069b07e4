package resend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Posts sends each message as ACS sends a callback: an array of one event, to the
// URL with the path and the query that the original callback had below its own. The
// headers acs-replay-id and acs-replay-of are added.
type Posts struct {
	URL    *url.URL
	ID     string // of the replay; empty adds no headers
	Client webhook.Client

	// Attempts is how often a message is posted at most. Zero means 6, which with
	// their pauses outlast a fault of some seconds.
	Attempts int

	// PostTruncated posts also a message whose path or query was cut at its bound,
	// and so to another URL than that of the original callback. Otherwise such a
	// message is rejected with [ErrTruncatedURL].
	PostTruncated bool

	// Token makes a token for each post. Nil sends none.
	Token func() (string, error)

	// OnPost is called after each post, from several goroutines at a time. An error
	// says why the message was not posted. It may be nil.
	OnPost func(*replay.StoredMessage, webhook.Answer, error)
}

// ErrTruncatedURL reports a message whose callback URL is not known in whole.
var ErrTruncatedURL = errors.New("the path or query of its callback URL was cut at its bound")

const defaultPostAttempts = 6

var postBackoff = backoff.Doubling{First: 200 * time.Millisecond, Last: 10 * time.Second}

// Send posts a message in another goroutine, again until the answer is final.
func (p *Posts) Send(ctx context.Context, m *replay.StoredMessage, done func(error)) {
	go func() { done(p.send(ctx, m)) }()
}

// Flush has nothing to do: the receiver has what it has answered.
func (p *Posts) Flush() error { return nil }

func (p *Posts) send(ctx context.Context, m *replay.StoredMessage) error {
	attempts := cmp.Or(p.Attempts, defaultPostAttempts)
	for attempt := 1; ; attempt++ {
		a, err := p.Post(ctx, m)
		switch {
		case err != nil:
			return &RejectedError{m.Sequence, fmt.Errorf("not posted: %w", err)}
		case a.OK():
			return nil
		case !a.Retryable() || attempts == 1:
			return &RejectedError{m.Sequence, errors.New(a.String())}
		case attempt == attempts:
			return &RejectedError{m.Sequence, fmt.Errorf("%s, %d times", a, attempt)}
		}
		if err := backoff.Wait(ctx, max(postBackoff.After(attempt), a.RetryAfter)); err != nil {
			return err
		}
	}
}

// Post posts a message once. A post in flight is not cut off when ctx ends: its
// answer says whether the receiver has the event. The error says why the message
// cannot be posted.
func (p *Posts) Post(ctx context.Context, m *replay.StoredMessage) (a webhook.Answer, err error) {
	request, err := p.request(m)
	if err == nil {
		a = p.Client.Do(ctx, request)
	}
	if p.OnPost != nil {
		p.OnPost(m, a, err)
	}
	return a, err
}

func (p *Posts) request(m *replay.StoredMessage) (*http.Request, error) {
	if m.TruncatedURL() && !p.PostTruncated {
		return nil, ErrTruncatedURL
	}
	target, err := webhook.Below(p.URL, m.Header.Get(schemas.HeaderPath), m.Header.Get(schemas.HeaderQuery))
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", schemas.HeaderPath, err)
	}
	var token string
	if p.Token != nil {
		if token, err = p.Token(); err != nil {
			return nil, err
		}
	}
	body := slices.Concat([]byte{'['}, m.Data, []byte{']'})
	request, err := webhook.NewRequest(target, webhook.ContentType, body, token)
	if err != nil {
		return nil, fmt.Errorf("headers %s and %s do not make a URL: %w", schemas.HeaderPath, schemas.HeaderQuery, err)
	}
	if p.ID != "" {
		request.Header.Set(schemas.HeaderReplayID, p.ID)
		request.Header.Set(schemas.HeaderReplayOf, m.Stream+"/"+strconv.FormatUint(m.Sequence, 10))
	}
	return request, nil
}
