package examples_test

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// deadLetterSubject matches the subjects of the dead-letter stream in docs/consuming.md.
var deadLetterSubject = regexp.MustCompile(`--subjects '(\$JS\.EVENT\.[^']+)'`)

// TestDeadLetters checks the page: that stream gets the sequence of each event that was
// terminated or reached MaxDeliver, and of no other.
func TestDeadLetters(t *testing.T) {
	page, err := os.ReadFile("../docs/consuming.md")
	if err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, match := range deadLetterSubject.FindAllStringSubmatch(string(page), -1) {
		subjects = append(subjects, match[1])
	}
	server := natstest.Start(t)
	js := server.JetStream()
	ctx := t.Context()
	for _, config := range []jetstream.StreamConfig{
		{Name: schemas.Stream, Subjects: []string{"acs.>"}},
		{Name: "DEAD_LETTERS", Subjects: subjects},
	} {
		natstest.CreateStream(t, js, config)
	}
	for _, subject := range []string{"acs.contoso.Good.2.c", "acs.contoso.Terminated.2.c", "acs.contoso.Failing.2.c"} {
		if _, err := js.Publish(ctx, subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := js.CreateConsumer(ctx, schemas.Stream, jetstream.ConsumerConfig{
		Durable: "service", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		var err error
		switch m.Subject() {
		case "acs.contoso.Good.2.c":
			err = m.Ack()
		case "acs.contoso.Terminated.2.c":
			err = m.TermWithReason("no event")
		default:
			err = m.NakWithDelay(time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer consuming.Stop()

	got := make(map[string]uint64)
	for _, m := range server.Await("DEAD_LETTERS", 2) {
		var advisory struct {
			Type      string
			StreamSeq uint64 `json:"stream_seq"`
		}
		if err := json.Unmarshal(m.Data, &advisory); err != nil {
			t.Fatal(err)
		}
		got[advisory.Type] = advisory.StreamSeq
	}
	want := map[string]uint64{"io.nats.jetstream.advisory.v1.terminated": 2, "io.nats.jetstream.advisory.v1.max_deliver": 3}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letters and their events (-want +got):\n%s", diff)
	}
}
