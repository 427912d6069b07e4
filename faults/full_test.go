package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// smallJournal is full after some seconds. A smaller one would be full before it can be
// truncated.
func smallJournal() string { return byForm("--journal-max-bytes=4MiB", "--journal-max-bytes=8MiB") }

// TestStream_full has a stream that discards nothing. Answers are 200 until the journal
// is full as well, then 503, until the stream has room.
func TestStream_full(t *testing.T) {
	limits := []struct {
		name  string
		lower func(c *jetstream.StreamConfig, s jetstream.StreamState) // a little above what it holds
	}{
		{"of messages", func(c *jetstream.StreamConfig, s jetstream.StreamState) { c.MaxMsgs = int64(s.Msgs) + 500 }},
		{"of bytes", func(c *jetstream.StreamConfig, s jetstream.StreamState) { c.MaxBytes = int64(s.Bytes) + 1<<20 }},
	}
	for _, limit := range byForm(limits[:1], limits) {
		t.Run(limit.name, func(t *testing.T) {
			scenario{
				args: []string{smallJournal()}, rounds: byForm(1, 3),
				prepare: func(w *world) { w.createStream(jetstream.StreamConfig{Discard: jetstream.DiscardNew}) },
				fault: func(w *world, _ int) {
					w.hasRoom()
					w.updateStream(limit.lower)
					w.fillsUp()
					w.updateStream(func(c *jetstream.StreamConfig, _ jetstream.StreamState) { c.MaxMsgs, c.MaxBytes = -1, -1 })
				},
			}.run(t)
		})
	}
}

// TestStream_accountFull does the same with the limit of the account.
func TestStream_accountFull(t *testing.T) {
	if *form != "long" {
		t.Skip("like TestStream_full for the bridge: run with -form=long")
	}
	const narrow, wide = "max_file: 3MB", "max_file: 2GB"
	scenario{
		args:    append([]string{smallJournal()}, bridgeLogin(t)...),
		prepare: func(w *world) { w.accounts(narrow, everything) },
		fault: func(w *world, _ int) {
			w.fillsUp()
			node := w.nats.nodes[0]
			node.edit(func(text string) string { return strings.Replace(text, narrow, wide, 1) })
			node.reload()
		},
	}.run(t)
}

// TestJournal_full stops NATS until the journal is full.
func TestJournal_full(t *testing.T) {
	scenario{args: []string{smallJournal()}, rounds: byForm(1, 3), fault: func(w *world, round int) {
		w.hasRoom()
		node := w.nats.nodes[0]
		node.clients.SetTarget("")
		node.clients.Reset()
		w.fillsUp()
		if round%2 == 1 { // a restart changes nothing
			w.bridge.kill()
			w.bridge.launch("")
			if err := w.bridge.listening(listensWithin); err != nil {
				w.Fatal(err)
			}
			w.rejects("it is full, and the stream takes nothing")
		}
		w.pause(byForm(time.Second, 10*time.Second))
		node.clients.SetTarget(node.address)
	}}.run(t)
}

// hasRoom waits until the journal is truncated.
func (w *world) hasRoom() {
	w.Helper()
	until(w, time.Minute, "the journal has room", func() bool {
		bytes, ok := w.bridge.metrics()["acsbridge_journal_bytes"]
		return ok && bytes < 2<<20
	})
}

// fillsUp waits until the journal is full, and checks the answers until then and
// afterwards.
func (w *world) fillsUp() {
	w.Helper()
	before := w.unavailable()
	until(w, time.Minute, "records wait in the journal", func() bool {
		m := w.bridge.metrics()
		return m["acsbridge_forwarder_lag_records"] > 500
	})
	if now := w.unavailable(); now > before {
		w.Errorf("%v callbacks were answered 503 while the journal had room", now-before)
	}
	w.rejects("it is full, and the stream takes nothing")
	w.pause(time.Second)
	if _, status := w.bridge.ask("/livez"); status != http.StatusOK {
		w.Errorf("a bridge whose journal is full answers /livez with %d", status)
	}
}

// rejects waits until callbacks get 503 and /readyz has the cause.
func (w *world) rejects(why string) {
	w.Helper()
	before := w.unavailable()
	until(w, time.Minute, "callbacks are answered 503", func() bool { return w.unavailable() > before+10 })
	until(w, recoversWithin, "/readyz has: "+why, func() bool {
		text, status := w.bridge.ask("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, why)
	})
}

// updateStream changes the event stream's configuration.
func (w *world) updateStream(change func(*jetstream.StreamConfig, jetstream.StreamState)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), natsStarts)
	defer cancel()
	js := w.nats.connect()
	info, err := streamInfo(js)
	if err != nil {
		w.Fatal(err)
	}
	change(&info.Config, info.State)
	if _, err := js.UpdateStream(ctx, info.Config); err != nil {
		w.Fatal(err)
	}
}

// bridgeLogin returns the login of the bridge as settings.
func bridgeLogin(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--nats-user=bridge", "--nats-password-file=" + file}
}

const (
	password = "correct-horse"
	// everything are the subjects that a bridge may publish to when it creates its streams.
	everything = `">"`
)

// accounts gives the node an account with a limit. The bridge must log in and may
// publish to some subjects; other clients need no login.
func (w *world) accounts(limit, publish string) {
	w.Helper()
	node := w.nats.nodes[0]
	node.stop(terminate)
	node.edit(func(text string) string {
		return text + fmt.Sprintf(`
accounts {
  FAULTS: {
    jetstream: { %s }
    users: [
      { user: operator, password: operator }
      { user: bridge, password: %q, permissions: { publish: [%s], subscribe: "_INBOX.>" } }
    ]
  }
}
no_auth_user: operator
`, limit, password, publish)
	})
	node.start()
	w.nats.together()
}

// TestNATS_reloaded changes the configuration of a running server, and changes it back.
func TestNATS_reloaded(t *testing.T) {
	changes := []struct {
		name     string
		from, to string // in the server's configuration
		note     string // of /readyz meanwhile
		deadFor  string
	}{
		{"password", `password: "` + password + `"`, `password: "another"`, "Authorization Violation", ""},
		{"right to publish", everything, `"$JS.>"`, "permission", ""},
		{"max_payload", "max_payload: 1MB", "max_payload: 2000", "", "too_large"},
	}
	for _, change := range byForm(changes[:1], changes) {
		t.Run(change.name, func(t *testing.T) {
			scenario{
				parallel: true, args: bridgeLogin(t), rounds: byForm(1, 3), deadFor: change.deadFor,
				prepare: func(w *world) { w.accounts("max_file: 4GB", everything) },
				fault: func(w *world, _ int) {
					node := w.nats.nodes[0]
					node.edit(func(text string) string { return strings.Replace(text, change.from, change.to, 1) })
					node.reload()
					if change.note != "" {
						until(w, recoversWithin, "/readyz has: "+change.note, func() bool {
							text, _ := w.bridge.ask("/readyz")
							return strings.Contains(strings.ToLower(text), strings.ToLower(change.note))
						})
					}
					w.answers(500, recoversWithin)
					w.pause(byForm(time.Second, 30*time.Second))
					node.edit(func(text string) string { return strings.Replace(text, change.to, change.from, 1) })
					node.reload()
					node.clients.Reset() // the server sends a new max_payload only to new connections
					w.forwards(aroundWithin)
					w.bridge.drainsUnderLoad(w, drainsWithin)
					dead := w.deadLetters()
					w.answers(1000, recoversWithin)
					if more := w.deadLetters() - dead; more > 0 {
						w.Errorf("%v records became dead letters after the server was restored", more)
					}
				},
			}.run(t)
		})
	}
}

// deadLetters counts the dead letters.
func (w *world) deadLetters() float64 {
	return sum(w.bridge.metrics(), "acsbridge_dead_letters_total", "")
}

// drainsUnderLoad waits until the stream has all but what has just come. It asks
// seldom, since metrics cost the bridge a record's time or two hundred.
func (b *bridge) drainsUnderLoad(w *world, within time.Duration) {
	w.Helper()
	untilEvery(w, 100*time.Millisecond, within, "the journal is down to what has just come", func() bool {
		lag, ok := b.metrics()["acsbridge_forwarder_lag_records"]
		return ok && lag < 100
	})
}
