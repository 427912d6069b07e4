// Package directget reads a stream by batched direct get (ADR-31), which needs no
// consumer: one bounded request after another.
package directget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/acsbridge/acsbridge/internal/natsconn"
)

// Bounds of one request. A late answer still takes up the link when the next
// request is made, so a link must manage one answer within Timeout.
const (
	MaxMessages = 1024
	maxBytes    = 1 << 20
	Timeout     = 10 * time.Second
)

// Headers that the server adds to each message of an answer.
const (
	headerPending = "Nats-Num-Pending"   // how many messages follow
	headerLast    = "Nats-Last-Sequence" // the message before it in the answer, or 0
)

var (
	// ErrNoAnswer reports a request that was not answered.
	ErrNoAnswer = natsconn.ErrNoAnswer
	// ErrUnsupported reports a server older than 2.11.
	ErrUnsupported = jetstreamext.ErrBatchUnsupported

	errDisconnected = errors.New("the connection broke")
)

// Request says what to ask for.
type Request struct {
	Stream  string
	Seq     uint64    // the first sequence; zero means to begin at Since
	Since   time.Time // when the first message was stored; zero is the stream's beginning
	Subject string    // a filter, or "" for all subjects
	Limit   int       // at most so many messages; zero, or more than that, means MaxMessages
}

// Get makes one request and hands on the messages of the answer in their order,
// until next returns false. More reports that the stream holds more of them. The
// error says why the answer ended early: what was handed on before is good.
func Get(ctx context.Context, js jetstream.JetStream, q Request, next func(*jetstream.RawStreamMsg) bool) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	ctx, disconnected := context.WithCancelCause(ctx)
	defer onDisconnect(js.Conn(), func() { disconnected(errDisconnected) })()

	options := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchMaxBytes(maxBytes)}
	switch {
	case q.Seq > 0:
		options = append(options, jetstreamext.GetBatchSeq(q.Seq))
	case !q.Since.IsZero():
		options = append(options, jetstreamext.GetBatchStartTime(q.Since))
	}
	if q.Subject != "" {
		options = append(options, jetstreamext.GetBatchSubject(q.Subject))
	}
	answer, err := jetstreamext.GetBatch(ctx, js, q.Stream, min(cmp.Or(q.Limit, MaxMessages), MaxMessages), options...)
	if err != nil {
		return false, err
	}
	var last, pending uint64
	for m, err := range answer {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return false, nil
		}
		if err != nil {
			return false, cmp.Or(context.Cause(ctx), err)
		}
		// Each message names the one before it in the answer: when the connection
		// broke in between, one is missing.
		before, err := strconv.ParseUint(m.Header.Get(headerLast), 10, 64)
		if err != nil || before != last || m.Sequence < q.Seq {
			return false, fmt.Errorf("sequence %d came after %d", m.Sequence, last)
		}
		if pending, err = strconv.ParseUint(m.Header.Get(headerPending), 10, 64); err != nil {
			return false, fmt.Errorf("header %s: %w", headerPending, err)
		}
		last = m.Sequence
		if !next(m) {
			return true, nil
		}
	}
	if last == 0 {
		return false, ErrNoAnswer
	}
	return pending > 0, nil // the answer may have ended early, at its time
}

// onDisconnect calls f when the connection breaks before done is called: an answer
// that has not come by then never comes.
func onDisconnect(nc *nats.Conn, f func()) (done func()) {
	changes := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	go func() {
		if _, changed := <-changes; changed {
			f()
		}
	}()
	return func() { nc.RemoveStatusListener(changes) }
}

var answerHeaders = []string{
	jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer,
	headerPending, headerLast,
}

// StripHeaders removes the headers that the server adds to a message of an answer.
// They are not part of what was published.
func StripHeaders(h nats.Header) {
	for _, name := range answerHeaders {
		h.Del(name)
	}
}

// LastSequence returns the sequence of the last message of a stream that was stored
// since a time, or zero when there is none or it is not known. Any replica answers
// a direct get, also one that was disconnected for long; about the stream itself
// only its leader answers. So a reading that ends before that sequence has read
// from a replica that is behind.
func LastSequence(ctx context.Context, stream jetstream.Stream, since time.Time) uint64 {
	state := stream.CachedInfo().State
	if state.Msgs == 0 || state.LastTime.Before(since) {
		return 0
	}
	if state.NumDeleted == 0 {
		return state.LastSeq
	}
	// No reading comes to a last message that was deleted. The list of deleted
	// messages can be long, so it is only asked for when there are some.
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil || slices.Contains(info.State.Deleted, state.LastSeq) {
		return 0
	}
	return state.LastSeq
}
