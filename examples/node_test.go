package examples_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

var (
	ended       = regexp.MustCompile(`(?m)^(\S+) ended (\S+)$`)
	endedWithID = regexp.MustCompile(`(?m)^(\S+) ended (\S+) ([0-9a-f-]{36})$`)
	appAddress  = regexp.MustCompile(`listening at (http://\S+)`)
)

const webhookSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgtfaeYxk="

// TestExample_node runs both examples, which have their packages in common.
func TestExample_node(t *testing.T) {
	t.Parallel()
	dir := installNode(t)
	t.Run("webhook", func(t *testing.T) { t.Parallel(); runWebhook(t, dir) })
	t.Run("direct", func(t *testing.T) { t.Parallel(); runDirect(t, dir) })
}

// runWebhook delivers the demo's events to the example, with a secret that it
// knows and another one, and compares its output with the stream.
func runWebhook(t *testing.T, dir string) {
	url := startDemo(t)
	acsbridge := build(t, "../cmd/acsbridge")
	secrets := t.TempDir()
	old, present := filepath.Join(secrets, "old"), filepath.Join(secrets, "new")
	for file, secret := range map[string]string{old: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", present: webhookSecret} {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app := start(t, dir, []string{"WEBHOOK_SECRET=" + webhookSecret, "PORT=0"}, "node", "webhook.js")
	to := app.await(appAddress, 1)[0][1]
	deliver := func() *program {
		return start(t, dir, []string{"NATS_URL=" + url}, acsbridge, "deliver", "--name=crm", "--to="+to, "--append-path", "--allow-private",
			"--secret-file="+present, "--secret-file="+old, "--admin-listen=127.0.0.1:0")
	}
	first := deliver()
	app.await(endedWithID, enoughCalls)
	first.stop()
	second := deliver()
	second.await(regexp.MustCompile("deliver is running"), 1)
	app.await(endedWithID, 2*enoughCalls)
	for _, action := range []string{"recognize menu", "recognize menu-again", "play", "transfer", "hang-up"} {
		app.await(regexp.MustCompile(" "+action+" "), 1)
	}
	second.stop()
	app.stop()

	ends := readEnds(t, url)
	calls, ids := make(map[string]bool), make(map[string]bool)
	for _, line := range endedWithID.FindAllStringSubmatch(app.output(), -1) {
		if calls[line[1]] || ids[line[3]] {
			t.Errorf("%s was printed twice", line[1])
		}
		calls[line[1]], ids[line[3]] = true, true
		if ends[line[1]] != line[2] {
			t.Errorf("%s ended %s, the application printed %s", line[1], ends[line[1]], line[2])
		}
	}
	if refused := regexp.MustCompile(`answered: .*`).FindString(first.output() + second.output()); refused != "" {
		t.Errorf("the application %s", refused)
	}
}

// runDirect runs the service with the demo, stops it, runs it again, and compares
// its output with the stream: every call that it prints has ended like that, and is printed
// once. The second run continues where the first one stopped.
func runDirect(t *testing.T, dir string) {
	url := startDemo(t)
	printed := make(map[string]string)
	for run := range 2 {
		service := start(t, dir, []string{"NATS_URL=" + url}, "node", "direct.js")
		service.await(ended, enoughCalls)
		service.stop()
		for line := range strings.Lines(service.output()) {
			match := ended.FindStringSubmatch(line)
			if match == nil || printed[match[1]] != "" {
				t.Errorf("run %d printed %q, which is not an end, or once more", run, line)
				continue
			}
			printed[match[1]] = match[2]
		}
	}
	ends := readEnds(t, url)
	for call, end := range printed {
		if ends[call] != end {
			t.Errorf("%s ended %s, the service printed %s", call, ends[call], end)
		}
	}
	nc, js := connect(t, url)
	defer nc.Close()
	done := uint64(0)
	for _, slot := range "0123456789abcdef" {
		c, err := js.Consumer(t.Context(), schemas.Stream, fmt.Sprintf("calls-node-%c", slot))
		if err != nil {
			t.Fatal(err)
		}
		config := c.CachedInfo().Config
		if config.DeliverPolicy != jetstream.DeliverNewPolicy || config.MaxAckPending != 1 {
			t.Errorf("consumer %+v, want the events that are new, one at a time", config)
		}
		done += c.CachedInfo().AckFloor.Consumer
	}
	if done < 2*enoughCalls {
		t.Errorf("only %d events were acknowledged", done)
	}
}
