package acstest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Bearer says what a callback carries for a token. The zero value is a good
// one; each of the others is one thing wrong with it.
type Bearer string

// The bearers. Only [BearerGood] may be answered 200.
const (
	BearerGood          Bearer = ""
	BearerExpired       Bearer = "expired"        // ended an hour ago
	BearerForged        Bearer = "forged"         // known kid, signed by another key
	BearerWrongAudience Bearer = "wrong-audience" // meant for another resource
	BearerUnknownKid    Bearer = "unknown-kid"    // names a key nobody published
	BearerAlgNone       Bearer = "alg-none"       // unsigned, and says so
	BearerAlgHMAC       Bearer = "alg-hmac"       // the public key used as a shared secret
	BearerDayLong       Bearer = "day-long"       // 24 h, as ACS gives to WebSockets
	BearerMissing       Bearer = "missing"        // no Authorization header at all
)

// hostileBearers are all but the good one.
var hostileBearers = []Bearer{
	BearerExpired, BearerForged, BearerWrongAudience, BearerUnknownKid,
	BearerAlgNone, BearerAlgHMAC, BearerDayLong, BearerMissing,
}

// check refuses a bearer that is none of the above.
func (b Bearer) check() error {
	if b == BearerGood || slices.Contains(hostileBearers, b) {
		return nil
	}
	names := make([]string, 0, len(hostileBearers))
	for _, h := range hostileBearers {
		names = append(names, string(h))
	}
	return fmt.Errorf("unknown bearer %q (one of %s)", b, strings.Join(names, ", "))
}

// Want is the status that a callback with this bearer must be answered with.
func (b Bearer) Want() int {
	if b == BearerGood {
		return http.StatusOK
	}
	return http.StatusUnauthorized
}

// accepts reports whether status is a right answer. A bridge that has just
// asked for new keys cannot tell an unknown kid from one rotated in since, so
// there 503 is as right as 401.
func (b Bearer) accepts(status int) bool {
	return status == b.Want() || b == BearerUnknownKid && status == http.StatusServiceUnavailable
}

// token describes the token for an audience. Not for [BearerMissing].
func (b Bearer) token(audience string) TokenSpec {
	spec := TokenSpec{Audience: audience}
	switch b {
	case BearerExpired:
		spec.Now = time.Now().Add(-time.Hour)
	case BearerForged:
		spec.Forge = ForgeKey
	case BearerWrongAudience:
		spec.Audience = uuid.NewString()
	case BearerUnknownKid:
		spec.Forge = ForgeUnknownKid
	case BearerAlgNone:
		spec.Forge = ForgeAlgNone
	case BearerAlgHMAC:
		spec.Forge = ForgeHMAC
	case BearerDayLong:
		spec.Lifetime = 24 * time.Hour
	}
	return spec
}
