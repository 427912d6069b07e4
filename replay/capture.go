package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/schemas"
)

// captured is one line of a capture, as [AppendLine] writes it.
type captured struct {
	Stream   string            `json:"stream"`
	Sequence uint64            `json:"sequence"`
	Time     time.Time         `json:"time"`
	Subject  string            `json:"subject"`
	Headers  map[string]values `json:"headers"`
	Event    json.RawMessage   `json:"event"`
	Data     []byte            `json:"data"` // base64, of a payload that is not JSON
}

// values are those of one header: a text, or a list.
type values []string

// UnmarshalJSON reads either form.
func (v *values) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("[")) {
		return json.Unmarshal(text, (*[]string)(v))
	}
	*v = make(values, 1)
	return json.Unmarshal(text, &(*v)[0])
}

// Capture writes messages to a file, one a line as [AppendLine] does it, with
// everything that they have. [ReadCapture] reads them.
type Capture struct {
	mu   sync.Mutex
	w    *bufio.Writer
	line []byte
}

// NewCapture returns a target that writes to w, at the latest with [Capture.Flush].
func NewCapture(w io.Writer) *Capture { return &Capture{w: bufio.NewWriterSize(w, 256<<10)} }

// Send writes a message at once.
func (c *Capture) Send(_ context.Context, m *StoredMessage, done func(error)) {
	c.mu.Lock()
	c.line = AppendLine(c.line[:0], m, Unmasked)
	_, err := c.w.Write(c.line)
	c.mu.Unlock()
	done(err)
}

// Flush writes the messages that the capture holds.
func (c *Capture) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Flush()
}

// CaptureFile is a capture in a file.
type CaptureFile struct {
	*Capture
	// Last is the sequence of the last message that the file had when it was opened,
	// zero without one.
	Last uint64

	file *os.File
}

// CreateCapture opens a file to write a capture to, which is personal data: for its
// owner alone. To a file that exists it adds only with add, after its last whole
// line: a process that was killed may have written half of one.
func CreateCapture(path string, add bool) (*CaptureFile, error) {
	flags := os.O_RDWR | os.O_CREATE
	if !add {
		flags |= os.O_EXCL
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists already; --append adds to it", path)
	}
	if err != nil {
		return nil, err
	}
	end, last, err := lastLine(file)
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &CaptureFile{NewCapture(file), last, file}, nil
}

// Close flushes and closes the file.
func (c *CaptureFile) Close() error { return errors.Join(c.Flush(), c.file.Close()) }

// lastLine returns where the last whole line of a file ends, and the sequence in it.
func lastLine(file *os.File) (end int64, sequence uint64, err error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	if end, err = lineEnd(file, size); err != nil || end == 0 {
		return 0, 0, err
	}
	begin, err := lineEnd(file, end-1)
	if err != nil {
		return 0, 0, err
	}
	var line struct {
		Sequence uint64 `json:"sequence"`
	}
	if err := json.NewDecoder(io.NewSectionReader(file, begin, end-begin)).Decode(&line); err != nil {
		return 0, 0, fmt.Errorf("%s is not a capture: %w", file.Name(), err)
	}
	return end, line.Sequence, nil
}

// lineEnd returns the offset after the last line feed before another offset, or
// zero.
func lineEnd(file *os.File, before int64) (int64, error) {
	chunk := make([]byte, 64<<10)
	for before > 0 {
		begin := max(before-int64(len(chunk)), 0)
		part := chunk[:before-begin]
		if _, err := file.ReadAt(part, begin); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return begin + int64(i) + 1, nil
		}
		before = begin
	}
	return 0, nil
}

// After returns the messages after a sequence. A replay that continues at its
// checkpoint finds later messages in its file, which must hold each once.
func After(sequence uint64, messages iter.Seq2[*StoredMessage, error]) iter.Seq2[*StoredMessage, error] {
	return func(yield func(*StoredMessage, error) bool) {
		for m, err := range messages {
			if err == nil && m.Sequence <= sequence {
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// maxCaptured bounds a line of a capture: ten times the largest event in base64 with
// its headers.
const maxCaptured = 16 << 20

// ReadCapture returns the selected messages of a capture, in its order. They must be
// in the order of one stream, as [Capture] writes them, so that a reading can be
// continued at a sequence. Subjects without a slot get theirs.
func ReadCapture(r io.Reader, s Selection) iter.Seq2[*StoredMessage, error] {
	return func(yield func(*StoredMessage, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxCaptured)
		var before uint64
		n, read := 0, 0
		for lines.Scan() && (s.Limit == 0 || read < s.Limit) {
			if n++; len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			m, err := parseCaptured(lines.Bytes())
			if err == nil && m.Sequence <= before {
				err = fmt.Errorf("sequence %d comes after %d; send captures one after another", m.Sequence, before)
			}
			if err != nil {
				yield(nil, fmt.Errorf("line %d: %w", n, err))
				return
			}
			before = m.Sequence
			if !s.selects(m) {
				continue
			}
			if read++; !yield(m, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, fmt.Errorf("line %d: %w", n+1, err))
		}
	}
}

// parseCaptured reads one line of a capture.
func parseCaptured(line []byte) (*StoredMessage, error) {
	line, err := bom.Trim(line)
	if err != nil {
		return nil, err
	}
	var c captured
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("not a message of a capture: %w", err)
	}
	m := &StoredMessage{Stream: c.Stream, Sequence: c.Sequence, Time: c.Time, Subject: schemas.WithSlot(c.Subject), Header: nats.Header{}, Data: c.Data}
	if c.Event != nil {
		m.Data = c.Event
	}
	for name, values := range c.Headers {
		m.Header[name] = values
	}
	tokens := strings.Split(m.Subject, ".")
	switch {
	case c.Stream == "" || c.Sequence == 0:
		return nil, errors.New("not a message of a capture: stream or sequence is missing")
	case (c.Event == nil) == (c.Data == nil):
		return nil, errors.New("not a message of a capture: it must have either event or data")
	case len(tokens) < 3 || slices.ContainsFunc(tokens, func(t string) bool { return !schemas.ValidToken(t) }):
		return nil, errors.New("the subject is not that of an event")
	}
	return m, nil
}

// selects reports whether a message that was not read by a [Reader] is selected. It
// ignores the limit.
func (s *Selection) selects(m *StoredMessage) bool {
	if subject, ok := schemas.ParseSubject(m.Subject); ok {
		last := s.lastToken()
		if s.Resource != "" && subject.Resource != schemas.Token(s.Resource) || last != "" && subject.Call != last {
			return false
		}
	} else if s.Resource != "" || s.lastToken() != "" {
		return false
	}
	if !s.selectsType(m) {
		return false
	}
	return !s.after(m) && m.Sequence >= s.Since.Sequence && !m.Time.Before(s.Since.Time)
}
