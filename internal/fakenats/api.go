package fakenats

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// api answers a request to the JetStream API.
func (s *Server) api(call string, m message, behind time.Duration) []message {
	if name, ok := strings.CutPrefix(call, "STREAM.INFO."); ok {
		return s.info(name, "info")
	}
	if name, ok := strings.CutPrefix(call, "STREAM.CREATE."); ok {
		return s.configure(name, m.data, false)
	}
	if name, ok := strings.CutPrefix(call, "STREAM.UPDATE."); ok {
		return s.configure(name, m.data, true)
	}
	if call == "INFO" { // of the account, which has no limits
		return encoded(map[string]any{"type": "io.nats.jetstream.api.v1.account_info_response", "limits": map[string]int{"max_storage": -1}})
	}
	if rest, ok := strings.CutPrefix(call, "DIRECT.GET."); ok {
		name, subject, _ := strings.Cut(rest, ".")
		if st := s.named(name); st != nil && st.config.AllowDirect {
			return st.direct(subject, m.data, behind, s.opts.MaxBatch)
		}
		return noResponders(m.subject)
	}
	s.unknown = append(s.unknown, apiPrefix+call)
	return noResponders(m.subject)
}

// streamInfo is the answer to whatever concerns a stream as a whole.
type streamInfo struct {
	Type string `json:"type"`
	*jetstream.StreamInfo
}

// info describes a stream, in the answer to a request of that kind.
func (s *Server) info(name, kind string) []message {
	st := s.named(name)
	if st == nil {
		return refusal(errStreamNotFound)
	}
	state := jetstream.StreamState{Msgs: uint64(len(st.messages)), FirstSeq: 1, LastSeq: uint64(len(st.messages))}
	if n := len(st.messages); n > 0 {
		state.FirstTime, state.LastTime = st.messages[0].Time, st.messages[n-1].Time
	} else {
		state.FirstSeq = 0
	}
	return encoded(streamInfo{"io.nats.jetstream.api.v1.stream_" + kind + "_response",
		&jetstream.StreamInfo{Config: st.config, Created: st.created, State: state, TimeStamp: time.Now()}})
}

// configure creates a stream or changes its configuration.
func (s *Server) configure(name, body string, change bool) []message {
	var config jetstream.StreamConfig
	if err := json.Unmarshal([]byte(body), &config); err != nil || config.Name != name {
		return refusal(errBadConfig)
	}
	st, kind := s.named(name), "create"
	switch {
	case change && st == nil:
		return refusal(errStreamNotFound)
	case change:
		st.config, kind = config, "update"
	case st == nil:
		s.streams = append(s.streams, &stream{config: config, created: time.Now(), ids: make(map[string]Message)})
	case !reflect.DeepEqual(st.config, config):
		return refusal(errNameInUse)
	}
	return s.info(name, kind)
}

// directRequest is the body of a direct get (ADR-31).
type directRequest struct {
	Seq       uint64     `json:"seq"`
	NextFor   string     `json:"next_by_subj"`
	LastFor   string     `json:"last_by_subj"`
	StartTime *time.Time `json:"start_time"`
	Batch     int        `json:"batch"`
	MaxBytes  int        `json:"max_bytes"`
}

func status(text string) []message { return []message{{header: "NATS/1.0 " + text + "\r\n\r\n"}} }

// direct answers a direct get from a replica that is so far behind. The subject
// in the request's own subject asks for the last message on it.
func (st *stream) direct(subject, body string, behind time.Duration, maxBatch int) []message {
	var r directRequest
	if body != "" || subject == "" {
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return status("408 Malformed Request")
		}
	}
	if subject != "" {
		r.LastFor = subject
	}
	if r.Seq == 0 && r.NextFor == "" && r.LastFor == "" && r.StartTime == nil {
		return status("408 Empty Request")
	}
	if r.Seq > 0 && r.StartTime != nil || r.LastFor != "" && (r.Seq > 0 || r.StartTime != nil || r.NextFor != "" || r.Batch > 0) {
		return status("408 Bad Request")
	}
	list := st.wanted(&r, behind)
	if len(list) == 0 {
		return status("404 Message Not Found")
	}
	if r.Batch == 0 {
		return []message{list[0].found(st.config.Name, "")}
	}
	if maxBatch > 0 {
		r.Batch = min(r.Batch, maxBatch)
	}
	var answer []message
	last, size := uint64(0), 0
	for i, m := range list {
		if i == r.Batch || r.MaxBytes > 0 && size >= r.MaxBytes {
			break
		}
		counts := fmt.Sprintf("Nats-Num-Pending: %d\r\nNats-Last-Sequence: %d\r\n", len(list)-1-i, last)
		answer = append(answer, m.found(st.config.Name, counts))
		last = m.Sequence
		size += len(m.Subject) + len(m.header) + len(m.Data)
	}
	end := fmt.Sprintf("204 EOB\r\nNats-Num-Pending: %d\r\nNats-Last-Sequence: %d", len(list)-len(answer), last)
	return append(answer, status(end)...)
}

// wanted returns the messages that a request is about, from its start on.
func (st *stream) wanted(r *directRequest, behind time.Duration) (list []Message) {
	for _, m := range st.messages {
		switch {
		case behind > 0 && time.Since(m.Time) < behind:
		case r.LastFor != "" && m.Subject == r.LastFor:
			list = []Message{m}
		case r.LastFor != "":
		case m.Sequence < r.Seq:
		case r.StartTime != nil && m.Time.Before(*r.StartTime):
		case r.NextFor != "" && !matches(r.NextFor, m.Subject):
		case r.NextFor == "" && r.Batch == 0 && r.Seq > 0 && m.Sequence != r.Seq:
		default:
			list = append(list, m)
		}
	}
	return list
}

// found returns the message as a direct get brings it, with more headers.
func (m *Message) found(stream, more string) message {
	header := m.header
	if header == "" {
		header = "NATS/1.0\r\n\r\n"
	}
	header = strings.TrimSuffix(header, "\r\n") + fmt.Sprintf(
		"Nats-Stream: %s\r\nNats-Subject: %s\r\nNats-Sequence: %d\r\nNats-Time-Stamp: %s\r\n%s\r\n",
		stream, m.Subject, m.Sequence, m.Time.UTC().Format(time.RFC3339Nano), more)
	return message{header: header, data: string(m.Data)}
}
