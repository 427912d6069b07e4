package publish

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// Difference is a setting of a stream that is not as configured, or one that drops, hides
// or rewrites events, or loses what was acknowledged, whatever is configured.
type Difference struct {
	Text     string // with the consequence
	Unusable bool   // with such a stream events are lost or not forwarded
	Fixed    bool   // no update changes it: the stream has to be made anew, or another one named
}

// addDifference adds a difference when it is on.
type addDifference func(on bool, format string, args ...any)

// differences compares a stream with the configuration. The prefix is that of the events.
func differences(have, want jetstream.StreamConfig, prefix string) []Difference {
	list, left := configDifferences(have, want, prefix), configDifferences(updated(have, want, prefix), want, prefix)
	for i, d := range list {
		list[i].Fixed = have.Sealed || slices.Contains(left, d)
	}
	return list
}

// configDifferences returns the differences without Fixed.
func configDifferences(have, want jetstream.StreamConfig, prefix string) (list []Difference) {
	adder := func(unusable bool) addDifference {
		return func(on bool, format string, args ...any) {
			if on {
				list = append(list, Difference{Text: fmt.Sprintf(format, args...), Unusable: unusable})
			}
		}
	}
	add, unusable := adder(false), adder(true)
	differ := func(name string, h, w any, consequence string) {
		add(h != w, "%s: has %v, configured %v%s", name, h, w, consequence)
	}
	add(!slices.Equal(have.Subjects, want.Subjects), "subjects: has %v, configured %v; events on others are not stored, and those of others are", have.Subjects, want.Subjects)
	unusable(have.Retention != want.Retention, "retention: has %v, configured %v; it removes events that consumers have acknowledged, or that no consumer asks for", have.Retention, want.Retention)
	unusable(have.Storage != want.Storage, "storage: has %v, configured %v; it is empty when its server starts again", have.Storage, want.Storage)
	differ("discard", have.Discard, want.Discard, "; when the stream is full it refuses events, which wait in the journal")
	differ("replicas", have.Replicas, want.Replicas, "")
	differ("max age", have.MaxAge, want.MaxAge, "")
	differ("max bytes", have.MaxBytes, want.MaxBytes, "")
	differ("duplicate window", have.Duplicates, want.Duplicates, "")
	add(have.MaxMsgs > 0, "max messages: has %d, configured none; the oldest events are dropped beyond that", have.MaxMsgs)
	add(have.MaxMsgsPerSubject > 0, "max messages per subject: has %d, configured none; of a call's events of one type only the last %[1]d are kept", have.MaxMsgsPerSubject)
	unusable(have.DiscardNewPerSubject, "discard new per subject: has true; it refuses further events of a call, and forwarding stops there")
	n := have.MaxMsgSize
	add(n > 0 && n < MaxMessage, "max message size: has %d bytes; a message can have %d, and one that is too large goes to the dead-letter file", n, MaxMessage)
	add(have.Compression != jetstream.NoCompression, "compression: has %v, configured %v; a compressed stream may not come back when its server was killed or lost its power", have.Compression, want.Compression)
	add(!have.AllowDirect, "direct get: has false; after an outage of more than a quarter of the duplicate window, forwarding waits until it is allowed")
	endangers(have, prefix, add, unusable)
	return list
}

// endangers adds the settings that the bridge never makes and that endanger what
// it promises.
func endangers(have jetstream.StreamConfig, prefix string, add, unusable addDifference) {
	unusable(have.Sealed, "sealed: has true; the stream takes no events")
	unusable(have.Mirror != nil, "mirror: it copies another stream and takes no events of its own")
	add(len(have.Sources) > 0, "sources: it takes messages of %s, which the bridge has not verified", sourceNames(have))
	unusable(have.NoAck, "no ack: has true; such a stream never acknowledges, so the journal never empties")
	unusable(have.PersistMode == jetstream.AsyncPersistMode, "persist mode: has async; such a stream acknowledges before it writes and loses events when its server is killed")
	if t := have.SubjectTransform; t != nil {
		add(true, "subject transform: has %s to %s; consumers and commands do not find events under their subjects", t.Source, t.Destination)
	}
	if r := have.RePublish; r != nil {
		add(loops(r.Destination, prefix), "republish: has %s to %s; a copy of each event comes back to a stream of the bridge", r.Source, r.Destination)
	}
	add(have.AllowRollup, "rollup: has true; a message with the header Nats-Rollup removes stored events")
	unusable(have.AllowMsgCounter, "message counter: has true; the stream takes counters alone")
	add(have.SubjectDeleteMarkerTTL > 0, "subject delete marker: has %v; consumers get markers in the place of events that went", have.SubjectDeleteMarkerTTL)
}

func sourceNames(have jetstream.StreamConfig) string {
	var names []string
	for _, s := range have.Sources {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// loops reports whether what is republished there can come back to a stream of the
// bridge: under a prefix of theirs (prefix is that of the events), or under one that a token of the subject makes.
func loops(destination, prefix string) bool {
	first, _, _ := strings.Cut(destination, ".")
	return strings.ContainsAny(first, "*>{$") || first == schemas.QuarantinePrefix || first == prefix
}

// updated returns the configuration that --stream-update asks for: what differs is
// changed as far as a stream can be, and what the bridge has no setting for stays.
func updated(have, want jetstream.StreamConfig, prefix string) jetstream.StreamConfig {
	u := have
	u.Subjects, u.Replicas, u.MaxAge, u.MaxBytes = want.Subjects, want.Replicas, want.MaxAge, want.MaxBytes
	u.Duplicates, u.Compression, u.AllowDirect, u.Discard = want.Duplicates, want.Compression, want.AllowDirect, want.Discard
	u.MaxMsgs, u.MaxMsgsPerSubject, u.DiscardNewPerSubject = -1, -1, false
	u.NoAck, u.AllowRollup, u.SubjectDeleteMarkerTTL = false, false, 0
	u.SubjectTransform, u.Mirror, u.Sources = nil, nil, nil
	if have.MaxMsgSize > 0 && have.MaxMsgSize < MaxMessage {
		u.MaxMsgSize = -1
	}
	if have.Retention != jetstream.WorkQueuePolicy { // that one cannot be changed
		u.Retention = want.Retention
	}
	if r := have.RePublish; r != nil && loops(r.Destination, prefix) {
		u.RePublish = nil
	}
	return u
}
