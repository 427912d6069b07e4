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
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
)

// strangersVariable makes this program play strangers instead of running tests.
const strangersVariable = "FAULTS_STRANGERS"

// floodTokens of each kind are signed beforehand: to sign one takes as long as to
// refuse thirty.
const floodTokens = 64

// strangers send junk to a bridge from a process of their own. It has the lowest
// priority, since strangers have machines of their own, too: what their sending
// costs must not count as what it costs the bridge.
type strangers struct {
	w *world

	Address         string
	Forged, Unknown []string // tokens

	junk
}

// junk is what came of what was sent.
type junk struct {
	Sent    int
	Answers map[int]int // by status
}

// In the place of a status.
const (
	unanswered = 0
	unasked    = -1 // no request was sent whole
)

func newStrangers(w *world) *strangers {
	w.Helper()
	s := &strangers{w: w, junk: junk{Answers: make(map[int]int)}}
	s.Address = w.bridge.front.Target()
	for range floodTokens {
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
	return s
}

func (j junk) String() string {
	return fmt.Sprintf("%d pieces of junk sent, answers %v", j.Sent, j.Answers)
}

// send lets the strangers send until they are told to stop.
func (s *strangers) send() (stop func()) {
	s.w.Helper()
	program, err := os.Executable()
	if err != nil {
		s.w.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", program)
	cmd.Env = append(os.Environ(), strangersVariable+"=1")
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
		s.w.Fatalf("start strangers: %v", err)
	}
	if err := json.NewEncoder(in).Encode(s); err != nil {
		s.w.Fatalf("tell strangers what to send: %v", err)
	}
	return func() {
		in.Close()
		var did junk
		if err := json.NewDecoder(out).Decode(&did); err != nil {
			s.w.Errorf("what strangers did: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			s.w.Errorf("strangers: %v", err)
		}
		s.Sent += did.Sent
		for status, n := range did.Answers {
			s.Answers[status] += n
			if status != unasked {
				s.w.others.add(status, n)
			}
		}
	}
}

// playStrangers reads from in what to send, sends it until in ends, and writes to
// out what came of it.
func playStrangers(in io.Reader, out io.Writer) error {
	p := &player{answers: answers{}}
	lines := bufio.NewReader(in)
	text, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &p.strangers)
	}
	if err != nil {
		return fmt.Errorf("what to send: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		stop()
	}()
	sent := p.play(ctx)
	return json.NewEncoder(out).Encode(junk{Sent: sent, Answers: p.answers.counts()})
}

// player plays the strangers.
type player struct {
	strangers
	answers answers
}

// play sends junk at its rate, whatever becomes of what was sent before.
func (p *player) play(ctx context.Context) (sent int) {
	var running sync.WaitGroup
	defer running.Wait()
	begin := time.Now()
	for sleep(ctx, time.Until(begin.Add(time.Duration(sent)*time.Second/junkRate))) {
		n := sent
		sent++
		running.Go(func() { p.answers.add(p.piece(ctx, n), 1) })
	}
	return sent
}

// piece sends one piece of junk over a connection of its own and returns the
// status of the answer.
func (p *player) piece(ctx context.Context, n int) (status int) {
	// Sources of their own, for there are not that many ports on one.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%200))}
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: answerWithin}).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return unasked
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.SetDeadline(time.Now().Add(2 * answerWithin))
	head := "POST /callbacks HTTP/1.1\r\nHost: bridge.test\r\nContent-Type: application/json\r\n"
	pick := func(tokens []string) string { return "Authorization: Bearer " + tokens[n%floodTokens] + "\r\n" }
	switch n % 5 {
	case 0:
		return exchange(conn, head+pick(p.Unknown)+"Content-Length: 2\r\n\r\n[]")
	case 1:
		return exchange(conn, head+pick(p.Forged)+"Content-Length: 2\r\n\r\n[]")
	case 2:
		return exchange(conn, head+"X-Junk: "+strings.Repeat("junk", 8<<10)+"\r\n\r\n")
	case 3: // a body that comes slowly, if anybody waits for it
		return exchange(conn, head+pick(p.Forged)+"Content-Length: 200000\r\n\r\n[")
	default: // a header that does
		for _, c := range head {
			if _, err := conn.Write([]byte{byte(c)}); err != nil || !sleep(ctx, time.Second) {
				break
			}
		}
		return unasked
	}
}

// exchange sends a request and returns the status of its answer.
func exchange(conn net.Conn, request string) (status int) {
	_, _ = io.WriteString(conn, request) // what is refused early is not read whole
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return unanswered
	}
	response.Body.Close()
	return response.StatusCode
}
