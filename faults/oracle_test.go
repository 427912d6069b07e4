package faults_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/acsbridge/acsbridge/schemas"
)

// evidence is what the oracle judges: everything that was sent, and everything
// that is there once all faults are mended and the journal is empty.
type evidence struct {
	calls    [][]*callback // of each call, in the order in which they were sent
	stream   []*message    // both streams, whole
	aside    []*message    // the dead-letter file
	claims   claims        // that every stored event must show
	canary   string        // stands in everything hostile, and nowhere else
	deadFor  string        // the reason for which events may be set aside; empty for none
	unjudged map[int]int   // answers to what was posted and is in no call
	// damaged counts the records of an event that were damaged on the disk: it
	// may be lost, if as many dead letters say so.
	damaged map[string]int
}

// claims are those of every good token.
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
	ruleDeadOnce = "O1 set aside only what the stream cannot take"
)

// oracle judges the evidence.
type oracle struct {
	evidence
	copies map[string][]*message // by message id
	set    map[string][]*message // aside, by message id
	found  []violation
}

// judge returns every broken promise that the evidence shows.
func judge(e evidence) []violation {
	o := &oracle{evidence: e, copies: make(map[string][]*message), set: make(map[string][]*message)}
	for _, m := range e.stream {
		id := m.get(schemas.HeaderMsgID)
		o.copies[id] = append(o.copies[id], m)
	}
	corrupt := 0
	o.aside = nil
	for _, m := range e.aside {
		if m.get("reason") == "corrupt" { // nothing else is known of it
			corrupt++
			continue
		}
		o.aside = append(o.aside, m)
		id := m.get(schemas.HeaderMsgID)
		o.set[id] = append(o.set[id], m)
	}
	damaged := 0
	for _, n := range e.damaged {
		damaged += n
	}
	if corrupt != damaged {
		o.found = append(o.found, violation{ruleDeadOnce, "what is set aside as corrupt is not what was damaged",
			fmt.Sprintf("    %d records damaged, %d set aside\n", damaged, corrupt)})
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
		o.order(call)
	}
	o.together()
	o.content(sent)
	return o.found
}

func (o *oracle) report(rule string, c *callback, e *event, format string, args ...any) {
	o.found = append(o.found, violation{rule, fmt.Sprintf(format, args...), story(c, e, o.copies[e.msgID])})
}

// event judges what became of the nth event of its callback.
func (o *oracle) event(c *callback, e *event, n int) {
	copies := o.copies[e.msgID]
	if c.kind != good {
		if len(copies) > 0 || len(o.set[e.msgID]) > 0 {
			o.report(ruleHostile, c, e, "stored although %s", c.kind)
		}
		return
	}
	_, answered := c.stored()
	switch {
	case len(copies) > 1:
		o.report(ruleStored, c, e, "stored %d times", len(copies))
	case answered && len(copies) == 0 && len(o.set[e.msgID]) == 0 && o.damaged[e.msgID] == 0:
		o.report(ruleStored, c, e, "answered 200 and lost")
	}
	for _, m := range o.set[e.msgID] {
		if reason := m.get("reason"); o.deadFor == "" || reason != o.deadFor {
			o.report(ruleDeadOnce, c, e, "set aside as %q", reason)
		}
	}
	for _, m := range copies {
		o.copy(c, e, n, m)
	}
}

// copy judges one stored event: its bytes, its subject and its headers.
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

// answers judges the statuses that a callback got. 503 and no answer at all are
// always allowed, to be followed by another attempt; a hostile callback is not
// sent again.
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

// place is where an event is stored.
type place struct {
	c        *callback
	e        *event
	sequence uint64
}

// order judges a call: its callbacks were sent one after the other, each after
// the answer to the one before. The promise is one bridge's: another one may
// still have the earlier callback in its journal.
func (o *oracle) order(call []*callback) {
	last := make(map[string]map[string]place) // by connection and the bridge that answered
	for _, c := range call {
		within := make(map[string]place) // by connection
		for i := range c.events {
			e := &c.events[i]
			for _, m := range o.copies[e.msgID] {
				for bridge, before := range last[e.connection] {
					if m.sequence < before.sequence && c.onlyTo(bridge) {
						o.report(ruleOrder, c, e, "stored before this one, which was answered before it was sent:\n%s",
							story(before.c, before.e, o.copies[before.e.msgID]))
					}
				}
				before := within[e.connection]
				if m.sequence < before.sequence {
					o.report(ruleOrder, c, e, "stored before the event in front of it in its callback, which is %s", before.e.msgID)
				}
				within[e.connection] = place{c, e, max(m.sequence, before.sequence)}
			}
		}
		a, answered := c.stored()
		for connection, p := range within {
			if answered && last[connection] == nil {
				last[connection] = make(map[string]place)
			}
			if answered && p.sequence > last[connection][a.bridge].sequence {
				last[connection][a.bridge] = p
			}
		}
	}
}

// content searches everything that is stored for what nobody may have stored.
func (o *oracle) content(sent map[string]bool) {
	for _, m := range slices.Concat(o.stream, o.aside) {
		id := m.get(schemas.HeaderMsgID)
		where := fmt.Sprintf("    %s %d  %s  %s  %s\n", m.stream, m.sequence, m.time.Local().Format(clock), m.subject, id)
		if !sent[id] {
			o.found = append(o.found, violation{ruleForeign, fmt.Sprintf("nobody sent %s: %q", id, m.data), where})
		}
		if o.hostile(m) {
			o.found = append(o.found, violation{ruleHostile, "what only hostile callbacks hold is stored", where})
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
