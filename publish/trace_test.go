package publish

import (
	"errors"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/acsbridge/acsbridge/schemas"
)

const sampledParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestPending_endsTraces has a sender end with one record sent, one stored and one refused.
func TestPending_endsTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
	p := newPending(0)
	var entries []*entry
	for range 3 {
		r := &record{stream: "ACS", subject: "acs.contoso.CallConnected.7.c", headers: []schemas.Header{{Name: schemas.HeaderTraceparent, Value: sampledParent}}}
		e := p.admit(r)
		e.span = startPublish(tracer, r, r.message())
		entries = append(entries, e)
	}
	entries[1].endTrace()
	entries[2].refused = reasonTooLarge
	entries[2].endTrace()
	p.endTraces()
	p.endTraces() // which does not end a span twice
	want := []struct {
		code   codes.Code
		kind   string
		result string
	}{{codes.Unset, "", outcomeStored}, {codes.Error, reasonTooLarge, outcomeDeadLetter}, {codes.Error, "not_acknowledged", ""}}
	if len(spans.Ended()) != len(want) {
		t.Fatalf("%d spans ended", len(spans.Ended()))
	}
	for i, s := range spans.Ended() {
		got := map[string]string{}
		for _, a := range s.Attributes() {
			got[string(a.Key)] = a.Value.String()
		}
		if s.Status().Code != want[i].code || got["error.type"] != want[i].kind || got["acsbridge.outcome"] != want[i].result {
			t.Errorf("span %d: %v %v, want %v", i, s.Status(), got, want[i])
		}
		if s.Parent().SpanID().String() != sampledParent[36:52] {
			t.Errorf("span %d has the parent %s", i, s.Parent().SpanID())
		}
	}
}

func TestRecord_traceID(t *testing.T) {
	for value, want := range map[string]bool{
		sampledParent: true, sampledParent[:53] + "00": false, sampledParent[:53] + "0a": false, sampledParent[:53] + "0b": true, "": false, "00-short": false,
	} {
		r := &record{headers: []schemas.Header{{Name: schemas.HeaderTraceparent, Value: value}}}
		if id, ok := r.traceID(); ok != want || ok && id != sampledParent[3:35] {
			t.Errorf("%q: %q, %v", value, id, ok)
		}
	}
	endSpan(nil, errors.New("without traces"))
}
