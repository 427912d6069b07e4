package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestSettings_wrong runs the bridge on its data directory with a wrong setting for a
// while, under load, as a mistake in a deployment does. No event that was
// answered 200 meanwhile is missing once the setting is right again.
func TestSettings_wrong(t *testing.T) {
	for name, wrong := range map[string][]string{
		"stream with the subjects of another":  {"--stream=CALLS"},
		"prefix that the stream does not take": {"--subject-prefix=calls"},
		"no such domain":                       {"--nats-domain=elsewhere"},
		"more room than there is":              {"--stream=CALLS", "--subject-prefix=calls", "--stream-max-bytes=1000TiB"},
	} {
		t.Run(name, func(t *testing.T) {
			scenario{parallel: true, rounds: byForm(1, 5), fault: func(w *world, round int) {
				stop := func() {
					if round%2 == 0 {
						w.bridge.terminate(stopsWithin)
					} else {
						w.bridge.kill()
					}
				}
				stop()
				w.bridge.start(wrong...)
				w.answers(byForm[int64](500, 5000), recoversWithin)
				if text, _ := w.bridge.ask("/readyz"); !notes(text) {
					w.Errorf("with %v /readyz has no note:\n%s", wrong, text)
				}
				stop()
				w.bridge.start()
				w.forwards(aroundWithin)
			}}.run(t)
		})
	}
}

// TestSettings_streamOfAnotherDomain has a hub and a leaf node, each with a stream of the same
// name and subjects. The bridge is at the hub and wants that of the leaf, which is
// killed: what the hub's stream acknowledges does not count.
func TestSettings_streamOfAnotherDomain(t *testing.T) {
	var hub *node
	scenario{
		parallel: true, rounds: byForm(1, 5), args: []string{"--nats-domain=leaf"},
		prepare: func(w *world) { hub = w.behindAHub() },
		fault: func(w *world, _ int) {
			leaf := w.nats.nodes[0]
			before := hub.stored(w)
			leaf.stop(os.Kill)
			leaf.clients.SetTarget(hub.address)
			w.answers(byForm[int64](500, 5000), recoversWithin)
			until(w, recoversWithin, "the stream of the hub takes events", func() bool { return hub.stored(w) > before })
			until(w, recoversWithin, "/readyz has a note", func() bool {
				text, _ := w.bridge.ask("/readyz")
				return notes(text)
			})
			leaf.start()
			leaf.clients.SetTarget(hub.address)
			leaf.clients.Reset()
			w.forwards(aroundWithin)
		},
	}.run(t)
}

// behindAHub makes the node a leaf of a hub, which it returns, and connects the bridge
// to the hub. Both have a stream of the events.
func (w *world) behindAHub() *node {
	w.Helper()
	hub := &node{t: w, name: "hub", dir: w.TempDir(), clients: natstest.NewProxy(w, "")}
	hub.config = filepath.Join(hub.dir, "nats.conf")
	text := fmt.Sprintf(`server_name: hub
listen: "127.0.0.1:-1"
ports_file_dir: %q
jetstream { store_dir: %q, domain: hub }
leafnodes { listen: "127.0.0.1:-1" }
`, hub.dir, filepath.Join(hub.dir, "store"))
	if err := os.WriteFile(hub.config, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	hub.start()
	line, err := hub.process.awaitLine("Listening for leafnode connections on ", natsStarts)
	if err != nil {
		w.Fatal(err)
	}
	_, leafnodes, _ := strings.Cut(strings.TrimSpace(line), "connections on ")
	leaf := w.nats.nodes[0]
	leaf.stop(terminate)
	leaf.edit(func(text string) string {
		return text + fmt.Sprintf("leafnodes { reconnect: 1, remotes: [{ url: %q }] }\n", "nats-leaf://"+leafnodes)
	})
	leaf.edit(func(text string) string {
		return strings.Replace(text, "jetstream { ", "jetstream { domain: leaf, ", 1)
	})
	leaf.start()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{schemas.SubjectPrefix + ".>"}, AllowDirect: true}
	ctx, cancel := context.WithTimeout(w.Context(), natsStarts)
	defer cancel()
	for _, n := range []*node{hub, leaf} {
		if _, err := (&cluster{t: w, nodes: []*node{n}}).connect().CreateStream(ctx, config); err != nil {
			w.Fatal(err)
		}
	}
	leaf.clients.SetTarget(hub.address)
	return hub
}

// notes reports whether /readyz has a note.
func notes(readyz string) bool { return strings.Contains(readyz, " note ") }

// stored is how many messages the node's own stream of events has.
func (n *node) stored(w *world) uint64 {
	w.Helper()
	info, err := streamInfo((&cluster{t: w, nodes: []*node{n}}).connect())
	if err != nil {
		w.Fatal(err)
	}
	return info.State.Msgs
}
