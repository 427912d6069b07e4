package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
)

// attackerVariable makes this program the attacker instead of running tests.
const attackerVariable = "FAULTS_ATTACKER"

// attackTokens of each kind are signed in advance: to sign one takes as long as to refuse
// thirty.
const attackTokens = 64

// attacker sends junk to a bridge from its own process. That has the lowest priority,
// since an attacker has its own machine: the cost of sending must not count as the cost
// of the bridge.
type attacker struct {
	w *world

	Address         string
	Rate            int      // a second
	Forged, Unknown []string // tokens; without forged ones, unknown ones are all it sends

	junk
}

// junk counts what was sent and its answers.
type junk struct {
	Sent    int
	Answers map[int]int // by status
}

// Instead of a status.
const (
	unanswered = 0
	incomplete = -1 // the request was not sent completely
)

func newAttacker(w *world, rate int, forged bool) *attacker {
	w.Helper()
	s := &attacker{w: w, Address: w.bridge.front.Target(), Rate: rate, junk: junk{Answers: make(map[int]int)}}
	for range attackTokens {
		for list, spec := range map[*[]string]acstest.TokenSpec{
			&s.Forged:  {Forge: acstest.ForgeKey},
			&s.Unknown: {Forge: acstest.ForgeUnknownKid, Header: map[string]any{"kid": uuid.NewString()}},
		} {
			spec.Audience = acstest.DemoAudience
			token, err := w.issuer.Sign(spec)
			if err != nil {
				w.Fatal(err)
			}
			*list = append(*list, token)
		}
	}
	if !forged {
		s.Forged = nil
	}
	return s
}

func (j junk) String() string {
	return fmt.Sprintf("%d pieces of junk sent, answers %v", j.Sent, j.Answers)
}

// send starts the attack.
func (s *attacker) send() (stop func()) {
	s.w.Helper()
	program, err := os.Executable()
	if err != nil {
		s.w.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", program)
	cmd.Env = append(os.Environ(), attackerVariable+"=1")
	cmd.Stderr = os.Stderr
	dieWithParent(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		s.w.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.w.Fatal(err)
	}
	if err := launch(cmd); err != nil {
		s.w.Fatalf("start the attacker: %v", err)
	}
	if err := json.NewEncoder(in).Encode(s); err != nil {
		s.w.Fatalf("configure the attacker: %v", err)
	}
	return func() {
		in.Close()
		var did junk
		if err := json.NewDecoder(out).Decode(&did); err != nil {
			s.w.Errorf("read from the attacker: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			s.w.Errorf("attacker: %v", err)
		}
		s.Sent += did.Sent
		for status, n := range did.Answers {
			s.Answers[status] += n
			if status != incomplete {
				s.w.others.add(status, n)
			}
		}
	}
}

// runAttacker reads an attacker from in, sends junk until in ends, and writes the counts
// to out.
func runAttacker(in io.Reader, out io.Writer) error {
	p := &attack{}
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &p.attacker)
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		stop()
	}()
	sent := p.run(ctx)
	return json.NewEncoder(out).Encode(junk{Sent: sent, Answers: p.answers.counts()})
}

// attack is one run of an attacker.
type attack struct {
	attacker attacker
	answers  answers
}

// run sends junk at the rate, without waiting for answers.
func (p *attack) run(ctx context.Context) (sent int) {
	var running sync.WaitGroup
	defer running.Wait()
	begin := time.Now()
	for sleep(ctx, time.Until(begin.Add(time.Duration(sent)*time.Second/time.Duration(p.attacker.Rate)))) {
		n := sent
		sent++
		running.Go(func() { p.answers.add(p.piece(ctx, n), 1) })
	}
	return sent
}

// piece sends one piece of junk on a new connection and returns the status of the
// answer.
func (p *attack) piece(ctx context.Context, n int) (status int) {
	// Several sources, because one has too few ports.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%200))}
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: answerWithin}).DialContext(ctx, "tcp", p.attacker.Address)
	if err != nil {
		return incomplete
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.SetDeadline(time.Now().Add(2 * answerWithin))
	head := "POST /callbacks HTTP/1.1\r\nHost: bridge.test\r\nContent-Type: application/json\r\n"
	pick := func(tokens []string) string { return "Authorization: Bearer " + tokens[n%attackTokens] + "\r\n" }
	kind := n % 5
	if p.attacker.Forged == nil {
		kind = 0
	}
	switch kind {
	case 0:
		return exchange(conn, head+pick(p.attacker.Unknown)+"Content-Length: 2\r\n\r\n[]")
	case 1:
		return exchange(conn, head+pick(p.attacker.Forged)+"Content-Length: 2\r\n\r\n[]")
	case 2:
		return exchange(conn, head+"X-Junk: "+strings.Repeat("junk", 8<<10)+"\r\n\r\n")
	case 3: // a body that stops
		return exchange(conn, head+pick(p.attacker.Forged)+"Content-Length: 200000\r\n\r\n[")
	default: // a slow header
		for _, c := range head {
			if _, err := conn.Write([]byte{byte(c)}); err != nil || !sleep(ctx, time.Second) {
				break
			}
		}
		return incomplete
	}
}

// exchange sends a request and returns the status of its answer.
func exchange(conn net.Conn, request string) (status int) {
	_, _ = io.WriteString(conn, request) // an early refusal does not read all of it
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return unanswered
	}
	response.Body.Close()
	return response.StatusCode
}

const (
	goodRate = 500
	junkRate = 3 * goodRate
	// junkSlowdown bounds the p99 of good callbacks under attack, as a multiple of the
	// p99 without, in the long form: the short one runs on busy machines.
	junkSlowdown = 2
	// junkNoise is a p99 that is too short to compare: the load generators share the
	// processors of the bridge.
	junkNoise = 5 * time.Millisecond
)

// TestHostileLoad has an attacker that sends three times as much as ACS: tokens of
// unknown keys, bad signatures, long headers, and slow headers and bodies. Good
// callbacks must not be slower: their p99 is measured without and with it in turns.
func TestHostileLoad(t *testing.T) {
	clean := usual
	clean.forged, clean.astray = 0, 0
	window := byForm(5*time.Second, 20*time.Second)
	var spans [2][][2]time.Time // without, with junk
	var junk *attacker
	scenario{
		load: load{rate: goodRate, mix: clean}, rounds: byForm(2, 5),
		fault: func(w *world, round int) {
			if junk == nil {
				junk = newAttacker(w, junkRate, true)
			}
			begin := time.Now()
			w.pause(window)
			middle := time.Now()
			spans[0] = append(spans[0], [2]time.Time{begin, middle})
			stop := junk.send()
			middle = time.Now()
			w.pause(window)
			spans[1] = append(spans[1], [2]time.Time{middle, time.Now()})
			stop()
		},
		after: func(w *world) {
			var p99 [2]time.Duration
			for i, what := range []string{"without junk", "with junk"} {
				var all times
				for _, s := range spans[i] {
					got := timesOf(w.calls, s[0], s[1])
					w.Logf("%s, from %s on: p99 %v", what, s[0].Format(time.TimeOnly), quantile(got.stored, .99))
					all.stored, all.others = append(all.stored, got.stored...), all.others+got.others
				}
				slices.Sort(all.stored)
				p99[i] = quantile(all.stored, .99)
				w.Logf("%s: %d callbacks answered 200, p50 %v, p99 %v", what, len(all.stored), quantile(all.stored, .5), p99[i])
				if all.others > 0 {
					w.Errorf("%s, %d good callbacks were not answered 200", what, all.others)
				}
			}
			w.Logf("%s; peak memory %.0f MiB", junk, w.bridge.process.peak(w)/(1<<20))
			if *form == "long" && p99[1] > max(junkSlowdown*p99[0], junkNoise) {
				w.Errorf("with junk, the p99 of answers is %v, without %v: more than %d times as long", p99[1], p99[0], junkSlowdown)
			}
			if peak := w.bridge.process.peak(w); peak > maxMemory {
				w.Errorf("the bridge took %.0f MiB, want at most %d", peak/(1<<20), maxMemory>>20)
			}
			for status := range junk.Answers {
				if status/100 == 2 {
					w.Errorf("junk was answered %d", status)
				}
			}
			least := len(spans[1]) * int(window/time.Second) * junkRate * 9 / 10
			if junk.Sent < least {
				w.Errorf("only %d pieces of junk were sent, want %d", junk.Sent, least)
			}
		},
	}.run(t)
}
