package faults_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// The parts of an invented history.
const (
	trueCanary = "canary-of-the-oracle-test"
	trueCalls  = 3
	trueEach   = 40 // callbacks of a call
)

var trueClaims = claims{"demo", "http://127.0.0.1:1", "audience"}

// truth returns the evidence of a run without faults, with retries, duplicates, hostile
// callbacks and several events in a callback.
func truth() evidence {
	e := evidence{claims: trueClaims, canary: trueCanary}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for n := range trueCalls {
		a := newAuthor(7, n, mix{forged: .2, astray: .1, several: .5, size: [2]int{0, 50}}, trueCanary)
		var call []*callback
		for i := range trueEach {
			c := a.next()
			try := func(status int) {
				at = at.Add(2 * time.Millisecond)
				c.attempts = append(c.attempts, attempt{sent: at, answered: at.Add(time.Millisecond), status: status,
					bridge: "bridge", token: fmt.Sprintf("token-%d-%d-%d", n, i, len(c.attempts))})
			}
			switch c.kind {
			case forged:
				try(http.StatusUnauthorized)
			case astray:
				try(http.StatusNotFound)
			default:
				for range i % 3 {
					try([]int{0, http.StatusServiceUnavailable}[i%2])
				}
				try(http.StatusOK)
				e.store(c, i%3)
			}
			call = append(call, c)
		}
		e.calls = append(e.calls, call)
	}
	return e
}

// store adds the events of a callback to the stream, with the token of an attempt.
func (e *evidence) store(c *callback, attempt int) {
	for i, sent := range c.events {
		header := map[string][]string{}
		for name, value := range map[string]string{
			schemas.HeaderMsgID: sent.msgID, schemas.HeaderTokenID: c.attempts[attempt].token,
			schemas.HeaderResource: trueClaims.resource, schemas.HeaderTokenIssuer: trueClaims.issuer, schemas.HeaderTokenAudience: trueClaims.audience,
			schemas.HeaderPath: c.path, schemas.HeaderQuery: c.query,
			schemas.HeaderDeliveryIndex: fmt.Sprintf("%d/%d", i, len(c.events)),
		} {
			header[name] = []string{value}
		}
		e.stream = append(e.stream, &message{
			stream: schemas.Stream, sequence: uint64(len(e.stream) + 1),
			subject: schemas.WithSlot("acs.demo.X." + c.path), header: header, data: slices.Clone(sent.payload),
		})
	}
}

// pick returns a good callback of the first call with so many attempts and several
// events, and the place of its first event in the stream.
func (e *evidence) pick(attempts int) (c *callback, place int) {
	for _, c := range e.calls[0] {
		if c.kind == good && len(c.attempts) == attempts && len(c.events) > 1 {
			return c, slices.IndexFunc(e.stream, func(m *message) bool { return m.get(schemas.HeaderMsgID) == c.events[0].msgID })
		}
	}
	panic("no such callback")
}

// hostile returns a forged callback.
func (e *evidence) hostile() *callback {
	return e.calls[0][slices.IndexFunc(e.calls[0], func(c *callback) bool { return c.kind == forged })]
}

func TestOracle_truth(t *testing.T) {
	for _, v := range violations(truth()) {
		t.Errorf("%s", v)
	}
}

// TestOracle_lies changes one thing in the truth: the oracle names the rule that it
// breaks, with the history of the event.
func TestOracle_lies(t *testing.T) {
	for name, test := range map[string]struct {
		rule string
		lie  func(e *evidence)
	}{
		"lost": {ruleStored, func(e *evidence) {
			_, i := e.pick(1)
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
		"lost after retries": {ruleStored, func(e *evidence) {
			_, i := e.pick(3)
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
		"stored twice": {ruleStored, func(e *evidence) {
			_, i := e.pick(1)
			e.stream = append(e.stream, e.stream[i])
		}},
		"never answered and stored twice": {ruleStored, func(e *evidence) {
			c, i := e.pick(1)
			c.attempts[0].status = 0
			e.stream = append(e.stream, e.stream[i])
		}},
		"altered": {ruleStored, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].data = slices.Concat(e.stream[i].data, []byte(" "))
		}},
		"another event's token": {ruleStored, func(e *evidence) {
			_, i := e.pick(1)
			_, j := e.pick(2)
			e.stream[i].header[schemas.HeaderTokenID] = e.stream[j].header[schemas.HeaderTokenID]
		}},
		"another resource": {ruleStored, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].header[schemas.HeaderResource] = []string{"contoso"}
		}},
		"another path": {ruleStored, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].header[schemas.HeaderPath] = []string{"other"}
		}},
		"good and refused": {ruleRefused, func(e *evidence) {
			c, _ := e.pick(2)
			c.attempts[0].status = http.StatusUnauthorized
		}},
		"forged and accepted": {ruleRefused, func(e *evidence) {
			e.hostile().attempts[0].status = http.StatusOK
		}},
		"never answered": {ruleRetried, func(e *evidence) {
			c, _ := e.pick(1)
			c.attempts[0].status = http.StatusServiceUnavailable
		}},
		"forged and stored": {ruleHostile, func(e *evidence) {
			e.store(e.hostile(), 0)
		}},
		"forged, in the payload of another": {ruleHostile, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].data = []byte(`{"x":"` + trueCanary + `"}`)
		}},
		"forged, in a header": {ruleHostile, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].header["traceparent"] = []string{trueCanary}
		}},
		"forged and a dead letter": {ruleHostile, func(e *evidence) {
			n := len(e.stream)
			e.store(e.hostile(), 0)
			e.dead, e.stream = e.stream[n:], e.stream[:n]
		}},
		"two callbacks in the wrong order": {ruleOrder, func(e *evidence) {
			_, i := e.pick(1)
			_, j := e.pick(3)
			e.stream[i].sequence, e.stream[j].sequence = e.stream[j].sequence, e.stream[i].sequence
		}},
		"two events of a callback in the wrong order": {ruleOrder, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].sequence, e.stream[i+1].sequence = e.stream[i+1].sequence, e.stream[i].sequence
		}},
		"foreign": {ruleForeign, func(e *evidence) {
			e.stream = append(e.stream, &message{sequence: 99999, data: []byte("{}"), header: map[string][]string{schemas.HeaderMsgID: {"not#sent"}}})
		}},
		"foreign without an id": {ruleForeign, func(e *evidence) {
			e.stream = append(e.stream, &message{sequence: 99999, data: []byte("{}")})
		}},
		"a dead letter without need": {ruleDeadOnce, func(e *evidence) {
			_, i := e.pick(1)
			e.dead = append(e.dead, e.stream[i])
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
		"damaged and no dead letter": {ruleDeadOnce, func(e *evidence) {
			c, i := e.pick(1)
			e.damaged = map[string]int{c.events[0].msgID: 1}
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
		"a corrupt dead letter without damage": {ruleDeadOnce, func(e *evidence) {
			e.dead = append(e.dead, &message{header: map[string][]string{"reason": {"corrupt"}}})
		}},
		"another event than the damaged one is lost": {ruleStored, func(e *evidence) {
			c, _ := e.pick(2)
			_, i := e.pick(1)
			e.damaged = map[string]int{c.events[0].msgID: 1}
			e.dead = append(e.dead, &message{header: map[string][]string{"reason": {"corrupt"}}})
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
	} {
		e := truth()
		test.lie(&e)
		if found := violations(e); !slices.ContainsFunc(found, func(v violation) bool { return v.rule == test.rule && v.story != "" }) {
			t.Errorf("%s: found %v, want %q", name, found, test.rule)
		}
	}
}

// TestOracle_order has two events of one call, by one sender or by two.
func TestOracle_order(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		senders int
		sent    time.Duration // of the second, after the first, which takes 10 ms
		bridges []string      // of each attempt of the second
		swapped bool          // in the stream
		want    int
	}{
		"in order":                   {1, 20 * time.Millisecond, []string{"bridge"}, false, 0},
		"out of order":               {1, 20 * time.Millisecond, []string{"bridge"}, true, 1},
		"two senders, in order":      {2, 20 * time.Millisecond, []string{"bridge"}, false, 0},
		"two senders, out of order":  {2, 20 * time.Millisecond, []string{"bridge"}, true, 1},
		"at the same time":           {2, 5 * time.Millisecond, []string{"bridge"}, true, 0},
		"two journals":               {2, 20 * time.Millisecond, []string{"other"}, true, 0},
		"one sender, two journals":   {1, 20 * time.Millisecond, []string{"other"}, true, 0},
		"the other journal at first": {1, 20 * time.Millisecond, []string{"other", "bridge"}, true, 0},
	} {
		e := evidence{claims: trueClaims, canary: trueCanary}
		a := newAuthor(1, 0, mix{together: 2}, trueCanary)
		one, two := a.next(), a.next()
		if test.senders == 2 {
			two = newAuthor(1, 1, mix{together: 2}, trueCanary).next()
		}
		one.attempts = []attempt{{sent: at, answered: at.Add(10 * time.Millisecond), status: http.StatusOK, bridge: "bridge", token: "1"}}
		for i, bridge := range test.bridges {
			sent := at.Add(test.sent + time.Duration(i)*time.Second)
			two.attempts = append(two.attempts, attempt{sent: sent, answered: sent.Add(10 * time.Millisecond), bridge: bridge, token: "2"})
		}
		two.attempts[len(test.bridges)-1].status = http.StatusOK
		e.calls = [][]*callback{{one, two}}
		if test.senders == 2 {
			e.calls = [][]*callback{{one}, {two}}
		}
		order := []*callback{one, two}
		if test.swapped {
			order = []*callback{two, one}
		}
		for _, c := range order {
			e.store(c, 0)
		}
		found := violations(e)
		if len(found) != test.want || test.want > 0 && found[0].rule != ruleOrder {
			t.Errorf("%s: %d violations, want %d: %v", name, len(found), test.want, found)
		}
	}
}

// TestStory has every attempt with its answer, and every copy with its place.
func TestStory(t *testing.T) {
	e := truth()
	c, i := e.pick(3)
	c.attempts[0].status, c.attempts[0].err = 0, "connection reset by peer"
	e.stream = append(e.stream, e.stream[i])
	found := violations(e)
	if len(found) == 0 {
		t.Fatal("no violation")
	}
	for _, want := range []string{
		c.events[0].msgID, "attempt 1", "attempt 3", "connection reset by peer", "200",
		c.attempts[2].token, fmt.Sprintf("stored as %d", e.stream[i].sequence), e.stream[i].subject,
	} {
		if !strings.Contains(found[0].String(), want) {
			t.Errorf("%q is not in the story:\n%s", want, found[0])
		}
	}
}
