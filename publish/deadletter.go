package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/crash"
	"github.com/acsbridge/acsbridge/internal/durable"
)

// maxDeadLetters bounds the dead-letter file in bytes. When it is full, a
// record that belongs there stays in the journal and holds up the ones behind
// it: better to be late than to lose one.
const maxDeadLetters = 256 << 20

var errDeadLettersFull = errors.New("dead-letter file is full: take what it holds to a safe place and remove it")

// deadLetter is one line of the dead-letter file: a record that the stream can
// never take, and why.
type deadLetter struct {
	Time       time.Time         `json:"time"`
	Reason     string            `json:"reason"`
	Index      uint64            `json:"journalIndex"`
	ReceivedAt time.Time         `json:"receivedAt,omitzero"`
	Stream     string            `json:"stream,omitempty"`
	Subject    string            `json:"subject,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Payload    []byte            `json:"payload,omitempty"` // base64
}

// deadLetters appends to the dead-letter file, one JSON object a line. The
// file holds personal data: mode 0600.
type deadLetters struct {
	mu   sync.Mutex
	path string
	file *os.File // nil until the first one
	size int64
}

// add makes one dead letter durable. Safe for concurrent use.
func (d *deadLetters) add(index uint64, r *record, reason string) error {
	letter := deadLetter{Time: time.Now().UTC(), Reason: reason, Index: index}
	if r != nil {
		letter.ReceivedAt, letter.Stream, letter.Subject, letter.Payload = r.receivedAt, r.stream, r.subject, r.payload
		letter.Headers = make(map[string]string, len(r.headers))
		for _, h := range r.headers {
			letter.Headers[h.name] = h.value
		}
	}
	line, err := json.Marshal(letter)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if err := d.open(); err != nil {
			return fmt.Errorf("open dead-letter file: %w", err)
		}
		if d.size+int64(len(line)) > maxDeadLetters {
			return errDeadLettersFull
		}
		if err := d.write(append(line, '\n')); err != nil {
			return fmt.Errorf("write dead-letter file: %w", err)
		}
		crash.At("dead-letter-written")
		// Who took the file away meanwhile may have read it before that.
		if d.inPlace() {
			return nil
		}
		err := d.file.Close()
		if d.file = nil; err != nil {
			return fmt.Errorf("close dead-letter file: %w", err)
		}
	}
}

func (d *deadLetters) write(line []byte) error {
	n, err := d.file.Write(line)
	d.size += int64(n)
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		err = errors.Join(err, d.file.Close())
		d.file = nil // opening it again ends a line that was cut off
	}
	return err
}

// inPlace reports whether the open file is the one at its path.
func (d *deadLetters) inPlace() bool {
	there, err := os.Stat(d.path)
	if err != nil {
		return false
	}
	open, err := d.file.Stat()
	return err == nil && os.SameFile(there, open)
}

// open opens the file, again when it has been taken away.
func (d *deadLetters) open() error {
	if d.file != nil {
		if _, err := os.Stat(d.path); err == nil {
			return nil
		}
		if err := d.file.Close(); err != nil {
			return err
		}
		d.file = nil
	}
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := endLine(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.file, d.size = f, size
	durable.SyncDir(filepath.Dir(d.path))
	return nil
}

// endLine ends the file's last line when a crash or a full disk cut it off,
// and returns the file's size.
func endLine(f *os.File) (size int64, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return info.Size(), nil
	}
	_, err = f.Write([]byte{'\n'})
	return info.Size() + 1, err
}

func (d *deadLetters) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}
