package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var (
	endedWithID = regexp.MustCompile(`(?m)^(\S+) ended (\S+) ([0-9a-f-]{36})$`)
	appAddress  = regexp.MustCompile(`listening at (http://\S+)`)
)

const webhookSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgtfaeYxk="

// TestExample_express delivers the demo's events to the example, with a secret that it
// knows and another one, and compares its output with the stream.
func TestExample_express(t *testing.T) {
	t.Parallel()
	dir := installNode(t, "express")
	url := startDemo(t)
	acsbridge := build(t, "../cmd/acsbridge")
	old, present := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	for file, secret := range map[string]string{old: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", present: webhookSecret} {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app := start(t, dir, []string{"WEBHOOK_SECRET=" + webhookSecret, "PORT=0"}, "node", "index.js")
	to := app.await(appAddress, 1)[0][1]
	deliver := func() *program {
		return start(t, dir, []string{"NATS_URL=" + url}, acsbridge, "deliver", "--name=crm", "--to="+to, "--append-path", "--allow-private",
			"--secret-file="+present, "--secret-file="+old, "--admin-listen=127.0.0.1:0")
	}
	first := deliver()
	app.await(endedWithID, enoughCalls)
	first.stop()
	second := deliver()
	app.await(endedWithID, 2*enoughCalls)
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
