package publish

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
)

// missingRight is a permission error of NATS without the end of its subject.
type missingRight struct{ text string }

func (e *missingRight) Error() string { return e.text }

// Unwrap says what kind of error it is.
func (e *missingRight) Unwrap() error { return nats.ErrPermissionViolation }

// Tokens of a subject that may be told. Those of events end in the call's id.
// Those of JetStream's API name the right that is missing, and after the
// operation and the stream ("$JS.API.STREAM.INFO.ACS") anything can follow.
const (
	tokensTold    = 2
	apiTokensTold = 5
	apiPrefix     = "$JS."
)

// discreet returns an error of the client as it may be logged and shown to
// operators: without the call's id, which stands in the subject that the server
// quotes when a right is missing.
func discreet(err error) error {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	before, rest, quoted := strings.Cut(err.Error(), `"`)
	if !quoted {
		return err
	}
	end := strings.LastIndexByte(rest, '"')
	if end < 0 {
		end = len(rest) // cut off: no less of it is secret
	}
	return &missingRight{before + `"` + shown(rest[:end]) + `"`}
}

// shown is what may be shown of a subject.
func shown(subject string) string {
	tokens, told := strings.Split(subject, "."), tokensTold
	if strings.HasPrefix(subject, apiPrefix) {
		told = apiTokensTold
	}
	if len(tokens) > told {
		tokens = append(tokens[:told], "…")
	}
	return strings.Join(tokens, ".")
}
