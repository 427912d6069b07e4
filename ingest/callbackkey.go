package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
)

// KeyParameter is the parameter of the callback URL's query that carries a
// callback key. It is cut out before anything is stored.
const KeyParameter = "acsbridge-key"

// Bounds of a callback key.
const (
	// MinCallbackKey characters have 128 bits or more, also in hex.
	MinCallbackKey = 32
	maxCallbackKey = 512
)

// CallbackKey is a secret that an application puts into its callback URL. The
// token says that ACS sends on behalf of a resource; the key says that the
// callback is for this bridge, and not for another application of the resource,
// whose tokens are just as good.
type CallbackKey struct {
	// Name tells the keys apart in metrics. It is a token as in a subject.
	Name string
	// Secret has 32 to 512 characters that no URL needs to escape: letters,
	// digits and -._~ (RFC 3986, section 2.3).
	Secret string
}

// Check reports what is wrong with a key. The error does not repeat the secret.
func (k CallbackKey) Check() error {
	switch {
	case !schemas.ValidToken(k.Name):
		return fmt.Errorf("a callback key's name is 1 to 64 letters, digits, _ or -, not %q", k.Name)
	case len(k.Secret) < MinCallbackKey:
		return fmt.Errorf("callback key %s has %d characters, at least %d are needed; openssl rand -hex 32 makes one", k.Name, len(k.Secret), MinCallbackKey)
	case len(k.Secret) > maxCallbackKey:
		return fmt.Errorf("callback key %s has %d characters, at most %d are taken", k.Name, len(k.Secret), maxCallbackKey)
	case strings.ContainsFunc(k.Secret, func(r rune) bool { return !strings.ContainsRune(".~", r) && !schemas.ValidToken(string(r)) }):
		return fmt.Errorf("callback key %s has characters that a URL must escape; take letters, digits, - . _ ~", k.Name)
	}
	return nil
}

// callbackKeys finds out which key a request has.
type callbackKeys struct {
	names   []string
	digests [][sha256.Size]byte
}

func newCallbackKeys(keys []CallbackKey) (callbackKeys, error) {
	var c callbackKeys
	names, secrets := make(map[string]bool), make(map[string]bool)
	for _, key := range keys {
		if err := key.Check(); err != nil {
			return callbackKeys{}, err
		}
		if names[key.Name] || secrets[key.Secret] {
			return callbackKeys{}, errors.New("callback key " + key.Name + ": name or secret given twice")
		}
		names[key.Name], secrets[key.Secret] = true, true
		c.names = append(c.names, key.Name)
		c.digests = append(c.digests, sha256.Sum256([]byte(key.Secret)))
	}
	return c, nil
}

// find returns the name of the key that a request has, and whether it may go
// on: without any configured keys everyone may. Two values are none: of two, a
// proxy and the bridge might each believe a different one. Digests of one
// length are compared, all of them, so that the time taken tells neither the
// length of a key nor how much of it is right.
func (c *callbackKeys) find(values []string) (name string, ok bool) {
	if len(c.digests) == 0 {
		return "", true
	}
	if len(values) != 1 {
		return "", false
	}
	digest := sha256.Sum256([]byte(values[0]))
	for i := range c.digests {
		if subtle.ConstantTimeCompare(digest[:], c.digests[i][:]) == 1 {
			name = c.names[i]
		}
	}
	return name, name != ""
}

// splitKeys takes the values of [KeyParameter] out of a query and leaves the
// rest as it is, byte for byte. It does so without any configured keys as well:
// a URL may still have one when keys are no longer asked for.
func splitKeys(query string) (rest string, values []string) {
	if !strings.Contains(query, KeyParameter) {
		return query, nil
	}
	var others []string
	for parameter := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(parameter, "="); name == KeyParameter {
			values = append(values, value)
		} else {
			others = append(others, parameter)
		}
	}
	return strings.Join(others, "&"), values
}
