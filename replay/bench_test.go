package replay_test

import (
	"encoding/json"
	"io"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// benchmarked is how many events the benchmarks read. Benchmarks run the server
// in their own process, so its time is in theirs.
const benchmarked = 100_000

// storeCalls stores events as the bridge does, of every type in turn.
func (s *stream) storeCalls(n int) {
	s.t.Helper()
	types := acstest.Types()
	for i := 0; i < n; {
		call := acstest.NewCall()
		for _, name := range types {
			e, err := call.NewEvent(name)
			if err != nil {
				s.t.Fatal(err)
			}
			m := nats.NewMsg("acs.demo." + name + "." + e.Source[len(e.Source)-36:])
			if m.Data, err = json.Marshal(e); err != nil {
				s.t.Fatal(err)
			}
			for name, value := range map[string]string{
				schemas.HeaderContentType: schemas.ContentTypeEvent, schemas.HeaderExpectedStream: schemas.Stream,
				schemas.HeaderEventID: e.ID, schemas.HeaderEventSource: e.Source, schemas.HeaderEventType: e.Type, schemas.HeaderEventTime: e.Time,
				schemas.HeaderTokenIssuer: "https://acscallautomation.communication.azure.com", schemas.HeaderTokenAudience: acstest.DemoAudience,
				schemas.HeaderTokenKeyID: "Pxu1ZniP1xkJVxN-4Dx0", schemas.HeaderTokenExpires: "1795452695",
				schemas.HeaderTokenClaims: `{"aud":"` + acstest.DemoAudience + `","exp":1795452695,"iss":"https://acscallautomation.communication.azure.com"}`,
				schemas.HeaderResource:    acstest.DemoResource, schemas.HeaderReceivedAt: "2026-11-23T16:46:35.262773717Z",
				schemas.HeaderDeliveryID: e.ID, schemas.HeaderDeliveryIndex: "0/1", schemas.HeaderPath: e.ID, schemas.HeaderQuery: "callerId=%2B12065550100",
			} {
				m.Header.Set(name, value)
			}
			if _, err := s.js.PublishMsgAsync(m); err != nil {
				s.t.Fatal(err)
			}
			if i++; i == n {
				break
			}
		}
	}
	<-s.js.PublishAsyncComplete()
}

// BenchmarkRead reads a stream, whole and by type, and writes it as NDJSON.
func BenchmarkRead(b *testing.B) {
	s := newStream(b)
	s.storeCalls(benchmarked)
	read := func(b *testing.B, selection replay.Selection, each func(*replay.Message)) {
		count, size := 0, 0
		for b.Loop() {
			for m, err := range s.reader().Read(b.Context(), selection) {
				if err != nil {
					b.Fatal(err)
				}
				each(m)
				count++
				size += len(m.Data)
			}
		}
		b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(size)/float64(count), "B/event")
	}
	b.Run("all", func(b *testing.B) { read(b, replay.Selection{}, func(*replay.Message) {}) })
	b.Run("type", func(b *testing.B) { read(b, replay.Selection{Type: "CallConnected"}, func(*replay.Message) {}) })
	for name, personal := range map[string]bool{"ndjson": true, "ndjson-masked": false} {
		b.Run(name, func(b *testing.B) {
			var line []byte
			read(b, replay.Selection{}, func(m *replay.Message) {
				line = replay.AppendLine(line[:0], m, personal)
				io.Discard.Write(line)
			})
		})
	}
}

// BenchmarkLine writes one message.
func BenchmarkLine(b *testing.B) {
	s := newStream(b)
	s.storeCalls(1000)
	var messages []*replay.Message
	for m, err := range s.reader().Read(b.Context(), replay.Selection{}) {
		if err != nil {
			b.Fatal(err)
		}
		messages = append(messages, m)
	}
	for name, personal := range map[string]bool{"personal": true, "masked": false} {
		b.Run(name, func(b *testing.B) {
			var line []byte
			for i := 0; b.Loop(); i++ {
				line = replay.AppendLine(line[:0], messages[i%len(messages)], personal)
			}
		})
	}
}
