package acstest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const gridTarget = "http://bridge.example/eventgrid"

// withGrid makes a caller simulate Event Grid in a schema.
func withGrid(schema acstest.EventGridSchema) func(*acstest.CallerOptions) {
	return func(o *acstest.CallerOptions) {
		o.EventGrid = &acstest.EventGridOptions{Target: gridTarget + "?acsbridge-key=x", Schema: schema}
	}
}

func TestEventGrid_delivery(t *testing.T) {
	cloudEvents, own := []string{"id", "source", "subject", "data", "type", "specversion", "time"},
		[]string{"id", "topic", "subject", "data", "eventType", "dataVersion", "metadataVersion", "eventTime"}
	for name, test := range map[string]struct {
		schema      acstest.EventGridSchema
		types       []string
		contentType string
		array       bool
		members     []string
	}{
		"single":              {"", []string{"IncomingCall"}, "application/cloudevents+json; charset=utf-8", false, cloudEvents},
		"batch":               {acstest.EventGridCloudEvents, []string{"IncomingCall", "CallStarted"}, "application/cloudevents-batch+json; charset=utf-8", true, cloudEvents},
		"own schema":          {acstest.EventGridOwnSchema, []string{"CallEnded"}, "application/json; charset=utf-8", true, own},
		"own schema, batched": {acstest.EventGridOwnSchema, []string{"CallEnded", "IncomingCall"}, "application/json; charset=utf-8", true, own},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bridge{}
			call := acstest.NewCall()
			events := newEvents(t, call, test.types...)
			if a := newCaller(t, b, withGrid(test.schema)).Send(t.Context(), call.Callback(events...)); a.Status != 200 || a.Kind != "good" || a.Type != test.types[0] {
				t.Fatalf("got %+v", a)
			}
			p := b.posts[0]
			if p.path != "/eventgrid" || p.query != "acsbridge-key=x" || p.header.Get("Content-Type") != test.contentType {
				t.Errorf("path %s, query %s, content type %s", p.path, p.query, p.header.Get("Content-Type"))
			}
			if got := []string{p.header.Get("Aeg-Event-Type"), p.header.Get("Aeg-Callback-Count"), p.header.Get("Aeg-Subscription-Name")}; !slices.Equal(got, []string{"Notification", "0", "ACSTEST"}) {
				t.Errorf("headers %q", got)
			}
			body := p.body
			if !test.array {
				body = slices.Concat([]byte("["), body, []byte("]"))
			}
			var list []json.RawMessage
			if err := json.Unmarshal(body, &list); err != nil || len(list) != len(events) {
				t.Fatalf("%d events, %v", len(list), err)
			}
			for i, e := range list {
				if diff := cmp.Diff(test.members, keys(t, e)); diff != "" {
					t.Error(diff)
				}
				if !strings.Contains(string(e), events[i].ID) || !strings.Contains(string(e), acstest.DemoTopic) {
					t.Errorf("event %d has another id or source", i)
				}
			}
			token, err := parse(t, newIssuer(t), strings.TrimPrefix(p.header.Get("Authorization"), "Bearer "), acstest.DemoApplication)
			if err != nil {
				t.Fatal(err)
			}
			claims := token.Claims.(jwt.MapClaims)
			life := time.Duration(claims["exp"].(float64)-claims["iat"].(float64)) * time.Second
			if claims["appid"] != "4962773b-9cdb-44cf-a8bf-237846a00ab7" || claims["tid"] != acstest.DemoTenant || life != 24*time.Hour {
				t.Errorf("claims %v", claims)
			}
		})
	}
}

// TestEventGrid_ids: ids, caller and time are those of the call and not of the contract's
// example, and the context is as large as a real one.
func TestEventGrid_ids(t *testing.T) {
	for _, name := range acstest.GridTypes() {
		one, two := acstest.NewCall(), acstest.NewCall()
		a, b := newEvents(t, one, name)[0], newEvents(t, two, name)[0]
		read := func(e acstest.WireEvent) *schemas.Event {
			t.Helper()
			document, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			m, err := schemas.Parse(nil, document)
			if err != nil {
				t.Fatal(err)
			}
			return &m.Event
		}
		first, second, callback := read(a).IDs(), read(b).IDs(), read(newEvents(t, one, "CallConnected")[0]).IDs()
		if first.ServerCallID != callback.ServerCallID || first.CorrelationID != callback.CorrelationID || first.CorrelationID == second.CorrelationID || a.ID == b.ID {
			t.Errorf("%s: ids %+v of a call with %+v", name, first, callback)
		}
		if at, err := time.Parse(time.RFC3339Nano, a.Time); err != nil || time.Since(at).Abs() > time.Minute || !strings.HasSuffix(a.Time, "Z") {
			t.Errorf("%s: time %q", name, a.Time)
		}
		switch data := read(a).Data.(type) {
		case *schemas.IncomingCall:
			n, other := len(data.IncomingCallContext), read(b).Data.(*schemas.IncomingCall)
			if n < 7<<10 || n > 12<<10 || data.IncomingCallContext == other.IncomingCallContext {
				t.Errorf("a context of %d bytes", n)
			}
		case *schemas.RecordingFileStatusUpdated:
			recording := read(newEvents(t, one, "RecordingStateChanged")[0]).Data.(*schemas.RecordingStateChanged)
			if data.RecordingID != recording.RecordingID || !strings.HasSuffix(a.Subject, "/recordingId/"+data.RecordingID) {
				t.Errorf("recording %s of subject %s, want %s", data.RecordingID, a.Subject, recording.RecordingID)
			}
		}
	}
}

// TestEventGrid_retries: four answers are final, and each attempt has its number.
func TestEventGrid_retries(t *testing.T) {
	for code, want := range map[int]int{400: 1, 401: 1, 403: 1, 413: 1, 404: 2, 415: 2, 429: 2, 500: 2, 503: 2, 307: 2} {
		synctest.Test(t, func(t *testing.T) {
			b := failing(nil, code)
			call := acstest.NewCall()
			final := newCaller(t, b, withGrid("")).Send(t.Context(), call.Callback(newEvents(t, call, "IncomingCall")...))
			if len(b.posts) != want || final.Expected != (want == 2) {
				t.Errorf("%d: sent %d times, want %d; final %+v", code, len(b.posts), want, final)
			}
			if want == 2 && (b.posts[1].header.Get("Aeg-Callback-Count") != "1" || string(b.posts[0].body) != string(b.posts[1].body)) {
				t.Errorf("%d: the second attempt is another", code)
			}
			if want == 2 && b.posts[0].header.Get("Authorization") != b.posts[1].header.Get("Authorization") {
				t.Errorf("%d: Event Grid uses a token for many deliveries", code)
			}
		})
	}
}

func TestEventGrid_renewsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bridge{}
		caller, call := newCaller(t, b, withGrid("")), acstest.NewCall()
		for range 3 {
			caller.Send(t.Context(), call.Callback(newEvents(t, call, "IncomingCall")...))
			time.Sleep(7 * time.Hour)
		}
		var tokens []string
		for _, p := range b.posts {
			tokens = append(tokens, p.header.Get("Authorization"))
		}
		if tokens[0] != tokens[1] || tokens[1] == tokens[2] {
			t.Error("one token for fourteen hours, or another for seven")
		}
	})
}

func TestEventGrid_badTokens(t *testing.T) {
	for _, bearer := range []acstest.Bearer{acstest.BearerExpired, acstest.BearerWrongAudience} {
		b, call := failing(nil, 401), acstest.NewCall()
		d := call.Callback(newEvents(t, call, "IncomingCall")...)
		d.Bearer = bearer
		a := newCaller(t, b, withGrid("")).Send(t.Context(), d)
		token := strings.TrimPrefix(b.posts[0].header.Get("Authorization"), "Bearer ")
		if _, err := parse(t, newIssuer(t), token, acstest.DemoApplication); err == nil || !a.Expected {
			t.Errorf("%s: the token is good, or %+v is wrong", bearer, a)
		}
	}
}

// echo answers a handshake in Event Grid's own schema.
func echo(code func(string) string) func(post) *http.Response {
	return func(p post) *http.Response {
		var events []struct {
			Data struct{ ValidationCode string }
		}
		if json.Unmarshal(p.body, &events) != nil || len(events) != 1 || p.header.Get("Aeg-Event-Type") != "SubscriptionValidation" {
			return status(http.StatusBadRequest)
		}
		r := status(http.StatusOK)
		r.Body = io.NopCloser(strings.NewReader(`{"validationResponse":"` + code(events[0].Data.ValidationCode) + `"}`))
		return r
	}
}

func TestSubscribe(t *testing.T) {
	allow := func(origin string, code int) func(post) *http.Response {
		return func(p post) *http.Response {
			r := status(code)
			if p.header.Get("WebHook-Request-Origin") == "eventgrid.azure.net" {
				r.Header.Set("WebHook-Allowed-Origin", origin)
			}
			return r
		}
	}
	for name, test := range map[string]struct {
		schema acstest.EventGridSchema
		answer func(post) *http.Response
		want   string
	}{
		"allowed":                  {acstest.EventGridCloudEvents, allow("eventgrid.azure.net", 200), ""},
		"all allowed":              {acstest.EventGridCloudEvents, allow("*", 200), ""},
		"another allowed":          {acstest.EventGridCloudEvents, allow("example.net", 200), "is \"example.net\", not eventgrid.azure.net"},
		"none allowed":             {acstest.EventGridCloudEvents, nil, "is \"\", not"},
		"refused":                  {acstest.EventGridCloudEvents, allow("*", 401), "was answered 401, want 200"},
		"code":                     {acstest.EventGridOwnSchema, echo(func(c string) string { return c }), ""},
		"another code":             {acstest.EventGridOwnSchema, echo(strings.ToUpper), "does not hold the code"},
		"no code":                  {acstest.EventGridOwnSchema, nil, "does not hold the code"},
		"code with another status": {acstest.EventGridOwnSchema, func(post) *http.Response { return status(202) }, "was answered 202, want 200"},
	} {
		b := &bridge{answer: test.answer}
		err := newCaller(t, b, withGrid(test.schema)).Subscribe(t.Context())
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if len(b.posts) != 1 || !strings.HasPrefix(b.posts[0].header.Get("Authorization"), "Bearer ey") || b.posts[0].query != "acsbridge-key=x" {
			t.Errorf("%s: %d requests, or one without token and key", name, len(b.posts))
		}
	}
}
