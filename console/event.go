package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// maxShown bounds the JSON of an event on a page, in bytes.
	maxShown = 64 << 10
	// maxConsumers bounds the consumers that are listed.
	maxConsumers = 200
)

// eventView is the content of the page of one event.
type eventView struct {
	Sequence         uint64
	Stored           time.Time
	Subject, Type    string
	Call             string // to link to; empty without
	JSON             []token
	Raw              string // a payload that is not JSON, when it may be shown
	Cut, NoJSON      bool
	Headers, Claims  []header
	Consumers        []consumerView
	ConsumersProblem string
	Resend           []string // commands

	Personal, CanUnmask bool
}

type header struct{ Name, Value string }

// consumerView is where a consumer of the stream is, relative to the event.
type consumerView struct {
	Name     string
	Position uint64 // sequence up to which everything is acknowledged
	State    string
}

// token is a part of a JSON text with its class.
type token struct{ Class, Text string }

func (c *Console) eventPage(r *http.Request) (*page, error) {
	sequence, err := strconv.ParseUint(r.PathValue("sequence"), 10, 64)
	if err != nil || sequence == 0 {
		return nil, errNotFound
	}
	personal, err := c.unmasks(r, "sequence", strconv.FormatUint(sequence, 10))
	if err != nil {
		return nil, err
	}
	v := &eventView{Personal: personal, CanUnmask: c.ShowPII}
	if err := c.read(r.Context(), func(reader *replay.Reader) error {
		m, err := message(r.Context(), reader, sequence)
		if err != nil {
			return err
		}
		v.Consumers, err = consumers(r.Context(), reader, m)
		if err != nil {
			v.ConsumersProblem = "The consumers cannot be listed: " + err.Error()
		}
		return v.read(m, personal) // here, so that few large events are held at a time
	}); err != nil {
		return nil, err
	}
	return &page{
		Title: v.Type, Template: "event", Content: v, Private: personal,
		Commands: []string{fmt.Sprintf("acsbridge tail --since seq:%d --output json | head -n 1", sequence)},
	}, nil
}

// message returns the message that a stream has at a sequence.
func message(ctx context.Context, reader *replay.Reader, sequence uint64) (*replay.StoredMessage, error) {
	at := replay.Position{Sequence: sequence}
	for m, err := range reader.Read(ctx, replay.Selection{Since: at, Until: at}) {
		return m, err
	}
	return nil, usageError{fmt.Errorf("stream %s has no message %d: it was never there, or is removed by now", reader.Stream, sequence)}
}

// read fills the view with what a message holds. Personal data is masked unless it is
// asked for.
func (v *eventView) read(m *replay.StoredMessage, personal bool) error {
	masking := replay.MaskPII
	if personal {
		masking = replay.MaskSecrets
	}
	var line struct {
		Headers map[string]any  `json:"headers"`
		Event   json.RawMessage `json:"event"`
		Data    []byte          `json:"data"`
	}
	if err := json.Unmarshal(replay.AppendLine(nil, m, masking), &line); err != nil {
		return fmt.Errorf("read message %d: %w", m.Sequence, err)
	}
	v.Sequence, v.Stored, v.Subject, v.Type = m.Sequence, m.Time, m.Subject, "Message"
	if e, err := m.Event(); err == nil {
		v.Type = e.Type
		if e.Call != schemas.NoCall {
			v.Call = e.Call
		}
	}
	for name, value := range line.Headers {
		h := header{name, fmt.Sprint(value)}
		if strings.HasPrefix(name, "acs-token-") {
			v.Claims = append(v.Claims, h)
		} else {
			v.Headers = append(v.Headers, h)
		}
	}
	for _, list := range [][]header{v.Headers, v.Claims} {
		slices.SortFunc(list, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	}
	v.NoJSON, v.Raw = line.Event == nil, bounded(string(line.Data), maxShown)
	v.JSON, v.Cut = highlight(line.Event)
	v.Resend = []string{
		fmt.Sprintf("acsbridge replay --since seq:%d --until seq:%[1]d --to http://localhost:3000/api/callbacks", v.Sequence),
		fmt.Sprintf("acsbridge replay --since seq:%d --until seq:%[1]d --to file:event.ndjson && acsbridge trigger --file event.ndjson", v.Sequence),
		fmt.Sprintf("acsbridge tail --since seq:%d --output raw --show-pii | head -n 1 | curl --data-binary @- --header 'Content-Type: application/json' http://localhost:3000/api/callbacks", v.Sequence),
	}
	return nil
}

// highlight splits a JSON text into indented tokens.
func highlight(text []byte) (tokens []token, cut bool) {
	add := func(class, text string) { tokens = append(tokens, token{class, text}) }
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for shown := 0; ; {
		depth, _ := d.StackDepth(), 0
		kind, length := d.StackIndex(depth)
		next := d.PeekKind()
		closes := next == '}' || next == ']'
		isName := kind == '{' && length%2 == 0 && !closes
		value, err := d.ReadToken()
		if err != nil {
			return tokens, false
		}
		switch {
		case closes && length > 0:
			add("", "\n"+strings.Repeat("  ", depth-1))
		case kind == '{' && length%2 == 1:
			add("", ": ")
		case depth > 0 && !closes:
			comma := ""
			if length > 0 {
				comma = ","
			}
			add("", comma+"\n"+strings.Repeat("  ", depth))
		}
		written := value.String()
		switch next {
		case '"':
			quoted, _ := jsontext.AppendQuote(nil, written)
			written = bounded(string(quoted), maxShown)
			class := "s"
			if isName {
				class = "k"
			}
			add(class, written)
		case '0':
			add("n", written)
		case 't', 'f', 'n':
			add("b", written)
		default:
			add("", written)
		}
		if shown += len(written); shown > maxShown {
			return tokens, true
		}
	}
}

// consumers returns those that get the event, by their filters, and how far they are.
func consumers(ctx context.Context, reader *replay.Reader, m *replay.StoredMessage) (list []consumerView, err error) {
	js, err := reader.JetStream(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, reader.Stream)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	infos := stream.ListConsumers(within)
	for info := range infos.Info() {
		if len(list) < maxConsumers && selects(&info.Config, m.Subject) {
			list = append(list, positionOf(info, m.Sequence))
		}
	}
	if err := infos.Err(); err != nil {
		return list, fmt.Errorf("%w; it needs the right to $JS.API.CONSUMER.LIST.%s", err, reader.Stream)
	}
	slices.SortFunc(list, func(a, b consumerView) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func positionOf(info *jetstream.ConsumerInfo, sequence uint64) consumerView {
	v := consumerView{Name: info.Name, Position: info.AckFloor.Stream}
	switch {
	case info.AckFloor.Stream >= sequence:
		v.State = "done"
	case info.Delivered.Stream >= sequence:
		v.State = "delivered; it, or an earlier one, is not acknowledged"
	default:
		v.State = fmt.Sprintf("not yet: it is at %d", info.Delivered.Stream)
	}
	return v
}

// selects reports whether a consumer gets messages of a subject.
func selects(config *jetstream.ConsumerConfig, subject string) bool {
	filters := config.FilterSubjects
	if config.FilterSubject != "" {
		filters = append(filters, config.FilterSubject)
	}
	return len(filters) == 0 || slices.ContainsFunc(filters, func(filter string) bool { return matches(filter, subject) })
}

// matches reports whether a subject matches a filter of NATS.
func matches(filter, subject string) bool {
	wanted, tokens := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, w := range wanted {
		switch {
		case w == ">":
			return len(tokens) > i
		case i >= len(tokens), w != "*" && w != tokens[i]:
			return false
		}
	}
	return len(wanted) == len(tokens)
}
