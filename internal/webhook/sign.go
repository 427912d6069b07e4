package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// SecretPrefix begins a secret of Standard Webhooks; base64 follows.
const SecretPrefix = "whsec_"

// Bounds of a secret in bytes, behind the prefix and without base64
// (Standard Webhooks, "Signature scheme").
const (
	minSecret = 24
	maxSecret = 64
)

// Signer signs requests as Standard Webhooks has it, with the headers webhook-id,
// webhook-timestamp and webhook-signature
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
type Signer struct{ keys []*standardwebhooks.Webhook }

// NewSigner makes a signer that signs with each of the secrets, so that receivers can
// change from one to another. Its errors do not hold a secret.
func NewSigner(secrets ...string) (*Signer, error) {
	s := &Signer{}
	for i, secret := range secrets {
		text, ok := strings.CutPrefix(secret, SecretPrefix)
		raw, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(raw) < minSecret || len(raw) > maxSecret {
			return nil, fmt.Errorf("secret %d is not %s and %d to %d bytes in base64; make one with: echo %[2]s$(openssl rand -base64 32)",
				i+1, SecretPrefix, minSecret, maxSecret)
		}
		key, err := standardwebhooks.NewWebhookRaw(raw)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("there is no secret")
	}
	return s, nil
}

// Sign sets the headers of a request with this body. The id must be the same each time
// that the event is sent, since receivers find repetitions by it; it must not have a dot.
func (s *Signer) Sign(r *http.Request, id string, at time.Time, body []byte) error {
	signatures := make([]string, len(s.keys))
	for i, key := range s.keys {
		var err error
		if signatures[i], err = key.Sign(id, at, body); err != nil {
			return err
		}
	}
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}
