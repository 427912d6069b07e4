//go:build !race

package publish_test

import (
	"testing"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// An event may not cost more garbage on its way into the journal than it does:
// docs/benchmarks.md.
func TestPublisher_allocations(t *testing.T) {
	const budget = 38
	link, err := natsconn.Connect(natsconn.Config{URL: "nats://127.0.0.1:1"}, nil) // not there: nothing is forwarded meanwhile
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	p, err := publish.Open(publish.Options{Link: link, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, d, events := claims(t), delivery(), []schemas.Inbound{event("a", 1)}
	got := testing.AllocsPerRun(200, func() {
		if err := p.Publish(t.Context(), c, d, events); err != nil {
			t.Fatal(err)
		}
	})
	if got > budget {
		t.Errorf("an event takes %g allocations, the budget is %d", got, budget)
	}
}
