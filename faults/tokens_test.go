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
	// purseSize × mintEvery. Signing one takes as long as everything else that
	// happens to a callback, so a token serves several of them, and the
	// bridges run with --token-reuse=off.
	purseSize = 512
	mintEvery = 20 * time.Millisecond
	// tokenLife is the longest that a bridge takes.
	tokenLife = 10 * time.Minute
)

// token is a signed token and the jti by which a stored event names it.
type token struct{ id, text string }

// purse hands out good tokens.
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

// refresh replaces the oldest token again and again until ctx ends.
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

// take returns a token that was not given out for the last purseSize times.
func (p *purse) take() token {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = (p.next + 1) % purseSize
	return p.tokens[p.next]
}

// forgeries are the ways in which a forged callback's token is bad. One of an
// unknown key is not among them: for a while it is rightly answered 503.
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

// renew replaces every token by one of the present key.
func (p *purse) renew(t testing.TB) {
	t.Helper()
	fresh := make([]token, purseSize)
	for i := range fresh {
		made, err := p.mint()
		if err != nil {
			t.Fatal(err)
		}
		fresh[i] = made
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens = fresh
}
