package consume

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// write publishes the entry of a call.
func (s *slot) write(c *call) {
	now := time.Now()
	value, err := json.Marshal(c.next)
	if err != nil {
		panic(err) // the state was marshalled before
	}
	m := s.bucket.message(callKey(s.name, c.token), value, c.revision, c.next.lifetime(now, s.opts.KeepEnded))
	if failpoint.Broken("fence") {
		m.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	}
	s.send(m, request{call: c, next: c.next, sent: now})
}

// send publishes a write whose answer comes to the loop.
func (s *slot) send(m *nats.Msg, r request) uint64 {
	s.number++
	m.Reply = s.inbox + strconv.FormatUint(s.number, 10)
	s.requests[s.number] = r
	if err := s.nc.PublishMsg(m); err != nil {
		s.warn("cannot write to the bucket; this is tried again", err)
	}
	return s.number
}

// answered takes the answer to a write.
func (s *slot) answered(ctx context.Context, m *nats.Msg) error {
	n, err := strconv.ParseUint(m.Subject[len(s.inbox):], 10, 64)
	r, ok := s.requests[n]
	if err != nil || !ok {
		return nil
	}
	delete(s.requests, n)
	var ack struct {
		jetstream.PubAck
		Error *jetstream.APIError `json:"error"`
	}
	if json.Unmarshal(m.Data, &ack) != nil || ack.Error != nil || ack.Sequence == 0 {
		s.refused(ctx, n, r, ack.Error)
		return nil
	}
	if r.call == nil {
		if ack.Sequence > s.lease.revision {
			s.lease.renewal = 0 // one that was sent meanwhile names an older revision, and is refused
			s.renewed(ack.Sequence, r.sent)
		}
		return nil
	}
	if r.call.io == ioWriting && r.call.next == r.next {
		failpoint.At("consume-saved")
		s.calls.saved(r.call, ack.Sequence, time.Now())
	}
	return nil
}

// refused takes a write that was not stored, or whose answer is not known.
func (s *slot) refused(ctx context.Context, n uint64, r request, cause *jetstream.APIError) {
	const text = "the bucket refuses a write; this is tried again"
	other := cause != nil && cause.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && cause.ErrorCode != codeWrongLastConstant
	if r.call != nil {
		switch {
		case r.call.io != ioWriting || r.call.next != r.next:
		case other:
			s.pause(r.call, text, cause)
		default:
			s.calls.unsure(r.call, time.Now())
		}
		return
	}
	if other {
		s.warn(text, cause)
	}
	if s.lease.renewal == n {
		s.lease.renewal = 0
		s.readLease(ctx, r.sent)
	}
}

// codeWrongLastConstant refuses a write while another one of the same key is being
// replicated (nats-server, errors.json).
const codeWrongLastConstant = 10164
