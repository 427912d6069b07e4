package console_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/replay"
)

// TestPages_browserGone has a browser that leaves while NATS is asked: that is no fault of
// the console, and not in its log.
func TestPages_browserGone(t *testing.T) {
	t.Parallel()
	log := &bridgetest.Log{}
	ctx, leave := context.WithCancel(t.Context())
	c := console.New(console.Options{Logger: log.Logger(), Reader: &replay.Reader{
		JetStream: func(ctx context.Context) (jetstream.JetStream, error) {
			leave()
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}})
	r := httptest.NewRequestWithContext(ctx, "GET", "/calls", nil)
	c.ServeHTTP(httptest.NewRecorder(), r)
	if text := log.String(); text != "" {
		t.Errorf("the log has %s", text)
	}
}
