package publish_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

const sharedSecret = "0123456789abcdef0123456789abcdef"

// byKey returns the claims of a sender that has a key and no token.
func byKey(t testing.TB) *verify.Claims {
	t.Helper()
	keys, err := verify.NewSharedKeys([]verify.SharedKey{{Name: "grid", Secret: sharedSecret}})
	if err != nil {
		t.Fatal(err)
	}
	sender, _ := keys.Verify([]string{sharedSecret})
	c, err := sender.ForResource("contoso")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// gridEvent returns the n-th event of Event Grid about a call.
func gridEvent(shortType string, n int, at time.Time) schemas.Inbound {
	id := fmt.Sprintf("g-%d", n)
	return schemas.Inbound{
		ID: id, Source: "/subscriptions/s/resourceGroups/g", Type: schemas.TypePrefix + shortType, Time: at.Format(time.RFC3339Nano),
		Grid: &schemas.GridEvent{CorrelationID: "k-42"},
		Raw:  fmt.Appendf(nil, `{"id":%q}`, id),
	}
}

func TestPublish_eventGrid(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	d := delivery()
	d.ReceivedAt = time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)
	d.Grid = &schemas.GridDelivery{Subscription: "CALLS\r\n", Count: "2", DataVersion: "1.0", MetadataVersion: strings.Repeat("1", 129)}
	call := gridEvent("IncomingCall", 1, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	own := gridEvent("CallStarted", 2, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	own.Grid.OwnSchema = true
	noCall := gridEvent("RecordingFileStatusUpdated", 3, time.Time{})
	noCall.Grid.CorrelationID = ""
	if err := b.Publish(context.Background(), byKey(t), d, []schemas.Inbound{call, own, noCall}); err != nil {
		t.Fatal(err)
	}
	b.drained()
	got := server.Messages(schemas.Stream)
	if len(got) != 3 {
		t.Fatalf("%d messages", len(got))
	}
	slices.SortFunc(got, func(a, b *jetstream.RawStreamMsg) int { // between calls there is no order
		return strings.Compare(a.Header.Get("ce-id"), b.Header.Get("ce-id"))
	})
	for i, want := range []string{"acs.contoso.IncomingCall.d.k-42", "acs.contoso.CallStarted.d.k-42", "acs.contoso.RecordingFileStatusUpdated.d._"} {
		if got[i].Subject != want {
			t.Errorf("subject %s, want %s", got[i].Subject, want)
		}
	}
	want := nats.Header{
		"content-type": {"application/cloudevents+json"},
		"Nats-Msg-Id":  {"/subscriptions/s/resourceGroups/g#g-1"}, "Nats-Expected-Stream": {"ACS"},
		"ce-id": {"g-1"}, "ce-source": {"/subscriptions/s/resourceGroups/g"},
		"ce-type": {"Microsoft.Communication.IncomingCall"}, "ce-time": {"2026-03-01T12:00:00Z"},
		"acs-resource": {"contoso"}, "acs-received-at": {"2026-03-01T12:00:10Z"},
		"acs-delivery-id": {d.ID.String()}, "acs-delivery-index": {"0/3"},
		"acs-eventgrid-subscription": {"CALLS%0D%0A"}, "acs-eventgrid-delivery-count": {"2"},
		"acs-eventgrid-data-version": {"1.0"}, "acs-eventgrid-metadata-version": {strings.Repeat("1", 128)},
		"acs-truncated":  {"acs-eventgrid-metadata-version"},
		"acs-expires-at": {"2026-03-01T12:00:30Z"},
	}
	if diff := cmp.Diff(want, got[0].Header); diff != "" {
		t.Error(diff)
	}
	if h := got[1].Header; h.Get("content-type") != "application/json" || h.Get("acs-expires-at") != "" || h.Get("ce-type") != own.Type {
		t.Errorf("an event of the other schema: %v", h)
	}
}

// limitedLife creates the stream before the bridge does, with or without the
// right of a message to end early.
func limitedLife(t *testing.T, server *natstest.Server, allow bool) {
	t.Helper()
	config := asConfigured()
	config.AllowMsgTTL = allow
	if _, err := server.JetStream().CreateOrUpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// TestTTL_incomingCall publishes until the bridge has
// seen what the stream allows.
func TestTTL_incomingCall(t *testing.T) {
	withAndWithoutJournal(t, func(t *testing.T, dir string) {
		server := natstest.Start(t)
		limitedLife(t, server, true)
		b := start(t, server.URL(), publish.Options{Dir: dir})
		n := 0
		send := func(events ...schemas.Inbound) []*jetstream.RawStreamMsg {
			t.Helper()
			before := len(server.Messages(schemas.Stream))
			b.store(events...)
			b.drained()
			return server.Messages(schemas.Stream)[before:]
		}
		natstest.Until(t, func() bool {
			n++
			m := send(gridEvent("IncomingCall", n, time.Now()))
			return len(m) == 1 && m[0].Header.Get("Nats-TTL") != ""
		})
		got := send(
			gridEvent("IncomingCall", n+1, time.Now().Add(-10*time.Second)),
			gridEvent("CallStarted", n+2, time.Now()),
			event("a", 1),
		)
		if len(got) != 3 {
			t.Fatalf("%d messages", len(got))
		}
		if left, err := strconv.Atoi(got[0].Header.Get("Nats-TTL")); err != nil || left < 1 || left > 20 {
			t.Errorf("%d seconds are left of a call that rang for 10, %v", left, err)
		}
		for _, m := range got[1:] {
			if m.Header.Get("Nats-TTL") != "" {
				t.Errorf("%s ends", m.Subject)
			}
		}
	})
}

// TestTTL_lateIncomingCall: a consumer that looks at
// acs-expires-at may want to know of it.
func TestTTL_lateIncomingCall(t *testing.T) {
	server := natstest.Start(t)
	limitedLife(t, server, true)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	natstest.Until(t, func() bool { return b.Status().Sending })
	stream, err := server.JetStream().Stream(t.Context(), schemas.Stream)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	b.store(gridEvent("IncomingCall", 1, time.Now().Add(-time.Hour)))
	m, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Headers().Get("Nats-TTL"); got != "1" {
		t.Errorf("it lives for %s s, want 1", got)
	}
}

// TestTTL_streamDoesNotAllowIt: it would refuse the message. Neither one
// that never did, nor one that was made anew, stops the bridge.
func TestTTL_streamDoesNotAllowIt(t *testing.T) {
	withAndWithoutJournal(t, func(t *testing.T, dir string) {
		server := natstest.Start(t)
		limitedLife(t, server, true)
		b := start(t, server.URL(), publish.Options{Dir: dir})
		n := 0
		natstest.Until(t, func() bool { // it has seen the first stream
			n++
			b.store(gridEvent("IncomingCall", n, time.Now()))
			m := server.Await(schemas.Stream, n)
			return m[len(m)-1].Header.Get("Nats-TTL") != ""
		})
		if err := server.JetStream().DeleteStream(t.Context(), schemas.Stream); err != nil {
			t.Fatal(err)
		}
		limitedLife(t, server, false)
		natstest.Until(t, func() bool { // without a journal, the sender tries again
			err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{gridEvent("IncomingCall", n+1, time.Now())})
			return err == nil
		})
		b.drained()
		got := server.Messages(schemas.Stream)
		if len(got) != 1 || got[0].Header.Get("Nats-TTL") != "" || got[0].Header.Get("acs-expires-at") == "" {
			t.Errorf("got %v", got)
		}
	})
}

// TestTTL_conflictHasNone: quarantine is for looking at.
func TestTTL_conflictHasNone(t *testing.T) {
	server := natstest.Start(t)
	limitedLife(t, server, true)
	quarantine := asConfigured()
	quarantine.Name, quarantine.Subjects, quarantine.AllowMsgTTL = schemas.QuarantineStream, []string{"acs-quarantine.>"}, true
	natstest.CreateStream(t, server.JetStream(), quarantine)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	first := gridEvent("IncomingCall", 1, time.Now())
	second := first
	second.Raw = []byte(`{"id":"g-1","forged":true}`)
	for _, e := range []schemas.Inbound{first, second} {
		b.store(e)
	}
	b.drained()
	got := server.Messages(schemas.QuarantineStream)
	if len(got) != 1 || got[0].Header.Get("Nats-TTL") != "" || got[0].Header.Get("acs-quarantine-reason") != "conflict" {
		t.Errorf("got %v", got)
	}
}
