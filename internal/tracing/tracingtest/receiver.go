// Package tracingtest is an OpenTelemetry collector for tests: it receives spans by OTLP
// over HTTP and keeps them.
package tracingtest

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a received span. Ids are hex digits.
type Span struct {
	Trace, ID, Parent string
	Name              string
	Kind              tracepb.Span_SpanKind
	Failed            bool
	Begin, End        time.Time
	Attributes        map[string]string
	Resource          map[string]string
}

// Receiver is a running collector.
type Receiver struct {
	URL string

	mu     sync.Mutex
	spans  []Span
	heads  []http.Header
	answer func(http.ResponseWriter) (done bool)
}

// Start starts a collector that runs until the test ends.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// Configure has the process export to the receiver, soon after a span has ended.
func (r *Receiver) Configure(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
}

// Answer has the receiver answer with a function, which reports whether it did.
func (r *Receiver) Answer(with func(http.ResponseWriter) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = with
}

// Headers returns those of all requests.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heads
}

// Spans returns what was received so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Span(nil), r.spans...)
}

// Named returns the spans of a trace with a name; of any trace when that is empty.
func (r *Receiver) Named(trace, name string) (found []Span) {
	for _, s := range r.Spans() {
		if s.Name == name && (trace == "" || s.Trace == trace) {
			found = append(found, s)
		}
	}
	return found
}

// ServeHTTP takes a batch.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heads = append(r.heads, request.Header.Clone())
	if r.answer != nil && r.answer(w) {
		return
	}
	batch, err := decode(request)
	if err != nil || request.URL.Path != "/v1/traces" || request.Method != http.MethodPost {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	r.spans = append(r.spans, batch...)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// decode decodes an ExportTraceServiceRequest.
func decode(r *http.Request) (spans []Span, err error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var batch collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &batch); err != nil {
		return nil, err
	}
	for _, resource := range batch.GetResourceSpans() {
		about := attributes(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				spans = append(spans, Span{
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Name: s.GetName(), Kind: s.GetKind(), Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
					Begin: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())),
					Attributes: attributes(s.GetAttributes()), Resource: about,
				})
			}
		}
	}
	return spans, nil
}

func attributes(list []*common.KeyValue) map[string]string {
	out := make(map[string]string)
	for _, a := range list {
		out[a.GetKey()] = text(a.GetValue())
	}
	return out
}

func text(v *common.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_ArrayValue:
		var list []string
		for _, element := range v.ArrayValue.GetValues() {
			list = append(list, text(element))
		}
		return strings.Join(list, ",")
	case *common.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *common.AnyValue_DoubleValue:
		return fmt.Sprint(v.DoubleValue)
	}
	return fmt.Sprint(v)
}
