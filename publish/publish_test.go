package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

func TestPublish_message(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), AckWait: time.Minute})
	server.Await(schemas.Stream, 0)
	natstest.Until(t, func() bool { return b.Status().Sending })

	c := claims(t)
	d := &publish.Delivery{
		ID:         uuid.MustParse("01936c2e-0000-7000-8000-000000000001"),
		ReceivedAt: time.Date(2026, 3, 1, 12, 0, 0, 5_000_000, time.UTC),
		Path:       "b1/%C3%BC", Query: "callerId=%2B15550100",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	e := event("c-42", 1)
	e.Time = "2026-03-01T12:00:00.1234567+00:00"
	e.Raw = []byte(`{"id":"c-42-1", "spaces" : "stay\u002B+"}`)
	if err := b.Publish(context.Background(), c, d, []schemas.Inbound{e, event("*.>", 2)}); err != nil {
		t.Fatal(err)
	}
	got := server.Messages(schemas.Stream)
	if len(got) != 2 {
		t.Fatalf("Publish returned before the stream had both events: %d", len(got))
	}
	if got, want := got[0].Subject, "acs.contoso.PlayCompleted.8.c-42"; got != want {
		t.Errorf("subject: got %s, want %s", got, want)
	}
	if diff := cmp.Diff(string(e.Raw), string(got[0].Data)); diff != "" {
		t.Error("payload", diff)
	}
	unix := func(at time.Time) string { return jsonNumber(at.Unix()) }
	iat, _ := c.IssuedAt()
	nbf, _ := c.NotBefore()
	want := nats.Header{
		"content-type": {"application/cloudevents+json"},
		"Nats-Msg-Id":  {"calling/callConnections/c-42#c-42-1"}, "Nats-Expected-Stream": {"ACS"},
		"ce-id": {"c-42-1"}, "ce-source": {"calling/callConnections/c-42"},
		"ce-type": {"Microsoft.Communication.PlayCompleted"}, "ce-time": {e.Time},
		"acs-token-iss": {c.Issuer()}, "acs-token-aud": {audience}, "acs-token-kid": {c.KeyID()},
		"acs-token-exp": {unix(c.ExpiresAt())}, "acs-token-iat": {unix(iat)}, "acs-token-nbf": {unix(nbf)},
		"acs-token-sub": {"acs"}, "acs-token-jti": {"j-1"},
		"acs-token-claims": got[0].Header["acs-token-claims"],
		"acs-resource":     {"contoso"}, "acs-received-at": {"2026-03-01T12:00:00.005Z"},
		"acs-delivery-id": {d.ID.String()}, "acs-delivery-index": {"0/2"},
		"acs-path": {"b1/%C3%BC"}, "acs-query": {"callerId=%2B15550100"}, "traceparent": {d.Traceparent},
	}
	if diff := cmp.Diff(want, got[0].Header); diff != "" {
		t.Error("headers", diff)
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(got[0].Header.Get("acs-token-claims")), &all); err != nil || all["note"] != "grüße" {
		t.Errorf("claims: %v, %v", all, err)
	}
	// A call id that would be wildcards is hashed.
	if got := got[1].Subject; !strings.HasPrefix(got, "acs.contoso.PlayCompleted.") || !strings.Contains(got, ".h_") || strings.ContainsAny(got, "*>") {
		t.Errorf("subject: %s", got)
	}
	if got := got[1].Header.Get("acs-delivery-index"); got != "1/2" {
		t.Errorf("delivery index: %s", got)
	}
}

func jsonNumber(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestOpen_refuses(t *testing.T) {
	for setting, opts := range map[string]publish.Options{
		"ack-wait":                {AckWait: time.Minute},
		"journal-max-bytes":       {Journal: journal.Options{MaxBytes: 1000}},
		"stream-duplicate-window": {Stream: publish.StreamConfig{Duplicates: time.Second}},
		"stream":                  {Stream: publish.StreamConfig{Name: "a.b"}, InsecureLimits: true},
	} {
		if _, err := publish.Open(opts); err == nil || !strings.Contains(err.Error(), setting+": ") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func TestPublish_withoutClaims(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	for _, c := range []*verify.Claims{nil, {}} {
		if err := b.Publish(context.Background(), c, delivery(), []schemas.Inbound{event("a", 1)}); !errors.Is(err, publish.ErrUnverified) {
			t.Errorf("publish: got %v, want ErrUnverified", err)
		}
		if err := b.Quarantine(context.Background(), c, delivery(), "not_json", "", []byte("x")); !errors.Is(err, publish.ErrUnverified) {
			t.Errorf("quarantine: got %v, want ErrUnverified", err)
		}
	}
	if s := b.Status().Journal; s.Records != 0 {
		t.Errorf("journal has %d records", s.Records)
	}
}

func TestPublish_repeatedEvent(t *testing.T) {
	withAndWithoutJournal(t, func(t *testing.T, dir string) {
		server := natstest.Start(t)
		reg := prometheus.NewRegistry()
		b := start(t, server.URL(), publish.Options{Dir: dir, Registerer: reg})
		server.Await(schemas.Stream, 0)
		b.publish("a", 1, 3)
		b.publish("a", 2, 3)
		b.drained()
		checkStream(t, server, map[string]int{"a": 3})
		expect(t, scrape(t, reg), map[string]float64{
			"acsbridge_published_total duplicate contoso": 2,
			"acsbridge_published_total stored contoso":    3,
		})
	})
}

func TestQuarantine_asReceived(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	body := []byte("[{\"id\":1,\x00")
	for range 2 {
		if err := b.Quarantine(context.Background(), claims(t), delivery(), "not_json", "application/json", body); err != nil {
			t.Fatal(err)
		}
	}
	b.drained()
	got := server.Messages(schemas.QuarantineStream)
	if len(got) != 1 {
		t.Fatalf("got %d messages, want 1", len(got))
	}
	if got[0].Subject != "acs-quarantine.contoso.not_json" || string(got[0].Data) != string(body) ||
		got[0].Header.Get("acs-quarantine-reason") != "not_json" || got[0].Header.Get("content-type") != "application/json" {
		t.Errorf("got %s %q %v", got[0].Subject, got[0].Data, got[0].Header)
	}
	if n := len(server.Messages(schemas.Stream)); n != 0 {
		t.Errorf("event stream has %d messages", n)
	}
}

func TestForwarder_recordNeverFits(t *testing.T) {
	server := natstest.Start(t)
	small := jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, MaxMsgSize: 3000}
	natstest.CreateStream(t, server.JetStream(), small)
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	big := event("a", 99)
	big.Raw = []byte(`"` + strings.Repeat("x", 4000) + `"`)
	b.publish("a", 1, 1)
	b.store(big)
	b.publish("a", 2, 3)
	b.drained()
	checkStream(t, server, map[string]int{"a": 3})

	file := filepath.Join(dir, "dead-letters.ndjson")
	line, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var letter struct {
		Reason  string
		Subject string
		Headers map[string]string
		Payload []byte
	}
	if err := json.Unmarshal(line, &letter); err != nil {
		t.Fatal(err)
	}
	if letter.Reason != "too_large" || letter.Subject != "acs.contoso.PlayCompleted.c.a" ||
		string(letter.Payload) != string(big.Raw) || letter.Headers["ce-id"] != "a-99" {
		t.Errorf("got %+v", letter)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestPublish_fullJournal(t *testing.T) {
	b := start(t, "nats://127.0.0.1:1", publish.Options{Dir: t.TempDir(), Journal: journal.Options{MaxBytes: 2500}})
	b.publish("a", 1, 2)
	err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", 3)})
	if !errors.Is(err, publish.ErrUnavailable) || !errors.Is(err, journal.ErrFull) {
		t.Errorf("got %v, want ErrUnavailable, ErrFull", err)
	}
	if s := b.Status(); s.Waiting != 2 || s.Connected || s.Sending || s.Cause() == nil {
		t.Errorf("status: %+v", s)
	}
}
