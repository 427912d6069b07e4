package publish_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// lines is a log that tests look at.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// count returns how many lines have all of the texts.
func (l *lines) count(texts ...string) (n int) {
lines:
	for line := range strings.Lines(l.String()) {
		for _, text := range texts {
			if !strings.Contains(strings.ReplaceAll(line, `\\"`, `"`), text) {
				continue lines
			}
		}
		n++
	}
	return n
}

func (l *lines) has(texts ...string) bool { return l.count(texts...) > 0 }

// await reports whether there is such a line, within a second: a note is there a
// moment before its line.
func (l *lines) await(texts ...string) bool {
	for end := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		if l.has(texts...) || time.Now().After(end) {
			return l.has(texts...)
		}
	}
}
