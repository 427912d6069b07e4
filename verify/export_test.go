package verify

import (
	"encoding/json"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// CheckSignature goes the way of Verify but for the claims: pre-check, key
// filter, key, signature. Test vectors for signatures sign no claims.
func CheckSignature(keySet []byte, token string) error {
	set, err := readKeySet(keySet, nil)
	if err != nil {
		return err
	}
	h, parts, err := (&Verifier{}).inspect(token)
	if err != nil {
		return err
	}
	key, known := set.keys[h.kid]
	if !known {
		return errors.New("no such key")
	}
	return parts.checkSignature(key)
}

// ReadObject collects what readObject reads.
func ReadObject(data []byte) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	err := readObject(data, func(name string, value jsontext.Value) error {
		members[name] = json.RawMessage(value.Clone())
		return nil
	})
	return members, err
}

// SetMaxBindings lowers the number of tokens that a Verifier remembers.
func SetMaxBindings(v *Verifier, limit int) { v.reuse.limit = limit }
