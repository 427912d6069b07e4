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

// The parts of a made-up history.
const (
	trueCanary = "canary-of-the-oracle-test"
	trueCalls  = 3
	trueEach   = 40 // callbacks of a call
)

var trueClaims = claims{"demo", "http://127.0.0.1:1", "audience"}

// truth returns evidence of a run in which all went well, with retries, events
// sent twice, hostile callbacks, several events in a callback and two bridges.
func truth() evidence {
	e := evidence{claims: trueClaims, canary: trueCanary}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for n := range trueCalls {
		a := newAuthor(7, n, mix{forged: .2, astray: .1, several: .5, size: [2]int{0, 50}}, trueCanary)
		var call []*callback
		for i := range trueEach {
			c := a.next()
			try := func(status int) {
				at = at.Add(time.Millisecond)
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

// store adds the events of a callback as a bridge would have stored them with
// the token of an attempt.
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

// pick returns a good callback of the first call with so many attempts and
// more than one event, and where its first event is stored.
func (e *evidence) pick(attempts int) (c *callback, place int) {
	for _, c := range e.calls[0] {
		if c.kind == good && len(c.attempts) == attempts && len(c.events) > 1 {
			return c, slices.IndexFunc(e.stream, func(m *message) bool { return m.get(schemas.HeaderMsgID) == c.events[0].msgID })
		}
	}
	panic("the made-up history has no such callback")
}

// hostile returns a forged callback.
func (e *evidence) hostile() *callback {
	return e.calls[0][slices.IndexFunc(e.calls[0], func(c *callback) bool { return c.kind == forged })]
}

// TestOracleBelievesTheTruth.
func TestOracleBelievesTheTruth(t *testing.T) {
	for _, v := range judge(truth()) {
		t.Errorf("%s", v)
	}
}

// TestOracleFindsLies changes one thing in a true history, and expects the rule
// that it breaks to be named, with the history of the event.
func TestOracleFindsLies(t *testing.T) {
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
			e.stream[i].header[schemas.HeaderPath] = []string{"elsewhere"}
		}},
		"good and refused": {ruleRefused, func(e *evidence) {
			c, _ := e.pick(2)
			c.attempts[0].status = http.StatusUnauthorized
		}},
		"forged and taken": {ruleRefused, func(e *evidence) {
			e.hostile().attempts[0].status = http.StatusOK
		}},
		"never answered": {ruleRetried, func(e *evidence) {
			c, _ := e.pick(1)
			c.attempts[0].status = http.StatusServiceUnavailable
		}},
		"forged and stored": {ruleHostile, func(e *evidence) {
			e.store(e.hostile(), 0)
		}},
		"forged and hidden in another's payload": {ruleHostile, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].data = []byte(`{"x":"` + trueCanary + `"}`)
		}},
		"forged and hidden in a header": {ruleHostile, func(e *evidence) {
			_, i := e.pick(1)
			e.stream[i].header["traceparent"] = []string{trueCanary}
		}},
		"forged and set aside": {ruleHostile, func(e *evidence) {
			n := len(e.stream)
			e.store(e.hostile(), 0)
			e.aside, e.stream = e.stream[n:], e.stream[:n]
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
			e.stream = append(e.stream, &message{sequence: 99999, data: []byte("{}"), header: map[string][]string{schemas.HeaderMsgID: {"who#knows"}}})
		}},
		"foreign without an id": {ruleForeign, func(e *evidence) {
			e.stream = append(e.stream, &message{sequence: 99999, data: []byte("{}")})
		}},
		"set aside without need": {ruleDeadOnce, func(e *evidence) {
			_, i := e.pick(1)
			e.aside = append(e.aside, e.stream[i])
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
		"damaged and not set aside": {ruleDeadOnce, func(e *evidence) {
			c, i := e.pick(1)
			e.damaged = map[string]int{c.events[0].msgID: 1}
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
		"set aside as damaged without damage": {ruleDeadOnce, func(e *evidence) {
			e.aside = append(e.aside, &message{header: map[string][]string{"reason": {"corrupt"}}})
		}},
		"another than the damaged one is lost": {ruleStored, func(e *evidence) {
			c, _ := e.pick(2)
			_, i := e.pick(1)
			e.damaged = map[string]int{c.events[0].msgID: 1}
			e.aside = append(e.aside, &message{header: map[string][]string{"reason": {"corrupt"}}})
			e.stream = slices.Delete(e.stream, i, i+1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := truth()
			test.lie(&e)
			found := judge(e)
			if !slices.ContainsFunc(found, func(v violation) bool { return v.rule == test.rule && v.story != "" }) {
				t.Errorf("found %v, want %q", found, test.rule)
			}
		})
	}
}

// TestOracleKnowsTheBridges: the order is one bridge's. What another one still
// had in its journal may come later.
func TestOracleKnowsTheBridges(t *testing.T) {
	for name, test := range map[string]struct {
		change func(before, after *callback)
		want   int
	}{
		"one bridge": {func(_, _ *callback) {}, 1},
		"another answered the first": {func(before, _ *callback) {
			before.attempts[0].bridge = "other"
		}, 0},
		"the second went to another first": {func(_, after *callback) {
			after.attempts = append([]attempt{{bridge: "other"}}, after.attempts...)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := evidence{claims: trueClaims, canary: trueCanary}
			a := newAuthor(1, 0, mix{}, trueCanary)
			before, after := a.next(), a.next()
			for i, c := range []*callback{before, after} {
				c.attempts = []attempt{{status: http.StatusOK, bridge: "bridge", token: fmt.Sprint(i)}}
			}
			e.calls = [][]*callback{{before, after}}
			e.store(after, 0)
			e.store(before, 0)
			test.change(before, after)
			if got := len(judge(e)); got != test.want {
				t.Errorf("%d violations, want %d: %v", got, test.want, judge(e))
			}
		})
	}
}

// TestStoryIsWhole: a violation shows every attempt with its answer, and every
// copy with its place.
func TestStoryIsWhole(t *testing.T) {
	e := truth()
	c, i := e.pick(3)
	c.attempts[0].status, c.attempts[0].err = 0, "connection reset by peer"
	e.stream = append(e.stream, e.stream[i])
	found := judge(e)
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
