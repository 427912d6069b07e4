package faults_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
)

const (
	goodRate = 500
	// junkRate is three times as much.
	junkRate = 3 * goodRate
	// floodTokens of each kind are signed beforehand: to sign one takes as long
	// as to refuse thirty.
	floodTokens = 64
	// junkSlowdown bounds the p99 of good callbacks beside junk, as a multiple
	// of what it is alone, in the long form: the short one runs on machines with
	// other things to do, which its times would tell of.
	junkSlowdown = 2
	// junkNoise is a p99 of which a multiple says nothing: the load generators
	// share their processors with the bridge.
	junkNoise = 5 * time.Millisecond
)

// TestHostileLoad lets strangers send three times as much as ACS does: tokens of
// unknown keys, bad signatures, headers without end, headers and bodies that
// come a byte at a time. Good callbacks must not notice: their p99 alone and
// beside the junk is measured in turns.
func TestHostileLoad(t *testing.T) {
	clean := usual
	clean.forged, clean.astray = 0, 0
	window := byForm(5*time.Second, 20*time.Second)
	var spans [2][][2]time.Time // alone, beside junk
	var junk *junk
	scenario{
		load: load{rate: goodRate, mix: clean}, rounds: byForm(2, 5),
		fault: func(w *world, round int) {
			if junk == nil {
				junk = newJunk(w)
			}
			begin := time.Now()
			w.pause(window)
			middle := time.Now()
			spans[0] = append(spans[0], [2]time.Time{begin, middle})
			stop := junk.send(w.Context())
			w.pause(window)
			spans[1] = append(spans[1], [2]time.Time{middle, time.Now()})
			stop()
		},
		after: func(w *world) {
			var p99 [2]time.Duration
			for i, what := range []string{"alone", "beside junk"} {
				var all times
				for _, s := range spans[i] {
					got := timesOf(w.calls, s[0], s[1])
					all.stored, all.others = append(all.stored, got.stored...), all.others+got.others
				}
				slices.Sort(all.stored)
				p99[i] = quantile(all.stored, .99)
				w.Logf("%s: %d callbacks answered 200, p50 %v, p99 %v", what, len(all.stored), quantile(all.stored, .5), p99[i])
				if all.others > 0 {
					w.Errorf("%s, %d good callbacks were not answered 200", what, all.others)
				}
			}
			w.Logf("%s; most memory %.0f MiB", junk, w.bridge.process.peak(w)/(1<<20))
			if *form == "long" && p99[1] > max(junkSlowdown*p99[0], junkNoise) {
				w.Errorf("beside junk, answers take %v in p99, alone %v: more than %d times as long", p99[1], p99[0], junkSlowdown)
			}
			if peak := w.bridge.process.peak(w); peak > maxMemory {
				w.Errorf("the bridge took %.0f MiB, want %d at most", peak/(1<<20), maxMemory>>20)
			}
			for status := range w.unjudged.counts() {
				if status/100 == 2 {
					w.Errorf("junk was answered %d", status)
				}
			}
			least := int64(len(spans[1])) * int64(window/time.Second) * junkRate * 9 / 10
			if junk.sent.Load() < least {
				w.Errorf("only %d pieces of junk were sent, want %d", junk.sent.Load(), least)
			}
		},
	}.run(t)
}

// junk is what strangers send.
type junk struct {
	w          *world
	address    string
	forged     []string
	unknown    []string
	sent       atomic.Int64
	unanswered atomic.Int64
}

func newJunk(w *world) *junk {
	w.Helper()
	j := &junk{w: w}
	w.bridge.front.set(func(l *link) { j.address = l.target })
	for range floodTokens {
		for list, spec := range map[*[]string]acstest.TokenSpec{
			&j.forged:  {Forge: acstest.ForgeKey},
			&j.unknown: {Forge: acstest.ForgeUnknownKid, Header: map[string]any{"kid": uuid.NewString()}},
		} {
			spec.Audience = acstest.DemoAudience
			token, err := w.issuer.Sign(spec)
			if err != nil {
				w.Fatal(err)
			}
			*list = append(*list, token)
		}
	}
	return j
}

func (j *junk) String() string {
	return fmt.Sprintf("%d pieces of junk sent, answers %v, %d without one", j.sent.Load(), j.w.unjudged.counts(), j.unanswered.Load())
}

// send sends junk at its rate until it is told to stop, whatever becomes of what
// was sent before.
func (j *junk) send(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		begin := time.Now()
		for n := 0; sleep(ctx, time.Until(begin.Add(time.Duration(n)*time.Second/junkRate))); n++ {
			j.sent.Add(1)
			running.Go(func() { j.piece(ctx, n) })
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// piece sends one piece of junk over a connection of its own.
func (j *junk) piece(ctx context.Context, n int) {
	// Sources of their own, for there are not that many ports on one.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%200))}
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: answerWithin}).DialContext(ctx, "tcp", j.address)
	if err != nil {
		j.unanswered.Add(1)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.SetDeadline(time.Now().Add(2 * answerWithin))
	head := "POST /callbacks HTTP/1.1\r\nHost: bridge.test\r\nContent-Type: application/json\r\n"
	pick := func(tokens []string) string { return "Authorization: Bearer " + tokens[n%floodTokens] + "\r\n" }
	switch n % 5 {
	case 0:
		j.exchange(conn, head+pick(j.unknown)+"Content-Length: 2\r\n\r\n[]")
	case 1:
		j.exchange(conn, head+pick(j.forged)+"Content-Length: 2\r\n\r\n[]")
	case 2:
		j.exchange(conn, head+"X-Junk: "+strings.Repeat("junk", 8<<10)+"\r\n\r\n")
	case 3: // a body that comes slowly, if anybody waits for it
		j.exchange(conn, head+pick(j.forged)+"Content-Length: 200000\r\n\r\n[")
	case 4: // a header that does
		for _, c := range head {
			if _, err := conn.Write([]byte{byte(c)}); err != nil || !sleep(ctx, time.Second) {
				break
			}
		}
		j.unanswered.Add(1)
	}
}

// exchange sends a request and counts its answer.
func (j *junk) exchange(conn net.Conn, request string) {
	_, _ = io.WriteString(conn, request) // what is refused early is not read whole
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		j.unanswered.Add(1)
		j.w.unjudged.add(0)
		return
	}
	response.Body.Close()
	j.w.unjudged.add(response.StatusCode)
}
