package ingest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/tracing"
)

// startTrace begins the span of a request once its token is verified, since only then
// its traceparent counts: it decides what is sampled. Requests that are refused have a
// trace of their own, but not those for which [isAuthFailure] is true: any client can send
// thousands a second, whose spans would take the place of those of callbacks. began is when
// the verification began, zero without one. Path, query and addresses are left out,
// as in the log.
func (q *request) startTrace(began time.Time, err error) {
	tracer := q.handler.config.Tracer
	if tracer == nil || isAuthFailure(err) {
		return
	}
	ctx, scheme, route := context.Background(), "http", q.handler.config.Path
	if parent := traceparent(q.r.Header); parent != "" && err == nil {
		ctx = tracing.Continue(ctx, parent)
	}
	if q.r.TLS != nil {
		scheme = "https"
	}
	if q.route == routeEventGrid {
		route = q.handler.grid.path
	}
	q.ctx, q.span = tracer.Start(ctx, q.r.Method+" "+route, trace.WithTimestamp(q.received), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(q.r.Method), semconv.HTTPRoute(route), semconv.URLScheme(scheme),
			semconv.NetworkProtocolVersion(strings.TrimSuffix(strings.TrimPrefix(q.r.Proto, "HTTP/"), ".0"))))
	if began.IsZero() {
		return
	}
	_, span := tracer.Start(q.ctx, "verify token", trace.WithTimestamp(began))
	if err != nil {
		code, reason := statusOf(err)
		span.SetAttributes(semconv.ErrorTypeKey.String(reason))
		if code >= http.StatusInternalServerError {
			span.SetStatus(otelcodes.Error, "")
		}
	}
	span.End()
}

// context returns the context of what makes a callback durable: not the request's, since
// a sender that disconnects must not cancel a write that is half made.
func (q *request) context() context.Context {
	if q.span == nil {
		return context.Background()
	}
	return q.ctx
}

// traceparent is the trace context of the request's messages: its span, or what the
// sender sent when no traces are made.
func (q *request) traceparent() string {
	if q.span == nil {
		return traceparent(q.r.Header)
	}
	return tracing.Traceparent(q.ctx)
}

// endTrace ends the span of the request. By the semantic conventions an answer 4xx is not
// an error of the server.
func (q *request) endTrace(code int, reason string) {
	if q.span == nil {
		return
	}
	attributes := []attribute.KeyValue{semconv.HTTPResponseStatusCode(code)}
	if q.events > 0 {
		attributes = append(attributes, semconv.MessagingBatchMessageCount(q.events))
	}
	if q.resource != "" {
		attributes = append(attributes, attribute.String("acsbridge.resource", q.resource))
	}
	if code != http.StatusOK {
		attributes = append(attributes, semconv.ErrorTypeKey.String(reason))
	}
	if code >= http.StatusInternalServerError {
		q.span.SetStatus(otelcodes.Error, "")
	}
	q.span.SetAttributes(attributes...)
	q.span.End()
}

// traceID returns the trace of the request, when it is sampled.
func (q *request) traceID() (id string, ok bool) {
	if q.span == nil || !q.span.SpanContext().IsSampled() {
		return "", false
	}
	return q.span.SpanContext().TraceID().String(), true
}

// observe observes a duration, with the trace as exemplar.
func (q *request) observe(o prometheus.Observer, took time.Duration) {
	if id, ok := q.traceID(); ok {
		o.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": id})
		return
	}
	o.Observe(took.Seconds())
}
