package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	deliverCalls  = 12
	deliverEvents = 6
)

// wantInOrder is what an application must have accepted.
func wantInOrder(t *testing.T, a *app) {
	t.Helper()
	want := make(map[string][]string)
	for c := range deliverCalls {
		for e := range deliverEvents {
			call := fmt.Sprint("call-", c)
			want[call] = append(want[call], strconv.Itoa(e))
		}
	}
	if diff := cmp.Diff(want, a.accepted()); diff != "" {
		t.Error(diff)
	}
	ids := make(map[string]string)
	for _, p := range a.all() {
		key := p.call + "/" + p.event
		if ids[key] != "" && ids[key] != p.id {
			t.Errorf("%s was posted as %s and as %s", key, ids[key], p.id)
		}
		for other, id := range ids {
			if id == p.id && other != key {
				t.Errorf("%s and %s have the id %s", key, other, id)
			}
		}
		ids[key] = p.id
	}
}

// TestDeliver_order posts to an application that refuses, breaks off and redirects, through
// two replicas.
func TestDeliver_order(t *testing.T) {
	server, js := newDeliverStream(t)
	elsewhere := newApp(t, nil)
	var n atomic.Int64
	a := newApp(t, func(w http.ResponseWriter, p *post) {
		switch n.Add(1) % 4 {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			http.Redirect(w, httptest.NewRequest(http.MethodPost, "/", nil), elsewhere.URL, http.StatusTemporaryRedirect)
		case 2:
			p.status = 0
			panic(http.ErrAbortHandler)
		}
	})
	first, second := startDeliver(t, server.URL(), a.URL+"/hook?key=1"), startDeliver(t, server.URL(), a.URL+"/hook?key=1")
	awaitSlots(t, map[*bridgeProcess]int{first: 8, second: 8})
	for e := range deliverEvents {
		for c := range deliverCalls {
			storeEvent(t, js, fmt.Sprint("call-", c), strconv.Itoa(e))
		}
	}
	a.await(deliverCalls * deliverEvents)
	if got := ask(first.admin + "/readyz"); !strings.HasPrefix(got, "200\nprocess  ok       running\nnats     ok       connected\nwebhook  ") {
		t.Errorf("readyz: %s", got)
	}
	if got := ask(first.admin + "/metrics"); !strings.Contains(got, `acsbridge_deliver_posts_total{answer="3xx"} `) || strings.Contains(got, `acsbridge_deliver_posts_total{answer="2xx"} 0`) {
		t.Errorf("metrics: %s", got)
	}
	said := first.stop(syscall.SIGTERM) + second.stop(syscall.SIGTERM)
	wantInOrder(t, a)
	if posts := elsewhere.all(); len(posts) != 0 {
		t.Errorf("%d redirects were followed", len(posts))
	}
	for _, p := range a.all() {
		if p.url != "/hook?key=1" {
			t.Errorf("posted to %s", p.url)
		}
	}
	for _, secret := range []string{"15551234567", "callerId", "key=1", "whsec", "/hook", newWebhookSecret[6:]} {
		if strings.Contains(said, secret) {
			t.Errorf("the log has %q:\n%s", secret, said)
		}
	}
}

// TestDeliver_killed kills a replica, and then the last one, while events come.
func TestDeliver_killed(t *testing.T) {
	server, js := newDeliverStream(t)
	a := newApp(t, nil)
	replica := func() *bridgeProcess { return startDeliver(t, server.URL(), a.URL, "--lease=3s") }
	first, second := replica(), replica()
	awaitSlots(t, map[*bridgeProcess]int{first: 8, second: 8})
	for e := range deliverEvents {
		for c := range deliverCalls {
			storeEvent(t, js, fmt.Sprint("call-", c), strconv.Itoa(e))
		}
		switch e {
		case deliverEvents / 3:
			a.await(deliverCalls)
			first.stop(syscall.SIGKILL)
		case deliverEvents * 2 / 3:
			awaitSlots(t, map[*bridgeProcess]int{second: 16})
			second.stop(syscall.SIGKILL)
			second = replica()
		}
	}
	a.await(deliverCalls * deliverEvents)
	second.stop(syscall.SIGTERM)
	wantInOrder(t, a)
}

// TestDeliver_headers begins before the first start, and posts copies and what came by
// Event Grid.
func TestDeliver_headers(t *testing.T) {
	server, js := newDeliverStream(t)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	storeEvent(t, js, "call-0", "0", schemas.HeaderTraceparent, trace)
	storeEvent(t, js, "call-1", "0", schemas.HeaderReplayID, "replay-1", schemas.HeaderReplayOf, "ACS/1")
	storeEvent(t, js, "call-2", "0", schemas.HeaderGridSubscription, "CALLS%0A", schemas.HeaderGridDataVersion, "1.0", schemas.HeaderGridMetadataVersion, "1")
	a := newApp(t, nil)
	b := startDeliver(t, server.URL(), a.URL, "--since=all", "--replays", "--stale", "--type=PlayCompleted", "--to-eventgrid="+a.URL+"/grid")
	a.await(3)
	b.stop(syscall.SIGTERM)
	got := make(map[string][]string)
	for _, p := range a.all() {
		for _, name := range []string{"traceparent", "acs-replay-id", "acs-replay-of", "aeg-event-type", "aeg-subscription-name", "aeg-data-version", "aeg-metadata-version"} {
			if value := p.header.Get(name); value != "" {
				got[p.call] = append(got[p.call], name+": "+value)
			}
		}
	}
	want := map[string][]string{
		"call-0": {"traceparent: " + trace},
		"call-1": {"acs-replay-id: replay-1", "acs-replay-of: ACS/1"},
		"call-2": {"aeg-event-type: Notification", "aeg-subscription-name: CALLS%0A", "aeg-data-version: 1.0", "aeg-metadata-version: 1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDeliver_timeout stops the application for one event, and NATS for a while.
func TestDeliver_timeout(t *testing.T) {
	server, js := newDeliverStream(t)
	var n atomic.Int64
	a := newApp(t, func(w http.ResponseWriter, p *post) {
		if n.Add(1) == 1 {
			p.status = 0
			<-p.ended
		}
	})
	b := startDeliver(t, server.URL(), a.URL, "--timeout=1s")
	awaitSlots(t, map[*bridgeProcess]int{b: 16})
	storeEvent(t, js, "call-0", "0")
	storeEvent(t, js, "call-0", "1")
	a.await(2)
	server.Restart()
	natstest.Until(t, func() bool { return strings.HasPrefix(ask(b.admin+"/readyz"), "200") && js.Conn().IsConnected() })
	storeEvent(t, js, "call-0", "2")
	a.await(3)
	said := b.stop(syscall.SIGTERM)
	if diff := cmp.Diff(map[string][]string{"call-0": {"0", "1", "2"}}, a.accepted()); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(said, "the application did not answer within 1s (--timeout)") {
		t.Error(said)
	}
}

func TestDeliver_deadLetters(t *testing.T) {
	server, js := newDeliverStream(t)
	a := newApp(t, func(w http.ResponseWriter, p *post) {
		if p.event == "bad" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	b := startDeliver(t, server.URL(), a.URL+"/hook/", "--append-path", "--max-attempts=3")
	awaitSlots(t, map[*bridgeProcess]int{b: 16})
	storeEvent(t, js, "c-3", "of Event Grid", schemas.HeaderGridSubscription, "CALLS") // is left out
	storeEvent(t, js, "c-1", "bad")
	storeEvent(t, js, "c-1", "good")
	storeEvent(t, js, "c-2", "cut", schemas.HeaderTruncated, schemas.HeaderQuery)
	storeEvent(t, js, "c-2", "outside", schemas.HeaderPath, "../admin")
	a.await(1)
	letters := server.Await(consume.DeadStream("crm"), 3)
	b.stop(syscall.SIGTERM)
	got := make(map[string]string)
	for _, m := range letters {
		got[m.Header.Get(schemas.HeaderMsgID)] = ""
		event, err := schemas.ParseEvent(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		delete(got, m.Header.Get(schemas.HeaderMsgID))
		got[event.ID] = strings.Join([]string{m.Header.Get(schemas.HeaderDeadReason), m.Header.Get(schemas.HeaderDeadAttempts), m.Header.Get(schemas.HeaderDeadError)}, ", ")
	}
	want := map[string]string{
		"bad":     "attempts, 3, the application answered 400 Bad Request",
		"cut":     "permanent, 1, the path or query of its callback URL was cut at its bound",
		"outside": "permanent, 1, header acs-path: the path is not one below the URL",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, p := range a.all() {
		if p.url != "/hook/c/c-1?"+callerInQuery {
			t.Errorf("posted to %s", p.url)
		}
	}
}

// TestDeliver_gone ends the command with 410, starts it again, and finds no event missing
// and none given up.
func TestDeliver_gone(t *testing.T) {
	server, js := newDeliverStream(t)
	var gone atomic.Bool
	gone.Store(true)
	a := newApp(t, func(w http.ResponseWriter, p *post) {
		if gone.Load() {
			w.WriteHeader(http.StatusGone)
		}
	})
	b := startDeliver(t, server.URL(), a.URL, "--max-attempts=1")
	awaitSlots(t, map[*bridgeProcess]int{b: 16})
	for e := range 3 {
		storeEvent(t, js, "call-0", strconv.Itoa(e))
	}
	said := <-b.said
	err := b.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitGone || !strings.Contains(said, "answered 410 Gone, and wants no more events. None is lost") {
		t.Fatalf("%v\n%s", err, said)
	}
	if got := len(a.all()); got != 1 {
		t.Errorf("%d posts before the end, want 1", got)
	}
	gone.Store(false)
	b = startDeliver(t, server.URL(), a.URL, "--max-attempts=1")
	a.await(3)

	// With its own path the answer is about that call's URL.
	b.stop(syscall.SIGTERM)
	if diff := cmp.Diff(map[string][]string{"call-0": {"0", "1", "2"}}, a.accepted()); diff != "" {
		t.Error(diff)
	}
	if stream, err := js.Stream(t.Context(), consume.DeadStream("crm")); err != nil || stream.CachedInfo().State.Msgs > 0 {
		t.Errorf("dead letters: %+v, %v", stream.CachedInfo().State, err)
	}
	gone.Store(true)
	b = startDeliver(t, server.URL(), a.URL, "--append-path")
	awaitSlots(t, map[*bridgeProcess]int{b: 16})
	storeEvent(t, js, "call-1", "0")
	server.Await(consume.DeadStream("crm"), 1)
	b.stop(syscall.SIGTERM)
}

// TestDeliver_https posts to an application with a certificate, by a name that resolves to
// this host.
func TestDeliver_https(t *testing.T) {
	server, js := newDeliverStream(t)
	a := newApp(t, nil)
	secure := httptest.NewUnstartedServer(a)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that deliver refuses
	secure.StartTLS()
	t.Cleanup(secure.Close)
	ca := bridgetest.WriteFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	named := strings.Replace(secure.URL, "127.0.0.1", "localhost", 1)
	for _, test := range []struct {
		to, want string
		args     []string
	}{
		{named, "is a loopback or private address; add --allow-private", []string{"--ca=" + ca, "--allow-private=false", "--max-attempts=1"}},
		{secure.URL, x509.UnknownAuthorityError{}.Error(), nil},
	} {
		b := startDeliver(t, server.URL(), test.to, test.args...)
		awaitSlots(t, map[*bridgeProcess]int{b: 16})
		storeEvent(t, js, "call-0", test.want)
		natstest.Until(t, func() bool { return strings.Contains(ask(b.admin+"/readyz"), test.want) })
		b.stop(syscall.SIGTERM)
	}
	if posts := a.all(); len(posts) != 0 {
		t.Fatalf("%d posts without permission", len(posts))
	}
	b := startDeliver(t, server.URL(), secure.URL, "--ca="+ca)
	a.await(2)
	b.stop(syscall.SIGTERM)
}

// TestRights_deliver runs the built deliver, as such a service, in a JetStream domain.
func TestRights_deliver(t *testing.T) {
	setPasswords(t)
	s := newRightsServer(t, printedConfig(t), "crm")
	a := newApp(t, nil)
	deliver := startDeliver(t, s.URL(), a.URL+"/hook", "--type=CallConnected", "--type=PlayCompleted",
		"--nats-domain=acs", "--nats-user=crm", "--nats-password-file="+bridgetest.WriteFile(t, "password", crmPassword))
	awaitSlots(t, map[*bridgeProcess]int{deliver: 16})
	storeEvent(t, s.JetStream(), "a", "0")
	natstest.Until(t, func() bool { return len(a.accepted()["a"]) == 1 })
}
