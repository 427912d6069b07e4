package fakenats

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
)

// maxPayload is nats-server's default.
const maxPayload = 1 << 20

// conn is one connection. The server's mutex guards everything but the pipe.
type conn struct {
	server *Server
	client *Client
	pipe   net.Conn
	number int

	subscriptions map[string]string // subject by sid
	out           []byte            // not yet written
	ready         chan struct{}     // capacity 1: there is something in out, or it is closed
	closed        bool
	drop          bool // once closed, what was received is forgotten
	// Bytes until the connection breaks; negative: it does not.
	inLeft, outLeft int
}

func newConn(s *Server, c *Client, pipe net.Conn) *conn {
	return &conn{
		server: s, client: c, pipe: pipe, number: s.dialed, subscriptions: make(map[string]string),
		ready: make(chan struct{}, 1), inLeft: -1, outLeft: -1,
	}
}

// start greets and serves the client. The server is locked.
func (k *conn) start() {
	info, err := json.Marshal(map[string]any{
		"server_id": "MODEL", "server_name": "model", "version": "2.15.2", "proto": 1, "headers": true,
		"max_payload": maxPayload, "jetstream": true, "client_id": k.number, "host": "model", "port": 4222,
	})
	if err != nil {
		panic(err) // of strings and numbers
	}
	k.send("INFO " + string(info) + "\r\n")
	go k.write()
	go k.read()
}

// send queues bytes for the client. The server is locked.
func (k *conn) send(parts ...string) {
	if k.closed {
		return
	}
	for _, p := range parts {
		k.out = append(k.out, p...)
	}
	k.wake()
}

func (k *conn) wake() {
	select {
	case k.ready <- struct{}{}:
	default:
	}
}

// close ends the connection: what is not yet written is lost. The server is
// locked.
func (k *conn) close() {
	if k.closed {
		return
	}
	k.closed, k.out = true, nil
	k.server.conns = slices.DeleteFunc(k.server.conns, func(other *conn) bool { return other == k })
	_ = k.pipe.Close() // a pipe's Close has no error
	k.wake()
}

// write writes what is queued until the connection is closed.
func (k *conn) write() {
	for range k.ready {
		k.server.mu.Lock()
		chunk, closed := k.out, k.closed
		k.out = nil
		breaks := k.outLeft >= 0 && len(chunk) >= k.outLeft
		if breaks {
			chunk = chunk[:k.outLeft]
		} else if k.outLeft >= 0 {
			k.outLeft -= len(chunk)
		}
		k.server.mu.Unlock()
		if closed {
			return
		}
		if _, err := k.pipe.Write(chunk); err != nil || breaks {
			k.server.mu.Lock()
			k.close()
			k.server.mu.Unlock()
			return
		}
	}
}

// Read reads from the client, within the bytes that the connection has left.
func (k *conn) Read(b []byte) (int, error) {
	n, err := k.pipe.Read(b)
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	if k.inLeft < 0 {
		return n, err
	}
	if n >= k.inLeft {
		n = k.inLeft
		k.inLeft = 0
		k.close()
		return n, io.EOF
	}
	k.inLeft -= n
	return n, err
}

// read takes the client's messages until the connection ends. Nothing in here
// waits for anything but the client.
func (k *conn) read() {
	r := bufio.NewReader(k)
	for {
		line, err := r.ReadString('\n')
		if err == nil {
			err = k.operation(strings.TrimSpace(line), r)
		}
		if err != nil {
			k.server.mu.Lock()
			k.close()
			k.server.mu.Unlock()
			return
		}
	}
}

// operation takes one operation, whose first line is given.
func (k *conn) operation(line string, r io.Reader) error {
	verb, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	switch {
	case verb == "HPUB" && len(args) >= 3, verb == "PUB" && len(args) >= 2:
		return k.publish(verb == "HPUB", args, r)
	}
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	switch {
	case verb == "CONNECT", verb == "PONG":
	case verb == "PING":
		k.server.later(0, func() { k.send("PONG\r\n") })
	case verb == "SUB" && len(args) >= 2:
		k.subscriptions[args[len(args)-1]] = args[0]
	case verb == "UNSUB" && len(args) == 1:
		delete(k.subscriptions, args[0])
	case verb == "UNSUB": // after a number of messages: the client counts too
	default:
		k.server.unknown = append(k.server.unknown, line)
	}
	return nil
}

// publish takes a message: SUBJECT [REPLY] [BYTES OF HEADER] BYTES.
func (k *conn) publish(withHeader bool, args []string, r io.Reader) error {
	total, err := strconv.Atoi(args[len(args)-1])
	if err != nil || total > maxPayload {
		return fmt.Errorf("size of message: %q", args)
	}
	m := message{subject: args[0]}
	head := 0
	args = args[1 : len(args)-1]
	if withHeader {
		if head, err = strconv.Atoi(args[len(args)-1]); err != nil || head > total {
			return fmt.Errorf("size of header: %q", args)
		}
		args = args[:len(args)-1]
	}
	if len(args) > 0 {
		m.reply = args[0]
	}
	b := make([]byte, total+len("\r\n"))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	m.header, m.data = string(b[:head]), string(b[head:total])
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	k.server.receive(k, m)
	return nil
}

// message is one on the wire. The header has its status line and its end.
type message struct {
	subject, reply, header, data string
}

// deliver sends messages to everybody who subscribes to the subject. The
// server is locked.
func (s *Server) deliver(subject string, list ...message) {
	for _, k := range s.conns {
		for sid, pattern := range k.subscriptions {
			if !matches(pattern, subject) {
				continue
			}
			for _, m := range list {
				if m.header == "" {
					k.send(fmt.Sprintf("MSG %s %s %d\r\n", subject, sid, len(m.data)), m.data, "\r\n")
				} else {
					k.send(fmt.Sprintf("HMSG %s %s %d %d\r\n", subject, sid, len(m.header), len(m.header)+len(m.data)), m.header, m.data, "\r\n")
				}
			}
		}
	}
}

// matches reports whether a subject falls under a pattern with wildcards.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || token != "*" && token != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}
