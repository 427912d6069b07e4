package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

func TestConsumers(t *testing.T) {
	s, server, js := startIVR(t)
	run := func(fails bool, pattern string, args ...string) string {
		t.Helper()
		return runItems(t, server.URL(), fails, pattern, append([]string{"consumers"}, args...)...)
	}
	natstest.Until(t, func() bool {
		status, err := consume.Inspect(t.Context(), js, "ivr", "ACS")
		return err == nil && len(status.Owners) == 16
	})
	run(false, `(?m)^ivr  +0       -       0       0      0       0      0 16/16\n$`)
	storeEvent(t, js, "a", "bad-1")
	storeEvent(t, js, "a", "next")
	storeEvent(t, js, "b", "wait-long")
	storeEvent(t, js, "d", "later")
	natstest.Until(t, func() bool {
		status, err := consume.Inspect(t.Context(), js, "ivr", "ACS")
		return err == nil && status.Parked == 2 && status.Waiting == 1 && status.DeadLetters == 1 && status.Received == 0
	})
	// What a long-lived bucket has: more entries than one request brings, with large states.
	filler := []byte(`{"epoch":1,"write":1,"cursor":1,"ended":true,"state":"` + strings.Repeat("+15550100123 ", 100) + `"}`)
	for i := range 2500 {
		m := &nats.Msg{Subject: fmt.Sprintf("$KV.acs_ivr.%x.call.filler-%d", i%16, i), Data: filler}
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()

	said := run(false, `(?m)^service +lag  oldest   calls  parked   held waiting   dead slots\nivr +0 +\d+s       3       2      1       1      1 16/16\n$`)
	for line := range strings.Lines(said) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	said += run(false, `(?m)16/16\nreplica [0-9a-f-]{36}  slots 0123456789abcdef\n$`, "ivr")
	said += run(false, `^\{"service":"ivr","lag":0,"received":0,"oldestSeconds":\d.*"calls":3,"parked":2,"held":1,"waiting":1,"partial":false,"deadLetters":1,"replicas":\["[0-9a-f-]+"\],"owners":\{"0":"`, "--output=json")
	said += run(false, `(?s)^ivr\n  slot     \w, epoch \d+, revision \d+\n  cursor   2\n  queue    1 event: 2\n  held     until acsbridge deadletters redrive.*ivr\n$`, "call", "a")
	said += run(false, `(?s)  wait     RecognizeCompleted until \d.*  state    \d+ bytes; --show-pii shows it\n$`, "call", "b", "--service=ivr")
	said += run(false, `  retry    event 4, 1 attempt since \d\S+, next at \d`, "call", "d")
	said += run(false, `"queue":\[4\],"retry":\{"event":"4","attempts":1,.*"stateBytes":\d+\}\n$`, "call", "d", "--output=json")
	if strings.Contains(said, "5550100123") {
		t.Errorf("a telephone number is shown:\n%s", said)
	}
	run(false, `  state    \["wait-long","\+15550100123"\]\n$`, "call", "b", "--show-pii")
	run(true, `no service has an entry of call absent: `, "call", "absent")
	run(true, `no service "crm" consumes stream ACS; acsbridge consumers lists those that do`, "crm")
	if s.saw("a next") {
		t.Error("looking has changed something")
	}
}

// TestConsumers_lag is about a service that does not run.
func TestConsumers_lag(t *testing.T) {
	server, js := newDeliverStream(t)
	runItems(t, server.URL(), false, `^acsbridge: no service on package consume, nor a deliver, consumes stream ACS`, "consumers")
	needs, err := (&consume.Service[struct{}]{Name: "crm", Types: []string{"PlayCompleted"}}).Needs(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = js.CreateKeyValue(t.Context(), needs.Bucket); err == nil {
		_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "acs_own"}) // another program's
	}
	for _, c := range needs.Consumers {
		if err == nil {
			_, err = js.CreateConsumer(t.Context(), "ACS", c)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"a", "b", "c"} {
		storeEvent(t, js, call, "0")
	}
	runItems(t, server.URL(), false, `^service .*\ncrm +3 +\d+s       0       0      0       0      0  0/16\n$`, "consumers")
	runItems(t, server.URL(), false, `\n\nno replica has the slots 0123456789abcdef\n$`, "consumers", "crm")
}
