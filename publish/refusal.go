package publish

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/publish/journal"
)

// Reasons for the dead-letter file: a closed set, used as a metric label.
const (
	reasonCorrupt    = "corrupt"     // the journal's bytes are not what was written
	reasonTooLarge   = "too_large"   // for the server or the stream
	reasonBadSubject = "bad_subject" // not one that NATS can carry
	reasonQuarantine = "quarantine"  // the journal of the quarantine has no room, or a resource has too many conflicts
)

// Codes of JetStream's errors that a record can never get past.
const (
	codeMessageTooLarge = 10054
	codeHeaderTooLarge  = 10097
)

// codeWrongStream is JetStream's refusal of a message that names another stream in
// Nats-Expected-Stream.
const codeWrongStream = 10060

// permanent returns why a record can never be stored, or "". Errors that
// concern every record, like missing rights or a stream of another name, are
// not among them: those are mended by an operator, and the journal waits.
func permanent(err error) (reason string) {
	var api *jetstream.APIError
	var js jetstream.JetStreamError
	if errors.As(err, &js) {
		api = js.APIError()
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, journal.ErrCorrupt):
		return reasonCorrupt
	case errors.Is(err, nats.ErrMaxPayload):
		return reasonTooLarge
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, jetstream.ErrInvalidSubject):
		return reasonBadSubject
	case api != nil && (api.ErrorCode == codeMessageTooLarge || api.ErrorCode == codeHeaderTooLarge):
		return reasonTooLarge
	}
	return ""
}

// broken reports whether an error comes from the connection: it says nothing about
// the stream.
func broken(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrJetStreamPublisherClosed)
}
