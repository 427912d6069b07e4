package publish

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/tracing"
	"github.com/acsbridge/acsbridge/schemas"
)

// The spans of a callback: the append to the journal is a child of the request's span, and
// so is each publish of an event, also a later one: the record has the request's span as
// its traceparent. The message carries the span of its publish. No span names a subject,
// which has the id of a call.

// startAppend begins the span of an append to the journal, nil without traces.
func (o *Options) startAppend(ctx context.Context, records int) trace.Span {
	if o.Tracer == nil {
		return nil
	}
	_, span := o.Tracer.Start(ctx, "append to journal", trace.WithAttributes(semconv.MessagingBatchMessageCount(records)))
	return span
}

// endSpan ends a span, which may be nil. The text of an error may name a subject.
func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String("not_durable"))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// startPublish begins the span of a record's publish, and has the message carry it. It
// returns nil when the record has no trace, or one that is not sampled.
func startPublish(tracer trace.Tracer, r *record, m *nats.Msg) trace.Span {
	carried := m.Header[schemas.HeaderTraceparent]
	if len(carried) == 0 {
		return nil
	}
	_, rest, _ := strings.Cut(r.subject, ".")
	parts := strings.Split(rest, ".") // resource, type, slot, call; or resource and reason
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"), semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(r.stream), semconv.MessagingMessageBodySize(len(r.payload)),
		attribute.String("acsbridge.resource", r.resource()),
	}
	if !r.forQuarantine() && len(parts) == 4 {
		attributes = append(attributes, semconv.MessagingDestinationPartitionID(parts[2]))
	}
	ctx, span := tracer.Start(tracing.Continue(context.Background(), carried[0]), "publish "+r.stream,
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attributes...))
	if !span.IsRecording() {
		return nil
	}
	carried[0] = tracing.Traceparent(ctx)
	return span
}

// endTrace ends the span of an entry whose outcome is known.
func (e *entry) endTrace() {
	if e.span == nil {
		return
	}
	outcome := outcomeStored
	switch {
	case e.refused != "":
		outcome = outcomeDeadLetter
		e.span.SetAttributes(semconv.ErrorTypeKey.String(e.refused))
		e.span.SetStatus(codes.Error, "")
	case e.handed, e.record.forQuarantine():
		outcome = outcomeQuarantined
	case e.duplicate:
		outcome = outcomeDuplicate
	}
	e.span.SetAttributes(attribute.String("acsbridge.outcome", outcome))
	e.span.End()
	e.span = nil
}

// failTrace ends the span of an entry that was sent and not acknowledged.
func (e *entry) failTrace() {
	if e.span == nil {
		return
	}
	e.span.SetAttributes(semconv.ErrorTypeKey.String("not_acknowledged"))
	e.span.SetStatus(codes.Error, "")
	e.span.End()
	e.span = nil
}

// endTraces ends the spans of records that were sent and not acknowledged when a sender
// ends. The next one publishes them again, with a span of its own.
func (p *pending) endTraces() {
	for i := range p.ring {
		p.ring[i].failTrace()
	}
}

// traceID returns the trace of the record, when it is sampled.
func (r *record) traceID() (id string, ok bool) {
	for _, h := range r.headers {
		if h.Name == schemas.HeaderTraceparent && len(h.Value) == len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") {
			return h.Value[3:35], strings.IndexByte("13579bdf", h.Value[54]) >= 0
		}
	}
	return "", false
}
