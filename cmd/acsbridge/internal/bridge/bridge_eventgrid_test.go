package bridge

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// gridBridge runs a bridge that takes Event Grid with tokens of a key server of its
// own.
func gridBridge(t *testing.T, more ...string) (b *Bridge, acs, entra *acstest.Issuer) {
	t.Helper()
	acs, entra = newIssuer(t), newIssuer(t)
	entra.SetFault(acstest.FaultError)
	b = runBridge(t, onLoopback(t, append(more, "--resource=contoso="+testGUID, "--issuer="+acs.Name(), "--oidc-config-url="+acs.MetadataURL(),
		"--eventgrid-issuer="+entra.Name(), "--eventgrid-oidc-config-url="+entra.MetadataURL(), "--eventgrid-path=/in/grid")...), slog.New(slog.DiscardHandler))
	return b, acs, entra
}

// TestBridge_eventGrid has the key server of Entra ID unreachable at first: that
// makes no bridge unready, and answers deliveries 503.
func TestBridge_eventGrid(t *testing.T) {
	b, _, entra := gridBridge(t, gridArgs()...)
	const call = `{"id":"1","source":"` + acstest.DemoTopic + `","type":"Microsoft.Communication.IncomingCall","specversion":"1.0","data":{"correlationId":"k-1"}}`
	token, err := entra.Sign(acstest.TokenSpec{Audience: acstest.DemoApplication, Lifetime: 24 * time.Hour, Claims: map[string]any{"appid": verify.EventGridApplication}})
	if err != nil {
		t.Fatal(err)
	}
	post := func() int { return bridgetest.Post(t, b.EventGridURL(), token, call) }
	natstest.Until(t, func() bool {
		text := ready(t, b)
		return strings.HasPrefix(text, "200\n") && strings.Contains(text, "eventgrid note     no keys: ")
	})
	if got := post(); got != 503 {
		t.Errorf("without keys: %d, want 503", got)
	}
	entra.SetFault(acstest.FaultNone)
	natstest.Until(t, func() bool { return post() == 200 })
	if text := ready(t, b); !strings.HasPrefix(text, "200\n") || strings.Contains(text, "eventgrid") {
		t.Errorf("with keys: %s", text)
	}
	want := `
# HELP acsbridge_jwks_keys Keys that tokens are checked with.
# TYPE acsbridge_jwks_keys gauge
acsbridge_jwks_keys{profile="callbacks"} 1
acsbridge_jwks_keys{profile="eventgrid"} 1
`
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "acsbridge_jwks_keys"); err != nil {
		t.Error(err)
	}
}

// TestBridge_eventGridSchemas has the simulated Event Grid subscribe and deliver in
// each schema, and reads the stream as a consumer does.
func TestBridge_eventGridSchemas(t *testing.T) {
	b, _, entra := gridBridge(t, "--eventgrid-tenant="+acstest.DemoTenant, "--eventgrid-audience="+acstest.DemoApplication,
		"--eventgrid-source=contoso="+acstest.DemoTopic)
	entra.SetFault(acstest.FaultNone)
	natstest.Until(t, func() bool { return b.gridVerifier.Keys().Held > 0 && b.publisher.Status().Sending })
	js := natstest.JetStream(t, b.nats.ClientURL())
	consumer, err := js.OrderedConsumer(t.Context(), schemas.Stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for schema, contentType := range map[acstest.EventGridSchema]string{
		acstest.EventGridCloudEvents: schemas.ContentTypeEvent, acstest.EventGridOwnSchema: schemas.ContentTypeGridEvent,
	} {
		caller, err := acstest.NewCaller(acstest.CallerOptions{
			Target: b.CallbackURL(), Signer: entra, EventGrid: &acstest.EventGridOptions{Target: b.EventGridURL(), Schema: schema},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(caller.Close)
		if err := caller.Subscribe(t.Context()); err != nil {
			t.Fatal(schema, err)
		}
		call := acstest.NewCall()
		var events []acstest.WireEvent
		for _, name := range acstest.GridTypes() {
			e, err := call.NewEvent(name)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if a := caller.Send(t.Context(), call.Callback(events...)); a.Status != http.StatusOK {
			t.Fatalf("%s: %+v", schema, a)
		}
		for _, sent := range events {
			m, err := consumer.Next()
			if err != nil {
				t.Fatal(err)
			}
			got, err := schemas.Parse(m.Headers(), m.Data())
			if err != nil {
				t.Fatal(schema, err)
			}
			if _, unknown := got.Event.Data.(*schemas.Unknown); unknown || got.Event.Data == nil || got.Delivery.Resource != "contoso" ||
				got.Claims.Audience != acstest.DemoApplication || m.Headers().Get(schemas.HeaderMsgID) != sent.MsgID() || m.Headers().Get(schemas.HeaderContentType) != contentType {
				t.Errorf("%s: %s is read as %T, %+v", schema, sent.Type, got.Event.Data, m.Headers())
			}
		}
	}
}
