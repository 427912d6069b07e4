package tracing_test

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/tracing"
	"github.com/acsbridge/acsbridge/internal/tracing/tracingtest"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// export makes a span and closes the provider, which sends it.
func export(t *testing.T, log *bridgetest.Log) {
	t.Helper()
	p, err := tracing.New("test", "1.2.3", log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	_, span := p.Tracer("room").Start(tracing.Continue(t.Context(), parent), "work", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("s", "x"), attribute.Int("i", 7), attribute.Bool("b", true), attribute.Float64("f", 1.5), attribute.StringSlice("l", []string{"a", "b"})))
	span.SetStatus(codes.Error, "")
	span.End()
	p.Close()
}

func TestProvider_exports(t *testing.T) {
	for _, compression := range []string{"none", "gzip"} {
		receiver := tracingtest.Start(t)
		receiver.Configure(t)
		t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20secret, x=1")
		t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
		t.Setenv("OTEL_SERVICE_NAME", "named")
		var log bridgetest.Log
		export(t, &log)
		spans := receiver.Spans()
		if len(spans) != 1 {
			t.Fatalf("received %+v, logged %s", spans, &log)
		}
		s := spans[0]
		if s.Trace != parent[3:35] || s.Parent != parent[36:52] || s.Name != "work" || s.Kind != tracepb.Span_SPAN_KIND_CLIENT || !s.Failed {
			t.Errorf("span %+v", s)
		}
		if diff := cmp.Diff(map[string]string{"s": "x", "i": "7", "b": "true", "f": "1.5", "l": "a,b"}, s.Attributes); diff != "" {
			t.Error(diff)
		}
		if r := s.Resource; r["service.name"] != "named" || r["service.version"] != "1.2.3" || r["deployment.environment.name"] != "test" || r["service.instance.id"] == "" {
			t.Errorf("resource %v", r)
		}
		h := receiver.Headers()[0]
		if h.Get("Api-Key") != "a secret" || h.Get("X") != "1" || h.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("headers %v", h)
		}
	}
}

// TestNew_off holds that nothing is made without the variables, and where they say so.
func TestNew_off(t *testing.T) {
	for _, vars := range []map[string]string{
		{}, {"OTEL_EXPORTER_OTLP_HEADERS": "a=b"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
	} {
		t.Run("", func(t *testing.T) {
			for name, value := range vars {
				t.Setenv(name, value)
			}
			p, err := tracing.New("test", "1", nil)
			if err != nil || p != nil || p.Tracer("x") != nil {
				t.Errorf("%v: %v, %v", vars, p, err)
			}
			p.Close()
		})
	}
}

// TestNew_badVariables holds that a mistake is named, without what may be a secret.
func TestNew_badVariables(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	for _, bad := range [][2]string{
		{"OTEL_TRACES_EXPORTER", "zipkin"}, {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, {"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"}, {"OTEL_EXPORTER_OTLP_TIMEOUT", "0"}, {"OTEL_EXPORTER_OTLP_HEADERS", "secret"}, {"OTEL_EXPORTER_OTLP_HEADERS", "a=secret%zz"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "secret:4318"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://secret"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/missing"}, {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/missing"},
	} {
		t.Run(bad[0], func(t *testing.T) {
			t.Setenv(bad[0], bad[1])
			_, err := tracing.New("test", "1", nil)
			if err == nil || !strings.HasPrefix(err.Error(), bad[0]+": ") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", bad[1], err)
			}
			if check := tracing.Check(); check == nil || check.Error() != err.Error() {
				t.Errorf("%q is checked as %v", bad[1], check)
			}
		})
	}
}

// TestProvider_triesAgain has a collector that is overloaded once, and one that rejects.
func TestProvider_triesAgain(t *testing.T) {
	for _, test := range []struct {
		status, answers int // the first answers are of that status
		spans           int
		log             string
	}{
		{503, 1, 1, ""}, {429, 1, 1, ""}, {400, 1, 0, "the collector answers 400"}, {307, 1, 0, "the collector answers 307"},
		{200, 1, 0, "the collector rejects 1 of them"},
	} {
		t.Run(strconv.Itoa(test.status), func(t *testing.T) {
			receiver := tracingtest.Start(t)
			receiver.Configure(t)
			left := test.answers
			receiver.Answer(func(w http.ResponseWriter) bool {
				left--
				if left < 0 {
					return false
				}
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(test.status)
				if test.status == 200 {
					body, err := proto.Marshal(&collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 1}})
					if err != nil {
						t.Error(err)
					}
					_, _ = w.Write(body)
				}
				return true
			})
			var log bridgetest.Log
			export(t, &log)
			if got := len(receiver.Spans()); got != test.spans || test.log != "" && !log.Has("spans were not exported", test.log) || test.log == "" && log.String() != "" {
				t.Errorf("%d spans, %d requests, log %s", got, len(receiver.Headers()), &log)
			}
		})
	}
}

// TestProvider_collectorAway ends soon, and does not print the URL.
func TestProvider_collectorAway(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
	var log bridgetest.Log
	began := time.Now()
	export(t, &log)
	if took := time.Since(began); took > 4*time.Second || !log.Has("spans were not exported", "connection refused") || log.Has("secret") {
		t.Errorf("after %s: %s", took, &log)
	}
}

// TestProvider_certificate exports to a collector with a certificate of its own, at the URL
// for traces.
func TestProvider_certificate(t *testing.T) {
	paths := make(chan string, 10)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.URL+"/own/path")
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	var log bridgetest.Log
	export(t, &log)
	if got := <-paths; got != "/own/path" || log.String() != "" {
		t.Errorf("posted to %s, logged %s", got, &log)
	}
}

func TestTraceparent_roundTrip(t *testing.T) {
	if got := tracing.Traceparent(tracing.Continue(t.Context(), parent)); got != parent {
		t.Errorf("got %q, want %q", got, parent)
	}
	for _, bad := range []string{"", "00-x", parent[:54]} {
		if got := tracing.Traceparent(tracing.Continue(context.Background(), bad)); got != "" {
			t.Errorf("%q became %q", bad, got)
		}
	}
}
