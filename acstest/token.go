package acstest

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// tokenLifetime is how long a callback token of ACS lives.
// https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/secure-webhook-endpoint
const tokenLifetime = 5 * time.Minute

// TokenSpec describes one token. The zero value with an Audience is a good
// callback token: RS256, typ JWT, kid, iss, aud, iat, nbf, jti, and exp five minutes
// ahead. Microsoft does not document iat, nbf and jti for these tokens; a test of a
// verifier should also leave them out.
type TokenSpec struct {
	// Audience is the aud: the immutable resource ID.
	Audience string

	// Issuer is the iss. Empty means the issuer's own name.
	Issuer string

	// Now is the time of signing. Zero means the current time.
	Now time.Time

	// Lifetime is exp less Now. Zero means five minutes; a negative one makes
	// an expired token.
	Lifetime time.Duration

	// Claims are added to the claims or replace them. A nil value removes one.
	Claims map[string]any

	// Header does the same for the members of the header.
	Header map[string]any

	// Key signs instead of the issuer's key; the kid is the issuer's unless Header
	// has another. Nil means the issuer's key.
	Key *rsa.PrivateKey

	// Forge forges the token.
	Forge Forgery
}

// Forgery is a kind of forged token.
type Forgery int

// The forgeries.
const (
	ForgeNone       Forgery = iota
	ForgeSignature          // a good token with one bit of its signature flipped
	ForgeKey                // signed with a key that is not published, under a good kid
	ForgeUnknownKid         // signed with that key, under a kid that is not published
	ForgeAlgNone            // alg none and no signature
	ForgeHMAC               // HS256, keyed with the PEM of the issuer's public key
)

// Sign makes a token.
func (i *Issuer) Sign(spec TokenSpec) (string, error) {
	i.mu.Lock()
	signing := i.signing
	i.mu.Unlock()
	if spec.Key != nil {
		signing.private = spec.Key
	}

	token := jwt.NewWithClaims(jwt.SigningMethodRS256, i.claims(spec))
	token.Header["kid"] = signing.kid
	if err := i.forge(token, spec.Forge, &signing); err != nil {
		return "", err
	}
	replace(token.Header, spec.Header)
	return signed(token, spec.Forge, signing)
}

func (i *Issuer) claims(spec TokenSpec) jwt.MapClaims {
	now, lifetime, issuer := spec.Now, spec.Lifetime, spec.Issuer
	if now.IsZero() {
		now = time.Now()
	}
	if lifetime == 0 {
		lifetime = tokenLifetime
	}
	if issuer == "" {
		issuer = i.Name()
	}
	claims := jwt.MapClaims{
		"iss": issuer,
		"aud": spec.Audience,
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(lifetime).Unix(),
		// RS256 is deterministic: without an id, two tokens of one second would be
		// the same string, but ACS makes a new one for each event.
		"jti": uuid.NewString(),
	}
	replace(claims, spec.Claims)
	return claims
}

func (i *Issuer) forge(token *jwt.Token, forgery Forgery, signing *signingKey) error {
	switch forgery {
	case ForgeKey, ForgeUnknownKid:
		foreign, err := i.foreignKey()
		if err != nil {
			return fmt.Errorf("make a key that is not published: %w", err)
		}
		signing.private = foreign
		if forgery == ForgeUnknownKid {
			token.Header["kid"] = uuid.NewString()
		}
	case ForgeAlgNone:
		token.Method, token.Header["alg"] = jwt.SigningMethodNone, jwt.SigningMethodNone.Alg()
	case ForgeHMAC:
		token.Method, token.Header["alg"] = jwt.SigningMethodHS256, jwt.SigningMethodHS256.Alg()
	}
	return nil
}

// signed encodes and signs a token with its method.
func signed(token *jwt.Token, forgery Forgery, signing signingKey) (string, error) {
	var key any = signing.private
	switch forgery {
	case ForgeAlgNone:
		key = jwt.UnsafeAllowNoneSignatureType
	case ForgeHMAC:
		der, err := x509.MarshalPKIXPublicKey(&signing.private.PublicKey)
		if err != nil {
			return "", fmt.Errorf("encode the public key: %w", err)
		}
		key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	text, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	if forgery == ForgeSignature {
		return flipSignature(text)
	}
	return text, nil
}

func flipSignature(token string) (string, error) {
	dot := strings.LastIndexByte(token, '.') + 1
	signature, err := base64.RawURLEncoding.DecodeString(token[dot:])
	if err != nil {
		return "", fmt.Errorf("decode a signature: %w", err)
	}
	signature[len(signature)/2] ^= 1
	return token[:dot] + base64.RawURLEncoding.EncodeToString(signature), nil
}

// replace copies changes into members; a nil value removes its member.
func replace(members, changes map[string]any) {
	maps.Copy(members, changes)
	maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
}

// thumbprint returns the JWK thumbprint of a key (RFC 7638, section 3).
func thumbprint(public *rsa.PublicKey) (string, error) {
	jwk, err := publicJWK(public, "")
	if err != nil {
		return "", err
	}
	m := jwk.Marshal()
	sum := sha256.Sum256(fmt.Appendf(nil, `{"e":%q,"kty":"RSA","n":%q}`, m.E, m.N))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
