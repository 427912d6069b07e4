package verify_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

func TestKeyServer_K5_emptyAnswerKeepsKeys(t *testing.T) {
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

// keepsKeys refreshes a key set under a fault: that must fail and the keys must stay.
func keepsKeys(t *testing.T, fault acstest.Fault) {
	t.Helper()
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		fetched := v.Keys().FetchedAt
		issuer.SetFault(fault)
		time.Sleep(15 * time.Minute)
		s := v.Keys()
		if s.Held != 1 || s.LastError == nil || !s.FetchedAt.Equal(fetched) {
			t.Errorf("status %+v, want one key of %v and an error", s, fetched)
		}
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
		if issuer.SSRFHits() != 0 {
			t.Errorf("%d requests to another origin", issuer.SSRFHits())
		}
	})
}

// TestVerifier_FetchKeys_errors tells what is to be done by the types of errors.
func TestVerifier_FetchKeys_errors(t *testing.T) {
	for name, test := range map[string]struct {
		fault  acstest.Fault
		issuer string // that is configured; empty is the server's
		is     func(error) bool
	}{
		"issuer": {issuer: "https://acs.example.us", is: func(err error) bool {
			e, ok := errors.AsType[*verify.IssuerError](err)
			return ok && e.Want == "https://acs.example.us" && e.Issuer != e.Want
		}},
		"redirect": {fault: acstest.FaultRedirect, is: func(err error) bool {
			e, ok := errors.AsType[*verify.StatusError](err)
			return ok && e.Status/100 == 3
		}},
		"no keys": {fault: acstest.FaultNoKeys, is: func(err error) bool {
			e, ok := errors.AsType[*verify.NoUsableKeyError](err)
			return ok && e.Keys == 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := newIssuer(t)
			issuer.SetFault(test.fault)
			c := config(issuer)
			c.Issuer = cmp.Or(test.issuer, c.Issuer)
			v, err := verify.New(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.FetchKeys(t.Context()); !test.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestKeyServer_byteOrderMark(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Transport = rewriting{c.Transport, func(body string) string { return "\xef\xbb\xbf" + body }}
		v := start(t, c)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	})
}

func TestKeyServer_K7_answersAreBounded(t *testing.T) {
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

// TestKeyServer_K7_headersAreBounded uses a socket and the default transport, which has
// the bound.
func TestKeyServer_K7_headersAreBounded(t *testing.T) {
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

func TestKeyServer_K8_pinnedOriginAlone(t *testing.T) {
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
				if issuer.SSRFHits() != 0 {
					t.Errorf("%d requests to another origin", issuer.SSRFHits())
				}
			})
			keepsKeys(t, fault)
		})
	}
}

// TestKeyServer_K8_noLoginInTheAddress: an address of keys with a user and password is
// not used.
func TestKeyServer_K8_noLoginInTheAddress(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Transport = rewriting{issuer.Transport(), func(body string) string {
			return strings.ReplaceAll(body, `"jwks_uri":"http://`, `"jwks_uri":"http://user:password@`)
		}}
		v := start(t, c)
		synctest.Wait()
		if s := v.Keys(); s.Held != 0 || s.LastError == nil || !strings.Contains(s.LastError.Error(), "jwks_uri") {
			t.Errorf("got %+v, want an error about jwks_uri", s)
		}
	})
}

// rewriting changes the answers of a key server.
type rewriting struct {
	http.RoundTripper
	change func(body string) string
}

func (w rewriting) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	response.Body = io.NopCloser(strings.NewReader(w.change(string(body))))
	response.ContentLength = -1
	return response, nil
}

func TestKeyServer_K14_discovery(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
		metadata, keys := issuer.Fetches()
		if got := fmt.Sprint(metadata, keys); got != "1 1" {
			t.Errorf("fetches of the document and the keys: %s, want 1 1", got)
		}
	})
}
