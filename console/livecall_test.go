package console

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// step is an event of a call.
func step(t *testing.T, sequence uint64, kind, call string) *replay.Step {
	t.Helper()
	m := &replay.StoredMessage{Sequence: sequence, Time: time.Now(), Subject: schemas.WithSlot("acs.contoso." + kind + "." + call)}
	m.Data = fmt.Appendf(nil, `{"id":"%d","source":"s","type":"Microsoft.Communication.%s","specversion":"1.0","data":{"callConnectionId":%q}}`, sequence, kind, call)
	s, err := m.Step()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHub_notKept has a call that cannot be looked up, or while which too much is stored, or
// that a replica answers that is behind: its page asks again, ever more seldom when that lasts,
// and nothing of what passed is kept.
func TestHub_notKept(t *testing.T) {
	connected, later, other := step(t, 1, "CallConnected", "c-1"), step(t, 2, "PlayStarted", "c-1"), step(t, 3, "PlayStarted", "c-2")
	found := func() *replay.Story { return (&replay.Story{}).With([]*replay.Step{connected}, time.Now()) }
	for name, test := range map[string]struct {
		search func(*hub) (*replay.Story, error)
		lasts  bool
	}{
		"error": {func(*hub) (*replay.Story, error) { return nil, errors.New("no answer") }, true},
		"too much": {func(h *hub) (*replay.Story, error) {
			for range maxPassed + 1 {
				h.publish(other)
			}
			return found(), nil
		}, true},
		"behind": {func(*hub) (*replay.Story, error) { return found(), nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(nil)
				index := replay.NewIndex(1, time.Time{})
				index.Add(connected)
				if name == "behind" {
					index.Add(later)
				}
				h.begin(index)
				page := &subscriber{call: "c-1", changed: make(chan struct{}, 1)}
				defer h.subscribe(page)()
				searches := 0
				for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
					select {
					case <-page.changed:
						_, _ = h.story(context.Background(), "c-1", time.Now(), func() (*replay.Story, error) {
							searches++
							return test.search(&h)
						})
					case <-time.After(time.Second):
						h.publish(other)
					}
					if call := h.calls["c-1"]; len(call.passed) > 0 {
						t.Fatal("what passed is kept")
					}
				}
				if test.lasts && (searches < 10 || searches > 20) || !test.lasts && searches != 2 {
					t.Errorf("%d searches in ten minutes", searches)
				}
			})
		})
	}
}

// TestHub_prune forgets calls that no page shows.
func TestHub_prune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(nil)
		h.begin(replay.NewIndex(1, time.Time{}))
		for n := range 1000 {
			h.subscribe(&subscriber{call: fmt.Sprint(n), changed: make(chan struct{}, 1)})()
		}
		_, _ = h.story(t.Context(), "c-1", time.Now(), func() (*replay.Story, error) { return &replay.Story{}, nil })
		if len(h.calls) != 1 {
			t.Errorf("%d calls are kept, want that of the page that was just asked for", len(h.calls))
		}
		time.Sleep(openWithin + time.Second)
		h.publish(step(t, 1, "CallConnected", "c-2"))
		if len(h.calls) != 0 {
			t.Errorf("%d calls are kept that no page shows", len(h.calls))
		}
	})
}
