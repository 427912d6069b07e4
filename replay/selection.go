package replay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Selection says which messages to read. The zero value is everything that the
// stream holds.
type Selection struct {
	Resource string   // name of the resource, as in the subject
	Types    []string // of the event, whole or only its last part: CallConnected
	Call     string   // callConnectionId; for Event Grid the correlationId

	// CallToken is the last token of the subjects as it stands there, in place of
	// Call: it also selects subjects with a GUID in capitals.
	CallToken string

	Since Position // the first message; zero is the first that is held
	Until Position // the last message; zero is the last that is held
	Limit int      // at most so many messages; zero means no limit

	// Follow continues at the end of the stream with the messages stored later, until
	// the context, Until or Limit ends it.
	Follow bool
}

// filter is the subject that the selected messages have, or "" when every
// message of the stream has to be read. One subject cannot select several types.
func (s *Selection) filter(prefix string) string {
	resource, shortType := "", ""
	if s.Resource != "" {
		resource = schemas.Token(s.Resource)
	}
	if len(s.Types) == 1 {
		shortType = typeToken(s.Types[0])
	}
	call := s.lastToken()
	if resource == "" && shortType == "" && call == "" {
		return ""
	}
	return schemas.SubjectFilter(prefix, resource, shortType, call)
}

// typeToken is the token of a type in the subjects.
func typeToken(eventType string) string { return schemas.Token(schemas.ShortType(eventType)) }

// selectsType reports whether a message has one of the types.
func (s *Selection) selectsType(m *StoredMessage) bool {
	if len(s.Types) == 0 {
		return true
	}
	subject, ok := schemas.ParseSubject(m.Subject)
	return ok && slices.ContainsFunc(s.Types, func(t string) bool { return typeToken(t) == subject.Type })
}

// lastToken is the last token of the subjects, or "" for any.
func (s *Selection) lastToken() string {
	if s.CallToken != "" || s.Call == "" {
		return s.CallToken
	}
	return schemas.CallToken(s.Call)
}

// after reports whether a message comes after the last one that is selected.
func (s *Selection) after(m *StoredMessage) bool {
	u := s.Until
	return u.Sequence > 0 && m.Sequence > u.Sequence || !u.Time.IsZero() && m.Time.After(u.Time)
}

// Position is a place in a stream: a sequence or a time, or neither.
type Position struct {
	Sequence uint64
	Time     time.Time
}

// ParsePosition reads a position as people write it: a duration before now such
// as 10m or 2d, a time, a sequence as seq:4711, or all for the zero position. A time
// has any form in which an event may have its own, so that it can be copied from
// there, or is a date; without an offset it is in the time zone of now.
func ParsePosition(text string, now time.Time) (Position, error) {
	if text == "all" {
		return Position{}, nil
	}
	if number, ok := strings.CutPrefix(text, "seq:"); ok {
		sequence, err := strconv.ParseUint(number, 10, 64)
		if err != nil || sequence == 0 {
			return Position{}, fmt.Errorf("%q is not a sequence; the first is seq:1", text)
		}
		return Position{Sequence: sequence}, nil
	}
	if ago, ok := parseAgo(text); ok {
		return Position{Time: now.Add(-ago)}, nil
	}
	if t, err := schemas.Timestamp(text + "Z").Time(); err == nil { // so it has no offset
		return Position{Time: time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())}, nil
	}
	if t, err := schemas.Timestamp(text).Time(); err == nil {
		return Position{Time: t}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return Position{Time: t}, nil
	}
	return Position{}, fmt.Errorf("%q is not a position; write a duration such as 10m or 2d, a time such as %s, a sequence such as seq:4711, or all",
		text, now.Format("2006-01-02T15:04"))
}

// parseAgo reads a duration in Go's notation, or in days.
func parseAgo(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 15)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	ago, err := time.ParseDuration(text)
	return ago, err == nil && ago >= 0
}
