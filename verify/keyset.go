package verify

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

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

// keySet is the outcome of one good fetch. It never changes, so requests read
// it without a lock.
type keySet struct {
	keys   map[string]any  // by kid, as keyfunc picks them
	listed map[string]bool // kids that the issuer names, also those with a key of no use
	causes []string        // why members of the list are of no use, one each

	cached bool      // an older answer than our question: see keyServer.read
	began  time.Time // when the fetch began
	number uint64    // of the fetch: see keyring
}

// member is a member of a JWK set (RFC 7517, section 4), without the
// certificates: they prove nothing that TLS to the pinned origin does not, and
// one that does not parse must not cost its key.
type member struct {
	KeyType    string   `json:"kty"`
	Use        string   `json:"use"`
	Operations []string `json:"key_ops"`
	Algorithm  string   `json:"alg"`
	KeyID      string   `json:"kid"`
	N          string   `json:"n"`
	E          string   `json:"e"`

	// Issuer is a member that Entra ID adds (RFC 7517, section 4, lets it). Of
	// other servers it may be of any type.
	Issuer any `json:"issuer"`
}

// readKeySet reads a JWK set member by member, so that a strange one costs
// itself and not the others. A set without a usable key is an error: from an
// honest server it would mean that no token is good any more, which is less
// likely than a fault on the way. Of a key set of Entra ID, which has keys of
// other issuers, those are of no use.
func readKeySet(document []byte, entra *Entra) (*keySet, error) {
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &list); err != nil {
		return nil, errors.New("it is not one JSON object with a list of keys")
	}
	set := &keySet{keys: map[string]any{}, listed: map[string]bool{}}
	storage := jwkset.NewMemoryStorage()
	for _, raw := range list.Keys {
		key, err := set.readMember(raw, entra)
		if err != nil {
			set.causes = append(set.causes, err.Error())
			continue
		}
		if err := storage.KeyWrite(context.Background(), key); err != nil {
			return nil, fmt.Errorf("store a key: %w", err)
		}
	}
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("none of its %d keys is of use", len(list.Keys))
	}
	return set, set.pick(storage)
}

// pick asks keyfunc for the key of every kid. The set never changes, so each
// is asked for once and not for every token.
func (s *keySet) pick(storage jwkset.Storage) error {
	keys, err := keyfunc.New(keyfunc.Options{Storage: storage})
	if err != nil {
		return err
	}
	for kid := range s.keys {
		token := &jwt.Token{Header: map[string]any{"alg": algorithm, "kid": kid}}
		if s.keys[kid], err = keys.Keyfunc(token); err != nil {
			return fmt.Errorf("pick a key: %w", err)
		}
	}
	return nil
}

// readMember reads one key. The kid of one that is of no use is kept: its
// tokens are the issuer's, so they cannot be called surely bad.
func (s *keySet) readMember(raw json.RawMessage, entra *Entra) (jwkset.JWK, error) {
	var m member
	err := json.Unmarshal(raw, &m)
	if !validKeyID(m.KeyID) {
		return jwkset.JWK{}, errors.New("no kid that a token could name")
	}
	if _, known := s.keys[m.KeyID]; known {
		return jwkset.JWK{}, errors.New("the kid of an earlier key")
	}
	s.listed[m.KeyID] = true
	if err != nil {
		return jwkset.JWK{}, errors.New("not a JWK")
	}
	if entra != nil && entra.foreignKey(m.Issuer) {
		return jwkset.JWK{}, errors.New("a key of another issuer")
	}
	if len(s.keys) == maxKeys {
		return jwkset.JWK{}, errors.New("too many keys")
	}
	key, err := m.key()
	if err != nil {
		return jwkset.JWK{}, err
	}
	s.keys[m.KeyID] = nil // picked when all are stored
	return key, nil
}

// key returns the RSA key of a member that may check RS256 signatures. Of all
// that jwkset would take, weak keys and keys for encryption must not be used
// (RFC 7517, sections 4.2 and 4.3; RFC 8725, section 3.5).
func (m member) key() (jwkset.JWK, error) {
	switch {
	case m.KeyType != "RSA":
		return jwkset.JWK{}, errors.New("not an RSA key")
	case m.Use != "" && m.Use != "sig":
		return jwkset.JWK{}, errors.New("not for signatures")
	case m.Operations != nil && !slices.Contains(m.Operations, "verify"):
		return jwkset.JWK{}, errors.New("not for checking signatures")
	case m.Algorithm != "" && m.Algorithm != algorithm:
		return jwkset.JWK{}, errors.New("not for RS256")
	}
	key, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
		KTY: jwkset.KtyRSA,
		KID: m.KeyID,
		N:   m.N,
		E:   m.E,
	}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, errors.New("broken numbers")
	}
	public, ok := key.Key().(*rsa.PublicKey)
	switch {
	case !ok:
		return jwkset.JWK{}, errors.New("not an RSA public key")
	case public.N.BitLen() < minKeyBits || public.N.BitLen() > maxKeyBits:
		return jwkset.JWK{}, errors.New("not 2048 to 8192 bits")
	case public.N.Bit(0) == 0 || public.E%2 == 0: // jwkset has refused an e of 1
		return jwkset.JWK{}, errors.New("not the numbers of an RSA key")
	}
	return key, nil
}
