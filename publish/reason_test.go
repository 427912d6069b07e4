package publish

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestOnlyWhatARecordCanNeverGetPastIsPermanent(t *testing.T) {
	for _, c := range []struct {
		err       error
		permanent string
		broken    bool
	}{
		{nil, "", false},
		{nats.ErrMaxPayload, reasonTooLarge, false},
		{nats.ErrBadSubject, reasonBadSubject, false},
		{jetstream.ErrInvalidSubject, reasonBadSubject, false},
		{&jetstream.APIError{ErrorCode: 10054}, reasonTooLarge, false},
		{&jetstream.APIError{ErrorCode: 10097}, reasonTooLarge, false},
		{&jetstream.APIError{ErrorCode: 10077}, "", false}, // the stream is full
		{&jetstream.APIError{ErrorCode: 10060}, "", false}, // a stream of another name
		{jetstream.ErrNoStreamResponse, "", false},
		{nats.ErrDisconnected, "", true},
		{nats.ErrConnectionClosed, "", true},
		{nats.ErrReconnectBufExceeded, "", true},
		{nats.ErrConnectionReconnecting, "", true},
		{jetstream.ErrAsyncPublishTimeout, "", false},
		{jetstream.ErrJetStreamPublisherClosed, "", true},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("publish: %w", err)
		}
		if got := permanent(err); got != c.permanent {
			t.Errorf("%v: permanent %q, want %q", c.err, got, c.permanent)
		}
		if got := broken(err); got != c.broken {
			t.Errorf("%v: broken %v, want %v", c.err, got, c.broken)
		}
	}
}
