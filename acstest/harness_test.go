package acstest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const target = "http://bridge.example/callbacks"

// oneStep is the smallest flow.
const oneStep = "  - {event: CallConnected}\n"

// post is one callback as the bridge receives it.
type post struct {
	header http.Header
	path   string
	query  string
	body   []byte
	at     time.Time
}

// bridge is a receiver of callbacks without a socket, for synctest bubbles. It is safe
// for concurrent use.
type bridge struct {
	answer func(post) *http.Response // nil answers 200; a nil response is silence

	mu    sync.Mutex
	posts []post
}

func (b *bridge) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p := post{header: r.Header, path: r.URL.Path, query: r.URL.RawQuery, body: body, at: time.Now()}
	b.mu.Lock()
	b.posts = append(b.posts, p)
	b.mu.Unlock()
	response := status(http.StatusOK)
	if b.answer != nil {
		response = b.answer(p)
	}
	if response == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return response, nil
}

func status(code int) *http.Response {
	w := httptest.NewRecorder()
	w.WriteHeader(code)
	return w.Result()
}

// failing is a bridge that answers with these statuses in turn, then with 200; 0 is
// silence.
func failing(header http.Header, statuses ...int) *bridge {
	var mu sync.Mutex
	return &bridge{answer: func(post) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		if len(statuses) == 0 {
			return status(http.StatusOK)
		}
		code := statuses[0]
		statuses = statuses[1:]
		if code == 0 {
			return nil
		}
		response := status(code)
		response.Header = header
		return response
	}}
}

// newCaller returns a caller for a bridge, which the test closes.
func newCaller(t *testing.T, b http.RoundTripper, changes ...func(*acstest.CallerOptions)) *acstest.Caller {
	t.Helper()
	options := acstest.CallerOptions{Target: target, Signer: newIssuer(t), Transport: b}
	for _, change := range changes {
		change(&options)
	}
	caller, err := acstest.NewCaller(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caller.Close)
	return caller
}

// play runs a load against a bridge and returns the report.
func play(t *testing.T, ctx context.Context, b http.RoundTripper, load acstest.Load, changes ...func(*acstest.CallerOptions)) acstest.Report {
	t.Helper()
	caller := newCaller(t, b, changes...)
	if err := caller.Run(ctx, load); err != nil {
		t.Fatal(err)
	}
	caller.Close()
	return caller.Report()
}

// oneCall is the load of one call with these steps.
func oneCall(t *testing.T, steps string) acstest.Load {
	t.Helper()
	return acstest.Load{Flows: []*acstest.Flow{parseFlow(t, steps)}, Calls: 1}
}

func parseFlow(t *testing.T, steps string) *acstest.Flow {
	t.Helper()
	flow, err := acstest.ParseFlow("test", []byte("about: a test\nsteps:\n"+steps))
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

// newEvents makes one event of each type.
func newEvents(t *testing.T, call *acstest.SimCall, types ...string) (events []acstest.WireEvent) {
	t.Helper()
	for _, name := range types {
		e, err := call.NewEvent(name)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// event is what the tests read of one.
type event struct {
	ID, Source, Type, Time, SpecVersion, DataContentType, Subject string

	Data struct {
		CallConnectionID string `json:"callConnectionId"`
		ServerCallID     string `json:"serverCallId"`
		CorrelationID    string `json:"correlationId"`
		PublicEventType  string `json:"publicEventType"`
		StartDateTime    string `json:"startDateTime"`
	}
}

func decode(t *testing.T, body []byte) (events []event) {
	t.Helper()
	if bytes.HasPrefix(body, []byte("{")) { // Event Grid sends one event without a list
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	if err := json.Unmarshal(body, &events); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return events
}

// arrivals returns the short types of the events of each post and when it came after start.
func arrivals(t *testing.T, posts []post, start time.Time) (all []string) {
	t.Helper()
	for _, p := range posts {
		var names []string
		for _, e := range decode(t, p.body) {
			names = append(names, schemas.ShortType(e.Type))
		}
		all = append(all, strings.Join(names, "+")+" "+p.at.Sub(start).String())
	}
	return all
}

// keys returns the member names of a JSON object in their order.
func keys(t *testing.T, object json.RawMessage) (names []string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(object)))
	_, err := dec.Token()
	for err == nil && dec.More() {
		var name json.Token
		if name, err = dec.Token(); err == nil {
			names = append(names, name.(string))
			err = dec.Decode(new(json.RawMessage))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// sharedKey is made once: a key takes a tenth of a second.
var sharedKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newIssuer(t *testing.T) *acstest.Issuer {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Key: sharedKey()})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}
