package faults_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
)

const (
	// purseSize tokens are in use at a time, and each is replaced after
	// purseSize × mintEvery. To sign one takes as long as a callback, so each is used
	// several times, and the bridges have --token-reuse=off.
	purseSize = 512
	mintEvery = 20 * time.Millisecond
	// tokenLife is the longest that a bridge accepts.
	tokenLife = 10 * time.Minute
)

// token is a signed token and its jti, which a stored event has.
type token struct{ id, text string }

// purse is a pool of good tokens.
type purse struct {
	issuer *acstest.Issuer

	mu     sync.Mutex
	tokens []token
	next   int
}

func newPurse(t testing.TB, issuer *acstest.Issuer) *purse {
	t.Helper()
	p := &purse{issuer: issuer, tokens: make([]token, purseSize)}
	for i := range p.tokens {
		made, err := p.mint()
		if err != nil {
			t.Fatal(err)
		}
		p.tokens[i] = made
	}
	return p
}

func (p *purse) mint() (token, error) {
	id := uuid.NewString()
	text, err := p.issuer.Sign(acstest.TokenSpec{
		Audience: acstest.DemoAudience, Lifetime: tokenLife, Claims: map[string]any{"jti": id},
	})
	return token{id, text}, err
}

// refresh replaces the oldest token repeatedly until ctx ends.
func (p *purse) refresh(ctx context.Context) error {
	for i := 0; sleep(ctx, mintEvery); i = (i + 1) % purseSize {
		made, err := p.mint()
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.tokens[i] = made
		p.mu.Unlock()
	}
	return nil
}

// take returns the token that was taken the longest ago.
func (p *purse) take() token {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = (p.next + 1) % purseSize
	return p.tokens[p.next]
}

// forgeries are the kinds of bad tokens, except for an unknown key, which may be answered
// 503.
var forgeries = []acstest.TokenSpec{
	{Forge: acstest.ForgeKey},
	{Forge: acstest.ForgeSignature},
	{Forge: acstest.ForgeAlgNone},
	{Forge: acstest.ForgeHMAC},
	{Lifetime: -time.Hour},
	{Lifetime: 24 * time.Hour},
	{Audience: "5aba7c7e-0000-4de0-9f00-0acab0a7de00"},
	{Issuer: "https://issuer.example"},
}

// forge returns a bad token.
func (p *purse) forge() (token, error) {
	spec := forgeries[rand.IntN(len(forgeries))]
	if spec.Audience == "" {
		spec.Audience = acstest.DemoAudience
	}
	id := uuid.NewString()
	spec.Claims = map[string]any{"jti": id}
	text, err := p.issuer.Sign(spec)
	return token{id, text}, err
}
