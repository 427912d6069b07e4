package faults_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
)

const (
	// accepted is the answer to a probe whose token is good.
	accepted = http.StatusUnsupportedMediaType
	// keysWithin bounds the time until a key that is published is known: a
	// fetch that an unknown key asks for comes ten seconds after the last.
	keysWithin = 12 * time.Second
)

// fetchesWithin is how many fetches may begin in a time. One that failed is
// tried again after 1, 2, 4, 8, 16 and then every 30 seconds, a little less
// each; an unknown key asks for one in ten seconds.
func fetchesWithin(d time.Duration) int { return 5 + int(d/(10*time.Second)) }

// serverFaults are those of the key server, told by what they look like.
var serverFaults = []struct {
	name string
	is   acstest.Fault
}{
	{"down", acstest.FaultDown},
	{"an empty object", acstest.FaultEmptyObject},
	{"slow", acstest.FaultSlow},
	{"error", acstest.FaultError},
	{"null", acstest.FaultNull},
	{"no keys", acstest.FaultNoKeys},
	{"a web page", acstest.FaultHTML},
	{"huge", acstest.FaultHuge},
	{"redirect", acstest.FaultRedirect},
	{"redirected keys", acstest.FaultKeysRedirect},
	{"another issuer", acstest.FaultWrongIssuer},
	{"keys of another origin", acstest.FaultForeignKeys},
}

// TestKeyServer starts a bridge while the key server fails, and lets it fail
// under a bridge that has keys. That a set is trusted for a day without
// the server is tested in package verify, where the clock can be moved.
func TestKeyServer(t *testing.T) {
	for _, fault := range byForm(serverFaults[:1], serverFaults) {
		t.Run(fault.name, func(t *testing.T) {
			scenario{beside: true, load: load{rate: 300}, fault: func(w *world, _ int) {
				w.startsWithoutKeys(fault.is)
				if *form == "long" {
					w.goesOnWithKeys(fault.is, 20*time.Second)
				}
				if lured := w.issuer.SSRFHits(); lured > 0 {
					w.Errorf("the bridge followed the key server to another address, %d times", lured)
				}
			}}.run(t)
		})
	}
	t.Run("down for long", func(t *testing.T) {
		if *form != "long" {
			t.Skip("takes two hours: run with -form=long")
		}
		scenario{beside: true, load: load{rate: 50}, fault: func(w *world, _ int) {
			w.goesOnWithKeys(acstest.FaultDown, 2*time.Hour)
		}}.run(t)
	})
}

// startsWithoutKeys: until there are keys, no verdict is possible.
func (w *world) startsWithoutKeys(fault acstest.Fault) {
	w.Helper()
	w.bridge.kill()
	w.issuer.SetFault(fault)
	w.bridge.launch("")
	if err := w.bridge.listening(listensWithin); err != nil {
		w.Fatal(err)
	}
	until(w, keysWithin, "a fetch fails", func() bool {
		if status := w.probe(acstest.TokenSpec{}); status != http.StatusServiceUnavailable {
			w.Fatalf("a good token is answered %d while there are no keys", status)
		}
		return w.fetches("failed") > 0
	})
	if _, status := w.bridge.ask("/readyz"); status != http.StatusServiceUnavailable {
		w.Errorf("without keys /readyz answers %d", status)
	}
	w.issuer.SetFault(acstest.FaultNone)
	w.answers(1, keysWithin)
}

// goesOnWithKeys: known keys are enough, and of others nobody knows.
func (w *world) goesOnWithKeys(fault acstest.Fault, lasts time.Duration) {
	w.Helper()
	w.issuer.SetFault(fault)
	failed, turnedAway := w.fetches("failed"), w.unavailable()
	begin, probes := time.Now(), 0
	before, _ := w.issuer.Fetches()
	unknown := func() {
		probes++
		if status := w.probe(acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}); status != http.StatusServiceUnavailable {
			w.Fatalf("a token of an unknown key is answered %d while the key server fails", status)
		}
	}
	until(w, keysWithin+5*time.Second, "a fetch that a token of an unknown key asked for fails", func() bool {
		unknown()
		return w.fetches("failed") > failed
	})
	for time.Since(begin) < lasts {
		unknown()
		w.answers(20, recoversWithin)
	}
	w.answers(200, recoversWithin)
	if got := w.unavailable() - turnedAway; got != float64(probes) {
		w.Errorf("%v callbacks were answered 503 while their key was known", got-float64(probes))
	}
	took := time.Since(begin)
	after, _ := w.issuer.Fetches()
	if got := after - before; got > fetchesWithin(took) {
		w.Errorf("the key server was asked %d times in %v, want %d at most", got, took, fetchesWithin(took))
	}
	w.issuer.SetFault(acstest.FaultNone)
}

// fetches counts the fetches of keys that ended in one way.
func (w *world) fetches(outcome string) float64 {
	return sum(w.bridge.metrics(), "acsbridge_jwks_refresh_total{", fmt.Sprintf("outcome=%q", outcome))
}

// unavailable counts the answers 503.
func (w *world) unavailable() float64 {
	return sum(w.bridge.metrics(), "acsbridge_requests_total{", `code="503"`)
}

// TestKeysRotatedUnderJunk rotates the signing key in the middle of the load,
// while others send tokens of made-up keys, and then withdraws the old key
// .
func TestKeysRotatedUnderJunk(t *testing.T) {
	scenario{beside: true, load: load{rate: 300}, rounds: byForm(1, 3), fault: func(w *world, _ int) {
		calm := w.junk()
		defer calm()
		withdrawn, err := w.issuer.Sign(acstest.TokenSpec{Audience: acstest.DemoAudience, Lifetime: tokenLife})
		if err != nil {
			w.Fatal(err)
		}
		w.rotates(true)
		if *form == "short" {
			return // each rotation takes ten seconds
		}
		w.sender.tokens.renew(w)
		w.issuer.Publish(w.publishedKeys()[0]) // the newest stays, the old one goes
		w.rotates(false)
		w.sender.tokens.renew(w)
		calm()
		until(w, 2*keysWithin, "a token of the withdrawn key is refused", func() bool {
			switch status := w.post(withdrawn, "text/plain", nil); status {
			case http.StatusUnauthorized:
				return true
			case http.StatusServiceUnavailable: // not certain yet
			default:
				w.Fatalf("a token of a withdrawn key is answered %d", status)
			}
			return false
		})
		w.issuer.Publish()
	}}.run(t)
}

// rotates rotates the key and waits until the bridge knows the new one.
func (w *world) rotates(keepOld bool) {
	w.Helper()
	begin := time.Now()
	if _, err := w.issuer.Rotate(keepOld); err != nil {
		w.Fatal(err)
	}
	until(w, keysWithin, "a token of the new key is accepted", func() bool {
		status := w.probe(acstest.TokenSpec{})
		if status == http.StatusUnauthorized {
			w.Fatal("a good token of the new key is answered 401")
		}
		return status == accepted
	})
	w.Logf("a new key is known after %v", time.Since(begin).Round(time.Millisecond))
}

// publishedKeys returns the members of the key set, the newest first.
func (w *world) publishedKeys() []json.RawMessage {
	w.Helper()
	response, err := http.Get(w.issuer.Name() + "/calling/keys")
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil || len(set.Keys) == 0 {
		w.Fatalf("the key set cannot be read: %v", err)
	}
	return set.Keys
}

const (
	junkSenders = 16
	junkTokens  = 128
	junkEvery   = 20 * time.Millisecond // for each sender
)

// junk posts tokens of made-up keys until it is told to stop.
func (w *world) junk() (stop func()) {
	w.Helper()
	nobody, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.Fatal(err)
	}
	texts := make([]string, junkTokens)
	for i := range texts {
		texts[i], err = w.issuer.Sign(acstest.TokenSpec{
			Audience: acstest.DemoAudience, Lifetime: tokenLife,
			Key: nobody, Header: map[string]any{"kid": uuid.NewString()},
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	done := make(chan struct{})
	var senders sync.WaitGroup
	for n := range junkSenders {
		senders.Go(func() {
			tick := time.NewTicker(junkEvery)
			defer tick.Stop()
			for i := n; ; i += junkSenders {
				select {
				case <-tick.C:
				case <-done:
					return
				}
				if status := w.post(texts[i%junkTokens], "text/plain", nil); status == accepted {
					w.Error("a token of a made-up key is accepted")
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(done); senders.Wait() })
	w.Cleanup(stop)
	return stop
}

// TestClock sends tokens of issuers whose clocks are wrong by more than the
// leeway and by less. The bridge's own clock cannot be moved without the
// rights to the machine's.
func TestClock(t *testing.T) {
	scenario{fault: func(w *world, _ int) {
		for _, token := range []struct {
			shift  time.Duration
			reason string // of the refusal; empty when it is accepted
		}{
			{30 * time.Second, ""},
			{-4 * time.Minute, ""},
			{-10 * time.Minute, "expired"},
			{-time.Hour, "expired"},
			{3 * time.Minute, "not_yet_valid"},
			{10 * time.Minute, "not_yet_valid"},
			{time.Hour, "not_yet_valid"},
		} {
			label := fmt.Sprintf("reason=%q", token.reason)
			refusals := func() float64 { return sum(w.bridge.metrics(), "acsbridge_verify_total{", label) }
			before := refusals()
			status := w.probe(acstest.TokenSpec{Now: time.Now().Add(token.shift)})
			if token.reason == "" {
				if status != accepted {
					w.Errorf("a token signed by a clock off by %v is answered %d", token.shift, status)
				}
				continue
			}
			if after := refusals(); status != http.StatusUnauthorized || after <= before {
				w.Errorf("a token signed by a clock off by %v is answered %d, and %q went from %v to %v",
					token.shift, status, token.reason, before, after)
			}
		}
	}}.run(t)
}
