// Package tracing makes spans and sends them to an OpenTelemetry collector, as the
// standard variables OTEL_* of the process say. Without them nothing is made.
//
// The exporter is our own, on the SDK's interface and the protobuf types without gRPC:
// decision 28. Sampler (OTEL_TRACES_SAMPLER), batches (OTEL_BSP_*), limits of spans and
// resource attributes are those of the SDK. A full queue drops spans: traces never delay
// a callback.
package tracing

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/setting"
)

// flushWithin bounds the sending of the last spans when the process ends.
const flushWithin = 2 * time.Second

// Provider makes tracers. Nil makes none, and is what [New] returns without the
// variables.
type Provider struct{ provider *sdktrace.TracerProvider }

// New returns a provider that exports as the environment says, nil when that does not
// ask for traces: when neither OTEL_EXPORTER_OTLP_ENDPOINT nor
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, and OTEL_TRACES_EXPORTER is not otlp.
// Errors are those of the variables. Service is the name without OTEL_SERVICE_NAME.
func New(service, version string, logger *slog.Logger) (*Provider, error) {
	on, err := enabled()
	if err != nil || !on {
		return nil, err
	}
	e, err := newExporter(logger)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version),
			attribute.String("service.instance.id", uuid.NewString())),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, setting.Errorf("OTEL_RESOURCE_ATTRIBUTES", "%v", err)
	}
	return &Provider{sdktrace.NewTracerProvider(sdktrace.WithBatcher(e), sdktrace.WithResource(about))}, nil
}

// Check returns what is wrong with the variables, as an error of a setting.
func Check() error {
	on, err := enabled()
	if on {
		_, err = newExporter(nil)
	}
	return err
}

// enabled reads the variables that enable traces.
func enabled() (bool, error) {
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); {
	case os.Getenv("OTEL_SDK_DISABLED") == "true" || exporter == "none":
		return false, nil
	case exporter == "otlp":
		return true, nil
	case exporter != "":
		return false, setting.Errorf("OTEL_TRACES_EXPORTER", "%q is not supported, otlp and none are", exporter)
	}
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != "", nil
}

// Tracer returns the tracer of a package; nil when no traces are made.
func (p *Provider) Tracer(name string) trace.Tracer {
	if p == nil {
		return nil
	}
	return p.provider.Tracer(name)
}

// Install makes the provider that of the process, for packages with the global one, such
// as consume. It changes nothing when no traces are made.
func (p *Provider) Install() {
	if p == nil {
		return
	}
	otel.SetTracerProvider(p.provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
}

// Close sends what has ended, for two seconds at most.
func (p *Provider) Close() {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	_ = p.provider.Shutdown(ctx) // the exporter logs its failures
}

// header is the header of W3C Trace Context.
const header = "traceparent"

// Continue returns ctx with the span that a traceparent names as the parent of what
// follows; ctx itself when it is malformed.
func Continue(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: traceparent})
}

// Traceparent returns the header that makes the span of ctx the parent of what follows
// elsewhere; empty when ctx has none.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[header]
}
