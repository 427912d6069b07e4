package webhook

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/tracing"
)

// startSpan begins the span of a request, and has the request carry it. Its parent is the
// span of ctx, or the traceparent of the request. Nothing is made, and the header stays,
// unless the program has OpenTelemetry's SDK. The URL is left out: its path and query may
// have a phone number or a key.
func startSpan(ctx context.Context, request *http.Request) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = tracing.Continue(ctx, request.Header.Get("Traceparent"))
	}
	attributes := trace.WithAttributes(semconv.HTTPRequestMethodKey.String(request.Method), semconv.ServerAddress(request.URL.Hostname()))
	ctx, span := otel.Tracer("github.com/acsbridge/acsbridge/internal/webhook").Start(ctx, request.Method, trace.WithSpanKind(trace.SpanKindClient), attributes)
	if !span.IsRecording() {
		return ctx, span
	}
	if port, err := strconv.Atoi(request.URL.Port()); err == nil {
		span.SetAttributes(semconv.ServerPort(port))
	}
	request.Header.Set("Traceparent", tracing.Traceparent(ctx))
	return ctx, span
}

// endSpan ends the span of a request with its answer.
func endSpan(span trace.Span, a Answer) {
	switch {
	case errors.Is(a.Err, context.DeadlineExceeded):
		span.SetAttributes(semconv.ErrorTypeKey.String("timeout"))
	case a.Err != nil:
		span.SetAttributes(semconv.ErrorTypeKey.String("no_answer"))
	case !a.OK():
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(a.Status)))
	}
	if a.Status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(a.Status))
	}
	if !a.OK() {
		span.SetStatus(otelcodes.Error, "")
	}
	span.End()
}
