package ingest

import (
	"strings"

	"github.com/acsbridge/acsbridge/verify"
)

// KeyParameter is the parameter of the callback URL's query that carries a
// callback key. It is cut out before anything is stored.
const KeyParameter = "acsbridge-key"

// CallbackKey is a secret that an application puts into its callback URL. The
// token says that ACS sends on behalf of a resource; the key says that the
// callback is for this bridge, and not for another application of the resource,
// whose tokens are just as good.
type CallbackKey = verify.SharedKey

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
