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
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Posts sends each message as its sender did: that of a callback of ACS as an array of
// one event, that of Event Grid in the form of [Posts.EventGrid]. The headers
// acs-replay-id and acs-replay-of are added.
type Posts struct {
	URL    *url.URL
	ID     string // of the replay; empty adds no headers
	Client webhook.Client

	// AppendPath adds to the URL the path and the query that the original callback had
	// below its own.
	AppendPath bool

	// EventGrid is the URL for the events that Event Grid has delivered. They are posted
	// in the schema of their subscription, with the headers of a delivery: one CloudEvent,
	// or an array of one event in Event Grid's own schema. Nil rejects them with
	// [ErrEventGrid].
	EventGrid *url.URL

	// Attempts is how often a message is posted at most. Zero means 6, which with
	// their pauses outlast a fault of some seconds.
	Attempts int

	// PostTruncated posts with AppendPath also a message whose path or query was cut at
	// its bound, and so to another URL than that of the original callback. Otherwise such
	// a message is rejected with [ErrTruncatedURL].
	PostTruncated bool

	// Token makes a token for each post of a message. Nil sends none.
	Token func(*replay.StoredMessage) (string, error)

	// OnPost is called after each post, from several goroutines at a time. An error
	// says why the message was not posted. It may be nil.
	OnPost func(*replay.StoredMessage, webhook.Answer, error)

	answeredAt atomic.Int64 // when anything was answered last, in Unix nanoseconds; zero means never
}

var (
	// ErrTruncatedURL reports a message whose callback URL is not known in whole.
	ErrTruncatedURL = errors.New("the path or query of its callback URL was cut at its bound")
	// ErrEventGrid reports an event of Event Grid, for which there is no URL.
	ErrEventGrid = errors.New("an event of Event Grid does not belong to the URL of callbacks")
	// ErrNoAnswer reports a receiver that answers nothing, so that nothing more is sent.
	ErrNoAnswer = errors.New("nothing answers")
)

const (
	defaultPostAttempts = 6
	// firstAnswerWithin and nextAnswerWithin are how long a receiver that has never
	// answered, or that has, may answer nothing before the sending ends.
	firstAnswerWithin = 2 * time.Second
	nextAnswerWithin  = 10 * time.Second
)

var postBackoff = backoff.Doubling{First: 200 * time.Millisecond, Last: 10 * time.Second}

// Send posts a message in another goroutine, again until the answer is final.
func (p *Posts) Send(ctx context.Context, m *replay.StoredMessage, done func(error)) {
	go func() { done(p.send(ctx, m)) }()
}

// Flush has nothing to do: the receiver has what it has answered.
func (p *Posts) Flush() error { return nil }

func (p *Posts) send(ctx context.Context, m *replay.StoredMessage) error {
	attempts := cmp.Or(p.Attempts, defaultPostAttempts)
	began := time.Now()
	for attempt := 1; ; attempt++ {
		a, err := p.Post(ctx, m)
		switch {
		case err != nil:
			return &RejectedError{m.Sequence, fmt.Errorf("not posted: %w", err)}
		case a.OK():
			return nil
		case !a.Retryable() || attempts == 1:
			return &RejectedError{m.Sequence, errors.New(a.String())}
		case p.dead(a, began, attempt == attempts):
			target := p.target(m)
			return fmt.Errorf("%w at %s://%s: %w", ErrNoAnswer, target.Scheme, target.Host, a.Err)
		case attempt == attempts:
			return &RejectedError{m.Sequence, fmt.Errorf("%s, %d times", a, attempt)}
		}
		pause := max(postBackoff.After(attempt), a.RetryAfter)
		if rest := p.answerWithin() - time.Since(began); a.Status == 0 && rest > 0 {
			pause = min(pause, rest) // the last attempt is not later than the end
		}
		if err := backoff.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

// dead reports whether the receiver answers nothing at all. One that leaves a single
// message without an answer does answer others meanwhile.
func (p *Posts) dead(a webhook.Answer, since time.Time, last bool) bool {
	if a.Status != 0 || p.answeredAt.Load() > since.UnixNano() {
		return false
	}
	return last || time.Since(since) >= p.answerWithin()
}

// answerWithin is how long the receiver may answer nothing.
func (p *Posts) answerWithin() time.Duration {
	if p.answeredAt.Load() == 0 {
		return firstAnswerWithin
	}
	return nextAnswerWithin
}

// Post posts a message once. A post in flight is not cut off when ctx ends: its
// answer says whether the receiver has the event. The error says why the message
// cannot be posted.
func (p *Posts) Post(ctx context.Context, m *replay.StoredMessage) (a webhook.Answer, err error) {
	request, err := p.Request(m)
	if err == nil {
		a = p.Client.Do(ctx, request)
	}
	if a.Status != 0 {
		p.answeredAt.Store(time.Now().UnixNano())
	}
	if p.OnPost != nil {
		p.OnPost(m, a, err)
	}
	return a, err
}

// target is the URL of a message, without what AppendPath adds.
func (p *Posts) target(m *replay.StoredMessage) *url.URL {
	if m.EventGrid() {
		return p.EventGrid
	}
	return p.URL
}

// Request returns the request with which a message is posted. The error says why it cannot
// be posted.
func (p *Posts) Request(m *replay.StoredMessage) (*http.Request, error) {
	target, eventGrid := p.target(m), m.EventGrid()
	contentType, body := webhook.ContentType, slices.Concat([]byte{'['}, m.Data, []byte{']'})
	switch {
	case eventGrid && target == nil:
		return nil, ErrEventGrid
	case eventGrid && m.Header.Get(schemas.HeaderContentType) != schemas.ContentTypeGridEvent:
		contentType, body = schemas.ContentTypeEvent+"; charset=utf-8", m.Data
	case !eventGrid && p.AppendPath:
		if m.TruncatedURL() && !p.PostTruncated {
			return nil, ErrTruncatedURL
		}
		var err error
		if target, err = webhook.Below(p.URL, m.Header.Get(schemas.HeaderPath), m.Header.Get(schemas.HeaderQuery)); err != nil {
			return nil, fmt.Errorf("header %s: %w", schemas.HeaderPath, err)
		}
	}
	var token string
	if p.Token != nil {
		var err error
		if token, err = p.Token(m); err != nil {
			return nil, err
		}
	}
	request, err := webhook.NewRequest(target, contentType, body, token)
	if err != nil {
		return nil, fmt.Errorf("headers %s and %s do not make a URL: %w", schemas.HeaderPath, schemas.HeaderQuery, err)
	}
	if eventGrid {
		addGridHeaders(request.Header, m)
	}
	if parent := m.Header.Get(schemas.HeaderTraceparent); parent != "" {
		request.Header.Set(schemas.HeaderTraceparent, parent)
	}
	if p.ID != "" {
		request.Header.Set(schemas.HeaderReplayID, p.ID)
		request.Header.Set(schemas.HeaderReplayOf, m.Stream+"/"+strconv.FormatUint(m.Sequence, 10))
	}
	return request, nil
}

// addGridHeaders adds the headers of a delivery of Event Grid, with the values that the
// original delivery had.
// https://learn.microsoft.com/azure/event-grid/delivery-properties
func addGridHeaders(h http.Header, m *replay.StoredMessage) {
	h.Set("Aeg-Event-Type", "Notification")
	for name, stored := range map[string]string{
		"Aeg-Subscription-Name": schemas.HeaderGridSubscription,
		"Aeg-Delivery-Count":    schemas.HeaderGridDeliveryCount,
		"Aeg-Data-Version":      schemas.HeaderGridDataVersion,
		"Aeg-Metadata-Version":  schemas.HeaderGridMetadataVersion,
	} {
		if value := m.Header.Get(stored); value != "" {
			h.Set(name, value)
		}
	}
}
