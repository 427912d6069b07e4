package natsconn

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestFinal_errors(t *testing.T) {
	for _, c := range []struct {
		err    error
		final  string
		broken bool
	}{
		{nil, "", false},
		{nats.ErrMaxPayload, TooLarge, false},
		{nats.ErrBadSubject, BadSubject, false},
		{jetstream.ErrInvalidSubject, BadSubject, false},
		{&jetstream.APIError{ErrorCode: 10054}, TooLarge, false},
		{&jetstream.APIError{ErrorCode: 10097}, TooLarge, false},
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
		if got := Final(err); got != c.final {
			t.Errorf("%v: final %q, want %q", c.err, got, c.final)
		}
		if got := Broken(err); got != c.broken {
			t.Errorf("%v: broken %v, want %v", c.err, got, c.broken)
		}
	}
}
