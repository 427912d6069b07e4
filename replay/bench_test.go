package replay_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkLine writes one message as NDJSON. How fast a stream is read is
// measured with the command: BenchmarkTail.
func BenchmarkLine(b *testing.B) {
	e, err := acstest.NewCall().NewEvent("ParticipantsUpdated")
	if err != nil {
		b.Fatal(err)
	}
	m := &replay.StoredMessage{Stream: schemas.Stream, Sequence: 4711, Time: time.Now(), Subject: schemas.WithSlot("acs.demo.ParticipantsUpdated." + e.ID), Header: nats.Header{
		schemas.HeaderMsgID: {e.MsgID()}, schemas.HeaderEventID: {e.ID}, schemas.HeaderEventSource: {e.Source}, schemas.HeaderEventType: {e.Type},
		schemas.HeaderDeliveryID: {e.ID}, schemas.HeaderDeliveryIndex: {"0/1"}, schemas.HeaderPath: {e.ID}, schemas.HeaderQuery: {"callerId=%2B12065550100"},
	}}
	if m.Data, err = json.Marshal(e); err != nil {
		b.Fatal(err)
	}
	for name, masking := range map[string]replay.Masking{"personal": replay.MaskSecrets, "masked": replay.MaskPII} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var line []byte
			for b.Loop() {
				line = replay.AppendLine(line[:0], m, masking)
			}
		})
	}
}
