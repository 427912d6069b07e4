package consume_test

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// A service whose consumers, bucket and stream an operator has made runs under the rights
// that the package names, and no others: it makes nothing.
func TestRun_rights(t *testing.T) {
	var h history
	service := consume.Service[tally]{
		Name: "ivr", Types: []string{"PlayCompleted"}, FirstRetry: 1, LastRetry: 1,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(m.Event.ID)
			if call.Attempt < 3 {
				return context.DeadlineExceeded
			}
			return consume.Permanent(context.DeadlineExceeded)
		},
	}
	needs, err := service.Needs(1)
	if err != nil {
		t.Fatal(err)
	}
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "operator", Password: "o"},
			{Username: "ivr", Password: "i", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: needs.Publish}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		}
		o.NoAuthUser = "operator"
	})
	js := s.JetStream()
	makeStream(t, js, 1)
	if _, err = js.CreateKeyValue(t.Context(), needs.Bucket); err == nil {
		_, err = js.CreateStream(t.Context(), needs.DeadLetters)
	}
	for _, c := range needs.Consumers {
		if err == nil {
			_, err = js.CreateConsumer(t.Context(), schemas.Stream, c)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL(), nats.UserInfo("ivr", "i"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		t.Error(err)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	service.Logger = newLogger(t)
	go func() { ended <- consume.Run(ctx, nc, service) }()
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	s.Await(consume.DeadStream("ivr"), 1)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := h.all(); !slices.Equal(got, []string{"0", "0", "0"}) {
		t.Errorf("handled: %v", got)
	}
}
