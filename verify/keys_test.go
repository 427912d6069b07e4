package verify_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// The tests of this file are named after the rows of requirements.md. They run
// in synctest bubbles: their hours take milliseconds, and an instant of theirs
// is exact.

func TestK1RetriesSoonAfterAnOutageAtTheStart(t *testing.T) {
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

// Traffic makes the bridge recover faster than its back-off, and no good token
// is refused on the way.
func TestK1RecoversWithinTenSecondsUnderTraffic(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		issuer.SetFault(acstest.FaultDown)
		v := start(t, config(issuer))
		var healed time.Time
		for second := range 700 {
			if second == 600 {
				healed = time.Now()
				issuer.SetFault(acstest.FaultNone)
			}
			_, err := v.Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{}))
			switch got := verdict(err); {
			case got == vectorAccepted && !healed.IsZero():
				if took := time.Since(healed); took > 10*time.Second {
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

func TestK2RequestIsNotHeldByASlowKeyServer(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
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

// TestK3JunkDoesNotDelayARotation sends tokens with made-up kids all the time,
// rotates the key in between, and sends good tokens of the new key from then.
func TestK3JunkDoesNotDelayARotation(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
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

func TestK3HangUpDoesNotCancelAFetch(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
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
		issuer.SetFault(acstest.FaultNone) // the fetch that is under way goes on
		synctest.Wait()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	})
}

func TestK4JunkCostsOneFetchAndFewWaiters(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
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

func TestK5EmptyAnswerKeepsKeys(t *testing.T) {
	faults := map[string]acstest.Fault{
		"empty object":      acstest.FaultEmptyObject,
		"null":              acstest.FaultNull,
		"no keys":           acstest.FaultNoKeys,
		"garbage behind":    acstest.FaultTrailing,
		"web page":          acstest.FaultHTML,
		"status 500":        acstest.FaultError,
		"down":              acstest.FaultDown,
		"document, garbage": acstest.FaultTrailingMetadata,
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) { keepsKeys(t, fault) })
	}
}

// keepsKeys has a key set refreshed under a fault. The refresh must fail and
// the keys must stay.
func keepsKeys(t *testing.T, fault acstest.Fault) {
	t.Helper()
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
		synctest.Wait()
		fetched := v.Keys().FetchedAt
		issuer.SetFault(fault)
		time.Sleep(15 * time.Minute)
		s := v.Keys()
		if s.Held != 1 || s.LastError == nil || !s.FetchedAt.Equal(fetched) {
			t.Errorf("status %+v, want one key of %v and an error", s, fetched)
		}
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
		if issuer.Lured() != 0 {
			t.Errorf("%d requests went to the lure", issuer.Lured())
		}
	})
}

func TestK7AnswersAreBounded(t *testing.T) {
	t.Run("key set", func(t *testing.T) { keepsKeys(t, acstest.FaultHuge) })
	t.Run("OIDC document", func(t *testing.T) { keepsKeys(t, acstest.FaultHugeMetadata) })
	t.Run("time", func(t *testing.T) {
		issuer := newIssuer(t)
		synctest.Test(t, func(t *testing.T) {
			issuer.SetFault(acstest.FaultSlow)
			v := start(t, config(issuer))
			time.Sleep(5*time.Second - time.Nanosecond)
			synctest.Wait()
			if s := v.Keys(); s.LastError != nil {
				t.Errorf("given up early: %v", s.LastError)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if s := v.Keys(); s.LastError == nil {
				t.Error("not given up after 5s")
			}
		})
	})
}

// TestK7HeadersAreBounded goes over a socket, for the bound is one of the
// transport that New makes.
func TestK7HeadersAreBounded(t *testing.T) {
	for fault, want := range map[acstest.Fault]string{
		acstest.FaultNone:       vectorAccepted,
		acstest.FaultHugeHeader: verify.KeysUnavailable,
	} {
		t.Run(want, func(t *testing.T) {
			issuer := newIssuer(t)
			if err := issuer.Start(); err != nil {
				t.Fatal(err)
			}
			defer issuer.Close()
			issuer.SetFault(fault)
			c := config(issuer)
			c.Transport = nil
			expect(t, start(t, c), sign(t, issuer, acstest.TokenSpec{}), want)
		})
	}
}

func TestK8KeysComeFromThePinnedOriginAlone(t *testing.T) {
	faults := map[string]acstest.Fault{
		"redirect of the document": acstest.FaultRedirect,
		"redirect of the keys":     acstest.FaultKeysRedirect,
		"keys on another origin":   acstest.FaultForeignKeys,
		"document of another":      acstest.FaultWrongIssuer,
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			issuer := newIssuer(t)
			synctest.Test(t, func(t *testing.T) {
				issuer.SetFault(fault)
				v := start(t, config(issuer))
				time.Sleep(time.Minute)
				expect(t, v, sign(t, issuer, acstest.TokenSpec{}), verify.KeysUnavailable)
				if issuer.Lured() != 0 {
					t.Errorf("%d requests went to the lure", issuer.Lured())
				}
			})
			keepsKeys(t, fault)
		})
	}
}

func TestK11RunEndsAtOnceAndRunsOnce(t *testing.T) {
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

func TestK12WithdrawnKeyIsGoneAfterTheNextRefresh(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
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

func TestK12RefreshHasJitter(t *testing.T) {
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

// observed calls seen for each request.
type observed struct {
	http.RoundTripper
	seen func()
}

func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	o.seen()
	return o.RoundTripper.RoundTrip(r)
}

func TestK12OldKeysAreNotTrustedForEver(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
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

func TestK14KeySetIsFoundByDiscovery(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
		synctest.Wait()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
		metadata, keys := issuer.Fetches()
		if got := fmt.Sprint(metadata, keys); got != "1 1" {
			t.Errorf("fetches of the document and the keys: %s, want 1 1", got)
		}
	})
}
