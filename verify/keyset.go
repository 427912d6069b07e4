package verify

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// Bounds of a key. RFC 7518 section 3.3 asks for 2048 bits; beyond 8192 a
// check would cost more than the callback.
const (
	minKeyBits = 2048
	maxKeyBits = 8192
	maxKeys    = 32 // issuers publish two to six
)

// readKeySet reads a JWK set key by key, so that a key that is not usable does not
// cost the others. A set without a usable key is an error: it is more likely a
// fault of the server or on the way than the end of every token. The key sets of
// Entra ID also have keys of other issuers, which are not usable.
func readKeySet(document []byte, entra *Entra) (*keySet, error) {
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &list); err != nil {
		return nil, errors.New("it is not one JSON object with a list of keys")
	}
	set := &keySet{kids: make(map[string]any)}
	storage := jwkset.NewMemoryStorage()
	var usable []string
	for _, raw := range list.Keys {
		key, err := set.read(raw, usable, entra)
		if err != nil {
			set.skipped = append(set.skipped, err.Error())
			continue
		}
		if err := storage.KeyWrite(context.Background(), key); err != nil {
			return nil, fmt.Errorf("store a key: %w", err)
		}
		usable = append(usable, key.Marshal().KID)
	}
	if len(usable) == 0 {
		return nil, &NoUsableKeyError{len(list.Keys)}
	}
	keys, err := keyfunc.New(keyfunc.Options{Storage: storage})
	if err != nil {
		return nil, err
	}
	for _, kid := range usable { // once a fetch, not for each token
		if set.kids[kid], err = keys.Keyfunc(&jwt.Token{Header: map[string]any{"alg": algorithm, "kid": kid}}); err != nil {
			return nil, err
		}
	}
	set.held = len(usable)
	return set, nil
}

// jwk is a key of a JWK set (RFC 7517, section 4), without the certificates: they
// prove nothing that TLS to the pinned origin does not, and one that does not
// parse must not cost its key.
type jwk struct {
	KeyType    string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	KeyID      string   `json:"kid"`
	N          string   `json:"n"`
	E          string   `json:"e"`

	// Issuer is a member that Entra ID adds (RFC 7517, section 4, lets it). Other
	// servers may give it any type.
	Issuer any `json:"issuer"`
}

// read reads one key and decides whether it may check RS256 signatures: jwkset
// also takes weak keys and keys for encryption (RFC 7517, sections 4.2 and 4.3; RFC
// 8725, section 3.5). The kid of a key that may not is noted: tokens that name it
// are not certainly bad, since the issuer lists it.
func (s *keySet) read(raw json.RawMessage, usable []string, entra *Entra) (key jwkset.JWK, err error) {
	var k jwk
	err = json.Unmarshal(raw, &k)
	if !validKeyID(k.KeyID) {
		return key, errors.New("no kid that a token could name")
	}
	if slices.Contains(usable, k.KeyID) {
		return key, errors.New("the kid of an earlier key")
	}
	s.kids[k.KeyID] = nil
	switch {
	case err != nil:
		return key, errors.New("not a JWK")
	case entra != nil && entra.foreignKey(k.Issuer):
		return key, errors.New("a key of another issuer")
	case len(usable) == maxKeys:
		return key, errors.New("too many keys")
	case k.KeyType != "RSA":
		return key, errors.New("not an RSA key")
	case k.Use != "" && k.Use != "sig":
		return key, errors.New("not for signatures")
	case k.Operations != nil && !slices.Contains(k.Operations, "verify"):
		return key, errors.New("not for checking signatures")
	case k.Algorithm != "" && k.Algorithm != algorithm:
		return key, errors.New("not for RS256")
	}
	key, err = jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{KTY: jwkset.KtyRSA, KID: k.KeyID, N: k.N, E: k.E},
		jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key, errors.New("broken numbers")
	}
	public, ok := key.Key().(*rsa.PublicKey)
	switch {
	case !ok:
		return key, errors.New("not an RSA public key")
	case public.N.BitLen() < minKeyBits || public.N.BitLen() > maxKeyBits:
		return key, errors.New("not 2048 to 8192 bits")
	case public.N.Bit(0) == 0 || public.E%2 == 0: // jwkset has refused an e of 1
		return key, errors.New("not the numbers of an RSA key")
	}
	return key, nil
}
