//go:build !race

package verify_test

import (
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
)

// A token may not cost more garbage than it does: docs/benchmarks.md.
func TestVerifier_allocations(t *testing.T) {
	const budget = 30
	issuer := newIssuer(t)
	v := start(t, config(issuer))
	token, err := issuer.Sign(acstest.TokenSpec{Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(200, func() {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	})
	if got > budget {
		t.Errorf("a token takes %g allocations, the budget is %d", got, budget)
	}
}
