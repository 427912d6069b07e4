package verify_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

func TestKeyring_K1_keyServerDownAtStart(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		issuer.SetFault(acstest.FaultDown)
		v := start(t, config(issuer))
		time.Sleep(10 * time.Minute)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), verify.KeysUnavailable)
		if s := v.Keys(); s.Held != 0 || s.LastError == nil || !s.FetchedAt.IsZero() {
			t.Errorf("status %+v during the outage", s)
		}
		time.Sleep(time.Minute)
		issuer.SetFault(acstest.FaultNone)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if s := v.Keys(); s.Held != 1 || s.LastError != nil || s.FetchedAt.IsZero() {
			t.Errorf("status %+v 30 s after the outage", s)
		}
	})
}

// TestKeyring_K1_recoversWithinTenSecondsUnderTraffic: traffic shortens the back-off,
// and no good token is refused in the meantime.
func TestKeyring_K1_recoversWithinTenSecondsUnderTraffic(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		issuer.SetFault(acstest.FaultDown)
		v := start(t, config(issuer))
		var restored time.Time
		for second := range 700 {
			if second == 600 {
				restored = time.Now()
				issuer.SetFault(acstest.FaultNone)
			}
			_, err := v.Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{}))
			switch got := verdict(err); {
			case got == vectorAccepted && !restored.IsZero():
				if took := time.Since(restored); took > 10*time.Second {
					t.Errorf("accepted %v after the outage, want at most 10s", took)
				}
				return
			case got != verify.KeysUnavailable:
				t.Fatalf("second %d: %s", second, got)
			}
			time.Sleep(time.Second)
		}
		t.Error("never accepted again")
	})
}

func TestKeyring_K1_trafficDoesNotDelayARetry(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		issuer.SetFault(acstest.FaultDown)
		v := start(t, config(issuer))
		synctest.Wait()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), verify.KeysUnavailable)
		issuer.SetFault(acstest.FaultNone)
		time.Sleep(time.Second)
		synctest.Wait()
		checkHeld(t, v, 1)
	})
}

func TestKeyring_K2_slowKeyServer(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		pastCooldown()
		issuer.SetFault(acstest.FaultSlow)
		began := time.Now()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}), verify.KeysUnavailable)
		if held := time.Since(began); held != 2*time.Second {
			t.Errorf("held for %v, want 2s", held)
		}
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	})
}

// TestKeyring_K3_junkDoesNotDelayARotation sends tokens with made-up kids all
// the time, and good tokens of a new key after a rotation.
func TestKeyring_K3_junkDoesNotDelayARotation(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		pastCooldown()
		var requests sync.WaitGroup
		defer requests.Wait()
		junk := sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid})
		hundred := func(token string) {
			for range 100 {
				requests.Go(func() { _, _ = v.Verify(t.Context(), token) })
			}
		}
		_, before := issuer.Fetches()
		var rotated, accepted time.Time
		for step := range 600 { // a minute
			if step == 50 {
				if _, err := issuer.Rotate(true); err != nil {
					t.Fatal(err)
				}
				rotated = time.Now()
			}
			hundred(junk)
			if !rotated.IsZero() {
				_, err := v.Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{}))
				switch got := verdict(err); {
				case got == vectorAccepted && accepted.IsZero():
					accepted = time.Now()
				case got == verify.KeysUnavailable && accepted.IsZero(), got == vectorAccepted:
				default:
					t.Fatalf("a good token got %s %v after the rotation", got, time.Since(rotated))
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := accepted.Sub(rotated); accepted.IsZero() || took > 12*time.Second {
			t.Errorf("the new key was taken %v after the rotation, want at most 12s", took)
		}
		if _, after := issuer.Fetches(); after-before > 7 {
			t.Errorf("%d fetches in a minute of junk, want at most one per 10 s", after-before)
		}
	})
}

func TestKeyring_K3_clientThatHangsUpCancelsNoFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		pastCooldown()
		if _, err := issuer.Rotate(true); err != nil {
			t.Fatal(err)
		}
		issuer.SetFault(acstest.FaultSlow)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := v.Verify(ctx, sign(t, issuer, acstest.TokenSpec{}))
		if held := time.Since(began); verdict(err) != verify.KeysUnavailable || held != 100*time.Millisecond {
			t.Errorf("a client that hung up after 100ms got %v after %v", err, held)
		}
		issuer.SetFault(acstest.FaultNone) // the present fetch goes on
		synctest.Wait()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	})
}

func TestKeyring_K4_junkCostsOneFetchAndFewWaiters(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		pastCooldown()
		issuer.SetFault(acstest.FaultSlow)
		before, _ := issuer.Fetches()
		junk := sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid})
		held := make(chan time.Duration, 1000)
		for range cap(held) {
			go func() {
				began := time.Now()
				_, err := v.Verify(t.Context(), junk)
				if got := verdict(err); got != verify.KeysUnavailable {
					t.Errorf("got %s while no verdict was possible", got)
				}
				held <- time.Since(began)
			}()
		}
		waited := 0
		for range cap(held) {
			switch d := <-held; {
			case d > 2*time.Second:
				t.Errorf("a request was held for %v", d)
			case d > 0:
				waited++
			}
		}
		if waited != 64 {
			t.Errorf("%d requests waited, want 64", waited)
		}
		if after, _ := issuer.Fetches(); after-before != 1 {
			t.Errorf("%d fetches, want 1", after-before)
		}
	})
}

func TestKeyring_K11_runsOnceAndEndsAtOnce(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		issuer.SetFault(acstest.FaultSlow)
		v, err := verify.New(config(issuer))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx) }()
		synctest.Wait() // in the middle of a fetch
		if err := v.Run(ctx); err == nil {
			t.Error("a second loop ran beside the first")
		}
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) != 0 {
			t.Errorf("Run returned %v after %v, want nil at once", err, time.Since(began))
		}
	})
}

// TestKeyring_K11_leavesNoConnection uses a socket and the default transport.
func TestKeyring_K11_leavesNoConnection(t *testing.T) {
	issuer := newIssuer(t)
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	before := goleak.IgnoreCurrent()
	c := config(issuer)
	c.Transport = nil
	v, stop := startStoppable(t, c)
	expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	stop()
	goleak.VerifyNone(t, before)
}

func TestKeyring_K12_withdrawnKey(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		old := acstest.TokenSpec{Key: sharedKey(), Header: map[string]any{"kid": kidOf(t, issuer)}}
		if _, err := issuer.Rotate(false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		expect(t, v, sign(t, issuer, old), vectorAccepted)
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, err := v.Verify(t.Context(), sign(t, issuer, old)); err == nil {
			t.Error("a token of a withdrawn key was accepted after a refresh")
		}
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	})
}

func TestKeyring_K12_jitter(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		fetched := map[time.Time]bool{}
		c := config(issuer)
		c.Transport = observed{c.Transport, func() { fetched[time.Now()] = true }}
		start(t, c)
		const rounds = 20
		time.Sleep(rounds * 10 * time.Minute)
		synctest.Wait()
		if len(fetched) < rounds+1 || len(fetched) > rounds*10/9+1 {
			t.Errorf("%d fetches in %d periods", len(fetched), rounds)
		}
		var last time.Time
		for at := range fetched {
			if at.After(last) {
				last = at
			}
		}
		if time.Since(last)%time.Second == 0 {
			t.Errorf("after %d rounds the fetches still fall on full seconds", rounds)
		}
	})
}

// observed calls seen before each request.
type observed struct {
	http.RoundTripper
	seen func()
}

func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	o.seen()
	return o.RoundTripper.RoundTrip(r)
}

func TestKeyring_K12_oldKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		issuer.SetFault(acstest.FaultDown)
		time.Sleep(24 * time.Hour)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
		time.Sleep(time.Second)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), verify.KeysUnavailable)
		if s := v.Keys(); s.Held != 0 || s.FetchedAt.IsZero() {
			t.Errorf("status %+v, want no key held and the time of the last fetch", s)
		}
	})
}
