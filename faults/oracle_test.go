package faults_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/acsbridge/acsbridge/schemas"
)

// evidence is everything that was sent, and everything that is stored once all faults
// have ended and the journal is empty.
type evidence struct {
	calls   [][]*callback // of each call, in the order of sending
	stream  []*message    // both streams, whole
	dead    []*message    // dead letters
	claims  claims        // that every stored event must show
	canary  string        // is in every hostile callback, and in no other
	deadFor string        // the reason for which events may be dead letters; empty for none
	others  map[int]int   // answers to requests that are in no call
	// damaged counts the records of an event that were damaged on the disk: it may be
	// lost if there are as many dead letters.
	damaged map[string]int
}

type claims struct{ resource, issuer, audience string }

// violation is one broken promise.
type violation struct{ rule, what, story string }

func (v violation) String() string { return fmt.Sprintf("%s: %s\n%s", v.rule, v.what, v.story) }

// Rules of the oracle.
const (
	ruleStored   = "O1 answered 200, so stored once, unchanged, with its claims"
	ruleRefused  = "O2 refused for good only what is bad"
	ruleRetried  = "O3 O4 not answered 200 yet, so stored at most once; in the end answered 200"
	ruleHostile  = "O5 nothing forged is stored"
	ruleOrder    = "O6 the order of a call is kept"
	ruleForeign  = "O7 nothing is stored that was not sent"
	ruleDeadOnce = "O1 dead letters are only what the stream cannot take"
)

// oracle checks the evidence.
type oracle struct {
	evidence
	copies  map[string][]*message // by message id
	letters map[string][]*message // dead letters, by message id
	found   []violation
}

// violations returns every broken promise in the evidence.
func violations(e evidence) []violation {
	o := &oracle{evidence: e, copies: make(map[string][]*message), letters: make(map[string][]*message)}
	for _, m := range e.stream {
		id := m.get(schemas.HeaderMsgID)
		o.copies[id] = append(o.copies[id], m)
	}
	corrupt := 0
	o.dead = nil
	for _, m := range e.dead {
		if m.get("reason") == "corrupt" { // it has no id
			corrupt++
			continue
		}
		o.dead = append(o.dead, m)
		id := m.get(schemas.HeaderMsgID)
		o.letters[id] = append(o.letters[id], m)
	}
	damaged := 0
	for _, n := range e.damaged {
		damaged += n
	}
	if corrupt != damaged {
		o.found = append(o.found, violation{ruleDeadOnce, "the corrupt dead letters are not the damaged records",
			fmt.Sprintf("    %d records damaged, %d dead letters\n", damaged, corrupt)})
	}
	sent := make(map[string]bool)
	for _, call := range e.calls {
		for _, c := range call {
			for i := range c.events {
				sent[c.events[i].msgID] = true
				o.event(c, &c.events[i], i)
			}
			o.answers(c)
		}
	}
	o.order()
	o.content(sent)
	return o.found
}

func (o *oracle) report(rule string, c *callback, e *event, format string, args ...any) {
	o.found = append(o.found, violation{rule, fmt.Sprintf(format, args...), story(c, e, o.copies[e.msgID])})
}

// event checks the nth event of its callback.
func (o *oracle) event(c *callback, e *event, n int) {
	copies := o.copies[e.msgID]
	if c.kind != good {
		if len(copies) > 0 || len(o.letters[e.msgID]) > 0 {
			o.report(ruleHostile, c, e, "stored although %s", c.kind)
		}
		return
	}
	_, answered := c.stored()
	switch {
	case len(copies) > 1:
		o.report(ruleStored, c, e, "stored %d times", len(copies))
	case answered && len(copies) == 0 && len(o.letters[e.msgID]) == 0 && o.damaged[e.msgID] == 0:
		o.report(ruleStored, c, e, "answered 200 and lost")
	}
	for _, m := range o.letters[e.msgID] {
		if reason := m.get("reason"); o.deadFor == "" || reason != o.deadFor {
			o.report(ruleDeadOnce, c, e, "a dead letter for %q", reason)
		}
	}
	for _, m := range copies {
		o.copy(c, e, n, m)
	}
}

// copy checks one stored event: its bytes, its subject and its headers.
func (o *oracle) copy(c *callback, e *event, n int, m *message) {
	if !bytes.Equal(m.data, e.payload) {
		o.report(ruleStored, c, e, "stored with other bytes:\n    sent   %q\n    stored %q", e.payload, m.data)
	}
	token := slices.IndexFunc(c.attempts, func(a attempt) bool { return a.token == m.get(schemas.HeaderTokenID) })
	if token < 0 {
		o.report(ruleStored, c, e, "stored with a token that was not sent with it")
	}
	for _, want := range [][2]string{
		{schemas.HeaderResource, o.claims.resource},
		{schemas.HeaderTokenIssuer, o.claims.issuer},
		{schemas.HeaderTokenAudience, o.claims.audience},
		{schemas.HeaderPath, c.path},
		{schemas.HeaderQuery, c.query},
		{schemas.HeaderDeliveryIndex, strconv.Itoa(n) + "/" + strconv.Itoa(len(c.events))},
	} {
		if got := m.get(want[0]); got != want[1] {
			o.report(ruleStored, c, e, "stored with %s %q, not %q", want[0], got, want[1])
		}
	}
}

// answers checks the statuses of a callback. 503 and no answer are always allowed, and
// the sender retries; hostile callbacks are not sent again.
func (o *oracle) answers(c *callback) {
	want := map[kind]int{good: http.StatusOK, forged: http.StatusUnauthorized, astray: http.StatusNotFound}[c.kind]
	for _, a := range c.attempts {
		switch a.status {
		case want, 0, http.StatusServiceUnavailable:
		default:
			o.report(ruleRefused, c, &c.events[0], "%s, and answered %d", c.kind, a.status)
		}
	}
	if _, answered := c.stored(); c.kind == good && !answered {
		o.report(ruleRetried, c, &c.events[0], "never answered 200, in %d attempts", len(c.attempts))
	}
}

// storedEvent is an event that was answered 200, and its place in the stream.
type storedEvent struct {
	c        *callback
	e        *event
	answer   attempt
	sequence uint64
}

// order checks the events of each call: one that was answered before another was sent
// is stored before it. That is promised by one bridge: another one may still have the
// first event in its journal.
func (o *oracle) order() {
	stored := make(map[string][]storedEvent) // by call
	for _, c := range slices.Concat(o.calls...) {
		a, answered := c.stored()
		for i := range c.events {
			e := &c.events[i]
			if copies := o.copies[e.msgID]; answered && len(copies) > 0 {
				first := slices.MinFunc(copies, func(a, b *message) int { return cmp.Compare(a.sequence, b.sequence) })
				stored[e.connection] = append(stored[e.connection], storedEvent{c, e, a, first.sequence})
			}
		}
	}
	for _, list := range stored {
		answered := slices.SortedFunc(slices.Values(list), func(a, b storedEvent) int { return a.answer.answered.Compare(b.answer.answered) })
		slices.SortStableFunc(list, func(a, b storedEvent) int { return a.c.attempts[0].sent.Compare(b.c.attempts[0].sent) })
		last := make(map[string]storedEvent) // by the bridge that answered
		for n, s := range list {
			for len(answered) > 0 && answered[0].answer.answered.Before(s.c.attempts[0].sent) {
				if a := answered[0]; a.sequence > last[a.answer.bridge].sequence {
					last[a.answer.bridge] = a
				}
				answered = answered[1:]
			}
			for bridge, before := range last {
				if s.sequence < before.sequence && s.c.onlyTo(bridge) {
					o.report(ruleOrder, s.c, s.e, "stored before this event, which was answered before it was sent:\n%s",
						story(before.c, before.e, o.copies[before.e.msgID]))
				}
			}
			if n > 0 && list[n-1].c == s.c && s.sequence < list[n-1].sequence {
				o.report(ruleOrder, s.c, s.e, "stored before the event in front of it in its callback, which is %s", list[n-1].e.msgID)
			}
		}
	}
}

// content searches everything that is stored for events that were not sent, and for
// the canary.
func (o *oracle) content(sent map[string]bool) {
	for _, m := range slices.Concat(o.stream, o.dead) {
		id := m.get(schemas.HeaderMsgID)
		where := fmt.Sprintf("    %s %d  %s  %s  %s\n", m.stream, m.sequence, m.time.Local().Format(clock), m.subject, id)
		if !sent[id] {
			o.found = append(o.found, violation{ruleForeign, fmt.Sprintf("%s was not sent: %q", id, m.data), where})
		}
		if o.hostile(m) {
			o.found = append(o.found, violation{ruleHostile, "content of a hostile callback is stored", where})
		}
	}
}

func (o *oracle) hostile(m *message) bool {
	if bytes.Contains(m.data, []byte(o.canary)) || bytes.Contains([]byte(m.subject), []byte(o.canary)) {
		return true
	}
	for _, values := range m.header {
		for _, v := range values {
			if bytes.Contains([]byte(v), []byte(o.canary)) {
				return true
			}
		}
	}
	return false
}
