package verify_test

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// TestKeyring_K3_unknownKidIsRefusedOnlyWhenCertain: after a fetch that began after the
// token came and lacks its kid. In every other case the token may be good.
func TestKeyring_K3_unknownKidIsRefusedOnlyWhenCertain(t *testing.T) {
	tests := map[string]struct {
		fault acstest.Fault
		wait  time.Duration // from the fetch at the start
		want  string
		held  time.Duration
	}{
		"a fetch lacks it":       {acstest.FaultNone, 10 * time.Second, string(verify.UnknownKey), 0},
		"a fetch soon lacks it":  {acstest.FaultNone, 9 * time.Second, string(verify.UnknownKey), time.Second},
		"a fetch is too far off": {acstest.FaultNone, 7 * time.Second, verify.KeysUnavailable, 0},
		"the fetch fails":        {acstest.FaultError, 10 * time.Second, verify.KeysUnavailable, 0},
		"the fetch takes long":   {acstest.FaultSlow, 10 * time.Second, verify.KeysUnavailable, 2 * time.Second},
		"the answer is cached":   {acstest.FaultAged, 10 * time.Second, verify.KeysUnavailable, 0},
		"the key set is wiped":   {acstest.FaultNoKeys, 10 * time.Second, verify.KeysUnavailable, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
				synctest.Wait()
				issuer.SetFault(test.fault)
				time.Sleep(test.wait)
				began := time.Now()
				expect(t, v, sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}), test.want)
				if held := time.Since(began); held != test.held {
					t.Errorf("held for %v, want %v", held, test.held)
				}
				expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
			})
		})
	}
}

// TestKeyring_K3_unknownKidIsRefusedEventually retries at once after each answer, while
// a fetch takes some time.
func TestKeyring_K3_unknownKidIsRefusedEventually(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Transport = observed{c.Transport, func() { time.Sleep(100 * time.Millisecond) }}
		v := start(t, c)
		time.Sleep(time.Second)
		synctest.Wait()
		token := sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid, Lifetime: 10 * time.Minute})
		began := time.Now()
		for {
			_, err := v.Verify(t.Context(), token)
			if verdict(err) == string(verify.UnknownKey) {
				return
			}
			if got := verdict(err); got != verify.KeysUnavailable || time.Since(began) > time.Minute {
				t.Fatalf("got %s after %v, want %s within a minute", got, time.Since(began), verify.UnknownKey)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func TestKeyring_K3_fetchThatBeganBeforeTheTokenProvesNothing(t *testing.T) {
	before, after := newIssuer(t), newIssuer(t)
	if _, err := after.Rotate(true); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		before.SetFault(acstest.FaultSlow)
		v := start(t, config(before))
		synctest.Wait() // the first fetch has begun
		got := make(chan string)
		go func() {
			_, err := v.Verify(t.Context(), sign(t, after, acstest.TokenSpec{Issuer: before.Name()}))
			got <- verdict(err)
		}()
		synctest.Wait()
		before.SetFault(acstest.FaultNone)
		if verdict := <-got; verdict != verify.KeysUnavailable {
			t.Errorf("got %s, want %s", verdict, verify.KeysUnavailable)
		}
	})
}

func TestVerify_K4_wrongClaimsCauseNoFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		pastCooldown()
		for want, spec := range map[verify.Reason]acstest.TokenSpec{
			verify.WrongIssuer:     {Issuer: "https://issuer.example"},
			verify.WrongAudience:   {Audience: "another"},
			verify.Expired:         {Lifetime: -time.Hour},
			verify.LifetimeTooLong: {Lifetime: 24 * time.Hour},
			verify.NotYetValid:     {Claims: map[string]any{"nbf": time.Now().Add(2 * time.Minute).Unix()}},
		} {
			spec.Forge = acstest.ForgeUnknownKid
			expect(t, v, sign(t, issuer, spec), string(want))
		}
		time.Sleep(time.Minute)
		if metadata, keys := issuer.Fetches(); metadata != 1 || keys != 1 {
			t.Errorf("%d and %d fetches, want one of each at the start", metadata, keys)
		}
	})
}

// TestVerify_J13_logsHoldNoToken verifies good and forged tokens with a log at debug.
func TestVerify_J13_logsHoldNoToken(t *testing.T) {
	issuer := newIssuer(t)
	var log bytes.Buffer
	kid := kidOf(t, issuer)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		issuer.Publish(jwk(t, &sharedKey().PublicKey, "weak-key-of-the-issuer", map[string]any{"use": "enc"}))
		v, stop := startStoppable(t, c)
		pastCooldown()
		for forgery := acstest.ForgeNone; forgery <= acstest.ForgeHMAC; forgery++ {
			_, _ = v.Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{Forge: forgery}))
		}
		claims, err := v.Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{Claims: map[string]any{"sub": "+4915112345678"}}))
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{`{"phone":"+4915112345678"}`, `{"phone":"+4915187654321"}`} {
			if err := v.CheckReuse(claims, []byte(body)); err != nil {
				t.Error(err)
			}
		}
		issuer.SetFault(acstest.FaultDown)
		time.Sleep(time.Hour)
		stop() // nothing writes to the log any more
	})
	for _, secret := range []string{"eyJ", `\+49`, regexp.QuoteMeta(kid), "weak-key", audience} {
		if found := regexp.MustCompile(secret).FindString(log.String()); found != "" {
			t.Errorf("the log holds %q", found)
		}
	}
	for _, line := range []string{"keys not fetched", "some are not usable", "token came again"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log does not say %q: %s", line, log.String())
		}
	}
}
