package faults_test

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// kind decides the answer to a callback.
type kind string

const (
	good   kind = "good"   // must be answered 200 in the end, and be stored once
	forged kind = "forged" // its token is bad in one way or another: 401
	astray kind = "astray" // a good token on an unknown path: 404
)

// event is one event as it was sent.
type event struct {
	msgID      string // its id in the stream
	connection string // its call: events of one are in order
	payload    []byte // its exact bytes
}

// callback is one POST with all its attempts, each with a token of its own.
type callback struct {
	call, number int // which call, and which callback of it
	kind         kind
	path, query  string // below the callback path
	events       []event
	attempts     []attempt
}

// attempt is one POST of a callback and its answer.
type attempt struct {
	sent, answered time.Time
	status         int    // zero without an answer
	err            string // why there is none
	bridge         string // the name of its journal
	token          string // jti of its token
	again          bool   // sent once more after a 200
}

// stored reports whether the callback was answered 200, and by which bridge
// and when first.
func (c *callback) stored() (a attempt, ok bool) {
	for _, a := range c.attempts {
		if a.status == http.StatusOK {
			return a, true
		}
	}
	return attempt{}, false
}

// onlyTo reports whether every attempt went to one bridge.
func (c *callback) onlyTo(bridge string) bool {
	for _, a := range c.attempts {
		if a.bridge != bridge {
			return false
		}
	}
	return true
}

// message is a message of a stream, or a dead letter.
type message struct {
	stream   string
	sequence uint64
	time     time.Time
	subject  string
	header   map[string][]string
	data     []byte
}

func (m *message) get(name string) string {
	if values := m.header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

const clock = "15:04:05.000000"

// story is everything known of an event, to find out why it is missing or there twice.
func story(c *callback, e *event, copies []*message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "    %s callback %d of call %d, event %s, %d bytes\n", c.kind, c.number, c.call, e.msgID, len(e.payload))
	for i, a := range c.attempts {
		outcome := a.err
		if a.status != 0 {
			outcome = fmt.Sprint(a.status)
		}
		if a.again {
			outcome += ", sent again"
		}
		fmt.Fprintf(&b, "    attempt %d  %s → %s  %s  bridge %s, token %s\n",
			i+1, a.sent.Format(clock), a.answered.Format(clock), outcome, a.bridge, a.token)
	}
	for _, m := range copies {
		fmt.Fprintf(&b, "    stored as %d  %s  %s  delivery %s, received %s, token %s\n",
			m.sequence, m.time.Local().Format(clock), m.subject, m.get("acs-delivery-id"), m.get("acs-received-at"), m.get("acs-token-jti"))
	}
	if len(copies) == 0 {
		b.WriteString("    not stored\n")
	}
	return b.String()
}
