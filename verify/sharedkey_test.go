package verify_test

import (
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/verify"
)

const sharedSecret, otherSecret = "0123456789abcdef0123456789abcdef", "fedcba9876543210-._~ABCDEFGHIJKLMNOP"

func TestSharedKeys_find(t *testing.T) {
	keys, err := verify.NewSharedKeys([]verify.SharedKey{{Name: "new", Secret: sharedSecret}, {Name: "old", Secret: otherSecret}})
	if err != nil || !keys.Asked() {
		t.Fatal(err, keys.Asked())
	}
	var none verify.SharedKeys
	if none.Asked() {
		t.Error("no keys are asked for")
	}
	for _, test := range []struct {
		values []string
		name   string
	}{
		{[]string{sharedSecret}, "new"},
		{[]string{otherSecret}, "old"},
		{[]string{sharedSecret, sharedSecret}, ""},
		{[]string{sharedSecret[1:]}, ""},
		{[]string{sharedSecret + "0"}, ""},
		{[]string{strings.ToUpper(sharedSecret)}, ""},
		{[]string{""}, ""},
		{nil, ""},
	} {
		name, ok := keys.Find(test.values)
		if name != test.name || ok != (test.name != "") {
			t.Errorf("%q: %q, %v, want %q", test.values, name, ok, test.name)
		}
		claims, verified := keys.Verify(test.values)
		if picked, err := claims.ForResource(resource); verified != ok || (err == nil) != ok || picked.Resource() != map[bool]string{true: resource}[ok] {
			t.Errorf("%q: verified %v, resource %q, %v", test.values, verified, picked.Resource(), err)
		}
		if _, ok := none.Verify(test.values); ok {
			t.Errorf("%q was verified without a key to compare with", test.values)
		}
	}
}

func TestSharedKeys_claimsHoldNothingElse(t *testing.T) {
	keys, err := verify.NewSharedKeys([]verify.SharedKey{{Name: "new", Secret: sharedSecret}})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := keys.Verify([]string{sharedSecret})
	_, issued := c.IssuedAt()
	_, notBefore := c.NotBefore()
	texts := c.Resource() + c.Issuer() + c.Audience() + c.KeyID() + c.Subject() + c.ID() + string(c.JSON())
	if c.HasToken() || issued || notBefore || !c.ExpiresAt().IsZero() || texts != "" {
		t.Errorf("claims of a key say %q", texts)
	}
}

func TestSharedKeys_weak(t *testing.T) {
	for what, keys := range map[string][]verify.SharedKey{
		"short":                {{Name: "a", Secret: sharedSecret[1:]}},
		"long":                 {{Name: "a", Secret: strings.Repeat("x", 513)}},
		"characters to escape": {{Name: "a", Secret: sharedSecret + "+"}},
		"no ASCII":             {{Name: "a", Secret: sharedSecret + "é"}},
		"line feed":            {{Name: "a", Secret: sharedSecret + "\n"}},
		"no name":              {{Name: "", Secret: sharedSecret}},
		"name with a dot":      {{Name: "a.b", Secret: sharedSecret}},
		"name twice":           {{Name: "a", Secret: sharedSecret}, {Name: "a", Secret: otherSecret}},
		"secret twice":         {{Name: "a", Secret: sharedSecret}, {Name: "b", Secret: sharedSecret}},
	} {
		if _, err := verify.NewSharedKeys(keys); err == nil || strings.Contains(err.Error(), keys[0].Secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
