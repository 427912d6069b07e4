package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// SpecVersion is the only CloudEvents version that ACS sends and the bridge
// takes (CloudEvents 1.0, section 3.1 "specversion").
const SpecVersion = "1.0"

// TypePrefix starts the CloudEvents type of every ACS event.
const TypePrefix = "Microsoft.Communication."

// ContentTypeEvent is the media type of a message's payload: one event in the
// JSON format, structured mode.
const ContentTypeEvent = "application/cloudevents+json"

// maxMsgID is the longest Nats-Msg-Id in bytes that is sent unhashed. The
// server keeps every id of the duplicate window in memory, so it stays short.
const maxMsgID = 256

// Inbound is one event of a callback or of Event Grid: the attributes the bridge
// routes by, and the sender's own bytes. Only ID, Source and Type are sure to be
// there.
type Inbound struct {
	ID     string
	Source string
	Type   string // the full CloudEvents type, e.g. Microsoft.Communication.CallConnected
	Time   string // as sent, see [Timestamp]; empty when the event has none

	// CallConnectionID is data.callConnectionId, the stable id of one leg of a
	// call. Empty when the event has none or it is not a string.
	CallConnectionID string

	// Grid is what an event has of Event Grid, nil for one of a callback.
	Grid *GridEvent

	// Raw is the event's exact JSON.
	Raw []byte
}

// ShortType returns the last part of a CloudEvents type: "CallConnected" for
// "Microsoft.Communication.CallConnected".
func ShortType(ceType string) string {
	return ceType[strings.LastIndexByte(ceType, '.')+1:]
}

// MsgID returns the message id by which JetStream finds duplicates.
// CloudEvents 1.0 makes source and id together the identity of an event:
// "source#id". One of more than 256 bytes, one that is not visible ASCII, and
// one whose source has a '#' of its own, is replaced by a hex SHA-256 of
// the length of source, and of both.
func (e *Inbound) MsgID() string {
	id := e.Source + "#" + e.ID
	if len(id) > maxMsgID || !printable(id) || strings.Contains(e.Source, "#") {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d#%s", len(e.Source), id))
		return hex.EncodeToString(sum[:])
	}
	return id
}

// printable reports whether s is made of visible ASCII alone, so that it can
// be a header value unescaped.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// TypeIncomingCall is the event with which a call begins. It comes by Event
// Grid, before the call has a connection and callbacks.
const TypeIncomingCall = TypePrefix + "IncomingCall"

// RingTime is how long an incoming call can be answered after it began to ring.
// https://learn.microsoft.com/azure/communication-services/concepts/call-automation/incoming-call-notification
const RingTime = 30 * time.Second

// ContentTypeGridEvent is the media type of a payload in Event Grid's own
// schema, which has none of its own.
const ContentTypeGridEvent = "application/json"

// GridEvent is what an event has of Event Grid.
type GridEvent struct {
	// CorrelationID is the id of the call as long as it has no connection:
	// data.correlationId, or that in the event's subject ([SubjectIDs]). Empty
	// when the event has neither.
	CorrelationID string

	// OwnSchema says that the event is in Event Grid's own schema, not a
	// CloudEvent. Its topic, eventType and eventTime are Source, Type and Time.
	OwnSchema bool
}

// ContentType returns the media type of a message that carries the event.
func (e *Inbound) ContentType() string {
	if e.Grid != nil && e.Grid.OwnSchema {
		return ContentTypeGridEvent
	}
	return ContentTypeEvent
}

// Expires returns when an event that was received at a time stops being useful. Only
// an incoming call does: [RingTime] after it began to ring, by its own
// time unless that is missing or later than it was received.
func (e *Inbound) Expires(received time.Time) (at time.Time, ends bool) {
	if e.Grid == nil || e.Type != TypeIncomingCall {
		return time.Time{}, false
	}
	rang, err := Timestamp(e.Time).Time()
	if err != nil || rang.After(received) {
		rang = received
	}
	return rang.Add(RingTime), true
}
