package verify_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

const otherGUID = "5aba7c7e-0f0b-4a57-9a1d-3f8f1c0b7d10"

// TestExplain_whatMayBeLogged: only GUIDs and durations that the issuer has signed.
func TestExplain_whatMayBeLogged(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		now := time.Now()
		minutes := verify.SignedClaims{Audiences: []string{audience}, Life: 5 * time.Minute}
		with := func(change func(*verify.SignedClaims)) *verify.SignedClaims {
			c := minutes
			change(&c)
			return &c
		}
		for name, test := range map[string]struct {
			spec acstest.TokenSpec
			want *verify.SignedClaims // nil: nothing may be logged
		}{
			"good":           {acstest.TokenSpec{}, &minutes},
			"audience":       {acstest.TokenSpec{Audience: strings.ToUpper(otherGUID)}, with(func(c *verify.SignedClaims) { c.Audiences = []string{otherGUID} })},
			"other audience": {acstest.TokenSpec{Audience: "+4915112345678"}, with(func(c *verify.SignedClaims) { c.Audiences, c.OtherAudience = nil, true })},
			"many audiences": {acstest.TokenSpec{Claims: map[string]any{"aud": []string{otherGUID, "x", otherGUID, otherGUID, otherGUID, otherGUID}}}, with(func(c *verify.SignedClaims) {
				c.Audiences, c.OtherAudience = []string{otherGUID, otherGUID, otherGUID, otherGUID}, true
			})},
			"expired":          {acstest.TokenSpec{Now: now.Add(-14*time.Minute - 48*time.Second)}, with(func(c *verify.SignedClaims) { c.Expired = 9*time.Minute + 48*time.Second })},
			"early":            {acstest.TokenSpec{Now: now.Add(8 * time.Minute)}, with(func(c *verify.SignedClaims) { c.Early, c.Life = 8*time.Minute, 13*time.Minute })},
			"long":             {acstest.TokenSpec{Lifetime: 24 * time.Hour}, with(func(c *verify.SignedClaims) { c.Life = 24 * time.Hour })},
			"dates by exp":     {acstest.TokenSpec{Lifetime: time.Hour, Claims: map[string]any{"iat": nil, "nbf": nil}}, with(func(c *verify.SignedClaims) { c.Life = time.Hour })},
			"no exp":           {acstest.TokenSpec{Claims: map[string]any{"exp": nil}}, with(func(c *verify.SignedClaims) { c.Life = 0 })},
			"application":      {acstest.TokenSpec{Claims: map[string]any{"appid": otherGUID, "azp": "x"}}, with(func(c *verify.SignedClaims) { c.Applications = []string{otherGUID} })},
			"another issuer":   {acstest.TokenSpec{Issuer: "https://issuer.example"}, &minutes},
			"unreadable":       {acstest.TokenSpec{Claims: map[string]any{"exp": "x"}}, &verify.SignedClaims{}},
			"critical header":  {acstest.TokenSpec{Header: map[string]any{"crit": []string{"x"}}}, &minutes},
			"another type":     {acstest.TokenSpec{Header: map[string]any{"typ": "logout+jwt"}}, &minutes},
			"flipped":          {acstest.TokenSpec{Forge: acstest.ForgeSignature}, nil},
			"another's key":    {acstest.TokenSpec{Forge: acstest.ForgeKey, Audience: otherGUID}, nil},
			"unknown key":      {acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}, nil},
			"no signature":     {acstest.TokenSpec{Forge: acstest.ForgeAlgNone}, nil},
			"shared key":       {acstest.TokenSpec{Forge: acstest.ForgeHMAC}, nil},
			"kid is a number":  {acstest.TokenSpec{Header: map[string]any{"kid": 7}}, nil},
			"another type too": {acstest.TokenSpec{Header: map[string]any{"typ": 7}}, &minutes},
		} {
			var got *verify.SignedClaims
			if e := v.Explain([]string{"Bearer " + sign(t, issuer, test.spec)}, now); e != nil {
				if claims, good := e.Signed(); good {
					got = &claims
				} else if diff := cmp.Diff(verify.SignedClaims{}, claims); diff != "" {
					t.Errorf("%s: claims that are not signed: %s", name, diff)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}

func TestExplain_fetchesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		pastCooldown()
		began := time.Now()
		token := sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid})
		for _, authorization := range [][]string{{"Bearer " + token}, {"Bearer a", "Bearer b"}, {"Bearer ..."}, {"Basic x"}, {"Bearer " + strings.Repeat("a", 9000)}, nil} {
			if v.Explain(authorization, began) != nil {
				t.Errorf("%.40q is explained", authorization)
			}
		}
		time.Sleep(time.Minute)
		if time.Since(began) != time.Minute {
			t.Errorf("took %s", time.Since(began)-time.Minute)
		}
		if metadata, keys := issuer.Fetches(); metadata != 1 || keys != 1 {
			t.Errorf("%d and %d fetches, want one of each at the start", metadata, keys)
		}
	})
}

// TestExplain_groups: a group is of one message, not of one token.
func TestExplain_groups(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		synctest.Wait()
		group := func(spec acstest.TokenSpec) uint64 {
			return v.Explain([]string{"Bearer " + sign(t, issuer, spec)}, time.Now()).Group()
		}
		if group(acstest.TokenSpec{Audience: otherGUID}) != group(acstest.TokenSpec{Audience: otherGUID, Forge: acstest.ForgeKey}) {
			t.Error("one message, and two groups")
		}
		if group(acstest.TokenSpec{Audience: otherGUID}) == group(acstest.TokenSpec{}) {
			t.Error("two audiences are one group")
		}
	})
}
