package natsconn

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Reasons for which a message can never be stored: see [Final].
const (
	TooLarge   = "too_large"   // for the server or the stream
	BadSubject = "bad_subject" // NATS cannot carry it
)

// Final returns why a message whose publish failed can never be stored, however
// often it is tried: [TooLarge] or [BadSubject]. It is empty for errors that
// concern every message, like a missing right or a missing stream: an operator
// can fix those.
func Final(err error) (reason string) {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), Code(err) == codeMessageTooLarge, Code(err) == codeHeaderTooLarge:
		return TooLarge
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, jetstream.ErrInvalidSubject):
		return BadSubject
	}
	return ""
}

// Codes of JetStream's errors (nats-server, errors.json).
const (
	codeMessageTooLarge = 10054
	codeHeaderTooLarge  = 10097
	// CodeWrongStream refuses a message that names another stream in
	// Nats-Expected-Stream.
	CodeWrongStream = 10060
	// CodeTTLDisabled refuses a TTL in a stream that does not allow one (ADR-43).
	CodeTTLDisabled = 10166
)

// Code returns the error code of a refusal by JetStream, zero for other errors.
func Code(err error) jetstream.ErrorCode {
	var js jetstream.JetStreamError
	if errors.As(err, &js) && js.APIError() != nil {
		return js.APIError().ErrorCode
	}
	return 0
}

// Broken reports whether an error comes from the connection: it says nothing
// about the stream.
func Broken(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrJetStreamPublisherClosed)
}

// DisconnectedError reports that a context has ended before NATS was connected.
type DisconnectedError struct {
	Ended error // of the context
	Cause error // what the last attempt said, with a remedy; nil when that is not known
}

func (e *DisconnectedError) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap returns both errors.
func (e *DisconnectedError) Unwrap() []error { return []error{e.Ended, e.Cause} }

// ErrNoAnswer reports a request that was not answered in time.
var ErrNoAnswer = errors.New("no answer")

// Unanswered reports whether an error says that no answer came in time. Most
// often a right is missing: see [Link.Violation].
func Unanswered(err error) bool {
	return errors.Is(err, ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrAsyncPublishTimeout)
}

// remedies are those of refusals by JetStream, by its error code (nats-server,
// errors.json). Those that concern one message alone are in [Final].
var remedies = map[jetstream.ErrorCode]string{
	10002: "the account has used up what it may: raise its limits, or bound the stream with --stream-max-bytes",
	10005: "the cluster has no room for the stream on enough servers: lower --stream-replicas, or add servers",
	10008: "JetStream is starting or elects a leader: this is tried again",
	10009: "JetStream is starting or elects a leader: this is tried again",
	10023: "the server has too little room: raise its JetStream limits, or bound the stream with --stream-max-bytes",
	10025: "the server does not know a setting of the stream: it must be nats-server 2.11 or newer",
	10027: "the account has as many streams as it may: raise its limit, or let the operator make the stream",
	10028: "the server has too little memory for JetStream",
	10039: "turn JetStream on for the account of this login, or name the domain where it is with --nats-domain",
	10047: "the server or the account has too little disk for the stream: raise max_file_store or the account's limit, or bound the stream with --stream-max-bytes",
	10052: "the server refuses a setting of the stream: --stream-duplicate-window above its limit or --stream-max-age, most often",
	10058: "another bridge has made it with other settings: give all bridges the same",
	10059: "it was deleted or never made: the bridge makes it when it has the right to, else let the operator make it",
	10060: "another stream takes these subjects: remove them there, or choose another --subject-prefix",
	10065: "another stream takes these subjects: remove them there, or choose another --subject-prefix, or name that stream with --stream",
	10074: "this NATS is one server: set --stream-replicas 1",
	10076: "turn JetStream on in the server, or name the domain where it is with --nats-domain",
	10077: "the stream has no room: raise --stream-max-bytes, or the limits of the account or the disk of the server",
	10109: "the stream is sealed: name another one with --stream",
	10113: "the account wants a bound: set --stream-max-bytes",
	10118: "the server that has the stream does not know one of its settings: upgrade it",
	10120: "the account has no JetStream limits for so many replicas: change --stream-replicas, or the account",
	10122: "the account bounds streams to less: lower --stream-max-bytes",
	10167: "the server has too much to store at once: this is tried again",
}

// WithRemedy adds the remedy to an error of NATS.
func WithRemedy(err error) error { return withRemedy(err, "") }

// withRemedy names the settings of the login with a prefix: see [Config].
func withRemedy(err error, prefix string) error {
	var remedy string
	switch {
	case err == nil:
		return nil
	case Code(err) != 0:
		remedy = remedies[Code(err)]
	case errors.Is(err, nats.ErrPermissionViolation):
		remedy = "give this login the right to it (docs/operations.md, Rights in NATS)"
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		remedy = "no stream takes these subjects: it was deleted, or its subjects are others"
	case errors.Is(err, nats.ErrNoResponders):
		remedy = "JetStream is off, its domain is another (--nats-domain), or this login's account does not reach it"
	case Unanswered(err):
		remedy = "the server or the stream's leader does not answer, its domain is another (--nats-domain), or a right is missing"
	default:
		remedy = connectRemedy(err, cmp.Or(prefix, "nats-"))
	}
	if remedy == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, remedy)
}

// connectRemedy returns the remedy for an error of connecting.
func connectRemedy(err error, login string) string {
	var unknownName *net.DNSError
	var header tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var remote *net.OpError // an alert of TLS has no exported type
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is NATS running there? --nats-url names the server"
	case errors.As(err, &unknownName):
		return "the name of the server in --nats-url cannot be looked up here"
	case errors.As(err, &authority):
		return "its certificate is signed by an authority that is not known here: name it with --nats-ca"
	case errors.As(err, &host):
		return "its certificate is for another name than the one in --nats-url"
	case errors.As(err, &invalid):
		return "renew its certificate, or check the clock of this host"
	case errors.As(err, &header), errors.Is(err, nats.ErrSecureConnWanted):
		return "the server does not speak TLS there: name it as nats://, or turn its TLS on"
	case errors.Is(err, nats.ErrSecureConnRequired):
		return "the server wants TLS: name it as tls:// in --nats-url"
	case errors.As(err, &remote) && remote.Op == "remote error", errors.Is(err, nats.ErrTLS):
		return "the server refuses this client in TLS: it may want a certificate (--nats-cert, --nats-key)"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrNkeysNotSupported), errors.Is(err, nkeys.ErrNoSeedFound):
		return fmt.Sprintf("check the login: --%[1]suser and --%[1]spassword-file, --%[1]screds, --%[1]snkey, --%[1]stoken-file, or --%[1]scontext", login)
	case errors.Is(err, nats.ErrNoInfoReceived):
		return "what answers there does not speak NATS"
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "the server does not answer: is it NATS, and can it be reached from here?"
	}
	return ""
}

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
