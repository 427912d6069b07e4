package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// mix describes what a sender sends.
type mix struct {
	forged, astray float64 // shares of hostile callbacks
	twice          float64 // share of callbacks sent again after their 200
	several        float64 // share of callbacks with two or three events
	batch          int     // events of every callback, instead of several; zero is one
	scattered      bool    // each event is of another call
	size           [2]int  // bounds of an event's noise in bytes
	large          float64 // share of events with noise of the large size
	largeSize      int
	together       int // so many of the sender's calls are one call with concurrent events; zero is one
}

// usual is the mix of most scenarios. ACS's own callbacks have a median of 877
// bytes.
var usual = mix{forged: .01, astray: .005, twice: .01, several: .1, size: [2]int{0, 1200}}

// eventTypes are the short names of the types that are sent.
var eventTypes = acstest.Types()

// author makes the callbacks of one call, the same for one seed.
type author struct {
	rng    *rand.Rand
	mix    mix
	call   int
	id     string // of the call
	count  int
	canary string
}

func newAuthor(seed uint64, call int, m mix, canary string) *author {
	a := &author{rng: rand.New(rand.NewPCG(seed, uint64(call))), mix: m, call: call, canary: canary}
	a.id = a.uuid()
	if m.together > 1 && call%m.together > 0 {
		a.id = newAuthor(seed, call-call%m.together, mix{}, canary).id
	}
	return a
}

func (a *author) uuid() string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(a.rng.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return id.String()
}

// next returns the next callback.
func (a *author) next() *callback {
	c := &callback{call: a.call, number: a.count, kind: good, path: a.id, query: fmt.Sprintf("n=%d", a.count)}
	a.count++
	switch p := a.rng.Float64(); {
	case p < a.mix.forged:
		c.kind = forged
	case p < a.mix.forged+a.mix.astray:
		c.kind = astray
	}
	events := max(a.mix.batch, 1)
	if a.mix.batch == 0 && a.rng.Float64() < a.mix.several {
		events = 2 + a.rng.IntN(2)
	}
	mark := ""
	if c.kind != good {
		mark = a.canary
		c.query += "&mark=" + mark
	}
	for range events {
		c.events = append(c.events, a.event(mark))
	}
	return c
}

// event returns an event with unusual spaces, escapes and members, so that no encoder
// would write the same bytes.
func (a *author) event(mark string) event {
	connection := a.id
	if a.mix.scattered {
		connection = a.uuid()
	}
	identity := schemas.Inbound{ID: a.uuid(), Source: "calling/callConnections/" + connection}
	kind := schemas.TypePrefix + eventTypes[a.rng.IntN(len(eventTypes))]
	text := fmt.Sprintf(`{%s"id":"%s","source":"%s","type":"%s","time":"%s","specversion":"1.0",%s"datacontenttype":"application/json",`+
		`"data":{"callConnectionId":"%s","n":1.%d0e+2,"mark":"%s","noise":"%s"}}`,
		a.space(), identity.ID, identity.Source, kind, time.Now().UTC().Format(time.RFC3339Nano), a.space(),
		connection, a.rng.IntN(1e6), mark, a.noise())
	return event{msgID: identity.MsgID(), connection: connection, payload: []byte(text)}
}

func (a *author) space() string { return strings.Repeat(" ", a.rng.IntN(3)) }

// noiseRunes need escapes, have several bytes, or look like syntax.
var noiseRunes = []string{"a", "Z", "0", " ", "é", "語", "😀", `\n`, `\"`, `\\`, `\u0000`, `\/`, "{", "}", "[", ",", "+4930", "."}

func (a *author) noise() string {
	size := a.mix.size[0]
	if span := a.mix.size[1] - a.mix.size[0]; span > 0 {
		size += a.rng.IntN(span)
	}
	if a.rng.Float64() < a.mix.large {
		size = a.mix.largeSize
	}
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(noiseRunes[a.rng.IntN(len(noiseRunes))])
	}
	return b.String()
}

// body is what is posted: a JSON array, also for one event.
func (c *callback) body() []byte {
	b := []byte{'['}
	for i, e := range c.events {
		if i > 0 {
			b = append(b, ',', '\n')
		}
		b = append(b, e.payload...)
	}
	return append(b, ']')
}

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
