package consume_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// In a rolling update that adds a type the new version gets each event of it that comes
// once the consumers have the type, also those that the former version has received. After
// a roll-back the consumers still have it, and the former version works.
func TestRun_typeIsAdded(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	version := func(name string, types ...string) consume.Service[tally] {
		return consume.Service[tally]{
			Name: "ivr", Lease: 4 * time.Second, Types: types,
			Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
				h.add(name + " " + schemas.ShortType(m.Event.Type) + " " + m.Event.ID)
				return nil
			},
		}
	}
	former := version("v1", "PlayCompleted")
	start(t, server.URL(), former)
	start(t, server.URL(), former)
	ready(t, js, "ivr")
	update := start(t, server.URL(), version("v2", "PlayCompleted", "PlayFailed"))
	filters := func(slot string) []string {
		c, err := js.Consumer(t.Context(), schemas.Stream, consume.ConsumerName("ivr", slot))
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo().Config.FilterSubjects
	}
	natstest.Until(t, func() bool { return slices.Contains(filters("f"), "acs.*.PlayFailed.f.*") })
	var want []string
	for i := range 32 {
		store(t, js, newEvent("PlayFailed", fmt.Sprint("call-", i), fmt.Sprint(i), nil))
		want = append(want, fmt.Sprint("v2 PlayFailed ", i))
	}
	natstest.Until(t, func() bool { return len(h.all()) >= len(want) })
	got := h.all()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	update.stop(t)
	start(t, server.URL(), former)
	for i := range 32 {
		store(t, js, newEvent("PlayFailed", fmt.Sprint("late-", i), "failed", nil))
		store(t, js, newEvent("PlayCompleted", fmt.Sprint("late-", i), fmt.Sprint(i), nil))
	}
	natstest.Until(t, func() bool { return len(h.all()) >= 2*len(want) })
	for _, line := range h.all()[len(want):] {
		if line[:16] != "v1 PlayCompleted" {
			t.Errorf("after the roll-back: %s", line)
		}
	}
	if !slices.Contains(filters("f"), "acs.*.PlayFailed.f.*") {
		t.Error("the former version has taken the type away from a consumer")
	}
}
