package natsconn

import (
	"errors"
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

func TestRedact_permissionViolation(t *testing.T) {
	const said = `Permissions Violation for `
	for _, test := range []struct{ said, want string }{
		{said + `Publish to "acs.contoso.CallConnected.d.401f3500-0000"`, said + `Publish to "acs.contoso.…"`},
		{said + `Publish to "acs-quarantine.contoso.not_json"`, said + `Publish to "acs-quarantine.contoso.…"`},
		{said + `Publish to "acs"`, said + `Publish to "acs"`},
		{said + `Publish to "$JS.API.STREAM.INFO.ACS"`, said + `Publish to "$JS.API.STREAM.INFO.ACS"`},
		{said + `Publish to "$JS.API.DIRECT.GET.ACS.acs.contoso.CallConnected.401f"`, said + `Publish to "$JS.API.DIRECT.GET.ACS.…"`},
		{said + `Subscription to "_INBOX.abc.*"`, said + `Subscription to "_INBOX.abc.…"`},
		{said + `Subscription to "acs.>" using queue "q"`, said + `Subscription to "acs.>" using queue "q"`},
		{said + `Publish to "acs.contoso.CallConnected.6.401f`, said + `Publish to "acs.contoso.…"`},
		{said + `Publish to "acs.contoso.a"b.401f"`, said + `Publish to "acs.contoso.…"`},
	} {
		err := redact(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, test.said))
		if want := nats.ErrPermissionViolation.Error() + ": " + test.want; err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%v is not a permission error any more", err)
		}
	}
	for _, err := range []error{nil, nats.ErrTimeout, errors.New(`other "acs.contoso.CallConnected.6.401f"`)} {
		if got := redact(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
