package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/schemas"
)

// demoReader is a consumer of the stream, as an application's would be. It
// prints each event and remembers which ones there were.
type demoReader struct {
	demo    *demo
	conn    *nats.Conn
	consume jetstream.ConsumeContext
	stream  jetstream.Stream
	start   uint64 // the stream's last sequence before the demo

	mu      sync.Mutex
	seen    map[string]int // how often, by message id
	total   int
	arrived chan struct{} // capacity 1: total has changed
}

func newDemoReader(ctx context.Context, d *demo) (*demoReader, error) {
	r := &demoReader{demo: d, seen: make(map[string]int), arrived: make(chan struct{}, 1)}
	conn, err := nats.Connect(d.bridge.EmbeddedURL())
	if err != nil {
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	r.conn = conn
	if err := r.subscribe(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	return r, nil
}

func (r *demoReader) subscribe(ctx context.Context) error {
	js, err := jetstream.New(r.conn)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, schemas.Stream)
	if err != nil {
		return err
	}
	r.stream, r.start = stream, stream.CachedInfo().State.LastSeq
	// With --data-dir the stream may hold the events of an earlier demo.
	from := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.start + 1}
	consumer, err := stream.OrderedConsumer(ctx, from)
	if err != nil {
		return err
	}
	r.consume, err = consumer.Consume(r.receive)
	return err
}

func (r *demoReader) stop() {
	r.consume.Stop()
	r.conn.Close()
}

// receive takes one event from the stream: prints it, and then counts it, so
// that the summary comes after the last line.
func (r *demoReader) receive(m jetstream.Msg) {
	if !r.demo.Quiet {
		r.demo.printf("%s\n", eventLine(m))
	}
	r.mu.Lock()
	r.seen[m.Headers().Get(schemas.HeaderMsgID)]++
	r.total++
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// eventLine is an event in short: time, type, brief, subject, claims.
func eventLine(m jetstream.Msg) string {
	e, err := schemas.ParseEvent(m.Data())
	if err != nil {
		return m.Subject() + ": " + err.Error()
	}
	at := ""
	if t, err := time.Parse(time.RFC3339Nano, m.Headers().Get(schemas.HeaderReceivedAt)); err == nil {
		at = t.Local().Format(view.Clock)
	}
	return fmt.Sprintf("%s  %-24s %-22s %s  %s", at, schemas.ShortType(e.Type), e.Brief(), shortSubject(m.Subject()), claimsInShort(m.Headers()))
}

// shortSubject cuts the call id of a subject to its first eight characters, as
// people cut commit ids.
func shortSubject(subject string) string {
	dot := strings.LastIndexByte(subject, '.')
	if call := subject[dot+1:]; len(call) > 8 {
		return subject[:dot+1] + call[:8] + "…"
	}
	return subject
}

// claimsInShort says for whom the event's token was, by which key, and when it
// expires.
func claimsInShort(h nats.Header) string {
	short := func(name string) string {
		v := h.Get(name)
		return v[:min(len(v), 8)]
	}
	expires := ""
	if n, err := strconv.ParseInt(h.Get(schemas.HeaderTokenExpires), 10, 64); err == nil {
		expires = time.Unix(n, 0).Format(time.TimeOnly)
	}
	return fmt.Sprintf("aud=%s… kid=%s… exp=%s", short(schemas.HeaderTokenAudience), short(schemas.HeaderTokenKeyID), expires)
}

// awaitStored waits until everything that is durable is in the stream and was read
// back. It returns how many events the stream has got since the start, and how
// many of them it has more than once.
func (r *demoReader) awaitStored() (stored, repeated int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), demoStoredWithin)
	defer cancel()
	if left := r.demo.bridge.Drain(ctx); left > 0 {
		return 0, 0, fmt.Errorf("%s did not reach the stream", view.Plural(left, "event"))
	}
	info, err := r.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("look at the stream: %w", err)
	}
	stored = int(info.State.LastSeq - r.start)
	for {
		r.mu.Lock()
		total := r.total
		repeated = total - len(r.seen)
		r.mu.Unlock()
		if total >= stored {
			return stored, repeated, nil
		}
		select {
		case <-r.arrived:
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("the stream has %s, but only %d could be read", view.Plural(stored, "event"), total)
		}
	}
}

// sumUp prints the summary and compares it with what the load must have caused.
// After an interruption it compares with what was sent.
func (d *demo) sumUp(load acstest.Load, report *acstest.Report, reader *demoReader) error {
	stored, repeated, err := reader.awaitStored()
	if err != nil {
		return err
	}
	d.printf("\n%scallbacks  %d sent (%s)\nanswers    %s\nevents     %d stored\nlatency    p50 %v, p99 %v of the answers 200\n",
		interruption(report), report.Callbacks, table(report.Kinds), table(report.Answers), stored,
		report.Latency.P50.Round(10*time.Microsecond), report.Latency.P99.Round(10*time.Microsecond))

	errs := []error{report.Err()}
	if stored < report.Stored || stored > report.Stored+report.Uncertain {
		errs = append(errs, fmt.Errorf("events stored: %d, but %d must be", stored, report.Stored))
	}
	if repeated > 0 {
		errs = append(errs, fmt.Errorf("events stored twice: %d", repeated))
	}
	errs = append(errs, reader.missing(report.StoredIDs))
	if d.Calls > 0 && report.CutCalls == 0 && report.Calls == d.Calls {
		errs = append(errs, asExpected(load, report))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the numbers do not add up: %w", err)
	}
	d.printf("all numbers are what they must be\n")
	return nil
}

func interruption(r *acstest.Report) string {
	if r.CutCalls == 0 {
		return ""
	}
	return fmt.Sprintf("stopped with %s in progress\n", view.Plural(r.CutCalls, "call"))
}

// missing reports which of the ids that must be in the stream did not come.
func (r *demoReader) missing(ids []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if r.seen[id] == 0 {
			return fmt.Errorf("the event %s is not in the stream", id)
		}
	}
	return nil
}

// asExpected compares the report with what was computed before the first
// callback was sent.
func asExpected(load acstest.Load, report *acstest.Report) error {
	want, err := load.Expect()
	if err != nil {
		return err
	}
	var errs []error
	differ := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			errs = append(errs, fmt.Errorf("%s: %v, but %v must be", what, got, want))
		}
	}
	differ("callbacks", report.Callbacks, want.Callbacks)
	differ("kinds", report.Kinds, want.Kinds)
	differ("answers", report.Answers, want.Answers)
	differ("events", report.Stored, want.Stored)
	return errors.Join(errs...)
}

// table writes counts on one line, in the order of their keys.
func table[K int | string](counts map[K]int) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%v: %d", key, counts[key]))
	}
	return strings.Join(parts, ", ")
}
