package publish

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// recordVersion starts every record. Another layout gets another number, so
// that a bridge can read what an older one left in the journal.
const recordVersion = 1

// record is one message on its way to the stream: everything that is
// published, and nothing that is not. A process that can write one into the journal
// can put it on the stream.
type record struct {
	receivedAt time.Time // when its callback arrived
	stream     string
	subject    string
	headers    []schemas.Header
	payload    []byte
}

// resource returns the subject's second token, a configured name.
func (r *record) resource() string {
	_, rest, _ := strings.Cut(r.subject, ".")
	name, _, _ := strings.Cut(rest, ".")
	return name
}

// forQuarantine reports whether the record is a callback in quarantine, and not an
// event.
func (r *record) forQuarantine() bool { return r.stream == schemas.QuarantineStream }

// address gives an event the stream and the subject prefix of the present settings:
// those under which it was journaled may have been a mistake, and may be gone.
// A prefix is one token. An older record's subject gets its slot.
func (r *record) address(c StreamConfig) {
	r.subject = schemas.WithSlot(r.subject)
	prefix, rest, _ := strings.Cut(r.subject, ".")
	if r.stream == c.Name && prefix == c.Prefix {
		return
	}
	r.stream, r.subject = c.Name, c.Prefix+"."+rest
	for i := range r.headers {
		if r.headers[i].Name == schemas.HeaderExpectedStream {
			r.headers[i].Value = c.Name
		}
	}
}

// msgID returns the id by which the stream deduplicates.
func (r *record) msgID() string {
	for _, h := range r.headers {
		if h.Name == schemas.HeaderMsgID {
			return h.Value
		}
	}
	return ""
}

// size returns the bytes of payload and headers.
func (r *record) size() int {
	n := len(r.payload)
	for _, h := range r.headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// contentType returns the media type of the payload.
func (r *record) contentType() string {
	for _, h := range r.headers {
		if h.Name == schemas.HeaderContentType {
			return h.Value
		}
	}
	return ""
}

// fill makes m the message that NATS publishes for the record. Its header map
// is used again, entry by entry, since most records have the same names: with
// two dozen of them a new map is the largest thing that a record needs.
func (r *record) fill(m *nats.Msg) {
	for _, h := range r.headers {
		if value := m.Header[h.Name]; value != nil {
			value[0] = h.Value
		} else {
			m.Header[h.Name] = []string{h.Value}
		}
	}
	if len(m.Header) > len(r.headers) { // others are left of another record
		clear(m.Header)
		r.fill(m)
		return
	}
	m.Subject, m.Data = r.subject, r.payload
}

// message returns the record as NATS publishes it.
func (r *record) message() *nats.Msg {
	m := &nats.Msg{Header: make(nats.Header, len(r.headers))}
	r.fill(m)
	return m
}

// fixedSize is what every record begins with: version, time of receipt in
// nanoseconds since 1970, and the number of bytes from there to the payload.
const fixedSize = 1 + 8 + 4

// encode lays the record out: the fixed part, then stream, subject, number of
// headers, names and values, then the payload. Strings follow their length;
// lengths and numbers are unsigned varints, the fixed part is big endian.
func (r *record) encode() []byte {
	size := fixedSize + 3*binary.MaxVarintLen64 + len(r.stream) + len(r.subject) + len(r.payload)
	for _, h := range r.headers {
		size += 2*binary.MaxVarintLen16 + len(h.Name) + len(h.Value)
	}
	b := make([]byte, fixedSize, size)
	b[0] = recordVersion
	binary.BigEndian.PutUint64(b[1:], uint64(r.receivedAt.UnixNano()))
	b = appendString(b, r.stream)
	b = appendString(b, r.subject)
	b = binary.AppendUvarint(b, uint64(len(r.headers)))
	for _, h := range r.headers {
		b = appendString(b, h.Name)
		b = appendString(b, h.Value)
	}
	binary.BigEndian.PutUint32(b[1+8:], uint32(len(b)-fixedSize))
	return append(b, r.payload...)
}

// encodeAll returns what the journal keeps of the records. From then on they
// use the same memory for the payload.
func encodeAll(records []*record) []journal.Record {
	kept := make([]journal.Record, len(records))
	for i, r := range records {
		b := r.encode()
		r.payload = b[len(b)-len(r.payload):]
		kept[i] = journal.Record{Data: b, Decoded: r}
	}
	return kept
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// errRecord reports a record that cannot be read, although its checksum is
// right. It wraps ErrCorrupt, because it becomes a dead letter in the same way.
var errRecord = fmt.Errorf("%w: its layout is not that of a record", journal.ErrCorrupt)

// errVersion reports a record of another layout: the version that wrote it can
// send it, so it waits.
var errVersion = errors.New("the record was written by another version of acsbridge: start that one, and let it forward what the journal holds")

// decodeRecord reads what encode wrote. The payload shares b's memory; the
// strings share one copy of it.
func decodeRecord(b []byte) (*record, error) {
	at, err := receivedAt(b)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b[1+8:])
	if uint64(n) > uint64(len(b)-fixedSize) {
		return nil, errRecord
	}
	r := &record{receivedAt: at, payload: b[fixedSize+n:]}
	d := decoder{rest: string(b[fixedSize : fixedSize+n])}
	r.stream = d.text()
	r.subject = d.text()
	count := d.number()
	if count > uint64(len(d.rest)) { // each header takes at least two bytes
		return nil, errRecord
	}
	r.headers = make([]schemas.Header, count)
	for i := range r.headers {
		r.headers[i] = schemas.Header{Name: d.text(), Value: d.text()}
	}
	if d.bad || d.rest != "" {
		return nil, errRecord
	}
	return r, nil
}

// receivedAt reads only the time out of an encoded record.
func receivedAt(b []byte) (time.Time, error) {
	switch {
	case len(b) < fixedSize:
		return time.Time{}, errRecord
	case b[0] != recordVersion:
		return time.Time{}, errVersion
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b[1:]))).UTC(), nil
}

// decoder reads from the front of rest. After a mistake it returns zeros.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) number() (n uint64) {
	for i, shift := 0, 0; i < len(d.rest) && shift < 64; i, shift = i+1, shift+7 {
		c := d.rest[i]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return n
		}
	}
	d.rest, d.bad = "", true
	return 0
}

func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.rest, d.bad = "", true
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}
