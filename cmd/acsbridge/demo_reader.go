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
	"unicode/utf8"

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
	start   uint64        // the stream's last sequence before the demo
	window  time.Duration // in which the stream recognises duplicates

	mu      sync.Mutex
	first   map[string]time.Time // when each message id was stored first
	twice   map[string]bool      // message ids stored again within the window
	total   int
	claims  string        // of the last event, in short
	arrived chan struct{} // capacity 1: total has changed
}

func newDemoReader(ctx context.Context, d *demo) (*demoReader, error) {
	r := &demoReader{demo: d, first: map[string]time.Time{}, twice: map[string]bool{}, arrived: make(chan struct{}, 1)}
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
	info := stream.CachedInfo()
	r.stream, r.start, r.window = stream, info.State.LastSeq, info.Config.Duplicates
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
	meta, err := m.Metadata()
	if err != nil {
		return // not a message of a stream
	}
	if !r.demo.Quiet {
		r.demo.printf("%s\n", eventLine(m, meta.Sequence.Stream))
	}
	id := m.Headers().Get(schemas.HeaderMsgID)
	r.mu.Lock()
	if first, ok := r.first[id]; !ok {
		r.first[id] = meta.Timestamp
	} else if meta.Timestamp.Sub(first) < r.window {
		r.twice[id] = true
	}
	r.total++
	r.claims = claimsInShort(m.Headers())
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// eventLine is an event in short.
func eventLine(m jetstream.Msg, sequence uint64) string {
	at, call := "", m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]
	if t, err := time.Parse(time.RFC3339Nano, m.Headers().Get(schemas.HeaderReceivedAt)); err == nil {
		at = t.Local().Format(time.TimeOnly)
	}
	kind, details := schemas.ShortType(m.Headers().Get(schemas.HeaderEventType)), ""
	if e, err := schemas.ParseEvent(m.Data()); err == nil {
		details = e.Brief()
	}
	return demoLine(at, strconv.FormatUint(sequence, 10), call[:min(len(call), shortID)], view.Printable(kind), details)
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
	return fmt.Sprintf("aud %s…, kid %s…, exp %s", short(schemas.HeaderTokenAudience), short(schemas.HeaderTokenKeyID), expires)
}

// awaitStored waits until everything that is durable is in the stream and was read
// back.
func (r *demoReader) awaitStored() error {
	ctx, cancel := context.WithTimeout(context.Background(), demoStoredWithin)
	defer cancel()
	if left := r.demo.bridge.Drain(ctx); left > 0 {
		return fmt.Errorf("%s did not reach the stream", view.Plural(left, "event"))
	}
	info, err := r.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("look at the stream: %w", err)
	}
	stored := int(info.State.LastSeq - r.start)
	for {
		r.mu.Lock()
		total := r.total
		r.mu.Unlock()
		if total >= stored {
			return nil
		}
		select {
		case <-r.arrived:
		case <-ctx.Done():
			return fmt.Errorf("the stream has %s, but only %d could be read", view.Plural(stored, "event"), total)
		}
	}
}

// sumUp prints the summary and compares it with what the load must have caused.
// After an interruption it compares with what was sent. Events that others sent are
// counted apart.
func (d *demo) sumUp(load acstest.Load, report *acstest.Report, reader *demoReader) error {
	late := reader.awaitStored()
	reader.mu.Lock()
	defer reader.mu.Unlock()
	own, errs := reader.compare(report.StoredIDs)
	if late != nil {
		return errors.Join(append([]error{late}, errs...)...) // the second names them
	}
	stored := fmt.Sprintf("%d stored", own)
	// An event without an answer may be there.
	if others := len(reader.first) - own - report.Uncertain; others > 0 {
		stored += fmt.Sprintf(", and %d that others sent", others)
	}
	d.printf("\n%s%s%s%s%slatency    p50 %v, p99 %v of the answers 200\n", interruption(report),
		summaryLine("callbacks", fmt.Sprintf("%d sent (%s)", report.Callbacks, table(report.Kinds))),
		summaryLine("answers", table(report.Answers)), summaryLine("events", stored),
		summaryLine("claims", "in the headers, as "+reader.claims),
		report.Latency.P50.Round(10*time.Microsecond), report.Latency.P99.Round(10*time.Microsecond))

	errs = append(errs, report.Err())
	if d.Calls > 0 && report.CutCalls == 0 && report.Calls == d.Calls {
		errs = append(errs, asExpected(load, report))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the numbers do not add up: %w", err)
	}
	d.printf("all numbers are what they must be\n")
	return nil
}

// compare looks for the events with these message ids, each of which must have been
// read once. It returns how many were read, and an error for each that was not or that
// came twice. The caller holds the lock.
func (r *demoReader) compare(ids []string) (read int, errs []error) {
	for _, id := range ids {
		switch _, ok := r.first[id]; {
		case !ok:
			errs = append(errs, fmt.Errorf("the event %s was answered 200 and is not in the stream", id))
		case r.twice[id]:
			errs = append(errs, fmt.Errorf("the event %s is in the stream twice", id))
			fallthrough
		default:
			read++
		}
	}
	if len(errs) > maxFaults {
		errs = append(errs[:maxFaults], fmt.Errorf("and %d more events", len(errs)-maxFaults))
	}
	return read, errs
}

// maxFaults bounds the events that a summary names.
const maxFaults = 10

// summaryLine is a line of the summary, broken after a comma where the terminal ends.
func summaryLine(name, text string) string {
	line := fmt.Sprintf("%-11s", name)
	var b strings.Builder
	for part := range strings.SplitAfterSeq(text, ", ") {
		if utf8.RuneCountInString(line+strings.TrimSpace(part)) > demoColumns {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = strings.Repeat(" ", 11)
		}
		line += part
	}
	return b.String() + line + "\n"
}

func interruption(r *acstest.Report) string {
	if r.CutCalls == 0 {
		return ""
	}
	return fmt.Sprintf("stopped with %s in progress\n", view.Plural(r.CutCalls, "call"))
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
