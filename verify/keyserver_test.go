package verify_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

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
