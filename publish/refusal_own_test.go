package publish

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A right that something else missed an hour ago says nothing about a record
// that gets no answer now.
func TestOldProblemsAreNotHeldAgainstNewRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := &Link{changed: make(chan struct{}), logger: slog.New(slog.DiscardHandler)}
		s := &session{forwarder: &forwarder{link: link}}
		before := flight{sent: time.Now()}
		time.Sleep(time.Second)
		link.announce(nats.ErrPermissionViolation)
		time.Sleep(time.Second)
		after := flight{sent: time.Now()}
		if !s.forbidden(before, jetstream.ErrAsyncPublishTimeout) {
			t.Error("a violation after a publish is not held against it")
		}
		if s.forbidden(after, jetstream.ErrAsyncPublishTimeout) {
			t.Error("a violation before a publish is held against it")
		}
		if s.forbidden(before, nats.ErrDisconnected) {
			t.Error("a broken connection is taken for a missing right")
		}
	})
}
