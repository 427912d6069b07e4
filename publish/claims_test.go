package publish_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// The audiences of the resources contoso and fabrikam.
const (
	audience      = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
	otherAudience = "16fd2706-8baf-433b-82eb-8c7fada847da"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// What a nats-server leaves behind when it is stopped.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"))
}

// verified returns claims that have everything.
var verified = sync.OnceValues(func() (*verify.Claims, error) {
	return verifiedFrom(map[string]any{"note": "grüße", "sub": "acs", "jti": "j-1"})
})

// verifiedFrom returns claims as only a real verifier makes them.
func verifiedFrom(values map[string]any) (*verify.Claims, error) {
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err != nil {
		return nil, err
	}
	v, err := verify.New(verify.Config{
		Issuer: issuer.Name(), MetadataURL: issuer.MetadataURL(), Transport: issuer.Transport(),
		Resources: []verify.Resource{{Name: "contoso", Audience: audience}, {Name: "fabrikam", Audience: otherAudience}},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	token, err := issuer.Sign(acstest.TokenSpec{Audience: audience, Claims: values}) // values may name another aud
	if err != nil {
		return nil, err
	}
	for {
		claims, err := v.Verify(ctx, token)
		if err == nil || ctx.Err() != nil {
			return claims, err
		}
	}
}

func claims(t testing.TB) *verify.Claims {
	t.Helper()
	c, err := verified()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// event returns the n-th event of a call.
func event(call string, n int) schemas.Inbound {
	id := fmt.Sprintf("%s-%d", call, n)
	return schemas.Inbound{
		ID: id, Source: "calling/callConnections/" + call, Type: "Microsoft.Communication.PlayCompleted",
		CallConnectionID: call,
		Raw:              fmt.Appendf(nil, `{"id":%q,"n":%d}`, id, n),
	}
}

func delivery() *publish.Delivery {
	return &publish.Delivery{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now()}
}

// bridge is a publisher that runs.
type bridge struct {
	*publish.Publisher
	t    testing.TB
	stop func() // ends it without draining; safe to call twice
}

// start opens a publisher on dir and runs it until the test ends.
func start(t testing.TB, url string, opts publish.Options) *bridge {
	t.Helper()
	return startAs(t, natsconn.Config{URL: url}, opts)
}

// startAs is start with a login.
func startAs(t testing.TB, config natsconn.Config, opts publish.Options) *bridge {
	t.Helper()
	link, err := natsconn.Connect(config, opts.Logger)
	if err != nil {
		t.Fatal(err)
	}
	opts.Link, opts.InsecureLimits = link, true
	p, err := publish.Open(opts)
	if err != nil {
		link.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	b := &bridge{Publisher: p, t: t}
	b.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		link.Close()
	})
	t.Cleanup(b.stop)
	return b
}

// store makes the events of one callback durable.
func (b *bridge) store(events ...schemas.Inbound) {
	b.t.Helper()
	if err := b.Publish(context.Background(), claims(b.t), delivery(), events); err != nil {
		b.t.Fatal(err)
	}
}

// publish makes events from..to of a call durable, one callback each.
func (b *bridge) publish(call string, from, to int) {
	b.t.Helper()
	for n := from; n <= to; n++ {
		b.store(event(call, n))
	}
}

// ten are the calls of publishTen. Of one call only one event is in flight.
const ten = "bcdefghijk"

// publishTen makes the n-th event of ten calls durable, in one callback: ten would
// each wait for answers that may be lost, and all must be sent before the first
// counts as unanswered.
func (b *bridge) publishTen(n int) {
	b.t.Helper()
	var events []schemas.Inbound
	for _, call := range ten {
		events = append(events, event(string(call), n))
	}
	b.store(events...)
}

// tenCalls adds n events of each of the ten calls.
func tenCalls(n int, calls map[string]int) map[string]int {
	for _, call := range ten {
		calls[string(call)] = n
	}
	return calls
}

// drained waits until the stream has everything.
func (b *bridge) drained() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		left := b.Drain(ctx)
		if left == 0 {
			return
		}
		if ctx.Err() != nil {
			b.t.Fatalf("%d records left: %v", left, b.Status().Notes)
		}
		time.Sleep(time.Millisecond) // it does not wait for a quarantine that is not taken
	}
}

// checkStream holds the stream against events from..to of each call: each
// exactly once, and in order.
func checkStream(t testing.TB, server *natstest.Server, calls map[string]int) {
	t.Helper()
	next := make(map[string]int)
	total := 0
	for _, n := range calls {
		total += n
	}
	messages := server.Await(schemas.Stream, total)
	for _, m := range messages {
		var call string
		var n int
		id := m.Header.Get(schemas.HeaderEventID)
		if _, err := fmt.Sscanf(id, "%1s-%d", &call, &n); err != nil {
			t.Fatal(id, err)
		}
		next[call]++
		if n != next[call] {
			t.Errorf("sequence %d: got event %s when %s-%d was due", m.Sequence, id, call, next[call])
		}
	}
	if len(messages) != total {
		t.Errorf("stream has %d messages, want %d", len(messages), total)
	}
}
