package main

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// tailed is how many events BenchmarkTail reads.
const tailed = 100_000

// BenchmarkTail reads a stream with the command, which is a process of its own,
// as is NATS. The CPU times are those of the command and of NATS, user and system.
func BenchmarkTail(b *testing.B) {
	server := (&wholePath{b: b}).start("natsd", b.TempDir())
	defer server.stop()
	storeEvents(b, server.says, tailed)
	for _, output := range [][]string{{"raw", "--show-pii"}, {"json", "--show-pii"}, {"json"}, {"pretty"}} {
		name := output[0]
		if len(output) == 1 {
			name += "-masked"
		}
		b.Run(name, func(b *testing.B) {
			var cpu time.Duration
			runs, before := 0, server.cpu()
			for b.Loop() {
				cmd := exec.Command("acsbridge", append([]string{"tail", "--nats-url", server.says, "--since", "all", "--output"}, output...)...)
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				runs++
			}
			events := float64(runs) * tailed
			b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(cpu.Nanoseconds())/1000/events, "cpu-µs/event")
			b.ReportMetric(float64((server.cpu()-before).Nanoseconds())/1000/events, "nats-µs/event")
		})
	}
}

// storeEvents fills a stream with events of every type in turn, with the headers
// that the bridge writes.
func storeEvents(b *testing.B, url string, n int) {
	js := natstest.JetStream(b, url)
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}); err != nil {
		b.Fatal(err)
	}
	types := acstest.Types()
	var call *acstest.SimCall
	for i := range n {
		if i%len(types) == 0 {
			call = acstest.NewCall()
		}
		e, err := call.NewEvent(types[i%len(types)])
		if err != nil {
			b.Fatal(err)
		}
		m := nats.NewMsg(schemas.Subject(schemas.SubjectPrefix, acstest.DemoResource, &schemas.Inbound{Type: e.Type, CallConnectionID: e.Source[len(e.Source)-36:]}))
		if m.Data, err = json.Marshal(e); err != nil {
			b.Fatal(err)
		}
		for name, value := range map[string]string{
			schemas.HeaderContentType: schemas.ContentTypeEvent, schemas.HeaderExpectedStream: schemas.Stream,
			schemas.HeaderEventID: e.ID, schemas.HeaderEventSource: e.Source, schemas.HeaderEventType: e.Type, schemas.HeaderEventTime: e.Time,
			schemas.HeaderTokenIssuer: "https://acscallautomation.communication.azure.com", schemas.HeaderTokenAudience: acstest.DemoAudience,
			schemas.HeaderTokenKeyID: e.ID, schemas.HeaderTokenExpires: "1795452695", schemas.HeaderTokenClaims: `{"aud":"` + acstest.DemoAudience + `","exp":1795452695}`,
			schemas.HeaderResource: acstest.DemoResource, schemas.HeaderReceivedAt: e.Time, schemas.HeaderDeliveryID: e.ID,
			schemas.HeaderDeliveryIndex: "0/1", schemas.HeaderPath: e.ID, schemas.HeaderQuery: "callerId=%2B12065550100",
		} {
			m.Header.Set(name, value)
		}
		if _, err := js.PublishMsgAsync(m); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}
