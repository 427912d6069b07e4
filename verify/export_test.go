package verify

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// CheckSignature is Verify without the claims, which test vectors for signatures do
// not have: form, header, key filter, key, signature.
func CheckSignature(keySet []byte, token string) error {
	set, err := readKeySet(keySet, nil)
	if err != nil {
		return err
	}
	parts, err := split(token)
	if err != nil {
		return err
	}
	h, err := readHeader(parts.header)
	if err != nil {
		return err
	}
	set.began = time.Now()
	var keys keyring
	keys.current.Store(set)
	key, _ := keys.held(h.kid)
	if key == nil {
		return errors.New("no such key")
	}
	return parts.checkSignature(key)
}

// ReadObject returns what readObject reads.
func ReadObject(data []byte) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	err := readObject(data, func(name string, value jsontext.Value) error {
		members[name] = json.RawMessage(value.Clone())
		return nil
	})
	return members, err
}

// SetMaxBindings sets the number of tokens that a Verifier remembers.
func SetMaxBindings(v *Verifier, limit int) { v.reuse.limit = limit }
