package publish

import (
	"errors"
	"time"

	"github.com/acsbridge/acsbridge/internal/setting"
	"github.com/acsbridge/acsbridge/schemas"
)

// Bounds of a configuration that serves.
const (
	// minDuplicateWindow: with a shorter one, a retry with the same token may be
	// stored twice. maxDuplicateWindow: a longer one costs the server memory, and
	// after long outages the bridge reads the stream back anyway.
	minDuplicateWindow = time.Minute
	maxDuplicateWindow = 24 * time.Hour
	// minStreamAge keeps a typing error from throwing events away.
	minStreamAge = time.Minute
	// MaxReplicas is the limit of JetStream.
	MaxReplicas = 5
	// minStore is the least size at which a store is not full at once: a few
	// callbacks of 256 KiB.
	minStore = 1 << 20
	// maxAckWait leaves a second of the five within which ACS gets an answer.
	maxAckWait = 4 * time.Second
)

// Check returns what is wrong with the options, each as an error of a setting of the
// command line. [Open] refuses what it refuses.
func (o Options) Check() error {
	var problems []error
	reject := func(name, format string, args ...any) {
		problems = append(problems, setting.Errorf(name, format, args...))
	}
	s := o.Stream.withDefaults()
	if !schemas.ValidToken(s.Name) || s.Name == schemas.QuarantineStream {
		reject("stream", "%q is not a usable name; take 1 to 64 letters, digits, _ or -, and not %s", s.Name, schemas.QuarantineStream)
	}
	if !schemas.ValidToken(s.Prefix) || s.Prefix == schemas.QuarantinePrefix {
		reject("subject-prefix", "%q is not a usable token; take 1 to 64 letters, digits, _ or -, and not %s", s.Prefix, schemas.QuarantinePrefix)
	}
	if o.InsecureLimits {
		return errors.Join(problems...)
	}
	limited := s.MaxAge != NoMaxAge
	if limited && s.MaxAge < minStreamAge {
		reject("stream-max-age", "%s is less than %s", s.MaxAge, minStreamAge)
	}
	switch {
	case s.Duplicates < minDuplicateWindow || s.Duplicates > maxDuplicateWindow:
		reject("stream-duplicate-window", "%s is not between %s and %s", s.Duplicates, minDuplicateWindow, maxDuplicateWindow)
	case limited && s.Duplicates > s.MaxAge:
		reject("stream-duplicate-window", "%s is longer than stream-max-age, %s; JetStream refuses that", s.Duplicates, s.MaxAge)
	}
	if s.MaxBytes != 0 && s.MaxBytes < minStore {
		reject("stream-max-bytes", "%d bytes are less than 1 MiB", s.MaxBytes)
	}
	if o.Journal.MaxBytes < minStore {
		reject("journal-max-bytes", "%d bytes are less than 1 MiB", o.Journal.MaxBytes)
	}
	if o.AckWait > maxAckWait || o.AckWait < NoAckWait {
		reject("ack-wait", "%s is not between 0s and %s", o.AckWait, maxAckWait)
	}
	return errors.Join(problems...)
}
