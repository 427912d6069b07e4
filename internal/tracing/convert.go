package tracing

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// resourceSpans groups the spans of a batch, which have one resource, by the package
// that made them.
func resourceSpans(spans []sdktrace.ReadOnlySpan) []*tracepb.ResourceSpans {
	about := spans[0].Resource()
	all := &tracepb.ResourceSpans{
		Resource:  &resourcepb.Resource{Attributes: keyValues(about.Attributes())},
		SchemaUrl: about.SchemaURL(),
	}
	scopes := make(map[instrumentation.Scope]*tracepb.ScopeSpans)
	for _, s := range spans {
		scope := s.InstrumentationScope()
		group := scopes[scope]
		if group == nil {
			group = &tracepb.ScopeSpans{
				Scope:     &common.InstrumentationScope{Name: scope.Name, Version: scope.Version, Attributes: keyValues(scope.Attributes.ToSlice())},
				SchemaUrl: scope.SchemaURL,
			}
			scopes[scope] = group
			all.ScopeSpans = append(all.ScopeSpans, group)
		}
		group.Spans = append(group.Spans, span(s))
	}
	return []*tracepb.ResourceSpans{all}
}

// span converts one span.
func span(s sdktrace.ReadOnlySpan) *tracepb.Span {
	id, traceID := s.SpanContext().SpanID(), s.SpanContext().TraceID()
	out := &tracepb.Span{
		TraceId: traceID[:], SpanId: id[:], TraceState: s.SpanContext().TraceState().String(),
		Name: s.Name(), Kind: tracepb.Span_SpanKind(s.SpanKind()), // the numbers are the same
		StartTimeUnixNano: nanoseconds(s.StartTime()), EndTimeUnixNano: nanoseconds(s.EndTime()),
		Attributes: keyValues(s.Attributes()), DroppedAttributesCount: uint32(s.DroppedAttributes()),
		DroppedEventsCount: uint32(s.DroppedEvents()), DroppedLinksCount: uint32(s.DroppedLinks()),
		Flags:  flags(s.SpanContext(), s.Parent()),
		Status: &tracepb.Status{Message: s.Status().Description},
	}
	if parent := s.Parent().SpanID(); parent.IsValid() {
		out.ParentSpanId = parent[:]
	}
	switch s.Status().Code {
	case codes.Error:
		out.Status.Code = tracepb.Status_STATUS_CODE_ERROR
	case codes.Ok:
		out.Status.Code = tracepb.Status_STATUS_CODE_OK
	}
	for _, e := range s.Events() {
		out.Events = append(out.Events, &tracepb.Span_Event{
			Name: e.Name, TimeUnixNano: nanoseconds(e.Time), Attributes: keyValues(e.Attributes), DroppedAttributesCount: uint32(e.DroppedAttributeCount),
		})
	}
	for _, l := range s.Links() {
		linked, linkedTrace := l.SpanContext.SpanID(), l.SpanContext.TraceID()
		out.Links = append(out.Links, &tracepb.Span_Link{
			TraceId: linkedTrace[:], SpanId: linked[:], TraceState: l.SpanContext.TraceState().String(),
			Attributes: keyValues(l.Attributes), DroppedAttributesCount: uint32(l.DroppedAttributeCount), Flags: flags(l.SpanContext, l.SpanContext),
		})
	}
	return out
}

// flags are those of W3C Trace Context, and whether the parent is of another process.
func flags(of, parent trace.SpanContext) uint32 {
	f := uint32(of.TraceFlags()) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
	if parent.IsRemote() {
		f |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	return f
}

func nanoseconds(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }

func keyValues(attributes []attribute.KeyValue) []*common.KeyValue {
	out := make([]*common.KeyValue, 0, len(attributes))
	for _, a := range attributes {
		out = append(out, &common.KeyValue{Key: string(a.Key), Value: value(a.Value)})
	}
	return out
}

// value converts the types that spans of this module have, and lists of strings, which
// the resource may have. Others are sent as text.
func value(v attribute.Value) *common.AnyValue {
	switch v.Type() {
	case attribute.BOOL:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v.AsBool()}}
	case attribute.INT64:
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v.AsInt64()}}
	case attribute.FLOAT64:
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v.AsFloat64()}}
	case attribute.STRINGSLICE:
		list := &common.ArrayValue{}
		for _, s := range v.AsStringSlice() {
			list.Values = append(list.Values, value(attribute.StringValue(s)))
		}
		return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: list}}
	}
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v.String()}}
}
