package publish

import (
	"errors"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish/journal"
)

// Reasons for the dead-letter file: a closed set, used as a metric label.
const (
	reasonCorrupt    = "corrupt" // the journal's bytes are not what was written
	reasonTooLarge   = natsconn.TooLarge
	reasonBadSubject = natsconn.BadSubject
	reasonQuarantine = "quarantine" // the journal of the quarantine has no room, or a resource has too many conflicts
)

// permanent returns why a record can never be stored, or "": then an operator can
// mend it, and the journal waits.
func permanent(err error) (reason string) {
	if errors.Is(err, journal.ErrCorrupt) {
		return reasonCorrupt
	}
	return natsconn.Final(err)
}
