package publish_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// names returns the header names of a message.
func names(h nats.Header) map[string]bool {
	set := make(map[string]bool)
	for name := range h {
		set[name] = true
	}
	return set
}

func TestMessage_absentValues(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	bare, err := verifiedFrom(map[string]any{"iat": nil, "nbf": nil, "sub": nil, "jti": nil})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(context.Background(), bare, delivery(), []schemas.Inbound{event("a", 1)}); err != nil {
		t.Fatal(err)
	}
	b.drained()
	want := make(map[string]bool)
	for _, name := range []string{
		"content-type", "Nats-Msg-Id", "Nats-Expected-Stream", "ce-id", "ce-source", "ce-type",
		"acs-token-iss", "acs-token-aud", "acs-token-kid", "acs-token-exp", "acs-token-claims",
		"acs-resource", "acs-received-at", "acs-delivery-id", "acs-delivery-index",
	} {
		want[name] = true
	}
	if diff := cmp.Diff(want, names(server.Messages(schemas.Stream)[0].Header)); diff != "" {
		t.Error(diff)
	}
}

func TestMessage_cutHeaders(t *testing.T) {
	server := natstest.Start(t)
	reg := prometheus.NewRegistry()
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Registerer: reg})
	for name, value := range scrape(t, reg) { // each is there before the first one is cut
		if strings.HasPrefix(name, "acsbridge_truncated_headers_total") && value != 0 {
			t.Errorf("%s is %v at the start", name, value)
		}
	}
	long := strings.Repeat("x", 3000)
	c, err := verifiedFrom(map[string]any{"note": long, "sub": long[:600]})
	if err != nil {
		t.Fatal(err)
	}
	d := delivery()
	d.Path, d.Query = long, long
	e := event("a", 1)
	e.Type += long
	if err := b.Publish(context.Background(), c, d, []schemas.Inbound{e, event("a", 2)}); err != nil {
		t.Fatal(err)
	}
	b.drained()
	got := server.Messages(schemas.Stream)
	common := "acs-token-sub,acs-token-claims,acs-path,acs-query"
	for i, want := range []string{common + ",ce-type", common} {
		if got := got[i].Header.Get("acs-truncated"); got != want {
			t.Errorf("event %d: cut %q, want %q", i, got, want)
		}
	}
	h := got[0].Header
	for name, want := range map[string]int{"acs-token-sub": 512, "acs-path": 512, "acs-query": 1024, "ce-type": 512} {
		if n := len(h.Get(name)); n != want {
			t.Errorf("%s has %d bytes, want %d", name, n, want)
		}
	}
	if _, ok := h["acs-token-claims"]; ok {
		t.Error("claims above their limit are not JSON any more, and were sent")
	}
	if err := b.Quarantine(context.Background(), claims(t), d, "not_json", "application/json", []byte("[")); err != nil {
		t.Fatal(err)
	}
	const counter = "acsbridge_truncated_headers_total "
	expect(t, scrape(t, reg), map[string]float64{
		counter + "acs-path": 3, counter + "acs-query": 3, counter + "acs-token-sub": 2, counter + "acs-token-claims": 2,
		counter + "ce-type": 1, counter + "ce-id": 0, counter + "acs-eventgrid-subscription": 0,
	})
}

// TestPublish_unreadableTimes: an event whose time names no moment is stored
// without ce-time, and counted.
func TestPublish_unreadableTimes(t *testing.T) {
	server := natstest.Start(t)
	reg := prometheus.NewRegistry()
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Registerer: reg})
	events := []schemas.Inbound{event("a", 1), event("a", 2), event("a", 3), event("a", 4)}
	events[1].Time, events[2].Time, events[3].Time = "2016-12-31t23:59:60", "soon", "7"
	b.store(events...)
	b.drained()
	for i, want := range []string{"", "2016-12-31T23:59:59Z", "", ""} {
		if got := server.Messages(schemas.Stream)[i].Header.Get("ce-time"); got != want {
			t.Errorf("event %d: ce-time %q, want %q", i, got, want)
		}
	}
	expect(t, scrape(t, reg), map[string]float64{"acsbridge_unreadable_times_total": 2})
}

func TestQuarantine_headers(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	d := delivery()
	d.Path, d.Query, d.Traceparent = "b1", "q=1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	send := func(contentType, body string) {
		t.Helper()
		if err := b.Quarantine(context.Background(), claims(t), d, "not_json", contentType, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	send("application/json", "one")
	send("application/json", "two")
	send("text/plain", "one")
	send("application/json", "one")
	b.drained()
	got := server.Messages(schemas.QuarantineStream)
	if len(got) != 3 { // body and content type tell callbacks apart
		t.Fatalf("got %d messages, want 3", len(got))
	}
	h := got[0].Header
	want := make(map[string]bool)
	for _, name := range []string{
		"content-type", "Nats-Msg-Id", "Nats-Expected-Stream", "acs-quarantine-reason",
		"acs-token-iss", "acs-token-aud", "acs-token-kid", "acs-token-exp", "acs-token-iat", "acs-token-nbf",
		"acs-token-sub", "acs-token-jti", "acs-token-claims",
		"acs-resource", "acs-received-at", "acs-delivery-id", "acs-path", "acs-query", "traceparent",
	} {
		want[name] = true
	}
	if diff := cmp.Diff(want, names(h)); diff != "" {
		t.Error(diff)
	}
	if h.Get("Nats-Expected-Stream") != "ACS_QUARANTINE" || h.Get("acs-resource") != "contoso" || h.Get("acs-delivery-id") != d.ID.String() {
		t.Errorf("got %v", h)
	}
}
