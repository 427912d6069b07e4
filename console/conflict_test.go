package console_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestItems_conflictWithoutCall finds the other version of an event without a call, whose
// subject is that of all such events of its type, among those stored about then.
func TestItems_conflictWithoutCall(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t, func(o *console.Options) { o.Decode = ingest.Decode })
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{"acs-quarantine.>"}, AllowDirect: true})
	event := func(id, text string) string {
		return `{"id":"` + id + `","source":"calling","type":"Microsoft.Communication.Odd","specversion":"1.0","data":{"code":"` + text + `"}}`
	}
	m := nats.NewMsg(schemas.WithSlot("acs.contoso.Odd." + schemas.NoCall))
	m.Header.Set(schemas.HeaderMsgID, "calling#1")
	m.Data = []byte(event("1", "stored"))
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	setAside(t, js, "1", event("1", "second"))
	setAside(t, js, "2", event("2", "second"))
	if status, text := (request{path: "/quarantine/1"}).page(t, c); status != 200 || !strings.Contains(text, `In the stream under the same id: <a href="/events/1">1</a>`) {
		t.Errorf("%d, the other version is not shown:\n%s", status, text)
	}
	// From two windows, of two minutes, before it came.
	if status, text := (request{path: "/quarantine/2"}).page(t, c); status != 200 || !strings.Contains(text, "it is not among what was stored from 2026-01-02 03:00:05Z to ") {
		t.Errorf("%d, the other version is shown:\n%s", status, text)
	}
}

// TestLetters_conflictWithoutNATS shows a conflict although NATS does not answer.
func TestLetters_conflictWithoutNATS(t *testing.T) {
	t.Parallel()
	var line schemas.DeadLetter
	if err := json.Unmarshal([]byte(letter(t, "1", "first")), &line); err != nil {
		t.Fatal(err)
	}
	line.Stream, line.Reason, line.Subject = schemas.QuarantineStream, "quarantine", schemas.QuarantineSubject("contoso", "conflict")
	line.Headers[schemas.HeaderQuarantineReason] = "conflict"
	text, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := console.New(console.Options{
			Bridge: &bridge{letters: []string{path}}, Decode: ingest.Decode, Logger: slog.New(slog.DiscardHandler),
			Reader: &replay.Reader{
				JetStream: func(ctx context.Context) (jetstream.JetStream, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				},
				Stream: schemas.Stream, Prefix: schemas.SubjectPrefix,
			},
		})
		began := time.Now()
		status, text := request{path: "/deadletters/dead-letters.ndjson/1"}.page(t, c)
		if status != 200 || !strings.Contains(text, "the search for it took more than 5s") || time.Since(began) != 5*time.Second {
			t.Errorf("%d after %s\n%s", status, time.Since(began), text)
		}
	})
}
