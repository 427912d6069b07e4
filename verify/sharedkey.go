package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
)

// Bounds of a shared key.
const (
	// MinSharedKey characters have 128 bits or more, also in hex.
	MinSharedKey = 32
	maxSharedKey = 512
)

// SharedKey is a secret in the URL that a sender was configured with.
type SharedKey struct {
	// Name identifies the key in metrics. It has the form of a resource's name.
	Name string
	// Secret has 32 to 512 characters that need no escaping in a URL: letters,
	// digits and -._~ (RFC 3986, section 2.3).
	Secret string
}

var unreserved = regexp.MustCompile(`^[A-Za-z0-9._~-]*$`)

// Check reports what is wrong with a key. The error does not repeat the secret.
func (k SharedKey) Check() error {
	switch {
	case !resourceName.MatchString(k.Name):
		return fmt.Errorf("a key's name is 1 to 64 letters, digits, _ or -, not %q", k.Name)
	case len(k.Secret) < MinSharedKey:
		return fmt.Errorf("key %s has %d characters, at least %d are needed; openssl rand -hex 32 makes one", k.Name, len(k.Secret), MinSharedKey)
	case len(k.Secret) > maxSharedKey:
		return fmt.Errorf("key %s has %d characters, at most %d are taken", k.Name, len(k.Secret), maxSharedKey)
	case !unreserved.MatchString(k.Secret):
		return fmt.Errorf("key %s has characters that a URL must escape; take letters, digits, - . _ ~", k.Name)
	}
	return nil
}

// SharedKeys are the keys that requests may have. The zero value has none.
type SharedKeys struct {
	names   []string
	digests [][sha256.Size]byte
}

// NewSharedKeys returns keys, any of which is good, so that a key can be replaced
// without a gap.
func NewSharedKeys(keys []SharedKey) (SharedKeys, error) {
	var s SharedKeys
	names, secrets := make(map[string]bool), make(map[string]bool)
	for _, key := range keys {
		if err := key.Check(); err != nil {
			return SharedKeys{}, err
		}
		if names[key.Name] || secrets[key.Secret] {
			return SharedKeys{}, errors.New("key " + key.Name + ": name or secret given twice")
		}
		names[key.Name], secrets[key.Secret] = true, true
		s.names = append(s.names, key.Name)
		s.digests = append(s.digests, sha256.Sum256([]byte(key.Secret)))
	}
	return s, nil
}

// Asked reports whether requests need a key.
func (s *SharedKeys) Asked() bool { return len(s.digests) > 0 }

// Find returns the name of the key that a request has, and whether it has one.
// Two values are none: of two, a proxy and the bridge might each take a different
// one. All digests are compared, in constant time, so that the duration reveals
// neither the length of a key nor how much of it is right.
func (s *SharedKeys) Find(values []string) (name string, ok bool) {
	if len(values) != 1 {
		return "", false
	}
	digest := sha256.Sum256([]byte(values[0]))
	for i := range s.digests {
		if subtle.ConstantTimeCompare(digest[:], s.digests[i][:]) == 1 {
			name, ok = s.names[i], true
		}
	}
	return name, ok
}

// Verify returns the claims of a sender with a good key. They prove the sender, for
// [Claims.ForResource], and hold nothing else.
func (s *SharedKeys) Verify(values []string) (*Claims, bool) {
	if _, ok := s.Find(values); !ok {
		return nil, false
	}
	return &Claims{sender: true}, true
}
