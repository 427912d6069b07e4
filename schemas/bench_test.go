package schemas_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkParse reads a message with all its headers: one event of the usual
// kind, and the largest example.
func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"PlayCompleted", "ParticipantsUpdated"} {
		document, err := os.ReadFile("examples/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(document)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := schemas.Parse(headers, document); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPlain reads the same event with encoding/json, into structs that name
// some of its members and forget the others: what Parse is to be compared with.
func BenchmarkPlain(b *testing.B) {
	document, err := os.ReadFile("examples/PlayCompleted.json")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		var e struct {
			ID, Source, Type, Time, SpecVersion, DataContentType, Subject string

			Data struct {
				CallConnectionID, ServerCallID, CorrelationID, OperationContext, Version, PublicEventType string

				ResultInformation *struct {
					Code, SubCode int
					Message       string
				}
			}
		}
		if err := json.Unmarshal(document, &e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncode writes an event again.
func BenchmarkEncode(b *testing.B) {
	document, err := os.ReadFile("examples/PlayCompleted.json")
	if err != nil {
		b.Fatal(err)
	}
	var e schemas.Event
	if err := json.Unmarshal(document, &e); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(e); err != nil {
			b.Fatal(err)
		}
	}
}
