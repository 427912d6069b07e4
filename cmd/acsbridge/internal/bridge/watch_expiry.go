package bridge

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/verify"
)

// expirySoon is how long before it expires a certificate or a login is warned of. Most
// are renewed 30 days before, so that by then a renewal has failed.
const expirySoon = 14 * 24 * time.Hour

// credential is something that is valid for a time only.
type credential struct {
	key, part string // closed sets
	name      string // what it is, and the setting that names it
	loss      string // what does not work without it
	read      func() (validity, error)
}

// validity is when something is valid. A zero time sets no bound.
type validity struct{ from, until time.Time }

// expiries checks the certificate for callbacks and the credentials for NATS.
func (b *Bridge) expiries() func(context.Context) []condition {
	metric := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "acsbridge_nats_credential_expiry_timestamp_seconds",
		Help: "When what the bridge needs to connect to NATS expires, as Unix time: client_certificate, user_jwt, certificate_authority.",
	}, []string{"credential"})
	b.registry.MustRegister(metric)
	list := credentials(b.settings, b.link, b.certificate)
	return func(context.Context) (found []condition) {
		for _, c := range list {
			valid, err := c.read()
			if c.part == "nats" && !valid.until.IsZero() {
				metric.WithLabelValues(c.key).Set(float64(valid.until.Unix()))
			}
			found = append(found, c.conditions(valid, err, time.Now())...)
		}
		return found
	}
}

// credentials are what a bridge has that is valid for a time only. The link is nil when
// NATS is not asked about, the certificate for plain HTTP.
func credentials(s *config.Settings, link *natsconn.Link, certificate *edge.Certificate) (list []credential) {
	const natsLoss = "NATS refuses the next connection"
	if link != nil {
		list = []credential{
			{"client_certificate", "nats", "the client certificate for NATS (--nats-cert, or of the context)", natsLoss, func() (validity, error) {
				chain, err := link.ClientCertificate()
				return ofChain(chain), err
			}},
			{"user_jwt", "nats", "the user JWT for NATS (--nats-creds, or of the context)", natsLoss, func() (validity, error) {
				token, err := link.UserJWT()
				return ofJWT(token), err
			}},
			{"certificate_authority", "nats", "the last certificate in --nats-ca", "the bridge trusts no NATS server any more", func() (validity, error) {
				return ofAuthorities(s.NatsCA)
			}},
		}
	}
	if certificate != nil {
		list = append(list, credential{"tls_certificate", "tls", "the certificate for callbacks (--tls-cert)", "ACS does not connect", func() (validity, error) {
			chain, problem := certificate.Chain()
			if problem != "" {
				return ofChain(chain), errors.New(problem)
			}
			return ofChain(chain), nil
		}})
	}
	return list
}

// conditions are the problems of a credential at a time.
func (c *credential) conditions(v validity, err error, now time.Time) (found []condition) {
	add := func(key, state, format string, args ...any) {
		found = append(found, condition{c.key + " " + key, note{c.part, c.name + " " + fmt.Sprintf(format, args...)}, state})
	}
	if err != nil {
		add("file", err.Error(), "cannot be read again, repair its files: %v", err)
	}
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
	switch {
	case now.Before(v.from):
		add("validity", "early", "is not valid before %s: %s; check this host's clock, or renew it", day(v.from), c.loss)
	case v.until.IsZero():
	case !now.Before(v.until):
		add("validity", "expired", "expired on %s: %s; renew it, a restart is not needed", day(v.until), c.loss)
	case v.until.Sub(now) < expirySoon:
		add("validity", "soon", "expires on %s, in %s: then %s; renew it, a restart is not needed", day(v.until), view.Plural(int(v.until.Sub(now).Hours()/24), "day"), c.loss)
	}
	return found
}

// keysOld is the age from which keys that cannot be fetched again are warned of: they
// are fetched more often than that, and used for a day.
const keysOld = time.Hour

// oldKeys checks for keys that are used although they cannot be fetched again.
func (b *Bridge) oldKeys(context.Context) (found []condition) {
	found = keyConditions("keys", "callbacks", b.verifier.Keys(), time.Now())
	if b.gridVerifier != nil {
		found = append(found, keyConditions("eventgrid", "deliveries of Event Grid", b.gridVerifier.Keys(), time.Now())...)
	}
	return found
}

// keyConditions are the problems of keys at a time.
func keyConditions(part, what string, keys verify.KeyStatus, now time.Time) []condition {
	age := now.Sub(keys.FetchedAt)
	if keys.Held == 0 || keys.LastError == nil || age < keysOld {
		return nil
	}
	return []condition{{part + " old", note{part, fmt.Sprintf(
		"not fetched for %s, and after 24h %s are answered 503: check the way to the key server: %v", age.Round(time.Minute), what, keys.LastError)}, ""}}
}

// ofChain returns when all certificates of a chain are valid: a client needs each
// of them. What cannot be parsed is skipped.
func ofChain(chain [][]byte) (v validity) {
	for _, der := range chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if certificate.NotBefore.After(v.from) {
			v.from = certificate.NotBefore
		}
		if v.until.IsZero() || certificate.NotAfter.Before(v.until) {
			v.until = certificate.NotAfter
		}
	}
	return v
}

// ofAuthorities returns until when a file of certificate authorities holds a valid
// one: old ones are often kept together with their successors.
func ofAuthorities(file string) (v validity, err error) {
	if file == "" {
		return v, nil
	}
	text, err := bom.ReadFile(file)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err == nil && certificate.NotAfter.After(v.until) {
			v.until = certificate.NotAfter
		}
	}
	if err == nil && v.until.IsZero() {
		err = fmt.Errorf("%s holds no certificate", file)
	}
	return v, err
}

// jwtPayload finds the claims of a JWT.
var jwtPayload = regexp.MustCompile(`^[\w-]+\.([\w-]+)\.[\w-]*$`)

// ofJWT returns when a JWT of NATS is valid; it is the server that verifies it.
func ofJWT(token string) (v validity) {
	var claims struct {
		Expires   int64 `json:"exp"`
		NotBefore int64 `json:"nbf"`
	}
	if m := jwtPayload.FindStringSubmatch(token); m != nil {
		if payload, err := base64.RawURLEncoding.DecodeString(m[1]); err == nil {
			_ = json.Unmarshal(payload, &claims) // the server refuses it
		}
	}
	if claims.Expires != 0 {
		v.until = time.Unix(claims.Expires, 0)
	}
	if claims.NotBefore != 0 {
		v.from = time.Unix(claims.NotBefore, 0)
	}
	return v
}
