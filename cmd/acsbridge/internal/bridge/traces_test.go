package bridge

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/internal/tracing/tracingtest"
	"github.com/acsbridge/acsbridge/schemas"
)

// tracedBridge is a bridge with a collector, NATS and an issuer.
type tracedBridge struct {
	*Bridge
	t         *testing.T
	collector *tracingtest.Receiver
	nats      *natstest.Server
	issuer    *acstest.Issuer
	log       *bridgetest.Log
}

func newTracedBridge(t *testing.T, args ...string) *tracedBridge {
	b := &tracedBridge{t: t, collector: tracingtest.Start(t), nats: natstest.Start(t), issuer: newIssuer(t), log: &bridgetest.Log{}}
	b.collector.Configure(t)
	b.Bridge = runBridge(t, onLoopback(t, append(args, "--resource=contoso="+testGUID, "--issuer="+b.issuer.Name(), "--oidc-config-url="+b.issuer.MetadataURL(),
		"--nats-url="+b.nats.URL())...), view.NewLogger(b.log, "text", "debug"))
	natstest.Until(t, func() bool { return b.Pending() == nil })
	return b
}

// Two traces of the sender.
const (
	firstTrace, firstParent   = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	secondTrace, secondParent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
)

// post posts a callback of so many events of a call, with what must not be in a trace.
func (b *tracedBridge) post(trace, call string, events int, spec acstest.TokenSpec) int {
	b.t.Helper()
	if spec.Audience == "" {
		spec.Audience = testGUID
	}
	token, err := b.issuer.Sign(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for n := range events {
		list = append(list, fmt.Sprintf(`{"id":"secret-id-%d","source":"calling/%[2]s","type":"Microsoft.Communication.CallConnected","specversion":"1.0",`+
			`"data":{"callConnectionId":%[2]q,"from":"+1secret"}}`, n, call))
	}
	return bridgetest.Post(b.t, b.CallbackURL()+"/secret-path?q=secret", token, "["+strings.Join(list, ",")+"]", func(r *http.Request) {
		r.Header.Set("Traceparent", "00-"+trace+"-01")
	})
}

// tree returns the spans of a trace as name, kind and parent's name, and waits until there
// are so many.
func (b *tracedBridge) tree(trace string, n int) map[string]int {
	b.t.Helper()
	var spans []tracingtest.Span
	natstest.Until(b.t, func() bool {
		spans = nil
		for _, s := range b.collector.Spans() {
			if s.Trace == trace {
				spans = append(spans, s)
			}
		}
		return len(spans) >= n
	})
	names := map[string]string{firstParent: "sender", secondParent: "sender"}
	for _, s := range spans {
		names[s.ID] = s.Name
	}
	tree := map[string]int{}
	for _, s := range spans {
		line := fmt.Sprintf("%s %s of %s", s.Kind.String()[len("SPAN_KIND_"):], s.Name, names[s.Parent])
		if s.Failed {
			line += ", failed"
		}
		tree[line]++
		if s.End.Before(s.Begin) || s.Resource["service.name"] != "acsbridge" || s.Resource["service.version"] != "test" {
			b.t.Errorf("span %+v", s)
		}
	}
	return tree
}

// stored returns the traceparents of the messages in the stream.
func (b *tracedBridge) stored(want uint64) (list []string) {
	b.t.Helper()
	js := b.nats.JetStream()
	var stream jetstream.Stream
	natstest.Until(b.t, func() bool {
		var err error
		stream, err = js.Stream(b.t.Context(), schemas.Stream)
		return err == nil && stream.CachedInfo().State.Msgs >= want
	})
	for sequence := uint64(1); sequence <= want; sequence++ {
		m, err := stream.GetMsg(b.t.Context(), sequence)
		if err != nil {
			b.t.Fatal(err)
		}
		list = append(list, m.Header.Get(schemas.HeaderTraceparent))
	}
	return list
}

// TestTraces_callback checks the spans of a callback of two events, and that each message
// carries that of its publish.
func TestTraces_callback(t *testing.T) {
	for _, journal := range []string{"on", "off"} {
		t.Run("journal "+journal, func(t *testing.T) {
			b := newTracedBridge(t, "--journal="+journal)
			if status := b.post(firstTrace+"-"+firstParent, "secret-call", 2, acstest.TokenSpec{}); status != 200 {
				t.Fatalf("answered %d", status)
			}
			want := map[string]int{
				"SERVER POST /callbacks of sender": 1, "INTERNAL verify token of POST /callbacks": 1,
				"INTERNAL append to journal of POST /callbacks": 1, "PRODUCER publish ACS of POST /callbacks": 2,
			}
			spans := 5
			if journal == "off" {
				delete(want, "INTERNAL append to journal of POST /callbacks")
				spans--
			}
			if diff := cmp.Diff(want, b.tree(firstTrace, spans)); diff != "" {
				t.Error(diff)
			}
			carried, published := map[string]bool{}, map[string]bool{}
			for _, traceparent := range b.stored(2) {
				carried[traceparent] = true
			}
			for _, s := range b.collector.Named(firstTrace, "publish ACS") {
				published["00-"+s.Trace+"-"+s.ID+"-01"] = true
			}
			if diff := cmp.Diff(published, carried); diff != "" {
				t.Errorf("the messages carry other spans than those of their publish: %s", diff)
			}
			b.checkAttributes()
			b.checkExemplars()
			if !b.log.Has("trace_id="+firstTrace, "msg=callback") {
				t.Error("the log line of the callback has no trace id")
			}
		})
	}
}

// checkAttributes compares the attributes with the semantic conventions, and looks for
// what is private.
func (b *tracedBridge) checkAttributes() {
	b.t.Helper()
	got := map[string]map[string]string{}
	for _, s := range b.collector.Spans() {
		got[s.Name] = s.Attributes
		if all := fmt.Sprint(s); strings.Contains(all, "secret") {
			b.t.Errorf("a span has something private: %s", all)
		}
	}
	size := got["publish ACS"]["messaging.message.body.size"]
	delete(got["publish ACS"], "messaging.message.body.size")
	delete(got, "append to journal")
	want := map[string]map[string]string{
		"POST /callbacks": {
			"http.request.method": "POST", "http.route": "/callbacks", "http.response.status_code": "200", "url.scheme": "http",
			"network.protocol.version": "1.1", "messaging.batch.message_count": "2", "acsbridge.resource": "contoso",
		},
		"verify token": {},
		"publish ACS": {
			"messaging.system": "nats", "messaging.operation.name": "publish", "messaging.operation.type": "send", "messaging.destination.name": "ACS",
			"messaging.destination.partition.id": schemas.Slot("secret-call"), "acsbridge.resource": "contoso", "acsbridge.outcome": "stored",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || size == "" {
		b.t.Errorf("attributes: %s; size %q", diff, size)
	}
}

// checkExemplars looks for the trace beside the durations.
func (b *tracedBridge) checkExemplars() {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, b.AdminURL()+"/metrics", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, name := range []string{"acsbridge_request_duration_seconds", "acsbridge_durable_duration_seconds", "acsbridge_ack_duration_seconds"} {
		found := false
		for line := range strings.Lines(string(text)) {
			found = found || strings.HasPrefix(line, name+"_bucket") && strings.Contains(line, `# {trace_id="`+firstTrace+`"}`)
		}
		if !found {
			b.t.Errorf("%s has no exemplar", name)
		}
	}
}

// TestTraces_outage has NATS away when the callback comes: the publish that succeeds later
// is of the same trace.
func TestTraces_outage(t *testing.T) {
	b := newTracedBridge(t)
	b.nats.Stop()
	natstest.Until(t, func() bool { return !b.publisher.Status().Connected })
	if status := b.post(secondTrace+"-"+secondParent, "secret-call", 1, acstest.TokenSpec{}); status != 200 {
		t.Fatalf("answered %d", status)
	}
	if diff := cmp.Diff(map[string]int{
		"SERVER POST /callbacks of sender": 1, "INTERNAL verify token of POST /callbacks": 1, "INTERNAL append to journal of POST /callbacks": 1,
	}, b.tree(secondTrace, 3)); diff != "" {
		t.Error(diff)
	}
	b.nats.Restart()
	if got := b.tree(secondTrace, 4)["PRODUCER publish ACS of POST /callbacks"]; got != 1 {
		t.Errorf("%d publishes after the outage", got)
	}
	published := b.collector.Named(secondTrace, "publish ACS")[0]
	if got := b.stored(1); got[0] != "00-"+secondTrace+"-"+published.ID+"-01" {
		t.Errorf("the message carries %s, its publish is %s", got, published.ID)
	}
}

// TestTraces_refused holds that a sender without a good token cannot choose what is
// sampled, and makes no span at all when ACS has not signed the token, and
// TestTraces_sampling that one with a good token can.
func TestTraces_refused(t *testing.T) {
	b := newTracedBridge(t)
	for _, spec := range []acstest.TokenSpec{{Forge: acstest.ForgeSignature}, {Forge: acstest.ForgeKey}, {Audience: "0f0e0d0c-4a3c-4a0b-9c55-0123456789ab"}} {
		if status := b.post(firstTrace+"-"+firstParent, "secret-call", 1, spec); status != 401 {
			t.Fatalf("answered %d", status)
		}
	}
	natstest.Until(t, func() bool { return len(b.collector.Spans()) >= 2 })
	for _, s := range b.collector.Spans() {
		if s.Trace == firstTrace || s.Attributes["error.type"] != "wrong_audience" || s.Failed {
			t.Errorf("span %+v", s)
		}
	}
	if got := b.collector.Named("", "POST /callbacks"); len(got) != 1 || got[0].Attributes["http.response.status_code"] != "401" || got[0].Kind != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("spans %+v", got)
	}
}

func TestTraces_sampling(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	b := newTracedBridge(t)
	post := func(traceparent string) {
		t.Helper()
		token, err := b.issuer.Sign(acstest.TokenSpec{Audience: testGUID})
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"id":%q,"source":"s","type":"t","specversion":"1.0"}`, traceparent)
		if status := bridgetest.Post(t, b.CallbackURL(), token, body, func(r *http.Request) { r.Header.Set("Traceparent", traceparent) }); status != 200 {
			t.Fatalf("answered %d", status)
		}
	}
	post("00-" + firstTrace + "-" + firstParent + "-00")
	post("00-" + secondTrace + "-" + secondParent + "-01")
	natstest.Until(t, func() bool { return len(b.collector.Spans()) >= 4 })
	for _, s := range b.collector.Spans() {
		if s.Trace != secondTrace {
			t.Errorf("span %+v", s)
		}
	}
	if got := b.stored(2); !strings.HasPrefix(got[0], "00-"+firstTrace+"-") || !strings.HasSuffix(got[0], "-00") {
		t.Errorf("the message that is not sampled carries %s", got[0])
	}
}

// TestTraces_off checks that no provider is made without the variables.
func TestTraces_off(t *testing.T) {
	b := idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID))
	if b.traces != nil {
		t.Error("traces are made")
	}
}
