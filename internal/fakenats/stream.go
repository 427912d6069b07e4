package fakenats

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/textproto"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message is a stored message.
type Message struct {
	Sequence uint64
	Time     time.Time
	Subject  string
	Header   nats.Header
	Data     []byte

	header string // as it came
}

// stream is one stream. Nothing is ever removed from it.
type stream struct {
	config   jetstream.StreamConfig
	created  time.Time
	messages []Message
	ids      map[string]Message // the newest message of each id
}

const apiPrefix = "$JS.API."

// Errors of the JetStream API, as nats-server words them.
var (
	errStreamNotFound = &jetstream.APIError{Code: 404, ErrorCode: 10059, Description: "stream not found"}
	errNameInUse      = &jetstream.APIError{Code: 400, ErrorCode: 10058, Description: "stream name already in use with a different configuration"}
	errOtherStream    = &jetstream.APIError{Code: 400, ErrorCode: 10060, Description: "expected stream does not match"}
	errBadConfig      = &jetstream.APIError{Code: 400, ErrorCode: 10025, Description: "invalid JSON"}
)

// receive leads a message to its fate. The server is locked.
func (s *Server) receive(k *conn, m message) {
	header := parseHeader(m.header)
	r := Request{Client: k.client.name, Subject: m.subject, MsgID: header.Get(jetstream.MsgIDHeader)}
	fate := s.opts.Fate(r)
	if fate.Lost {
		s.opts.Trace(r, "lost on its way to the server")
		return
	}
	s.later(fate.Wait, func() {
		if k.closed && k.drop {
			s.opts.Trace(r, "lost with its connection")
			return
		}
		var answer []message
		if fate.Refusal == nil || fate.Stored {
			answer = s.act(r, m, header, fate.Behind)
		}
		if e := fate.Refusal; e != nil {
			s.opts.Trace(r, fmt.Sprintf("refused: %d, %s", e.ErrorCode, e.Description))
			if answer = refusal(e); e.ErrorCode == 0 {
				answer = noResponders(m.subject)
			}
		}
		s.answer(r, m.reply, answer, fate)
	})
}

func (s *Server) answer(r Request, inbox string, list []message, fate Fate) {
	if inbox == "" {
		return
	}
	if fate.Silent {
		s.opts.Trace(r, "answer lost")
		return
	}
	s.later(fate.Delay, func() {
		if fate.Delay > time.Second {
			s.opts.Trace(r, "answer sent late")
		}
		s.deliver(inbox, list...)
	})
}

// noResponders is the answer to a request that has no listener.
func noResponders(subject string) []message {
	return status("503\r\nNats-Subject: " + subject)
}

// refusal is the answer that says no.
func refusal(e *jetstream.APIError) []message {
	return encoded(struct {
		Error *jetstream.APIError `json:"error"`
	}{e})
}

// encoded returns an answer in JSON.
func encoded(v any) []message {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("fakenats: answer: %v", err)) // of types of our own
	}
	return []message{{data: string(b)}}
}

// act does what a request asks for and returns the answer.
func (s *Server) act(r Request, m message, header nats.Header, behind time.Duration) []message {
	if call, ok := strings.CutPrefix(m.subject, apiPrefix); ok {
		return s.api(call, m, behind)
	}
	for _, st := range s.streams {
		for _, pattern := range st.config.Subjects {
			if matches(pattern, m.subject) {
				return s.store(st, r, m, header)
			}
		}
	}
	s.opts.Trace(r, "no stream takes it")
	return noResponders(m.subject)
}

// store puts a message into a stream, unless the stream has it already.
func (s *Server) store(st *stream, r Request, m message, header nats.Header) []message {
	if name := header.Get(jetstream.ExpectedStreamHeader); name != "" && name != st.config.Name {
		return refusal(errOtherStream)
	}
	window := st.config.Duplicates
	if s.forget > 0 {
		window = s.forget
	}
	now := time.Now()
	if before, ok := st.ids[r.MsgID]; ok && now.Sub(before.Time) < window {
		s.opts.Trace(r, fmt.Sprintf("duplicate of sequence %d of %s", before.Sequence, st.config.Name))
		return encoded(jetstream.PubAck{Stream: st.config.Name, Sequence: before.Sequence, Duplicate: true})
	}
	stored := Message{
		Sequence: uint64(len(st.messages)) + 1, Time: now, Subject: m.subject,
		Header: header, Data: []byte(m.data), header: m.header,
	}
	st.messages = append(st.messages, stored)
	if r.MsgID != "" {
		st.ids[r.MsgID] = stored
	}
	s.opts.Trace(r, fmt.Sprintf("stored as sequence %d of %s", stored.Sequence, st.config.Name))
	return encoded(jetstream.PubAck{Stream: st.config.Name, Sequence: stored.Sequence})
}

// parseHeader reads a header block, without the status line. Names keep their
// case (ADR-4).
func parseHeader(block string) nats.Header {
	h := make(nats.Header)
	_, block, _ = strings.Cut(block, "\r\n")
	lines := textproto.NewReader(bufio.NewReader(strings.NewReader(block)))
	for {
		line, err := lines.ReadLine()
		name, value, ok := strings.Cut(line, ":")
		if err != nil || !ok {
			return h
		}
		h.Add(name, strings.TrimSpace(value))
	}
}

// named returns the stream of that name, or nil.
func (s *Server) named(name string) *stream {
	for _, st := range s.streams {
		if st.config.Name == name {
			return st
		}
	}
	return nil
}
