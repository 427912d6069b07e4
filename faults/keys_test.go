package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
)

const (
	// accepted is the answer to a probe whose token is good.
	accepted = http.StatusUnsupportedMediaType
	// keysWithin bounds the time until a published key is known: an unknown key causes a
	// fetch ten seconds after the last.
	keysWithin = 12 * time.Second
)

// fetchesWithin bounds the fetches in a time: the retries of a back-off, and one in ten
// seconds for unknown keys.
func fetchesWithin(d time.Duration) int { return 5 + int(d/(10*time.Second)) }

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

// TestKeyServer_fails starts a bridge while the key server fails, and has it fail for a
// bridge that has keys. The package verify tests the rest, with another clock.
func TestKeyServer_fails(t *testing.T) {
	for _, fault := range byForm(serverFaults[:1], serverFaults) {
		t.Run(fault.name, func(t *testing.T) {
			scenario{parallel: true, load: load{rate: 300}, fault: func(w *world, _ int) {
				w.startsWithoutKeys(fault.is)
				if *form == "long" {
					w.goesOnWithKeys(fault.is, 20*time.Second)
				}
				if hits := w.issuer.SSRFHits(); hits > 0 {
					w.Errorf("%d requests to another address than the key server", hits)
				}
			}}.run(t)
		})
	}
	t.Run("down for two hours", func(t *testing.T) {
		if *form != "long" {
			t.Skip("run with -form=long")
		}
		scenario{parallel: true, load: load{rate: 50}, fault: func(w *world, _ int) {
			w.goesOnWithKeys(acstest.FaultDown, 2*time.Hour)
		}}.run(t)
	})
}

// startsWithoutKeys checks that there is no verdict without keys.
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

// goesOnWithKeys checks that held keys are used, and that there is no verdict on others.
func (w *world) goesOnWithKeys(fault acstest.Fault, lasts time.Duration) {
	w.Helper()
	w.issuer.SetFault(fault)
	failed, rejected := w.fetches("failed"), w.unavailable()
	begin, probes := time.Now(), 0
	before, _ := w.issuer.Fetches()
	unknown := func() {
		probes++
		if status := w.probe(acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}); status != http.StatusServiceUnavailable {
			w.Fatalf("a token of an unknown key is answered %d while the key server fails", status)
		}
	}
	until(w, keysWithin+5*time.Second, "a fetch for a token of an unknown key fails", func() bool {
		unknown()
		return w.fetches("failed") > failed
	})
	for time.Since(begin) < lasts {
		unknown()
		w.answers(20, recoversWithin)
	}
	w.answers(200, recoversWithin)
	if got := w.unavailable() - rejected; got != float64(probes) {
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

// TestKeyServer_rotationUnderJunk rotates the signing key under load, while an attacker sends
// tokens of made-up keys.
func TestKeyServer_rotationUnderJunk(t *testing.T) {
	scenario{parallel: true, load: load{rate: 300}, rounds: byForm(1, 3), fault: func(w *world, _ int) {
		junk := newAttacker(w, 300, false)
		stop := junk.send()
		w.rotates()
		stop()
		for status := range junk.Answers {
			if status/100 == 2 {
				w.Errorf("junk was answered %d", status)
			}
		}
	}}.run(t)
}

// rotates rotates the key and waits until the bridge has the new one.
func (w *world) rotates() {
	w.Helper()
	begin := time.Now()
	if _, err := w.issuer.Rotate(true); err != nil {
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
