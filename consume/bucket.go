package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/schemas"
)

// Names of what a service has in NATS.
const (
	bucketPrefix = "acs_"
	deadPrefix   = "ACS_DEAD_"
	kvOperation  = "KV-Operation"       // DEL or PURGE: the key was removed
	kvMarker     = "Nats-Marker-Reason" // MaxAge: its lifetime has ended
)

// Bucket returns the name of the KV bucket of a service.
func Bucket(service string) string { return bucketPrefix + service }

// DeadStream returns the name of the dead-letter stream of a service.
func DeadStream(service string) string { return deadPrefix + strings.ToUpper(service) }

// ConsumerName returns the name of the consumer of a slot, a hex digit, of a service.
func ConsumerName(service, slot string) string { return service + "-" + slot }

// bucket is the KV bucket of a service. It is used by the subjects and headers of its
// stream, since a key with a lifetime cannot be changed by compare-and-set through the
// KV interface of the client.
type bucket struct {
	js     jetstream.JetStream
	stream string
	prefix string // of its subjects, with the last dot
	// writePrefix replaces prefix in a write: it leads to the domain of the bucket.
	writePrefix string
}

func newBucket(js jetstream.JetStream, service string) *bucket {
	b := &bucket{js: js, stream: "KV_" + Bucket(service), prefix: "$KV." + Bucket(service) + "."}
	b.writePrefix = b.prefix
	if api := apiPrefix(js); api != jetstream.DefaultAPIPrefix { // as the client's KV interface does it
		b.writePrefix = api + b.prefix
	}
	return b
}

// newJetStream returns the JetStream of a domain, or of the account when it is empty.
func newJetStream(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	if domain == "" {
		return jetstream.New(nc)
	}
	// As NewWithDomain does it, but jetstreamext would make "$JS.<domain>." of a domain.
	return jetstream.NewWithAPIPrefix(nc, "$JS."+domain+".API")
}

// apiPrefix returns what the subjects of requests to JetStream begin with.
func apiPrefix(js jetstream.JetStream) string {
	if prefix := js.Options().APIPrefix; prefix != "" {
		return strings.TrimSuffix(prefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

func leaseKey(slot string) string        { return slot + ".lease" }
func readKey(slot string) string         { return slot + ".read" }
func callKey(slot, token string) string  { return slot + ".call." + token }
func wakeKey(slot, token string) string  { return slot + ".wake." + token }
func replicaKey(id string) string        { return "replica." + id }
func (b *bucket) key(subj string) string { return strings.TrimPrefix(subj, b.prefix) }

// message returns a write of a key that is stored only when its newest revision is
// the one given, zero for none. A key with a lifetime of zero does not expire.
func (b *bucket) message(key string, value []byte, revision uint64, lifetime time.Duration) *nats.Msg {
	m := &nats.Msg{Subject: b.writePrefix + key, Data: value, Header: nats.Header{
		jetstream.ExpectedStreamHeader: {b.stream},
	}}
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	if lifetime > 0 {
		m.Header.Set(jetstream.MsgTTLHeader, max(lifetime, time.Second).Round(time.Second).String())
	}
	return m
}

// put writes a key and waits for the answer.
func (b *bucket) put(ctx context.Context, m *nats.Msg) (revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ack, err := b.js.PublishMsg(ctx, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// removed reports whether a message stands for a key that is not there.
func removed(h nats.Header) bool { return h.Get(kvOperation) != "" || h.Get(kvMarker) != "" }

// get reads a key from the leader of the bucket, so that no replica that is behind
// answers. A value of nil means that the key is not there, the revision then is that
// of its removal, or zero.
func (b *bucket) get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	m, err := leaderGet(ctx, b.js, b.stream, leaderGetRequest{LastFor: b.prefix + key})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case removed(m.Header):
		return nil, m.Sequence, nil
	}
	return m.Data, m.Sequence, nil
}

// entry reads the entry of a call from the leader.
func (b *bucket) entry(ctx context.Context, slot, token string) (e *Entry, revision uint64, err error) {
	value, revision, err := b.get(ctx, callKey(slot, token))
	if err != nil || value == nil {
		return nil, revision, err
	}
	e = new(Entry)
	if err := json.Unmarshal(value, e); err != nil {
		return nil, 0, fmt.Errorf("entry %s of bucket %s: %w; it was not written by this package: delete it", callKey(slot, token), b.stream, err)
	}
	return e, revision, nil
}

// scan reads all keys of a slot, until a revision of its lease that is not older than
// the given one: then the replica of the bucket that answered is not behind.
func (b *bucket) scan(ctx context.Context, slot string, lease uint64, each func(*jetstream.RawStreamMsg)) error {
	q := directget.Request{Stream: b.stream, Seq: 1, Subject: b.prefix + slot + ".>"}
	for current := false; ; {
		more, err := directget.Get(ctx, b.js, q, func(m *jetstream.RawStreamMsg) bool {
			q.Seq = m.Sequence + 1
			if b.key(m.Subject) == leaseKey(slot) {
				current = current || m.Sequence >= lease
			} else {
				each(m)
			}
			return true
		})
		switch {
		case err != nil:
			return fmt.Errorf("read bucket %s: %w", b.stream, err)
		case more:
		case current:
			return nil
		default:
			if err := backoff.Wait(ctx, scanPause); err != nil {
				return err
			}
		}
	}
}

// members calls each for the key of every lease and replica, also a removed one, in one
// request: slot and "lease", or "replica" and id, are the tokens of the key.
func (b *bucket) members(ctx context.Context, each func(first, second string, m *jetstream.RawStreamMsg)) error {
	answer, err := jetstreamext.GetLastMsgsFor(ctx, b.js, b.stream, []string{b.prefix + leaseKey("*"), b.prefix + replicaKey("*")})
	if err != nil {
		return err
	}
	for m, err := range answer {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", b.stream, err)
		}
		first, second, _ := strings.Cut(b.key(m.Subject), ".")
		each(first, second, m)
	}
	return nil
}

// scanPause is how long to wait for a replica of the bucket that is behind.
const scanPause = 50 * time.Millisecond

// leaderGetRequest is a request of STREAM.MSG.GET, for one of both.
type leaderGetRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
}

// leaderGet reads a message from the leader of a stream. It returns
// [jetstream.ErrMsgNotFound] when the stream has no such message.
func leaderGet(ctx context.Context, js jetstream.JetStream, stream string, q leaderGetRequest) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	answer, err := js.Conn().RequestWithContext(ctx, apiPrefix(js)+"STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	if r.Error != nil {
		if r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, jetstream.ErrMsgNotFound
		}
		return nil, fmt.Errorf("read stream %s: %w", stream, r.Error)
	}
	m := &jetstream.RawStreamMsg{Subject: r.Message.Subject, Sequence: r.Message.Seq, Data: r.Message.Data, Time: r.Message.Time}
	if len(r.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(r.Message.Header); err != nil {
			return nil, fmt.Errorf("read stream %s: %w", stream, err)
		}
	}
	return m, nil
}

// callOf returns the token of the call in the subject of an event.
func callOf(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

// slots are all slots of a stream.
const slots = "0123456789abcdef"

// filters returns the filters of a slot for the given types; none means all.
func filters(prefix, slot string, types []string) (list []string) {
	if len(types) == 0 {
		return []string{prefix + ".*.*." + slot + ".*"}
	}
	for _, t := range types {
		list = append(list, prefix+".*."+schemas.Token(schemas.ShortType(t))+"."+slot+".*")
	}
	return list
}
