package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/internal/tracing/tracingtest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestTraces_continued checks that deliver and replay go on with the trace of a message,
// and tell the application.
func TestTraces_continued(t *testing.T) {
	const trace, published = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	server, js := newDeliverStream(t)
	storeEvent(t, js, "call-0", "0", schemas.HeaderTraceparent, "00-"+trace+"-"+published+"-01")
	a := newApp(t, nil)
	collector := tracingtest.Start(t)
	collector.Configure(t)

	deliver := startDeliver(t, server.URL(), a.URL, "--since=all", "--stale", "--append-path")
	a.await(1)
	deliver.stop(syscall.SIGTERM)
	natstest.Until(t, func() bool { return len(collector.Spans()) == 2 })
	handled, posted := only(t, collector, "handle PlayCompleted"), only(t, collector, "POST")
	if handled.Kind != tracepb.Span_SPAN_KIND_CONSUMER || handled.Trace != trace || handled.Parent != published || handled.Attributes["messaging.operation.name"] != "handle" {
		t.Errorf("handled: %+v", handled)
	}
	if posted.Kind != tracepb.Span_SPAN_KIND_CLIENT || posted.Parent != handled.ID || posted.Attributes["http.response.status_code"] != "200" || posted.Resource["service.name"] != "acsbridge-deliver" {
		t.Errorf("posted: %+v", posted)
	}
	if got, want := a.all()[0].header.Get("traceparent"), "00-"+trace+"-"+posted.ID+"-01"; got != want {
		t.Errorf("deliver posts %s, want %s", got, want)
	}

	headers := make(chan http.Header, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	defer receiver.Close()
	if out, err := exec.Command("acsbridge", "replay", "--nats-url", server.URL(), "--since=all", "--to", receiver.URL, "--append-path").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	natstest.Until(t, func() bool { return len(collector.Spans()) == 3 })
	posted = collector.Named(trace, "POST")[1]
	if posted.Parent != published || posted.Resource["service.name"] != "acsbridge-replay" {
		t.Errorf("replayed: %+v", posted)
	}
	if got, want := (<-headers).Get("traceparent"), "00-"+trace+"-"+posted.ID+"-01"; got != want {
		t.Errorf("replay posts %s, want %s", got, want)
	}
	for _, s := range collector.Spans() {
		for _, value := range s.Attributes {
			if strings.Contains(value, "+1555") || strings.Contains(value, "call-0") {
				t.Errorf("span %+v has something private", s)
			}
		}
	}
}

// only returns the one span of a name.
func only(t *testing.T, collector *tracingtest.Receiver, name string) tracingtest.Span {
	t.Helper()
	found := collector.Named("", name)
	if len(found) != 1 {
		t.Fatalf("%d spans %q: %+v", len(found), name, collector.Spans())
	}
	return found[0]
}
