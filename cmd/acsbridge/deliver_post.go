package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/lograte"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// maxReceiverPause bounds what a Retry-After can ask for: it holds back every call.
const maxReceiverPause = time.Hour

// handle posts one event. Its errors, which a dead letter keeps, do not have the URL.
func (d *delivery) handle(ctx context.Context, call *consume.Call[struct{}], m *schemas.Message) error {
	if pause, err := d.receiver.closed(time.Now()); err != nil {
		return consume.Pause(err, pause)
	}
	request, err := d.request(call, m)
	if errors.Is(err, resend.ErrEventGrid) {
		return nil // left out, as --to-eventgrid says
	}
	if err != nil {
		return consume.Permanent(err)
	}
	answer := d.client.DoContext(ctx, request)
	now := time.Now()
	d.metrics.count(answer)
	if answer.OK() {
		d.receiver.accepted(now)
		d.metrics.accepted.Set(float64(now.UnixMilli()) / 1e3)
		return nil
	}
	if ctx.Err() != nil { // the right to the call is lost, or the command ends
		return ctx.Err()
	}
	err = fmt.Errorf("the application answered %s", answer)
	switch {
	case errors.Is(answer.Err, webhook.ErrPrivateAddress), errors.Is(answer.Err, webhook.ErrLinkLocal), errors.Is(answer.Err, webhook.ErrPublicPlaintext):
		err = fmt.Errorf("not posted: %w", allowHint(answer.Err))
		d.receiver.failed(err, now)
		d.metrics.log(d.logger, m, call, err)
		return consume.Pause(err, d.pauses.Last) // the event has not been tried
	case errors.Is(answer.Err, context.DeadlineExceeded):
		err = fmt.Errorf("the application did not answer within %v (--timeout)", d.Timeout)
	case answer.Err != nil:
		err = fmt.Errorf("no answer from the application: %w", answer.Err)
	case answer.Status == http.StatusGone && d.AppendPath && m.Delivery.Path+m.Delivery.Query != "" && !call.Stored.EventGrid():
		return consume.Permanent(err) // about this call's URL
	case answer.Status == http.StatusGone:
		err = fmt.Errorf("%s answered 410 Gone, and wants no more events. None is lost: service %s continues there at its next start; set another --to, or remove the service", d.target.Host, d.Name)
		d.receiver.gone(err, now)
		d.end(goneError{err})
		return consume.Pause(err, d.pauses.First)
	}
	d.receiver.failed(err, now)
	d.metrics.log(d.logger, m, call, err)
	if answer.RetryAfter > 0 && (answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusServiceUnavailable) {
		if d.receiver.pause(now, answer.RetryAfter) {
			return consume.Pause(err, answer.RetryAfter)
		}
	}
	return consume.RetryAfter(err, max(d.pauses.After(call.Attempt), answer.RetryAfter))
}

// goneError ends the command: the application has answered 410 Gone.
type goneError struct{ error }

// request makes the request that ACS, or Event Grid, would make for this event alone.
func (d *delivery) request(call *consume.Call[struct{}], m *schemas.Message) (*http.Request, error) {
	r, err := d.posts.Request(call.Stored)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "acsbridge")
	for name, value := range map[string]string{
		schemas.HeaderReplayID: m.Delivery.ReplayID,
		schemas.HeaderReplayOf: m.Delivery.ReplayOf,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if d.signer == nil {
		return r, nil
	}
	content, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(content)
	if err != nil {
		return nil, err
	}
	return r, d.signer.Sign(r, call.EffectID("deliver"), time.Now(), body)
}

// receiver is what the answers say about the application as a whole.
type receiver struct {
	mu      sync.Mutex
	since   time.Time // of the failures since it accepted an event; zero for none
	last    time.Time // when it accepted one
	problem error     // the last failure since then
	paused  time.Time // when it asked for a pause last
	until   time.Time // nothing is posted before
	goneFor error     // it wants no more events
}

func (r *receiver) accepted(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.since, r.problem = now, time.Time{}, nil
}

func (r *receiver) failed(err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem = err; r.since.IsZero() {
		r.since = now
	}
}

func (r *receiver) gone(err error, now time.Time) {
	r.failed(err, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.goneFor = err
}

// pause has nothing posted for a while. It reports whether the answer is about all events:
// the application has accepted none since it asked for a pause before. Otherwise it may be
// about this one, and counts as an attempt.
func (r *receiver) pause(now time.Time, d time.Duration) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = !r.paused.IsZero() && !r.last.After(r.paused)
	r.paused = now
	if until := now.Add(d); until.After(r.until) {
		r.until = until
	}
	return all
}

var errPaused = errors.New("the application has asked for a pause with Retry-After")

// closed returns why nothing is posted now, and for how long.
func (r *receiver) closed(now time.Time) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.until.Sub(now)
	switch {
	case r.goneFor != nil:
		return time.Second, r.goneFor
	case left > 0:
		return left, errPaused
	}
	return 0, nil
}

// state is a line of /readyz. An application that fails does not make this replica less
// ready: another one would fare no better.
func (r *receiver) state(now time.Time) (mark, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mark, text = "ok", "last accepted never"
	if !r.last.IsZero() {
		text = fmt.Sprintf("last accepted %s ago", now.Sub(r.last).Round(time.Second))
	}
	if r.problem != nil {
		mark, text = "note", fmt.Sprintf("%s; failing for %s: %v", text, now.Sub(r.since).Round(time.Second), r.problem)
	}
	if left := r.until.Sub(now); left > 0 {
		mark, text = "note", fmt.Sprintf("%s; nothing is posted for another %s, as its Retry-After asks", text, left.Round(time.Second))
	}
	return mark, text
}

// ready answers /readyz: 200 while this replica works and NATS is connected.
func (d *delivery) ready(w http.ResponseWriter, details bool) {
	var text strings.Builder
	ok := true
	line := func(part, mark, state string) {
		if ok = ok && mark != "missing"; !details {
			state = ""
		}
		fmt.Fprintln(&text, strings.TrimRight(fmt.Sprintf("%-8s %-8s %s", part, mark, state), " "))
	}
	if d.stopping.Load() {
		line("process", "missing", "stopping")
	} else {
		line("process", "ok", "running")
	}
	if connected, cause := d.link.State(); connected {
		line("nats", "ok", "connected")
	} else {
		line("nats", "missing", fmt.Sprintf("disconnected: %v", cause))
	}
	if mark, state := d.receiver.state(time.Now()); details {
		line("webhook", mark, state)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, text.String())
}

// deliverMetrics are those of deliver, beside those of package consume.
type deliverMetrics struct {
	posts    *prometheus.CounterVec // answer
	duration prometheus.Histogram
	accepted prometheus.Gauge
	warnings lograte.Limiter
}

// answers are the values of the label answer.
var answers = []string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func newDeliverMetrics() *deliverMetrics {
	m := &deliverMetrics{
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_deliver_posts_total",
			Help: "Posts to the application, by the class of its answer; none: no answer in time.",
		}, []string{"answer"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "acsbridge_deliver_post_duration_seconds", Help: "How long the application takes to answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		accepted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "acsbridge_deliver_last_accepted_timestamp_seconds",
			Help: "When the application accepted an event last. Zero: not since the start.",
		}),
	}
	for _, answer := range answers {
		m.posts.WithLabelValues(answer)
	}
	return m
}

func (m *deliverMetrics) register(r prometheus.Registerer) {
	r.MustRegister(m.posts, m.duration, m.accepted)
}

func (m *deliverMetrics) count(a webhook.Answer) {
	class := min(max(a.Status/100, 0), len(answers)-1)
	m.posts.WithLabelValues(answers[class]).Inc()
	m.duration.Observe(a.Latency.Seconds())
}

// log writes a line about an event that was not accepted, one a second at most.
func (m *deliverMetrics) log(logger *slog.Logger, e *schemas.Message, call *consume.Call[struct{}], err error) {
	m.warnings.Log(logger, slog.LevelWarn, "an event was not accepted; its call is parked, and it is posted again",
		slog.String("type", schemas.ShortType(e.Event.Type)), slog.Uint64("sequence", call.Sequence), slog.Int("attempt", call.Attempt), slog.Any("error", err))
}
