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

// smallJournal is full after some seconds. A smaller one would be full between
// two looks at what may be truncated.
func smallJournal() string { return byForm("--journal-max-bytes=4MiB", "--journal-max-bytes=8MiB") }

// TestStreamFull lets a stream that discards nothing become full. Answers
// stay 200 until the journal is full as well, then they are 503, and all goes
// on when somebody makes room.
func TestStreamFull(t *testing.T) {
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

// TestAccountFull does the same with the room of the account.
func TestAccountFull(t *testing.T) {
	if *form != "long" {
		t.Skip("the limit is another one, the bridge's part the same: run with -form=long")
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

// TestJournalFull takes NATS away until the journal is full.
func TestJournalFull(t *testing.T) {
	scenario{args: []string{smallJournal()}, rounds: byForm(1, 3), fault: func(w *world, round int) {
		w.hasRoom()
		node := w.nats.nodes[0]
		node.clients.lead("")
		node.clients.reset()
		w.fillsUp()
		if round%2 == 1 { // a restart neither loses nor mends anything
			w.bridge.kill()
			w.bridge.launch("")
			if err := w.bridge.listening(listensWithin); err != nil {
				w.Fatal(err)
			}
			w.turnsAway("it is full, and the stream takes nothing")
		}
		w.pause(byForm(time.Second, 10*time.Second))
		node.clients.lead(node.address)
	}}.run(t)
}

// hasRoom waits until the journal has forgotten what the stream has.
func (w *world) hasRoom() {
	w.Helper()
	until(w, time.Minute, "the journal has room", func() bool {
		bytes, ok := w.bridge.metrics()["acsbridge_journal_bytes"]
		return ok && bytes < 2<<20
	})
}

// fillsUp waits until the journal is full, and holds the bridge to what its
// answers must be until then and from then on.
func (w *world) fillsUp() {
	w.Helper()
	before := w.unavailable()
	until(w, time.Minute, "the journal stands in for the stream", func() bool {
		m := w.bridge.metrics()
		return m["acsbridge_forwarder_lag_records"] > 500
	})
	if away := w.unavailable(); away > before {
		w.Errorf("%v callbacks were answered 503 while the journal had room", away-before)
	}
	w.turnsAway("it is full, and the stream takes nothing")
	w.pause(time.Second)
	if _, status := w.bridge.ask("/livez"); status != http.StatusOK {
		w.Errorf("a bridge whose journal is full answers /livez with %d", status)
	}
}

// turnsAway waits until callbacks get 503 and /readyz says why.
func (w *world) turnsAway(why string) {
	w.Helper()
	before := w.unavailable()
	until(w, time.Minute, "callbacks are answered 503", func() bool { return w.unavailable() > before+10 })
	until(w, recoversWithin, "/readyz says "+why, func() bool {
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

// bridgeLogin returns the settings of a bridge that logs in.
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
	// everything is what a bridge that creates its streams may publish to.
	everything = `">"`
)

// accounts gives the node an account with a limit, in which the bridge must
// log in and may publish to some subjects, and others need not.
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

// TestServerReloaded changes a running server under the bridge, and changes it
// back.
func TestServerReloaded(t *testing.T) {
	changes := []struct {
		name      string
		from, to  string // in the server's configuration
		says      string // of /readyz meanwhile
		setsAside string
	}{
		{"password", `password: "` + password + `"`, `password: "another"`, "Authorization Violation", ""},
		{"right to publish", everything, `"$JS.>"`, "permission", ""},
		{"max_payload", "max_payload: 1MB", "max_payload: 2000", "", "too_large"},
	}
	for _, change := range byForm(changes[:1], changes) {
		t.Run(change.name, func(t *testing.T) {
			scenario{
				beside: true, args: bridgeLogin(t), rounds: byForm(1, 3), deadFor: change.setsAside,
				prepare: func(w *world) { w.accounts("max_file: 4GB", everything) },
				fault: func(w *world, _ int) {
					node := w.nats.nodes[0]
					node.edit(func(text string) string { return strings.Replace(text, change.from, change.to, 1) })
					node.reload()
					if change.says != "" {
						until(w, recoversWithin, "/readyz says "+change.says, func() bool {
							text, _ := w.bridge.ask("/readyz")
							return strings.Contains(strings.ToLower(text), strings.ToLower(change.says))
						})
					}
					w.answers(500, recoversWithin)
					w.pause(byForm(time.Second, 30*time.Second))
					node.edit(func(text string) string { return strings.Replace(text, change.to, change.from, 1) })
					node.reload()
					node.clients.reset() // the server tells a new max_payload only to those who connect
					w.forwards(aroundWithin)
					w.bridge.drainsUnderLoad(w, drainsWithin)
					aside := w.setAside()
					w.answers(1000, recoversWithin)
					if more := w.setAside() - aside; more > 0 {
						w.Errorf("%v records were set aside after the server was mended", more)
					}
				},
			}.run(t)
		})
	}
}

// setAside counts the dead letters.
func (w *world) setAside() float64 {
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
