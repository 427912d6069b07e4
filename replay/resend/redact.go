package resend

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Redactor replaces what can identify the participants of a call by pseudonyms. A value
// has the same pseudonym everywhere, so calls and their legs can still be
// distinguished and joined. A pseudonym has the form of its value: a GUID is a GUID, a
// telephone number is one in +999, which is not assigned.
//
// The members that are kept are listed and all others are replaced, so that a member
// that ACS adds later is replaced. Structure, types, times, states and result codes are
// kept. What callers pressed or said, the application's own context, result messages
// and all claims are not, except for what [Redactor.Keep] names.
//
// A Redactor is not safe for concurrent use.
type Redactor struct {
	key  []byte
	keep []*keptPath
}

// keptPath is a path of [Redactor.Keep], and whether a message had it.
type keptPath struct {
	path  string
	names []string
	found bool
}

// NewRedactor returns a redactor. Pseudonyms are made with the key: with it, and only
// with it, telephone numbers can be tried until one fits.
func NewRedactor(key []byte) *Redactor { return &Redactor{key: key} }

// Keep adds what is not replaced: a member of the data with everything in it, such as
// data.operationContext or data.dtmfResult.tones; a parameter of the callback URL's
// query, as query.NAME; its path below the bridge's, as path. Elements of an array have
// the path of the array. A secret is always replaced.
func (r *Redactor) Keep(path string) error {
	names := strings.Split(path, ".")
	kind, _ := schemas.PII(names[len(names)-1], true)
	switch {
	case names[0] == "data" && kind == schemas.PIISecret:
		return fmt.Errorf("%q is a secret, which is always replaced", path)
	case path == "path", len(names) == 2 && names[0] == "query" && names[1] != "":
	case len(names) < 2 || names[0] != "data" || slices.Contains(names, ""):
		return fmt.Errorf("%q is not the path of a member; write it like data.operationContext, query.NAME or path", path)
	}
	r.keep = append(r.keep, &keptPath{path: path, names: names})
	return nil
}

// Unused returns the paths of [Redactor.Keep] that no message has had so far.
func (r *Redactor) Unused() (paths []string) {
	for _, k := range r.keep {
		if !k.found {
			paths = append(paths, k.path)
		}
	}
	return paths
}

// keeps reports whether a member is kept, by itself or in another one.
func (r *Redactor) keeps(path ...string) bool {
	for _, k := range r.keep {
		if len(path) >= len(k.names) && slices.Equal(path[:len(k.names)], k.names) {
			k.found = true
			return true
		}
	}
	return false
}

// keepsMember is [Redactor.keeps] for a member of the payload.
func (r *Redactor) keepsMember(path [][]byte) bool {
	if len(path) == 0 || string(path[0]) != "data" {
		return false
	}
	names := make([]string, 0, len(path))
	for _, name := range path {
		if kind, _ := schemas.PII(string(name), true); kind == schemas.PIISecret {
			return false
		}
		names = append(names, string(name))
	}
	return r.keeps(names...)
}

// redactionKeySize is that of the hash that pseudonyms are made with.
const redactionKeySize = sha256.Size

// LoadRedactionKey reads the key of pseudonyms from a file, and makes the file when
// it is absent. Without a path it returns a key that is not kept.
func LoadRedactionKey(path string) ([]byte, error) {
	fresh := make([]byte, redactionKeySize)
	_, _ = rand.Read(fresh) // never fails
	if path == "" {
		return fresh, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = file.Write(fresh)
		return fresh, errors.Join(err, file.Close())
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := secretfile.Check(path); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(path)
	if err == nil && len(key) < redactionKeySize {
		err = fmt.Errorf("%s holds %d bytes, at least %d are needed", path, len(key), redactionKeySize)
	}
	return key, err
}

// Messages returns messages with pseudonyms. It ends with the first one that cannot
// be redacted.
func (r *Redactor) Messages(original iter.Seq2[*replay.StoredMessage, error]) iter.Seq2[*replay.StoredMessage, error] {
	return func(yield func(*replay.StoredMessage, error) bool) {
		for m, err := range original {
			if err == nil {
				m, err = r.Message(m)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Headers whose value is kept, and those whose value is replaced. Others are left out.
var (
	keptHeaders = []string{
		schemas.HeaderContentType, schemas.HeaderEventType, schemas.HeaderEventTime, schemas.HeaderTokenIssuer,
		schemas.HeaderTokenExpires, schemas.HeaderTokenIssuedAt, schemas.HeaderTokenNotBefore,
		schemas.HeaderResource, schemas.HeaderReceivedAt, schemas.HeaderDeliveryIndex, schemas.HeaderQuarantineReason,
		schemas.HeaderExpiresAt, schemas.HeaderGridDeliveryCount, schemas.HeaderGridDataVersion, schemas.HeaderGridMetadataVersion,
	}
	replacedHeaders = []string{schemas.HeaderEventID, schemas.HeaderEventSource, schemas.HeaderDeliveryID, schemas.HeaderTokenAudience}
)

// Message returns a message with pseudonyms. It fails when the payload is not JSON.
func (r *Redactor) Message(m *replay.StoredMessage) (*replay.StoredMessage, error) {
	rewriter := replay.JSONRewriter{
		Text: r.member,
		Name: func(dst, name []byte) []byte { return r.quoted(dst, name, r.name) },
		Number: func(dst, number []byte) []byte {
			if len(number) >= longNumber {
				return append(dst, '0')
			}
			return append(dst, number...)
		},
	}
	if len(r.keep) > 0 {
		rewriter.Keep = r.keepsMember
	}
	data, err := rewriter.Rewrite(nil, m.Data)
	if err != nil {
		return nil, fmt.Errorf("sequence %d cannot be redacted: %w", m.Sequence, err)
	}
	out := *m
	out.Data, out.Header = data, make(nats.Header)
	for name, values := range m.Header {
		for _, value := range values {
			switch {
			case slices.Contains(keptHeaders, name):
				out.Header.Add(name, value)
			case slices.Contains(replacedHeaders, name):
				out.Header.Add(name, r.text(value))
			case name == schemas.HeaderPath:
				out.Header.Add(name, r.path(value))
			case name == schemas.HeaderQuery:
				out.Header.Add(name, r.query(value))
			}
		}
	}
	left := slices.DeleteFunc(m.Truncated(), func(name string) bool { return out.Header[name] == nil })
	if len(left) > 0 {
		out.Header.Set(schemas.HeaderTruncated, strings.Join(left, ","))
	}
	if call := m.CallToken(); call != "" {
		before := strings.TrimSuffix(m.Subject, call)
		if subject, _ := schemas.ParseSubject(m.Subject); subject.Slot != "" {
			before = strings.TrimSuffix(before, subject.Slot+".")
		}
		out.Subject = schemas.WithSlot(before + schemas.Token(r.text(call)))
	}
	return &out, nil
}

// member appends what replaces the text of a member: nothing personal is in those of
// the service's own, by [schemas.PII].
func (r *Redactor) member(dst, member, text []byte, depth int) []byte {
	switch kind, ok := schemas.PII(string(member), depth > 1); {
	case ok && kind == schemas.PIINone:
		return append(dst, text...)
	case string(member) == "tones" || string(member) == "tone":
		return append(dst, `"zero"`...) // a pseudonym for each of 16 tones would be no secret
	}
	return r.quoted(dst, text, r.text)
}

// quoted appends the replacement of a text that has its quotes.
func (r *Redactor) quoted(dst, text []byte, replace func(string) string) []byte {
	plain, err := jsontext.AppendUnquote(nil, text)
	if err != nil { // nothing is kept of invalid UTF-8
		plain = nil
	}
	dst, _ = jsontext.AppendQuote(dst, replace(string(plain)))
	return dst
}

// memberName matches names as ACS gives them to members; others can be the name or
// number of a person.
var memberName = regexp.MustCompile(`^[A-Za-z][A-Za-z_]{0,63}[0-9]{0,3}[A-Za-z]*$`)

func (r *Redactor) name(name string) string {
	if memberName.MatchString(name) {
		return name
	}
	return r.text(name)
}

// longNumber is the length from which a number can be a telephone number.
const longNumber = 7

var (
	guid    = regexp.MustCompile(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`)
	phone   = regexp.MustCompile(`^\+?[0-9]{5,}$`)
	rawID   = regexp.MustCompile(`^([0-9]{1,2}:(?:(?:acs|dod-acs|gcch-acs|orgid|dod|gcch|teamsvisitor):)?)(.+)$`) // 4:+49…, 8:acs:…
	sources = regexp.MustCompile(`^/?calling/(?:callConnections|recordings)/.`)                                   // of calls, recordings
)

// text returns the pseudonym of a text.
func (r *Redactor) text(s string) string {
	if _, err := schemas.Timestamp(s).Time(); s == "" || err == nil {
		return s
	}
	switch {
	case guid.MatchString(s):
		h := r.hash(strings.ToLower(s))
		h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // version 8 of RFC 9562: made by a rule of one's own
		x := hex.EncodeToString(h[:16])
		return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
	case phone.MatchString(s):
		h := r.hash(strings.TrimPrefix(s, "+"))
		var n uint64
		for _, b := range h[:8] {
			n = n<<8 | uint64(b)
		}
		return "+999" + fmt.Sprintf("%011d", n%1e11)
	case sources.MatchString(s):
		return r.source(s)
	}
	if parts := rawID.FindStringSubmatch(s); parts != nil {
		list := strings.Split(parts[2], "_")
		for i := range list {
			list[i] = r.text(list[i])
		}
		return parts[1] + strings.Join(list, "_")
	}
	s = strings.TrimRight(s, "=") // an id in base64 comes with its padding and without
	return "x" + hex.EncodeToString(r.hash(s)[:10])
}

// source returns the pseudonym of an event's source: that of a call's id is the
// same as elsewhere.
func (r *Redactor) source(s string) string {
	segments := strings.Split(s, "/")
	ids := 0
	for i, segment := range segments {
		switch segment {
		case "", "calling", "callConnections", "recordings":
			continue
		}
		// An event's name may follow the ids.
		if ids++; ids > 1 && i == len(segments)-1 && strings.HasPrefix(segment, "Recording") {
			continue
		}
		segments[i] = r.text(segment)
	}
	return strings.Join(segments, "/")
}

// path returns the path of a callback URL with a pseudonym for each segment, so that an
// id in it is the same as elsewhere.
func (r *Redactor) path(path string) string {
	if r.keeps("path") {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if plain, err := url.PathUnescape(segment); err == nil {
			segment = plain
		}
		segments[i] = url.PathEscape(r.text(segment))
	}
	return strings.Join(segments, "/")
}

// query returns the query of a callback URL with a pseudonym for each value, in the
// order of its parameters.
func (r *Redactor) query(query string) string {
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		name, value, hasValue := strings.Cut(parameter, "=")
		plainName, err := url.QueryUnescape(name)
		if err != nil {
			plainName = name
		}
		if r.keeps("query", plainName) {
			continue
		}
		parameters[i] = url.QueryEscape(r.name(plainName))
		if hasValue {
			if plain, err := url.QueryUnescape(value); err == nil {
				value = plain
			}
			parameters[i] += "=" + url.QueryEscape(r.text(value))
		}
	}
	return strings.Join(parameters, "&")
}

func (r *Redactor) hash(s string) []byte {
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(s))
	return mac.Sum(nil)
}
