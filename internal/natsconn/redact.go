package natsconn

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
)

// permissionError is a permission violation with a redacted subject.
type permissionError struct{ text string }

func (e *permissionError) Error() string { return e.text }

func (e *permissionError) Unwrap() error { return nats.ErrPermissionViolation }

// How many tokens of a subject are shown. The subject of an event ends in the id
// of its call. A subject of JetStream's API names the missing right, and after
// the operation and the stream ("$JS.API.STREAM.INFO.ACS") anything can follow.
const (
	shownTokens    = 2
	shownAPITokens = 5
	apiPrefix      = "$JS."
)

// RedactSubject cuts off what may identify a call.
func RedactSubject(subject string) string {
	tokens, shown := strings.Split(subject, "."), shownTokens
	if strings.HasPrefix(subject, apiPrefix) {
		shown = shownAPITokens
	}
	if len(tokens) > shown {
		tokens = append(tokens[:shown], "…")
	}
	return strings.Join(tokens, ".")
}

// redact makes an error of the client safe for logs and operators: the server
// quotes the whole subject when a right is missing.
func redact(err error) error {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	before, rest, quoted := strings.Cut(err.Error(), `"`)
	if !quoted {
		return err
	}
	end := strings.LastIndexByte(rest, '"')
	if end < 0 {
		end = len(rest) // the server cut the text off inside the subject
	}
	return &permissionError{before + `"` + RedactSubject(rest[:end]) + `"`}
}
